"""Which moment of earlier lives the weights have the values of with which a life began to train. Pure.

The strongest evidence that there is: it depends neither on how weights are stored nor on what the user's code calls a
step. It says nothing where values are none that an earlier life was seen to have: of another dtype, of another shape,
or of a moment at which nobody looked.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .evidence import Look
from .weight_history import ABSENT, History, begun_alike, fleeting, moment
from .whereabouts import BEGINNING, place_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .evidence import Evidence, Weight
    from .indexed import Indexed
    from .weight_history import Identity
    from .whereabouts import Place

_NEAR = 2
"""Elements; a step that takes more is told by what it takes."""


@dataclass(frozen=True, slots=True)
class Found:
    """An array that is trained, and when an earlier life had the value with which a life began."""

    weight: Weight
    places: tuple[Place, ...]
    """The latest first."""
    seen: frozenset[tuple[int, int]]
    """All moments at which somebody looked at it: lives, and elements taken by them."""
    known: bool
    """Whether it is known to be a part of the state: an earlier life has saved it, or an optimizer is applied to it."""
    applied: bool
    """Whether an optimizer is applied to it, in this life or in an earlier one."""
    copy: bool
    """Whether it only ever has what another one has had before: what is to be saved, the best so far."""
    stranger: bool = False
    """Whether it began with a value that nobody has seen, because it was drawn without a seed."""

    @property
    def new(self) -> bool:
        """Whether it is as it was in a new training, and perhaps later too."""
        return any(place.life == 0 for place in self.places)

    def before_elements(self) -> Found:
        """The same with the moments only that are before an element."""
        return replace(self, places=tuple(place for place in self.places if not place.saving))

    def is_of(self, places: Iterable[Place]) -> bool:
        """Whether it had the value at one of some moments."""
        return not {moment(place) for place in self.places}.isdisjoint(moment(place) for place in places)

    def differs_at(self, places: Collection[Place]) -> bool:
        """Whether it was seen to have other values at some moments."""
        return not self.is_of(places) and not self.seen.isdisjoint(moment(place) for place in places)


@dataclass(frozen=True, slots=True)
class Stranger:
    """An array that began with a value that it was never seen to have: drawn anew, rounded, or not what was saved."""

    found: Found
    """Without a moment."""
    saved: frozenset[tuple[int, int]]
    """The moments of saves at which somebody looked at it, unless its numbers are rounded."""
    shaped: bool
    """Whether an array of its shape is known to be a part of the state."""
    drawn: bool
    """Whether it may have been drawn without a seed: a new training has one value now and another one then."""

    @property
    def state(self) -> bool:
        """Whether it is known to be a part of the state."""
        return self.found.known and not self.found.copy


@dataclass(frozen=True, slots=True)
class Values:
    """What the values of the weights say of where a life's model was when it began to train."""

    places: tuple[Place, ...] = ()
    """The moments at which they were these, the latest first; if at none together, those of the most."""
    found: tuple[Found, ...] = ()
    at_elements: tuple[Place, ...] = ()
    """Those of the moments that are before an element."""
    behind: int | None = None
    """How many elements saved weights are behind what had been taken; None: nobody has looked at them beside a save."""
    strangers: tuple[Stranger, ...] = ()

    def corroborated(self, places: Collection[Place]) -> Values:
        """The same if something else tells the moment that the rest of the weights has: what is drawn began anew then.

        If nothing does, and one of the strangers is a part of the state, nothing is told: all may have been rounded.
        """
        if not self.strangers:
            return self
        told = {moment(one) for one in places} & {moment(one) for one in self.places}
        state = [one.found for one in self.strangers if one.state]
        if len(told) != 1 or any(told.isdisjoint(one.seen) for one in state):
            return Values(strangers=self.strangers) if state else self
        drawn = [one.found for one in self.strangers if one.drawn and not told.isdisjoint(one.found.seen)]
        anew = [replace(one, places=(BEGINNING,), stranger=True) for one in drawn]
        return replace(
            self,
            places=tuple(one for one in self.places if moment(one) in told),
            found=(*self.found, *anew),
        )

    def exactly(self, place: Place, lives: Sequence[Indexed]) -> Place:
        """The only moment before an element, near one, at which the weights were what they were then; else that one.

        What a save finds may be from before the last element was trained on; how many elements the model had been
        trained on before an element does not depend on when its step is counted, or saved. Where the weights have been
        the same for a while they do not tell. Where nobody looked, it is as at the saves at which somebody did.
        """
        near = {
            moment(one): one
            for one in self.at_elements
            if one.life == place.life and abs(place.taken - one.taken) <= _NEAR
        }
        if len(near) == 1:
            return next(iter(near.values()))
        if near or self.behind is None or not place.saving or place.taken < self.behind:
            return place
        life = lives[place.life - 1]
        taken = place.taken - self.behind
        at = int(life.elements[taken]) if taken < len(life.elements) else len(life.life.ledger.records)
        return place_at(place.life, lives, at, saving=False)

    def apart(self, places: Collection[Place]) -> list[Found]:
        """The weights that have not the values of some moments.

        What no optimizer is applied to may be made anew on purpose, although it is saved: a sum of results, a log. Of
        an array in a file that is written by hand nobody knows what is applied to it: the final weights tell.
        """
        known = (one for one in self.found if one.known and not one.copy and one.differs_at(places))
        return [one for one in known if one.applied or not one.new]

    def beside(self, places: Collection[Place]) -> list[Found]:
        """The same of what is not saved, and may be a weight, or is none; and of arrays that are saved, and are new.

        A copy that is of another moment may have been written over before anybody read it; one that is new was not.
        """
        apart = [one for one in self.found if not one.copy or one.new]
        mine = (
            one
            for one in apart
            if one.weight.function or one.stranger or (one.weight.users and (one.copy or not one.known))
        )
        apart = [one for one in mine if one.differs_at(places)]
        return [one for one in apart if not one.known or (one.new and not one.applied)]

    def may_be_weights(self, one: Found) -> bool:
        """Whether an array is saved, or has the shape of one that is, as sums of its gradients have; a log has not.

        What lies in one tree with an array that is saved is a part of the same model.
        """
        saved = [other.weight for other in self.found if other.known and other.weight is not one.weight]
        tree = one.weight.tree
        return one.known or any(one.weight.shape == other.shape or (tree and tree == other.tree) for other in saved)

    def made_anew(self, places: Collection[Place]) -> list[Found]:
        """The same of what is saved, and may be made anew on purpose."""
        apart = self.apart(places)
        known = (one for one in self.found if one.known and not one.copy and one.differs_at(places))
        return [one for one in known if one not in apart and not one.weight.function]

    def other_than_saved(self, places: Collection[Place]) -> list[Found]:
        """What is saved, and began with something else than it was when it was looked at because of that.

        What may have been drawn, beside what has a moment, has begun anew.
        """
        state = (one for one in self.strangers if one.shaped and not one.found.copy)
        other = (one for one in state if not (one.drawn and self.places))
        return [one.found for one in other if places and all(moment(place) in one.saved for place in places)]

    @property
    def looked_at(self) -> set[str]:
        """The names of all of them."""
        return {one.weight.name for one in (*self.found, *(one.found for one in self.strangers))}

    def cleared(self, places: Collection[Place]) -> set[str]:
        """The names of those that have the values of some moments."""
        return {one.weight.name for one in self.found if one.is_of(places)}


