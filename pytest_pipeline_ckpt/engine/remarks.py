"""What a verdict says besides: its scope, its notes, and what an exact one rests on. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .idle_steps import idle_steps
from .model import Ending, KillSchedule, Kind, Outcome, Scope, Verdict
from .survival import Finding
from .wording import count, left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cases import Case
    from .indexed import Indexed
    from .model import Life
    from .survival import Piece


def landed(lives: Sequence[Life]) -> int:
    """How many planned kills have landed."""
    return sum(life.ending is Ending.KILLED for life in lives)


def _saves(run: Indexed) -> int:
    return int(np.count_nonzero(run.events.kind == Kind.SAVED))


def scope_of(case: Case, lives: Sequence[Life], pieces: Sequence[Sequence[Piece]]) -> Scope:
    """What an exact verdict rests on."""
    killed = [run for run in case.lives if run.life.ending is Ending.KILLED]
    later = [piece for lane in pieces for piece in lane if piece.life > 1]
    anew = _anew(case, lives, pieces)
    return Scope(
        kills_landed=landed(lives),
        saves_crossed=sum(_saves(run) for run in killed),
        elements_compared=sum(piece.kept for piece in later),
        elements_replayed=sum(len(piece.track) - piece.kept for lane in pieces for piece in lane),
        began_anew=anew.count(True),
        resumed=anew.count(False),
    )


def _anew(case: Case, lives: Sequence[Life], lanes: Sequence[Sequence[Piece]]) -> list[bool | None]:
    """Of each life whether it began with a new model although a complete checkpoint stood; None: it is not told."""
    found: list[bool | None] = [None] * len(lives)
    for number in range(1, len(lives)):
        began = [piece for lane in lanes for piece in lane if piece.life == number + 1 and len(piece.track)]
        if case.stands[number].resumed or any(piece.start for piece in began):
            found[number] = False
        elif began and lives[number - 1].standing and lives[number - 1].ending is Ending.KILLED:
            found[number] = True
    return found


def never_resumed(
    case: Case,
    lives: Sequence[Life],
    lanes: Sequence[Sequence[Piece] | Finding],
    scope: Scope,
    notes: tuple[str, ...],
) -> Verdict:
    """The verdict on lives that all began anew although complete checkpoints stood."""
    number = _anew(case, lives, [lane for lane in lanes if not isinstance(lane, Finding)]).index(True)
    standing = lives[number - 1].standing
    more = f" and {len(standing) - 1} more" if len(standing) > 1 else ""
    reason = (
        f"life {number + 1} began anew, with a new model, although {standing[-1]}{more} stood complete: no life read "
        "what an earlier one had saved, so each preemption loses all progress"
    )
    return Verdict(Outcome.NEVER_RESUMED, reason, number + 1, scope=scope, notes=notes)


def named(finding: Finding, case: Case, number: int) -> Finding:
    """With several lanes the reason says which."""
    lane = case.known.lanes[number]
    if lane.doubtful:
        place = lane.label.split(",")[0]
        reason = (
            f"{lane.label}: a step takes an element of it now and then, from an iterator that lives on. If it trains: "
            f'{finding.reason}. If it is for validation, say so: validation=["{place}"]'
        )
        return Finding(Outcome.UNKNOWN, finding.life, reason)
    if len(case.known.lanes) == 1:
        return replace(finding, lane=lane.label)
    reason = f"{lane.label}: {finding.reason}"
    twins = [one for one in case.known.lanes if one.label == lane.label]  # of one line, which `validation=` names
    if finding.outcome is Outcome.RESTARTED and len(twins) == 1:
        reason += f'. If nothing is trained on it, say so: validation=["{lane.label.split(",")[0]}"]'
    return replace(finding, lane=lane.label, reason=reason)


def notes_on(case: Case, lives: Sequence[Life], scope: Scope, saved_by_others: Sequence[int]) -> tuple[str, ...]:
    """What a reader should know besides."""
    first = case.references[0]
    listed: list[tuple[str, int]] = []
    for key, (name, label) in enumerate(zip(first.keys, first.labels, strict=True)):
        if name in case.known.classes.others:
            listed.append((label, int(first.iterators.count[first.iterators.key == key].sum())))
    notes: list[str | None] = [left_out(listed)] if listed else []
    saved = 0
    for number, (run, life, by_others) in enumerate(zip(case.lives, lives, saved_by_others, strict=True), 1):
        saved += _saves(run) + by_others + len(life.ledger.evidence.saved)
        if life.ending is Ending.KILLED and not saved and not any(stand.resumed for stand in case.stands[number:]):
            notes.append(f"life {number} was killed before the first save, which proves little")
        notes.append(None if by_others else _notice(number, run, life))
    if uncounted := idle_steps(first.life):
        notes.append(f"{count(uncounted, 'step')} counted where the data had ended, without an element, left out")
    notes += [f"life {number}: {note}" for number, stand in enumerate(case.stands, 1) for note in stand.notes]
    if scope.elements_replayed:
        notes.append(f"{count(scope.elements_replayed, 'element')} trained again after rollbacks (legal replay)")
    return tuple(note for note in notes if note is not None)


def _notice(number: int, run: Indexed, life: Life) -> str | None:
    """What a life made of the signal that announced its end, if that was nothing."""
    if life.noticed is None or ((run.events.kind == Kind.SAVED) & (run.events.at >= life.noticed)).any():
        return None
    if life.grace is not None:
        return f"notice ignored: no checkpoint was written within {life.grace:.1f} s"
    return f"life {number} did not use the notice: it ended ({life.status}) without writing a checkpoint"


def differing_notes(overlap: int, redrawn: bool) -> tuple[str, ...]:
    """Of a pipeline that differs from run to run."""
    notes = ["the pipeline differs from run to run", f"order judged on {count(overlap, 'overlapping element')}"]
    if redrawn:
        notes.append("after a resume an unseeded shuffle draws later passes anew, which loses nothing")
    return tuple(notes)


def unfinished(case: Case, lives: Sequence[Life]) -> tuple[int, str] | None:
    """The life that did not go as planned although its elements are right, and what happened."""
    if lives[-1].ending not in (Ending.FINISHED, Ending.STOPPED):
        how = f"did not run to its end ({lives[-1].ending.value}): what follows is not known"
        return len(lives), f"life {len(lives)}, the last one, {how}"
    for number, (life, tracks) in enumerate(zip(lives, case.tracks, strict=True), 1):
        if life.kill is not None and life.ending is Ending.FINISHED:
            taken = count(sum(track.taken for track in tracks), "training element")
            where = KillSchedule((life.kill,))
            return (
                number,
                f"the kill planned for life {number} ({where}) never landed: it ended by itself after {taken}",
            )
    return None


def exact_reason(scope: Scope, order: str, differ: bool) -> str:
    """The sentence of an exact verdict."""
    how = "exactly the reference run's elements"
    if differ:
        how = "each pass's rows, in an order that no resume changed"
    if order == "any":
        how = "the reference run's rows"
    compared = count(scope.elements_compared, "element")
    kills = count(scope.kills_landed, "kill")
    return f"the final model has been trained on {how}; {compared} compared after {kills}"
