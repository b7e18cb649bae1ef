"""What of the lives' histories the final model has been trained on: `H` of DESIGN 3.3, piece by piece.

`H := C_1`, and for each later life `H := H[:p] + T` where `p` is what its model had been trained on when it began
(`moments`, else its step by the law of the lane): what a life did beyond the checkpoint from which the next one went on
was rolled back in the model too, and counts no more. `H` is that of the life before, unless the checkpoint is known to
be an older life's: whatever was between is a dead end then, as a life that was killed before it had restored anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .indexed import IntArray, UintArray, chunks
from .model import Kind, Outcome, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lanes import Lane
    from .tracks import Track

_MOST_PLACES = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong in one lane."""

    outcome: Outcome
    life: int
    reason: str
    spans: tuple[Span, ...] = ()
    ahead: int | None = None
    """See `LifeSpan`."""
    held: bool = False
    """See `Verdict`."""
    torn: bool = False
    """See `Verdict`."""
    lane: str = ""
    """Its label, where it is known which."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one life contributed to one lane."""

    life: int
    """Counts from 1."""
    start: int
    """Position in `H` of its first element: where the model stood."""
    track: Track
    before: int
    """The length of `H` when the life began."""
    kept: int
    """How many of its elements no later life rolled back."""
    dead: bool = False
    """A later life went on with the checkpoint of one before it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one sequence of elements differs from another as a multiset; positions ascend."""

    foreign: IntArray
    """Positions in the judged sequence of elements that the right one does not have at all."""
    lost: IntArray
    """Positions in the right sequence of elements that the judged one lacks."""
    twice: IntArray
    """Positions in the right sequence of elements that the judged one has more often."""


def pieces_of(lane: Lane, tracks: Sequence[Track], final: int) -> list[Piece] | Finding:
    """The pieces that `H` is made of, in the order of the lives.

    Args:
        lane: of the reference run.
        tracks: of the lives.
        final: the number of the life that was to run to its end, or 0.
    """
    base: int | None = None
    made: list[Piece] = []
    saved = None
    for life, track in enumerate(tracks, 1):
        step = track.step
        if step is None and len(track) == 0 and life == final:
            step = saved
        if len(track) or life == final:
            if step is None and track.start is None and (life > 1 or len(track)):
                return _unknown_step(life, track)
            if base is None:
                base = step if life == 1 and step is not None else lane.first_step
            start = track.start
            if start is None:
                start = max(0, lane.law.at(base if step is None else step) - lane.law.at(base))
            start += track.held
            older = [one for one in made if track.parent is None or one.life <= track.parent]
            before = older[-1].start + len(older[-1].track) if older else 0
            made.append(Piece(life, start, track, before, len(track)))
        saved = _last_saved(track, saved)
    return _as_kept(made)


def _as_kept(made: Sequence[Piece]) -> list[Piece]:
    """The pieces with what is left of them in the end."""
    pieces: list[Piece] = []
    end: int | None = None
    alive = made[-1].life if made else 0
    for piece in reversed(made):
        if piece.life > alive:
            pieces.append(replace(piece, kept=0, dead=True))
            continue
        kept = len(piece.track) if end is None else max(0, min(len(piece.track), end - piece.start))
        pieces.append(replace(piece, kept=kept))
        end = piece.start if end is None else min(end, piece.start)
        alive = piece.life - 1 if piece.track.parent is None else piece.track.parent
    return pieces[::-1]


def _unknown_step(life: int, track: Track) -> Finding:
    took = f"took {len(track)} training elements" if len(track) else "took no training element"
    reason = (
        f"life {life} {took}, and the model's step when it began could not be observed, so where it "
        "should have gone on is "
        "not known: pass step=, a function that returns it"
    )
    return Finding(Outcome.UNKNOWN, life, reason)


def _last_saved(track: Track, before: int | None) -> int | None:
    events = track.life.events
    saved = np.flatnonzero((events.kind == Kind.SAVED) & (events.step >= 0))
    return int(events.step[saved[-1]]) if len(saved) else before


