"""Child side: the counters of trainings in JAX, whose state is another object after each step. Never imports jax.

Two places show them: what the user's code gives to a save or gets from a restore; and the variables of the functions
that are running when an element is taken, in which the loop has its state. A counter is known by its name in the state,
which is the same in both: the first `step`, the second `count`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .evidence import JAX_STATE, Counter
from .frames import users_frames, variables
from .namesakes import Namesakes
from .trees import (
    STEP_NAMES,
    Patience,
    attributes_of,
    counting,
    has_arrays,
    is_foreign,
    is_of_nnx,
    look_into,
    states_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    from .evidence import EvidenceWriter, Role
    from .trees import Leaf, Tree

_MOST_COUNTERS = 32
_UPPERMOST = 400
"""Nodes of a state in which its counters are looked for at an element: they lie above the arrays."""


_OWNERS: dict[tuple[Role, bool], str] = {
    ("model", True): JAX_STATE,
    ("bare", True): "what is saved beside a JAX state",
    ("data", True): "what a JAX training saves with its data",
    ("model", False): "a file with the weights",
    ("bare", False): "a file without weights",
    ("data", False): "a file with the data",
}
"""By role, and whether the process has arrays of jax."""


@dataclass(slots=True)
class _Shown:
    """What a state in a variable of a function has said at elements.

    A checkpoint that is put together in a variable, `ckpt = {"params": params, "step": step}`, looks like a state. It
    only changes at saves, and stands while elements are trained on.
    """

    read: list[tuple[str, int]]
    elements: int
    """How many the life had taken when it was read last."""
    saves: int
    """How many there had been then."""
    moved: bool = False
    stood: bool = False
    """Whether it was the same before two elements without a save in between."""
    moved_by_itself: bool = False
    """Whether it changed from one element to another without a save in between."""

    @property
    def is_snapshot(self) -> bool:
        """Whether it is what was saved, not what is trained."""
        return self.moved and self.stood and not self.moved_by_itself

    def next(self, read: list[tuple[str, int]], elements: int, saves: int) -> None:
        """It is read again."""
        moved = read != self.read
        self.moved = self.moved or moved
        if saves == self.saves and elements > self.elements:
            self.moved_by_itself = self.moved_by_itself or moved
            self.stood = self.stood or not moved
        self.read, self.elements, self.saves = read, elements, saves


class States:
    """Finds and reads the counters of states outside of TensorFlow.

    Args:
        evidence: gets the counters.
        now: tells how many elements the life has taken, and how many saves of such states have begun.
    """

    def __init__(self, evidence: EvidenceWriter, now: Callable[[], tuple[int, int]]) -> None:
        self._evidence = evidence
        self._now = now
        self._numbers: dict[str, tuple[int, Role]] = {}
        self._patience = Patience()
        self.namesakes = Namesakes(evidence.number)
        self._places: dict[Any, _Shown] = {}
        """What the states in the variables of functions have said."""
        self._restored: dict[int, Any] = {}
        """The integers of what was restored last, by their ids: until its first step a state may be NumPy's."""

    @property
    def several(self) -> bool:
        """Whether more than one counter is known."""
        return len(self._numbers) > 1

    def values_in(self, trees: Iterable[Tree], label: int | None = None) -> Mapping[int, int]:
        """The values of the integers in what is saved or restored, by the counters' ids.

        Args:
            trees: that belong together.
            label: the step under which they are saved, if it is told.
        """
        trees = list(trees)
        role: Role = "bare"
        if any(tree.arrays for tree in trees):
            role = "model"
        elif any(tree.iterators for tree in trees):
            role = "data"
        found: dict[str, int] = {}
        for tree in trees:
            for name, value in self._read_leaves(counting(tree.integers)[:_MOST_COUNTERS]):
                found[_next_name(found, name)] = value
        values = {self._number(name, role): value for name, value in found.items()}
        if label is not None:
            values[self._number("checkpoint number", "bare")] = label
        return values

    def in_a_file(self, tree: Tree, *, saved: bool) -> Mapping[int, int]:
        """The values of the integers in a file that is written by hand, by the counters' ids.

        Args:
            tree: what is in the file.
            saved: whether it has been written, not read.
        """
        kind = "state" if tree.arrays else "saved"
        role: Role = "model" if tree.arrays else "bare"
        values: dict[int, int] = {}
        taken: dict[str, int] = {}
        for name, value in self._read_leaves(tree.integers[:_MOST_COUNTERS]):
            full = _next_name(taken, name, kind)
            taken[full] = value
            tell = self.namesakes.saved if saved else self.namesakes.restored
            values[self._number(full, role, tell(kind, name, value))] = value
        return values

    def restored(self, trees: Iterable[Tree]) -> None:
        """These were restored: whatever holds their integers is a state."""
        leaves = [leaf.value for tree in trees for leaf in counting(tree.integers)[:_MOST_COUNTERS]]
        self._restored = {id(one): one for one in leaves if not isinstance(one, int)}

    def at_an_element(self) -> Mapping[int, int]:
        """The values of the counters in the states of the functions that are running now."""
        if not in_use():
            return {}
        states: list[list[tuple[str, int]]] = []
        moving: list[list[tuple[str, int]]] = []
        seen: list[Any] = []
        now = self._now()
        held = [
            (place, [leaf for leaf in look_into(state, most=_UPPERMOST).integers if leaf.name in STEP_NAMES])
            for place, state in _states(sys._getframe(1), self._restored)
        ]
        for place, leaves in held:
            read = self._read_leaves(leaves)
            shown = self._places.setdefault(place, _Shown(read, *now))
            shown.next(read, *now)
            new = any(all(leaf.value is not one for one in seen) for leaf in leaves)
            if new and not shown.is_snapshot and not (_is_unpacked(leaves, held) and not shown.moved):
                states.append(read)
                moving += [read] if shown.moved else []
            seen += [leaf.value for leaf in leaves if not isinstance(leaf.value, int)]
        found: dict[str, int] = {}
        # What was restored, or is kept as the best so far, does not move while the training's own state does.
        for name, value in (pair for read in moving or states for pair in read):
            found[_next_name(found, name)] = value
        return {self._number(name, "model"): value for name, value in found.items()}

    def step(self, values: Mapping[int, int]) -> int | None:
        """The step among some values: of a state's `step`, else of what optax counts, else of what is called else."""
        for name in ("state.step", "state.global_step", "state.count"):
            known = self._numbers.get(name)
            if known is not None and known[0] in values:
                return values[known[0]]
        others = [number for number, role in self._numbers.values() if role == "model" and number in values]
        return values[others[0]] if len(others) == 1 else None

    def _read_leaves(self, leaves: Iterable[Leaf]) -> list[tuple[str, int]]:
        """The values of those that can be read: not given away, deleted, being traced."""
        read = []
        for leaf in leaves:
            with contextlib.suppress(Exception):
                read.append((leaf.name, self._patience.read(leaf.value)))
        return read

    def _number(self, name: str, role: Role, number: int | None = None) -> int:
        """A counter's id; it is announced if it is new, or its role is: under a number that is kept for it, if any."""
        known = self._numbers.get(name)
        if known is None or (known[1] != "model" and role == "model"):
            owner = _OWNERS[role, in_use()]
            number = self._evidence.counter(Counter(name, role, owner), number=number if known is None else known[0])
            known = self._numbers[name] = (number, role)
        return known[0]


