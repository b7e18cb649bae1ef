"""How the checkpoints of a session's training end: the hook is not told why it is called for the last time."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from .checkpointer import InputCheckpointer

if TYPE_CHECKING:
    from .checkpointer import Policy
    from .graph import SessionPipelines
    from .store import CheckpointStore


class SessionCheckpointer(InputCheckpointer):
    """The iterators of one graph and their checkpoints.

    Args:
        pipelines: the iterators.
        store: where their checkpoints are.
        policy: what to do where there is a choice.
    """

    def __init__(self, pipelines: SessionPipelines, store: CheckpointStore, policy: Policy) -> None:
        super().__init__(pipelines, store, policy)
        self._iterators = pipelines

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
            self._saved = self._mark(step, ended=ended)
            self._write(self._saved, time.monotonic(), prune=True)
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
            self._pipelines.rewind()
        return ended
