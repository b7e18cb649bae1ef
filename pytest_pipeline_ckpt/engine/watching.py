"""Watches a life until it has ended, kills it as planned, and says how it ended. Imports no pytest."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import RecordingRefusedError
from . import ledger, worker
from .model import Ending, Kill, Life
from .process import TrainingProcess, tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Conditions:
    """How lives are watched and judged."""

    timeout: float
    """Seconds without progress after which a life is hung."""
    grace: float
    """Seconds between a catchable signal and SIGKILL."""
    max_elements: int
    order: Literal["exact", "any"]
    validation: tuple[str, ...] = ()
    """Places of iterators that are for validation: `train.py:57`."""
    never_resumes: Literal["fail", "allow"] = "fail"
    """Whether a training that begins anew whenever it is started, whatever it has saved, is exact."""
    deadline: float | None = None
    """`time.monotonic()` at which a life that still runs is ended with an `OutOfTimeError`."""


def live(
    process: TrainingProcess,
    conditions: Conditions,
    *,
    kill: Kill | None = None,
    watch: Callable[[Path], int | None] | None = None,
) -> Life:
    """Watches a started life until it has ended, and returns it as the checker sees it.

    Args:
        process: the life.
        conditions: how it is watched.
        kill: kills it there.
        watch: asked whenever it is held, with its directory, until which training element it goes on; None: it has been
            watched for long enough.

    Raises:
        WorkerError: it was to be recorded, and that is refused here; or the conditions' deadline has come.
    """
    ending: Ending | None = None
    stacks = ""
    preemption = None if kill is None else Preemption(process, kill, conditions)
    try:
        for event in process.events(timeout=conditions.timeout, stop=conditions.deadline):
            if event == "held" and preemption is not None:
                preemption.held()
            elif event == "held" and watch is not None:
                until = watch(process.directory)
                if until is None:
                    ending = Ending.STOPPED
                    process.kill()
                else:
                    process.release(until=until)
            elif event == "late" and preemption is not None:
                preemption.late()
            elif event == "hung":
                ending, stacks = Ending.HUNG, process.dump_stacks()
                process.kill()
            elif event == "endless":
                ending = Ending.ENDLESS
                process.kill()
    finally:
        ended = process.kill()
    if ending is None:
        finished = Ending.FINISHED if ended.returncode == 0 else Ending.CRASHED
        ending = Ending.KILLED if preemption is not None and preemption.landed else finished
    return life_of(
        process,
        conditions,
        ending,
        kill=kill,
        stacks=stacks,
        noticed=None if preemption is None else preemption.noticed,
        grace=None if preemption is None else preemption.grace,
    )


def life_of(
    process: TrainingProcess,
    conditions: Conditions,
    ending: Ending,
    *,
    kill: Kill | None = None,
    stacks: str = "",
    noticed: int | None = None,
    grace: float | None = None,
) -> Life:
    """A life that has ended, as the checker sees it.

    Args:
        process: the life.
        conditions: how it was watched.
        ending: how it ended.
        kill, noticed, grace: see `Life`.
        stacks: what its threads did when it hung.

    Raises:
        RecordingRefusedError: it was to be recorded, and that is refused here.
    """
    if process.refused is not None:
        raise RecordingRefusedError(process.refused)
    ended = process.kill()
    return Life(
        ledger=ledger.read(process.directory),
        ending=ending,
        kill=kill,
        status=f"no progress for {conditions.timeout:g} s" if ending is Ending.HUNG else ended.words,
        stderr_tail=stacks or tail(process.directory / worker.STDERR),
        noticed=noticed,
        grace=grace,
        peak_mb=ended.peak_mb,
    )


class Preemption:
    """Carries one planned kill out."""

    def __init__(self, process: TrainingProcess, kill: Kill, conditions: Conditions) -> None:
        self.landed = False
        self.noticed: int | None = None
        """See `Life`."""
        self.grace: float | None = None
        """See `Life`."""
        self._process = process
        self._kill = kill
        self._conditions = conditions
        self._at_element = kill.op is not None and kill.element > 0

    def held(self) -> None:
        """The life waits: at the element before the operation, at the place of the kill, or of the second notice."""
        if self._at_element:
            self._at_element = False
            self._process.release(op=self._kill.op)
        elif self.landed:
            assert self._kill.again is not None
            self._process.notify(self._kill.again)
        elif self._kill.signal == signal.SIGKILL:
            self.landed = True
            self._process.kill()
        else:
            self.landed = True
            self.noticed = len(ledger.read(self._process.directory).records)
            self._process.deadline = time.monotonic() + self._conditions.grace
            self._process.notify(self._kill.signal, op=None if self._kill.again is None else 1)

    def late(self) -> None:
        """The grace is up."""
        self.grace = self._conditions.grace
        self._process.kill()


__all__ = ["Conditions", "Preemption", "life_of", "live"]
