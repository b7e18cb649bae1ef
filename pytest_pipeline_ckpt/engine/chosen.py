"""Which counter tells the model's step where the one in the ledgers does not: chosen by the reference run. Pure.

A life writes the step into its ledger as it guesses it: its first element comes before anything has been counted. The
reference run shows which counters advance with the training. If the guess does not, or goes back (the step within an
epoch, a second `fit` with an optimizer of its own), another counter takes its place in all ledgers, or two together:
`epoch` and `step_in_epoch`, the optimizer of the first `fit` and that of the second.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .model import UNKNOWN_STEP, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .evidence import Evidence, Reading
    from .model import Ledger, Life

_STEPPED = (Kind.STEP, Kind.SAVED, Kind.RESTORED, Kind.DONE)
_FEW = 8
"""Elements: a counter of updates that are made every few of them stands still for so long."""
_ROLES = ("model", "bare", "data")


@dataclass(frozen=True, slots=True)
class Choice:
    """One counter, or two of which the first counts what the second does again and again."""

    names: tuple[str, ...]
    span: int = 1
    """More than the second ever shows."""
    seen: tuple[int, ...] = ()
    """Of two: all values that any life shows, ascending; a value's place among them is the step."""

    def value(self, values: Mapping[str, int]) -> int:
        """What they show, where the second is not there yet if it is absent; `UNKNOWN_STEP`: the first is."""
        if self.names[0] not in values:
            return UNKNOWN_STEP
        shown = [values.get(name, 0) for name in self.names]
        return shown[0] if len(shown) == 1 else shown[0] * self.span + shown[1]


def choice(references: Sequence[Life], lives: Sequence[Life]) -> Choice | None:
    """The counters to be taken instead of the ledgers' own steps; None: those do, or nothing is better."""
    if not references:
        return None
    first = references[0].ledger
    records = first.records
    at = np.flatnonzero((records["kind"] == Kind.STEP) & (records["value"].astype(np.int64) >= 0))
    known = records["value"][at].astype(np.int64)
    if _counts(known.tolist()):
        return None
    back = at[1:][np.diff(known) < 0]
    if len(back) and not any(one.why == "element" and one.at >= back[0] for one in first.evidence.readings):
        return None  # nobody has looked where the step went back: it was the only counter
    for role in _ROLES:
        names = [one.name for one in first.evidence.counters if one.role == role and not one.of_saves]
        alone = [Choice((name,)) for name in names]
        pairs = [Choice(pair, _span(pair[1], [*references, *lives])) for pair in itertools.permutations(names, 2)]
        shown = [one for one in (*alone, *pairs) if _counts(_shown(first.evidence, one))]
        found = [one for one in shown if not _rests(first, one, names)]
        if found:  # the finest, and of several the one that needs fewest
            best = max(found, key=lambda one: len(set(_shown(first.evidence, one))))
            return best if len(best.names) == 1 else replace(best, seen=_seen(best, [*references, *lives]))
    return None


def is_silent(reference: Life) -> bool:
    """Whether nothing in a run has told any step of the model."""
    records = reference.ledger.records
    return not np.any(records["value"][np.isin(records["kind"], _STEPPED)].astype(np.int64) >= 0)


def _seen(chosen: Choice, lives: Sequence[Life]) -> tuple[int, ...]:
    found: set[int] = set()
    for life in lives:
        records = _with_steps(life.ledger, chosen).records
        steps = records["value"][np.isin(records["kind"], _STEPPED)].astype(np.int64)
        found.update(steps[steps >= 0].tolist())
    return tuple(sorted(found))


def with_choice(life: Life, chosen: Choice | None) -> Life:
    """A life with the chosen counters' values as the steps of its records."""
    if chosen is None:
        return life
    return replace(life, ledger=_with_steps(life.ledger, chosen))


def _counts(values: Sequence[int]) -> bool:
    """Whether something advances, and never goes back."""
    return len(values) > 1 and values[-1] > values[0] and all(a <= b for a, b in itertools.pairwise(values))


def _rests(ledger: Ledger, chosen: Choice, names: Sequence[str]) -> bool:
    """Whether these stand still for long, or are not there yet, while others go on: those of further models."""
    elements = np.flatnonzero(ledger.records["kind"] == Kind.ELEMENT)
    readings = [one for one in ledger.evidence.readings if one.why == "element"]
    groups = [list(group) for _, group in itertools.groupby(readings, lambda one: chosen.value(one.values))]
    for still, behind in zip(groups, [*groups[1:], groups[-1]], strict=True):
        begin, end = still[0], still[-1]
        if chosen.value(begin.values) == UNKNOWN_STEP:
            end = behind[0]  # as long as there is one counter only, not all its values are read
        taken = int(np.diff(np.searchsorted(elements, (begin.at, end.at)))[0])
        if taken >= _FEW and any(begin.values.get(name, 0) < end.values.get(name, 0) for name in names):
            return True
    return False


def _shown(evidence: Evidence, chosen: Choice) -> list[int]:
    values = [chosen.value(one.values) for one in evidence.readings if one.why == "element"]
    return [value for value in values if value != UNKNOWN_STEP]


def _span(name: str, lives: Sequence[Life]) -> int:
    return 1 + max((one.values.get(name, 0) for life in lives for one in life.ledger.evidence.readings), default=0)


def _with_steps(ledger: Ledger, chosen: Choice) -> Ledger:
    records = np.array(ledger.records)
    readings = ledger.evidence.readings
    at = [one.at for one in readings]
    # As long as the first counter was the only one, the ledger has it, and nobody needed to read it apart.
    alone = next((one.at for one in readings if chosen.names[-1] in one.values), len(records) if readings else 0)
    for number in np.flatnonzero(np.isin(records["kind"], _STEPPED)).tolist():
        last = bisect_right(at, number) - 1
        reading = readings[last] if last >= 0 else None
        known = reading is not None and _belongs(reading, number, int(records["kind"][number]))
        if reading is not None and known:
            value = chosen.value(reading.values)
        elif number < alone and len(chosen.names) > 1 and (step := int(records["value"][number].astype(np.int64))) >= 0:
            # The one that is made next may be what the ledger has by now, and nobody has looked for it.
            begun = 0 if reading is None else reading.values.get(chosen.names[0], 0)
            value = chosen.value({chosen.names[0]: max(step, begun)})
        else:
            value = UNKNOWN_STEP
        if chosen.seen and value >= 0:
            value = bisect_left(chosen.seen, value)
        records["value"][number] = np.int64(value).astype(np.uint64)
    return replace(ledger, records=records)


def _belongs(reading: Reading, number: int, kind: int) -> bool:
    """Whether the last reading before a record is of it: of an element it stands directly before."""
    if kind == Kind.STEP:
        return reading.why == "element" and reading.at == number
    return reading.why == {Kind.SAVED: "save", Kind.RESTORED: "restore", Kind.DONE: "end"}[Kind(kind)]


__all__ = ["Choice", "choice", "is_silent", "with_choice"]
