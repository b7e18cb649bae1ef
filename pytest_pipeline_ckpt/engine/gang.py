"""Gangs: trainings of several processes that are killed, and started again, together or one by one. Imports no pytest.

A gang's *launcher* is what starts its workers, and starts them again: here it is this module. As the controllers of
clusters do for trainings with collectives, it ends the workers that are left when one is gone, and starts all again
(`live_together`); or it starts only that one again, for workers that do not wait for each other (`live_apart`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
import time
from dataclasses import dataclass, replace
from signal import SIGKILL
from typing import TYPE_CHECKING

from ..errors import OutOfTimeError
from . import ledger
from .model import Ending, Life
from .process import WATCH_EVERY
from .watching import Preemption, life_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from signal import Signals

    from .model import Kill
    from .process import TrainingProcess
    from .watching import Conditions

LOOPBACK = "127.0.0.1"
_STALLED = 5.0  # seconds without progress after which a worker is taken to wait for one that is held


@dataclass(frozen=True, slots=True)
class Ports:
    """A port on loopback for each worker."""

    numbers: tuple[int, ...]

    def environ(self, worker: int) -> dict[str, str]:
        """What tells a worker its place: the variable that `tf.distribute` reads."""
        cluster = {"worker": [f"{LOOPBACK}:{port}" for port in self.numbers]}
        return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})}


@contextlib.contextmanager
def held_ports(workers: int) -> Iterator[Ports]:
    """Free ports, which nobody else gets while this lasts.

    They are kept by sockets that are bound and do not listen, with SO_REUSEADDR: a server that has the option too, as
    gRPC's have, can bind to such a port and listen there, and the kernel gives it to nobody who asks for any port.
    SO_REUSEPORT would not do, because TensorFlow's servers do not set it.
    """
    with contextlib.ExitStack() as stack:
        numbers = []
        for _ in range(workers):
            held = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("", 0))  # on all addresses, as TensorFlow's servers do
            numbers.append(held.getsockname()[1])
        yield Ports(tuple(numbers))


def leash(kill: Kill, elements: Sequence[int]) -> list[int | None]:
    """Until which of its own elements each worker goes, when one is to be killed at an element.

    Workers that do not wait for each other would be anywhere by then, or at their end, as the machine happens to
    schedule them; so each waits where it is when all are equally fast. Those that do wait for each other are there
    anyway.

    Args:
        kill: what is planned; before a file operation nobody waits, because it may come any number of elements later.
        elements: how many training elements each worker's reference run takes.
    """
    if kill.op is not None:
        return [kill.element or None if worker == kill.counts else None for worker in range(len(elements))]
    whole = max(1, elements[kill.counts])
    return [
        kill.element if worker == kill.counts else max(1, -(-kill.element * mine // whole))
        for worker, mine in enumerate(elements)
    ]


class Gang:
    """The processes of one incarnation, by their workers.

    Args:
        processes: one a worker; may be replaced while `events` is read.
    """

    def __init__(self, processes: Sequence[TrainingProcess]) -> None:
        self.processes = list(processes)

    def running(self) -> list[int]:
        """The workers that have not ended."""
        return [worker for worker, process in enumerate(self.processes) if process.ended is None]

    def events(self, *, timeout: float, stop: float | None = None) -> Iterator[tuple[int, str]]:
        """Yields what happens to which worker, until all have ended; see `TrainingProcess.events`.

        `hung` is the whole gang's: workers wait for each other, so none is while another makes progress. It is yielded
        with the first worker that runs; sooner, as `stalled`, while a worker is held, for which others may wait.

        Raises:
            OutOfTimeError: one still runs when `time.monotonic()` has reached `stop`.
        """
        progressed = time.monotonic()
        while running := self.running():
            now = time.monotonic()
            if stop is not None and now >= stop:
                raise OutOfTimeError("the time for this life is up")
            processes = [self.processes[worker] for worker in running]
            due = [process.deadline - now for process in processes if process.deadline is not None]
            ready = select.select(processes, [], [], max(0.0, min([WATCH_EVERY, *due])))[0]
            for worker, process in zip(running, processes, strict=True):
                if process.ended is None and process in ready:
                    event = process.receive()
                    progressed = time.monotonic()
                    if event != "started":
                        yield worker, event
                        if event != "ended" and worker not in self.running():
                            yield worker, "ended"  # whoever acted on the event has ended it, and waited for that
                elif process.ended is None and process.deadline is not None and now >= process.deadline:
                    process.deadline = None
                    yield worker, "late"
            running = self.running()
            if {worker for worker in running if self.processes[worker].has_progressed()}:  # each is asked
                progressed = time.monotonic()
            held = any(self.processes[worker].held for worker in running)
            if running and time.monotonic() - progressed > (min(timeout, _STALLED) if held else timeout):
                yield running[0], "stalled" if held else "hung"
                progressed = time.monotonic()

    def kill(self) -> None:
        """SIGKILL to all at once; returns when no process of any is left."""
        for process in self.processes:
            process.end()
        for process in self.processes:
            process.kill()


@dataclass(slots=True)
class _Member:
    """One worker's life while it lasts."""

    process: TrainingProcess
    ending: Ending | None = None
    """How it will have ended, if that was decided by the launcher."""
    stacks: str = ""
    noticed: int | None = None
    grace: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.ended is None

    def end(self, ending: Ending) -> None:
        """SIGKILL, unless it has ended."""
        if self.runs:
            self.ending = self.ending or ending
            self.process.end()

    def hang(self) -> None:
        """Ends it, if it has not ended, because nobody in the gang makes progress."""
        if self.runs:
            self.stacks = self.process.dump_stacks()
            self.end(Ending.HUNG)

    def life(self, conditions: Conditions, kill: Kill | None) -> Life:
        """The life, which has ended."""
        ended = self.process.kill()
        ending = self.ending or (Ending.FINISHED if ended.returncode == 0 else Ending.CRASHED)
        return life_of(
            self.process,
            conditions,
            ending,
            kill=kill,
            stacks=self.stacks,
            noticed=self.noticed,
            grace=self.grace,
        )


