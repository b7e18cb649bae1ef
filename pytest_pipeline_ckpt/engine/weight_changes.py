"""Whether the weights change by the elements of a stream: what trains them does, whatever counts steps. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import Look
    from .indexed import Indexed, IntArray


def trains_by_values(life: Indexed, rows: IntArray, main: IntArray) -> bool:
    """Whether the weights change within most uses of some iterators, between their elements, as steps change them.

    Not from before a use to behind it: the step of an element that was taken before may come behind it, and averages
    may be swapped in for it. A batch for validation changes none; nor are metrics weights, which it changes.

    Args:
        life: a run that nobody killed.
        rows: the iterators that are asked for.
        main: those that are known to train.
    """
    looks = {life.taken_before(look.at): look for look in life.evidence.looks if look.why == "element"}
    state = {number for number, weight in enumerate(life.evidence.weights) if weight.known}
    trained = _changed_by_most(looks, _places(life, main)) & state
    runs = [run for run in _runs(_places(life, rows)) if set(run) <= looks.keys()]
    uses = [(first, last) for first, last in runs if first < last]
    alike = [use for use in uses if trained and 2 * len(_changed(looks, *use) & trained) >= len(trained)]
    return 2 * len(alike) > len(uses)


def _places(life: Indexed, rows: IntArray) -> IntArray:
    """The places of the elements of some iterators among all of a life."""
    found: IntArray = np.searchsorted(life.elements, life.elements_of(rows))
    return found


def _runs(places: IntArray) -> list[tuple[int, int]]:
    """The first and the last of those that follow each other."""
    ends = np.flatnonzero(np.diff(places) > 1)
    first, last = places[np.concatenate(([0], ends + 1))], places[np.concatenate((ends, [len(places) - 1]))]
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _changed(looks: Mapping[int, Look], place: int, behind: int) -> set[int]:
    before, after = looks[place].values, looks[behind].values
    return {number for number, value in before.items() if after.get(number, value) != value}


def _changed_by_most(looks: Mapping[int, Look], places: IntArray) -> set[int]:
    """What changed behind at least half of some elements."""
    seen = [_changed(looks, place, place + 1) for place in places.tolist() if {place, place + 1} <= looks.keys()]
    counts = Counter(number for one in seen for number in one)
    return {number for number, times in counts.items() if 2 * times >= len(seen)}


__all__ = ["trains_by_values"]
