"""Whether steps take the same number of elements each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.pace import Pace


def seen(sightings: list[tuple[int, int]]) -> bool:
    """Whether the pace is uneven after these."""
    pace = Pace()
    for taken, step in sightings:
        pace.sees(taken, step)
    return pace.uneven


@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 4), st.integers(1, 3))
def test_even(rate: int, first: int, ahead: int, counted: int) -> None:
    """Steps of a constant number of elements are even, sighted at each element and then at every 32nd."""
    sightings = [*range(64), *range(64, 640, 32)]
    assert not seen([(taken, first + counted * (max(0, taken - ahead) // rate)) for taken in sightings])


@pytest.mark.parametrize("sizes", [[3, 1, 2, 3, 1], [1, 1, 1, 2, 1, 1]])
def test_uneven(sizes: list[int]) -> None:
    """Steps that take more or fewer are uneven."""
    assert seen(list(enumerate(step for step, size in enumerate(sizes) for _ in range(size))))


def test_skipped_between_sightings() -> None:
    """A number of steps that was not counted is found where the step is looked at now and then."""
    assert seen([(taken, taken) for taken in range(64)] + [(96, 90), (128, 100)])
