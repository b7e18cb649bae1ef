"""Where lives trained and what their saves cost, from histories made by hand: whole values are compared."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from histories_builder import TRAIN, VALID, Book, Plan, label_of, reference, trial
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import ledger
from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.lifespans import MOST_MARKS, MOST_RANGES, cost_of
from pytest_pipeline_ckpt.engine.model import Cost, Ending, Life, LifeSpan, Outcome

if TYPE_CHECKING:
    from pathlib import Path

LABEL = label_of(TRAIN)


def unkilled(count: int = 20) -> Life:
    """Elements 0, 1, ... with step = element, saved after every fifth."""
    book = Book()
    for begin in range(0, count, 5):
        book.train(range(begin, begin + 5), step=begin).saved(begin + 5)
    return book.done(count).finished()


def killed(at: int = 13) -> Life:
    """Killed at its `at`-th element, with a checkpoint at 10."""
    return Book().train(range(10), step=0).saved(10).train(range(10, at), step=10).killed()


def resumed(values: list[int] | range, *, step: int = 10) -> Life:
    """A last life that restored `step` and took `values`."""
    return Book().restored(step).train(values, step=step).done(step + len(values)).finished()


RIGHT = LifeSpan(0, LABEL, 0, 20, 20, Ending.FINISHED, saves=(5, 10, 15, 20), passes=(20,))
FIRST = LifeSpan(1, LABEL, 0, 13, 10, Ending.KILLED, saves=(10,), passes=())


def passes_left_out(spans: tuple[LifeSpan, ...]) -> list[LifeSpan]:
    """Where passes end is `histories`' to say, and tested there."""
    return [replace(span, passes=()) for span in spans]


def test_rolled_back_and_kept() -> None:
    """Of a killed life what the next one did again was rolled back, the rest is kept; positions are the reference's."""
    spans = judge([unkilled()], [killed(), resumed(range(10, 20))]).lives
    assert passes_left_out(spans) == [
        replace(RIGHT, passes=()),
        FIRST,
        LifeSpan(2, LABEL, 10, 10, 10, Ending.FINISHED),
    ]


@pytest.mark.parametrize(
    ("values", "outcome", "ahead", "wrong"),
    [
        (range(7, 17), Outcome.MISALIGNED, -3, ((10, 19),)),
        ([*range(11, 20), 77], Outcome.MISALIGNED, 1, ((10, 19),)),
        (range(10), Outcome.RESTARTED, -10, ((10, 19),)),
        ([10, 11, 14, 13, 12, 15, 16, 99, 18, 19], Outcome.CHANGED, None, ((12, 12), (14, 14), (17, 17))),
        ([*range(10, 20), 20, 21], Outcome.OVERRUN, None, ((20, 21),)),
        (range(10, 18), Outcome.INCOMPLETE, None, ()),
    ],
)
def test_what_does_not_match(
    values: list[int] | range, outcome: Outcome, ahead: int | None, wrong: tuple[tuple[int, int], ...]
) -> None:
    """The elements that are not the reference's are named by their positions; one shift, if it explains them."""
    verdict = judge([unkilled()], [killed(), resumed(values)])
    number = sum(last - first + 1 for first, last in wrong)
    assert verdict.outcome is outcome
    assert passes_left_out(verdict.lives)[2] == LifeSpan(
        2,
        LABEL,
        10,
        len(values),
        len(values),
        Ending.FINISHED,
        wrong=wrong,
        wrong_elements=number,
        ahead=ahead,
    )


def test_elements_that_no_model_saw() -> None:
    """A life that skips by taking elements has them apart from those that it trained on."""
    skipping = Book().restored(10)
    for value in range(10):
        skipping.step(10).element(value)
    last = skipping.train(range(10, 20), step=10).done(20).finished()
    span = judge([unkilled()], [killed(), last]).lives[2]
    assert (span.start, span.taken, span.untrained, span.wrong) == (10, 10, 10, ())


