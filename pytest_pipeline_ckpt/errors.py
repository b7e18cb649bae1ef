"""What the package raises. Imports nothing of the engine: whoever loads the plugin loads this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.diagnosis import Diagnosis
    from .engine.model import Verdict


class PreemptError(Exception):
    """The root of this package's exceptions."""


class PreemptUsageError(PreemptError, ValueError):
    """A setting that can't be used; the message has its source, the value, the limit and the remedy."""


class WorkerError(PreemptError, RuntimeError):
    """The machinery that runs training processes failed; this says nothing about the training."""


class OutOfTimeError(WorkerError):
    """A life was ended because the time for it was up; see `engine.runner.Conditions.deadline`."""


class RecordingRefusedError(WorkerError):
    """The kernel, or the container's profile, does not let a training's file operations be recorded."""


class PreemptionSafetyError(PreemptError, AssertionError):
    """A trial was not exact.

    Args:
        verdict: the judgement, also there as the attribute `verdict`.
        message: what `str()` gives; by default the verdict's outcome and reason.
        diagnosis: where that comes from, also there as the attribute `diagnosis`; None: it is not known.
    """

    def __init__(self, verdict: Verdict, *, message: str | None = None, diagnosis: Diagnosis | None = None) -> None:
        self.verdict = verdict
        self.diagnosis = diagnosis
        super().__init__(message if message is not None else f"{verdict.outcome.value}: {verdict.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the constructor with the message, and so lose the verdict between processes.
        return _rebuild, (type(self), self.verdict, str(self), self.diagnosis)


def _rebuild(
    cls: type[PreemptionSafetyError], verdict: Verdict, message: str, diagnosis: Diagnosis | None
) -> PreemptionSafetyError:
    return cls(verdict, message=message, diagnosis=diagnosis)
