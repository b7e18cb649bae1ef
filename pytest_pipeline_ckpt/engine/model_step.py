"""Child side: the model's step as the user tells it: `step=` of a check, or `--preempt-model-step=module:name`."""

from __future__ import annotations

import importlib
import operator
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from .script import searching

if TYPE_CHECKING:
    from collections.abc import Callable

GIVEN = "step="
"""In place of a reference: the function that the check was given."""
OPTION = "--preempt-model-step"


class ModelStep:
    """Reads the step whenever it is called.

    Args:
        given: returns the function that the check was given.
        reference: `GIVEN`, or the `module:name` of a function or an integer. Looked up at each call, and imported at
            the first: `__main__` and its integers are what the script makes of them.
        path: where modules are looked for besides `sys.path`.
    """

    def __init__(self, given: Callable[[], Callable[[], Any]], reference: str, path: list[str]) -> None:
        self._given = given
        self._reference = reference
        self._path = path

    def __call__(self) -> int:
        """The step now.

        What cannot be looked up ends the life, which would otherwise only show no step. What the function raises is
        left to the caller: it may not be ready.
        """
        if self._reference == GIVEN:
            return int(self._function()())
        module_name, _, name = self._reference.partition(":")
        module = self._module(module_name)
        where = f"{module_name} ({getattr(module, '__file__', None) or 'built in'})"
        if not hasattr(module, name):
            self._refuse(f"{where} has no {name!r}: define it there before the first element is taken")
        value = getattr(module, name)
        told, what = (value(), f"{name}() returned") if callable(value) else (value, f"{name} is")
        step = _integer(told)
        if step is None:
            self._refuse(f"{where}: {what} {told!r}: it must be an integer, or a function that returns one")
        return step

    def _function(self) -> Callable[[], Any]:
        try:
            return self._given()
        except Exception as error:
            self._end(f"{type(error).__name__}: {error}")

    def _module(self, name: str) -> Any:
        if name in sys.modules:
            return sys.modules[name]
        try:
            with searching(self._path):
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and not name.startswith(error.name):
                raise
            self._refuse(
                f"there is no module {name!r} on the import path; run pytest from the directory that holds it, or set "
                "PYTHONPATH"
            )

    def _refuse(self, why: str) -> NoReturn:
        self._end(f"{OPTION}={self._reference}: {why}")

    def _end(self, message: str) -> NoReturn:
        # It may be a thread of TensorFlow's that asks: there an exception would be somebody else's.
        print(message, file=sys.stderr, flush=True)
        os._exit(1)


def _integer(value: Any) -> int | None:
    """What counts steps: an integer of Python, NumPy, TensorFlow or JAX, also in a variable."""
    try:
        return operator.index(value.numpy() if hasattr(value, "numpy") else value)
    except TypeError:
        return None


__all__ = ["GIVEN", "OPTION", "ModelStep"]
