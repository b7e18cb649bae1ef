"""The exceptions."""

from __future__ import annotations

import pickle

from pytest_pipeline_ckpt.engine.model import Outcome, Verdict
from pytest_pipeline_ckpt.errors import PreemptError, PreemptionSafetyError, PreemptUsageError, WorkerError

VERDICT = Verdict(Outcome.LOST, "elements 3..4 were never trained", life=2)


def test_one_root() -> None:
    """Each exception is a PreemptError and the builtin that people catch."""
    assert issubclass(PreemptUsageError, PreemptError)
    assert issubclass(PreemptUsageError, ValueError)
    assert issubclass(PreemptionSafetyError, PreemptError)
    assert issubclass(PreemptionSafetyError, AssertionError)
    assert issubclass(WorkerError, PreemptError)
    assert issubclass(WorkerError, RuntimeError)


def test_message() -> None:
    """A failure says outcome and reason, unless it is given other words, and carries the verdict."""
    assert str(PreemptionSafetyError(VERDICT)) == "lost: elements 3..4 were never trained"
    assert str(PreemptionSafetyError(VERDICT, message="as told")) == "as told"
    assert PreemptionSafetyError(VERDICT).verdict is VERDICT


def test_pickle() -> None:
    """A failure crosses a process boundary with its verdict and its words."""
    copy = pickle.loads(pickle.dumps(PreemptionSafetyError(VERDICT, message="as told")))
    assert (type(copy), copy.verdict, str(copy)) == (PreemptionSafetyError, VERDICT, "as told")
