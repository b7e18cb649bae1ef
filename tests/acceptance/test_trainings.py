"""Whole trainings in the ways that people write them, unmodified: seen, killed, judged."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from typing import TYPE_CHECKING, Any

import pytest
import trainings

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError
from pytest_pipeline_ckpt.engine.causes import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.preempt(trials=1)]
GOOD: dict[str, tuple[Callable[[str], Any], str]] = {
    "raw session": (trainings.raw_session, "step:25,8"),
    "tf.function, two elements a step": (trainings.tf_function_loop, "step:45,31"),
    "validation and a look at the data": (trainings.validated_every_save, "step:20,13"),
    "fast-forward by calling next": (trainings.skips_what_it_has_seen, "step:25,15,33"),
    "Keras fit, whole epochs": (trainings.keras_fit, "step:15,5"),
    "epochs in a tf.function": (trainings.epoch_in_a_function, "step:25,7"),
    "two replicas": (trainings.mirrored, "step:25,17"),
    "Keras fit, unknown length": (trainings.fit_of_unknown_length, "step:15,5,15"),
    "Keras fit, several steps in a call": (trainings.fit_of_several_steps, "step:15,8"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_training_is_exact(preemption: Preemption, name: str) -> None:
    """A training that resumes rightly is exact, however its step and its elements are kept."""
    train, at = GOOD[name]
    verdict = preemption.check_training(train, at=at)
    assert verdict.scope.kills_landed == at.count(",") + 1


def test_data_of_unknown_length_restarted(preemption: Preemption) -> None:
    """A `fit` that goes on within the second epoch, over data that begins that epoch again, is six elements behind."""
    train = functools.partial(trainings.fit_of_unknown_length, save_freq=4)
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(train, at="step:17")
    # Keras 2 cannot resume within an epoch whose length it does not know.
    keras_2 = importlib.metadata.version("keras").startswith("2.")
    assert caught.value.verdict.outcome is (Outcome.CRASHED if keras_2 else Outcome.MISALIGNED)
    assert keras_2 or "elements 10..15 were trained twice" in caught.value.verdict.reason


def test_replicas_restarted(preemption: Preemption) -> None:
    """Two replicas whose data begins again are found, with elements as the pipeline makes them."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(functools.partial(trainings.mirrored, skips=False), at="step:25")
    verdict = caught.value.verdict
    assert (verdict.outcome, verdict.life) == (Outcome.RESTARTED, 2)
    assert verdict.reason.startswith("elements 0..19 were trained twice")
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.cause is Cause.NOT_SAVEABLE


needs_estimator = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_estimator") is None,
    reason="only TensorFlow 2.15 and older have tf.estimator",
)


@needs_estimator
def test_estimator_with_tensorflows_hook(preemption: Preemption) -> None:
    """An Estimator with TensorFlow's own hook is exact after one preemption."""
    assert preemption.check_training(trainings.estimator, at="step:25").scope.kills_landed == 1


@needs_estimator
def test_estimator_with_tensorflows_hook_preempted_twice(preemption: Preemption) -> None:
    """TensorFlow's own hook loses an element at the second preemption: it saves a step out of phase with the model."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(trainings.estimator, at="step:25,18")
    verdict = caught.value.verdict
    assert (verdict.outcome, verdict.life) == (Outcome.MISALIGNED, 3)
    assert "the pipeline resumed 1 element ahead of the model" in verdict.reason


@needs_estimator
def test_estimator_without_its_input(preemption: Preemption) -> None:
    """An Estimator whose input is in no checkpoint restarts its data."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(functools.partial(trainings.estimator, with_hook=False), at="step:25")
    assert caught.value.verdict.outcome is Outcome.RESTARTED


def test_step_given_by_the_user(preemption: Preemption) -> None:
    """A training whose step no TensorFlow object has is judged by `step=`."""
    verdict = preemption.check_training(
        trainings.step_in_python, step=lambda: int(os.environ["TRAINED_STEPS"]), at="step:25,8"
    )
    assert verdict.scope.kills_landed == 2
