"""What a picture of a trial needs: where each life trained, and what its saves cost. Pure.

The positions are those of the reference run, so that the lives stand one below the other: what a life did again because
its model had been rolled back is below what was rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .model import Cost, Kind, LifeSpan
from .survival import Finding
from .wording import ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .indexed import IntArray
    from .lanes import Lane
    from .model import Life
    from .survival import Piece
    from .tracks import Track

MOST_RANGES = 50
MOST_MARKS = 200


def lifespans(
    lanes: Sequence[Lane],
    pieces: Sequence[Sequence[Piece] | Finding],
    found: Sequence[Finding | None],
    *,
    in_order: bool,
) -> tuple[LifeSpan, ...]:
    """The reference run's and each life's, lane by lane, in the order of the lives.

    Args:
        lanes: of the reference run.
        pieces: for each lane those of the lives, or why there are none.
        found: for each lane what is wrong.
        in_order: element n of a life must be that of the reference run; else no single one is right or wrong.
    """
    made = [_of_reference(lane) for lane in lanes]
    for lane, of_lane, finding in zip(lanes, pieces, found, strict=True):
        if not isinstance(of_lane, Finding):
            made += [_of_piece(lane, piece, finding, in_order=in_order) for piece in of_lane]
    return tuple(sorted(made, key=lambda span: span.life))


def _of_reference(lane: Lane) -> LifeSpan:
    track = lane.track
    return LifeSpan(
        life=0,
        lane=lane.label,
        start=0,
        taken=len(track),
        kept=len(track),
        ending=track.life.life.ending,
        untrained=track.taken - len(track),
        saves=_saves(lane, track, 0),
        passes=_thinned(track.ends),
    )


def _of_piece(lane: Lane, piece: Piece, finding: Finding | None, *, in_order: bool) -> LifeSpan:
    track = piece.track
    wrong = _wrong(lane, piece) if finding is not None and in_order else np.empty(0, np.int64)
    return LifeSpan(
        life=piece.life,
        lane=lane.label,
        start=piece.start,
        taken=len(track),
        kept=piece.kept,
        ending=track.life.life.ending,
        untrained=track.taken - len(track),
        wrong=_joined(ranges(wrong)),
        wrong_elements=len(wrong),
        ahead=finding.ahead if finding is not None and finding.life == piece.life else None,
        saves=_saves(lane, track, piece.start),
        passes=_thinned(track.ends + piece.start),
    )


def _wrong(lane: Lane, piece: Piece) -> IntArray:
    """Positions of the elements that are not the reference run's, those behind its end included."""
    right = lane.track.values(piece.start, piece.start + len(piece.track))
    ours = piece.track.values(0, len(piece.track))
    behind = np.arange(len(right), len(ours))
    return np.concatenate((np.flatnonzero(ours[: len(right)] != right), behind)) + piece.start


def _joined(found: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """At most `MOST_RANGES`: the smallest gaps are closed."""
    if len(found) > MOST_RANGES:
        firsts, lasts = (np.array(ends) for ends in zip(*found, strict=True))
        widest = np.sort(np.argsort(firsts[1:] - lasts[:-1], kind="stable")[-(MOST_RANGES - 1) :])
        firsts, lasts = firsts[np.concatenate(([0], widest + 1))], lasts[np.concatenate((widest, [len(lasts) - 1]))]
        found = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
    return tuple(found)


def _saves(lane: Lane, track: Track, start: int) -> tuple[int, ...]:
    """Where it saved: by the step that was saved, else by the elements that had been taken."""
    events = track.life.events
    saved = events.kind == Kind.SAVED
    taken = start + np.searchsorted(track.at, events.at[saved])
    step = events.step[saved]
    return _thinned(np.unique(np.where((step >= 0) & lane.law.constant, np.maximum(0, lane.law.upto(step)), taken)))


def _thinned(positions: IntArray) -> tuple[int, ...]:
    if len(positions) > MOST_MARKS:
        positions = positions[np.linspace(0, len(positions) - 1, MOST_MARKS).astype(np.int64)]
    return tuple(positions.tolist())


def cost_of(life: Life) -> Cost:
    """What a life spent on checkpoints; of a gang's the saves of all workers, and of the rest what is largest."""
    if life.gang:
        of_workers = [cost_of(one) for one in life.gang if one is not None]
        return Cost(
            seconds=max(cost.seconds for cost in of_workers),
            saves=sum(cost.saves for cost in of_workers),
            save_seconds=max(cost.save_seconds for cost in of_workers),
            saved_bytes=max(cost.saved_bytes for cost in of_workers),  # each sees all files of the directory
            peak_mb=life.peak_mb,
        )
    records, saves = life.ledger.records, life.ledger.saves
    began, took = (np.empty(0), np.empty(0)) if saves is None else (saves["ms"] / 1e3, saves["us"] / 1e6)
    times = np.concatenate((records["ms"][[0, -1]] / 1e3 if len(records) else np.empty(0), began, began + took))
    return Cost(
        seconds=float(np.ptp(times)) if len(times) else 0.0,
        saves=len(took),
        save_seconds=float(took.sum()),
        saved_bytes=0 if saves is None else int(saves["bytes"].sum()),
        peak_mb=life.peak_mb,
    )


__all__ = ["MOST_MARKS", "MOST_RANGES", "cost_of", "lifespans"]
