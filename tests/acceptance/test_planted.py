"""Planted mistakes must be caught, each with its right verdict: a false `exact` costs weeks of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from planted import PLANTED

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.preempt(trials=1)]
_PASSING_OR_UNDECIDED = (Outcome.EXACT, Outcome.UNKNOWN, Outcome.FLAKY)


@pytest.mark.parametrize("name", PLANTED)
def test_is_caught(preemption: Preemption, name: str) -> None:
    """The mistake gets its verdict, and the words say what happened."""
    planted = PLANTED[name]
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(planted.train, at=planted.at, **planted.settings)
    verdict = caught.value.verdict
    if planted.outcome:
        assert verdict.outcome is Outcome(planted.outcome), verdict
        assert verdict.life == planted.life, verdict
    else:
        assert verdict.outcome not in _PASSING_OR_UNDECIDED, verdict
    assert planted.says in verdict.reason
