"""How the checkpoints of a session's training end: the hook is not told why it is called for the last time."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

from .checkpointer import InputCheckpointer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .graph import SessionPipelines
    from .marks import Mark
    from .policy import Policy
    from .store import CheckpointStore

logger = logging.getLogger("pipeline_ckpt")


class SessionCheckpointer(InputCheckpointer):
    """The iterators of one graph and their checkpoints.

    Args:
        pipelines: the iterators.
        store: where their checkpoints are.
        policy: what to do where there is a choice.
        global_step: reads the model's step, where the steps of the checkpoints are this worker's own; else None.
    """

    def __init__(
        self,
        pipelines: SessionPipelines,
        store: CheckpointStore,
        policy: Policy,
        *,
        global_step: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(pipelines, store, policy)
        self._iterators = pipelines
        self._global_step = global_step
        if global_step is not None:
            self._whose_step = "this worker's own step"

    def resume_own(self, global_step: int, *, every: int | None) -> int:
        """Brings the iterators to where this worker saved last, of what the model at `global_step` has seen.

        Args:
            global_step: The model's step, to which other workers contribute.
            every: After how many own steps it saves; None: by time.

        Returns:
            The worker's own step.

        Raises:
            StorageError: The first checkpoint of this worker cannot be written.
            NoUsableCheckpointError: There are checkpoints, and none is usable, and the policy is "error".
            FastForwardError: The pipeline cannot be brought there.
            SupersededError: Another process has begun to train here meanwhile.
        """
        begun = self._begin()
        self.open()
        with self._store.holding():
            mark, problems = self._restorer.newest(global_step)
            if mark is None and problems and self._policy.on_missing == "error":
                raise self._nothing_usable(global_step, problems)
            step = 0 if mark is None else mark.step
            self._follow(mark, step)
            self.take_over(step)
        if mark is not None:
            twice = "what it took after that" if every is None else f"what it took in the {every} steps after that"
            logger.info(
                "resumed %s-%d in %.3f s (%d elements read and dropped): this worker goes on at its own step %d, where "
                "the model was at global_step %d and is at %d now; at most %s, and until that save was complete, is "
                "trained twice",
                *(self._basename, step, time.monotonic() - begun, self._pipelines.dropped),
                *(step, mark.model_step, global_step, twice),
            )
        self._save_first(mark, step)
        return step

    def _mark(self, step: int, *, ended: bool = False, extra: Mapping[str, Any] | None = None) -> Mark:
        mark = super()._mark(step, ended=ended, extra=extra)
        # Read after the state was taken: a model that is restored at this step or a later one has seen all that is
        # before the state.
        return mark if self._global_step is None else dataclasses.replace(mark, global_step=self._global_step())

    def save_last(self, step: int, *, cut_short: bool) -> None:
        """Saves for the last time, and whether the data has ended.

        Args:
            cut_short: A run has not come back: the data has ended, or something else that is no error has.
        """
        self.finish()
        saved = self._saved if self._saved is not None and self._saved.step == step else None
        if saved is not None and (saved.ended or not (cut_short or self._policy.at_end == "restart")):
            return
        self._hold()
        if cut_short:
            self._progress.taken = None  # what it has asked for in vain is counted too
        else:
            self._count(step)
        ended = self._has_ended(cut_short=cut_short)
        if saved is None and (ended or not cut_short):
            # A run that did not come back may have taken an element: the checkpoint before, and reading on, is exact.
            self._write(self._mark(step, ended=ended), time.monotonic(), prune=True)
            return
        if saved is not None and ended:
            self._renew(dataclasses.replace(saved, ended=True))
        self._drop()

    def _has_ended(self, *, cut_short: bool) -> bool:
        """Whether no element is left; the iterators are as they were, where their state is held."""
        holds = self._holds == "iterator"
        # Without a reason to look, not where Python or another process makes the elements, which may take for ever.
        if not cut_short and (self._policy.at_end == "stop" or not holds):
            return False
        trained = self._progress.trained
        several = len(self._pipelines.names) > 1
        if several and trained is None:
            return False  # it may be a validation's
        ended = self._iterators.has_ended(trained or (True,) * len(self._pipelines.names))
        if holds and not ended:
            self._iterators.rewind()
        return ended
