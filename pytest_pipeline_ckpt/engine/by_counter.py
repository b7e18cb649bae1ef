"""At which moments of earlier lives all counters had the values with which a life began to train. Pure."""

from __future__ import annotations

import itertools
from collections import Counter as Multiset
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .model import Kind
from .whereabouts import BEGINNING, place_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .evidence import Evidence, Reading
    from .indexed import Indexed
    from .whereabouts import Place

_ROLES = ("model", "bare", "data")
"""Whose counters are compared: those of the first role that has any."""


@dataclass(frozen=True, slots=True)
class Start:
    """The counters that can be compared, as they were when a life began to train."""

    values: Mapping[str, int]
    role: str


def begun_with(life: Indexed, reference: Evidence) -> Start:
    """The counters that advance in a life, of the best role that has any, as they were before its first step.

    Args:
        life: whose counters are asked for.
        reference: what the run that nobody killed showed.
    """
    roles = {one.name: one.role for one in life.evidence.counters if not one.of_saves}
    found = {name: value for name in roles if (value := _value(name, life, reference, roles[name])) is not None}
    for role in _ROLES:
        values = {name: value for name, value in found.items() if roles[name] == role}
        followed = {name: value for name, value in values.items() if not _counts_its_saves(name, reference)}
        if values:
            return Start(followed or values, role)
    return Start({}, _ROLES[-1])


def before_skipped_passes(start: Start, life: Indexed, reference: Evidence) -> Start:
    """The same with what was restored of counters that count passes, and have gone on since.

    A life that skips the rest of a pass counts that pass before it has taken an element.
    """
    restored: dict[str, int] = {}
    for one in life.evidence.readings:
        if one.why == "restore":
            restored.update(one.values)
    passes = {
        name: restored[name]
        for name, value in start.values.items()
        if restored.get(name, value) < value and _counts_passes(name, reference)
    }
    return Start({**start.values, **passes}, start.role)


def _counts_passes(name: str, reference: Evidence) -> bool:
    """Whether a counter stays the same from most elements to the next."""
    number = sum(one.why == "element" and name in one.values for one in reference.readings)
    return len(_gains(name, reference)) * 2 < number - 1


def _counts_its_saves(name: str, reference: Evidence) -> bool:
    """Whether a counter is only seen in files, one more in each: how many weights an average is made of."""
    if any(name in one.values for one in reference.readings if one.why == "element"):
        return False
    saved = [one.values[name] for one in reference.readings if one.why == "save" and name in one.values]
    return len(saved) > 1 and all(after - before in (0, 1) for before, after in itertools.pairwise(saved))


def _value(name: str, life: Indexed, reference: Evidence, role: str) -> int | None:
    """A counter's value before the life's first step; None: it did not advance.

    A restore may be put off until the variable is made, which is at the first step: so the value is read behind that
    step, and taken back by it.
    """
    mine = life.evidence
    readings = _since_its_restore(name, mine)
    known = [(number, one.values[name]) for number, one in enumerate(readings) if name in one.values]
    restored = [one.values[name] for one in mine.readings if one.why == "restore" and name in one.values]
    ended = [one.values[name] for one in mine.readings if one.why == "end" and name in one.values]
    if not len(life.elements) and ended and role == "model":
        return ended[-1]  # it found the training finished
    if not known:  # a file that only tells a step may be of anything: of the data, or looked at and passed over
        return restored[-1] if restored and role == "model" and _advances(name, mine) else None
    pace = _pace(name, reference)
    first, earliest = known[0]
    moved = next((n for n in range(1, len(known)) if known[n][1] != known[n - 1][1]), None)
    if moved is None:
        slow = not _pace_seen(name, reference) and _advances(name, reference)
        return earliest if first == 0 and (slow or _advances(name, mine)) else None
    unread = np.count_nonzero((life.events.kind == Kind.STEP) & (life.events.step < 0))
    if restored and 0 < earliest - restored[-1] <= pace * unread:
        return restored[-1]  # the first elements came when it could not be read
    if first:
        return earliest - pace * first
    before, after = known[moved - 1][1], known[moved][1]
    fresh = next((one.values[name] for one in reference.readings if name in one.values), before)
    # From a new run's value it jumps because a restore was put off; from another one because another thread takes
    # the elements, and several steps were made between two of them.
    return before if after - before == pace or before != fresh else after - pace


def _since_its_restore(name: str, mine: Evidence) -> list[Reading]:
    """The readings at elements, without those of before it was restored: a sample may be taken to build a model."""
    found: list[Reading] = []
    for one in mine.readings:
        if one.why == "element":
            found.append(one)
        elif one.why == "restore" and name in one.values:
            if len({before.values[name] for before in found if name in before.values}) > 1:
                break  # it was at work by then: whatever is restored in the middle of a training is no beginning
            found = []
    return found


def _gains(name: str, evidence: Evidence) -> list[int]:
    values = [one.values[name] for one in evidence.readings if one.why == "element" and name in one.values]
    return [after - before for before, after in itertools.pairwise(values) if after > before]


def _pace(name: str, evidence: Evidence) -> int:
    """What a counter gains at a time."""
    gains = Multiset(_gains(name, evidence))
    return gains.most_common(1)[0][0] if gains else 1


def _pace_seen(name: str, evidence: Evidence) -> bool:
    return bool(_gains(name, evidence))


def _advances(name: str, evidence: Evidence) -> bool:
    return len({one.values[name] for one in evidence.readings if name in one.values}) > 1


def fitting_moments(values: Mapping[str, int], fresh: Mapping[str, int], lives: Sequence[Indexed]) -> tuple[Place, ...]:
    """The moments at which all these counters had these values; the latest first, at a save if there is any."""
    if not values:
        return ()
    found = moments_of(values, lives)
    if all(value == fresh.get(name) for name, value in values.items()):
        found = [*found, BEGINNING]
    return tuple(found)


def moments_of(values: Mapping[str, int], lives: Sequence[Indexed]) -> list[Place]:
    """The same without that of a new training."""
    fits = [
        place_at(number, lives, reading.at, saving=reading.why == "save")
        for number in range(len(lives), 0, -1)
        for reading in reversed(lives[number - 1].evidence.readings)
        if reading.why != "restore" and all(reading.values.get(name) == value for name, value in values.items())
    ]
    return [place for place in fits if place.saving] or fits


__all__ = ["Start", "before_skipped_passes", "begun_with", "fitting_moments", "moments_of"]
