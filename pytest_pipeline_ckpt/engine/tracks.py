"""What one life took in one lane, and how much of it the model's steps explain. Pure.

Counting rests on a law (`law`): how many elements the model's steps take; and on four offsets (`Lags`): how many more
elements were taken than the steps explain, when the step is seen before an element, at a save and at the end. In a life
they are what was pulled before training began, to fast-forward or to peek; what they are in the reference run, where a
loop may take one element ahead, is deducted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .model import Ending, Kind

if TYPE_CHECKING:
    import numpy.typing as npt

    from .indexed import Indexed, IntArray, Positions
    from .lanes import Lane
    from .law import Law

_VOTES = 4096
"""So many sightings decide how many elements were pulled: an offset does not change after training has begun."""
_NO_ENDS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Lags:
    """Elements taken beyond what the law says of the step, each for one way of seeing the step; 0 where never seen."""

    own: int = 0
    saved: int = 0
    done: int = 0
    other: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """What one life trained on in one lane: `T` of section 3.3 of docs/design.md."""

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
    start: int | None = None
    """How many elements its model had been trained on before, where more than the step tells that."""
    held: int = 0
    """So many elements that an earlier life had taken were restored with the model, and are trained on by this one: a
    buffer that was saved. They come before its own."""
    off: tuple[int, int] | None = None
    """Where steps take different numbers of elements: the first step that the life began after more or fewer elements
    than the reference run, and by how many at most; fewer are negative."""
    parent: int | None = None
    """The life with whose history it goes on, from 1, where that is known; else with that of the life before."""

    def __len__(self) -> int:
        """The number of elements."""
        return len(self.at)

    def values(self, begin: int, end: int, field: str = "value") -> npt.NDArray[np.uint64]:
        """One field of the elements `begin..end - 1`, as uint64."""
        return self.life.values(self.at[begin:end], field).astype(np.uint64, copy=False)


@dataclass(frozen=True, slots=True)
class Window:
    """From where on a lane's elements count, and between which events its steps were seen undisturbed."""

    restored: int
    """Index of the last RESTORED event before training, -1: none."""
    until: int
    """Index of the first later RESTORED event, or the number of events."""
    skipped: int
    """Elements of the lane that were taken before."""
    step: int | None


def track_of(life: Indexed, members: IntArray, lane: Lane, fresh: bool, start: int | None = None) -> Track:
    """The track of one life in one lane.

    Args:
        life: the life.
        members: its iterators in the lane.
        lane: of the reference run.
        fresh: nothing was there to resume from, so the step at the first element can be had from a later one.
        start: how many of the lane's elements the model had been trained on before; None: the step tells.
    """
    at = life.elements_of(members)
    window = window_of(life, at, members)
    done = life.life.ending is Ending.FINISHED
    own = sightings(life, members, window)[0]
    if window.step is None and (fresh or start is not None) and len(own):
        window = extrapolated(life, at, window, int(own[0]), lane.law.rate)
        if fresh and not lane.law.constant:  # its rate is that of the step that takes most
            window = replace(window, step=lane.first_step)
    if len(at) == window.skipped:
        return Track(life, at[:0], window.step, False, len(at), _NO_ENDS, done, start)
    if window.step is None and fresh and not len(own):
        window = replace(window, step=lane.first_step)
    if window.step is None:
        return Track(life, at, None, False, len(at), _NO_ENDS, done, start)
    pulled = pulled_of(life, at, members, window, lane.law, lane.lags, start)
    beside = np.diff(np.searchsorted(at, life.events.at[own])) == 1
    at_once = bool((np.diff(life.events.step[own])[beside] > 1).any())  # another thread takes them: see `taken_ahead`
    told = pulled is not None and not fresh and not lane.law.slack and not at_once
    held = min(max(0, -pulled), lane.lags.own) if told and pulled is not None else 0
    off = None if lane.law.constant else _off(life, at, members, window, lane, start)
    if pulled is None:
        # No step was seen, so at most the elements of one step can have been trained on; the next life's step tells.
        left = len(at) - window.skipped
        in_flight = 0 < left <= lane.lags.own
        pulled = left if done or in_flight else max(0, left - lane.law.rate)
        return cut(life, at, members, window, lane.law, pulled, lane.lags, trained=False, start=start)
    pulled = min(max(0, pulled), len(at) - window.skipped)
    return replace(cut(life, at, members, window, lane.law, pulled, lane.lags, start=start), off=off, held=held)


