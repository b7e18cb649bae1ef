"""`every`: good trainings are exact in each state that a kill can leave, bad ones are not, and the words say where."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Literal

import pytest
import trainings
from good_pipelines import GOOD
from hooked import SESSIONS
from unsafe import failure

from pytest_pipeline_ckpt import Outcome

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.preempt(trials=1)]  # one item, all states


@pytest.mark.parametrize("runner", ["eager", "session"])
def test_one_checkpoint_is_exact_everywhere(preemption: Preemption, runner: Literal["eager", "session"]) -> None:
    """Model and input in one checkpoint: no instant is unsafe, the inside of saves included."""
    verdict = preemption.check_dataset(GOOD["seeded_shuffle_two_epochs"].make, runner=runner, steps=40, at="every")
    assert verdict.scope.kills_landed >= 8


def test_lives_inherit_nothing_of_those_before(preemption: Preemption) -> None:
    """Whoever records a life keeps no descriptor of it: a later life of the same supervisor would inherit it."""
    verdict = preemption.check_training(trainings.counts_listeners, at="every", times=2)
    assert verdict.scope.kills_landed > 20


def test_newest_checkpoint_by_its_time(preemption: Preemption) -> None:
    """A training that resumes from the newest file finds in a rebuilt directory what it would have found."""
    _, message = failure(preemption, trainings.newest_position, at="every")
    kinds = re.findall(r"^  (\w+), \d+ states?.*?--preempt-at=(\S+)", message, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in kinds] == ["restarted", "misaligned"]
    assert "12 not exact (misaligned 9, restarted 3)" in message  # three states in each of four saves
    for kind, schedule in kinds:
        assert failure(preemption, trainings.newest_position, at=schedule)[0] is Outcome(kind)


def test_our_hook_is_exact_everywhere(preemption: Preemption) -> None:
    """Model and input saved one after the other, by several threads: each pair that a kill leaves is one."""
    verdict = preemption.check_training(SESSIONS["equal"], at="every:8")
    assert any("other interleavings are not" in note for note in verdict.notes)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_estimator") is None,
    reason="only TensorFlow 2.15 and older have tf.estimator",
)
def test_tensorflows_hook_between_its_two_commits(preemption: Preemption) -> None:
    """Model and input differ from the model's commit to the input's, in each save, and nowhere else."""
    outcome, message = failure(preemption, trainings.estimator, at="every")
    assert outcome is Outcome.RESTARTED  # the first save's window: no input checkpoint yet
    found = re.findall(r"^    (?:from|to): +(.*)$", message, re.MULTILINE)
    assert [re.sub(r"[0-9]+", "N", where) for where in found] == [
        "after element N, when it had renamed checkpoint.tmp... to checkpoint",
        "after element N, when it had written to input.ckpt-N.index",
    ] * (len(found) // 2)
    assert "misaligned" in message
    assert "the pipeline resumed 10 elements behind the model" in message


def test_backup_and_restore_inside_its_save(preemption: Preemption) -> None:
    """Keras's only copy is rewritten in place, and its data begins again."""
    outcome, message = failure(preemption, trainings.keras_backup, at="every:6")
    assert outcome in (Outcome.CRASHED, Outcome.RESTARTED)
    keras3 = importlib.util.find_spec("tensorflow_estimator") is None
    assert "crashed" in message or not keras3, message
    assert "restarted" in message
