"""Which counter tells the step, where models are trained one after the other: histories made by hand."""

from __future__ import annotations

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.model import Outcome, Verdict

ELEMENTS = 12
"""Of each model."""


def search(models: int, *, close: bool) -> Verdict:
    """Of a run that trains models, each with a counter of its own, or, if nobody looked closely, with one for all."""
    book = Book()
    shown: dict[str, int] = {}
    for model in range(models):
        name = f"k#{model + 1}" if close and model else "k"
        if name not in shown:
            book.counts(name, role="model")
        for number in range(ELEMENTS):
            shown[name] = number
            if close or (not model and number < 8):
                book.read("element", **shown)
            book.train([100 * model + number], step=number, iterator=model)
        shown[name] = ELEMENTS
    life = book.read("end", **shown).done(ELEMENTS).finished()
    return judge([life], [life])


@pytest.mark.parametrize(
    ("models", "close", "outcome"),
    [(2, True, Outcome.EXACT), (3, True, Outcome.UNKNOWN), (5, True, Outcome.UNKNOWN), (3, False, Outcome.UNKNOWN)],
)
def test_models_one_after_the_other(models: int, close: bool, outcome: Outcome) -> None:
    """Two may be two fits of one model, and both their counters together are its step; more are a search."""
    verdict = search(models, close=close)
    assert verdict.outcome is outcome
    if outcome is Outcome.UNKNOWN:
        assert verdict.reason.startswith("the model's step begins anew within the reference run (several models one")
