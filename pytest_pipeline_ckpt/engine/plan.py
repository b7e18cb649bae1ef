"""When to kill: the grammar of kill schedules, and schedules drawn from a seed. Pure: no I/O, no clock.

The grammar (`parse_schedule` and `str()` of its results are each other's inverse):

    random              drawn from the seed for each trial
    every[:STRIDE]      at every instant of one recorded run; with a stride every STRIDE-th of those that differ
    never               nothing is killed: the tests are skipped
    step:K[,K2...]      life 1 is killed at its K-th element, life 2 at its own K2-th, ...
    step:0              when it first asks for an element, while a graph is built or a tf.function is traced
    step:40/op:3        before the third restore-visible file operation after element 40 (step:0/op:3: of the life)
    step:40@SIGTERM     with that signal instead of the one that `--preempt-signal` names
    step:40@SIGTERM@SIGTERM  with a second one, before the first such file operation that follows the first signal
    step:40#1           of a gang: worker 1, when it takes its own 40th element; step:40/op:3#1@SIGTERM likewise
    step:40#1+2         workers 1 and 2, when worker 1 takes its 40th element
    step:40             of a gang: all workers, when worker 0 takes its 40th element
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, TypeAlias

from pytest_pipeline_ckpt.errors import PreemptUsageError

from .model import Kill, KillSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .checker import ReferenceFacts

__all__ = [
    "SIGNALS",
    "Every",
    "Kill",
    "KillSchedule",
    "Never",
    "Random",
    "Schedule",
    "draw_gang_schedule",
    "draw_schedule",
    "ensure_known",
    "ensure_reachable",
    "parse_schedule",
    "parse_signal",
    "spell",
]

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""The signals by which platforms and batch systems end a process or announce that they will."""

_GRAMMAR = "random, every[:STRIDE], never, or step:K[,K2...], as in step:40,3@SIGTERM, step:40/op:3 or step:40#1"
_KILL = re.compile(
    r"([0-9]{1,18})(?:/op:([0-9]{1,18}))?(?:#([0-9]{1,4}(?:\+[0-9]{1,4})*))?(?:@([A-Z0-9]+))?(?:@([A-Z0-9]+))?",
    re.ASCII,
)
_STRIDE = re.compile(r"[0-9]{1,18}", re.ASCII)
_DEFAULT_KILLS = 3
_AFTER_FIRST_SAVE = 0.8
_NEAR_BOUNDARY, _NEAR_SAVE = 0.25, 0.25


@dataclass(frozen=True, slots=True)
class Random:
    """Every trial draws its own schedule from the seed."""

    def __str__(self) -> str:
        """The word that the grammar has for it."""
        return "random"


