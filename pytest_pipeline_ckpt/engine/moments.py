"""Where a life's model stood when it began to train: what values, files and counters say -> one moment. Pure.

Three kinds of evidence, which must agree. The *values* of the weights are those of a moment of an earlier life; they
overrule the others where somebody has looked. A *file*: the trained weights come from one that an earlier life wrote,
so the model is at the moment at which its state was taken. *Counters*: their values, as one tuple, are those that an
earlier life showed at a moment, at a save first. Where none says anything, the model's step and the law of the lane do.

A counter that begins anew over weights that were restored is no evidence: `compile` has made it. If the weights of some
trained objects are new as well while others were restored, the model is torn, and so it is when parts of it fit
different moments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .by_counter import Start, before_skipped_passes, begun_with, fitting_moments, moments_of
from .by_value import values_of
from .model import Kind
from .successors import in_their_places
from .whereabouts import BEGINNING, Files, Place, files_of, of_the_last_stage, place_at
from .wording import (
    BEGUN_ANEW,
    COPIED_ANEW,
    MADE_ANEW,
    NOT_RESTORED,
    NOT_WITH_THE_REST,
    OF_ANOTHER_MOMENT,
    OTHER_THAN_SAVED,
    count,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .by_value import Found, Values
    from .evidence import Evidence
    from .indexed import Indexed

_NAMED = 4
"""So many weights are named."""
_NO_PATH = ""
"""Of a file that is not known: the weights have the values of a moment, and that is enough."""
_LIKE = " (an optimizer's averages, a schedule)"
_SHORT = 3
"""A life with fewer elements has hardly made a step."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What is known of a life's model when it began to train."""

    places: tuple[Place, ...] = ()
    """All that fit, the latest first; none: the step has to tell."""
    torn: str | None = None
    """Which parts of it come from different moments."""
    lost: str | None = None
    """What had been taken before the save and is in no weights, because what added it up began anew."""
    unknown: str | None = None
    """Why nothing tells where it stood."""
    notes: tuple[str, ...] = ()
    new: bool = False
    """Whether it read nothing, although all that earlier lives had saved were files below the run's directory."""
    resumed: bool = False
    """Whether it read a file of an earlier life, or its counters began later than a new run's."""


def stands(
    reference: Indexed, lives: Sequence[Indexed], *, by_step: bool, ahead: bool = False, others: Collection[str] = ()
) -> list[Stand]:
    """For each life of a trial where its model stood.

    Args:
        reference: the run that nobody killed.
        lives: in their order.
        by_step: where there is no other evidence, look for the save at the step at which a life began.
        ahead: another thread takes the elements, ahead of the steps: how many were in flight before an element is not
            known, at a save its step tells it.
        others: keys of the streams that do not train.
    """
    firsts = [_first_trained(life, others) for life in lives]
    reference = _while_it_trains(reference, _first_trained(reference, others))
    lives = [
        _while_it_trains(_showing(life, in_their_places(life.evidence, reference.evidence)), first)
        for life, first in zip(lives, firsts, strict=True)
    ]
    found = [Stand()]
    for number in range(1, len(lives)):
        begun = [one.places for one in found]
        stand = _stand(reference, lives[: number + 1], begun, firsts[: number + 1], ahead=ahead)
        if by_step and not stand.places and stand.torn is None and stand.unknown is None:
            stand = replace(stand, places=_saved_at_its_step(lives[: number + 1]))
        found.append(stand)
    return found


def _first_trained(life: Indexed, others: Collection[str]) -> int:
    """Which record of a life is its first element that trains; behind all of them if there is none."""
    rows = np.flatnonzero([life.keys[key] not in others for key in life.iterators.key.tolist()])
    at = life.elements_of(rows)
    return int(at[0]) if len(at) else len(life.life.ledger.records)


def _while_it_trains(life: Indexed, first: int) -> Indexed:
    """A life without what it showed before its first element that trains: a sample may be taken before the restore."""
    samples = life.elements[life.elements < first]
    if not len(samples):
        return life
    last, evidence = int(samples[-1]), life.evidence
    kept = replace(
        evidence,
        readings=tuple(one for one in evidence.readings if one.why != "element" or one.at > last),
        looks=tuple(one for one in evidence.looks if one.why != "element" or one.at > last),
    )
    return _showing(life, kept)


def _showing(life: Indexed, evidence: Evidence) -> Indexed:
    return replace(life, life=replace(life.life, ledger=replace(life.life.ledger, evidence=evidence)))


