"""Keras `fit` under the plugin: killed for real, with the production callback and with Keras' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fitted import BACKED_UP, CHECKPOINTED

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

if TYPE_CHECKING:
    from pytest_pipeline_ckpt import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@pytest.mark.parametrize("order", CHECKPOINTED)
@pytest.mark.preempt(trials=1)
def test_fit_resumes_exactly(preemption: Preemption, order: str) -> None:
    """Each element of each epoch is trained on once; with a seed the weights are those of the whole run."""
    verdict = preemption.check_training(CHECKPOINTED[order], at="step:6,9,8", compare_weights=order == "seeded")
    assert verdict.scope.kills_landed == 3


@pytest.mark.preempt(trials=1)
def test_fit_is_saved_on_notice(preemption: Preemption) -> None:
    """A SIGTERM replays no step."""
    verdict = preemption.check_training(CHECKPOINTED["seeded"], at="step:6@SIGTERM", compare_weights=True)
    assert verdict.scope.elements_replayed == 0
    assert not any("notice" in note for note in verdict.notes), verdict.notes


@pytest.mark.preempt(trials=1)
def test_backup_and_restore_does_not(preemption: Preemption) -> None:
    """Keras' `BackupAndRestore` within an epoch begins the epoch's data again."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(BACKED_UP["seeded"], at="step:6")
    assert caught.value.verdict.outcome in (Outcome.RESTARTED, Outcome.MISALIGNED)
