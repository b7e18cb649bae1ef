"""Which counter tells the step, where models are trained one after the other: histories made by hand."""

from __future__ import annotations

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.model import Outcome, Verdict

ELEMENTS = 12
"""Of each model."""


def search(models: int, *, apart: bool, few: int = ELEMENTS) -> Verdict:
    """Of a run that trains models, each with a counter of its own, or with one for all.

    Args:
        models: how many.
        apart: each has a counter of its own.
        few: before so many elements all counters are read as long as there is only one.
    """
    book = Book()
    shown: dict[str, int] = {}
    for model in range(models):
        name = f"k#{model + 1}" if apart and model else "k"
        if name not in shown:
            book.counts(name, role="model")
        for number in range(ELEMENTS):
            shown[name] = number
            if (apart and model) or (not model and number < few):
                book.read("element", **shown)
            book.train([100 * model + number], step=number, iterator=model)
        shown[name] = ELEMENTS
    life = book.read("end", **shown).done(ELEMENTS).finished()
    return judge([life], [life])


@pytest.mark.parametrize(
    ("models", "apart", "few", "outcome"),
    [
        (2, True, 8, Outcome.EXACT),
        (3, True, ELEMENTS, Outcome.UNKNOWN),
        (3, True, 8, Outcome.UNKNOWN),
        (5, True, ELEMENTS, Outcome.UNKNOWN),
        (3, False, 8, Outcome.UNKNOWN),
    ],
)
def test_models_one_after_the_other(models: int, apart: bool, few: int, outcome: Outcome) -> None:
    """Two may be two fits of one model, and both their counters together are its step; more are a search."""
    verdict = search(models, apart=apart, few=few)
    assert verdict.outcome is outcome
    if outcome is Outcome.UNKNOWN:
        assert verdict.reason.startswith("the model's step begins anew within the reference run (several models one")