def _off(
    life: Indexed, at: Positions, members: IntArray, window: Window, lane: Lane, start: int | None
) -> tuple[int, int] | None:
    """The first step at which a life had taken other numbers of elements than the law says, and by how many."""
    own, _, _ = sightings(life, members, window)
    assert window.step is not None
    used, taken = _begun(life, at, own, window)
    steps = life.events.step[used]
    base = _base(lane.law, window.step, start)
    seen = np.isin(steps, lane.law.steps)  # between two that the reference run was seen at, nobody knows
    more = (taken - (lane.law.upto(steps) - base))[seen] - lane.lags.own
    if len(more) <= 1 or not more.any() or (more == more[0]).all():
        return None  # if it is the same all along it was taken before training began
    return int(steps[seen][np.flatnonzero(more != 0)[0]]), int(more[np.argmax(np.abs(more))])


def window_of(life: Indexed, at: Positions, members: IntArray) -> Window:
    """From where on a lane's elements count; `at`: of all of them, `members`: their iterators."""
    events = life.events
    restores = np.flatnonzero(events.kind == Kind.RESTORED)
    before = restores[events.progress[restores] == 0]
    restored = int(before[-1]) if len(before) else -1
    later = restores[restores > restored]
    until = int(later[0]) if len(later) else len(events.at)
    skipped = int(np.searchsorted(at, events.at[restored])) if restored >= 0 else 0
    return Window(restored, until, skipped, _first_step(life, at, members, restored, skipped))


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
        later = (events.kind == Kind.STEP) & np.isin(events.owner, members) & (events.step >= 0)
        later[: restored + 1] = False
        if (events.step[later] < events.step[restored]).any():
            return None  # a file had another counter than the one that is seen at elements, an optimizer's that is new
        return int(events.step[restored])
    return life.end_step() if skipped == len(at) else None


def sightings(life: Indexed, members: IntArray, window: Window) -> tuple[IntArray, IntArray, IntArray]:
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
    life: Indexed, at: Positions, members: IntArray, window: Window, law: Law, start: int | None = None
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Elements beyond those that the steps explain, for each sighting after the first step: own, saved, done, other."""
    assert window.step is not None
    own, resting, other = sightings(life, members, window)
    kinds = life.events.kind[resting]
    base = _base(law, window.step, start)
    found = []
    for seen in (own, resting[kinds == Kind.SAVED], resting[kinds == Kind.DONE], other):
        if not law.constant and seen is own:
            used, taken = _begun(life, at, own, window)
        else:
            used = seen[(seen < window.until) & (life.events.step[seen] > window.step)][:_VOTES]
            taken = np.searchsorted(at, life.events.at[used]) - window.skipped
        steps = life.events.step[used]
        found.append(taken - (law.upto(steps) - base))
    return found[0], found[1], found[2], found[3]


def _begun(life: Indexed, at: Positions, own: IntArray, window: Window) -> tuple[IntArray, IntArray]:
    """The sightings at which steps began, because the one before was an element earlier, and the elements before."""
    assert window.step is not None
    seen = own[own < window.until][:_VOTES]
    taken = np.searchsorted(at, life.events.at[seen]) - window.skipped
    steps = life.events.step[seen]
    later = steps > window.step
    begun = later & (np.diff(taken, prepend=-2) == 1) & (np.diff(steps, prepend=-1) != 0)
    begun[:1] = False
    kept = begun if begun.any() else later
    return seen[kept], taken[kept]


def _base(law: Law, step: int, start: int | None) -> int:
    """How many elements the steps before a life's first took; where several numbers fit that step, `start` tells."""
    least = law.at(step)
    return start if start is not None and least <= start < law.at(step + 1) else least


