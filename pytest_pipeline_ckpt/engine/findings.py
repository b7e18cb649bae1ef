"""Names what went wrong in a lane of known order: the first life whose surviving elements are not right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .model import Outcome
from .survival import Difference, Finding, Piece, compare, find_shift, first_difference, joined
from .wording import MOST_RANGES, count, positions_text, ranges, spans, were

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .indexed import UintArray
    from .lanes import Lane


def judge_lane(
    lane: Lane, pieces: Sequence[Piece], *, references: int, ended: bool, unsteady: bool = False
) -> Finding | None:
    """Compares `H` with `G`; None: they are equal.

    Args:
        lane: of the reference run.
        pieces: of the lives.
        references: how many reference runs there were, all equal.
        ended: the last life came to its natural end, so that all of `G` should be there.
        unsteady: the reference runs themselves take other numbers of elements for the same steps.
    """
    right = len(lane.track)
    for number, piece in enumerate(pieces):
        if piece.start > piece.before:
            return ahead_of_all(lane, piece)
        common = max(0, min(piece.kept, right - piece.start))
        wrong = first_difference(lane.track, piece.start, piece.track, common)
        if wrong is not None:
            if number == 0 and piece.start == 0:
                return _first_life(lane, piece, references)
            final = number == len(pieces) - 1
            return _resumed_wrongly(lane, pieces[: number + 1], final=final, ended=ended and final)
        if piece.start + piece.kept > right:
            return _overrun(lane, piece)
    total = pieces[-1].start + len(pieces[-1].track) if pieces else 0
    if ended and total < right:
        return _incomplete(lane, pieces, total)
    found = (_out_of_step(piece, unsteady=unsteady) for piece in pieces[1:] if piece.track.off is not None)
    return next(found, None)


def _out_of_step(piece: Piece, *, unsteady: bool) -> Finding:
    """The right elements, of which the steps take other numbers: something that held some of them was not restored."""
    assert piece.track.off is not None
    if unsteady:
        reason = (
            "how many elements a step takes differs from run to run, so whether all that had been taken when the model "
            "was saved had been trained on is not known: seed what decides it"
        )
        return Finding(Outcome.UNKNOWN, piece.life, reason)
    step, by = piece.track.off
    how = "had taken more elements" if by > 0 else "had taken fewer elements"
    fate = "has been lost" if by > 0 else "is trained on twice"
    reason = (
        f"life {piece.life} {how} than the reference run when its step {step} began (up to {abs(by)} in all), although "
        "it went on with the right one: what had been taken before the save and was not trained on yet (a packing "
        f"buffer, a queue) {fate}"
    )
    return Finding(Outcome.LOST if by > 0 else Outcome.DUPLICATED, piece.life, reason, held=True)


def misaligned(lane: Lane, piece: Piece, shift: int) -> Finding:
    """The pipeline resumed `shift` elements ahead of the model (behind: negative)."""
    place = piece.start + shift
    far = count(abs(shift), "element")
    where = f"model at {_resumed_at(lane, piece, place)}"
    if place == 0:
        found = ranges(np.arange(min(piece.start, len(piece.track))))
        reason = (
            f"{positions_text(found)} {were(found)} trained twice: life {piece.life} restarted the "
            "pipeline at element 0, and "
            f"the model had resumed at {_resumed_at(lane, piece, piece.start)}"
        )
        return Finding(Outcome.RESTARTED, piece.life, reason, spans("twice", found, lane.track, 0), shift)
    if shift < 0:
        found = [(place, piece.start - 1)]
        fate, how = "trained twice", f"{far} behind"
        made = spans("twice", found, lane.track, 0)
    else:
        found = [(piece.start, place - 1)]
        fate, how = "never trained", f"{far} ahead of"
        made = spans("lost", found, lane.track, 0)
    held = shift > 0 and shift == lane.lags.saved
    if held:
        where += ": as many as had been taken and not trained on when the run that nobody killed saved"
    reason = f"{positions_text(found)} {were(found)} {fate}: the pipeline resumed {how} the model ({where})"
    return Finding(Outcome.MISALIGNED, piece.life, reason, made, shift, held)


def _resumed_at(lane: Lane, piece: Piece, element: int) -> str:
    """`step 10, element 10`; without the step where that is not the one at which the model had been saved."""
    step = piece.track.step
    counted = step is not None and lane.law.at(step) <= piece.start < lane.law.at(step + 1)
    if piece.track.start is not None and not counted:
        return f"element {piece.start}, data at element {element}" if element != piece.start else f"element {element}"
    return f"step {step}, element {element}"


def ahead_of_all(lane: Lane, piece: Piece) -> Finding:
    """The model claims more steps than were ever made."""
    where = f"the model resumed at step {piece.track.step}, which is element {piece.start}"
    reason = f"{where}, but only {count(piece.before, 'element')} had been trained by then"
    if not len(piece.track):
        return Finding(Outcome.MISALIGNED, piece.life, reason)
    right, ours = lane.track.values(0, len(lane.track)), piece.track.values(0, len(piece.track))
    common = max(0, min(len(ours), len(right) - piece.start))
    if common and np.array_equal(right[piece.start : piece.start + common], ours[:common]):
        found = [(piece.before, piece.start - 1)]
        made = spans("lost", found, lane.track, 0)
        return Finding(
            Outcome.MISALIGNED, piece.life, f"{reason}: {positions_text(found)} {were(found)} never trained", made
        )
    shift = find_shift(right, ours, piece.start, _first_pass(piece))
    if shift is None:
        return Finding(Outcome.CHANGED, piece.life, f"{reason}, and what it took is no run of the reference's elements")
    went_on = f"the pipeline resumed at element {piece.start + shift}"
    return Finding(Outcome.MISALIGNED, piece.life, f"{reason}; {went_on}")


def _first_life(lane: Lane, piece: Piece, references: int) -> Finding:
    ours = piece.track.values(0, piece.kept)
    right = lane.track.values(0, len(lane.track))
    common = min(len(ours), len(right))
    found = ranges(np.flatnonzero(ours[:common] != right[:common]))
    if references > 1:
        against = f"from {references} reference runs, which are equal"
    else:
        against = "from the reference run: the pipeline differs from run to run"
    reason = f"life {piece.life}, which had nothing to resume from, differs at {positions_text(found)} {against}"
    return Finding(Outcome.CHANGED, piece.life, reason, spans("changed", found, piece.track, 0))


def _first_pass(piece: Piece) -> int:
    ends = piece.track.ends
    return int(ends[0]) if len(ends) else len(piece.track)


def _resumed_wrongly(lane: Lane, pieces: Sequence[Piece], *, final: bool, ended: bool) -> Finding:
    """The last of the pieces is the first that is not the reference's; `ended`: it came to its natural end."""
    piece = pieces[-1]
    right, ours = lane.track.values(0, len(lane.track)), piece.track.values(0, len(piece.track))
    rest = len(right) - len(ours)
    if ended and len(ours) and rest > 0 and np.array_equal(right[rest:], ours):
        return misaligned(lane, piece, rest - piece.start)  # where passes are equal, its length tells which it began
    restarted = min(len(ours), len(right), _first_pass(piece))
    if piece.start > 0 and np.array_equal(right[:restarted], ours[:restarted]):
        return misaligned(lane, piece, -piece.start)
    shift = find_shift(right, ours, piece.start, _first_pass(piece))
    if shift is not None:
        return misaligned(lane, piece, shift)
    history = joined(pieces)
    if not final:
        history = history[: piece.start + piece.kept]
    return _as_multiset(lane, piece, history, right, upto=len(right) if final else min(len(right), len(history)))


