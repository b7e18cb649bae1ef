"""What is sent to the training process: the user's functions, by value where they come from a test module."""

from __future__ import annotations

import io
import sys
import types
from collections import ChainMap
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

from .errors import PreemptUsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_code_reduced = cloudpickle.Pickler.dispatch_table[types.CodeType]
_NO_FILE = "<dynamic-code>"


def _with_file(code: types.CodeType) -> Any:
    """Code as cloudpickle reduces it, but with its file: messages name the line where a stage is made."""
    function, arguments = _code_reduced(code)
    return function, tuple(
        code.co_filename if isinstance(each, str) and each == _NO_FILE else each for each in arguments
    )


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: _with_file}, cloudpickle.Pickler.dispatch_table)


def pickled(function: Any, step: Callable[[], int] | None) -> bytes:
    """What the worker loads: both functions by value where they come from a test module or a conftest.

    Raises:
        PreemptUsageError: something that the function refers to can't be sent to another process.
    """
    modules = {
        module
        for each in (function, step)
        if (module := sys.modules.get(getattr(each, "__module__", None) or "")) is not None and _is_test(module)
    }
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        buffer = io.BytesIO()
        _Pickler(buffer).dump({"function": function, "step": step})
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise PreemptUsageError(
            f"{name} can't be sent to the training process: {type(error).__name__}: {error}; make what it needs inside "
            "the function instead of taking it from outside"
        ) from None
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()


def _is_test(module: Any) -> bool:
    """Whether pytest imported the module: its name need not be importable in another process."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return type(loader).__module__.startswith("_pytest.") or module.__name__ == "__main__"


__all__ = ["pickled"]
