"""What a life's training code did with its iterators, as `witness.py` has written it down. Pure but for the reading."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "iterators.jsonl"


@dataclass(frozen=True, slots=True)
class IteratorUse:
    """One iterator of a life."""

    key: str
    """Of the user's code that made it, as in `model.Stream`."""
    label: str
    saved: bool = False
    restored: bool = False
    sought: bool = False
    """Whether a checkpoint was asked for that would hold it, also where there is none yet."""
    read: bool = False
    """Whether an element was taken of it."""
    saveable: bool = True
    """Whether a checkpoint can hold it: not if it is distributed, or only a loop within one operation."""


@dataclass(frozen=True, slots=True)
class Handling:
    """All of them."""

    iterators: tuple[IteratorUse, ...] = ()
    """In the order in which they were made."""
    tracks_dataset: bool = False
    """Whether a dataset, not its iterator, was put into a `tf.train.Checkpoint`."""
    in_graph: bool = False
    """Whether they are those of a graph that a session runs."""
    saved_in_graph: bool = False
    """Whether that graph has an op that saves an iterator."""


def read(directory: Path, *, upto: int | None = None) -> Handling:
    """What is known of the life in a directory; a torn last line is dropped.

    Args:
        directory: of the life.
        upto: the elements that it has taken, of all its streams, if only what came until then counts.
    """
    path = directory / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    events = map(json.loads, lines)
    return handling(event for event in events if upto is None or event["elements"] <= upto)


def handling(events: Iterable[dict[str, object]]) -> Handling:
    """Sums up what happened, event by event."""
    iterators: list[IteratorUse] = []
    tracks = in_graph = saved_in_graph = False
    changed: dict[object, Any] = {name: {name: True} for name in ("saved", "restored", "sought")}
    changed["began"] = {"read": True}
    for event in events:
        name, number = event["event"], event["iterator"]
        if name == "made":
            saveable = bool(event.get("saveable", True))
            iterators.append(IteratorUse(str(event["key"]), str(event["label"]), saveable=saveable))
            in_graph = in_graph or bool(event["graph"])
        elif name == "tracked":
            tracks = True
        elif isinstance(number, int) and 0 <= number < len(iterators):
            iterators[number] = dataclasses.replace(iterators[number], **changed[name])
        elif name == "saved":
            saved_in_graph = True
    return Handling(tuple(iterators), tracks, in_graph, saved_in_graph)


__all__ = ["FILE", "Handling", "IteratorUse", "handling", "read"]
