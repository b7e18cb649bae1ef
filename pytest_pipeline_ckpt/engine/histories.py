"""Ledgers -> histories: which elements a life trained on, lane by lane, and at which step of the model it began.

A *lane* is a place where training elements come from: iterators that are used one after the other (an
iterator for each epoch) are one lane, iterators that are used side by side are several. Lanes are judged
apart.

Counting rests on a law (`law`): how many elements the model's steps take; and on four offsets (`Lags`): how many more
elements were taken than the steps explain, when the step is seen before an element, at a save and at the end. In a life
they are what was pulled before training began, to fast-forward or to peek; what they are in the reference run, where a
loop may take one element ahead, is deducted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .law import Law, observed
from .model import Ending, Kind
from .training import Classes, best_rate, classify, disjoint, training_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from .indexed import BoolArray, Indexed, IntArray, Positions
    from .moments import Place, Stand

_VOTES = 4096
"""So many sightings decide how many elements were pulled: an offset does not change after training has begun."""
_PROBE = 32
_FEW = 8
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
    start: int | None = None
    """How many elements its model had been trained on before, where more than the step tells that."""
    off: tuple[int, int] | None = None
    """Where steps take different numbers of elements: the first step that the life began after more or fewer elements
    than the reference run, and by how many at most; fewer are negative."""

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
    law: Law
    lags: Lags
    track: Track
    doubtful: bool = False
    """It may be for validation: see `Classes.occasional`."""

    @property
    def first_step(self) -> int:
        """The model's step before the lane's first element."""
        return self.law.first_step


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
        return self.lanes[0].law.rate if self.lanes else max(1, *self.classes.rates.values(), 1)


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


def study(reference: Indexed, elements_per_step: int | None, validation: Sequence[str] = ()) -> Study:
    """Finds the lanes of the reference run, the law of their steps and their offsets.

    Args:
        reference: a run that nobody killed.
        elements_per_step, validation: as for `classify`.
    """
    classes = classify(reference, elements_per_step, validation)
    if classes.reason is not None:
        return Study(classes, reason=classes.reason)
    rows = training_rows(reference, classes, default=1)
    lanes = []
    for members in lay_lanes(reference, rows, {}, 0):
        now_and_then = [classes.occasional.get(reference.keys[int(key)]) for key in reference.iterators.key[members]]
        seldom = None not in now_and_then
        lane = _study_lane(reference, members, None if seldom else elements_per_step)
        if isinstance(lane, str):
            return Study(classes, reason=lane)
        lanes.append(replace(lane, doubtful=seldom and not all(now_and_then)))
    return Study(classes, tuple(lanes))


@dataclass(frozen=True, slots=True)
class Traced:
    """The lives of a trial, lane by lane."""

    tracks: tuple[tuple[Track, ...], ...]
    """For each life one for each lane of the reference run."""
    extra: tuple[int, ...]
    """For each life the elements that it took outside of these lanes."""
    choices: tuple[int, ...]
    """For each life in how many ways its model may have stood, as far as the evidence tells."""


def trace(lives: Sequence[Indexed], known: Study, stands: Sequence[Stand], chosen: Mapping[int, int]) -> Traced:
    """Traces the lives of a trial.

    Args:
        lives: in their order.
        known: of the reference run.
        stands: for each life what is known of where its model stood when it began.
        chosen: for a life, from 0, which of several ways in which that may have been is taken; else the first.
    """
    homes = homes_of(known)
    tracks: list[tuple[Track, ...]] = []
    extra, choices = [], []
    for number, (life, stand) in enumerate(zip(lives, stands, strict=True)):
        found = [
            list(way)
            for place in stand.places
            for way in itertools.product(*(_stood(lane, n, tracks, place) for n, lane in enumerate(known.lanes)))
        ]
        ways = [way for n, way in enumerate(found) if way not in found[:n]] or [[None] * len(known.lanes)]
        made, more = trace_one(life, known, homes, fresh=number == 0, starts=ways[chosen.get(number, 0)])
        tracks.append(made)
        extra.append(more)
        choices.append(len(ways))
    return Traced(tuple(tracks), tuple(extra), tuple(choices))


def trace_one(
    life: Indexed,
    known: Study,
    homes: Mapping[str, tuple[int, ...]],
    *,
    fresh: bool = False,
    starts: Sequence[int | None] | None = None,
) -> tuple[tuple[Track, ...], int]:
    """One track for each lane of the reference run, and how many elements were taken outside of all of them.

    Args:
        life: the life.
        known: of the reference run.
        homes: `homes_of(known)`.
        fresh: nothing was there to resume from, so the step at the first element can be had from a later one.
        starts: for each lane how many of its elements the model had been trained on before; None: the step tells.
    """
    rows = training_rows(life, known.classes, default=known.rate)
    laid = lay_lanes(life, rows, homes, len(known.lanes))
    if len(known.lanes) > 1:
        laid = _recognised(life, laid, known)
    starts = starts or [None] * len(known.lanes)
    tracks = [
        _track(life, members, lane, fresh, start)
        for members, lane, start in zip(laid, known.lanes, starts, strict=False)
    ]
    extra = sum(int(life.iterators.count[members].sum()) for members in laid[len(known.lanes) :])
    return tuple(tracks), extra


def _stood(lane: Lane, number: int, before: Sequence[tuple[Track, ...]], place: Place) -> tuple[int | None, ...]:
    """How many elements of a lane a model at a place in an earlier life may have been trained on."""
    if not place.life:
        return (0,)
    track = before[place.life - 1][number]
    began = start_of(lane, [tracks[number] for tracks in before[: place.life]])
    if began is None:
        return (None,)
    taken = began + int(np.searchsorted(track.at, place.at))
    ahead = lane.lags.saved if place.saving else lane.lags.own
    # Fewer than a step takes may be a part of it that has been trained on (a micro-batch), or taken ahead.
    partly = 0 < ahead < lane.law.rate and lane.law.constant
    return tuple(max(began, taken - one) for one in ((0, ahead) if partly else (ahead,)))


def start_of(lane: Lane, tracks: Sequence[Track]) -> int | None:
    """How many elements of the lane the model of the last of some lives had been trained on when that began.

    None: neither its step nor anything else tells.
    """
    last = tracks[-1]
    if last.start is not None:
        return last.start
    if last.step is None:
        return 0 if len(tracks) == 1 and not len(last) else None
    first = tracks[0]
    base = first.step if len(first) and first.step is not None else lane.first_step
    return max(0, lane.law.at(last.step) - lane.law.at(base))


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
    law = _law(taken, steps, window.step, fixed, alone=np.isin(seen, own))
    if law is None:
        return (
            f"the reference run took {int(taken[last])} elements in {int(steps[last])} steps in {label}, and too few "
            "of its steps were seen to tell how many each of them took: let it run for longer"
        )
    lags = _reference_lags(life, at, members, window, law)
    pulled = min(len(at) - window.skipped, _pulled(life, at, members, window, law, lags) or 0)
    track = _cut(life, at, members, window, law, pulled)
    keys = tuple(dict.fromkeys(life.keys[int(key)] for key in life.iterators.key[np.sort(members)]))
    return Lane(label, keys, law, lags, track)


def _law(taken: IntArray, steps: IntArray, first_step: int, fixed: int | None, *, alone: BoolArray) -> Law | None:
    """The law of a lane.

    Args:
        taken: elements before each sighting.
        steps: of the model since the lane began.
        first_step: the model's step then.
        fixed: elements a step, given by the user.
        alone: which of the sightings are those directly before one of the lane's elements.
    """
    own, made = taken[alone], steps[alone]
    last = int(np.argmax(steps))
    ratio = float(taken[last] / steps[last])
    rate = best_rate(taken, steps, ratio, fixed=fixed)
    if rate is None and len(own) > _FEW:  # at its end a loader gives out what it had taken ahead
        rate = best_rate(own, made, ratio, fixed=fixed)
    if rate is not None:
        surplus = (own - rate * made)[made > 0]
        if not len(surplus) or np.ptp(surplus) < rate:
            return Law(first_step, rate)
    return observed(made + first_step, own, first_step)


def _extrapolated(life: Indexed, at: Positions, window: _Window, event: int, rate: int) -> _Window:
    """The window of a run whose step was not known at its first element, but later."""
    taken = int(np.searchsorted(at, life.events.at[event])) - window.skipped
    return _Window(window.restored, window.until, window.skipped, int(life.events.step[event]) - taken // rate)


def _track(life: Indexed, members: IntArray, lane: Lane, fresh: bool, start: int | None = None) -> Track:
    at = life.elements_of(members)
    window = _window(life, at, members)
    done = life.life.ending is Ending.FINISHED
    if window.step is None and fresh and len(own := _sightings(life, members, window)[0]):
        window = _extrapolated(life, at, window, int(own[0]), lane.law.rate)
    if len(at) == window.skipped:
        return Track(life, at[:0], window.step, False, len(at), _NO_ENDS, done, start)
    if window.step is None:
        return Track(life, at, None, False, len(at), _NO_ENDS, done, start)
    pulled = _pulled(life, at, members, window, lane.law, lane.lags, start)
    off = None if lane.law.constant else _off(life, at, members, window, lane, start)
    if pulled is None:
        # No step was seen, so at most the elements of one step can have been trained on; the next life's step tells.
        left = len(at) - window.skipped
        pulled = left if done else max(0, left - lane.law.rate)
        return _cut(life, at, members, window, lane.law, pulled, trained=False, start=start)
    track = _cut(life, at, members, window, lane.law, min(pulled, len(at) - window.skipped), start=start)
    return replace(track, off=off)


def _off(
    life: Indexed, at: Positions, members: IntArray, window: _Window, lane: Lane, start: int | None
) -> tuple[int, int] | None:
    """The first step at which a life had taken other numbers of elements than the law says, and by how many."""
    own, _, _ = _sightings(life, members, window)
    assert window.step is not None
    used, taken = _begun(life, at, own, window)
    steps = life.events.step[used]
    base = _base(lane.law, window.step, start)
    seen = np.isin(steps, lane.law.steps)  # between two that the reference run was seen at, nobody knows
    more = (taken - (lane.law.upto(steps) - base))[seen] - lane.lags.own
    if len(more) <= 1 or not more.any() or (more == more[0]).all():
        return None  # if it is the same all along it was taken before training began
    return int(steps[seen][np.flatnonzero(more != 0)[0]]), int(more[np.argmax(np.abs(more))])


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
    life: Indexed, at: Positions, members: IntArray, window: _Window, law: Law, start: int | None = None
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Elements beyond those that the steps explain, for each sighting after the first step: own, saved, done, other."""
    assert window.step is not None
    own, resting, other = _sightings(life, members, window)
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


