"""Child side: the states of trainings outside of TensorFlow: trees of arrays, with integers that count steps.

Flax' `TrainState` and dataclasses, `nnx.Optimizer`, optax' named tuples, what Orbax has restored as dictionaries. They
are known by what they have, so nothing is imported: neither jax nor what is built on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import time
from collections import deque
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MOST_NODES = 4000
_LONGEST_WAIT = 20.0
"""Seconds. A step that takes longer is not waited for: it may be one that waits for the element that we look at."""
STEP_NAMES = ("step", "count")
"""Of Flax' states and nnx' optimizers; of optax."""
_COUNTS = re.compile(
    r"(^|_)(global_?step|steps?|count(er)?|epochs?|iter(ation)?s?|batch(es)?|updates?|examples|samples|tokens)(_|\d*$)",
    re.IGNORECASE,
)
"""Names of what counts, where several integers are saved together: weights may be integers too."""
_SUMS = frozenset(("acc_grads", "grad_acc"))
"""Of `optax.MultiStepsState` and `optax.ApplyEvery`."""
_DEEP, _MOST_OBJECTS = 3, 64
"""So deep, and in so many of the user's objects, a state is looked for: `trainer.agent.net.params`."""
_NO_TREES = (str, bytes, type, ModuleType, FunctionType)
_KEY = (2, 4)
"""How many numbers a key of a random generator has, in its last axis."""
_NO_STATES = ("tensorflow", "keras", "tf_keras", "numpy", "jax", "jaxlib", "orbax", "threading", "logging")
_ARGUMENTS = ("Save", "Restore")
"""How the names of the classes end in which Orbax is given what it saves."""


NamedArray = tuple[tuple[str, ...], Any]
"""The names on the way to an array, and the array."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """An integer scalar of a tree."""

    name: str
    """The last name on the way to it: `step`, `count`."""
    value: Any


@dataclass(frozen=True, slots=True)
class Tree:
    """What a state holds."""

    integers: tuple[Leaf, ...]
    """Breadth first."""
    arrays: tuple[str, ...]
    """The names of floating point arrays, and of those of integers that jax has."""
    iterators: bool = False


def look_into(state: Any, *, most: int = _MOST_NODES) -> Tree:
    """What a state holds; of a large one the `most` uppermost nodes."""
    integers: list[Leaf] = []
    arrays: list[str] = []
    iterators = False
    pending = deque([("", state)])
    seen: dict[int, Any] = {}
    """With the objects: an id is another object's when its own has gone."""
    nodes = 0
    while pending and nodes < most:
        name, node = pending.popleft()
        nodes += 1
        if id(node) in seen or isinstance(node, (str, bytes)) or node is None:
            continue
        kind = _kind_of(node, name)
        if kind == "integer":
            integers.append(Leaf(name, node))
        elif kind == "array":
            arrays.append(name)
        elif kind == "iterator":
            iterators = True
        elif kind == "tree":
            seen[id(node)] = node
            pending.extend((f"{name}/{key}" if isinstance(key, int) else key, child) for key, child in _children(node))
    return Tree(tuple(integers), tuple(arrays), iterators)


def arrays_in(state: Any, *, most: int = _MOST_NODES) -> Iterator[NamedArray]:
    """The arrays of a state, with the names on the way to each.

    Of what is an optimizer's of optax only sums of gradients, which the weights have yet to be trained on.

    Args:
        state: a tree, or an array by itself.
        most: nodes that are looked at.
    """
    pending: deque[tuple[tuple[str, ...], Any, bool]] = deque([((), state, False)])
    seen: dict[int, Any] = {}
    objects = _MOST_OBJECTS
    while pending and most > 0:
        path, node, of_optax = pending.popleft()
        most -= 1
        if node is None or isinstance(node, _NO_TREES) or id(node) in seen:
            continue
        kind = _kind_of(node, path[-1] if path else "")
        if kind == "array" or isinstance(node, np.ndarray):
            if not of_optax or not _SUMS.isdisjoint(path):
                yield path, node
        elif kind == "tree":
            seen[id(node)] = node
            of_optax = of_optax or _is_of_optax(node)
            children = [(str(key), child) for key, child in _children(node)]
            if not children and objects and (children := _attributes(node)):
                objects -= 1
            pending.extend(((*path, key) if key else path, child, of_optax) for key, child in children)


@functools.lru_cache(maxsize=4096)  # asked of each variable at an element
def is_counting(name: str) -> bool:
    """Whether something counts by its name."""
    return _COUNTS.search(name) is not None


def counting(integers: Sequence[Leaf]) -> list[Leaf]:
    """Those of a tree's integers that count: by their names, or because there is no other."""
    named = [leaf for leaf in integers if is_counting(leaf.name)]
    return named or [leaf for leaf in integers if len(integers) == 1]


def is_array(value: Any) -> bool:
    """Whether something is an array of jax, or a variable of nnx, which holds one."""
    return type(value).__module__.startswith(("jaxlib", "jax.", "flax.nnx"))


def is_of_nnx(value: Any) -> bool:
    """Whether something is an object of nnx: a module of the user's is, an optimizer."""
    return any(one.__module__.startswith("flax.nnx") for one in type(value).__mro__)


def is_state(value: Any) -> bool:
    """Whether something may be a tree of arrays, or is an array."""
    if isinstance(value, (dict, list, tuple, np.ndarray)):
        return True
    if isinstance(value, (str, bytes, int, float, type)) or value is None:
        return False
    return is_array(value) or is_of_nnx(value) or dataclasses.is_dataclass(value)


