"""Weights that have taken the place of others: a model is built, and replaced by one that is loaded from a file.

What of a life's weights is what an earlier life had is told by their names, shapes and numbers. The model that was
built first has those of the one that a new training trains, and nothing trains it here; that which was loaded has
others. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .evidence import Evidence, Weight

_Shape = tuple[int, ...]
_GONE = "replaced: "


def in_their_places(mine: Evidence, reference: Evidence) -> Evidence:
    """What a life showed, with the names of a new training for the weights that are trained in place of its own.

    Args:
        mine: what a life showed.
        reference: what the run that nobody killed did.
    """
    ways = (_applied, _changed, _known)  # a life that is killed early has not shown what it trains
    pairs = next((found for way in ways if (found := _pairs(mine, way(mine), reference, way(reference)))), ())
    if not pairs:
        return mine
    weights = list(mine.weights)
    for old, successor in pairs:
        theirs, its = mine.weights[old], mine.weights[successor]
        weights[old] = replace(theirs, name=f"{_GONE}{theirs.name}")
        weights[successor] = _named(its, theirs)
    gone = {old for old, _ in pairs}
    looks = tuple(
        replace(look, values={number: value for number, value in look.values.items() if number not in gone})
        for look in mine.looks
    )
    return replace(mine, weights=tuple(weights), looks=looks)


def _pairs(mine: Evidence, ours: set[int], reference: Evidence, theirs: set[int]) -> list[tuple[int, int]]:
    """The places of weights that nothing trains here, and of those that are trained in their place."""
    trained = {reference.weights[number].identity for number in theirs}
    idle = set(range(len(mine.weights))) - ours - _changed(mine)
    left = _by_shape(mine, {number for number in idle if mine.weights[number].identity in trained})
    new = _by_shape(mine, {number for number in ours if mine.weights[number].identity not in trained})
    return [
        (old, successor)
        for shape, numbers in left.items()
        if len(numbers) == len(new.get(shape, ()))
        for old, successor in zip(numbers, new[shape], strict=True)
    ]


def _named(weight: Weight, other: Weight) -> Weight:
    return replace(weight, name=other.name, ordinal=other.ordinal)


def _by_shape(evidence: Evidence, numbers: set[int]) -> Mapping[_Shape, list[int]]:
    """Some places in `Evidence.weights`, in their order."""
    found: dict[_Shape, list[int]] = {}
    for number in sorted(numbers):
        found.setdefault(evidence.weights[number].shape, []).append(number)
    return found


def _applied(evidence: Evidence) -> set[int]:
    """The places of TensorFlow's variables that an optimizer is applied to."""
    return {number for number, weight in enumerate(evidence.weights) if weight.applied and not weight.function}


def _changed(evidence: Evidence) -> set[int]:
    """Of those that change."""
    seen: dict[int, set[int]] = {}
    for look in evidence.looks:
        for number, value in look.values.items():
            seen.setdefault(number, set()).add(value)
    return {number for number, values in seen.items() if len(values) > 1 and not evidence.weights[number].function}


def _known(evidence: Evidence) -> set[int]:
    """Of those that are known to be a part of the state."""
    return {number for number, weight in enumerate(evidence.weights) if weight.known and not weight.function}


__all__ = ["in_their_places"]
