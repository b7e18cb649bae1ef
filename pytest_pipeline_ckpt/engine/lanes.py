"""Lanes: the places where training elements come from. Pure.

Iterators that are used one after the other (an iterator for each epoch) are one lane, iterators that are used side by
side are several. Lanes are judged apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .training import disjoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .indexed import Indexed, IntArray
    from .law import Law
    from .tracks import Lags, Track

_PROBE = 32


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of the reference run."""

    label: str
    keys: tuple[str, ...]
    law: Law
    lags: Lags
    track: Track
    doubtful: bool = False
    """It may be for validation: see `Classes.occasional`."""

    @property
    def first_step(self) -> int:
        """The model's step before the lane's first element."""
        return self.law.first_step

    def step_at(self, at: int) -> int:
        """The model's step, as another lane's elements see it, at a record of the reference run; of a constant law."""
        taken = int(np.searchsorted(self.track.at, at)) - self.lags.other
        return self.first_step + max(0, taken) // self.law.rate


def lay_lanes(life: Indexed, rows: IntArray, homes: Mapping[str, tuple[int, ...]], size: int) -> list[IntArray]:
    """Sorts iterators into lanes, `size` or more: where the reference run had their key, else where there is room.

    Args:
        life: the life.
        rows: its training iterators.
        homes: for each key its lanes in the reference run.
        size: how many lanes that run had.
    """
    lanes: list[IntArray] = [np.empty(0, np.int64) for _ in range(size)]
    by_key = [(homes.get(name, (size,)), life.rows_of(key)) for key, name in enumerate(life.keys)]
    mine = [(home, members[np.isin(members, rows)]) for home, members in by_key]
    present = [(home, members) for home, members in mine if len(members)]
    present.sort(key=lambda item: (item[0], int(life.iterators.first[item[1]].min())))
    for home, members in present:
        preferred = list(home) if home != (size,) else []
        if not _place(life, lanes, members, preferred):
            used: list[int] = []
            for row in members:
                _place(life, lanes, row.reshape(1), preferred + used, used=used)
    return lanes


def _place(
    life: Indexed, lanes: list[IntArray], members: IntArray, preferred: Sequence[int], *, used: list[int] | None = None
) -> bool:
    """Puts all of `members` into the first lane with room, else into a new one; False when they overlap each other."""
    first, last = life.iterators.first, life.iterators.last
    if not disjoint(first[members], last[members]):
        return False
    for number in dict.fromkeys((*preferred, *range(len(lanes)))):
        both = np.concatenate((lanes[number], members))
        if disjoint(first[both], last[both]):
            lanes[number] = both
            break
    else:
        lanes.append(members)
        number = len(lanes) - 1
    if used is not None and number not in used:
        used.append(number)
    return True


def recognised(life: Indexed, laid: list[IntArray], known: Sequence[Lane]) -> list[IntArray]:
    """Swaps lanes whose iterators are all new (made on another line) to where their first elements are known."""
    keys = {key for lane in known for key in lane.keys}
    new = [
        number
        for number, members in enumerate(laid)
        if len(members) and not any(life.keys[int(key)] in keys for key in life.iterators.key[members])
    ]
    free = [n for n in range(len(known)) if n in new or not len(laid[n])]
    if len(free) < 2:
        return laid
    moved = list(laid)
    for number in new:
        moved[number] = np.empty(0, np.int64)
    for number in new:
        probe = life.values(life.elements_of(laid[number])[-_PROBE:])
        hits = {n: int(np.isin(known[n].track.values(0, len(known[n].track)), probe).sum()) for n in free}
        best = max(free, key=lambda n: (hits[n], n == number), default=number)
        if best in free:
            free.remove(best)
        moved[best] = laid[number]
    return moved
