"""Ledgers -> histories: which elements a life trained on, lane by lane, and at which step of the model it began.

A *lane* is a place where training elements come from: iterators that are used one after the other (an
iterator for each epoch) are one lane, iterators that are used side by side are several. Lanes are judged
apart.

Counting rests on four offsets (`Lags`): how many more elements were taken than the model's steps explain,
when the step is seen before an element, at a save and at the end. In a life they are what was pulled before
training began, to fast-forward or to peek; what they are in the reference run, where a loop may take one
element ahead, is deducted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .model import Ending, Kind
from .training import Classes, best_rate, classify, disjoint, training_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from .indexed import Indexed, IntArray, Positions

_VOTES = 4096
"""So many sightings decide how many elements were pulled: an offset does not change after training has begun."""
_PROBE = 32
_NO_ENDS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Lags:
    """Elements taken beyond `rate * (step - first step)`, each for one way of seeing the step; 0 where never seen."""

    own: int = 0
    saved: int = 0
    done: int = 0
    other: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """What one life trained on in one lane: `T` of DESIGN 3.3."""

    life: Indexed
    at: Positions
    """Record index of each element, without those pulled before training began."""
    step: int | None
    """The model's step when training began; of a life without elements, the step at which it stood."""
    trained: bool
    """Whether the model was seen to make a step."""
    taken: int
    """Elements taken in this lane, the pulled ones included."""
    ends: IntArray
    """Numbers of elements of `at` after which a pass had ended (exhausted, or a new iterator followed), ascending."""
    done: bool
    """Whether the life came to its natural end."""

    def __len__(self) -> int:
        """The number of elements."""
        return len(self.at)

    def values(self, begin: int, end: int, field: str = "value") -> npt.NDArray[np.uint64]:
        """One field of the elements `begin..end - 1`, as uint64."""
        return self.life.values(self.at[begin:end], field).astype(np.uint64, copy=False)


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of the reference run."""

    label: str
    keys: tuple[str, ...]
    rate: int
    """Elements per step."""
    first_step: int
    lags: Lags
    track: Track


@dataclass(frozen=True, slots=True)
class Study:
    """What the reference run says about the training."""

    classes: Classes
    lanes: tuple[Lane, ...] = ()
    reason: str | None = None
    """Why nothing can be judged, with the remedy."""

    @property
    def rate(self) -> int:
        """Elements per step for streams that the reference run has not."""
        return self.lanes[0].rate if self.lanes else max(1, *self.classes.rates.values(), 1)


@dataclass(frozen=True, slots=True)
class _Window:
    """From where on a lane's elements count, and between which events its steps were seen undisturbed."""

    restored: int
    """Index of the last RESTORED event before training, -1: none."""
    until: int
    """Index of the first later RESTORED event, or the number of events."""
    skipped: int
    """Elements of the lane that were taken before."""
    step: int | None


def study(reference: Indexed, elements_per_step: int | None) -> Study:
    """Finds the lanes of the reference run, their elements per step and their offsets."""
    classes = classify(reference, elements_per_step)
    if classes.reason is not None:
        return Study(classes, reason=classes.reason)
    rows = training_rows(reference, classes, default=1)
    lanes = []
    for members in lay_lanes(reference, rows, {}, 0):
        lane = _study_lane(reference, members, elements_per_step)
        if isinstance(lane, str):
            return Study(classes, reason=lane)
        lanes.append(lane)
    return Study(classes, tuple(lanes))


def trace(
    life: Indexed, known: Study, homes: Mapping[str, tuple[int, ...]], *, fresh: bool = False
) -> tuple[tuple[Track, ...], int]:
    """One track for each lane of the reference run, and how many elements were taken outside of all of them.

    Args:
        life: the life.
        known: of the reference run.
        homes: `homes_of(known)`.
        fresh: nothing was there to resume from, so the step at the first element can be had from a later one.
    """
    rows = training_rows(life, known.classes, default=known.rate)
    laid = lay_lanes(life, rows, homes, len(known.lanes))
    if len(known.lanes) > 1:
        laid = _recognised(life, laid, known)
    tracks = [_track(life, members, lane, fresh) for members, lane in zip(laid, known.lanes, strict=False)]
    extra = sum(int(life.iterators.count[members].sum()) for members in laid[len(known.lanes) :])
    return tuple(tracks), extra