def _behind(lives: Sequence[Indexed]) -> int | None:
    """How many elements saved weights are behind what had been taken, if that is the same at all saves.

    Told by those at which the weights were looked at before the last element, and behind it.
    """
    found = set()
    for life in lives:
        evidence = life.evidence
        known = [number for number, weight in enumerate(evidence.weights) if weight.known]
        at = {life.taken_before(look.at): look for look in evidence.looks if look.why == "element"}
        for look in evidence.looks:
            taken = life.taken_before(look.at)
            if look.why != "save" or not {taken - 1, taken} <= at.keys():
                continue
            for number in known:
                before, saved, behind = (one.values.get(number) for one in (at[taken - 1], look, at[taken]))
                if before != behind and saved in (before, behind) and saved is not None:
                    found.add(int(saved == before))
    return found.pop() if len(found) == 1 else None


def values_of(
    reference: Indexed, lives: Sequence[Indexed], begun: Sequence[Sequence[Place]], firsts: Sequence[int]
) -> Values:
    """What the weights of the last of some lives say.

    Args:
        reference: the run that nobody killed.
        lives: in their order.
        begun: for each but the last where its own model was when it began, as far as that is known.
        firsts: for each how many records its ledger had when it took its first element that trains.
    """
    mine, now_and_then = lives[-1].evidence, fleeting([reference, *lives[:-1]])
    history = History(lives[:-1], begun, firsts[:-1], now_and_then)
    looks: Sequence[Look] = _before_it_was_trained(mine, firsts[-1])
    if not looks:
        return Values()
    looks = _since_they_were_restored(lives[-1], looks, history)
    now = {mine.weights[number].identity: value for number, value in looks[0].values.items()}
    alike = begun_alike(reference.evidence, lives[0].evidence)
    found, strangers = [], []
    for number, value in looks[0].values.items():
        weight = mine.weights[number]
        if not (history.changes(weight) or any(one.values.get(number, value) != value for one in mine.looks)):
            continue
        places = history.places_of(weight, value, now, trained=_is_trained(number, looks))
        told = (history.seen(weight), history.knows(weight), history.is_applied(weight), history.is_copy(weight))
        if not places:
            saved = frozenset() if number in looks[0].rounded else history.saved(weight)
            drawn = weight.identity not in alike and not history.places(weight, value)
            strangers.append(Stranger(Found(weight, (), *told), saved, history.is_shaped(weight), drawn))
        elif not weight.function or _goes_on(number, weight, looks, lives[-1], history):
            found.append(Found(weight, places, *told))
    # What is not saved tells something only if it was restored all the same: it is not what it is in a new training.
    weights = [one for one in found if one.known and not one.copy] or [one for one in found if not one.new]
    common = _common(weights)
    if not weights:
        return Values(strangers=tuple(strangers))
    found += _gone(now_and_then, now, history)
    if not common and not weights[0].known:
        return Values(found=tuple(found))
    places = tuple(common or _most(weights))
    at_elements = tuple(_common([one.before_elements() for one in weights]))
    return Values(places, tuple(found), at_elements, _behind([reference, *lives[:-1]]), tuple(strangers))


