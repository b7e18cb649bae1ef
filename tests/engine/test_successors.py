"""Models that are built and then replaced by one from a file: histories made by hand."""

from __future__ import annotations

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.model import Life, Outcome

SAVE, KILL, END = 10, 13, 20


def first_life(end: int) -> Life:
    """A new training: the model that is built is trained, and saved in the middle."""
    book = Book().counts("SGD", role="model").weighs("sequential/kernel")
    for number in range(end):
        book.looks("element", **{"sequential/kernel": number}).read("element", SGD=number).train([number], step=number)
        if number == SAVE - 1:
            book.looks("save", **{"sequential/kernel": SAVE}).read("save", SGD=SAVE).wrote("model/m.keras").saved(SAVE)
    return book.done(END).finished() if end == END else book.killed()


def resumed(loaded: str, *, known: bool, data: int = SAVE, trains: bool = True, elements: int = END - SAVE) -> Book:
    """The model that is built lies about while the loaded one is trained, or the other way round."""
    book = Book().counts("SGD", role="model")
    book.weighs("sequential/kernel", known=known, applied=known and not trains)
    book.weighs(loaded, known=True, applied=trains)
    for number in range(elements):
        built, other = (0, SAVE + number) if trains else (number, SAVE)
        values = {"sequential/kernel": built, loaded: other}
        step = (SAVE if trains else 0) + number
        book.looks("element", **values).read("element", SGD=step).train([data + number], step=step)
    return book


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("data", "outcome"), [(SAVE, Outcome.EXACT), (SAVE - 1, Outcome.MISALIGNED)])
def test_loaded_model(data: int, known: bool, outcome: Outcome) -> None:
    """It has the built one's place, whatever its weights are called, and the moment of its file."""
    last = resumed("kernel", known=known, data=data, elements=END - data).done(END).finished()
    assert judge([first_life(END)], [first_life(KILL), last]).outcome is outcome


def test_loaded_model_that_is_not_trained() -> None:
    """Training goes on with the model that was built: it begins anew, and the data does not."""
    last = resumed("kernel", known=False, trains=False).done(END - SAVE).finished()
    assert judge([first_life(END)], [first_life(KILL), last]).outcome is Outcome.MISALIGNED


def test_life_that_is_killed_at_once() -> None:
    """It has not shown which of the two it trains, but that one was read from a file."""
    short = resumed("kernel", known=False, elements=1).killed()
    last = resumed("kernel", known=False).done(END).finished()
    assert judge([first_life(END)], [first_life(KILL), short, last]).exact
