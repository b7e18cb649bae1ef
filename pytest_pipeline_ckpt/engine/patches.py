"""Child side: replaces attributes of classes and modules for the length of a life. Imports no TensorFlow."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """Replaces attributes of classes, and puts the originals back."""

    def __init__(self) -> None:
        self.active = True
        self._undo: list[tuple[Any, str, Any]] = []
        self._items: list[tuple[dict[Any, Any], Any, Any]] = []
        self._calls: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces `owner.name` by `make(original)`, where it is defined: in the class that `owner` has it from.

        A name of its own would show. Keras takes a model whose class's `compile` is not `Trainer.compile` for one that
        overrides it, and then leaves the model that it loads uncompiled.
        """
        if isinstance(owner, type):
            owner = next(base for base in owner.__mro__ if name in vars(base))
        original = vars(owner)[name]
        self._undo.append((owner, name, original))
        # `wraps` also copies `__module__`, by which AutoGraph knows TensorFlow's code and does not convert it.
        setattr(owner, name, functools.wraps(original)(make(original)))

    def wrap_item(self, owner: dict[Any, Any], key: Any, make: Callable[[Any], Any]) -> None:
        """Replaces `owner[key]` by `make(original)`."""
        original = owner[key]
        self._items.append((owner, key, original))
        owner[key] = functools.wraps(original)(make(original))

    def at_undo(self, call: Callable[[], None]) -> None:
        """Calls something when all is put back."""
        self._calls.append(call)

    def undo(self) -> None:
        """Puts everything back, in reverse order."""
        self.active = False
        for owner, name, original in reversed(self._undo):
            setattr(owner, name, original)
        self._undo.clear()
        for items, key, original in reversed(self._items):
            items[key] = original
        self._items.clear()
        for call in self._calls:
            call()
        self._calls.clear()


__all__ = ["Patches"]