def live_together(processes: Sequence[TrainingProcess], conditions: Conditions, *, kill: Kill | None = None) -> Life:
    """Watches an incarnation of a gang until it has ended; whoever is left when one worker is gone is ended too.

    Args:
        processes: one a worker.
        conditions: how they are watched.
        kill: kills some or all of them.

    Raises:
        WorkerError: see `watching.live`.
    """
    gang = Gang(processes)
    members = [_Member(process) for process in processes]
    launcher = _Launcher(members, kill, conditions)
    try:
        for worker, event in gang.events(timeout=conditions.timeout, stop=conditions.deadline):
            launcher.handle(worker, event)
    finally:
        gang.kill()
    lives = [
        member.life(conditions, kill if kill is not None and worker == kill.counts else None)
        for worker, member in enumerate(members)
    ]
    return incarnation(lives, kill)


class _Launcher:
    """Carries a planned kill of a gang out, and ends those that are left when a worker is gone."""

    def __init__(self, members: Sequence[_Member], kill: Kill | None, conditions: Conditions) -> None:
        self._members = members
        self._kill = kill
        self._conditions = conditions
        self._landed = False
        self._at_element = kill is not None and kill.op is not None and kill.element > 0
        named = () if kill is None else kill.workers or range(len(members))
        self._named = [members[worker] for worker in named]

    def handle(self, worker: int, event: str) -> None:
        """Does what an event asks for."""
        member = self._members[worker]
        if event == "held":
            self._reached()
        elif event == "stalled":
            self._stalled()
        elif event == "late":
            member.grace = self._conditions.grace
            member.process.end()
        elif event == "endless":
            self._end_all(Ending.ENDLESS)
        elif event == "hung":
            for one in self._members:
                one.hang()
        elif event == "ended":
            self._one_has_ended(member)

    def _reached(self) -> None:
        """A worker waits at its place. The kill lands when all do that are to, so that each trial is like the other."""
        assert self._kill is not None
        counts = self._members[self._kill.counts]
        if counts.process.held and (self._landed or self._kill.op is not None or self._all_wait()):
            self._strike(self._kill, counts)

    def _stalled(self) -> None:
        """Somebody waits for one that is held: nobody can go where the leash would hold him."""
        assert self._kill is not None
        counts = self._members[self._kill.counts]
        if counts.process.held:
            self._strike(self._kill, counts)
        else:
            self._let_go()

    def _all_wait(self) -> bool:
        return all(one.process.held for one in self._members if one.runs)

    def _strike(self, kill: Kill, counts: _Member) -> None:
        """The worker that counts waits: at the element before the operation, at the kill, or at the second notice."""
        if self._at_element:
            self._at_element = False
            counts.process.release(op=kill.op)
        elif self._landed:
            assert kill.again is not None
            for one in self._named:
                self._notify(one, kill.again)
        else:
            self._landed = True
            for one in self._members:
                # From here on nobody's end is judged: a survivor finds its peer gone, or is ended.
                one.ending = Ending.KILLED if one.runs else one.ending
            if kill.signal == SIGKILL:
                for one in self._named:
                    one.end(Ending.KILLED)
            else:
                self._give_notice(kill, counts)

    def _give_notice(self, kill: Kill, counts: _Member) -> None:
        deadline = time.monotonic() + self._conditions.grace
        for one in filter(lambda each: each.runs, self._named):
            one.noticed = len(ledger.read(one.process.directory).records)
            one.process.deadline = deadline
            self._notify(one, kill.signal, op=1 if kill.again is not None and one is counts else None)
        self._let_go()

    def _one_has_ended(self, member: _Member) -> None:
        """Ends the others when all that were to be killed are gone, or when one has failed."""
        assert member.process.ended is not None
        if self._landed:
            over = not any(one.runs for one in self._named)
        else:
            over = member.process.ended.returncode != 0
        if over:
            self._end_all(Ending.KILLED)

    def _notify(self, member: _Member, number: Signals, *, op: int | None = None) -> None:
        if member.runs:
            member.process.notify(number, op=op)

    def _let_go(self) -> None:
        """Releases the workers that wait."""
        for one in self._members:
            if one.runs and one.process.held:
                one.process.release()

    def _end_all(self, ending: Ending) -> None:
        for one in self._members:
            one.end(ending)


