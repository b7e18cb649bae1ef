"""Streams that train although no step counts them: histories made by hand."""

from __future__ import annotations

import pytest
from histories_builder import TRAIN, Book

from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.model import Life, Outcome

OTHER = "train.py:50:main"
SAVE, KILL, END = 10, 13, 40


def life(
    begin: int,
    end: int,
    *,
    uses: int = 0,
    trains: bool = True,
    metrics: bool = False,
    late: bool = False,
    silent: bool = False,
    swapped: bool = False,
) -> Book:
    """A step each element, and after every fifth three elements of another stream.

    Args:
        begin: its first step.
        end: behind its last one.
        uses: of the other stream were before.
        trains: whether that one trains.
        metrics: whether it changes metrics.
        late: the fifth step is counted behind them.
        silent: no step is seen before the first save.
        swapped: averages are in the weights' place for as long as the other stream is used.
    """

    def take(value: int, step: int, key: str = TRAIN) -> None:
        book.looks("element", w=weight, metrics=results)
        if silent and step <= SAVE and not begin:
            book.element(value, key=key)
        else:
            book.read("element", step=step).train([value], step=step, key=key)

    book = Book().counts("step", role="bare").weighs("w").weighs("metrics", applied=False, shape=(9,))
    weight, results, other = begin + 3 * (begin // 5 if trains else 0), 1000 * begin, 3 * uses
    for number in range(begin, end):
        take(number, number)
        weight += 1
        if number % 5 == 4:
            weight += 1000 * swapped
            for _ in range(3):
                take(500 + other, number if late else number + 1, OTHER)
                other, weight, results = other + 1, weight + trains, results + metrics
            weight -= 1000 * swapped
        if number == SAVE - 1 and not begin:
            book.looks("save", w=weight).read("save", step=SAVE).wrote("model/ckpt").saved(SAVE)
    return book


def judged(*, uses: int, trains: bool, metrics: bool = False, late: bool = False, **more: bool) -> Outcome:
    """Of a resume, with what another stream had been used before."""

    def ended(book: Book) -> Life:
        return book.done(END).finished()

    whole, first = (life(0, end, trains=trains, metrics=metrics, late=late, **more) for end in (END, KILL))
    last = life(SAVE, END, uses=uses, trains=trains, metrics=metrics, late=late, **more)
    return judge([ended(whole)], [first.killed(), ended(last)]).outcome


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(("uses", "outcome"), [(SAVE // 5, Outcome.EXACT), (0, Outcome.RESTARTED)])
def test_rehearsal(uses: int, outcome: Outcome, late: bool, silent: bool) -> None:
    """Several elements at a time that the weights change by are trained on, and judged; the step may be in a file."""
    assert judged(uses=uses, trains=True, late=late, silent=silent) is outcome


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize("metrics", [True, False])
def test_validation(metrics: bool, swapped: bool, late: bool) -> None:
    """What changes no weights begins anew as it likes."""
    assert judged(uses=0, trains=False, metrics=metrics, late=late, swapped=swapped) is Outcome.EXACT
