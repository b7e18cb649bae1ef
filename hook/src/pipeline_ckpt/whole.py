"""Checkpoints that hold model and input together: which one serves is known before there is an iterator."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import tensorflow as tf

from .errors import NoUsableCheckpointError

if TYPE_CHECKING:
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


__all__ = ["newest_whole"]
