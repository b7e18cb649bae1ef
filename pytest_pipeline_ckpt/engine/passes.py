"""Judging whole passes over the data, for pipelines whose order is not the same in every run.

The rows of a pass are compared as a multiset, by the sum of their digests modulo 2**64 and their number, so
that neither their order nor how they were batched matters.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .findings import ahead_of_all, misaligned
from .model import Outcome
from .survival import Finding, Piece, compare, find_shift, joined
from .wording import count, positions_text, ranges, spans, were

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .indexed import UintArray
    from .lanes import Lane
    from .tracks import Track

SEED_IT = 'seed it (tf.random.set_seed, shuffle(seed=...), sorted file names), or check with order="any"'


@dataclass(frozen=True, slots=True)
class Course:
    """A sequence of elements with the numbers of elements after which a pass had ended."""

    values: UintArray
    digests: UintArray
    rows: UintArray
    ends: tuple[int, ...]
    done: bool
    inferred: bool = False
    """The ends were not seen, but follow from the rows."""

    def content(self, begin: int, end: int) -> tuple[int, int]:
        """The digest and the number of the rows of some elements."""
        return int(self.digests[begin:end].sum(dtype=np.uint64)), int(self.rows[begin:end].sum())

    def passes(self) -> list[tuple[int, int]]:
        """The bounds of the completed passes."""
        return list(zip((0, *self.ends), self.ends, strict=False))

    def tail(self) -> tuple[int, int]:
        """The bounds of what follows the last completed pass."""
        return (self.ends[-1] if self.ends else 0), len(self.values)


@dataclass(frozen=True, slots=True)
class Differing:
    """The judgement of a lane whose references differ."""

    finding: Finding | None
    overlap: int = 0
    """Elements by which the order was judged."""
    redrawn: bool = False
    """Passes began after a resume, whose order a reference cannot tell."""


@dataclass(frozen=True, slots=True)
class _Contents:
    violation: Finding | None = None
    judged: int = 0
    """Passes whose content was judged."""
    undecided: bool = False
    """There are completed passes, but the references do not agree on their content."""


def judge_any(references: Sequence[Track], pieces: Sequence[Piece]) -> Finding | None:
    """Judges one lane without regard to order.

    Args:
        references: the tracks of all reference runs in this lane.
        pieces: of the lives.
    """
    right, judged = _of_references(references), _of_pieces(pieces)
    judged = _with_ends(right, judged, pieces)
    difference = compare(judged.values, right[0].values)
    if len(judged.values) == len(right[0].values) and not len(difference.foreign) and not len(difference.lost):
        return None
    contents = _judge_contents(right, judged, pieces, alone=len(right) == 1)
    last = pieces[-1].life if pieces else 0
    if contents.violation is not None:
        return contents.violation
    if not contents.judged:
        reason = (
            "no pass over the data was completed, so there is no multiset to compare: let the training run over whole "
            'passes (a finite dataset, or more steps), or seed the pipeline and check with order="exact"'
        )
        return Finding(Outcome.UNKNOWN, 0, reason)
    return _length(right, judged, last)


def judge_differing(lane: Lane, references: Sequence[Track], pieces: Sequence[Piece]) -> Differing:
    """Judges one lane of a pipeline that differs from run to run: by what was done twice, and by whole passes."""
    for piece in pieces:
        if piece.start > piece.before:
            return Differing(ahead_of_all(lane, piece))
    right, judged = _of_references(references), _of_pieces(pieces)
    judged = _with_ends(right, judged, pieces)
    if any(np.array_equal(judged.values, one.values) for one in right):
        return Differing(None, len(judged.values))
    contents = _judge_contents(right, judged, pieces, alone=False)
    if contents.undecided and not contents.judged and _have_nothing_in_common(right):
        reason = (
            "two runs that nobody killed have no element in common (tf.random in a map, an augmentation without a "
            "seed), so nothing tells which are right: seed it (tf.random.set_seed, tf.random.stateless_uniform)"
        )
        return Differing(Finding(Outcome.FLAKY, 0, reason))
    overlap, violated = _repeats(lane, right, pieces, content=contents.violation)
    if violated is not None:
        return Differing(violated, overlap)
    if contents.violation is not None:
        return Differing(contents.violation, overlap)
    length = _length(right, judged, pieces[-1].life if pieces else 0)
    if length is not None:
        return Differing(length, overlap)
    if contents.undecided:
        reason = (
            "the pipeline differs from run to run, in the rows of a pass too (drop_remainder after an unseeded shuffle "
            f"does that), so nothing tells which elements are right: {SEED_IT}"
        )
        return Differing(Finding(Outcome.FLAKY, 0, reason), overlap)
    # A life that found no checkpoint began anew, as the reference did: there was no order to keep.
    if not overlap and any(piece.start > 0 and piece.track.trained for piece in pieces):
        reason = (
            "the pipeline differs from run to run, and no resumed life did again what an earlier one "
            "had done, so its order "
            f"could not be judged: {SEED_IT}"
        )
        return Differing(Finding(Outcome.FLAKY, 0, reason))
    return Differing(None, overlap, redrawn=len(judged.passes()) > 1)


def _have_nothing_in_common(runs: Sequence[Course]) -> bool:
    """Whether each run draws what its elements are, and not only their order."""
    return all(np.intersect1d(one.values, other.values).size == 0 for one, other in itertools.combinations(runs, 2))


def _of_references(references: Sequence[Track]) -> list[Course]:
    found = [
        Course(
            one.values(0, len(one)),
            one.values(0, len(one), "rows_digest"),
            one.values(0, len(one), "rows"),
            tuple(one.ends.tolist()),
            one.done,
        )
        for one in references
    ]
    if not any(one.ends for one in found):
        periods = {_period(one) for one in found}
        if len(periods) == 1 and (period := periods.pop()):
            return [
                dataclasses.replace(one, ends=tuple(range(period, len(one.values) + 1, period)), inferred=True)
                for one in found
            ]
    return found


def _of_pieces(pieces: Sequence[Piece]) -> Course:
    ends: list[int] = []
    for piece in pieces:
        ends = [end for end in ends if end <= piece.start]
        ends += [piece.start + end for end in piece.track.ends.tolist()]
    fields = (joined(pieces), joined(pieces, "rows_digest"), joined(pieces, "rows"))
    return Course(*fields, tuple(sorted(set(ends))), bool(pieces) and pieces[-1].track.done)


def _with_ends(right: Sequence[Course], judged: Course, pieces: Sequence[Piece]) -> Course:
    """Adds the ends of passes that could not be seen, because a kill came before the next pass or `repeat` hid them.

    Args:
        right: the references; only ends on which they agree are known.
        judged: `H`, with the ends that were seen.
        pieces: where lives resumed, there a pass may have ended.
    """
    if len({one.ends for one in right}) > 1:
        return judged
    starts = {piece.start for piece in pieces}
    known = [end for end in right[0].ends if right[0].inferred or end in starts]
    ends = {*judged.ends, *(end for end in known if end <= len(judged.values))}
    return dataclasses.replace(judged, ends=tuple(sorted(ends)))


def _period(one: Course) -> int:
    """After how many elements the rows are the same again and again (`repeat` within the pipeline); 0: never."""
    size = len(one.values)
    digest = np.concatenate((np.zeros(1, np.uint64), np.cumsum(one.digests, dtype=np.uint64)))
    rows = np.concatenate((np.zeros(1, np.uint64), np.cumsum(one.rows, dtype=np.uint64)))
    half = np.arange(1, size // 2 + 1)
    two = np.uint64(2)
    places = half[(digest[2 * half] == two * digest[half]) & (rows[2 * half] == two * rows[half])]
    for period in places[:1000].tolist():
        marks = np.arange(0, size + 1, period)
        times = np.arange(len(marks), dtype=np.uint64)
        if np.array_equal(digest[marks], times * digest[period]) and np.array_equal(rows[marks], times * rows[period]):
            return int(period)
    return 0


def _judge_contents(right: Sequence[Course], judged: Course, pieces: Sequence[Piece], *, alone: bool) -> _Contents:
    """Compares the passes of `judged` with the references'; `alone`: one reference, whose open end counts as a pass."""
    number, undecided = 0, False
    for order, bounds in enumerate(judged.passes()):
        expected = _expected(right, order)
        if expected is None:
            undecided = True
        elif judged.content(*bounds) != expected:
            violation = _violation(right[0], judged, pieces, order, bounds)
            return _Contents(violation, number, undecided)
        else:
            number += 1
    tails = {(one.tail()[0], one.content(*one.tail())) for one in right}
    begin, end = judged.tail()
    same_way = judged.done and all(one.done for one in right) and begin == right[0].tail()[0]
    if len(tails) == 1 and (alone or len(right) > 1) and same_way and right[0].tail()[1] > right[0].tail()[0]:
        if (begin, judged.content(begin, end)) not in tails and end == len(right[0].values):
            return _Contents(_violation(right[0], judged, pieces, len(judged.ends), (begin, end)), number, undecided)
        number += 1
    return _Contents(None, number, undecided)