def _stand(
    reference: Indexed,
    lives: Sequence[Indexed],
    begun: Sequence[Sequence[Place]],
    firsts: Sequence[int],
    *,
    ahead: bool,
) -> Stand:
    """Of the last of some lives.

    Args:
        reference: the run that nobody killed.
        lives: in their order.
        begun: where the models of the others were when they began.
        firsts: which record of each is its first element that trains.
        ahead: another thread takes the elements.
    """
    mine, before = lives[-1].evidence, lives[:-1]
    fresh = begun_with(reference, reference.evidence).values
    start = begun_with(lives[-1], reference.evidence)
    files = of_the_last_stage(_settled(files_of(mine, before), begun), reference.evidence)
    by_counters = fitting_moments(start.values, fresh, before)
    values = values_of(reference, lives, begun, firsts).corroborated([*files.places.values(), *by_counters])
    told = _told_by(values, by_counters, files)
    files = _as_the_values_tell(files, values, told)
    anew = [name for name, value in start.values.items() if value == fresh.get(name)]
    if not by_counters:
        start = before_skipped_passes(start, lives[-1], reference.evidence)
    later = {name: value for name, value in start.values.items() if name not in anew}
    resumed = bool(later) or (files.read and not (told and all(place.life == 0 for place in told)))
    notes: tuple[str, ...] = ()
    lost = None
    if anew and files.resumed and not files.new and not _as_saved(start.values, files, before):
        # Nothing that was restored is known to this counter: `compile` has just made it.
        notes = (f"{' and '.join(anew)} began anew over weights that were restored, and what depends on it{_LIKE}",)
        lost = _added_up(anew, mine, files, before)
        start = Start(later, start.role)
    fitting = fitting_moments(start.values, fresh, before)
    torn = None if fitting or len(start.values) < 2 else _torn_counters(start.values, fresh, before)
    places, contradiction = _agreed(files, fitting, start, short=len(lives[-1].elements) < _SHORT)
    if told and not contradiction:
        places = tuple(place for place in places if any(_same(place, one) for one in told)) or told
    torn = torn or _of_other_moments(values, told) or contradiction or _trained_apart(files, places)
    torn = torn or (_without_weights(files, later, fitting) if start.role == "model" else None)
    if torn is None:
        new = files.new if later and files.read else ()
        notes = (*notes, *_on_files(files, new), *_on_what_is_apart(values, told or places))
    if not len(lives[-1].elements) and not files.read and not places:
        places = _newest_save(before)  # it took the files that it found for those of a finished training
    unseen = None if torn else _of_later(files, places)
    if not later and not torn and not files.places:
        unseen = _unseen(files)
    if told and not ahead:
        places = tuple(values.exactly(place, lives) for place in places)
    read_nothing = not mine.restored and _saves_are_seen(reference, before)
    return Stand(() if unseen else places, torn, lost, unseen, notes, read_nothing, resumed)


def _settled(files: Files, begun: Sequence[Sequence[Place]]) -> Files:
    """The same where what a life saved before its first element is of the moment at which its own model was."""
    return replace(files, places={path: _settle(place, begun) for path, place in files.places.items()})


def _settle(place: Place, begun: Sequence[Sequence[Place]]) -> Place:
    while place.life > 1 and not place.taken and len(places := begun[place.life - 1]) == 1:
        place = places[0]
    return place


def _told_by(values: Values, fitting: Sequence[Place], files: Files) -> tuple[Place, ...]:
    """The moments that the weights' values tell; where these have been the same for a while, files or counters do."""
    for others in (files.places.values(), fitting):
        told = tuple(place for place in values.places if any(_same(place, other) for other in others))
        if told:
            return told
    return values.places


def _as_the_values_tell(files: Files, values: Values, told: Sequence[Place]) -> Files:
    """What the files say, corrected by what the weights are: others may have been read, and never used."""
    if not told:
        return files
    places = {path: place for path, place in files.places.items() if any(_same(place, one) for one in told)}
    if not places and len(_distinct(told)) == 1:
        places = {_NO_PATH: told[0]}
    told_of = values.cleared(told) | {one.weight.name for one in (*values.beside(told), *values.made_anew(told))}
    new = tuple(name for name in files.new if name.partition(":")[0] not in told_of)
    if not files.places:  # all were read unseen: of those that are too small to be looked at nothing is known
        new = tuple(name for name in new if name.partition(":")[0] in values.looked_at)
    return replace(files, places=places, new=new, foreign={}, unseen=())


def _of_other_moments(values: Values, told: Sequence[Place]) -> str | None:
    """What to say of weights that have not the values of the moment that the rest has."""
    apart = values.apart(told)
    return f"the restored model is torn: {_each_as_it_was(apart)}; the rest is {_fits(told)}" if apart else None


