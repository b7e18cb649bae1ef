"""Ledgers -> histories: the lanes of the reference run, and what each life of a trial trained on in them. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .lanes import Lane, lay_lanes, recognised
from .law import Law, observed, taken_ahead
from .model import Kind
from .tracks import Track, cut, extrapolated, pulled_of, reference_lags, sightings, track_of, window_of
from .training import Classes, best_rate, classify, training_rows
from .wording import STEPS_BEGIN_ANEW, count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .indexed import BoolArray, Indexed, IntArray, Positions
    from .moments import Stand
    from .tracks import Window
    from .whereabouts import Place

_FEW = 8


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
    lanes: list[Lane] = []
    laid = lay_lanes(reference, rows, {}, 0)
    for members in laid:
        now_and_then = [classes.occasional.get(reference.keys[int(key)]) for key in reference.iterators.key[members]]
        seldom = None not in now_and_then
        beside = next((one for one in lanes if seldom and one.law.constant), None)
        fixed = None if seldom else elements_per_step
        lane = _study_lane(reference, members, fixed, alone=len(laid) == 1, beside=beside)
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
        parents: dict[tuple[int | None, ...], int] = {}
        for place in stand.places:
            for way in itertools.product(*(_stood(lane, n, tracks, place) for n, lane in enumerate(known.lanes))):
                parents.setdefault(way, place.life)
        ways = list(map(list, parents)) or [[None] * len(known.lanes)]
        if stand.new and not stand.places and not ((life.events.kind == Kind.STEP) & (life.events.step >= 0)).any():
            ways = [[0] * len(known.lanes)]  # its step is not known, but its model is a new one
        if len(ways) > 1:
            ways = _as_the_step_tells(ways, known, tracks, trace_one(life, known, homes)[0])
        starts = ways[chosen.get(number, 0)]
        made, more = trace_one(life, known, homes, fresh=number == 0, starts=starts)
        parent = parents.get(tuple(starts)) or None
        tracks.append(tuple(replace(track, parent=parent) for track in made))
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
        laid = recognised(life, laid, known.lanes)
    starts = starts or [None] * len(known.lanes)
    tracks = [
        track_of(life, members, lane, fresh, start)
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
    if lane.law.slack:  # how many were in flight then is not known, but the step is
        return (_by_its_step(lane, track, began, place),)
    taken = began + int(np.searchsorted(track.at, place.at))
    ahead = lane.lags.saved if place.saving else lane.lags.own
    if ahead and place.saving and lane.law.constant:
        # At the end of the data a buffer runs empty.
        counted = _by_its_step(lane, track, began, place)
        ahead = ahead if counted is None else min(ahead, max(0, taken - counted))
    # Fewer than a step takes may be a part of it that has been trained on (a micro-batch), or taken ahead.
    partly = 0 < ahead < lane.law.rate and lane.law.constant
    return tuple(max(began, taken - one) for one in ((0, ahead) if partly else (ahead,)))


def _as_the_step_tells(
    ways: list[list[int | None]], known: Study, before: Sequence[tuple[Track, ...]], made: tuple[Track, ...]
) -> list[list[int | None]]:
    """The one of several ways that the step tells, if it tells one of them: a thread may save while elements are taken.

    A step of several elements is too coarse: what it holds fits two saves as well.

    Args:
        ways: for each lane how many elements the model may have been trained on.
        known: of the reference run.
        before: the tracks of the lives before.
        made: those of the life, by its step alone.
    """
    told = [
        start_of(lane, [*(tracks[number] for tracks in before), made[number]]) if lane.law.rate == 1 else None
        for number, lane in enumerate(known.lanes)
    ]
    return [told] if told in ways else ways


def _by_its_step(lane: Lane, track: Track, began: int, place: Place) -> int | None:
    """How many elements the model of a life had been trained on at a save, by the step that was saved."""
    step = _saved_step(track.life, place)
    if step is None or track.step is None:
        return None
    return began - track.held + lane.law.at(step) - lane.law.at(track.step)


def _saved_step(life: Indexed, place: Place) -> int | None:
    """The model's step at a save; of one that a kill has cut short it is the counter that has been the step before.

    None: it is not known, or the moment is none of a save.
    """
    if not place.saving:
        return None
    events, readings = life.events, life.life.ledger.evidence.readings
    saves = np.flatnonzero((events.kind == Kind.SAVED) & (events.step >= 0))
    later = saves[events.at[saves] >= place.at]
    if len(later):
        return int(events.step[later[0]])
    saved = [one for one in readings if one.why == "save"]
    cut = next((one.values for one in saved if one.at == place.at), {})
    for name, value in cut.items():
        counted = {one.values[name] for one in saved if name in one.values}
        if len(saves) and counted.issuperset(events.step[saves].tolist()):
            return value
    return None


def start_of(lane: Lane, tracks: Sequence[Track]) -> int | None:
    """How many elements of the lane the model of the last of some lives had been trained on when that began.

    None: neither its step nor anything else tells.
    """
    last = tracks[-1]
    if last.start is not None:
        return last.start + last.held
    if last.step is None:
        return 0 if len(tracks) == 1 and not len(last) else None
    first = tracks[0]
    base = first.step if len(first) and first.step is not None else lane.first_step
    return max(0, lane.law.at(last.step) - lane.law.at(base)) + last.held


def homes_of(known: Study) -> dict[str, tuple[int, ...]]:
    """For each key the lanes of the reference run in which it was used."""
    found: dict[str, tuple[int, ...]] = {}
    for number, lane in enumerate(known.lanes):
        for key in lane.keys:
            found[key] = (*found.get(key, ()), number)
    return found


def _study_lane(life: Indexed, members: IntArray, fixed: int | None, *, alone: bool, beside: Lane | None) -> Lane | str:
    """A lane, or why none can be made of its iterators; `beside`: of one that is taken now and then another one."""
    at = life.elements_of(members)
    window = window_of(life, at, members)
    own, resting, _ = sightings(life, members, window)
    if window.step is None and len(own):
        window = extrapolated(life, at, window, int(own[0]), fixed or 1)
        if beside is not None:  # it takes no part in each step, so only the other one tells when it began
            window = replace(window, step=beside.step_at(int(at[window.skipped])))
    if window.step is None:
        window = _at_saves(life, at, members, window, resting)
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
    if _begin_anew(life.events.step[own]):
        return STEPS_BEGIN_ANEW
    left = _steps_without_elements(life, law, len(at) - window.skipped) if alone else 0
    if left:
        return (
            f"the reference run made {count(left, 'step')} after it had taken its last element, so what they were "
            "trained on came from no iterator (a list, a cache of its own?) and cannot be compared: go over the "
            "dataset in each pass, and keep it in memory by dataset.cache()"
        )
    lags = reference_lags(life, at, members, window, law)
    pulled = min(len(at) - window.skipped, max(0, pulled_of(life, at, members, window, law, lags) or 0))
    if window.skipped + pulled > max(_FEW, len(at) // 4):  # more than a sample takes, before training begins
        return STEPS_BEGIN_ANEW
    track = cut(life, at, members, window, law, pulled, lags)
    keys = tuple(dict.fromkeys(life.keys[int(key)] for key in life.iterators.key[np.sort(members)]))
    return Lane(label, keys, law, lags, track)


def _begin_anew(steps: IntArray) -> bool:
    """Whether steps that had advanced are again what they were in the beginning."""
    again = (np.diff(steps) < 0) & (steps[1:] <= steps[:1]) & (steps[:-1] > steps[:1] + _FEW)
    return bool(again.any())


def _steps_without_elements(life: Indexed, law: Law, elements: int) -> int:
    """How many steps a run made after a lane's last element, if they were many."""
    end = life.end_step()
    if end is None or not law.constant:
        return 0
    more = (law.at(end) - elements) // law.rate
    return more if more > max(_FEW, elements // law.rate // 4) else 0


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
    # At its end a loader gives out what it had taken ahead, so that its last sightings are others.
    for some, counted in ((taken, steps), (own, made), (taken[:-1], steps[:-1])):
        rate = best_rate(some, counted, ratio, fixed=fixed) if len(some) > _FEW or some is not own else None
        surplus = np.empty(0, np.int64) if rate is None else (own - rate * made)[made > 0]
        if rate is not None and (not len(surplus) or np.ptp(surplus) < rate):
            return Law(first_step, rate)
    whole = round(ratio)
    left = int(taken[last] - whole * steps[last])
    if whole and 0 <= left < whole:
        ahead = taken_ahead(own, made, whole, left)
        if ahead is not None:
            return Law(first_step, whole, slack=ahead)
    return observed(np.append(first_step, made + first_step), np.append(0, own), first_step)


def _at_saves(life: Indexed, at: Positions, members: IntArray, window: Window, resting: IntArray) -> Window:
    """The window of a run whose step was seen at saves and at its end only.

    If it has read all of its data, all of them had been trained on at its end; else a new run is taken to begin at 0.
    """
    events = life.events
    taken, steps = np.searchsorted(at, events.at[resting]) - window.skipped, events.step[resting]
    if len(resting) < 2 or steps[-1] <= steps[0]:
        return window
    made = steps - steps[0]
    rate = best_rate(taken[:-1] - taken[0], made[:-1], float((taken[-1] - taken[0]) / made[-1]))
    if rate is None:
        return window
    exhausted = bool(((events.kind == Kind.END) & np.isin(events.owner, members)).any())
    first = int(steps[-1] - taken[-1] // rate) if exhausted else 0
    early = (taken - rate * (steps - first)).min() < 0
    return window if first < 0 or early else replace(window, step=first)
