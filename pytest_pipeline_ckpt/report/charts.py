"""A survey -> the map of its states along the run. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.model import Outcome
from .timeline import Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import SurveyRecord

_MOST_COLUMNS = 100
_MOST_LEVELS = 40
CELL = 9
"""Height of a state in the map, in pixels."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Some states of one place in the run, one above the other in the order of the run; in per cent, and pixels."""

    x: float
    width: float
    y: int
    bad: bool
    title: str


@dataclass(frozen=True, slots=True)
class StateMap:
    """Which states do not resume exactly, along the run."""

    height: int
    cells: tuple[Cell, ...]
    ticks: tuple[tuple[int, float], ...]
    saves: tuple[float, ...]
    words: str


def state_map(survey: SurveyRecord) -> StateMap | None:
    """The map of a survey; None without states.

    Where there are more elements than columns, or more states than levels, neighbours share a cell, and it is bad when
    one of them is.
    """
    states = survey["map"]
    if not states:
        return None
    scale = Scale(survey["elements"])
    columns = min(_MOST_COLUMNS, survey["elements"] + 1)
    stacks: dict[int, list[Sequence[int | str]]] = {}
    for state in states:
        stacks.setdefault(int(state[1]) * columns // (survey["elements"] + 1), []).append(state)
    highest = max(map(len, stacks.values()))
    share = -(-highest // _MOST_LEVELS)
    levels = -(-highest // share)
    cells = []
    for column, stack in sorted(stacks.items()):
        first = -(-column * (survey["elements"] + 1) // columns)
        x = scale(first)
        width = max(0.6, round(scale(first + (survey["elements"] + 1) / columns) - x - 0.2, 2))
        for level in range(0, len(stack), share):
            together = stack[level : level + share]
            y = (levels - 1 - level // share) * CELL
            cells.append(Cell(x, width, y, _any_bad(together), _title(together)))
    bad = sum(state[2] != Outcome.EXACT.value for state in states)
    words = f"{len(states)} states along the run of {survey['elements']} elements, {bad} of them not exact"
    saves = tuple(dict.fromkeys(map(scale, survey["saves"])))
    return StateMap(levels * CELL, tuple(cells), scale.ticks(survey["elements"]), saves, words)


def _any_bad(states: Sequence[Sequence[int | str]]) -> bool:
    return any(state[2] != Outcome.EXACT.value for state in states)


def _title(states: Sequence[Sequence[int | str]]) -> str:
    numbers = Counter(str(state[2]) for state in states)
    found = ", ".join(name if len(states) == 1 else f"{name} {number}" for name, number in numbers.items())
    lost = ", by a power loss" if any(state[3] for state in states) else ""
    return f"after element {states[0][1]}{lost}: {found}"


__all__ = ["CELL", "Cell", "StateMap", "state_map"]