def _on_files(files: Files, new: Sequence[str]) -> Iterator[str]:
    """Notes on files of several moments, and on weights from none, that make no model torn."""
    if new:
        yield f"{_few(new)} {NOT_RESTORED}"
    if len(_distinct(files.places.values())) > 1:
        parts = (f"{path} was saved {place.words}" for path, place in sorted(files.places.items()))
        yield f"weights came from files of several moments: {'; '.join(parts)}"


def _on_what_is_apart(values: Values, places: Sequence[Place]) -> Iterator[str]:
    """Notes on variables of another moment that make no model torn."""
    beside = values.beside(places)
    new, restored = [one for one in beside if one.new], [one for one in beside if not one.new]
    copies = [one for one in new if one.copy and not one.stranger]
    weights = [one for one in new if one not in copies and values.may_be_weights(one)]
    logs = [one for one in new if one not in copies and one not in weights]
    fates = (
        *((restored, OF_ANOTHER_MOMENT), (weights, NOT_WITH_THE_REST), (copies, COPIED_ANEW), (logs, BEGUN_ANEW)),
        (values.made_anew(places), MADE_ANEW),
    )
    for found, fate in fates:
        if found:
            yield f"{_each_as_it_was(found)}: {fate}"
    if other := [one.weight.name for one in values.other_than_saved(places)]:
        yield f"{_few(other[:_NAMED])} {'is' if len(other) == 1 else 'are'} {OTHER_THAN_SAVED}"


def _each_as_it_was(found: Sequence[Found]) -> str:
    named: dict[str, list[str]] = {}
    for one in found:
        when = [BEGINNING] if one.new else one.places
        named.setdefault(_fits(when), []).append(one.weight.name)
    return "; ".join(
        f"{_few(names[:_NAMED])} {'is' if len(names) == 1 else 'are'} {words}" for words, names in named.items()
    )


def _saves_are_seen(reference: Indexed, lives: Sequence[Indexed]) -> bool:
    """Whether all that some lives have saved, if anything, are files below the run's directory: a read of one is seen.

    That the reference run's are shows that nothing was saved unseen where they had not come to their first save.
    """
    saved = [one.path for life in (reference, *lives) for one in life.evidence.saved]
    return bool(saved) and not any(path.startswith("/") or "://" in path for path in saved)


def _added_up(anew: Sequence[str], mine: Evidence, files: Files, before: Sequence[Indexed]) -> str | None:
    """What to say of gradients that an optimizer had added up when the weights were saved, if it begins anew."""
    groups = {one.name: one.group for one in mine.counters if one.name in anew and one.group > 1}
    for path, place in files.places.items():
        readings = before[place.life - 1].evidence.readings
        saved = next((one.values for one in readings if one.why == "save" and one.at == place.at), {})
        for name, group in groups.items():
            if rest := saved.get(name, 0) % group:
                return (
                    f"{name} began anew, and when {path} was saved it had added up the gradients of "
                    f"{count(rest, 'element')} out of {group}, which are in no weights: they have been lost"
                )
    return None


def _as_saved(values: Mapping[str, int], files: Files, lives: Sequence[Indexed]) -> bool:
    """Whether counters have the values of when the weights were saved: the first epoch's number is a new run's too."""
    return any(_same(place, one) for place in moments_of(values, lives) for one in files.places.values())


def _trained_apart(files: Files, places: Sequence[Place]) -> str | None:
    """What to say of weights that are trained, and come from a file of another moment than the rest."""
    for path in sorted(files.trained & files.places.keys()):
        place = files.places[path]
        if places and not any(_same(place, one) for one in places):
            return (
                f"the restored model is torn: {path} was saved {place.words}, and the weights that came from it are "
                f"trained, but the rest is as it was {places[0].words}"
            )
    return None


def _without_weights(files: Files, later: Mapping[str, int], fitting: Sequence[Place]) -> str | None:
    """What to say of a life that went on with the counters of an earlier one, but not with its weights."""
    if not later or not fitting or not files.read or files.places or not (files.new or files.foreign):
        return None
    if files.new and files.passed_over:
        return None  # it may have read them by means of its own: a note, and the final weights tell
    values = ", ".join(f"{name} is {value}" for name, value in later.items())
    told = [f"{_few(files.new)} {NOT_RESTORED}"] if files.new else []
    told += [
        f"{_few(names) or 'its weights'} came from {path}, which no life of this test wrote"
        for path, names in files.foreign.items()
    ]
    return f"the restored model is torn: {values}, {_fits(fitting)}, but {'; '.join(told)}"


