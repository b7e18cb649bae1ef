"""What the values of weights tell of how a resumed run ended, on histories made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from histories_builder import VALID, Book

from pytest_pipeline_ckpt.engine.final_values import compared
from pytest_pipeline_ckpt.engine.weight_differences import Compared, Difference

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.model import Life

END = 6


def life(begin: int = 0, *, saved: tuple[int, ...] = (3, END), known: bool = True, off: int = 0) -> Life:
    """Elements `begin` to 5, looked at before the first two, and saved behind some; weights are `off` what they are."""
    book = Book().weighs("w", known=known).weighs("log", known=False)
    for number in range(begin, END):
        if number < begin + 2:
            book.looks("element", w=number + off, log=number)
        book.train([number], step=number)
        if number + 1 in saved:
            book.looks("save", w=number + 1 + off, log=number + 1 - begin)
    return book.done(END).finished()


def unlike(*names: str, of: int) -> Compared:
    """So many arrays, these of which differ."""
    return Compared(of, (), tuple(Difference("values", name) for name in names))


@pytest.mark.parametrize("begin", [0, 2, 4])
def test_the_last_save(begin: int) -> None:
    """The last moment at which both were looked at is compared; only of what is known to be a weight."""
    assert compared(life(begin), life(), (), unknown=False) == unlike(of=1)
    assert compared(life(begin, off=9), life(), (), unknown=False) == unlike("w", of=1)


def test_what_may_be_a_weight() -> None:
    """Arrays that no save is known to have count where they are asked for."""
    assert compared(life(2), life(), (), unknown=True) == unlike("log", of=2)


def test_known_to_either() -> None:
    """A life that saves in its last moment has not been seen to save anything."""
    assert compared(life(2, known=False, off=9), life(), (), unknown=False) == unlike("w", of=1)


def test_what_was_just_restored() -> None:
    """Before its first element a life has what it has restored: that is alike whatever it does with it."""
    assert compared(life(1, saved=(), off=9), life(saved=()), (), unknown=False) == Compared(0, (), ())


def test_no_moment_in_common() -> None:
    """A resumed life that saves at other elements than the reference run, and begins late, tells nothing."""
    assert compared(life(3, saved=(5,)), life(), (), unknown=False) == Compared(0, (), ())


def test_the_same_kind_of_moment() -> None:
    """What is saved may not have been trained on the last element: a save is not compared with an element."""
    assert compared(life(3, saved=()), life(saved=(4,)), (), unknown=False) == Compared(0, (), ())


def test_streams_that_do_not_train() -> None:
    """Elements for validation are not counted."""

    def validated(number: int) -> Life:
        book = Book().weighs("w")
        for value in range(4):
            book.looks("element", w=value).train([value], step=value)
        for value in range(number):
            book.element(value, key=VALID, iterator=1)
        return book.done(4).finished()

    assert compared(validated(3), validated(0), (), unknown=False) != unlike(of=1)
    assert compared(validated(3), validated(0), (VALID,), unknown=False) == unlike(of=1)
