"""Takes steps that the model counted without an element out of ledgers, so that each stands for its elements. Pure.

A graph that asks an exhausted iterator for an element runs all the same what does not depend on it. Keras' counter does
not: `fit` over a dataset of unknown cardinality counts a step more at the end of each epoch. The tap sees the end and
says how many steps were counted there (`idle` of an END). They are in the checkpoints too, so a life inherits those
of its predecessor that are not beyond the step at which it resumed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .model import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from .model import Life

_STEPPED = (Kind.STEP, Kind.SAVED, Kind.RESTORED, Kind.DONE)


def without_idle_steps(lives: Sequence[Life]) -> list[Life]:
    """The lives of a trial, in order, with their steps as if none had been counted without an element.

    A life without such a step, and with none inherited, is returned as it is.
    """
    found: list[Life] = []
    idle: dict[int, int] = {}
    for life in lives:
        if not idle and not len(_idle_ends(life.ledger.records)):
            found.append(life)
            continue
        records, idle = _without(np.array(life.ledger.records), idle)
        found.append(replace(life, ledger=replace(life.ledger, records=records)))
    return found


def idle_steps(life: Life) -> int:
    """How many steps the model of a life counted without an element."""
    records = life.ledger.records
    return int(records["rows"][_idle_ends(records)].sum())


def _idle_ends(records: npt.NDArray[np.void]) -> npt.NDArray[np.intp]:
    ends = np.flatnonzero(records["kind"] == Kind.END)
    return ends[(records["rows"][ends] > 0) & (records["value"][ends].view(np.int64) >= records["rows"][ends])]


def _without(records: npt.NDArray[np.void], inherited: dict[int, int]) -> tuple[npt.NDArray[np.void], dict[int, int]]:
    """Changes the records' steps; returns what the next life may inherit: how many were idle, by the step before."""
    known, idle = dict(inherited), dict(inherited)
    stepped = np.flatnonzero(np.isin(records["kind"], _STEPPED))
    stepped = stepped[records["value"][stepped].view(np.int64) >= 0]
    resumed = True
    for number in np.sort(np.concatenate((stepped, _idle_ends(records)))).tolist():
        kind, value = int(records["kind"][number]), int(records["value"][number])
        if kind == Kind.END:
            count = int(records["rows"][number])
            known[value - count] = idle[value - count] = count
            continue
        if kind == Kind.RESTORED:
            resumed, idle = True, dict(known)
        elif kind == Kind.STEP and resumed:
            # Only here all parts of the model are restored. What had been counted beyond this step was undone.
            resumed, idle = False, {at: count for at, count in idle.items() if at < value}
        counted = sum(min(count, max(0, value - at)) for at, count in idle.items())
        records["value"][number] = max(0, value - counted)
    return records, known


__all__ = ["idle_steps", "without_idle_steps"]
