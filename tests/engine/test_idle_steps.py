"""Steps that a model counted without an element, as Keras `fit` does where it cannot know how long the data is."""

from __future__ import annotations

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge, reference_facts
from pytest_pipeline_ckpt.engine.idle_steps import idle_steps, without_idle_steps
from pytest_pipeline_ckpt.engine.model import Kind, Life, Outcome


def fit(epochs: range, *, first: int = 0, at: int = 0, counting: bool = True, begin: int = 0) -> Book:
    """Epochs of 4 elements, the first one from `begin` on, with a model at step `first`; each end counts a step.

    Args:
        epochs: their numbers, the elements of which are known.
        first: the model's step before the first element.
        at: the number of the first iterator.
        counting: whether ends count a step.
        begin: the first element of the first epoch.
    """
    book, step = Book(), first
    for number, epoch in enumerate(epochs, at):
        values = list(range(epoch * 4 + begin, epoch * 4 + 4))
        book.train(values, step=step, iterator=number)
        step, begin = step + len(values) + counting, 0
        if counting:
            book.end(iterator=number, step=step, idle=1)
        book.saved(step)
    return book


def steps(life: Life) -> list[int]:
    """The steps of a life's records."""
    records = life.ledger.records
    return [int(one["value"]) for one in records if one["kind"] in (Kind.STEP, Kind.SAVED, Kind.RESTORED, Kind.DONE)]


REFERENCE = fit(range(3)).done(15).finished()


def test_idle_steps_are_taken_out() -> None:
    """Each step stands for an element again, at saves and at the end too, and what was read is not changed."""
    (life,) = without_idle_steps([REFERENCE])
    assert steps(life) == [*range(4), 4, *range(4, 8), 8, *range(8, 12), 12, 12]
    assert steps(REFERENCE)[5] == 5
    assert idle_steps(REFERENCE) == 3


def test_nothing_is_copied_without_need() -> None:
    """A life without such steps is the very same."""
    life = fit(range(3), counting=False).done(12).finished()
    assert without_idle_steps([life])[0] is life


@pytest.mark.parametrize("restores", [True, False], ids=["restored", "not seen to restore"])
def test_they_are_inherited(restores: bool) -> None:
    """A life that resumes behind the end of an epoch has that epoch's idle step in its counter."""
    killed = fit(range(2)).train([8, 9], step=10, iterator=2).killed()
    resumed = Book().restored(10) if restores else Book()
    resumed.train([8, 9, 10, 11], step=10).end(step=15, idle=1).done(15)
    verdict = judge([REFERENCE], [killed, resumed.finished()])
    assert verdict.outcome is Outcome.EXACT, verdict.reason
    assert verdict.notes == (
        "3 steps counted where the data had ended, without an element, left out",
        "2 elements trained again after rollbacks (legal replay)",
    )


def test_what_was_rolled_back_is_not_inherited() -> None:
    """A life that goes back before an end counts that end itself."""
    killed = fit(range(2)).train([8, 9], step=10, iterator=2).killed()
    resumed = Book().restored(5).train([4, 5, 6, 7], step=5).end(step=10, idle=1)
    resumed.train([8, 9, 10, 11], step=10, iterator=1).end(iterator=1, step=15, idle=1).done(15)
    assert judge([REFERENCE], [killed, resumed.finished()]).exact


def test_a_life_that_does_not_count_them() -> None:
    """Keras 2 counts such a step in a life's first epoch only: steps of other lives are other numbers."""
    killed = Book().train([0, 1, 2, 3], step=0).end(step=5, idle=1).train([4, 5, 6, 7], step=5, iterator=1).saved(9)
    killed.train([8, 9], step=9, iterator=2)
    resumed = Book().restored(9).train([8, 9, 10, 11], step=9).end(step=14, idle=1).done(14)
    assert judge([REFERENCE], [killed.killed(), resumed.finished()]).exact


def test_a_look_at_the_data_before_the_restore() -> None:
    """An element that is taken before the model is restored does not make a life forget what it inherits."""
    killed = fit(range(2)).train([8, 9], step=10, iterator=2).killed()
    resumed = Book().train([0], step=0).restored(10).train([8, 9, 10, 11], step=10, iterator=1)
    resumed.end(iterator=1, step=15, idle=1).done(15)
    assert judge([REFERENCE], [killed, resumed.finished()]).exact


def test_restarted_data_is_still_found() -> None:
    """A model in the middle of an epoch, and data at its beginning."""
    killed = fit(range(1)).train([4, 5], step=5, iterator=1).saved(7).train([6], step=7, iterator=1).killed()
    resumed = Book().restored(7).train([4, 5, 6, 7], step=7).end(step=12, idle=1)
    resumed.train([8, 9, 10, 11], step=12, iterator=1).end(iterator=1, step=17, idle=1).done(17)
    verdict = judge([REFERENCE], [killed, resumed.finished()])
    assert (verdict.outcome, verdict.life) == (Outcome.MISALIGNED, 2)
    assert "the pipeline resumed 2 elements behind the model" in verdict.reason


def test_where_kills_can_land() -> None:
    """A reference run with idle steps tells the planner its passes and saves."""
    facts = reference_facts(REFERENCE)
    assert (facts.elements, facts.boundaries, facts.saves) == (12, (4, 8), (4, 8, 12))
