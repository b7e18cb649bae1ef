"""`every` beyond one kill of a training that is the same in each run: what does not depend on TensorFlow's version."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import pytest
import trainings
from good_pipelines import GOOD
from hooked import monitored, session
from unsafe import failure

from pytest_pipeline_ckpt import Outcome

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.preempt(trials=1)]  # one item, all states
DURABLE = functools.partial(session, model={"save_steps": 20}, hook={"save_steps": 20, "durable": True})


def test_an_unseeded_shuffle_is_exact_everywhere(preemption: Preemption) -> None:
    """The recorded run's own tail is the truth, so an order that is drawn anew in each run is judged exactly."""
    verdict = preemption.check_dataset(GOOD["unseeded_shuffle"].make, steps=40, at="every:3", times=2)
    assert verdict.scope.elements_compared > 0
    assert not any("differs from run to run" in note for note in verdict.notes)


def test_a_fault_of_the_second_resume_without_a_seed(preemption: Preemption) -> None:
    """What came again after the first kill says nothing of the second: a pair that does not match there is found."""
    outcome, message = failure(preemption, trainings.saves_apart_when_resumed, at="every:2", times=2)
    assert outcome in (Outcome.MISALIGNED, Outcome.RESTARTED)
    assert "sequences of kills" in message


def test_rows_that_are_drawn_in_each_run(preemption: Preemption) -> None:
    """Where an unseeded shuffle decides which rows a hidden pass has, it is said that this cannot be judged."""
    outcome, message = failure(preemption, trainings.drops_a_drawn_rest, at="every:3")
    assert outcome is Outcome.FLAKY
    assert "seed it" in message


def test_skipping_is_training_only_when_the_model_moves(preemption: Preemption) -> None:
    """A life that reads on to its place is watched until it trains."""
    preemption.check_training(trainings.skips_what_it_has_seen, at="every")


def test_saving_again_what_was_restored(preemption: Preemption) -> None:
    """TensorFlow's `CheckpointSaverHook` truncates the index that it has restored: only a second kill finds it."""
    outcome, message = failure(preemption, monitored, at="every:40", times=2)
    assert outcome is Outcome.CRASHED
    assert re.search(r"before the first element, when it had made model\.ckpt-[0-9]+\.index", message)
    again = re.search(r"--preempt-at=(step:\S+/op:[0-9]+)$", message, re.MULTILINE)
    assert again is not None
    assert failure(preemption, monitored, at=again[1])[0] is Outcome.CRASHED, "the line that reproduces it does not"


@pytest.mark.preempt(loss="power")
def test_power_loss_takes_what_is_not_fsynced(preemption: Preemption) -> None:
    """TensorFlow's own checkpoint is lost, our durable one never; the report tells them apart."""
    outcome, message = failure(preemption, DURABLE, at="every:25")
    assert outcome is Outcome.CRASHED
    taken = re.search(r"a power loss takes what is not yet fsynced of: (.*)", message)
    kept = re.search(r"it never takes: (.*)", message)
    assert taken is not None
    assert kept is not None
    assert "model.ckpt-N.index" in taken[1]
    ours = {name for name in taken[1].split(", ") if name.startswith("input.")}
    temporary = re.compile(r"input\.ckpt(-N\.N-\w+\.(tmp/.*|mark)|\.N-\w+\.claim)")
    assert all(map(temporary.fullmatch, ours)), ours
    always = {re.sub(r"\.N-[a-z]{8}", "", name) for name in kept[1].split(", ")}
    assert {"input.ckpt-N.commit", "input.ckpt-N.index", "input.ckpt.N.token"} <= always
