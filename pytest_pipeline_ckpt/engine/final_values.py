"""How the weights of a resumed run differ from the reference run's, by what was seen of their values. Pure.

Whatever the format of the checkpoints: the last moment is compared at which somebody looked in both runs. Only hashes
are known, so a difference has no size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .model import Kind
from .weight_differences import Compared, Difference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .evidence import Look, Weight
    from .model import Life

_Identity = tuple[object, ...]
_NOTHING = Compared(0, (), ())


def compared(last: Life, reference: Life, ignored: Collection[str], *, unknown: bool) -> Compared:
    """What is alike, and what differs, at the last moment that was looked at in both.

    Lives whose elements are exact end alike, so the same number of training elements to come is the same moment. What
    the last life has before its first element it has just restored.

    Args:
        last: the life that ran to its end.
        reference: the run that nobody killed.
        ignored: keys of the streams that do not train.
        unknown: whether arrays count that are not known to be weights.
    """
    if last.gang or reference.gang:
        return _NOTHING
    seen = {(one.why, left): one for one, _, left in _looks(reference, ignored)}
    for look, taken, left in reversed(_looks(last, ignored)):
        its = seen.get((look.why, left))
        if its is not None and taken:
            changed = _changed(reference)
            right = {identity: one for identity, one in _named(reference, its).items() if identity in changed}
            return _differences(_named(last, look), right, unknown=unknown)
    return _NOTHING


def _looks(life: Life, ignored: Collection[str]) -> list[tuple[Look, int, int]]:
    """The looks, each with how many training elements had been taken, and how many were still to come."""
    records = life.ledger.records
    trains = [stream.index for stream in life.ledger.streams if stream.key not in ignored]
    at = np.flatnonzero((records["kind"] == Kind.ELEMENT) & np.isin(records["stream"], trains))
    looks = [(one, int(np.searchsorted(at, one.at))) for one in life.ledger.evidence.looks if one.why != "apply"]
    return [(one, taken, len(at) - taken) for one, taken in looks]


def _changed(life: Life) -> set[_Identity]:
    """What was seen to change: a variable of a function may still hold what the training began with."""
    evidence = life.ledger.evidence
    values: dict[int, set[int]] = {}
    for look in evidence.looks:
        for number, value in look.values.items():
            values.setdefault(number, set()).add(value)
    return {evidence.weights[number].identity for number, found in values.items() if len(found) > 1}


def _named(life: Life, look: Look) -> dict[_Identity, tuple[Weight, int]]:
    weights = life.ledger.evidence.weights
    return {weights[number].identity: (weights[number], value) for number, value in look.values.items()}


def _differences(
    mine: Mapping[_Identity, tuple[Weight, int]], its: Mapping[_Identity, tuple[Weight, int]], *, unknown: bool
) -> Compared:
    pairs = [(*mine[identity], *its[identity]) for identity in mine if identity in its]
    # What one of them has not been seen to save may be known by the other.
    pairs = [one for one in pairs if unknown or one[0].known or one[2].known]
    apart = [weight.name for weight, value, _, right in pairs if value != right]
    return Compared(len(pairs), (), tuple(Difference("values", name) for name in apart))


__all__ = ["compared"]