def _expected(right: Sequence[Course], order: int) -> tuple[int, int] | None:
    """The content of the pass with this number, if the references agree on it; else of any, if all are equal."""
    contents = [[one.content(*bounds) for bounds in one.passes()] for one in right]
    if all(len(one) > order for one in contents):
        found = {one[order] for one in contents}
        return found.pop() if len(found) == 1 else None
    everything = {content for one in contents for content in one}
    return everything.pop() if len(everything) == 1 else None


def _violation(right: Course, judged: Course, pieces: Sequence[Piece], order: int, bounds: tuple[int, int]) -> Finding:
    begin, end = bounds
    theirs = [*right.passes(), right.tail()]
    first, last = theirs[min(order, len(theirs) - 1)]
    life = _life_at(pieces, begin, end)
    track = next(piece.track for piece in pieces if piece.life == life)
    start = next(piece.start for piece in pieces if piece.life == life)
    difference = compare(judged.values[begin:end], right.values[first:last])
    name = f"pass {order + 1} (elements {begin}..{end - 1})"
    if not len(difference.foreign) and (len(difference.lost) or len(difference.twice)):
        lost, twice = ranges(difference.lost + first), ranges(difference.twice + first)
        outcome, what, found = (Outcome.LOST, "lost", lost) if lost else (Outcome.DUPLICATED, "twice", twice)
        words = [f"{positions_text(lost)} of the reference run {were(lost)} never trained"] if lost else []
        words += [f"{positions_text(twice)} of it {were(twice)} trained twice"] if twice else []
        reason = f"in {name}, {', and '.join(words)}"
        return Finding(outcome, life, reason, spans(what, found, track, start, shown=0))
    ours, needed = judged.content(begin, end)[1], right.content(first, last)[1]
    outcome, what = Outcome.CHANGED, "changed"
    reason = f"{name} has {count(ours, 'row')} as in the reference run, but not the same ones"
    if ours != needed:
        outcome, what = (Outcome.LOST, "lost") if ours < needed else (Outcome.DUPLICATED, "twice")
        fate = "lost" if ours < needed else "trained twice"
        reason = f"{name} has {count(ours, 'row')} and in the reference run {needed}: {abs(needed - ours)} {fate}"
    return Finding(outcome, life, reason, spans(what, [(begin, end - 1)], track, start))


