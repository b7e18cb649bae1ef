"""From a schedule that shows a fault to the smallest one that still does. Pure: an oracle answers, a clock is given.

*Smaller* means fewer kills, or as many and an earlier first kill, or the same first kill and an earlier second one,
and so on. Faults are not monotone: a kill before the first save rarely shows one, a kill right behind a save shows
most, and what shows at one save need not show at the next. So the search tries first what the reference run points
at (behind a save, at the end of a pass), and bisects between two such places only after they have been told apart.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from .model import KillSchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from .checker import ReferenceFacts
    from .model import Kill

    Fails: TypeAlias = Callable[[KillSchedule, float], bool | None]
    """Whether a schedule shows the same fault; it has so many seconds to find out, and None says that it could not."""

T = TypeVar("T")
_SWEPT = 8
"""How many places that the bisection has passed over are tried afterwards, the earliest first."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What a search came to."""

    schedule: KillSchedule
    """The smallest one that fails, of those that were tried; the first one if no smaller one does."""
    tried: int
    """How many schedules the oracle was asked about, without the first."""
    seconds: float
    complete: bool
    """False: it was cut short, so there may be a smaller one."""


def size(schedule: KillSchedule) -> tuple[int, ...]:
    """What schedules are compared by: the number of kills, then the place of each."""
    return (len(schedule.kills), *(kill.element for kill in schedule.kills))


