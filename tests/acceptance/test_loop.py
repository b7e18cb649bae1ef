"""Custom loops with `InputPipelineCheckpoint` under the plugin: killed for real, one to three times a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from looped import LOOPS, Loop

if TYPE_CHECKING:
    from pytest_pipeline_ckpt import Preemption

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("training", LOOPS.values(), ids=LOOPS)
@pytest.mark.preempt(trials=1)
def test_loops_resume_exactly(preemption: Preemption, training: Loop) -> None:
    """However the data is saved, each element is trained on exactly once, and the final weight is the same."""
    preemption.check_training(training, compare_weights=training.kind != "unseeded")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole, in a function"])
@pytest.mark.preempt(at="every:12")
def test_loops_resume_at_every_instant(preemption: Preemption, name: str) -> None:
    """The inside of saves included; some of them here, `--preempt-at=every` looks at all."""
    preemption.check_training(LOOPS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole, in a function", "inside"])
@pytest.mark.preempt(trials=1, signal="SIGTERM", grace=30)
def test_loops_leave_when_they_are_told(preemption: Preemption, name: str) -> None:
    """SIGTERM: saved at that step, so no step is made again."""
    verdict = preemption.check_training(LOOPS[name])
    assert verdict.scope.elements_replayed == 0
