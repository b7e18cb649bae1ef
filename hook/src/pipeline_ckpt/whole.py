"""Checkpoints that hold model and input together: which one serves is known before there is an iterator."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import HookUsageError, NoUsableCheckpointError
from .workers import Alone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .marks import Mark
    from .store import CheckpointStore
    from .workers import Agreement

UNFIT = (AssertionError, ValueError, tf.errors.OpError)
"""What reading a whole checkpoint into another model ends in."""
_BEGINNING = -1
"""For the step of no checkpoint: a training that has not been saved yet."""

logger = logging.getLogger("pipeline_ckpt")


def newest_whole(store: CheckpointStore, agreement: Agreement | None = None) -> Mark | None:
    """Holds the newest checkpoint that can be read to its last byte, at each worker; None where there is none at all.

    Raises:
        NoUsableCheckpointError: there are some, and none is whole, or somebody else's have the same names: to begin
            anew would throw a training away.
        HookUsageError: it was saved by another number of workers.
    """
    agreement = agreement or Alone()
    marks, problems = store.committed() if tf.io.gfile.isdir(store.directory) else ([], [])
    usable = {mark.step: mark for mark in marks}
    # A kill in the very first save leaves a checkpoint at some workers only: nothing older can have been lost.
    may_begin = not problems and (not marks or (agreement.count > 1 and len(marks) == 1 and marks[0].first))
    while True:
        step = agreement.newest_common([*usable, *([_BEGINNING] if may_begin else [])])
        if step is None:
            raise _nothing_whole(store, agreement, list(usable), problems)
        if step == _BEGINNING:
            _check_no_other_count(store, agreement)
            if agreement.count == 1:  # nobody else has the names of several workers
                _check_no_strangers(store)
            return None
        held = store.hold(usable[step])
        problem = "" if held is None else _problem(store, held)
        if problem:
            problems.append(problem)
        if agreement.all(held is not None and not problem):
            assert held is not None, "it was just asked"
            for one in problems:
                logger.warning("skipped checkpoint %s", one)
            return _of_as_many(held, store, agreement)
        store.drop()
        del usable[step]
        if held is None:  # whoever else saves here has deleted it, and has newer ones
            usable |= {mark.step: mark for mark in store.committed()[0]}


def _problem(store: CheckpointStore, mark: Mark) -> str:
    """Why a checkpoint cannot be read; empty if it can."""
    try:
        _read(store.prefix(mark))
    except tf.errors.OpError as error:
        store.check_unchanged()
        return f"{store.basename}-{mark.step}: {type(error).__name__}"
    return ""


def _nothing_whole(
    store: CheckpointStore, agreement: Agreement, steps: list[int], problems: list[str]
) -> NoUsableCheckpointError:
    if agreement.count == 1:
        return NoUsableCheckpointError(
            f"No checkpoint in {store.directory} is whole ({'; '.join(problems)}). Restore the files, or remove the "
            "directory to train anew."
        )
    found = "; ".join([*(f"{store.basename}-{step}" for step in steps), *problems]) or "no checkpoint"
    return NoUsableCheckpointError(
        f"The {agreement.count} workers have no whole checkpoint of the same step; in {store.directory} is {found}. "
        "Restore the files, or remove the directories of all workers to train anew."
    )


def _check_no_other_count(store: CheckpointStore, agreement: Agreement) -> None:
    other = store.of_another_count() if tf.io.gfile.isdir(store.directory) else ""
    if other:
        raise HookUsageError(
            f"{store.directory} has checkpoints of another number of workers ({other}), and {agreement.count} train "
            "now, whose shards of the data are others: train with as many, or in another directory."
        )


def _check_no_strangers(store: CheckpointStore) -> None:
    found = store.strangers() if tf.io.gfile.isdir(store.directory) else []
    if found:
        raise NoUsableCheckpointError(
            f"{store.directory} has checkpoints of the same name that this package has not written "
            f"({', '.join(found)}), and none of its own: beginning anew would overwrite them. Pass another directory."
        )


def _of_as_many(mark: Mark, store: CheckpointStore, agreement: Agreement) -> Mark:
    if mark.workers != agreement.count:
        raise HookUsageError(
            f"{store.basename}-{mark.step} in {store.directory} was saved by {mark.workers} workers, and "
            f"{agreement.count} train now, whose shards of the data are others: train with {mark.workers}, or in "
            "another directory."
        )
    return mark


def _read(prefix: str) -> None:
    """Reads every tensor, one after the other: TensorFlow compares their checksums."""
    for name, dtype in tf.train.load_checkpoint(prefix).get_variable_to_dtype_map().items():
        tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=[name], shape_and_slices=[""], dtypes=[dtype])


def restore_all(store: CheckpointStore, mark: Mark, trackables: Mapping[str, Any]) -> None:
    """Reads trackables from a checkpoint; what they have not made yet is read when they make it.

    Raises:
        NoUsableCheckpointError: the checkpoint is of another model.
    """
    checkpoint = tf.train.Checkpoint(**trackables)
    try:
        checkpoint.read(store.prefix(mark)).expect_partial().assert_existing_objects_matched()
    except UNFIT as error:
        raise of_another_model(store, mark, error) from error


def of_another_model(store: CheckpointStore, mark: Mark, error: Exception) -> NoUsableCheckpointError:
    """What to raise when a checkpoint that is whole cannot be read into the model."""
    store.check_unchanged()
    return NoUsableCheckpointError(
        f"{store.basename}-{mark.step} in {store.directory} cannot be restored into this model: it is of another one "
        f"({str(error).splitlines()[0]}). Go back to that model, or train in another directory."
    )


def with_variables(trackables: Mapping[str, Any]) -> dict[str, Any]:
    """Trackables, and beside each model all of its variables: a Keras 3 model does not track its seeds."""
    found = dict(trackables)
    for name, one in trackables.items():
        variables: Any = ()
        with contextlib.suppress(ValueError):  # Keras 2 says so of a model that is not built
            variables = getattr(one, "variables", ())
        if isinstance(variables, (list, tuple)) and variables:
            found[f"{name}_variables"] = list(variables)
    return found


__all__ = ["UNFIT", "newest_whole", "of_another_model", "restore_all", "with_variables"]
