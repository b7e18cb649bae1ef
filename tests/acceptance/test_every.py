"""`every`: good trainings are exact in each state that a kill can leave, bad ones are not, and the words say where."""

from __future__ import annotations

import functools
import importlib.util
import re
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trainings
from good_pipelines import GOOD
from hooked import SESSIONS, monitored, session

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
DURABLE = functools.partial(session, model={"save_steps": 20}, hook={"save_steps": 20, "durable": True})


def failure(preemption: Preemption, train: Callable[[str], Any]) -> tuple[Outcome, str]:
    """The verdict's outcome and the whole message of a training that is not safe."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(train)
    return caught.value.verdict.outcome, str(caught.value)


@pytest.mark.preempt(at="every")
@pytest.mark.parametrize("runner", ["eager", "session"])
def test_one_checkpoint_is_exact_everywhere(preemption: Preemption, runner: Literal["eager", "session"]) -> None:
    """Model and input in one checkpoint: no instant is unsafe, the inside of saves included."""
    verdict = preemption.check_dataset(GOOD["seeded_shuffle_two_epochs"].make, runner=runner, steps=40)
    assert verdict.scope.kills_landed >= 8


@pytest.mark.preempt(at="every:3", times=2)
def test_an_unseeded_shuffle_is_exact_everywhere(preemption: Preemption) -> None:
    """The recorded run's own tail is the truth, so an order that is drawn anew in each run is judged exactly."""
    verdict = preemption.check_dataset(GOOD["unseeded_shuffle"].make, steps=40)
    assert verdict.scope.elements_compared > 0
    assert not any("differs from run to run" in note for note in verdict.notes)


@pytest.mark.preempt(at="every:8")
def test_our_hook_is_exact_everywhere(preemption: Preemption) -> None:
    """Model and input saved one after the other, by several threads: each pair that a kill leaves is one."""
    verdict = preemption.check_training(SESSIONS["equal"])
    assert any("other interleavings are not" in note for note in verdict.notes)


@pytest.mark.preempt(at="every")
def test_skipping_is_training_only_when_the_model_moves(preemption: Preemption) -> None:
    """A life that reads on to its place is watched until it trains."""
    preemption.check_training(trainings.skips_what_it_has_seen)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_estimator") is None,
    reason="only TensorFlow 2.15 and older have tf.estimator",
)
@pytest.mark.preempt(at="every", trials=1)
def test_tensorflows_hook_between_its_two_commits(preemption: Preemption) -> None:
    """Model and input differ from the model's commit to the input's, in each save, and nowhere else."""
    outcome, message = failure(preemption, trainings.estimator)
    assert outcome is Outcome.RESTARTED  # the first save's window: no input checkpoint yet
    found = re.findall(r"^    (?:from|to): +(.*)$", message, re.MULTILINE)
    assert [re.sub(r"[0-9]+", "N", where) for where in found] == [
        "after element N, when it had renamed checkpoint.tmp... to checkpoint",
        "after element N, when it had written to input.ckpt-N.index",
    ] * (len(found) // 2)
    assert "misaligned" in message
    assert "the pipeline resumed 10 elements behind the model" in message


@pytest.mark.preempt(at="every:6")
def test_backup_and_restore_inside_its_save(preemption: Preemption) -> None:
    """Keras's only copy is rewritten in place, and its data begins again."""
    outcome, message = failure(preemption, trainings.keras_backup)
    assert outcome in (Outcome.CRASHED, Outcome.RESTARTED)
    keras3 = importlib.util.find_spec("tensorflow_estimator") is None
    assert ("crashed" in message) is keras3, message
    assert "restarted" in message


@pytest.mark.preempt(at="every:40", times=2)
def test_saving_again_what_was_restored(preemption: Preemption) -> None:
    """TensorFlow's `CheckpointSaverHook` truncates the index that it has restored: only a second kill finds it."""
    outcome, message = failure(preemption, monitored)
    assert outcome is Outcome.CRASHED
    assert re.search(r"before the first element, when it had made model\.ckpt-[0-9]+\.index", message)
    again = re.search(r"--preempt-at=(step:\S+/op:[0-9]+)$", message, re.MULTILINE)
    assert again is not None
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(monitored, at=again[1])
    assert caught.value.verdict.outcome is Outcome.CRASHED, "the line that reproduces it does not"


@pytest.mark.preempt(at="every:25", loss="power")
def test_power_loss_takes_what_is_not_fsynced(preemption: Preemption) -> None:
    """TensorFlow's own checkpoint is lost, our durable one never; the report tells them apart."""
    outcome, message = failure(preemption, DURABLE)
    assert outcome is Outcome.CRASHED
    taken = re.search(r"a power loss takes, because they are not fsynced: (.*)", message)
    kept = re.search(r"it never takes: (.*)", message)
    assert taken is not None
    assert kept is not None
    assert "model.ckpt-N.index" in taken[1]
    ours = {name for name in taken[1].split(", ") if name.startswith("input.")}
    assert all(name.startswith("input.ckpt-N.tmp/") or name == "input.ckpt-N.mark" for name in ours), ours
    assert {"input.ckpt-N.commit", "input.ckpt-N.index"} <= set(kept[1].split(", "))


NOTICES = ("step:25@SIGTERM", "step:20/op:3@SIGTERM", "step:25@SIGTERM@SIGTERM", "step:0@SIGTERM", "step:25,0@SIGTERM")


@pytest.mark.parametrize("at", NOTICES)
@pytest.mark.preempt(trials=1)
def test_notices(preemption: Preemption, at: str) -> None:
    """At an element, inside a save, twice, and while the first graph is traced: each leaves what can be resumed."""
    verdict = preemption.check_training(trainings.tf_function_loop, at=at)
    assert verdict.scope.kills_landed == at.count(",") + 1
    assert any("did not use the notice" in note for note in verdict.notes)


@pytest.mark.preempt(trials=1)
def test_a_notice_that_is_saved_on(preemption: Preemption) -> None:
    """A training that saves when it is told leaves nothing to say, also when it is told twice."""
    for at in ("step:25@SIGTERM", "step:25@SIGTERM@SIGTERM"):
        verdict = preemption.check_training(trainings.saves_on_notice, at=at)
        assert not any("notice" in note for note in verdict.notes), verdict.notes
        assert verdict.scope.elements_replayed == 0


@pytest.mark.preempt(trials=1, grace=2)
def test_a_notice_that_is_ignored(preemption: Preemption) -> None:
    """It was killed when the grace was up: the verdict says that nothing was saved for it."""
    verdict = preemption.check_training(trainings.ignores_notices, at="step:25@SIGTERM")
    assert "notice ignored: no checkpoint was written within 2.0 s" in verdict.notes
