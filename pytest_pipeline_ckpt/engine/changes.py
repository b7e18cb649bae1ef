"""Child side: which variables a training changes. Imports TensorFlow.

Asked for twice in a life. Of weights from several files, those that change are trained. And *strays* are what no file
and no optimizer that is known holds: sums of gradients, averages, momenta that a loop keeps by hand have the shape of a
weight, and a resumed life begins with new ones. Only variables that the user's code makes are any: Keras makes metrics
and slots of its own.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import xxhash
from tensorflow.python.eager import context
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from .contents import key_of, name_of
from .frames import called_by_the_user
from .lineage import quietly

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import FrameType

    from .patches import Patches

_UNNAMED = "Variable"
_FEW = 1024


class Changes:
    """Knows the variables of one life, and which of them have changed; eager code only."""

    def __init__(self) -> None:
        self._made: list[tuple[weakref.ref[Any], bool]] = []
        """All variables, and whether the user's code has made them, or a layer that trains them; they have no hash."""
        self._most = _FEW
        """So many may be listed before those that are gone are struck off."""
        self._prints: dict[Any, int] = {}
        self.found: set[Any] = set()
        """The keys of the strays that have changed."""

    def install(self, patches: Patches) -> None:
        """Wraps what makes a variable."""
        patches.wrap(BaseResourceVariable, "__init__", self._makes)

    def of(self, keys: Collection[Any]) -> Collection[Any]:
        """Those of some variables that are not what they were when this was asked before."""
        return self._changed(variable for variable, _ in self._alive() if key_of(variable) in keys).keys()

    def strays(self, known: Collection[Any]) -> Mapping[Any, str]:
        """Names by keys of the strays that are not what they were when this was asked before.

        Args:
            known: keys of the weights that a checkpoint or an optimizer holds.
        """
        found = self._changed(self._strays(known))
        self.found.update(found)
        return found

    def alive(self) -> Iterator[tuple[Any, str, Any, bool]]:
        """Keys and names of all variables, these, and whether the user's code has made them; eager code only."""
        for variable, users in self._alive() if context.executing_eagerly() else ():
            with contextlib.suppress(Exception):  # not initialised, deleted, of a graph: it cannot be looked at
                if not _is_a_part(variable):
                    yield key_of(variable), _words(variable), variable, users

    def _changed(self, variables: Iterable[Any]) -> dict[Any, str]:
        found = {}
        for variable in variables if context.executing_eagerly() else ():
            try:
                key, value = key_of(variable), _print(variable)
            except Exception:  # not initialised, deleted, of a graph: it cannot be looked at
                continue
            if self._prints.setdefault(key, value) != value:
                found[key] = _words(variable)
        return found

    def _alive(self) -> list[tuple[Any, bool]]:
        return [(variable, users) for made, users in self._made if (variable := made()) is not None]

    def _strays(self, known: Collection[Any]) -> Iterator[Any]:
        alive = self._alive()
        shapes = {_shape(variable) for variable, _ in alive if key_of(variable) in known}
        for variable, users in alive:
            alike = users and _shape(variable) in shapes - {()} and key_of(variable) not in known
            if alike and not _is_a_part(variable):
                yield variable

    def _makes(self, original: Any) -> Any:
        def __init__(variable: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            original(variable, *args, **kwargs)
            self._note(variable, sys._getframe(1))

        return __init__

    @quietly
    def _note(self, variable: Any, caller: FrameType) -> None:
        if not tf.as_dtype(variable.dtype).is_floating:
            return
        if len(self._made) >= self._most:  # whoever makes one at each step must not fill the memory
            self._made = [one for one in self._made if one[0]() is not None]
            self._most = max(_FEW, 2 * len(self._made))
        self._made.append((weakref.ref(variable), called_by_the_user(caller) or bool(variable.trainable)))


def _shape(variable: Any) -> tuple[int | None, ...]:
    """As far as it is known; empty also where not even the rank is."""
    return () if variable.shape.rank is None else tuple(variable.shape)


def _print(variable: Any) -> int:
    return xxhash.xxh3_64_intdigest(variable.numpy().tobytes())


def _is_a_part(variable: Any) -> bool:
    """Whether it is a device's copy of a variable that is distributed."""
    return any(hasattr(one, "_distributed_container") for one in (variable, variable.handle))


def _words(variable: Any) -> str:
    name = name_of(variable).partition(":")[0]
    if name != _UNNAMED:
        return name
    return f"a variable of {variable.dtype.name}[{','.join(map(str, variable.shape))}]"


__all__ = ["Changes"]