def homes_of(known: Study) -> dict[str, tuple[int, ...]]:
    """For each key the lanes of the reference run in which it was used."""
    found: dict[str, tuple[int, ...]] = {}
    for number, lane in enumerate(known.lanes):
        for key in lane.keys:
            found[key] = (*found.get(key, ()), number)
    return found


def lay_lanes(life: Indexed, rows: IntArray, homes: Mapping[str, tuple[int, ...]], size: int) -> list[IntArray]:
    """Sorts iterators into lanes, `size` or more: where the reference run had their key, else where there is room.

    Args:
        life: the life.
        rows: its training iterators.
        homes: for each key its lanes in the reference run.
        size: how many lanes that run had.
    """
    lanes: list[IntArray] = [np.empty(0, np.int64) for _ in range(size)]
    by_key = [(homes.get(name, (size,)), life.rows_of(key)) for key, name in enumerate(life.keys)]
    mine = [(home, members[np.isin(members, rows)]) for home, members in by_key]
    present = [(home, members) for home, members in mine if len(members)]
    present.sort(key=lambda item: (item[0], int(life.iterators.first[item[1]].min())))
    for home, members in present:
        preferred = list(home) if home != (size,) else []
        if not _place(life, lanes, members, preferred):
            used: list[int] = []
            for row in members:
                _place(life, lanes, row.reshape(1), preferred + used, used=used)
    return lanes


def _place(
    life: Indexed, lanes: list[IntArray], members: IntArray, preferred: Sequence[int], *, used: list[int] | None = None
) -> bool:
    """Puts all of `members` into the first lane with room, else into a new one; False when they overlap each other."""
    first, last = life.iterators.first, life.iterators.last
    if not disjoint(first[members], last[members]):
        return False
    for number in dict.fromkeys((*preferred, *range(len(lanes)))):
        both = np.concatenate((lanes[number], members))
        if disjoint(first[both], last[both]):
            lanes[number] = both
            break
    else:
        lanes.append(members)
        number = len(lanes) - 1
    if used is not None and number not in used:
        used.append(number)
    return True


def _recognised(life: Indexed, laid: list[IntArray], known: Study) -> list[IntArray]:
    """Swaps lanes whose iterators are all new (made on another line) to where their first elements are known."""
    keys = {key for lane in known.lanes for key in lane.keys}
    new = [
        number
        for number, members in enumerate(laid)
        if len(members) and not any(life.keys[int(key)] in keys for key in life.iterators.key[members])
    ]
    free = [n for n in range(len(known.lanes)) if n in new or not len(laid[n])]
    if len(free) < 2:
        return laid
    moved = list(laid)
    for number in new:
        moved[number] = np.empty(0, np.int64)
    for number in new:
        probe = life.values(life.elements_of(laid[number])[-_PROBE:])
        hits = {n: int(np.isin(known.lanes[n].track.values(0, len(known.lanes[n].track)), probe).sum()) for n in free}
        best = max(free, key=lambda n: (hits[n], n == number), default=number)
        if best in free:
            free.remove(best)
        moved[best] = laid[number]
    return moved


