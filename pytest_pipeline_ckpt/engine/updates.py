"""A counter where the training shows none: how often its weights have changed. Pure.

A step that is only in the name of a file, or in a loop's variable of any name, cannot be read. But the weights that are
saved change with each step, and a resumed life begins with what they were at some moment of an earlier one
(`by_value`): there the count goes on. It is known while the weights are looked at before each element, and at later
saves if it has been regular until then.
"""

from __future__ import annotations

import itertools
from collections import Counter as Multiset
from dataclasses import replace
from typing import TYPE_CHECKING

from .by_value import values_of
from .evidence import Counter, Reading
from .indexed import index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .indexed import Indexed
    from .model import Life
    from .whereabouts import Place

NAME = "updates of the weights"
_FEW = 4
"""Fewer updates are no count."""

_Identity = tuple[object, ...]
_Moment = tuple[int, bool]
"""How many elements had been taken, and whether something was about to be saved."""


def counted(references: Sequence[Life], lives: Sequence[Life]) -> tuple[list[Life], list[Life]] | None:
    """The lives with that counter in their evidence; None: the weights do not tell.

    Args:
        references: runs that nobody killed.
        lives: of a trial, in their order.
    """
    runs = [index(life) for life in references]
    weight = _which(runs[0])
    if weight is None:
        return None
    right = [_with_readings(run, _counts(run, weight, 0)) for run in runs]
    indexed = [index(life) for life in lives]
    mine: list[Life] = []
    known: list[Mapping[_Moment, int]] = []
    begun: list[Sequence[Place]] = []
    for number, life in enumerate(indexed):
        begun.append(_begins(runs[0], indexed[: number + 1], begun) if number else ())
        base = _base(begun[-1], known) if number else 0
        known.append({} if base is None else _counts(life, weight, base))
        mine.append(_with_readings(life, known[-1]))
    return right, mine


def _which(run: Indexed) -> _Identity | None:
    """The weight that is saved and changes most often from one element to the next, if that is often enough."""
    evidence = run.evidence
    changes: Multiset[_Identity] = Multiset()
    for look, after in itertools.pairwise(evidence.looks):
        if run.taken_before(after.at) - run.taken_before(look.at) > 1:
            break
        for number, value in after.values.items():
            weight = evidence.weights[number]
            if weight.known and look.values.get(number, value) != value:
                changes[weight.identity] += 1
    found = changes.most_common(1)
    return found[0][0] if found and found[0][1] >= _FEW else None


def _begins(reference: Indexed, lives: Sequence[Indexed], begun: Sequence[Sequence[Place]]) -> Sequence[Place]:
    """The moments of earlier lives with whose weights the last one begins."""
    firsts = [int(life.elements[0]) if len(life.elements) else len(life.life.ledger.records) for life in lives]
    return values_of(reference, lives, begun, firsts).corroborated(()).places


def _base(places: Sequence[Place], known: Sequence[Mapping[_Moment, int]]) -> int | None:
    """How many updates there had been at the first of some moments; None: nobody has counted."""
    if not places:
        return None
    return known[places[0].life - 1].get((places[0].taken, places[0].saving)) if places[0].life else 0


def _counts(life: Indexed, weight: _Identity, base: int) -> dict[_Moment, int]:
    """The updates at each look, as far as they are known.

    Args:
        life: is looked at.
        weight: whose changes are counted.
        base: updates before the life.
    """
    evidence = life.evidence
    number = next((number for number, one in enumerate(evidence.weights) if one.identity == weight), None)
    counts: dict[_Moment, int] = {}
    changed: list[int] = []
    last: tuple[int, int] | None = None
    """Elements taken, and the value, at the last look of those before each element."""
    for look in evidence.looks:
        if number is None or number not in look.values:
            continue
        taken, value = life.taken_before(look.at), look.values[number]
        if last is None or taken - last[0] <= 1:
            changed += [taken] if last is not None and value != last[1] else []
            last = taken, value
            counts[taken, look.why == "save"] = base + len(changed)
        elif (pace := _pace(changed)) is not None:
            counts[taken, look.why == "save"] = base + len(changed) + (taken - changed[-1]) // pace
    return counts


def _pace(changed: Sequence[int]) -> int | None:
    """How many elements an update takes, if that is always the same."""
    gaps = {after - before for before, after in itertools.pairwise(changed)}
    return gaps.pop() if len(gaps) == 1 and len(changed) >= _FEW else None


def _with_readings(life: Indexed, counts: Mapping[_Moment, int]) -> Life:
    """A life that shows the counter, beside what it shows anyway."""
    evidence = life.evidence
    readings = {(one.at, one.why): one for one in evidence.readings}
    for look in evidence.looks:
        count = counts.get((life.taken_before(look.at), look.why == "save"))
        if count is not None:
            shown = readings.get((look.at, look.why), Reading(look.at, look.why, {}))
            readings[look.at, look.why] = replace(shown, values={**shown.values, NAME: count})
    counters = (*evidence.counters, Counter(NAME, "model", "the values of the weights"))
    ordered = tuple(sorted(readings.values(), key=lambda one: one.at))
    evidence = replace(evidence, counters=counters, readings=ordered)
    return replace(life.life, ledger=replace(life.life.ledger, evidence=evidence))


__all__ = ["NAME", "counted"]
