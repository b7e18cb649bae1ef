"""What the weights of earlier lives were seen to be, and when. Pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from .whereabouts import BEGINNING, Place, place_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .evidence import Evidence, Look, Weight
    from .indexed import Indexed

Identity = tuple[str, str, tuple[int, ...], int]
ABSENT = -1
"""Instead of a hash: what a variable holds now and then (sums of gradients) is not there."""


class History:
    """What earlier lives were seen to have.

    Args:
        lives: in their order.
        begun: for each where its own model was when it began.
        firsts: for each how many records its ledger had when it took its first element that trains.
        fleeting: arrays that are there now and then.
    """

    def __init__(
        self,
        lives: Sequence[Indexed],
        begun: Sequence[Sequence[Place]],
        firsts: Sequence[int],
        fleeting: Mapping[Identity, Weight],
    ) -> None:
        self._by_identity: dict[Identity, dict[int, list[Place]]] = {}
        self._by_shape: dict[tuple[tuple[int, ...], int], list[tuple[Identity, Place]]] = {}
        self._seen: dict[Identity, set[tuple[int, int]]] = {}
        self._saved: dict[Identity, set[tuple[int, int]]] = {}
        self._known: set[Identity] = set()
        self._applied: set[Identity] = set()
        self._fleeting = fleeting
        for number, (life, at_first, first) in enumerate(zip(lives, begun, firsts, strict=True), 1):
            evidence = life.evidence
            self._known.update(one.identity for one in evidence.weights if one.known)
            self._applied.update(one.identity for one in evidence.weights if one.applied)
            for look in evidence.looks:
                place = place_at(number, lives, look.at, saving=look.why == "save")
                begins = [BEGINNING] if number == 1 else [*at_first, place]
                self._add(evidence, look, begins if look.at <= first or look.why == "apply" else [place])

    def _add(self, evidence: Evidence, look: Look, places: Sequence[Place]) -> None:
        for number, value in look.values.items():
            weight = evidence.weights[number]
            self._by_identity.setdefault(weight.identity, {}).setdefault(value, []).extend(places)
            self._by_shape.setdefault((weight.shape, value), []).extend((weight.identity, one) for one in places)
            self._seen.setdefault(weight.identity, set()).update(map(moment, places))
            if look.why == "save":
                self._saved.setdefault(weight.identity, set()).update(map(moment, places))
        if look.why == "element":
            for identity in self._fleeting.keys() - {evidence.weights[number].identity for number in look.values}:
                self._by_identity.setdefault(identity, {}).setdefault(ABSENT, []).extend(places)
                self._seen.setdefault(identity, set()).update(map(moment, places))

    def places(self, weight: Weight, value: int) -> tuple[Place, ...]:
        """When an array had a value, or else another of its shape; the latest first."""
        found = self.own_places(weight, value)
        return found or tuple(reversed([place for _, place in self._by_shape.get((weight.shape, value), [])]))

    def places_of(self, weight: Weight, value: int, now: Mapping[Identity, int], *, trained: bool) -> tuple[Place, ...]:
        """The same without what another one had while this was something else, and still has: a copy was not this.

        If that one is something else now, the two may have changed places.

        Args:
            weight: the array.
            value: its hash.
            now: what all arrays are now.
            trained: whether this one is changed by each step; else one that has changed less often is the copy.
        """
        found = self.own_places(weight, value)
        if found:
            return found
        mine, seen = weight.identity, self._seen.get(weight.identity, set())
        kept = [
            place
            for other, place in self._by_shape.get((weight.shape, value), [])
            if moment(place) not in seen
            or now.get(other, value) != value
            or not (trained or len(self._by_identity[mine]) > len(self._by_identity[other]))
        ]
        return tuple(reversed(kept))

    def own_places(self, weight: Weight, value: int) -> tuple[Place, ...]:
        """When an array itself had a value; the latest first."""
        return tuple(reversed(self._by_identity.get(weight.identity, {}).get(value, [])))

    def changes(self, weight: Weight) -> bool:
        """Whether an array was seen to change."""
        return len(self._by_identity.get(weight.identity, {})) > 1

    def knows(self, weight: Weight) -> bool:
        """Whether an array is known to be a part of the state."""
        return weight.known or weight.identity in self._known

    def is_shaped(self, weight: Weight) -> bool:
        """Whether an array of this one's shape is known to be a part of the state, perhaps itself."""
        return weight.known or any(shape == weight.shape for _, _, shape, _ in self._known)

    def is_applied(self, weight: Weight) -> bool:
        """Whether an optimizer is known to be applied to an array: a life that is killed early has not shown it."""
        return weight.applied or weight.identity in self._applied

    def is_copy(self, weight: Weight) -> bool:
        """Whether all values of an array but the first are those that another one had had before."""
        mine = self._by_identity.get(weight.identity, {})
        for identity, values in self._by_identity.items():
            if identity == weight.identity or identity[2] != weight.shape or len(values) <= len(mine):
                continue
            later = (value for value, places in mine.items() if places[0].life)
            if all(value in values and moment(values[value][0]) <= moment(mine[value][0]) for value in later):
                return True
        return False

    def seen(self, weight: Weight) -> frozenset[tuple[int, int]]:
        """When somebody looked at an array."""
        return frozenset(self._seen.get(weight.identity, ()))

    def saved(self, weight: Weight) -> frozenset[tuple[int, int]]:
        """When somebody looked at an array because something was saved."""
        return frozenset(self._saved.get(weight.identity, ()))


def fleeting(lives: Sequence[Indexed]) -> dict[Identity, Weight]:
    """Arrays in variables of functions that were there, were not, and were there again before elements."""
    found = {}
    for life in lives:
        evidence = life.evidence
        looks = [one.values for one in evidence.looks if one.why == "element"]
        for number, weight in enumerate(evidence.weights):
            there = [number in values for values in looks]
            changes = [after for before, after in itertools.pairwise(there) if before != after]
            if weight.function and False in changes and True in changes[changes.index(False) :]:
                found[weight.identity] = weight
    return found


def begun_alike(one: Evidence, other: Evidence) -> set[Identity]:
    """The arrays with which two new trainings began alike: with a seed, or with what does not need one."""
    begun = [
        {
            evidence.weights[number].identity: value
            for look in reversed(evidence.looks)
            for number, value in look.values.items()
        }
        for evidence in (one, other)
    ]
    return {identity for identity, value in begun[0].items() if begun[1].get(identity) == value}


def moment(place: Place) -> tuple[int, int]:
    """What is the same for the same moment: a new training is the first life's beginning."""
    return max(place.life, 1), place.taken


__all__ = ["ABSENT", "History", "Identity", "begun_alike", "fleeting", "moment"]
