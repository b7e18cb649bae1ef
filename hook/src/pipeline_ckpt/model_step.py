"""The step of a loop's model: what a variable says, what the loop tells, or as many as elements were handed out."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import tensorflow as tf

from .errors import HookUsageError


class ModelStep:
    """How many steps the model has made.

    Args:
        step: the `tf.Variable` that counts them, an integer scalar; or their number as it is now, and the loop tells;
            None: nobody tells, and each element counts for one.

    Raises:
        HookUsageError: it is neither.
    """

    def __init__(self, step: Any) -> None:
        self.variable: Any = None
        """What counts them; None: the loop tells."""
        self._told = 0
        self.elements = step is None
        """Whether elements are counted."""
        if step is None:
            return
        if isinstance(step, tf.Variable) and step.dtype.is_integer and step.shape.rank == 0:
            self.variable = step
            return
        number = None if isinstance(step, (tf.Variable, bool)) else _number_of(step)
        if number is None or number < 0:
            raise HookUsageError(
                f"step={step!r} is neither a tf.Variable of an integer scalar nor a number of steps: pass the variable "
                "that counts the model's steps, or how many it has made."
            )
        self._told = number

    def at(self) -> int:
        """The number of steps."""
        # A strategy's variable is no number itself.
        return self._told if self.variable is None else int(self.variable.numpy())

    def handed_out(self) -> None:
        """An element goes to the training."""
        self._told += self.elements

    def after_step(self, step: SupportsIndex | None) -> None:
        """A step was made, or several.

        Args:
            step: how many there are now; None where a variable counts them.

        Raises:
            HookUsageError: it is missing, no number, or no larger one than before; or a variable counts them.
        """
        if self.variable is not None:
            if step is not None:
                raise HookUsageError(
                    f"step={step!r} was given, and a tf.Variable counts this model's steps: leave it out."
                )
            return
        if self.elements:
            raise HookUsageError(
                "after_step was called, and this InputPipelineCheckpoint was made without a step, to be saved by "
                "another library: leave the call out, or pass the model's step where it is made."
            )
        number = None if step is None else _number_of(step)
        if number is None:
            raise HookUsageError(
                f"after_step({'' if step is None else repr(step)}) must be told how many steps the model has made, "
                "because no tf.Variable counts them: after_step(step)."
            )
        if number <= self._told:
            raise HookUsageError(
                f"after_step({number}) was called, and the model had made {self._told} steps before: pass how many it "
                f"has made with this one, {self._told + 1} or more. (A loop over range(start, end) passes step + 1.)"
            )
        self._told = number

    def restored(self, step: int) -> None:
        """What was saved with the model says so; where the loop had told another step, that is not the model's."""
        if self.variable is None and self._told == 0:
            self._told = step


def _number_of(step: Any) -> int | None:
    """The integer that something is: Python's, NumPy's, a scalar array of JAX."""
    try:
        return operator.index(step)
    except TypeError:
        return None


__all__ = ["ModelStep"]
