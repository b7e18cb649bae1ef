"""Faults of pipelines and of training codes: each is found where it is, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults import FAULTS, Fault

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


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_where_it_is(preemption: Preemption, name: str) -> None:
    """The guilty stage is named, or that it is none of them, and the reason is the right one."""
    fault = FAULTS[name]
    found = diagnosed(preemption, fault)
    assert (found.stage, found.cause) == (fault.stage, fault.cause), found
