"""From a failed trial to the smallest schedule that fails like it: attempts, live, one after the other."""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .engine import store
from .engine.model import Outcome
from .engine.shrinking import shrink, size
from .errors import OutOfTimeError, WorkerError

if TYPE_CHECKING:
    from .engine.model import KillSchedule
    from .engine.runner import Check, Trial


@dataclass(frozen=True, slots=True)
class Smallest:
    """What the search came to."""

    trial: Trial
    """The smallest that failed in the same way; the failed trial itself when nothing smaller did."""
    tried: int
    """How many smaller schedules were looked at."""
    now: int
    """How many of them were carried out for this trial; the others were for earlier ones of the same test."""
    seconds: float
    complete: bool
    """False: the time was up, so there may be a smaller one."""
    limit: str
    """What cuts the search short, in words."""
    expected: float
    """Seconds that a trial was expected to take."""


class Attempts:
    """The oracle: carries schedules out.

    A schedule counts as the same failure when its verdict has the *same outcome* as the trial's. The reason may
    differ, as positions do when a kill comes earlier. `exact`, `unknown` and `flaky` are never the same failure,
    because no trial with such a verdict is shrunk.

    Weights are compared in each attempt where they have decided, else in none: what the trials of a test find out
    together (`compare_weights="auto"`) is not what a smaller schedule is about.

    Args:
        check: what is trained.
        failed: the trial.
        tried: what was carried out before, for this check; new attempts are added.
    """

    def __init__(self, check: Check, failed: Trial, tried: dict[KillSchedule, Trial]) -> None:
        by_weights = failed.verdict.outcome is Outcome.DIVERGED
        self._check = dataclasses.replace(
            check, workload=dataclasses.replace(check.workload, compare_weights=by_weights)
        )
        self._failed = failed
        self._tried = tried
        self.now = 0
        self.trouble: str | None = None
        """What ended the search, if it was not the time."""

    def __call__(self, schedule: KillSchedule, seconds: float) -> bool | None:
        """Whether the schedule fails in the same way; None: not known after so many seconds."""
        if schedule not in self._tried:
            self.now += 1
            conditions = dataclasses.replace(self._check.conditions, deadline=time.monotonic() + seconds)
            name = f"{self._failed.directory.name}-smaller-{self.now}"
            try:
                attempt = dataclasses.replace(self._check, conditions=conditions).trial(name, lambda _: schedule)
            except OutOfTimeError:
                return None
            except WorkerError as error:  # the disk is full, say: the failure that is known is still the news
                self.trouble = f"an error: {str(error).splitlines()[0]}"
                return None
            self._tried[schedule] = attempt
        return self._tried[schedule].verdict.outcome is self._failed.verdict.outcome

    def tidy(self) -> None:
        """Removes the checkpoints of all attempts but the smallest one of each outcome."""
        smallest: dict[Outcome, KillSchedule] = {}
        for schedule in sorted(self._tried, key=size):
            smallest.setdefault(self._tried[schedule].verdict.outcome, schedule)
        for schedule, attempt in self._tried.items():
            if schedule not in smallest.values():
                shutil.rmtree(attempt.directory / store.RUN, ignore_errors=True)


def find_smallest(
    check: Check, failed: Trial, tried: dict[KillSchedule, Trial], *, seconds: float, limit: str
) -> Smallest:
    """Shrinks a failed trial.

    Args:
        check: what is trained.
        failed: the trial; its verdict is judged (not `unknown`, not `flaky`).
        tried: see `Attempts`.
        seconds: how long that may take.
        limit: where this limit comes from, in words.
    """
    assert failed.schedule is not None, "the reference run is not killed"
    reference, took = check.reference()
    # A life that hangs takes as long as it may, so a trial that hung is shrunk only where that is short.
    expected = check.conditions.timeout if failed.verdict.outcome is Outcome.HUNG else took
    attempts = Attempts(check, failed, tried)
    shrunk = shrink(
        failed.schedule,
        attempts,
        check.facts(reference),
        seconds=seconds,
        expected=expected,
        life=failed.verdict.life,
    )
    attempts.tidy()
    return Smallest(
        failed if shrunk.schedule == failed.schedule else tried[shrunk.schedule],
        shrunk.tried,
        attempts.now,
        shrunk.seconds,
        shrunk.complete,
        attempts.trouble or limit,
        expected,
    )


__all__ = ["Smallest", "find_smallest"]
