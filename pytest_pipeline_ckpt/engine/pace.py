"""Child side: whether the model's steps take the same number of elements each, as far as an iterator has been read.

Where they do, a sighting of the step now and then tells them all; where they do not, each element needs one. Imports no
TensorFlow.
"""

from __future__ import annotations


class Pace:
    """Of one iterator."""

    __slots__ = ("_began", "_last", "_of_a_step", "uneven")

    def __init__(self) -> None:
        self.uneven = False
        """Whether steps were seen to take different numbers of elements."""
        self._last: tuple[int, int] | None = None
        self._began: tuple[int, int] | None = None
        """Where the step was seen to change last: elements taken before, and the step then."""
        self._of_a_step: tuple[int, int] | None = None
        """Elements and steps between the first two changes."""

    def sees(self, taken: int, step: int) -> None:
        """The model is at a step after so many elements."""
        last, self._last = self._last, (taken, step)
        if self.uneven or last is None or step == last[1]:
            return
        began, self._began = self._began, (taken, step)
        if began is None:
            return  # the step before began earlier, and with what a loader takes ahead
        elements, steps = taken - began[0], step - began[1]
        if self._of_a_step is None:
            self._of_a_step = elements, steps
            return
        usual, usual_steps = self._of_a_step
        off = abs(elements * usual_steps - steps * usual)
        self.uneven = off > 0 if taken - last[0] == 1 else off >= usual * max(1, usual_steps)


__all__ = ["Pace"]