def _study_lane(life: Indexed, members: IntArray, fixed: int | None) -> Lane | str:
    at = life.elements_of(members)
    window = _window(life, at, members)
    own, resting, _ = _sightings(life, members, window)
    if window.step is None and len(own):
        window = _extrapolated(life, at, window, int(own[0]), fixed or 1)
    if window.step is None:
        return "the model's step could not be observed when the reference run began to train: pass step="
    seen = np.sort(np.concatenate((own, resting)))
    taken = np.searchsorted(at, life.events.at[seen]) - window.skipped
    steps = life.events.step[seen] - window.step
    label = life.labels[int(life.iterators.key[members[np.argmin(life.iterators.first[members])]])]
    last = int(np.argmax(steps)) if len(steps) else 0
    if not len(steps) or steps[last] <= 0:
        return f"the model's step did not advance while the reference run took elements in {label}: pass step="
    rate = fixed or best_rate(taken, steps, float(taken[last] / steps[last]))
    if rate is None:
        return (
            f"the reference run took {int(taken[last])} elements in {int(steps[last])} steps in "
            f"{label}, not a constant "
            "whole number a step: pass elements_per_step="
        )
    lags = _reference_lags(life, at, members, window, rate)
    pulled = min(len(at) - window.skipped, _pulled(life, at, members, window, rate, lags) or 0)
    track = _cut(life, at, members, window, rate, pulled)
    keys = tuple(dict.fromkeys(life.keys[int(key)] for key in life.iterators.key[np.sort(members)]))
    return Lane(label, keys, rate, window.step, lags, track)


