"""Child side: what the weights are: a hash of each at the first elements of a life and at its saves. No TensorFlow.

However weights are stored and brought back, copied, packed, published later, a resumed life begins with values that an
earlier one had, and these tell at which moment. Looked at are TensorFlow's floating point variables, in eager code and
in sessions, and arrays in the variables of the user's functions that are running: those of jax, and those of NumPy that
change and are not too large. Not what optax keeps, which is an optimizer's, and no scalars, which have the same value
now and then.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from .evidence import Weight
from .frames import calls_the_user, users_frames, variables
from .lineage import quietly
from .trees import Patience, arrays_in, is_array, is_state, states_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import FrameType

    from .evidence import EvidenceWriter, Why

_CLOSELY = 64
"""So many elements of a life are looked at where that costs nothing..."""
_SMALL = 1 << 24
"""...because there are not more bytes than these, 3 ms to copy and hash; else the first, second and ninth of them."""
_LARGEST = 1 << 28
"""Bytes of an array of NumPy's; larger ones are data that is held in memory, as a rule."""
_MOST = 256
"""Arrays that are small all together."""
_AT = (1, 2, 9)
_FEW, _FIRST = 4096, 64
"""Among so many numbers at first those are looked for, so many, that show whether an array's are rounded."""
_SAVES = 4
"""So many saves of a life are compared with what is in memory."""

Held = tuple[Any, Weight, Any]
"""The key of what may be a weight, what is said of it, and the array or variable."""


@dataclass(frozen=False, slots=True)
class _InFiles:
    """What files of one kind hold."""

    keys: set[Any] = field(default_factory=set)
    """Of those arrays whose values were found in them."""
    size: int = 0
    """Bytes of all arrays in one."""
    saves: int = 0


