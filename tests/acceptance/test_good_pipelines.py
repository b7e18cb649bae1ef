"""Good pipelines must pass: a false alarm costs the user's trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from good_pipelines import GOOD

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.preempt(trials=2)]


@pytest.mark.parametrize("name", GOOD)
def test_resumes_exactly(preemption: Preemption, name: str) -> None:
    """A pipeline that TensorFlow checkpoints rightly is exact after real preemptions."""
    good = GOOD[name]
    verdict = preemption.check_dataset(good.make, steps=good.steps, order=good.order)
    assert verdict.scope.kills_landed >= 1


@pytest.mark.preempt(trials=1)
@pytest.mark.parametrize("runner", ["eager", "session"])
def test_runners(preemption: Preemption, runner: Literal["eager", "session"]) -> None:
    """Both of the plugin's trainers resume a good pipeline exactly, killed twice."""
    good = GOOD["seeded_shuffle_two_epochs"]
    verdict = preemption.check_dataset(good.make, at="step:25,12", runner=runner)
    assert verdict.scope.kills_landed == 2
    assert verdict.scope.saves_crossed >= 2


@pytest.mark.preempt(trials=1)
def test_unseeded_shuffle_killed_before_the_first_save(preemption: Preemption) -> None:
    """A life that found no checkpoint may begin in another order: the model began anew too."""
    verdict = preemption.check_dataset(GOOD["unseeded_shuffle"].make, at="step:5")
    assert verdict.scope.saves_crossed == 0
