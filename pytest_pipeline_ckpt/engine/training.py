"""Which streams train: those whose consumption advances with the model's step in the run that nobody kills.

Most give the same number of elements for each step. Of those that do not, a stream trains if most steps take something
of it (packing, steps that are skipped). One of which a step takes a single element now and then, from an iterator that
lives on, is *occasional*: replay or distillation data, or a batch for validation; only the place of it in the step may
tell which. What takes several elements with no step between, or makes its iterator anew for each use, is validation,
unless the weights change between them as they do by steps: rehearsal data, which nothing counts.

The class belongs to a stream's key, the same code in every life. Where code makes iterators of both sorts
(Keras `fit` with validation data), those during which the model made no step are set apart one by one
(`training_rows`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .law import taken_ahead
from .model import Kind
from .weight_changes import trains_by_values
from .wording import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .indexed import BoolArray, Indexed, IntArray, Positions

_MOST_CANDIDATES = 64
_BEGUN = 4
"""So many sightings behind the first step tell the elements of a step without those before it."""
_DENSE = 64
"""So many elements of a life each have a sighting of the step."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The streams of a reference run."""

    rates: Mapping[str, int]
    """Key of each stream that trains -> elements per step."""
    others: frozenset[str]
    reason: str | None = None
    """Why no stream is known to train, with the remedy."""
    occasional: Mapping[str, bool] = field(default_factory=dict)
    """Key of each stream of which a step takes an element now and then -> whether that is a part of the step, so that
    it is no validation."""


@dataclass(frozen=True, slots=True)
class _Sightings:
    """The model's step as it was seen beside the elements of one key."""

    taken: IntArray
    """Elements taken before; of the iterator where `group` says which, else of the key."""
    progress: IntArray
    group: IntArray


def classify(reference: Indexed, elements_per_step: int | None, validation: Sequence[str] = ()) -> Classes:
    """Decides which keys train.

    Args:
        reference: a run that nobody killed.
        elements_per_step: known from the user, or None: measured.
        validation: places of iterators that the user has said to be for validation: `train.py:57`.
    """
    told = {key for key, label in enumerate(reference.labels) if any(label.startswith(f"{at},") for at in validation)}
    keys = [key for key in range(len(reference.keys)) if key not in told]
    within = {key: _rate_within(reference, reference.rows_of(key), elements_per_step) for key in keys}
    rates = {key: rate for key, rate in within.items() if rate}
    for key in keys:
        # Only short iterators, anew for each step or so: what counts is the sequence of all of them.
        if within[key] is None and (rate := _rate_across(reference, reference.rows_of(key), elements_per_step)):
            rates[key] = rate
    if not rates and len(reference.elements):
        rates = _rate_at_end(reference, elements_per_step)
    uneven = [key for key in keys if within[key] == 0]
    if elements_per_step is None:
        rates |= {key: 1 for key in uneven if _most_steps(reference, reference.rows_of(key))}
    if not rates:
        rates = {key: rate for key in uneven if (rate := _rate_ahead(reference, reference.rows_of(key)))}
    named = {reference.keys[key]: rate for key, rate in rates.items()}
    occasional = {
        reference.keys[key]: _within_a_step(reference, key, rates)
        for key in uneven
        if named and key not in rates and _one_at_a_time(reference, reference.rows_of(key))
    }
    if rates:  # what no step counts may train all the same
        main = np.concatenate([reference.rows_of(key) for key in rates])
        left = [key for key in keys if key not in rates and reference.keys[key] not in occasional]
        occasional |= {
            reference.keys[key]: True for key in left if trains_by_values(reference, reference.rows_of(key), main)
        }
    others = frozenset(reference.keys) - frozenset(named) - frozenset(occasional)
    return Classes(named, others, None if named else _why_none(reference, elements_per_step), occasional)


def _most_steps(life: Indexed, rows: IntArray) -> bool:
    """Whether at least every second step took something of these iterators, from when they were first used."""
    seen = _seen_within(life, rows)
    progress = np.sort(seen.progress[:_DENSE])
    return len(progress) > 1 and 2 * (len(np.unique(progress)) - 1) >= int(progress[-1] - progress[0]) > 0


