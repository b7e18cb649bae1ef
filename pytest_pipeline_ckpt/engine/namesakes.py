"""Child side: variables of the user's functions that are called as a counter in a file, and have its value.

`step` is saved in a file and counted in a variable; only the variable can be read at each element. It is believed for
as long as it has had the file's value at each save, and at the first element behind a restore. It is read from the
first element on, under an id that is announced when a file has shown the counter.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .frames import users_frames, variables
from .trees import attributes_of, is_counting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

_MOST = 32


class Namesakes:
    """Knows which variables count what is saved in files.

    Args:
        number: gives a new id for a counter.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self.shown = False
        """Whether a file has shown a counter yet."""
        self._number = number
        self._numbers: dict[tuple[str, str], int] = {}
        """By the counter's kind and the variable's name."""
        self._wrong: set[tuple[str, str]] = set()
        self._places: dict[str, Any] = {}
        """Where the variables were at the last element: the innermost function that has one of this name."""
        self._restored: dict[tuple[str, str], int] = {}
        """What files have given since the last element."""

    def at_an_element(self) -> dict[int, int]:
        """The values of the variables that may be counters, by the counters' ids."""
        found, self._places = _innermost(sys._getframe(1))
        for counter, value in self._restored.items():
            if found.get(counter[1]) != value:
                self._wrong.add(counter)
        self._restored = {}
        return self._by_id(found)

    def now(self) -> dict[int, int]:
        """The same wherever the program is, once a file has shown a counter."""
        return self._by_id(_innermost(sys._getframe(1))[0]) if self.shown else {}

    def _by_id(self, found: Mapping[str, int]) -> dict[int, int]:
        values = {}
        for name, value in found.items():
            for counter in (("state", name), ("saved", name)):
                number = self._id(counter)
                if number is not None:
                    values[number] = value
        return values

    def saved(self, kind: str, name: str, value: int) -> int | None:
        """A file got this value of a counter; returns the id of the variable that has it, if there is one."""
        self.shown = True
        place = self._places.get(name)
        seen = [found for at, one, found in _integers(sys._getframe(1)) if one == name and place in (None, at)]
        if value not in seen:
            self._wrong.add((kind, name))
        return self._id((kind, name))

    def restored(self, kind: str, name: str, value: int) -> int | None:
        """A file gave this value of a counter; returns the id of the variable that will have it, if there is one."""
        self.shown = True
        self._restored[kind, name] = value
        return self._id((kind, name))

    def _id(self, counter: tuple[str, str]) -> int | None:
        if counter in self._wrong:
            return None
        if counter not in self._numbers:
            self._numbers[counter] = self._number()
        return self._numbers[counter]


def _innermost(frame: FrameType | None) -> tuple[dict[str, int], dict[str, Any]]:
    """Values and places of the variables that may be counters, by their names; of several of one name the innermost."""
    found: dict[str, int] = {}
    places: dict[str, Any] = {}
    for place, name, value in _integers(frame):
        if name not in found and len(found) < _MOST:
            found[name], places[name] = value, place
    return found, places


def _integers(frame: FrameType | None) -> Iterator[tuple[Any, str, int]]:
    """Places, names and values of the integers in the user's running functions, the innermost first."""
    modules = set()
    for one in users_frames(frame):
        held = variables(one)
        yield from _counting(one.f_code, dict(held))
        for name, value in held:
            if name == "self":
                yield from _counting(id(value), attributes_of(value))
        if id(one.f_globals) not in modules:
            modules.add(id(one.f_globals))
            yield from _counting(id(one.f_globals), one.f_globals)


def _counting(place: Any, held: Mapping[str, Any]) -> Iterator[tuple[Any, str, int]]:
    for name, value in list(held.items()):
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and is_counting(name):
            yield place, name, int(value)


__all__ = ["Namesakes"]
