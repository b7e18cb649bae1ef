"""Which checkpoints of killed lives a later one could have read: what they saved, as far as it is still there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from .model import Kind
from .names import LOGS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from .model import Ledger, Life

_A_CHECKPOINT = "a checkpoint"


def names_below(run: Path) -> frozenset[str]:
    """The files of a run's directory, relative to it, without what no restore reads."""
    found = (os.path.relpath(os.path.join(at, name), run) for at, _, names in os.walk(run) for name in names)
    return frozenset(name for name in found if not re.search(LOGS, name))


def standing(lives: Sequence[Life], names: Collection[str]) -> tuple[str, ...]:
    """The complete checkpoints of some lives that are still there, in the order in which they were saved.

    Args:
        lives: in their order.
        names: the files of the run's directory, relative to it; checkpoints elsewhere are taken to be there.
    """
    found = dict.fromkeys(path for life in lives for path in _complete(life.ledger) if _is_there(path, names))
    if found or not names or any(life.ledger.evidence.saved for life in lives):
        return tuple(found)
    # No path was seen, but that something was saved.
    return (_A_CHECKPOINT,) if any(_saves(life.ledger) for life in lives) else ()


def saved_anything(life: Life, names: Collection[str]) -> bool:
    """Whether a run has saved anything: it was seen to, or there are files.

    Args:
        life: the run; of a gang all of its workers' lives count.
        names: the files of its directory.
    """
    ledgers = [one.ledger for one in life.gang or (life,) if one is not None]
    return bool(names) or any(ledger.evidence.saved or _saves(ledger) for ledger in ledgers)


def _complete(ledger: Ledger) -> list[str]:
    """Where complete checkpoints are by now; not those of before the first element, which hold nothing to resume."""
    found = []
    taken = np.flatnonzero(ledger.records["kind"] == Kind.ELEMENT)
    first = int(taken[0]) if len(taken) else len(ledger.records)
    for saved in ledger.evidence.saved:
        # A log that was written by hand is no checkpoint.
        if saved.done is None or saved.began <= first or not (saved.weights or saved.data):
            continue
        path = saved.path
        for at, source, to in ledger.evidence.moved:
            if at >= saved.began and (path == source or path.startswith(f"{source}/")):
                path = to + path[len(source) :]
        found.append(path)
    return found


def _is_there(path: str, names: Collection[str]) -> bool:
    """Whether there is a file of this name, one that begins with it and a dot, as TensorFlow's do, or one below it."""
    outside = path.startswith("/") or "://" in path
    return outside or path in names or any(name.startswith((f"{path}.", f"{path}/")) for name in names)


def _saves(ledger: Ledger) -> int:
    return int(np.count_nonzero(ledger.records["kind"] == Kind.SAVED))


__all__ = ["names_below", "saved_anything", "standing"]