def states_in(value: Any, is_one: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """A variable's value, if it is a state, or its attributes that are, with their names: `self.state` of a trainer."""
    pending: deque[tuple[tuple[str, ...], Any]] = deque([((), value)])
    seen: dict[int, Any] = {}
    while pending and len(seen) < _MOST_OBJECTS:
        path, one = pending.popleft()
        if is_one(one):
            yield "/".join(path), one
        elif len(path) < _DEEP and id(one) not in seen and (children := _attributes(one)):
            seen[id(one)] = one  # of a hundred options each is an object too, and none of these
            pending.extend(((*path, name), child) for name, child in children)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """What is in an object of a class of the user's."""
    if is_foreign(value) or isinstance(value, type) or type(value).__module__ == "builtins":
        return []
    return list(attributes_of(value).items())


def is_foreign(value: Any) -> bool:
    """Whether something is an object of a library's that keeps no state of a training for others."""
    return type(value).__module__.partition(".")[0] in _NO_STATES


def attributes_of(value: Any) -> Mapping[str, Any]:
    """What is in an object's own dictionary; those with slots have none."""
    found = _attribute(value, "__dict__")
    return found if isinstance(found, dict) else {}


def has_arrays(state: Any, *, most: int = 400) -> bool:
    """Whether a state has arrays of jax; looked for among so many nodes.

    What was restored may have those of NumPy until its first step: it is known by the types of jax' libraries.
    """
    pending = deque([("", state, _is_typed(state))])
    while pending and most > 0:
        name, node, typed = pending.popleft()
        most -= 1
        kind = _kind_of(node, name)
        if kind == "array" and (typed or is_array(node)):
            return True
        if kind == "tree":
            typed = typed or _is_typed(node)
            pending.extend((key if isinstance(key, str) else name, child, typed) for key, child in _children(node))
    return False


def _is_typed(node: Any) -> bool:
    """Whether something is a state of Flax' or optax' making: a dataclass that can be replaced, a named tuple."""
    if isinstance(node, tuple):
        return _is_of_optax(node)
    return "step" in getattr(type(node), "__dataclass_fields__", {}) and hasattr(type(node), "_flax_dataclass")


def _is_of_optax(node: Any) -> bool:
    return isinstance(node, tuple) and type(node).__module__.startswith("optax")


def _kind_of(node: Any, name: str = "") -> str:
    if isinstance(node, bool):
        return ""
    if isinstance(node, int):
        return "integer"
    if isinstance(node, (dict, list, tuple)):
        return "tree"
    shape, dtype = _attribute(node, "shape"), _attribute(node, "dtype")
    if isinstance(shape, tuple) and dtype is not None and not isinstance(node, type):
        with contextlib.suppress(TypeError):  # keys of random generators have a dtype of their own
            dtype = np.dtype(dtype)
            if dtype.kind == "f" or dtype.name == "bfloat16":
                return "array"
            # Replicated over devices it has an axis more; what is called `step` is no key of a random generator.
            if dtype.kind in "iu" and (not shape or (len(shape) == 1 and name in STEP_NAMES)):
                return "integer"
            if dtype.kind in "iu" and is_array(node) and not (dtype == np.uint32 and shape[-1] in _KEY):
                return "array"
        return ""
    module = type(node).__module__.partition(".")[0]
    if module == "tensorflow":
        return "iterator" if type(node).__name__.endswith("Iterator") else ""
    return "tree"


def _attribute(node: Any, name: str) -> Any:
    """An attribute, or None: Orbax looks those of its containers up as keys, and others may raise what they like."""
    try:
        return getattr(node, name, None)
    except Exception:
        return None


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict) or (_attribute(node, "items") and _attribute(node, "keys")):
        yield from ((str(key), child) for key, child in list(node.items()))
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        yield from zip(node._fields, node, strict=False)
    elif isinstance(node, (list, tuple)):
        yield from enumerate(node)
    elif type(node).__name__.endswith(_ARGUMENTS) and _attribute(node, "item") is not None:
        yield "", node.item
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        yield from ((one.name, getattr(node, one.name, None)) for one in dataclasses.fields(node))
    elif is_of_nnx(node):
        held = dict(attributes_of(node))
        value = held.get("_raw_value", held.get("raw_value"))
        if value is not None:
            yield "", value
        else:
            # Its integers are how it is made: what changes is in variables.
            children = [(name, child) for name, child in held.items() if not name.startswith("_")]
            yield from ((name, child) for name, child in children if not isinstance(child, int))


class Patience:
    """Reads scalars; waits for those that are being computed, but not for ever."""

    def __init__(self) -> None:
        self._left = _LONGEST_WAIT

    def read(self, value: Any) -> int:
        """The value of an integer scalar.

        Raises:
            RuntimeError: it has been deleted, given away to a computation, or is not ready.
        """
        return value if isinstance(value, int) else int(self.whole(value).reshape(-1)[0])

    def whole(self, value: Any) -> np.ndarray[Any, Any]:
        """A copy of an array; of one that is on several devices, what the first has.

        Raises:
            RuntimeError: as above.
        """
        ready = getattr(value, "is_ready", None)
        if ready is not None:
            began = time.monotonic()
            while not ready():
                if time.monotonic() - began > self._left:
                    self._left = 0.0
                    raise RuntimeError("it is not ready")
                time.sleep(0.0002)
        # A view of its own: one that the array keeps would be another reference to what the user may give away.
        shards = getattr(value, "addressable_data", None)
        return np.array(value if shards is None else shards(0))


__all__ = [
    "STEP_NAMES",
    "Leaf",
    "NamedArray",
    "Patience",
    "Tree",
    "arrays_in",
    "attributes_of",
    "counting",
    "has_arrays",
    "is_array",
    "is_counting",
    "is_foreign",
    "is_of_nnx",
    "is_state",
    "look_into",
    "states_in",
]
