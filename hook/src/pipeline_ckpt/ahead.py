"""Elements that were taken of an iterator and not handed to the training yet: what a checkpoint holds of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(slots=True)
class _Taken:
    """One of them."""

    element: Any
    """As the iterator has given it."""
    placed: Any = None
    """As it will be handed out, where that was made already."""


class Ahead:
    """The elements between an iterator and the training, oldest first.

    Args:
        spec: of an element: nested `tf.TypeSpec`s.
    """

    def __init__(self, spec: Any) -> None:
        self._spec = spec
        self._taken: deque[_Taken] = deque()

    def __len__(self) -> int:
        return len(self._taken)

    def add(self, element: Any, placed: Any = None) -> None:
        """A further one was taken."""
        self._taken.append(_Taken(element, placed))

    def take(self) -> _Taken:
        """Hands out the oldest."""
        return self._taken.popleft()

    def place(self, place: Any) -> None:
        """Makes of each what will be handed out; what was made by something else is forgotten."""
        for one in self._taken:
            one.placed = place(one.element)

    def clear(self) -> None:
        """They are not wanted any more."""
        self._taken.clear()

    def saved(self) -> Any:
        """Them as a vector of strings, one for each component."""
        parts = [part for one in self._taken for part in tf.nest.flatten(one.element, expand_composites=True)]
        return tf.constant([tf.io.serialize_tensor(part).numpy() for part in parts], tf.string)

    def restore(self, saved: Any) -> None:
        """Brings back what `saved` gave."""
        specs = tf.nest.flatten(self._spec, expand_composites=True)
        parts = [
            tf.ensure_shape(tf.io.parse_tensor(text, spec.dtype), spec.shape)
            for text, spec in zip(saved.numpy(), specs * (len(saved) // max(len(specs), 1)), strict=True)
        ]
        self.clear()
        for start in range(0, len(parts), len(specs)):
            self.add(tf.nest.pack_sequence_as(self._spec, parts[start : start + len(specs)], expand_composites=True))


__all__ = ["Ahead"]