def _as_multiset(lane: Lane, piece: Piece, history: UintArray, right: UintArray, *, upto: int) -> Finding:
    difference = compare(history, right, upto=upto)
    life = f"life {piece.life}"
    if len(difference.foreign):
        found = ranges(difference.foreign)
        reason = (
            f"{positions_text(found)}, trained in {life}, {were(found)} not in the reference run: the content changed"
        )
        made = spans("changed", found, piece.track, piece.start)
        return Finding(Outcome.CHANGED, piece.life, reason, made)
    if len(difference.lost) or len(difference.twice):
        return _lost_or_twice(lane, piece, difference)
    common = min(len(history), len(right))
    found = ranges(np.flatnonzero(history[:common] != right[:common]))
    reason = f"{positions_text(found)} came in another order in {life}"
    made = spans("reordered", found, lane.track, 0)
    return Finding(Outcome.REORDERED, piece.life, reason, made)


def _lost_or_twice(lane: Lane, piece: Piece, difference: Difference) -> Finding:
    lost, twice = ranges(difference.lost), ranges(difference.twice)
    words = [f"{positions_text(lost)} {were(lost)} never trained"] if lost else []
    words += [f"{positions_text(twice)} {were(twice)} trained twice"] if twice else []
    made = spans("lost", lost, lane.track, 0)
    made += spans("twice", twice, lane.track, 0, shown=MOST_RANGES - len(made))
    outcome = Outcome.LOST if lost else Outcome.DUPLICATED
    return Finding(outcome, piece.life, f"{', and '.join(words)}, after life {piece.life} resumed", made)


def _overrun(lane: Lane, piece: Piece) -> Finding:
    right, last = len(lane.track), piece.start + piece.kept - 1
    found = [(right, last)]
    reason = (
        f"life {piece.life} trained on after the end: {positions_text(found)} {were(found)} extra, "
        "because the reference run "
        f"took {count(right, 'element')}"
    )
    made = spans("extra", found, piece.track, piece.start)
    return Finding(Outcome.OVERRUN, piece.life, reason, made)


def _incomplete(lane: Lane, pieces: Sequence[Piece], total: int) -> Finding:
    found = [(total, len(lane.track) - 1)]
    life = pieces[-1].life if pieces else 0
    if pieces and not len(pieces[-1].track):
        reason = f"life {life} trained 0 elements although {positions_text(found)} {were(found)} left"
    else:
        fate = f"{positions_text(found)} {were(found)} never trained"
        reason = f"training ended after {count(total, 'element')} in life {life}: {fate}"
    made = spans("missing", found, lane.track, 0)
    return Finding(Outcome.INCOMPLETE, life, reason, made)