class Values:
    """Writes down the values of one life's weights.

    Args:
        evidence: gets them.
        alive: tells keys and names of TensorFlow's variables, these, and whether the user's code has made them.
        known: tells the keys of those that are known to be weights by now.
        applied: keys of those that an optimizer is applied to.
    """

    def __init__(
        self,
        evidence: EvidenceWriter,
        alive: Callable[[], Iterable[tuple[Any, str, Any, bool]]],
        known: Callable[[], Collection[Any]],
        applied: Collection[Any],
    ) -> None:
        self._evidence = evidence
        self._alive = alive
        self._known = known
        self._applied = applied
        self._saved: dict[str, _InFiles] = {}
        """What was seen to be saved by means other than TensorFlow's, by the kinds of files; empty: of a library's."""
        self._weights: dict[Any, tuple[int, Weight]] = {}
        self._ordinals: dict[tuple[str, tuple[int, ...]], int] = {}
        self._last: dict[int, int] = {}
        self._moving: set[int] = set()
        """Ids of those that have changed, and of TensorFlow's variables and jax' arrays, which may yet."""
        self._ignored: set[Any] = set()
        """Keys of those that have not, if all are large: data that is held in memory, and is looked at at saves."""
        self._at_saves: list[int] = []
        self._beside: set[int] = set()
        """Before which elements it is looked because a save may come behind the first of them."""
        self._small = True
        self._patience = Patience()
        self._runs: set[object] = set()
        """Stands for the runs of sessions that are going on."""
        self._lock = threading.Lock()

    def before_element(self, number: int) -> None:
        """The life's `number`-th element is about to be recorded, from 1, and due; in eager code, or within a run."""
        if not self._runs:
            self._look("element", sys._getframe(1))
        if number == _AT[-1] and not self._small:
            self._ignored = {key for key, (told, _) in self._weights.items() if told not in self._moving}
            self._small = bool(self._ignored)  # the next look tells, without them

    def before_save(self, taken: int) -> None:
        """Something is about to be saved, behind so many elements of this life; in eager code."""
        self._expect(taken)
        self._look("save", sys._getframe(1))

    @quietly
    def before_applied(self, keys: Collection[Any]) -> None:
        """An optimizer is about to be applied for the first time, to weights with these keys; in eager code.

        A model that its first step builds was not there before the element: a restore that was put off may have left
        its weights as they were made.
        """
        new: dict[int, int | None] = {}
        rounded: set[int] = set()
        for key, name, variable, users in self._alive():
            if key in keys and key not in self._weights and variable.shape.rank:
                value = self._value(variable)
                if value is not None and value.size > 1:
                    number = self._number(
                        key, Weight(name, tuple(variable.shape), known=True, applied=True, users=users)
                    )
                    new[number] = self._last[number] = _hash(value)
                    self._moving.add(number)
                    if _is_rounded(value):
                        rounded.add(number)
        if new:
            self._evidence.values("apply", new, rounded)

    @contextlib.contextmanager
    def run(self, number: int, held: Callable[[], Iterable[Held]]) -> Iterator[None]:
        """Around a run of a session.

        Args:
            number: of the element of this life that it takes first, from 1.
            held: tells what the session holds.
        """
        if self.is_due(number):
            self._look_into("element", held)
        mark = object()
        self._runs.add(mark)
        try:
            yield
        finally:
            self._runs.discard(mark)

    def before_save_of_session(self, taken: int, held: Callable[[], Iterable[Held]]) -> None:
        """A session's graph is about to be saved, likewise; `held` tells what it holds."""
        self._expect(taken)
        self._look_into("save", held)

    def is_due(self, number: int) -> bool:
        """Whether it is looked before the life's `number`-th element."""
        return number in _AT or (self._small and number <= _CLOSELY) or number in self._beside

    def _expect(self, taken: int) -> None:
        """Two saves tell where the third may be: there it is looked before the last element, and behind it."""
        if taken and taken not in self._at_saves and len(self._at_saves) < 2:
            self._at_saves.append(taken)
            third = 2 * taken - self._at_saves[0]
            self._beside = {third, third + 1} if len(self._at_saves) > 1 else set()

    @quietly
    def saves(self, arrays: Iterable[Any], path: str = "") -> None:
        """These arrays are saved, or have been since the last look: what has their values is a part of the state.

        Of what is written by hand the files of one name but for numbers count that hold most: others are logs.

        Args:
            arrays: that are saved together.
            path: of the file, if it is written by hand.
        """
        kind = re.sub(r"\d+", "#", path)
        held = self._saved.setdefault(kind, _InFiles())
        if held.saves < _SAVES and self._last:
            held.saves += 1
            values = [value for array in arrays if (value := self._value(array)) is not None and value.size > 1]
            # In a file by hand there may be whatever else: many arrays are all 0, or all 1.
            saved = {_hash(value) for value in values if not path or (value != value.flat[0]).any()}
            held.keys |= {key for key, (number, _) in self._weights.items() if self._last.get(number) in saved}
            held.size = max(held.size, sum(value.nbytes for value in values))

    def _known_to_be_saved(self) -> set[Any]:
        by_hand = [held for kind, held in self._saved.items() if kind]
        most = max(by_hand, key=lambda held: held.size, default=_InFiles())
        return most.keys | self._saved.get("", _InFiles()).keys

    @quietly
    def _look_into(self, why: Why, held: Callable[[], Iterable[Held]]) -> None:
        self._write(why, held)

    @quietly
    def _look(self, why: Why, frame: FrameType) -> None:
        # Whoever saves or takes elements in a thread does so while the main one is training.
        elsewhere = threading.current_thread() is not threading.main_thread() and calls_the_user(frame)
        if not elsewhere:
            self._write(why, functools.partial(self._found, frame, () if why == "save" else self._ignored))

    def _write(self, why: Why, held: Callable[[], Iterable[Held]]) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._write_down(why, held())
        finally:
            self._lock.release()

    def _write_down(self, why: Why, held: Iterable[Held]) -> None:
        seen: dict[int, int] = {}
        rounded: set[int] = set()
        size = 0
        for key, weight, array in held:
            value = self._value(array)
            if value is not None:
                size += value.nbytes
                number = self._number(key, weight)
                seen[number] = _hash(value)
                if array is not value or self._last.get(number, seen[number]) != seen[number]:
                    self._moving.add(number)
                if _is_rounded(value):
                    rounded.add(number)
        if why != "save":
            self._small = size <= _SMALL and len(seen) <= _MOST
        changed: dict[int, int | None] = {n: value for n, value in seen.items() if self._last.get(n) != value}
        changed.update(dict.fromkeys(self._last.keys() - seen.keys()))
        self._last = seen
        if seen or changed:
            self._evidence.values(why, changed, rounded & changed.keys())

    def _found(self, frame: FrameType, ignored: Collection[Any]) -> Iterator[Held]:
        """What eager code holds, and the user's functions, but for some arrays of these."""
        known = {*self._known(), *self._known_to_be_saved()}
        of_libraries = self._saved.get("", _InFiles()).keys
        for key, name, variable, users in self._alive():
            if variable.shape.rank and variable.shape.num_elements() != 1:
                shape, applied = tuple(variable.shape), key in self._applied
                yield key, Weight(name, shape, known=key in known, applied=applied, users=users), variable
        for place, parts, array in _arrays(frame):
            key = (place, parts)
            if key not in ignored:
                name, shape = "/".join(parts), tuple(array.shape)
                told = {"known": key in known, "applied": key in of_libraries}
                yield key, Weight(name, shape, function=place.co_name, **told), array

    def _value(self, array: Any) -> np.ndarray[Any, Any] | None:
        """None: not to be had: given away, deleted, on several devices, not initialised."""
        try:
            if not getattr(array, "is_fully_replicated", True):
                return None
            if isinstance(array, np.ndarray):
                return array
            value = array.numpy() if hasattr(array, "numpy") else self._patience.whole(array)
            return value if isinstance(value, np.ndarray) else None
        except Exception:
            return None

    def _number(self, key: Any, weight: Weight) -> int:
        """A weight's id; it is announced if it is new, or is known to be one now."""
        told = self._weights.get(key)
        if told is None:
            named = (f"{weight.function}:{weight.name}", weight.shape)
            ordinal = self._ordinals[named] = self._ordinals.get(named, 0) + 1
            told = (len(self._weights), weight.numbered(ordinal))
        elif (told[1].known, told[1].applied) == (weight.known, weight.applied):
            return told[0]
        else:
            told = (told[0], weight.numbered(told[1].ordinal))
        self._weights[key] = told
        self._evidence.weight(told[1], number=told[0])
        return told[0]