def _of_later(files: Files, places: Sequence[Place]) -> str | None:
    """What to say of weights from a file that was saved later than the rest, of which nobody saw whether they train."""
    for path in sorted(files.unwatched & files.places.keys()):
        place = files.places[path]
        if places and all((place.life, place.taken) > (one.life, one.taken) for one in places):
            return (
                f"{path} was saved {place.words}, and the rest of the model is as it was {places[0].words}: whether "
                "the weights in it are trained is not known. Save them together, or read only files that are not newer "
                "than the checkpoint"
            )
    return None


def _unseen(files: Files) -> str | None:
    """What to say of a life whose weights are of a moment that nobody knows."""
    if not files.unseen:
        return None
    return (
        f"its weights came from {_few(files.unseen)}, which no life was seen to write (another program's copy?), and "
        "nothing else tells of which moment they are: pass step=, a function that returns the model's step"
    )


def _few(names: Sequence[str]) -> str:
    return " and ".join(names)


def _newest_save(lives: Sequence[Indexed]) -> tuple[Place, ...]:
    """The last complete checkpoint of some lives, if they saved any."""
    for number in range(len(lives), 0, -1):
        for saved in reversed(lives[number - 1].evidence.saved):
            if saved.done is not None and (saved.weights or saved.data):
                return (place_at(number, lives, saved.began, saving=True),)
    return ()


def _saved_at_its_step(lives: Sequence[Indexed]) -> tuple[Place, ...]:
    """The saves of earlier lives at the step at which the last one began."""
    events = lives[-1].events
    undone = np.flatnonzero((events.kind == Kind.RESTORED) & (events.progress == 0))
    known = np.flatnonzero((events.kind == Kind.STEP) & (events.step >= 0))
    known = known[known > (undone[-1] if len(undone) else -1)]
    if not len(known):
        return ()
    step = events.step[known[0]]
    return tuple(
        place_at(number, lives, int(at), saving=True)
        for number in range(len(lives) - 1, 0, -1)
        for at in reversed(_saves_at(lives[number - 1], int(step)))
    )


def _saves_at(life: Indexed, step: int) -> list[int]:
    found: list[int] = life.events.at[(life.events.kind == Kind.SAVED) & (life.events.step == step)].tolist()
    return found


def _torn_counters(values: Mapping[str, int], fresh: Mapping[str, int], lives: Sequence[Indexed]) -> str | None:
    """What to say of counters each of which fits a moment, but all together none."""
    parts = []
    for name, value in values.items():
        fits = fitting_moments({name: value}, fresh, lives)
        if not fits:
            return None
        new = value == fresh.get(name)
        parts.append(f"{name} is {value}, {'as in a new training' if new else _fits(fits)}")
    return f"the restored model is torn: {'; '.join(parts)}"


def _fits(places: Sequence[Place], was: str = "it was") -> str:
    return places[0].words if places[0].life == 0 else f"as {was} {places[0].words}"


def _agreed(
    files: Files, fitting: Sequence[Place], start: Start, *, short: bool
) -> tuple[tuple[Place, ...], str | None]:
    """The moments on which files and counters agree, and what to say if they do not."""
    distinct = _distinct(files.places.values())
    if not distinct:
        return tuple(fitting), None
    both = [place for place in distinct if any(_same(place, other) for other in fitting)]
    if len(both) == 1:
        return tuple(both), None
    if len(distinct) > 1 and short and not start.values:
        # A stage that has ended was restored as well, and no counter has moved yet that tells which counts.
        return (), None
    if len(distinct) > 1:
        parts = [f"{path} was saved {place.words}" for path, place in sorted(files.places.items())]
        return (), f"the restored model is torn: {'; '.join(parts)}"
    if fitting and start.role == "model":
        values = ", ".join(f"{name} is {value}" for name, value in start.values.items())
        path = next(iter(files.places))
        weights = f"are those of {path}, saved {distinct[0].words}" if path else f"are {_fits(distinct, 'they were')}"
        return (), f"the restored model is torn: its weights {weights}, but {values}, {_fits(fitting)}"
    return tuple(distinct), None


def _distinct(places: Iterable[Place]) -> list[Place]:
    found: list[Place] = []
    for place in places:
        if not any(_same(place, other) for other in found):
            found.append(place)
    return found


def _same(left: Place, right: Place) -> bool:
    """Whether two moments are the same; before the first life has taken anything it is as a new training is."""
    return (max(left.life, 1), left.taken) == (max(right.life, 1), right.taken)


__all__ = ["Stand", "stands"]
