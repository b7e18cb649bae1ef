"""Child side: sees what training code does with its iterators: makes, saves, restores them. Imports TensorFlow.

A resume goes wrong in the code around the pipeline more often than in the pipeline: an iterator is restored, and the
data is then taken from another. `handling.py` reads what is written here, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as checkpoint_lib
from tensorflow.python.eager import context
from tensorflow.python.ops import gen_dataset_ops

from .handling import FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from .patches import Patches
    from .recorder import Source, TappedIterator

_DEPTH = 3


class Witness:
    """Writes what happens to the iterators of one life.

    Args:
        directory: of the life.
        handles: every eager iterator by its handle.
    """

    def __init__(self, directory: Path, handles: Mapping[bytes, TappedIterator]) -> None:
        self._file = os.open(directory / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._handles = handles
        self._made = 0
        self._tracking: weakref.WeakSet[Any] = weakref.WeakSet()
        self.elements: Callable[[], int] = lambda: 0
        """How many elements the life has taken."""
        self.on_restored: Callable[[], None] = lambda: None
        """Told that an iterator is restored, by whatever means."""
        self.on_made: Callable[[str, Any], None] = lambda _key, _dataset: None
        """Told the stream's key and the dataset of each iterator that is made."""

    def install(self, patches: Patches) -> None:
        """Wraps what saves and restores iterators."""
        patches.wrap(gen_dataset_ops, "serialize_iterator", self._seen_as("saved"))
        patches.wrap(gen_dataset_ops, "deserialize_iterator", self._seen_as("restored"))
        for name in ("save", "write", "_write"):
            patches.wrap(checkpoint_lib.Checkpoint, name, self._saves)
        for name in ("restore", "read"):
            patches.wrap(checkpoint_lib.Checkpoint, name, self._restores)

    def made(self, known: TappedIterator, source: Source, dataset: Any, *, saveable: bool = True) -> None:
        """An iterator was made; `dataset` is None where it is not known."""
        known.number, self._made = self._made, self._made + 1
        self._write("made", known.number, key=source.key, label=source.label, saveable=saveable)
        if dataset is not None:
            self.on_made(source.key, dataset)

    def began(self, known: TappedIterator) -> None:
        """The first element was taken of an iterator."""
        self._write("began", known.number)

    def _seen_as(self, event: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def call(resource: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(resource, *args, **kwargs)
                self._write(event, self._number(resource))
                if event == "restored":
                    self.on_restored()
                return result

            return call

        return make

    def _number(self, resource: Any) -> int | None:
        """Of the iterator behind a resource; None: it is in a graph, where only the op is made now."""
        if not context.executing_eagerly():
            return None
        known = self._handles.get(gen_dataset_ops.iterator_to_string_handle(resource).numpy())
        return None if known is None else known.number

    def _saves(self, original: Any) -> Any:
        def save(checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
            if checkpoint not in self._tracking:
                self._tracking.add(checkpoint)
                if any(isinstance(child, tf.data.Dataset) for child in _objects(checkpoint)):
                    self._write("tracked", None)
            return original(checkpoint, *args, **kwargs)

        return save

    def _restores(self, original: Any) -> Any:
        def restore(checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
            for child in _objects(checkpoint):
                known: TappedIterator | None = getattr(child, "_preempt_iterator", None)
                if known is not None:
                    self._write("sought", known.number)
            return original(checkpoint, *args, **kwargs)

        return restore

    def _write(self, event: str, number: int | None, **more: str | bool) -> None:
        graph = not context.executing_eagerly()
        row = {"event": event, "iterator": number, "elements": self.elements(), "graph": graph, **more}
        os.write(self._file, json.dumps(row).encode() + b"\n")


def _objects(checkpoint: Any) -> Iterator[Any]:
    """What a Checkpoint holds, and what that holds."""
    level = [checkpoint]
    for _ in range(_DEPTH):
        below = [child for parent in level for child in parent._trackable_children().values()]
        yield from below
        level = [child for child in below if hasattr(child, "_trackable_children")]


__all__ = ["Witness"]