def reference_lags(life: Indexed, at: Positions, members: IntArray, window: Window, law: Law) -> Lags:
    """The offsets of a lane of the reference run."""
    band = law.band
    votes = [_vote(surplus, band) for surplus in _surplus(life, at, members, window, law)]
    # Whatever was pulled before training is part of each surplus, so the smallest of them is what was pulled.
    pulled = max(0, min((vote for vote in votes[:3] if vote is not None), default=0))
    own, saved, done, other = (0 if vote is None else vote - pulled for vote in votes)
    return Lags(own, saved, done, other)


def pulled_of(
    life: Indexed, at: Positions, members: IntArray, window: Window, law: Law, lags: Lags, start: int | None = None
) -> int | None:
    """How many elements were taken before training began; None: the model was not seen to make a step.

    Negative: so many fewer are in flight than in the reference run.
    """
    own, saved, done, other = _surplus(life, at, members, window, law, start)
    band = law.band
    votes = np.concatenate((own - lags.own, saved - lags.saved, done - lags.done))
    if law.slack and len(votes) and votes.min() >= 0 and votes.max() < band:
        return 0  # no more than a thread may be ahead
    vote = _vote(votes, band)
    if vote is None:
        vote = _vote(other - lags.other, band)
    return vote


def _vote(surplus: IntArray, rate: int) -> int | None:
    """The number f such that most values are in `f..f + rate - 1`; the smallest of several; None without values."""
    if not len(surplus):
        return None
    values, counts = np.unique(surplus, return_counts=True)
    below = np.concatenate(([0], np.cumsum(counts)))
    within = below[np.searchsorted(values, values + rate)] - below[:-1]
    return int(values[np.argmax(within)])


def cut(
    life: Indexed,
    at: Positions,
    members: IntArray,
    window: Window,
    law: Law,
    pulled: int,
    lags: Lags,
    *,
    trained: bool = True,
    start: int | None = None,
) -> Track:
    """The track without what was pulled, and without what was taken at the end and not trained on."""
    assert window.step is not None
    begin = window.skipped + pulled
    own, resting, _ = sightings(life, members, window)
    own = own[own < window.until]
    end = len(at)
    if any(life.events.kind[resting] == Kind.DONE):
        last = int(max(life.events.step[np.concatenate((own, resting))]))
        left = end - begin - (law.at(last) - _base(law, window.step, start))
        # Nothing is in flight, and the step that is saved is that of before the last element: its number, or its index.
        named = lags.own == 0 and lags.saved == left and _saved_at_the_end(life, at, last)
        if 0 < left < 2 * law.rate and last > window.step and not named:
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
        start=start,
    )


def _saved_at_the_end(life: Indexed, at: Positions, step: int) -> bool:
    """Whether a save behind the last element was of a step."""
    events = life.events
    return bool(((events.kind == Kind.SAVED) & (events.step == step) & (events.at > at[-1])).any())


def _ends(life: Indexed, at: Positions, members: IntArray) -> IntArray:
    """After how many elements of the lane a pass had ended."""
    events = life.events
    exhausted = (events.kind == Kind.END) & (events.owner >= 0) & np.isin(events.owner, members)
    new = np.searchsorted(at, life.iterators.first[members])
    return np.unique(np.concatenate((new, np.searchsorted(at, events.at[exhausted]))))


def extrapolated(life: Indexed, at: Positions, window: Window, event: int, rate: int) -> Window:
    """The window of a run whose step was not known at its first element, but later."""
    taken = int(np.searchsorted(at, life.events.at[event])) - window.skipped
    return Window(window.restored, window.until, window.skipped, int(life.events.step[event]) - taken // rate)