def _extrapolated(life: Indexed, at: Positions, window: _Window, event: int, rate: int) -> _Window:
    """The window of a run whose step was not known at its first element, but later."""
    taken = int(np.searchsorted(at, life.events.at[event])) - window.skipped
    return _Window(window.restored, window.until, window.skipped, int(life.events.step[event]) - taken // rate)


def _track(life: Indexed, members: IntArray, lane: Lane, fresh: bool) -> Track:
    at = life.elements_of(members)
    window = _window(life, at, members)
    if window.step is None and fresh and len(own := _sightings(life, members, window)[0]):
        window = _extrapolated(life, at, window, int(own[0]), lane.rate)
    if len(at) == window.skipped:
        return Track(life, at[:0], window.step, False, len(at), _NO_ENDS, life.life.ending is Ending.FINISHED)
    if window.step is None:
        return Track(life, at, None, False, len(at), _NO_ENDS, life.life.ending is Ending.FINISHED)
    pulled = _pulled(life, at, members, window, lane.rate, lane.lags)
    if pulled is None:
        # No step was seen, so at most the elements of one step can have been trained on; the next life's step tells.
        left = len(at) - window.skipped
        pulled = left if life.life.ending is Ending.FINISHED else max(0, left - lane.rate)
        return _cut(life, at, members, window, lane.rate, pulled, trained=False)
    return _cut(life, at, members, window, lane.rate, min(pulled, len(at) - window.skipped))


def _window(life: Indexed, at: Positions, members: IntArray) -> _Window:
    events = life.events
    restores = np.flatnonzero(events.kind == Kind.RESTORED)
    before = restores[events.progress[restores] == 0]
    restored = int(before[-1]) if len(before) else -1
    later = restores[restores > restored]
    until = int(later[0]) if len(later) else len(events.at)
    skipped = int(np.searchsorted(at, events.at[restored])) if restored >= 0 else 0
    return _Window(restored, until, skipped, _first_step(life, at, members, restored, skipped))


def _first_step(life: Indexed, at: Positions, members: IntArray, restored: int, skipped: int) -> int | None:
    """The step before the lane's first element after the restore; else what the restore said; else the end."""
    events = life.events
    if skipped < len(at):
        begin = int(at[skipped - 1]) if skipped else -1
        beside = (events.at > begin) & (events.at < at[skipped]) & (events.step >= 0)
        beside[: restored + 1] = False
        beside &= (events.kind == Kind.STEP) & np.isin(events.owner, members)
        found = np.flatnonzero(beside)
        if len(found):
            return int(events.step[found[-1]])
    if restored >= 0 and events.step[restored] >= 0:
        return int(events.step[restored])
    return life.end_step() if skipped == len(at) else None


def _sightings(life: Indexed, members: IntArray, window: _Window) -> tuple[IntArray, IntArray, IntArray]:
    """The events after the restore that know the step: before own elements, at rest, before other lanes' elements."""
    events = life.events
    known = events.step >= 0
    known[: window.restored + 1] = False
    steps = known & (events.kind == Kind.STEP)
    mine = np.zeros(len(life.iterators.first) + 1, np.bool_)
    mine[members] = True
    own = mine[events.owner]
    resting = known & np.isin(events.kind, (Kind.SAVED, Kind.DONE))
    resting[window.until :] = False
    return np.flatnonzero(steps & own), np.flatnonzero(resting), np.flatnonzero(steps & ~own)


def _surplus(
    life: Indexed, at: Positions, members: IntArray, window: _Window, rate: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Elements beyond those that the steps explain, for each sighting after the first step: own, saved, done, other."""
    assert window.step is not None
    own, resting, other = _sightings(life, members, window)
    kinds = life.events.kind[resting]
    found = []
    for seen in (own, resting[kinds == Kind.SAVED], resting[kinds == Kind.DONE], other):
        used = seen[(seen < window.until) & (life.events.step[seen] > window.step)][:_VOTES]
        taken = np.searchsorted(at, life.events.at[used]) - window.skipped
        found.append(taken - rate * (life.events.step[used] - window.step))
    return found[0], found[1], found[2], found[3]


def _reference_lags(life: Indexed, at: Positions, members: IntArray, window: _Window, rate: int) -> Lags:
    votes = [_vote(surplus, rate) for surplus in _surplus(life, at, members, window, rate)]
    # Whatever was pulled before training is part of each surplus, so the smallest of them is what was pulled.
    pulled = max(0, min((vote for vote in votes[:3] if vote is not None), default=0))
    own, saved, done, other = (0 if vote is None else vote - pulled for vote in votes)
    return Lags(own, saved, done, other)


def _pulled(life: Indexed, at: Positions, members: IntArray, window: _Window, rate: int, lags: Lags) -> int | None:
    """How many elements were taken before training began; None: the model was not seen to make a step."""
    own, saved, done, other = _surplus(life, at, members, window, rate)
    vote = _vote(np.concatenate((own - lags.own, saved - lags.saved, done - lags.done)), rate)
    if vote is None:
        vote = _vote(other - lags.other, rate)
    return None if vote is None else max(0, vote)


def _vote(surplus: IntArray, rate: int) -> int | None:
    """The number f such that most values are in `f..f + rate - 1`; the smallest of several; None without values."""
    if not len(surplus):
        return None
    values, counts = np.unique(surplus, return_counts=True)
    below = np.concatenate(([0], np.cumsum(counts)))
    within = below[np.searchsorted(values, values + rate)] - below[:-1]
    return int(values[np.argmax(within)])


def _cut(
    life: Indexed, at: Positions, members: IntArray, window: _Window, rate: int, pulled: int, *, trained: bool = True
) -> Track:
    """The track without what was pulled, and without what was taken at the end and not trained on."""
    assert window.step is not None
    begin = window.skipped + pulled
    own, resting, _ = _sightings(life, members, window)
    own = own[own < window.until]
    end = len(at)
    if any(life.events.kind[resting] == Kind.DONE):
        steps = int(max(life.events.step[np.concatenate((own, resting))])) - window.step
        left = end - begin - rate * steps
        if 0 < left < 2 * rate and steps > 0:
            end -= left
    ends = _ends(life, at, members) - begin
    return Track(
        life=life,
        at=at[begin:end],
        step=window.step,
        trained=trained,
        taken=len(at),
        ends=ends[(ends > 0) & (ends <= end - begin)],
        done=life.life.ending is Ending.FINISHED,
    )


def _ends(life: Indexed, at: Positions, members: IntArray) -> IntArray:
    """After how many elements of the lane a pass had ended."""
    events = life.events
    exhausted = (events.kind == Kind.END) & (events.owner >= 0) & np.isin(events.owner, members)
    new = np.searchsorted(at, life.iterators.first[members])
    return np.unique(np.concatenate((new, np.searchsorted(at, events.at[exhausted]))))