def _hash(value: np.ndarray[Any, Any]) -> int:
    """The same for the same numbers: 0 times a negative one is -0, which is 0."""
    if value.dtype.kind == "f":
        value = value + 0
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(value).view(np.uint8).data)


def _is_rounded(value: np.ndarray[Any, Any]) -> bool:
    """Whether the first numbers of an array are all some that a narrower type has: bfloat16, half or single precision.

    Their mantissas are shorter by 13 bits than those of single precision, or by 29 than those of double. A 0 shows
    nothing.
    """
    words = (
        {4: (np.uint32, 0x1FFF), 8: (np.uint64, 0x1FFFFFFF)}.get(value.itemsize) if value.dtype.kind == "f" else None
    )
    if words is None:
        return False
    first = _some(value.flat[:_FEW])
    first = first if len(first) else _some(value)
    return not (first.view(words[0]) & words[0](words[1])).any()


def _some(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The first numbers of an array that are not 0."""
    found: np.ndarray[Any, Any] = value[value != 0][:_FIRST]
    return found


def _arrays(frame: FrameType | None) -> Iterator[tuple[Any, tuple[str, ...], Any]]:
    """The functions, names and values of arrays in the variables of the user's functions that are running."""
    seen = set()
    for one in users_frames(frame):
        if one.f_code in seen:
            continue
        seen.add(one.f_code)
        for name, value in variables(one):
            for attribute, state in states_in(value, is_state):
                for more, array in arrays_in(state):
                    if not (is_array(array) or (isinstance(array, np.ndarray) and array.nbytes <= _LARGEST)):
                        continue
                    if np.prod(array.shape) > 1:
                        yield one.f_code, tuple(filter(None, (name, attribute, *more))), array


__all__ = ["Held", "Values"]
