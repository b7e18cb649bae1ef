"""Which checkpoint serves: the newest whole one of this pipeline, or what TensorFlow's own hook has left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import tensorflow as tf

from .marks import Mark
from .pipelines import OtherPipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pipelines import Pipelines
    from .store import CheckpointStore

logger = logging.getLogger("pipeline_ckpt")

_UNUSABLE = (
    *(tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.NotFoundError),
    *(tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.InternalError),
)


class Restorer:
    """Chooses and restores checkpoints.

    Args:
        pipelines: the iterators.
        store: where their checkpoints are.
        at_end: "restart": where the data had ended, the iterators stay as they were initialised.
    """

    def __init__(self, pipelines: Pipelines, store: CheckpointStore, *, at_end: Literal["restart", "stop"]) -> None:
        self._pipelines = pipelines
        self._store = store
        self._basename = store.basename
        self._at_end = at_end
        self._signature = pipelines.graph.signature
        self.changed = ""
        """The name of the checkpoint that was restored, if another pipeline wrote it."""

    def newest(self, step: int) -> tuple[Mark | None, list[str]]:
        """Holds and restores the newest usable checkpoint not beyond `step`; one without a state leaves the iterators.

        Returns:
            The checkpoint, None for none, and why others were not usable.
        """
        self.changed = ""
        marks, problems = self._store.committed()
        for mark in marks:
            if mark.model_step > step:
                continue
            held = self._store.hold(mark)
            if held is None:
                return self.newest(step)
            problem = self.restored(held)
            if not problem:
                _warn(problems)
                return held, problems
            problems.append(f"{self._basename}-{mark.step}: {problem}")
        self._store.drop()
        return self._take_over(step, problems)

    def _other_pipeline(self, mark: Mark) -> str:
        """Why a checkpoint is not of these iterators; empty if it is."""
        if mark.iterators != self._pipelines.names:
            return f"holds {', '.join(mark.iterators)}, the graph has {', '.join(self._pipelines.names)}"
        if mark.signature is not None and mark.signature.elements != self._signature.elements:
            saved, now = "; ".join(mark.signature.elements), "; ".join(self._signature.elements)
            return f"has elements of {saved}, the graph's are {now}"
        return ""

    def restored(self, mark: Mark) -> str:
        """Restores a checkpoint; why that was not possible, empty if it was."""
        problem = self._other_pipeline(mark)
        if problem:
            return problem
        if mark.holds == "iterator" and not (mark.ended and self._at_end == "restart"):
            try:
                self._pipelines.restore(self._store.prefix(mark))
            except OtherPipelineError as error:
                self._pipelines.restart()
                return f"TensorFlow cannot restore it into this pipeline, which is another one ({error})"
            except _UNUSABLE as error:
                self._store.check_unchanged()
                return type(error).__name__
        if mark.signature is not None and _differ(mark.signature.fingerprint, self._signature.fingerprint):
            self.changed = f"{self._basename}-{mark.step}"
            logger.warning(
                "the input pipeline is not the one that wrote %s-%d (its code, file names or TensorFlow's version "
                "changed): elements that were in its buffers are the old one's, all others the new one's",
                *(self._basename, mark.step),
            )
        return ""

    def _take_over(self, step: int, problems: list[str]) -> tuple[Mark | None, list[str]]:
        """Restores what TensorFlow's own hook has left, and makes it a checkpoint of ours."""
        for foreign in self._store.foreign():
            if foreign > step:
                continue
            mark = self._store.hold(Mark(foreign, self._pipelines.names), foreign=True)
            if mark is None:
                continue
            problem = self.restored(mark)
            if problem:
                problems.append(f"{self._basename}-{foreign} of TensorFlow's hook: {problem}")
                continue
            _warn(problems)
            logger.info("took over %s-%d, which TensorFlow's own hook has written", self._basename, foreign)
            return mark, problems
        self._store.drop()
        _warn(problems)
        return None, problems


def _differ(saved: str, now: str) -> bool:
    """Whether two pipelines are known to be different."""
    return bool(saved and now) and saved != now


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        logger.warning("skipped input checkpoint %s", problem)