def _gone(now_and_then: Mapping[Identity, Weight], now: Collection[Identity], history: History) -> Iterator[Found]:
    """Of the arrays that are there now and then, and are not saved, those that are not there now."""
    for identity, weight in now_and_then.items():
        if identity not in now and not history.knows(weight):
            places = history.own_places(weight, ABSENT)
            yield Found(weight, places, history.seen(weight), False, history.is_applied(weight), False)


def _is_trained(number: int, looks: Sequence[Look]) -> bool:
    """Whether the life's first step has changed an array."""
    value = looks[0].values[number]
    return len(looks) > 1 and looks[1].values.get(number, value) != value


def _before_it_was_trained(mine: Evidence, first: int) -> list[Look]:
    """The looks at elements, the first of them at what the weights were before any step; none: nobody has looked then.

    A model that is built in its first step has no weights before; they were looked at when they were applied first.
    """
    looks = [one for one in mine.looks if one.why == "element"]
    built = {
        number: value for one in reversed(mine.looks) if one.why == "apply" for number, value in one.values.items()
    }
    rounded = frozenset(number for one in mine.looks if one.why == "apply" for number in one.rounded)
    if looks and looks[0].at <= first:
        both = looks[0].rounded | (rounded - looks[0].values.keys())
        return [replace(looks[0], values={**built, **looks[0].values}, rounded=both), *looks[1:]]
    return [Look(first, "element", built, rounded), *looks] if built else []


def _since_they_were_restored(life: Indexed, looks: Sequence[Look], history: History) -> Sequence[Look]:
    """The looks without those at new weights, if others were restored later: a sample may be taken to build a model."""
    mine = life.evidence
    first = ((mine.weights[key], value) for key, value in looks[0].values.items())
    known = [history.places(weight, value) for weight, value in first if history.knows(weight)]
    if not any(place.life == 0 for places in known for place in places):
        return looks
    for number, (look, after) in enumerate(itertools.pairwise(looks), 1):
        for key, value in after.values.items():
            weight = mine.weights[key]
            was = look.values.get(key)
            if was is None or was == value or not history.knows(weight):
                continue
            before, then = history.places(weight, was), history.places(weight, value)
            if before and then and not _follows(before, then, number=_between(life, look, after)):
                return looks[number:]
    return looks


def _goes_on(number: int, weight: Weight, looks: Sequence[Look], life: Indexed, history: History) -> bool:
    """Whether an array changes as weights do: what it is next is not what it was at quite another moment: data is."""
    value = looks[0].values[number]
    changed = next((one for one in looks if one.values.get(number, value) != value), None)
    if changed is None:
        return True
    new = history.own_places(weight, changed.values[number])
    return not new or _follows(history.places(weight, value), new, number=_between(life, looks[0], changed))


def _between(life: Indexed, look: Look, after: Look) -> int:
    """How many elements a life has taken between two looks."""
    first, last = np.searchsorted(life.elements, (look.at, after.at))
    return int(last - first)


def _follows(old: Collection[Place], new: Collection[Place], *, number: int) -> bool:
    """Whether some moments come at most so many elements after others."""
    pairs = itertools.product(old, new)
    return any(max(a.life, 1) <= b.life and (b.life > max(a.life, 1) or b.taken - a.taken <= number) for a, b in pairs)


def _common(weights: Sequence[Found]) -> list[Place]:
    """The moments of all of them."""
    if not weights:
        return []
    others = [{moment(place) for place in one.places} for one in weights[1:]]
    found = {moment(place): place for place in reversed(weights[0].places)}
    return [place for key, place in reversed(found.items()) if all(key in other for other in others)]


def _most(weights: Sequence[Found]) -> list[Place]:
    """The moments of as many of them as possible."""
    counts: dict[tuple[int, int], int] = {}
    places: dict[tuple[int, int], Place] = {}
    for one in weights:
        for place in {moment(place): place for place in one.places}.values():
            counts[moment(place)] = counts.get(moment(place), 0) + 1
            places[moment(place)] = place
    most = max(counts.values())
    latest = max(key for key, number in counts.items() if number == most)
    return [places[latest]]


__all__ = ["Found", "Values", "values_of"]
