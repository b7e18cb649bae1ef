"""How many elements of a lane the model's steps take: a constant number each, or what the reference run showed. Pure.

Most trainings take the same number of elements for each step. Where they do not - packing, steps that are skipped
because a loss is not finite, a counter that counts every fourth micro-batch - the reference run tells how many had been
taken when the model showed a step, and every other life is held against that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .indexed import IntArray


_MOST_AHEAD = 64


def _none() -> IntArray:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Law:
    """Steps -> elements."""

    first_step: int
    """The model's step before its first element."""
    rate: int
    """Elements of a step; where that varies, of the step that takes most."""
    steps: IntArray = field(default_factory=_none)
    """Ascending, those that the reference run was seen at; empty where the number is constant."""
    taken: IntArray = field(default_factory=_none)
    """How many elements had been taken when each of them was seen first."""
    slack: int = 0
    """So many more elements may have been taken: another thread takes them, ahead of the steps and not with them."""

    @property
    def constant(self) -> bool:
        """Whether each step takes the same number."""
        return not len(self.steps)

    @property
    def band(self) -> int:
        """Within how many elements the surplus of sightings varies although nothing is wrong."""
        return self.rate + self.slack if self.constant else 1

    def upto(self, step: IntArray) -> IntArray:
        """How many elements the steps before these took; between two that were seen, in proportion."""
        if self.constant:
            return self.rate * (step - self.first_step)
        pace = float(self.taken[-1] / max(1, self.steps[-1] - self.steps[0]))
        # Rounded up: what a step took now and then has been taken before each later step.
        found = np.ceil(np.interp(step, self.steps, self.taken)).astype(np.int64)
        beyond = step - self.steps[-1]
        found += np.where(beyond > 0, np.rint(beyond * pace), 0).astype(np.int64)
        before = step - self.steps[0]
        return np.asarray(found + np.where(before < 0, np.rint(before * pace), 0).astype(np.int64))

    def at(self, step: int) -> int:
        """How many elements the steps before this one took."""
        return int(self.upto(np.array([step], np.int64))[0])


def observed(steps: IntArray, taken: IntArray, first_step: int) -> Law | None:
    """The law that sightings show; None: the step never advanced.

    Args:
        steps: of the model, in the order in which they were seen.
        taken: elements before each.
        first_step: before the first element.
    """
    order = np.lexsort((taken, steps))
    seen, first = np.unique(steps[order], return_index=True)
    if len(seen) < 2:
        return None
    least = np.maximum.accumulate(taken[order][first])  # a later step was not made with fewer elements
    widest = int(np.ceil((np.diff(least) / np.diff(seen)).max()))
    return Law(first_step, max(1, widest), seen, least)


def taken_ahead(taken: IntArray, steps: IntArray, rate: int, left: int) -> int | None:
    """By how many elements at most a thread that takes them is ahead of the steps; None: they are taken with the steps.

    Such a thread sees the step stay, and then make several at once, or at the end what it was ahead by.

    Args:
        taken: elements before each sighting, of one after the other.
        steps: of the model since the lane began.
        rate: elements of a step, over the whole run.
        left: elements at its end that no step has taken.
    """
    surplus = taken - rate * steps
    if not len(surplus) or surplus.min() < 0 or surplus.max() > _MOST_AHEAD:
        return None
    beside = np.diff(taken) == 1
    at_once = bool((np.diff(steps)[beside] > 1).any())
    moved = surplus[steps > 0]
    given_out = len(moved) > 0 and surplus[-1] - left >= rate and int(np.ptp(moved)) >= rate
    return int(surplus.max()) if at_once or given_out else None


__all__ = ["Law", "observed", "taken_ahead"]
