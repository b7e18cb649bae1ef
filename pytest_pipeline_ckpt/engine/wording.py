"""How verdicts name elements: ranges, counts, previews."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from . import ledger
from .model import Ledger, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .indexed import IntArray
    from .tracks import Track

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Iteration)\b")
MOST_RANGES = 5
MOST_PREVIEWS = 5
NOT_RESTORED = "came from no file that was seen to be read"
"""Ends a note on weights; not wrong by itself: frozen ones may be made alike in each life, others read unseen."""
NOT_WITH_THE_REST = "not restored with the rest of the model"
"""Ends a note on variables; not wrong by itself: the final weights tell."""
COPIED_ANEW = "a copy of other weights, and not restored with them"
"""Ends a note on variables; not wrong by itself: the best weights so far are one, a target network is another."""
BEGUN_ANEW = "not restored, and of no weight's shape"
"""Ends a note on variables; right by itself: what a log says of the last hundred losses is in no weights."""
OF_ANOTHER_MOMENT = "of another moment than the rest of the model"
"""Ends a note on variables that were restored by themselves; not wrong by itself: a log may be ahead."""
OTHER_THAN_SAVED = "not what was in memory when the model was saved"
"""Ends a note on weights; not wrong by itself: the final weights tell. Rounded ones are not said to be."""
MADE_ANEW = "saved, and made anew"
"""Ends a note on variables that no optimizer is applied to: a sum of results may be set back on purpose."""

STEPS_BEGIN_ANEW = (
    "the model's step begins anew within the reference run (several models one after the other, as in a search or in "
    "cross-validation?), so where each element belongs is not known: check one of them, or pass step=, a function "
    "whose steps count on from one model to the next (for a script --preempt-model-step=__main__:NAME)"
)
"""Why nothing can be judged."""


def count(number: int, noun: str) -> str:
    """`1 element`, `2 elements`, `2 passes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"


def ranges(positions: IntArray) -> list[tuple[int, int]]:
    """The ranges, both ends included, that ascending positions make up."""
    if not len(positions):
        return []
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = positions[np.concatenate(([0], breaks + 1))]
    lasts = positions[np.concatenate((breaks, [len(positions) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def positions_text(found: Sequence[tuple[int, int]]) -> str:
    """`element 96`, `elements 96..104, 120 and 7 more`."""
    shown = ", ".join(f"{first}" if first == last else f"{first}..{last}" for first, last in found[:MOST_RANGES])
    noun = "element" if len(found) == 1 and found[0][0] == found[0][1] else "elements"
    more = f" and {len(found) - MOST_RANGES} more" if len(found) > MOST_RANGES else ""
    return f"{noun} {shown}{more}"


def were(found: Sequence[tuple[int, int]]) -> str:
    """`was` for a single element."""
    return "was" if len(found) == 1 and found[0][0] == found[0][1] else "were"


def spans(
    what: str, found: Sequence[tuple[int, int]], track: Track, offset: int, *, shown: int = MOST_RANGES
) -> tuple[Span, ...]:
    """The spans for some ranges, at most `MOST_RANGES`, with at most `MOST_PREVIEWS` previews each.

    Args:
        what: what became of them.
        found: ranges of positions.
        track: where the elements can be looked up.
        offset: the position of the track's first element.
        shown: so many ranges have previews.
    """
    return tuple(
        Span(what, first, last, _previews(track, first - offset, last - offset) if number < shown else ())
        for number, (first, last) in enumerate(found[:MOST_RANGES])
    )


def _previews(track: Track, first: int, last: int) -> tuple[str, ...]:
    first = max(0, first)
    last = min(last + 1, len(track), first + MOST_PREVIEWS)
    texts = [_preview(track, position) for position in range(first, last)]
    values = track.values(first, last).tolist() if texts else []
    kept = [(text, value) for text, value in zip(texts, values, strict=True) if text is not None]
    contents: dict[str, set[int]] = {}
    for text, value in kept:
        contents.setdefault(text, set()).add(value)
    # Different elements must not look like one that came again.
    return tuple(f"{text}, fingerprint {value:016x}" if len(contents[text]) > 1 else text for text, value in kept)


def _preview(track: Track, position: int) -> str | None:
    element = int(np.searchsorted(track.life.elements, track.at[position]))
    kept = track.life.life.ledger
    if kept.previews is None or element >= len(kept.previews):
        return None
    try:
        # Only the records up to the element: what follows does not matter, and there may be millions.
        return ledger.preview(_upto(kept, int(track.at[position])), element)
    except Exception:  # a preview is a decoration: a damaged one must not decide the verdict
        return None


def _upto(kept: Ledger, at: int) -> Ledger:
    return Ledger(records=kept.records[: at + 1], streams=kept.streams, previews=kept.previews)


def is_exception(line: str) -> bool:
    """Whether it is the line of a traceback that names the exception."""
    return bool(_EXCEPTION.match(line))


def last_line(text: str) -> str:
    """The line of a process's last output that says most: its last exception, else the last that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    exceptions = [line for line in lines if is_exception(line)]
    return (exceptions or lines or [""])[-1]


def left_out(keys: Sequence[tuple[str, int]]) -> str | None:
    """The note on streams that are listed, not judged."""
    if not keys:
        return None
    shown = "; ".join(f"{label} ({count(number, 'element')})" for label, number in keys)
    return f"not judged, because the model does not advance with it: {shown}"