def _rate_ahead(life: Indexed, rows: IntArray) -> int | None:
    """Elements per step of iterators that another thread reads, ahead of the steps."""
    seen = _seen_within(life, rows)
    steps, elements = int(life.events.progress[-1]), len(life.elements_of(rows))
    rate = round(elements / steps) if steps else 0
    left = elements - rate * steps
    if not rate or not 0 <= left < rate + _DENSE:
        return None
    return rate if taken_ahead(seen.taken, seen.progress, rate, left) is not None else None


def _one_at_a_time(life: Indexed, rows: IntArray) -> bool:
    """Whether no two elements of these iterators were taken with no step between, but for an end and a beginning."""
    seen = _seen_within(life, rows)
    taken, progress, group = seen.taken[:_DENSE], seen.progress[:_DENSE], seen.group[:_DENSE]
    following = (np.diff(taken) == 1) & (np.diff(group) == 0)
    return bool(following.any()) and bool((np.diff(progress)[following] > 0).all())


def _within_a_step(life: Indexed, key: int, rates: Mapping[int, int]) -> bool:
    """Whether elements of a key are taken before the step that took an element of what trains has been counted."""
    own = _own_steps(life, life.rows_of(key))[:_DENSE]
    trains = np.concatenate([life.rows_of(other) for other in rates])
    main = _own_steps(life, trains)
    before = np.searchsorted(main, own) - 1
    known = before >= 0
    if not known.any():
        return False
    counted = life.events.progress[own[known]] - life.events.progress[main[before[known]]]
    # Only an element that follows that of the same step directly says so.
    near = np.searchsorted(life.elements, life.events.at[own[known]]) - np.searchsorted(
        life.elements, life.events.at[main[before[known]]]
    )
    inside = (counted == 0) & (near <= max(rates.values()))
    return 2 * int(inside.sum()) > len(inside)


def _rate_within(life: Indexed, rows: IntArray, fixed: int | None) -> int | None:
    """Elements per step while single iterators yielded; 0: the step advanced otherwise; None: it never did."""
    seen = _seen_within(life, rows)
    groups, group = np.unique(seen.group, return_inverse=True)
    low_taken, high_taken = _extremes(seen.taken, group, len(groups))
    low_progress, high_progress = _extremes(seen.progress, group, len(groups))
    advancing = high_progress > low_progress
    if not advancing.any():
        return None
    ratio = (high_taken - low_taken)[advancing].sum() / (high_progress - low_progress)[advancing].sum()
    kept = advancing[group]
    taken = (seen.taken - low_taken[group])[kept]
    progress = (seen.progress - low_progress[group])[kept]
    rate = best_rate(taken, progress, float(ratio), groups=np.cumsum(advancing)[group][kept] - 1, fixed=fixed)
    return rate or 0


def _rate_across(life: Indexed, rows: IntArray, fixed: int | None) -> int | None:
    """Elements per step over all iterators of a key, none of which lasted for a whole step."""
    seen = _seen_within(life, rows)
    steps = _own_steps(life, rows)
    if len(steps) < 2 or life.events.progress[steps[0]] > 0:
        return None  # a training stream is used before the model's first step, validation after it
    at = life.elements_of(rows)
    taken = np.searchsorted(at, life.events.at[steps])
    progress = life.events.progress[steps]
    if not progress[-1]:
        return None
    groups, group = np.unique(seen.group, return_inverse=True)
    low, high = _extremes(seen.taken, group, len(groups))
    longest = int((high - low).max()) + 1 if len(groups) else 1
    rate = best_rate(taken - taken[0], progress, float((taken[-1] - taken[0]) / progress[-1]), fixed=fixed)
    return rate if rate is not None and rate >= longest else None