@dataclass(frozen=True, slots=True)
class Every:
    """At every instant of one recorded run."""

    stride: int = 1
    """Every so many-th of the states that a resume can tell apart."""

    def __str__(self) -> str:
        """As the grammar has it."""
        return "every" if self.stride == 1 else f"every:{self.stride}"


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing is killed; the tests are skipped."""

    def __str__(self) -> str:
        """The word that the grammar has for it."""
        return "never"


Schedule: TypeAlias = Random | Every | Never | KillSchedule


def parse_signal(value: object, where: str) -> Signals:
    """A signal of `SIGNALS` from its name or from `signal.Signals`.

    Raises:
        PreemptUsageError: it is none of these.
    """
    name = value.name if isinstance(value, Signals) else value
    if not isinstance(name, str) or name not in SIGNALS:
        raise PreemptUsageError(f"{where}: {value!r} is not a signal to preempt with: give one of {', '.join(SIGNALS)}")
    return Signals[name]


def parse_schedule(text: str, where: str, *, default_signal: Signals = SIGKILL) -> Schedule:
    """Reads a schedule; a kill without `@SIGNAL` gets `default_signal`.

    Raises:
        PreemptUsageError: `text` is not in the grammar; the message starts with `where`.
    """
    text = text.strip()
    if text == "random":
        return Random()
    if text == "never":
        return Never()
    if text == "every" or text.startswith("every:"):
        return _parse_every(text, where)
    if not text.startswith("step:"):
        raise PreemptUsageError(f"{where}: {text!r} is not a kill schedule: give {_GRAMMAR}")
    parts = text.removeprefix("step:").split(",")
    return KillSchedule(tuple(_parse_kill(part.strip(), text, where, default_signal) for part in parts))


def _parse_every(text: str, where: str) -> Every:
    stride = text.removeprefix("every").removeprefix(":")
    if text != "every" and not (_STRIDE.fullmatch(stride) and int(stride) >= 1):
        raise PreemptUsageError(
            f"{where}: {stride!r} in {text!r} is not a stride: give a whole number of at least 1, as in every:10, "
            "or every alone"
        )
    return Every(int(stride or 1))


def _parse_kill(part: str, text: str, where: str, default_signal: Signals) -> Kill:
    match = _KILL.fullmatch(part)
    if match is None:
        raise PreemptUsageError(f"{where}: {part!r} in {text!r} is not the number of an element: give {_GRAMMAR}")
    element, op, name, again = int(match[1]), match[2], match[4], match[5]
    workers = tuple(map(int, match[3].split("+"))) if match[3] else ()
    if len(set(workers)) < len(workers):
        raise PreemptUsageError(f"{where}: {part!r} in {text!r} names a worker twice: leave one of them out")
    if op is not None and int(op) < 1:
        raise PreemptUsageError(
            f"{where}: {part!r} in {text!r}: file operations are counted from 1 behind each element, "
            f"so the first is step:{element}/op:1"
        )
    signal = default_signal if name is None else parse_signal(name, where)
    if again is not None and signal is SIGKILL:
        raise PreemptUsageError(f"{where}: {part!r} in {text!r}: nothing can follow SIGKILL: leave @{again} out")
    second = None if again is None else parse_signal(again, where)
    if second is SIGKILL:
        raise PreemptUsageError(
            f"{where}: {part!r} in {text!r}: SIGKILL follows a notice by itself, after the grace: leave @SIGKILL out"
        )
    return Kill(element, signal, None if op is None else int(op), second, workers)


def spell(schedule: Schedule, *, explicit: bool = False) -> str:
    """The schedule in the grammar, for a line that somebody pastes.

    Args:
        schedule: what to spell.
        explicit: name SIGKILL too. Needed where the option `signal` is set anywhere: a bare number would be
            read with that signal.
    """
    if not explicit or not isinstance(schedule, KillSchedule):
        return str(schedule)
    return "step:" + ",".join(kill.spelled(explicit=True) for kill in schedule.kills)


def ensure_reachable(schedule: KillSchedule, where: str, *, elements: int | Sequence[int]) -> None:
    """Refuses a schedule with a kill beyond the end of the run.

    Args:
        schedule: what the user named.
        where: its source, for the message.
        elements: how many training elements the reference run took, of a gang each worker's; no life of a right
            training takes more.

    Raises:
        PreemptUsageError: a kill can't land.
    """
    of_workers = [elements] if isinstance(elements, int) else elements
    for kill in schedule.kills:
        taken = of_workers[kill.counts]
        if kill.element > taken:
            whose = f" of worker {kill.counts}" if len(of_workers) > 1 else ""
            raise PreemptUsageError(
                f"{where}: element {kill.element}{whose} of {str(schedule)!r} is beyond the end of the run, "
                f"which takes {_count(taken, 'training element')}: "
                f"give a number from 1 to {taken}, or train longer"
            )


def ensure_known(schedule: KillSchedule, where: str, *, workers: int, apart: bool = False) -> None:
    """Refuses a schedule that names a worker which a training does not have.

    Args:
        schedule: what the user named.
        where: its source, for the message.
        workers: how many there are.
        apart: they are started again one by one.

    Raises:
        PreemptUsageError: it does.
    """
    for kill in schedule.kills:
        largest = max(kill.workers, default=0)
        if kill.workers and workers == 1:
            raise PreemptUsageError(
                f"{where}: {str(kill)!r} in {str(schedule)!r} names a worker, but the training has one process: "
                "give their number (--preempt-workers=2), or leave the worker out"
            )
        if largest >= workers:
            raise PreemptUsageError(
                f"{where}: there is no worker {largest} ({str(schedule)!r}): they are counted from 0, so the last of "
                f"{workers} is worker {workers - 1}"
            )
        if apart and len(kill.workers) != 1:
            raise PreemptUsageError(
                f"{where}: {str(kill)!r} in {str(schedule)!r} does not name one worker, but --preempt-restart=worker "
                f"kills and starts them one by one: write {kill.element}#0, or leave --preempt-restart out"
            )


def draw_schedule(
    seed: int,
    key: str,
    trial: int,
    *,
    elements: int,
    boundaries: Sequence[int] = (),
    saves: Sequence[int] = (),
    times: int | None = None,
    signal: Signals = SIGKILL,
    where: str = "--preempt-times",
) -> KillSchedule:
    """Draws the schedule of one trial; the same arguments give the same schedule on every machine.

    About a quarter of the kills land next to the boundary of a pass, a quarter next to a save, the rest
    anywhere; most first kills land after the first save, because a restart from nothing proves little. Every
    kill can land in a training that resumes rightly: life 1 killed at its K-th of N elements has trained at
    most K - 1, so life 2 has at least N - K + 1 to take, and so on. A notice (any signal but SIGKILL) lets
    the life train that element too, so that one less is left.

    Args:
        seed: the session's seed.
        key: names the test; the same in every process.
        trial: the number of the trial.
        elements: how many training elements the reference run took.
        boundaries: after how many elements a pass over the data ended, ascending.
        saves: after how many elements a checkpoint was saved, ascending.
        times: how many lives are killed; None: one to three.
        signal: what kills them.
        where: the source of `times`, for the message.

    Raises:
        PreemptUsageError: there are fewer elements than kills.
    """
    needed = 1 if times is None else times
    if elements < needed:
        raise PreemptUsageError(
            f"{where}: {_count(needed, 'kill')} cannot land in a run that takes "
            f"{_count(elements, 'training element')}: kill at most once for each element, or train longer"
        )
    dice = _Dice(f"{seed}:{key}:{trial}")
    count = min(1 + dice.below(_DEFAULT_KILLS), elements) if times is None else times
    left = max(elements - (signal is not SIGKILL), count)
    kills: list[Kill] = []
    start = 0  # where in the reference run this life begins, if it saves as the reference did
    for later in reversed(range(count)):
        first = saves[0] + 1 if saves and not kills and dice.chance(_AFTER_FIRST_SAVE) else 1
        most = left - later
        element = _draw_element(dice, min(first, most), most, start, boundaries, saves)
        kills.append(Kill(element, signal))
        left -= element
        restored = bisect_right(saves, start + element - 1)
        start = saves[restored - 1] if restored else 0
    return KillSchedule(tuple(kills))


def draw_gang_schedule(
    seed: int,
    key: str,
    trial: int,
    *,
    facts: Sequence[ReferenceFacts],
    times: int | None = None,
    signal: Signals = SIGKILL,
    apart: bool = False,
    where: str = "--preempt-times",
) -> KillSchedule:
    """Draws the schedule of one trial of a gang, as `draw_schedule` does.

    About a third of the kills each are for all workers (when worker 0 takes the element), for worker 0, the chief, and
    for another one. Every kill can land where the workers go forward together: a kill at one worker's element is taken
    to come when the others have gone as far, by the elements that each takes in all.

    Args:
        facts: of each worker's reference run.
        apart: workers are started again one by one: no kill is for all, and each worker's are its own.
        seed, key, trial, times, signal, where: as for `draw_schedule`.

    Raises:
        PreemptUsageError: there are fewer elements than kills.
    """
    needed = 1 if times is None else times
    elements = [one.elements for one in facts]
    if min(elements) < needed:
        raise PreemptUsageError(
            f"{where}: {_count(needed, 'kill')} cannot land in a run of which worker {elements.index(min(elements))} "
            f"takes {_count(min(elements), 'training element')}: kill at most once for each element, or train longer"
        )
    dice = _Dice(f"{seed}:{key}:{trial}")
    count = min(1 + dice.below(_DEFAULT_KILLS), *elements) if times is None else times
    left = [max(whole - (signal is not SIGKILL), count) for whole in elements]
    starts = [0] * len(elements)
    kills: list[Kill] = []
    for later in reversed(range(count)):
        workers = _draw_workers(dice, len(elements), apart=apart)
        at = workers[0] if workers else 0
        saves = facts[at].saves or [-(-save * elements[at] // elements[0]) for save in facts[0].saves]
        first = saves[0] + 1 if saves and not starts[at] and dice.chance(_AFTER_FIRST_SAVE) else 1
        most = max(1, left[at] - later)
        element = _draw_element(dice, min(first, most), most, starts[at], facts[at].boundaries, saves)
        kills.append(Kill(element, signal, workers=workers))
        restored = bisect_right(saves, starts[at] + element - 1)
        position = saves[restored - 1] if restored else 0
        for worker in [at] if apart else range(len(elements)):
            left[worker] -= -(-element * elements[worker] // elements[at])
            starts[worker] = position * elements[worker] // elements[at]
    return KillSchedule(tuple(kills))


def _draw_workers(dice: _Dice, workers: int, *, apart: bool) -> tuple[int, ...]:
    """All (empty), the chief or another one, each as often; one of the last two where workers are killed one by one."""
    kind = dice.below(2) + 1 if apart else dice.below(3)
    if kind == 0:
        return ()
    return (0,) if kind == 1 else (1 + dice.below(workers - 1),)


def _draw_element(
    dice: _Dice, least: int, most: int, start: int, boundaries: Sequence[int], saves: Sequence[int]
) -> int:
    """A number from `least` to `most`, counted from the life's `start` in the reference run."""
    kind = dice.fraction()
    if kind < _NEAR_BOUNDARY:
        marks = boundaries
    elif kind < _NEAR_BOUNDARY + _NEAR_SAVE:
        marks = saves
    else:
        marks = ()
    low, high = bisect_left(marks, start + least - 1), bisect_right(marks, start + most + 1)
    if low == high:
        return least + dice.below(most - least + 1)
    mark = marks[low + dice.below(high - low)] - start
    return min(max(mark - 1 + dice.below(3), least), most)


class _Dice:
    """Numbers from `random.Random.random` alone: the one sequence that Python promises to keep."""

    def __init__(self, seed: str) -> None:
        self.fraction = random.Random(seed).random

    def below(self, limit: int) -> int:
        return int(self.fraction() * limit)

    def chance(self, probability: float) -> bool:
        return self.fraction() < probability


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
