"""Laws of the search for the smallest schedule, over oracles that are made up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import combinations
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.checker import ReferenceFacts
from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule
from pytest_pipeline_ckpt.engine.plan import draw_schedule
from pytest_pipeline_ckpt.engine.shrinking import Shrunk, shrink, size

if TYPE_CHECKING:
    from collections.abc import Callable

    Fails = Callable[[tuple[int, ...]], bool]
FACTS = ReferenceFacts(elements=60, boundaries=(30,), saves=(10, 20, 30, 40, 50, 60))


def steps(*elements: int) -> KillSchedule:
    """A schedule from its numbers."""
    return KillSchedule(tuple(map(Kill, elements)))


@dataclass
class Oracle:
    """Answers from a predicate over the kills' elements, keeps what it was asked, and takes its time."""

    fails: Fails
    takes: float = 0.0
    asked: list[tuple[int, ...]] = field(default_factory=list)
    now: float = 0.0
    interrupted: bool = False

    def __call__(self, schedule: KillSchedule, seconds: float) -> bool | None:
        """Whether it fails; None when that takes longer than there is time."""
        elements = tuple(kill.element for kill in schedule.kills)
        assert elements not in self.asked, "asked twice"
        assert seconds > 0
        self.asked.append(elements)
        self.now += min(self.takes, seconds)
        self.interrupted = self.takes > seconds
        return None if self.interrupted else self.fails(elements)

    def shrink(
        self, first: tuple[int, ...], *, facts: ReferenceFacts = FACTS, seconds: float = 1.0, expected: float = 0.0
    ) -> Shrunk:
        """Searches with this oracle and its clock."""
        return shrink(steps(*first), self, facts, seconds=seconds, expected=expected, clock=lambda: self.now)


@st.composite
def facts_of_runs(draw: st.DrawFn) -> ReferenceFacts:
    """Runs with saves and epochs anywhere."""
    elements = draw(st.integers(5, 200))
    places = st.lists(st.integers(1, elements), max_size=12, unique=True).map(sorted)
    return ReferenceFacts(elements=elements, boundaries=tuple(draw(places)), saves=tuple(draw(places)))


@st.composite
def searches(draw: st.DrawFn) -> tuple[ReferenceFacts, tuple[int, ...]]:
    """A run and a random schedule of it."""
    facts = draw(facts_of_runs())
    drawn = draw_schedule(
        draw(st.integers(0, 10_000)),
        "law",
        0,
        elements=facts.elements,
        boundaries=facts.boundaries,
        saves=facts.saves,
        times=draw(st.integers(1, 4)),
    )
    return facts, tuple(kill.element for kill in drawn.kills)


@given(searches(), st.integers(0, 1000))
def test_the_result_fails_and_nothing_smaller_that_was_tried_does(
    search: tuple[ReferenceFacts, tuple[int, ...]], seed: int
) -> None:
    """Whatever the oracle says: what comes out failed, and of all that failed it is the smallest."""
    facts, first = search
    failing = {first}

    def fails(elements: tuple[int, ...]) -> bool:
        if random.Random(f"{seed}:{elements}").random() < 1 / 3:
            failing.add(elements)
        return elements in failing

    oracle = Oracle(fails)
    shrunk = oracle.shrink(first, facts=facts)
    assert shrunk.complete
    assert shrunk.tried == len(oracle.asked)
    assert size(shrunk.schedule) == min((len(elements), *elements) for elements in failing)
    assert all((len(elements), *elements) < (len(first), *first) for elements in oracle.asked if elements in failing)
    assert all(1 <= element <= facts.elements for elements in oracle.asked for element in elements)


@given(searches(), st.data())
@example((FACTS, (50, 4, 4)), None)
def test_monotone_oracles_give_the_true_minimum(
    search: tuple[ReferenceFacts, tuple[int, ...]], data: st.DataObject | None
) -> None:
    """When a fault shows from a certain element on, in so many kills, exactly these kills are found."""
    facts, first = search
    if data is None:
        least: tuple[int, ...] = (7, 3)
    else:
        kept = data.draw(st.sampled_from([c for n in range(1, len(first) + 1) for c in combinations(first, n)]))
        least = tuple(data.draw(st.integers(1, element)) for element in kept)

    def fails(elements: tuple[int, ...]) -> bool:
        """Some of the kills, in their order, are at these elements or later ones."""
        rest = iter(elements)
        return all(any(element >= threshold for element in rest) for threshold in least)

    shrunk = Oracle(fails).shrink(first, facts=facts)
    assert shrunk.schedule == steps(*least)


