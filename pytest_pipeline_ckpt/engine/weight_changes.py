"""Whether the weights change behind the elements of a stream: what trains them does, whatever counts steps. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from .model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import Look
    from .indexed import Indexed, IntArray


def trains_by_values(life: Indexed, rows: IntArray, main: IntArray) -> bool:
    """Whether the weights change behind most uses of some iterators, as steps change them, and by no step of others.

    The step of an element that was taken before may come behind a use: then nobody knows what changed them, unless they
    change again and again within it. A batch for validation changes none, however many are taken at a time; nor are
    metrics weights, which it changes.

    Args:
        life: a run that nobody killed.
        rows: the iterators that are asked for.
        main: those that are known to train.
    """
    looks = {life.taken_before(look.at): look for look in life.evidence.looks if look.why == "element"}
    state = {number for number, weight in enumerate(life.evidence.weights) if weight.known}
    trained = _changed_by_most(looks, _places(life, main)) & state
    steps = _steps(life)
    due = _most_between(steps, _places(life, main))
    known = looks.keys() & steps.keys()
    alike = []
    for first, last in _runs(_places(life, rows)):
        if {first, last + 1} <= known and not 0 < steps[last + 1] - steps[first] <= due:
            alike.append(_is_most_of(_changed(looks, first, last + 1), trained))
        elif last - first > 1:
            within = [place for place in range(first, last) if {place, place + 1} <= known]
            idle = [place for place in within if steps[place] == steps[place + 1]]
            alike.append(sum(_is_most_of(_changed(looks, place, place + 1), trained) for place in idle) > 1)
    return 2 * sum(alike) > len(alike)


def _is_most_of(changed: set[int], trained: set[int]) -> bool:
    return bool(trained) and 2 * len(changed & trained) >= len(trained)


def _places(life: Indexed, rows: IntArray) -> IntArray:
    """The places of the elements of some iterators among all of a life."""
    found: IntArray = np.searchsorted(life.elements, life.elements_of(rows))
    return found


def _runs(places: IntArray) -> list[tuple[int, int]]:
    """The first and the last of those that follow each other."""
    ends = np.flatnonzero(np.diff(places) > 1)
    first, last = places[np.concatenate(([0], ends + 1))], places[np.concatenate((ends, [len(places) - 1]))]
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _steps(life: Indexed) -> dict[int, int]:
    """The model's progress directly before the elements, by their places, where it is known."""
    events = life.events
    known = np.flatnonzero((events.kind == Kind.STEP) & (events.step >= 0))
    places = np.searchsorted(life.elements, events.at[known])
    return dict(zip(places.tolist(), events.progress[known].tolist(), strict=True))


def _most_between(steps: Mapping[int, int], places: IntArray) -> int:
    """How many steps are made at most between two elements that follow each other."""
    mine = set(places.tolist())
    pairs = [place for place in mine if place + 1 in mine and {place, place + 1} <= steps.keys()]
    return max((steps[place + 1] - steps[place] for place in pairs), default=1)


def _changed(looks: Mapping[int, Look], place: int, behind: int) -> set[int]:
    before, after = looks[place].values, looks[behind].values
    return {number for number, value in before.items() if after.get(number, value) != value}


def _changed_by_most(looks: Mapping[int, Look], places: IntArray) -> set[int]:
    """What changed behind at least half of some elements."""
    seen = [_changed(looks, place, place + 1) for place in places.tolist() if {place, place + 1} <= looks.keys()]
    counts = Counter(number for one in seen for number in one)
    return {number for number, times in counts.items() if 2 * times >= len(seen)}


__all__ = ["trains_by_values"]
