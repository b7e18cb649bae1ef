"""Prove that a TensorFlow training may be preempted: kill it, resume it, compare the elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PreemptError, PreemptionSafetyError, PreemptUsageError, WorkerError

if TYPE_CHECKING:
    from .engine.model import Outcome, Verdict
    from .scenario import assert_resumes_exactly

__version__ = "0.1.0"
__all__ = [
    "Outcome",
    "PreemptError",
    "PreemptUsageError",
    "PreemptionSafetyError",
    "Verdict",
    "WorkerError",
    "assert_resumes_exactly",
]

_LATE = {"Outcome": ".engine.model", "Verdict": ".engine.model", "assert_resumes_exactly": ".scenario"}


def __getattr__(name: str) -> Any:
    # Every pytest run imports this package; only those that preempt pay for the engine.
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name], __name__), name)