def _rate_at_end(life: Indexed, fixed: int | None) -> dict[int, int]:
    """For a run of a step or two: the stream that was used last, and the step at the saves and at the end."""
    key = int(life.iterators.key[life.run_owner[-1]])
    rows = life.rows_of(key)
    mine = np.zeros(len(life.events.at), np.bool_)
    mine[_own_steps(life, rows)] = True
    mine |= np.isin(life.events.kind, (Kind.SAVED, Kind.DONE)) & (life.events.step >= 0)
    taken = np.searchsorted(life.elements_of(rows), life.events.at[mine])
    progress = life.events.progress[mine]
    if not len(progress) or progress[-1] <= progress[0]:
        return {}
    ratio = float((taken[-1] - taken[0]) / (progress[-1] - progress[0]))
    rate = best_rate(taken - taken[0], progress - progress[0], ratio, fixed=fixed)
    return {} if rate is None else {key: rate}


def best_rate(
    taken: IntArray,
    steps: IntArray,
    ratio: float,
    *,
    groups: IntArray | None = None,
    fixed: int | None = None,
) -> int | None:
    """The whole number r >= 1 for which `taken - r * steps` stays in a narrow band, or None.

    The band is r wide, with a slack of r for loops that take an element ahead. Of several the one that needs
    no slack, and then the smallest, is taken.

    Args:
        taken: elements before each sighting, from 0 in each group.
        steps: the model's steps, from 0 in each group.
        ratio: elements a step, roughly.
        groups: the group (from 0) of each sighting; None: one group.
        fixed: the only candidate, given by the user, who is believed if the ratio is not far off.
    """
    if fixed is not None:
        return fixed if fixed / 2 <= ratio <= fixed * 2 + 1 else None
    begun = steps > 0
    if np.count_nonzero(begun) >= _BEGUN:  # a loader takes some ahead before the first step
        taken, steps, groups = taken[begun], steps[begun], None if groups is None else groups[begun]
    low, high = max(1, math.floor(ratio / 2)), max(1, math.ceil(ratio)) + 1
    if high - low > _MOST_CANDIDATES:
        low = max(1, high - _MOST_CANDIDATES)
    found: list[tuple[int, int]] = []
    for rate in range(low, high + 1):
        least, most = _extremes(
            taken - rate * steps,
            np.zeros(len(taken), np.int64) if groups is None else groups,
            1 if groups is None else int(groups.max()) + 1,
        )
        spread = int((most - least).max())
        if least.min() >= 0 and most.max() < rate:
            found.append((0, rate))
        elif spread < rate:
            found.append((1, rate))
        elif spread < 2 * rate:
            found.append((2, rate))
    return min(found)[1] if found else None


def training_rows(life: Indexed, classes: Classes, *, default: int) -> IntArray:
    """The iterators of a life that train: of every key but those that the reference has seen not to.

    Iterators during which the model did not make a step are left out: validation that the same code made, elements that
    were passed over to get to a place further on.

    Args:
        life: any life of the trial.
        classes: of the reference run.
        default: elements per step for keys that the reference has not.
    """
    kept = np.zeros(len(life.iterators.first), np.bool_)
    for key, name in enumerate(life.keys):
        if name not in classes.others:
            rows = life.rows_of(key)
            kept[rows] = ~_idle(life, rows, classes.rates.get(name, default))
    return np.flatnonzero(kept)


def _idle(life: Indexed, rows: IntArray, rate: int) -> BoolArray:
    """Which iterators yielded at least a step's elements without a step that could be due to them."""
    at = life.elements_of(rows)
    first, last = life.iterators.first[rows], life.iterators.last[rows]
    begin, end = np.searchsorted(at, first), np.searchsorted(at, last, "right")
    seen = np.zeros(len(life.events.at), np.bool_)
    seen[_own_steps(life, rows)] = True
    seen |= np.isin(life.events.kind, (Kind.SAVED, Kind.DONE)) & (life.events.step >= 0)
    taken = np.searchsorted(at, life.events.at[seen])
    progress = life.events.progress[seen]
    before = np.searchsorted(taken, begin, "right") - 1
    after = np.searchsorted(taken, end)
    judged = (before >= 0) & (after < len(taken)) & (life.iterators.count[rows] >= rate)
    idle = np.zeros(len(rows), np.bool_)
    b, a = before[judged], after[judged]
    steps = progress[a] - progress[b]
    others = taken[a] - begin[judged] - life.iterators.count[rows][judged]
    idle[judged] = steps * rate <= others
    shared = idle & (end - begin > life.iterators.count[rows])
    for row in np.flatnonzero(shared):  # iterators used side by side: both may train
        idle[row] = not _advances(life, int(rows[row]), rate)
    return idle


