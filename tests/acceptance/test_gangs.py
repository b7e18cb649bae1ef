"""Trainings of two workers: killed one by one or together, started again, judged worker by worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import worker_trainings as gangs

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError, PreemptUsageError, assert_resumes_exactly
from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule
from pytest_pipeline_ckpt.engine.runner import Check, Conditions, Workload
from pytest_pipeline_ckpt.payload import pickled
from pytest_pipeline_ckpt.state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_pipeline_ckpt.fixtures import Preemption
    from pytest_pipeline_ckpt.scenario import Start

pytestmark = [pytest.mark.slow, pytest.mark.preempt(trials=1, workers=2)]


@pytest.mark.parametrize("at", ["step:25#1,8", "step:0,22/op:2#1", "step:25#0+1@SIGTERM,3#0"])
def test_each_worker_resumes_its_shard(preemption: Preemption, at: str) -> None:
    """Workers that each keep their own place are exact, whichever of them are killed, and how."""
    verdict = preemption.check_training(gangs.own_shard, at=at)
    assert (verdict.outcome, verdict.worker, verdict.scope.kills_landed) == (Outcome.EXACT, None, 2)
    assert verdict.reason.startswith("each of the 2 workers has trained on exactly the reference run's elements")


def test_mirrored(preemption: Preemption) -> None:
    """With collectives too: whoever waits for a worker that is held, or gone, is neither hung nor crashed."""
    verdict = preemption.check_training(gangs.mirrored, at="step:25#1,8")
    assert (verdict.scope.kills_landed, verdict.scope.elements_compared) == (2, 40)
    assert verdict.notes == ("each worker: 13 elements trained again after rollbacks (legal replay)",)


PLANTED: dict[str, tuple[Callable[[str], Any], Outcome, str]] = {
    "another worker's shard": (
        gangs.restores_the_others_shard,
        Outcome.CHANGED,
        "worker 1: ",
    ),
    "a shard from its beginning": (
        gangs.restarts_its_shard,
        Outcome.RESTARTED,
        "worker 1: elements 0..19 were trained twice: life 2 restarted the pipeline at element 0",
    ),
    "lost by worker 1 alone": (
        gangs.chief_is_right,
        Outcome.MISALIGNED,
        "worker 1: element 20 was never trained: the pipeline resumed 1 element ahead of the model",
    ),
    "a worker that fails": (
        gangs.worker_1_fails_when_resumed,
        Outcome.CRASHED,
        "worker 1: life 2 crashed (exit code 1): ValueError: worker 1 does not like to be resumed",
    ),
    "a worker that waits for ever": (
        gangs.never_meets,
        Outcome.HUNG,
        "worker 0: life 2 hung (no progress for 8 s)",
    ),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", PLANTED)
def test_planted(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """A fault of one worker is found, with the verdict that a single training gets, and the worker is named."""
    train, outcome, reason = PLANTED[name]
    check = Check(
        engine=state_of(request.config).engine,
        workload=Workload("training", pickled(train, None)),
        conditions=Conditions(timeout=8 if outcome is Outcome.HUNG else 60, grace=5, max_elements=1_000, order="exact"),
        directory=tmp_path,
        workers=2,
    )
    verdict = check.trial("trial", lambda _: KillSchedule((Kill(25, workers=(1,)),))).verdict
    assert (verdict.outcome, verdict.worker, verdict.life) == (outcome, int(reason[7]), 2)
    assert verdict.reason.startswith(reason)


def test_message(preemption: Preemption) -> None:
    """What is at fault is found in a gang too, and the line that runs it again says of how many processes it is."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(gangs.restarts_its_shard, at="step:25#1")
    told = str(caught.value)
    assert "\n  why:       its iterator is in no checkpoint\n" in told
    assert "\n  killed:    element 25 of worker 1\n" in told
    assert " --preempt-at=step:25#1 --preempt-workers=2\n" in told


def test_asynchronous_workers(preemption: Preemption) -> None:
    """Of sessions that do not wait for each other only the killed one starts again; what it repeats is the bound."""
    verdict = preemption.check_training(gangs.between_graph, restart="worker", at="step:25#1,17#0,8#1")
    assert (verdict.outcome, verdict.scope.kills_landed) == (Outcome.EXACT, 3)
    assert verdict.notes[-1] == (
        "the others went on while a worker was started again, so a model that they share was not rolled back: at most "
        "13 elements of a worker, those after its last save, count twice in it"
    )


def test_script(preemption: Preemption) -> None:
    """A script finds its worker's number where it says `{worker}`."""
    preemption.check_script([gangs.__file__, "--model_dir={model_dir}", "--worker={worker}"], at="step:15#1")


def test_by_hand(training_process: Start, tmp_path: Path) -> None:
    """Gangs that are started by hand run together, and are judged together."""
    reference = training_process.gang(gangs.own_shard, tmp_path / "reference", workers=2).wait()
    assert [life.returncode for life in reference.workers] == [0, 0]
    first = training_process.gang(gangs.own_shard, tmp_path / "model", workers=2).wait_for(elements=25, worker=1)
    assert (first.workers[1].elements, first.workers[1].returncode) == (25, None)
    first.kill()
    second = training_process.gang(gangs.own_shard, tmp_path / "model", workers=2)
    # Not worker 0: nobody held it, so it may have come to its end in the first life.
    second.wait_for(elements=5, worker=1).kill(worker=1).wait()
    assert [life.returncode for life in second.workers] == [0, -9]
    third = training_process.gang(gangs.own_shard, tmp_path / "model", workers=2).wait()
    verdict = assert_resumes_exactly(reference, [first, second, third])
    assert verdict.outcome is Outcome.EXACT


def test_every_is_about_one_process(preemption: Preemption) -> None:
    """`every` refuses a training of several processes, and says what to do."""
    with pytest.raises(PreemptUsageError) as caught:
        preemption.check_training(gangs.own_shard, at="every")
    assert str(caught.value) == (
        "the argument at=: 'every' records one process, but @pytest.mark.preempt(workers=...) gives the training 2: "
        "use 'random' or 'step:', or train with one worker here (workers=1)"
    )