def test_lanes() -> None:
    """A training that reads two pipelines has a span for each, life by life."""
    plan = Plan(lanes=2, persistent=True)
    spans = judge([reference(plan)], trial(plan, [8])).lives
    lanes = (LABEL, "train.py:43, in main")
    assert [(span.life, span.lane) for span in spans] == [(life, lane) for life in (0, 1, 2) for lane in lanes]


def test_differing_pipelines_have_no_wrong_positions() -> None:
    """Where the order is not to be kept no single element is right or wrong."""
    shuffled = Book().restored(10).train([19, *range(10, 18), 18], step=10).done(20).finished()
    verdict = judge([unkilled()], [killed(), shuffled], order="any")
    assert verdict.exact
    assert [span.wrong for span in verdict.lives] == [(), (), ()]
    assert judge([unkilled()], [killed(), shuffled]).lives[2].wrong_elements == 10


def test_unknown_positions_are_left_out() -> None:
    """A life whose step is not known has no span, so nothing is drawn where nobody knows that it was."""
    blind = Book()
    for value in range(10, 20):
        blind.element(value)
    verdict = judge([unkilled()], [killed(), blind.finished()])
    assert verdict.outcome is Outcome.UNKNOWN
    assert [span.life for span in verdict.lives] == [0]


def test_judgements_are_compared_without_their_pictures() -> None:
    """Where lives trained is how a verdict looks, not what it is."""
    verdict = judge([unkilled()], [killed(), resumed(range(10, 20))])
    assert verdict == replace(verdict, lives=())


@given(st.lists(st.booleans(), min_size=400, max_size=400))
def test_ranges_are_few_and_cover_what_is_wrong(right: list[bool]) -> None:
    """However scattered, what is wrong lies within at most so many ranges, whose ends are wrong."""
    taken = [place if good else 5000 + place for place, good in enumerate(right, 10)]
    span = judge([unkilled(410)], [killed(), resumed(taken)]).lives[2]
    wrong = {10 + place for place, good in enumerate(right) if not good}
    assert span.wrong_elements == len(wrong)
    assert len(span.wrong) <= MOST_RANGES
    assert wrong <= {place for first, last in span.wrong for place in range(first, last + 1)}
    assert {end for bounds in span.wrong for end in bounds} <= wrong


def test_many_saves_are_thinned_evenly() -> None:
    """Beyond a number that nobody can tell apart in a picture, evenly spread saves stand for all."""
    book = Book()
    for step in range(1000):
        book.train(range(step, step + 1), step=step).saved(step + 1)
    life = book.done(1000).finished()
    saves = judge([life], [life]).lives[0].saves
    assert len(saves) == MOST_MARKS
    assert (saves[0], saves[-1]) == (1, 1000)
    assert {b - a for a, b in itertools.pairwise(saves)} == {5, 6}


def test_validation_is_not_drawn() -> None:
    """Streams that do not train are in no span."""
    plan = Plan(validation=3)
    spans = judge([reference(plan)], trial(plan, [8])).lives
    assert {span.lane for span in spans} == {LABEL}
    assert label_of(VALID) not in {span.lane for span in spans}


def test_costs(tmp_path: Path) -> None:
    """Saves are summed up, over the time from the first thing that is known to the last."""
    writer = ledger.LedgerWriter(tmp_path)
    began = writer._start
    writer.save(began=began + 1.0, seconds=0.5, size=1000)
    writer.save(began=began + 3.0, seconds=0.25, size=24)
    read = ledger.read(tmp_path)
    assert cost_of(Life(read, Ending.FINISHED, peak_mb=12.5)) == Cost(2.25, 2, 0.75, 1024, 12.5)
    records = np.zeros(2, ledger.RECORD)
    records["ms"] = [500, 4500]
    assert cost_of(Life(replace(read, records=records), Ending.KILLED)) == Cost(4.0, 2, 0.75, 1024, 0.0)
    assert cost_of(Book().killed()) == Cost(0.0, 0, 0.0, 0, 0.0)
