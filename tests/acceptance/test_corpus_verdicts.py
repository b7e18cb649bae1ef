"""Some trainings of the corpus, one kill each: the verdict is what their proofs have shown without the plugin."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from registry import CORPUS, Training

from pytest_pipeline_ckpt import PreemptionSafetyError

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.preempt(trials=1)]

HAS_JAX = all(importlib.util.find_spec(name) is not None for name in ("jax", "flax", "orbax", "clu"))
NAMES = (
    *("two_managers:paired", "two_managers:other_steps", "epochs_loop:skip", "epochs_loop:skip_all"),
    *("nonfinite:skip_taken", "nonfinite:skip", "packed_texts:saved", "packed_texts:lost"),
    *("replay:saved", "replay:forgotten", "thread_prefetch:skip", "thread_prefetch:in_flight"),
    *("keras_fit:weights", "keras_fit:weights_epochs", "keras_fit:checkpoint"),
    *(
        "accumulate_by_hand:saved",
        "accumulate_by_hand:lost",
        "keras_accumulate:ours",
        "keras_mixed:ours",
        "keras_gan:loop",
        "keras_gan:generator_lost",
        "saver:never_restores",
        "graph_parts:backbone_again",
    ),
    *("orbax_loop:skip", "orbax_loop:anew", "orbax_loop:never_restores", "flax_bytes:skip", "flax_bytes:anew"),
    *("clu_loop:saved", "optax_sums:lost", "optax_sums:whole_groups", "nnx_loop:skip"),
    *("device_prefetch:skip", "device_prefetch:in_flight"),
)
AT = {
    "packed_texts": "step:60",
    "two_managers": "step:17",
    "accumulate_by_hand": "step:35",
    "optax_sums": "step:15",
}
"""Where an unsafe way of a program shows; else in the third interval between two saves."""


@pytest.mark.parametrize("training", [one for one in CORPUS if one.name in NAMES], ids=lambda one: one.name)
def test_verdict_is_the_truth(preemption: Preemption, training: Training) -> None:
    """A safe training is exact, an unsafe one gets one of the words that its proof allows."""
    if training.needs == "jax" and not HAS_JAX:
        pytest.skip("JAX, Flax, Orbax or CLU is not installed")
    argv = [str(training.path), "--model_dir={model_dir}", f"--how={training.how}"]
    try:
        outcome = preemption.check_script(argv, at=AT.get(training.program, "step:25")).outcome.value
    except PreemptionSafetyError as error:
        outcome = error.verdict.outcome.value
    right = training.unsafe or {"exact"}
    assert outcome in right


@pytest.mark.skipif(not HAS_JAX, reason="JAX, Flax, Orbax or CLU is not installed")
def test_remedy_in_the_terms_of_orbax(preemption: Preemption) -> None:
    """Whoever trains in JAX has no `tf.train.Checkpoint` of the model to put an iterator into."""
    (training,) = (one for one in CORPUS if one.name == "orbax_loop:anew")
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_script([str(training.path), "--model_dir={model_dir}", "--how=anew"], at="step:25")
    assert caught.value.diagnosis is not None
    assert "then the model's own save" in caught.value.diagnosis.remedy


def test_names_are_of_the_corpus() -> None:
    """Each name is that of a training."""
    assert set(NAMES) <= {training.name for training in CORPUS}
