"""Faults of pipelines and of training codes: each is found where it is, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults import FAULTS, HAS_ESTIMATOR, Fault

from pytest_pipeline_ckpt import PreemptionSafetyError

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.diagnosis import Diagnosis
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.preempt(trials=1)]


def check(preemption: Preemption, fault: Fault) -> None:
    """Checks a faulty dataset or training."""
    if fault.dataset is not None:
        preemption.check_dataset(fault.dataset, at=fault.at, **fault.settings)
    else:
        assert fault.training is not None
        preemption.check_training(fault.training, at=fault.at, **fault.settings)


def diagnosed(preemption: Preemption, fault: Fault) -> Diagnosis:
    """What a check says of a fault."""
    with pytest.raises(PreemptionSafetyError) as caught:
        check(preemption, fault)
    assert caught.value.diagnosis is not None, str(caught.value)
    return caught.value.diagnosis


def names() -> list[str]:
    """All faults; on TensorFlow 2.15, which has nothing of its own but Estimators, those and one of each reason."""
    if not HAS_ESTIMATOR:
        return list(FAULTS)
    first = {fault.cause: name for name, fault in reversed(FAULTS.items())}
    return [name for name in FAULTS if name in first.values() or "Estimator" in name or "session" in name]


@pytest.mark.parametrize("name", names())
def test_fault_is_found_where_it_is(preemption: Preemption, name: str) -> None:
    """The guilty stage is named, or that it is none of them, and the reason is the right one."""
    fault = FAULTS[name]
    found = diagnosed(preemption, fault)
    assert (found.stage, found.cause) == (fault.stage, fault.cause), found