def in_use() -> bool:
    """Whether the process has arrays of jax: TensorFlow imports it for itself, and then no backend is made."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bool(getattr(bridge, "_backends", True))


def _next_name(taken: Mapping[str, Any], name: str, kind: str = "state") -> str:
    base = f"state.{name}" if kind == "state" else f"{kind} {name}"
    ordinal = 1
    while (full := base if ordinal == 1 else f"{base}#{ordinal}") in taken:
        ordinal += 1
    return full


def _states(frame: FrameType | None, restored: Mapping[int, Any]) -> Iterator[tuple[Any, Any]]:
    """The places of states in the variables of the innermost function of the user's that has some, and the states."""
    for one in users_frames(frame):
        found = False
        for name, value in variables(one):
            for attribute, state in states_in(value, functools.partial(_is_state, restored)):
                found = True
                yield (one.f_code, name, attribute), state
        if found:
            return


def _is_unpacked(leaves: Sequence[Leaf], held: Iterable[tuple[Any, Sequence[Leaf]]]) -> bool:
    """Whether a state is a checkpoint whose parts are in other variables: `opt_state, step = ckpt["opt_state"], ...`.

    They are trained from now on; what counts beside them is an integer of Python's, which stays what it was.
    """
    counts = {id(leaf.value) for leaf in leaves if not isinstance(leaf.value, int)}
    if len(counts) == len(leaves):
        return False
    others = ({id(leaf.value) for leaf in other} for _, other in held if other is not leaves)
    return any(other and other <= counts for other in others)


def _is_state(restored: Mapping[int, Any], value: Any) -> bool:
    if isinstance(value, (str, bytes, int, float)) or value is None or is_foreign(value):
        return False
    if isinstance(value, dict):
        counts = any(name in value for name in STEP_NAMES)
        if counts and any(id(value[name]) in restored for name in STEP_NAMES if name in value):
            return True
    elif isinstance(value, (list, tuple)):
        counts = bool(value) and len(value) < 16
    else:
        if is_of_nnx(value):
            return "step" in attributes_of(value)  # an optimizer, which may hold nothing else
        counts = "step" in getattr(type(value), "__dataclass_fields__", {})
    return counts and has_arrays(value)


__all__ = ["States", "in_use"]