def _begun(life: Indexed, at: Positions, own: IntArray, window: _Window) -> tuple[IntArray, IntArray]:
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


def _reference_lags(life: Indexed, at: Positions, members: IntArray, window: _Window, law: Law) -> Lags:
    band = law.rate if law.constant else 1
    votes = [_vote(surplus, band) for surplus in _surplus(life, at, members, window, law)]
    # Whatever was pulled before training is part of each surplus, so the smallest of them is what was pulled.
    pulled = max(0, min((vote for vote in votes[:3] if vote is not None), default=0))
    own, saved, done, other = (0 if vote is None else vote - pulled for vote in votes)
    return Lags(own, saved, done, other)


def _pulled(
    life: Indexed, at: Positions, members: IntArray, window: _Window, law: Law, lags: Lags, start: int | None = None
) -> int | None:
    """How many elements were taken before training began; None: the model was not seen to make a step."""
    own, saved, done, other = _surplus(life, at, members, window, law, start)
    band = law.rate if law.constant else 1
    vote = _vote(np.concatenate((own - lags.own, saved - lags.saved, done - lags.done)), band)
    if vote is None:
        vote = _vote(other - lags.other, band)
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
    life: Indexed,
    at: Positions,
    members: IntArray,
    window: _Window,
    law: Law,
    pulled: int,
    *,
    trained: bool = True,
    start: int | None = None,
) -> Track:
    """The track without what was pulled, and without what was taken at the end and not trained on."""
    assert window.step is not None
    begin = window.skipped + pulled
    own, resting, _ = _sightings(life, members, window)
    own = own[own < window.until]
    end = len(at)
    if any(life.events.kind[resting] == Kind.DONE):
        last = int(max(life.events.step[np.concatenate((own, resting))]))
        left = end - begin - (law.at(last) - _base(law, window.step, start))
        if 0 < left < 2 * law.rate and last > window.step:
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


def _ends(life: Indexed, at: Positions, members: IntArray) -> IntArray:
    """After how many elements of the lane a pass had ended."""
    events = life.events
    exhausted = (events.kind == Kind.END) & (events.owner >= 0) & np.isin(events.owner, members)
    new = np.searchsorted(at, life.iterators.first[members])
    return np.unique(np.concatenate((new, np.searchsorted(at, events.at[exhausted]))))
