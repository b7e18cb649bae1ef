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


def standing(lives: Sequence[Life], names: Collection[str], reference: Ledger) -> tuple[str, ...]:
    """The complete checkpoints of some lives that are still there, in the order in which they were saved.

    Args:
        lives: in their order.
        names: the files of the run's directory, relative to it; checkpoints elsewhere are taken to be there.
        reference: of the run that nobody killed. If it saves weights, what holds only data is no checkpoint: the
            model's, which is saved beside it, may not have been complete.
    """
    weights = any(saved.weights for saved in reference.evidence.saved)
    complete = (path for life in lives for path in _complete(life.ledger, weights=weights, killed=True))
    found = dict.fromkeys(path for path in complete if _is_there(path, names))
    if found or not names or any(life.ledger.evidence.saved for life in lives):
        return tuple(found)
    # No path was seen, but that something was saved.
    return (_A_CHECKPOINT,) if any(_saves(life.ledger) for life in lives) else ()


def saves_while_training(life: Life, names: Collection[str], ignored: Collection[str] = ()) -> bool:
    """Whether a run saves anything before its last element: it was seen to, or there are files that nothing explains.

    What is saved after that, as an exported model, is nothing that a preempted training could have resumed from.

    Args:
        life: the run; of a gang all of its workers' lives count.
        names: the files of its directory.
        ignored: keys of the streams that do not train.
    """
    ledgers = [one.ledger for one in life.gang or (life,) if one is not None]
    lasts = [_last_element(ledger, ignored) for ledger in ledgers]
    for ledger, last in zip(ledgers, lasts, strict=True):
        records = ledger.records[:last]
        if np.any(records["kind"] == Kind.SAVED) or any(saved.began < last for saved in ledger.evidence.saved):
            return True
    exported = {path for ledger in ledgers for path in _complete(ledger)}
    return any(not any(_covers(path, name) for path in exported) for name in names)


def saves(life: Life, names: Collection[str]) -> bool:
    """Whether a run saves anything at all; the arguments are those of `saves_while_training`."""
    return bool(names) or any(one.ledger.evidence.saved for one in life.gang or (life,) if one is not None)


def _last_element(ledger: Ledger, ignored: Collection[str]) -> int:
    """The record behind the last element that trains; behind all of them if none does."""
    trains = [stream.index for stream in ledger.streams if stream.key not in ignored]
    found = np.flatnonzero((ledger.records["kind"] == Kind.ELEMENT) & np.isin(ledger.records["stream"], trains))
    return int(found[-1]) + 1 if len(found) else len(ledger.records)


def _complete(ledger: Ledger, *, weights: bool = False, killed: bool = False) -> list[str]:
    """Where complete checkpoints are by now; not those of before the first element, which hold nothing to resume.

    Args:
        ledger: of a life.
        weights: whether only those with weights count.
        killed: whether only those count behind which the training went on: files that are complete may still wait for
            a marker, or for their final name.
    """
    found = []
    taken = np.flatnonzero(ledger.records["kind"] == Kind.ELEMENT)
    first = int(taken[0]) if len(taken) else len(ledger.records)
    last = int(taken[-1]) if killed and len(taken) else len(ledger.records)
    for saved in ledger.evidence.saved:
        # A log that was written by hand is no checkpoint.
        holds = saved.weights or (saved.data and not weights)
        if saved.done is None or not first < saved.began <= last or not holds:
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
    return outside or any(_covers(path, name) for name in names)


def _covers(path: str, name: str) -> bool:
    return name == path or name.startswith((f"{path}.", f"{path}/"))


def _saves(ledger: Ledger) -> int:
    return int(np.count_nonzero(ledger.records["kind"] == Kind.SAVED))


__all__ = ["names_below", "saves", "saves_while_training", "standing"]