def shrink(
    first: KillSchedule,
    fails: Fails,
    facts: ReferenceFacts,
    *,
    seconds: float,
    expected: float = 0.0,
    life: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Shrunk:
    """Looks for the smallest schedule that fails like the first one. The same answers give the same search.

    Args:
        first: a schedule that fails.
        fails: the oracle; asked once about each schedule.
        facts: of the reference run.
        seconds: the search ends then. No schedule is tried that would take longer than what is left, as far as
            those before it tell.
        expected: seconds that the first one is likely to take.
        life: the life (from 1) that went wrong under `first`, so that kills of later lives are not needed; 0: not
            known.
        clock: a monotonic clock, in seconds.
    """
    search = _search(first, _Course(facts), life)
    answers = {first: True}
    smallest, tried, started = first, 0, clock()
    candidate = next(search, None)
    while candidate is not None:
        if candidate not in answers:
            spent = clock() - started
            if spent >= seconds or spent + (spent / tried if tried else expected) > seconds:
                return Shrunk(smallest, tried, spent, complete=False)
            answer = fails(candidate, seconds - spent)
            tried += 1
            if answer is None:
                return Shrunk(smallest, tried, clock() - started, complete=False)
            answers[candidate] = answer
        if answers[candidate] and size(candidate) < size(smallest):
            smallest = candidate
        try:
            candidate = search.send(answers[candidate])
        except StopIteration:
            candidate = None
    return Shrunk(smallest, tried, clock() - started, complete=True)


class _Course:
    """Where in the reference run the lives of a schedule begin and end, if they save and resume as it would.

    A *place* counts elements from the beginning of the reference run, a kill's `element` those of its own life. In a
    training with a fault a life may begin elsewhere: these are good guesses, not more.
    """

    def __init__(self, facts: ReferenceFacts) -> None:
        self._elements = facts.elements
        self._saves = facts.saves
        behind = {save + 1 for save in facts.saves}
        around = {place for end in facts.boundaries for place in (end, end + 1)}
        self._marks = sorted(place for place in behind | around if place <= facts.elements)

    def marks(self, start: int, before: int) -> list[int]:
        """The elements below `before` of a life that begins at `start` which are worth a try, ascending."""
        return [mark - start for mark in self._marks if start < mark < start + before]

    def starts(self, kills: Sequence[Kill]) -> list[int]:
        """After how many elements each life begins, the one after the last kill too."""
        starts = [0]
        for kill in kills:
            starts.append(self._saved(starts[-1] + kill.element - 1))
        return starts

    def singles(self, kills: Sequence[Kill]) -> Iterator[KillSchedule]:
        """One kill: at the place of each of these, behind the first save, at the last element of the run."""
        for kill, place in zip(kills, self._places(kills), strict=True):
            yield from self._at([kill], [place])
        for place in (*self._marks[:1], self._elements):
            yield from self._at(kills[:1], [place])

    def without_one(self, kills: Sequence[Kill]) -> Iterator[KillSchedule]:
        """All kills but one, the last one first; the others stay at their places."""
        places = self._places(kills)
        for left_out in reversed(range(len(kills))):
            yield from self._at(_without(kills, left_out), _without(places, left_out))

    def moved(self, kills: Sequence[Kill], index: int, element: int) -> Iterator[KillSchedule]:
        """One kill earlier. Where that leaves the later ones is not plain, so there are up to three ways.

        They keep their numbers; or each lands behind the first save of its life; or they keep their places.
        """
        head, tail = (*kills[:index], replace(kills[index], element=element)), kills[index + 1 :]
        yield KillSchedule((*head, *tail))
        if not tail:
            return
        places = self._places(head)
        behind, start = list(places), self._saved(places[-1] - 1)
        for _ in tail:
            following = bisect_right(self._saves, start)
            if following == len(self._saves):
                break
            behind.append(self._saves[following] + 1)
            start = self._saves[following]
        else:
            yield from self._at([*head, *tail], behind)
        yield from self._at([*head, *tail], [*places, *self._places(kills)[index + 1 :]])

    def _saved(self, place: int) -> int:
        """After how many elements the newest checkpoint was saved that is there at this place."""
        number = bisect_right(self._saves, place)
        return self._saves[number - 1] if number else 0

    def _places(self, kills: Sequence[Kill]) -> list[int]:
        return [start + kill.element for start, kill in zip(self.starts(kills), kills, strict=False)]

    def _at(self, kills: Iterable[Kill], places: Iterable[int]) -> Iterator[KillSchedule]:
        """The kills at these places; nothing if one of them could not land."""
        start, moved = 0, []
        for kill, place in zip(kills, places, strict=True):
            if not start < place <= self._elements:
                return
            moved.append(replace(kill, element=place - start))
            start = self._saved(place - 1)
        yield KillSchedule(tuple(moved))


def _search(first: KillSchedule, course: _Course, life: int) -> Generator[KillSchedule, bool]:
    """Yields what is to be tried, and is sent whether it fails."""
    kills = yield from _fewer(first.kills, course, life)
    for index in range(len(kills)):
        kills = yield from _earlier(kills, index, course)


def _fewer(kills: Sequence[Kill], course: _Course, life: int) -> Generator[KillSchedule, bool, Sequence[Kill]]:
    """As few kills as show it: one alone, else what is left when no other can be left out."""
    if 1 < life <= len(kills):
        kills = (yield from _first_of([KillSchedule(tuple(kills[: life - 1]))])) or kills
    if len(kills) > 1:
        alone = yield from _first_of(course.singles(kills))
        if alone is not None:
            return alone
    while len(kills) > 1:
        fewer = yield from _first_of(course.without_one(kills))
        if fewer is None:
            break
        kills = fewer
    return kills


def _earlier(kills: Sequence[Kill], index: int, course: _Course) -> Generator[KillSchedule, bool, Sequence[Kill]]:
    """The kill as early as it shows it: at one of the marks, then between this one and the mark before."""
    element = kills[index].element
    marks = [*course.marks(course.starts(kills)[index], element), element]
    silent, low, high, probe = set(), -1, len(marks) - 1, 0  # first behind the first save
    while high - low > 1:
        earlier = yield from _first_of(course.moved(kills, index, marks[probe]))
        if earlier is None:
            silent.add(probe)
            low = probe
        else:
            kills, high = earlier, probe
        probe = (low + high) // 2
    for probe in [number for number in range(high) if number not in silent][:_SWEPT]:
        earlier = yield from _first_of(course.moved(kills, index, marks[probe]))
        if earlier is not None:
            kills, high = earlier, probe
            break
    low, high = marks[high - 1] if high else 0, marks[high]
    # Between two saves nothing changes on disk, so most often the last element between them, or the first, says it all.
    probes = [low + 1, high - 1]
    while high - low > 1:
        probe = probes.pop() if probes and low < probes[-1] < high else (low + high) // 2
        earlier = yield from _first_of(course.moved(kills, index, probe))
        if earlier is None:
            low = probe
        else:
            kills, high = earlier, probe
    return kills


def _first_of(candidates: Iterable[KillSchedule]) -> Generator[KillSchedule, bool, Sequence[Kill] | None]:
    """The first of them that fails."""
    for candidate in candidates:
        if (yield candidate):
            return candidate.kills
    return None


def _without(sequence: Sequence[T], index: int) -> list[T]:
    return [*sequence[:index], *sequence[index + 1 :]]


__all__ = ["Shrunk", "shrink", "size"]
