"""Buffers in the user's code: what a life had taken when it saved, a later one trains on, if it was saved too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.model import Outcome

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.model import Life

SIZE, END, EVERY = 3, 24, 6
LEFT = SIZE - 1
"""What a step leaves in the buffer."""


def life(begin: int = 0, *, kill: int | None = None, keeps: bool = True) -> Life:
    """Steps from `begin` on, each behind a buffer that is filled up to three elements.

    Args:
        begin: the step that was restored, with an iterator that is two elements ahead; 0: none.
        kill: at this element of the life; None: it runs to its end.
        keeps: what was in the buffer is restored with it.
    """
    book = Book().counts("step")
    if begin:
        book.reads(f"model/ckpt-{begin}").read("restore", step=begin).restored(begin)
    step, taken, own = begin, begin + (LEFT if begin else 0), 0
    held = LEFT if begin and keeps else 0
    while step < END and (held or taken < END):
        while held < SIZE and taken < END:
            book.read("element", step=step).train([taken], step=step)
            taken, held, own = taken + 1, held + 1, own + 1
            if own == kill:
                return book.killed()
        held, step = held - 1, step + 1
        if step % EVERY == 0:
            book.read("save", step=step).wrote(f"model/ckpt-{step}").saved(step)
    return book.read("end", step=step).done(step).finished()


@pytest.mark.parametrize("kills", [(10,), (10, 7), (10, 6), (10, 7, 8), (10, 7, 2), (10, 3, 7)])
def test_buffer_that_is_saved(kills: tuple[int, ...]) -> None:
    """Each life trains on what an earlier one had taken, also the second that does so."""
    lives, step = [], 0
    for kill in kills:
        lives.append(life(step, kill=kill))
        saved = [one for one in lives[-1].ledger.evidence.saved if one.done is not None]
        step = int(saved[-1].path.rpartition("-")[2]) if saved else step
    assert judge([life()], [*lives, life(step)]).exact


@pytest.mark.parametrize("last", [6, 12])
def test_buffer_that_is_lost(last: int) -> None:
    """What was in it is never trained on."""
    lives = [life(kill=10), *([life(6, kill=7)] if last == 12 else []), life(last, keeps=False)]
    verdict = judge([life()], lives)
    assert verdict.outcome is Outcome.MISALIGNED
    assert (verdict.life, verdict.spans[0].first, verdict.spans[0].last) == (len(lives), last, last + LEFT - 1)
