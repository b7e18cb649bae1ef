"""Child side: the variables of Keras on its JAX backend, whose values `fit` takes away. Imports neither of them.

In `fit` the variables are empty: their values are in a local variable, `state`, from the first batch on, and come back
when a callback asks for them (`jax_state_sync`), as those that save do.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .frames import variables

if TYPE_CHECKING:
    from types import FrameType

_BACKEND = "keras.src.backend.jax"
_OPTIMIZERS = 2
"""Which part of the state has the optimizer's variables."""


def is_of_jax(variable: Any) -> bool:
    """Whether something is a variable of Keras whose value is an array of jax."""
    return any(one.__module__.startswith(_BACKEND) for one in type(variable).__mro__)


def value_of(variable: Any) -> int:
    """The value of an optimizer's counter now, wherever it is.

    Raises:
        RuntimeError: it is nowhere.
    """
    value = variable._value
    if value is None:
        value = _in_fit(variable, sys._getframe(1))
    if value is None:
        raise RuntimeError("it has no value now")
    return int(np.array(value))


def _in_fit(variable: Any, frame: FrameType | None) -> Any:
    """The value in the state of the running `fit`."""
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_globals.get("__name__") == f"{_BACKEND}.trainer":
            held = dict(variables(frame))
            for one, value in zip(held["self"].optimizer.variables, held["state"][_OPTIMIZERS], strict=False):
                if one is variable:
                    return value
        frame = frame.f_back
    return None


__all__ = ["is_of_jax", "value_of"]