def _advances(life: Indexed, row: int, rate: int) -> bool:
    seen = _seen_within(life, np.array([row]))
    if len(seen.taken) < 2:
        return False
    elements, steps = int(seen.taken[-1] - seen.taken[0]), int(seen.progress[-1] - seen.progress[0])
    return 2 * rate * steps >= elements and rate * steps <= 2 * elements


def _own_steps(life: Indexed, rows: IntArray) -> IntArray:
    """The STEP records with a known step of some iterators, as indexes into the events."""
    wanted = np.zeros(len(life.iterators.first) + 1, np.bool_)
    wanted[rows] = True  # the last entry, for owner -1, stays False
    events = life.events
    return np.flatnonzero((events.kind == Kind.STEP) & (events.step >= 0) & wanted[events.owner])


def _seen_within(life: Indexed, rows: IntArray) -> _Sightings:
    """The sightings of some iterators, each with the elements of its own iterator."""
    steps = _own_steps(life, rows)
    owner, at = life.events.owner[steps], life.events.at[steps]
    taken = np.zeros(len(steps), np.int64)
    if _in_turn(life, rows):
        all_at = life.elements_of(rows)
        taken[:] = np.searchsorted(all_at, at) - np.searchsorted(all_at, life.iterators.first[owner])
    else:
        for row in np.unique(owner):
            mine = owner == row
            taken[mine] = np.searchsorted(life.elements_of(np.array([row])), at[mine])
    return _Sightings(taken, life.events.progress[steps], owner)


def _in_turn(life: Indexed, rows: IntArray) -> bool:
    """Whether the iterators were used one after the other."""
    return disjoint(life.iterators.first[rows], life.iterators.last[rows])


def disjoint(first: Positions, last: Positions) -> bool:
    """Whether no two of the intervals `first..last` have a record in common."""
    order = np.argsort(first, kind="stable")
    return bool((last[order][:-1] < first[order][1:]).all())


def _extremes(values: IntArray, group: IntArray, groups: int) -> tuple[IntArray, IntArray]:
    """The smallest and the largest value of each group; a group without values gives (0, 0)."""
    if groups == 1 and len(values):
        return np.array([values.min()]), np.array([values.max()])
    least = np.full(groups, np.iinfo(np.int64).max)
    most = np.full(groups, np.iinfo(np.int64).min)
    np.minimum.at(least, group, values)
    np.maximum.at(most, group, values)
    empty = least > most
    least[empty] = most[empty] = 0
    return least, most


def _why_none(life: Indexed, fixed: int | None) -> str:
    known = life.events.step[life.events.step >= 0]
    elements = count(len(life.elements), "element")
    if not len(life.elements):
        return "the reference run took no element from any dataset iterator: there is nothing to compare"
    if not len(known):
        return (
            f"the model's step could not be observed while the reference run took {elements}: "
            "pass step=, a function that returns it, or for a script --preempt-model-step=__main__:NAME"
        )
    steps = int(life.events.progress[-1])
    if not steps:
        return (
            f"the model's step stayed at {int(known[0])} while the reference run took {elements}: "
            "pass step=, a function that returns a step which advances with the training"
        )
    if fixed is not None:
        return (
            f"elements_per_step={fixed} was given, but no stream of the reference run gave about "
            f"{fixed} for each of its "
            f"{count(steps, 'step')} ({elements} in all): pass the number that one step takes"
        )
    return (
        f"the reference run took {elements} in {count(steps, 'step')}, and from no stream something in most of them, "
        "so which of them trains is not known: pass step=, a function that returns a step which advances with the "
        "training"
    )