def _life_at(pieces: Sequence[Piece], begin: int, end: int) -> int:
    """The first life that resumed within a pass; else the one that made most of it."""
    within = [piece.life for piece in pieces if piece.kept and begin < piece.start < end]
    covering = [piece.life for piece in pieces if piece.kept and piece.start < end and piece.start + piece.kept > begin]
    return (within or covering or [pieces[-1].life])[0]


def _length(right: Sequence[Course], judged: Course, life: int) -> Finding | None:
    """References of one length give the right length."""
    sizes = {len(one.values) for one in right}
    size, ours = len(right[0].values), len(judged.values)
    if len(sizes) > 1 or size == ours:
        return None
    if ours > size:
        reason = f"training went on to {count(ours, 'element')}, and the reference run to {size}"
        return Finding(Outcome.OVERRUN, life, reason)
    reason = f"training ended after {count(ours, 'element')}, and the reference run took {size}"
    return Finding(Outcome.INCOMPLETE, life, reason)


def _repeats(
    lane: Lane, right: Sequence[Course], pieces: Sequence[Piece], *, content: Finding | None
) -> tuple[int, Finding | None]:
    """Whether each life began with what the model's rollback made undone; over how many elements that was judged."""
    overlap = 0
    for number, piece in enumerate(pieces):
        # Which of its elements a life that made no step would have trained on is a guess: it undid nothing.
        trained = [one for one in pieces[:number] if one.track.trained]
        history = _with_ends(right, _of_pieces(trained), pieces[: number + 1])
        if not piece.track.trained or not 0 < piece.start < len(history.values) or piece.start in history.ends:
            continue  # nothing to repeat, or a pass that is drawn anew
        end = min((e for e in history.ends if e > piece.start), default=len(history.values))
        before = history.values[piece.start : end]
        ours = piece.track.values(0, len(before))
        same = before[: len(ours)] == ours
        if same.all():
            overlap += len(ours)
            continue
        shift = find_shift(history.values[:end], ours, piece.start, len(ours))
        if shift is not None:
            return overlap, misaligned(lane, piece, shift)
        return overlap, content or _reordered(piece, ranges(np.flatnonzero(~same) + piece.start))
    return overlap, None


def _reordered(piece: Piece, found: list[tuple[int, int]]) -> Finding:
    reason = (
        f"life {piece.life} should have begun with the elements that had been rolled back, and took others: "
        f"{positions_text(found)} came in another order (file names from a set or an unseeded np.random shuffle?)"
    )
    made = spans("reordered", found, piece.track, piece.start)
    return Finding(Outcome.REORDERED, piece.life, reason, made)