SHOWS: dict[str, tuple[Callable[[int], bool], int, int]] = {
    "behind the first save": (lambda k: k >= 11, 57, 11),
    "in epoch 2": (lambda k: k >= 41, 57, 41),
    "at its end only": (lambda k: k >= 60, 60, 60),
    "anywhere": (lambda k: True, 57, 1),
    "before the first save": (lambda k: k <= 10, 9, 1),
    "directly behind a save": (lambda k: k % 10 == 1 and k > 1, 51, 11),
    "directly behind one save": (lambda k: k in (31, 51), 51, 31),
    "between saves": (lambda k: 25 <= k <= 30 or k > 50, 57, 25),
    "behind every third save": (lambda k: (k - 1) // 10 % 3 == 2, 57, 21),
    "last element of an epoch": (lambda k: k in (30, 60), 60, 30),
}


@pytest.mark.parametrize("name", SHOWS)
def test_one_kill(name: str) -> None:
    """One kill ends where its fault first shows at a save or a pass, though it comes and goes."""
    shows, first, smallest = SHOWS[name]
    assert Oracle(lambda elements: shows(elements[0])).shrink((first,)).schedule == steps(smallest)


def absolute(elements: tuple[int, ...]) -> list[int]:
    """Where the kills land in the run, if each life begins at the newest save."""
    places, start = [], 0
    for element in elements:
        places.append(start + element)
        start = max((save for save in FACTS.saves if save < places[-1]), default=0)
    return places


def test_a_later_kill_alone() -> None:
    """A fault that only the second kill shows is shown by one kill at its place, not at its number."""
    shrunk = Oracle(lambda elements: absolute(elements)[-1] > 40).shrink((35, 14))
    assert shrunk.schedule == steps(41)


def test_a_later_kill_keeps_its_place() -> None:
    """When the first kill comes earlier, a second one that must land in epoch 2 gets a larger number."""
    shrunk = Oracle(lambda e: len(e) == 2 and absolute(e)[0] > 10 and absolute(e)[1] > 40).shrink((45, 9))
    assert shrunk.schedule == steps(11, 31)


def test_kills_of_lives_that_no_longer_matter() -> None:
    """The life that went wrong tells which kills are needed: they are tried first."""
    oracle = Oracle(lambda elements: len(elements) >= 2)
    shrunk = shrink(steps(50, 5, 5), oracle, FACTS, seconds=1.0, life=3, clock=lambda: 0.0)
    assert oracle.asked[0] == (50, 5)
    assert shrunk.schedule == steps(1, 1)


def test_signals_stay() -> None:
    """A kill that is moved keeps its signal."""
    first = KillSchedule((Kill(50, SIGTERM), Kill(3, SIGTERM)))
    shrunk = shrink(first, lambda _, __: True, FACTS, seconds=1.0)
    assert shrunk.schedule == KillSchedule((Kill(1, SIGTERM),))


def test_few_schedules_in_a_long_run() -> None:
    """A thousand saves are not a thousand trials."""
    facts = ReferenceFacts(elements=100_000, saves=tuple(range(100, 100_001, 100)))
    oracle = Oracle(lambda elements: elements[0] > 50_000)
    assert oracle.shrink((90_017,), facts=facts).schedule == steps(50_001)
    assert len(oracle.asked) < 30


@given(searches(), st.floats(0.01, 3.0), st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_the_budget_is_kept(
    search: tuple[ReferenceFacts, tuple[int, ...]], takes: float, seconds: float, expected: float
) -> None:
    """The search ends in time, also when the last attempt takes too long; what it has by then still fails."""
    facts, first = search
    full = Oracle(lambda elements: sum(elements) % 2 == 0 or elements == first)
    whole = full.shrink(first, facts=facts)
    oracle = Oracle(full.fails, takes=takes)
    shrunk = oracle.shrink(first, facts=facts, seconds=seconds, expected=expected)
    assert shrunk.seconds == oracle.now <= seconds * (1 + 1e-9)
    assert oracle.asked == full.asked[: len(oracle.asked)]
    assert shrunk.complete == (oracle.asked == full.asked and not oracle.interrupted)
    assert shrunk.schedule == whole.schedule or not shrunk.complete
    assert oracle.fails(tuple(kill.element for kill in shrunk.schedule.kills))
    assert expected <= seconds or not oracle.asked


def test_nothing_is_tried_that_takes_too_long() -> None:
    """An attempt that would take longer than the budget is not begun."""
    assert Oracle(lambda _: True).shrink((50,), seconds=10.0, expected=75.0) == Shrunk(
        steps(50), tried=0, seconds=0.0, complete=False
    )


def test_nothing_is_smaller_than_the_first_element() -> None:
    """A kill at element 1 is the smallest there is: nothing is tried."""
    assert Oracle(lambda _: True).shrink((1,)) == Shrunk(steps(1), tried=0, seconds=0.0, complete=True)


def test_a_gangs_kills_stay_their_workers() -> None:
    """A smaller kill is one of the same workers."""
    first = KillSchedule((Kill(45, workers=(1,)), Kill(3, workers=(2, 0))))

    def fails(schedule: KillSchedule, _: float) -> bool:
        return schedule.kills[0].element > 10

    shrunk = shrink(first, fails, FACTS, seconds=1.0, clock=lambda: 0.0)
    assert shrunk.schedule == KillSchedule((Kill(11, workers=(1,)),))