def live_apart(
    start: Callable[[int, int, Kill | None], TrainingProcess],
    schedules: Sequence[Sequence[Kill]],
    conditions: Conditions,
) -> list[Life]:
    """Lives of workers that are started again one by one, while the others go on.

    Args:
        start: starts a worker's life: its worker, which of its lives (from 1), and where it will be killed.
        schedules: for each worker its kills, a life each.
        conditions: how they are watched.

    Returns:
        As incarnations: the first has the first life of each worker, and so on.

    Raises:
        WorkerError: see `watching.live`.
    """
    chains = [_Chain(worker, start, tuple(kills)) for worker, kills in enumerate(schedules)]
    gang = Gang([])
    try:
        for chain in chains:
            gang.processes.append(chain.begin(conditions))
        for worker, event in gang.events(timeout=conditions.timeout, stop=conditions.deadline):
            chain = chains[worker]
            if event == "hung":
                for one in chains:
                    one.member.hang()
            elif event != "ended":
                chain.handle(event)
            elif chain.ended(conditions):
                gang.processes[worker] = chain.begin(conditions)
            elif chain.lives[-1].ending is Ending.CRASHED:
                for one in chains:
                    one.member.end(Ending.KILLED)
    finally:
        gang.kill()
    return [incarnation(list(lives)) for lives in itertools.zip_longest(*(chain.lives for chain in chains))]


class _Chain:
    """The lives of one worker, one after the other."""

    def __init__(
        self, worker: int, start: Callable[[int, int, Kill | None], TrainingProcess], kills: Sequence[Kill]
    ) -> None:
        self.member: _Member
        self.lives: list[Life] = []
        self._worker = worker
        self._start = start
        self._kills = kills
        self._kill: Kill | None = None
        self._preemption: Preemption | None = None

    def begin(self, conditions: Conditions) -> TrainingProcess:
        """Starts the next life."""
        number = len(self.lives)
        self._kill = self._kills[number] if number < len(self._kills) else None
        self.member = _Member(self._start(self._worker, number + 1, self._kill))
        self._preemption = None
        if self._kill is not None:
            self._preemption = Preemption(self.member.process, self._kill, conditions)
        return self.member.process

    def handle(self, event: str) -> None:
        """Does what an event asks for."""
        if event == "endless":
            self.member.end(Ending.ENDLESS)
        elif event == "held" and self._preemption is not None:
            self._preemption.held()
        elif event == "late" and self._preemption is not None:
            self._preemption.late()

    def ended(self, conditions: Conditions) -> bool:
        """Keeps the life, which has ended; whether the worker is to be started again."""
        landed = self._preemption is not None and self._preemption.landed
        if self._preemption is not None and self._preemption.landed:
            self.member.ending = self.member.ending or Ending.KILLED
            self.member.noticed, self.member.grace = self._preemption.noticed, self._preemption.grace
        self.lives.append(self.member.life(conditions, self._kill))
        return landed


def incarnation(lives: Sequence[Life | None], kill: Kill | None = None) -> Life:
    """The lives of a gang's workers as one.

    Args:
        lives: of each worker.
        kill: what was planned for them all.
    """
    shown = None if kill is None else lives[kill.counts]
    if shown is None or shown.ending is not Ending.KILLED:
        there = [life for life in lives if life is not None]
        shown = min(there, key=lambda life: _TOLD_FIRST.get(life.ending, len(_TOLD_FIRST)))
    memory = sum(life.peak_mb for life in lives if life is not None)
    return replace(shown, gang=tuple(lives), kill=kill, peak_mb=memory)


_TOLD_FIRST = {ending: rank for rank, ending in enumerate((Ending.CRASHED, Ending.HUNG, Ending.ENDLESS))}


__all__ = ["LOOPBACK", "Gang", "Ports", "incarnation", "leash", "live_apart", "live_together"]