def joined(pieces: Sequence[Piece], field: str = "value") -> UintArray:
    """One field of the elements of `H` after these pieces."""
    found: UintArray = np.empty(0, np.uint64)
    for piece in pieces:
        if not piece.dead:
            found = np.concatenate((found[: piece.start], piece.track.values(0, len(piece.track), field)))
    return found


def first_difference(left: Track, begin: int, right: Track, count: int) -> int | None:
    """The first of `count` positions at which `left` from `begin` on and `right` differ; None: they are equal."""
    for a, b in chunks(count):
        unequal = left.values(begin + a, begin + b) != right.values(a, b)
        if unequal.any():
            return a + int(np.argmax(unequal))
    return None


def compare(judged: UintArray, right: UintArray, *, upto: int | None = None) -> Difference:
    """Compares two sequences as multisets.

    Where an element occurs several times, positions near the first difference are named: that is where it went wrong.

    Args:
        judged: the fingerprints that are judged.
        right: those that should be there.
        upto: only the elements before this position of `right` must be there; those behind it may be.
    """
    upto = len(right) if upto is None else upto
    distinct, code = np.unique(np.concatenate((judged, right)), return_inverse=True)
    code = code.reshape(-1)
    mine, theirs = code[: len(judged)], code[len(judged) :]
    have, could = np.bincount(mine, minlength=len(distinct)), np.bincount(theirs, minlength=len(distinct))
    must = np.bincount(theirs[:upto], minlength=len(distinct))
    common = min(len(judged), len(right))
    unequal = judged[:common] != right[:common]
    wrong = int(np.argmax(unequal)) if unequal.any() else common
    forward = np.concatenate((np.arange(min(wrong, upto), upto), np.arange(min(wrong, upto))))
    behind = min(wrong + 1, len(right))
    backward = np.concatenate((np.arange(behind)[::-1], np.arange(behind, len(right))))
    surplus = np.where(could > 0, np.maximum(0, have - could), 0)
    return Difference(
        foreign=np.flatnonzero(could[mine] == 0),
        lost=_first_of(theirs, forward, np.maximum(0, must - have)),
        twice=_first_of(theirs, backward, surplus),
    )


def _first_of(code: IntArray, order: IntArray, wanted: IntArray) -> IntArray:
    """Of each code the first `wanted[code]` positions in `order`; ascending."""
    some = order[wanted[code[order]] > 0]
    codes = code[some]
    by_code = np.argsort(codes, kind="stable")
    ordered = codes[by_code]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else ordered
    rank = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.append(begins, len(ordered))))
    return np.sort(some[by_code[rank < wanted[ordered]]])


def find_shift(right: UintArray, judged: UintArray, start: int, first_pass: int) -> int | None:
    """How far from `start` a run of `right` begins that `judged` is, 0 excluded; the smallest; None: there is none.

    What reaches over the end of `right` is not compared. When the whole is no run, its first pass may be: a loop that
    counts its steps goes on rightly in the next epoch.

    Args:
        right: what should have been trained on.
        judged: what a life trained on; not empty.
        start: where it should be in `right`.
        first_pass: length of the beginning of `judged` that is one pass.
    """
    for reach in dict.fromkeys((len(judged), first_pass)):
        needed = min(len(judged), max(2, (reach + 1) // 2))
        places = np.flatnonzero(right == judged[0])
        places = places[(places != start) & (len(right) - places >= needed)]
        for offset in range(1, min(reach, 64)):
            reached = np.minimum(places + offset, len(right) - 1)
            places = places[(places + offset >= len(right)) | (right[reached] == judged[offset])]
        for place in places[np.argsort(np.abs(places - start), kind="stable")][:_MOST_PLACES].tolist():
            count = min(reach, len(right) - place)
            if np.array_equal(right[place : place + count], judged[:count]):
                return int(place) - start
    return None
