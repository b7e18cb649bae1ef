"""Checkpoints that hold model and input together: which one serves is known before there is an iterator."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import NoUsableCheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .store import CheckpointStore, Mark

logger = logging.getLogger("pipeline_ckpt")


def newest_whole(store: CheckpointStore) -> Mark | None:
    """The newest checkpoint that can be read to its last byte; None where there is none at all.

    Raises:
        NoUsableCheckpointError: there are some, and none is whole: to begin anew would throw a training away.
    """
    if not tf.io.gfile.isdir(store.directory):
        return None
    marks, problems = store.committed()
    for mark in marks:
        try:
            _read(store.prefix(mark.step))
        except tf.errors.OpError as error:
            problems.append(f"{store.basename}-{mark.step}: {type(error).__name__}")
            continue
        for problem in problems:
            logger.warning("skipped checkpoint %s", problem)
        return mark
    if problems:
        raise NoUsableCheckpointError(
            f"No checkpoint in {store.directory} is whole ({'; '.join(problems)}). Restore the files, or remove the "
            "directory to train anew."
        )
    return None


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
        checkpoint.read(store.prefix(mark.step)).expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise NoUsableCheckpointError(
            f"{store.basename}-{mark.step} in {store.directory} cannot be restored into this model: it is of another "
            f"one ({str(error).splitlines()[0]}). Go back to that model, or train in another directory."
        ) from error


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


__all__ = ["newest_whole", "restore_all", "with_variables"]
