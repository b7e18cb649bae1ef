"""When a training is saved, and when it leaves: what the hook, the callback and the loop ask after each step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .settings import check_triggers

if TYPE_CHECKING:
    from .watcher import NoticeWatcher
    from .workers import Agreement


class SaveTimes:
    """Every so many steps or seconds, counted from the save before.

    Args:
        steps: how many steps; None: by time.
        secs: how many seconds; None: by steps.

    Raises:
        HookUsageError: not exactly one of them, or one that is out of range.
    """

    def __init__(self, steps: int | None, secs: float | None) -> None:
        check_triggers(steps, secs)
        self.steps = steps
        self._secs = secs
        self._step, self._time = 0, 0.0

    def count_from(self, step: int) -> None:
        """The training has been saved, or goes on, at a step."""
        self._step, self._time = step + (self.steps or 0), time.monotonic() + (self._secs or 0)

    def due(self, step: int) -> bool:
        """Whether it is time, at a step."""
        return step >= self._step if self.steps else self.due_by_time

    @property
    def due_by_time(self) -> bool:
        """Whether the seconds are over; never, where steps count."""
        return self._secs is not None and time.monotonic() >= self._time


def decide(agreement: Agreement, watcher: NoticeWatcher, times: SaveTimes | None, step: int) -> tuple[str, bool]:
    """What notice has come, empty for none, and whether it is time to save; the same at all workers.

    Args:
        agreement: of the workers.
        watcher: of this worker's notices.
        times: when it is saved; None: when somebody else says so.
        step: the model's.
    """
    notice = watcher.received
    noticed, timed = agreement.consult(notice=bool(notice), due=times is not None and times.due_by_time)
    due = timed if times is None or not times.steps else times.due(step)
    return (notice or "a notice at another worker") if noticed else "", due


__all__ = ["SaveTimes", "decide"]
