"""The production hook under the plugin: trainings that are killed for real, one to three times a trial."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from hooked import ESTIMATORS, SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt import Preemption

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("training", SESSIONS.values(), ids=SESSIONS)
@pytest.mark.preempt(trials=1)
def test_sessions_resume_exactly(preemption: Preemption, training: Callable[[str], None]) -> None:
    """However model and input are saved, each element is trained on exactly once."""
    preemption.check_training(training)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_estimator") is None,
    reason="only TensorFlow 2.15 and older have tf.estimator",
)
@pytest.mark.parametrize("training", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.preempt(trials=1)
def test_estimators_resume_exactly(preemption: Preemption, training: Callable[[str], None]) -> None:
    """The documented loop of an Estimator is as exact."""
    preemption.check_training(training)
