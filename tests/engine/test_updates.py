"""A training whose step nothing shows is judged by how often its weights change: histories made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge, reference_facts
from pytest_pipeline_ckpt.engine.model import Outcome
from pytest_pipeline_ckpt.engine.updates import NAME, counted

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.model import Life

END, SAVE, KILL, CLOSELY = 40, 10, 25, 30
NEW = 100
"""What the weight is in a new training; after n updates it is n more."""


def life(
    data: int = 0, model: int = 0, *, kill: int | None = None, pace: int = 1, closely: int = CLOSELY, known: bool = True
) -> Life:
    """Elements from `data` on, a save behind every tenth; the step is never seen.

    Args:
        data: the first element.
        model: elements that the model had been trained on.
        kill: how many elements the life takes; None: all that are left.
        pace: elements of an update.
        closely: so many elements are looked at.
        known: the weight is seen to be saved.
    """
    book = Book().weighs("w", known=known, applied=False, function="main")
    for number, value in enumerate(range(data, END if kill is None else data + kill)):
        if number < closely:
            book.looks("element", w=NEW + (model + number) // pace)
        book.train([value], step=-1)
        trained = model + number + 1
        if trained % SAVE == 0:
            book.looks("save", w=NEW + trained // pace).wrote(f"model/w{trained}").saved(-1)
    return book.killed(standing=("model/w",)) if kill else book.done(-1).finished()


@pytest.mark.parametrize("pace", [1, 2])
@pytest.mark.parametrize("closely", [CLOSELY, 64])
@pytest.mark.parametrize(
    ("data", "model", "outcome"),
    [
        (20, 20, Outcome.EXACT),
        (0, 20, Outcome.RESTARTED),
        (22, 20, Outcome.MISALIGNED),
        (18, 20, Outcome.MISALIGNED),
        (10, 10, Outcome.EXACT),
    ],
)
def test_where_the_model_is(data: int, model: int, pace: int, closely: int, outcome: Outcome) -> None:
    """By the values it begins with, however many elements an update takes."""
    run, first, last = (
        life(*begin, kill=kill, pace=pace, closely=closely)
        for begin, kill in (((), None), ((), KILL), ((data, model), None))
    )
    assert judge([run], [first, last]).outcome is outcome


def test_several_kills() -> None:
    """The count goes on from life to life, also from a save that was not looked at closely."""
    lives = [life(kill=33), life(30, 30, kill=4), life(30, 30)]
    assert judge([life()], lives).exact
    assert judge([life()], [*lives[:2], life(34, 30)]).outcome is Outcome.MISALIGNED


def test_counts() -> None:
    """Updates are counted at each look; at later saves by the pace until then."""
    found = counted([life()], [life(kill=33), life(30, 30)])
    assert found is not None
    shown = [
        [(one.why, one.values[NAME]) for one in each.ledger.evidence.readings] for each in (found[0][0], *found[1])
    ]
    elements = [("element", number) for number in range(CLOSELY)]
    saved = [*elements[:10], ("save", 10), *elements[10:20], ("save", 20), *elements[20:], ("save", 30)]
    assert shown[0] == [*saved, ("save", 40)]
    assert shown[1] == saved
    assert shown[2] == [*(("element", number) for number in range(30, 40)), ("save", 40)]


def test_kills_can_be_planned() -> None:
    """It is known which elements train."""
    assert (reference_facts(life()).elements, reference_facts(life()).saves) == (END, (10, 20, 30, 40))


@pytest.mark.parametrize(("closely", "known"), [(CLOSELY, False), (3, True)])
def test_what_tells_too_little(closely: int, known: bool) -> None:
    """A weight that nobody was seen to save may be anything, and few looks are no count."""
    run, first = (life(kill=kill, closely=closely, known=known) for kill in (None, KILL))
    assert counted([run], []) is None
    verdict = judge([run], [first, life(20, 20, closely=closely, known=known)])
    assert (verdict.outcome, verdict.reason[:42]) == (Outcome.UNKNOWN, "the model's step could not be observed whi")
