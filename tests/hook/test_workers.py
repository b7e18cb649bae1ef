"""Several workers: each resumes its own shard, all at the same step; or each at its own, where they share a model."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KERAS_2 = importlib.metadata.version("tensorflow").startswith("2.15")
MULTI_WORKER = [
    "loop:workers",
    pytest.param(
        "fit:workers",
        marks=pytest.mark.skipif(not KERAS_2, reason="the fit of Keras 3 fails under MultiWorkerMirroredStrategy"),
    ),
]


class Trainings:
    """Trainings that `gang_server.py` runs, each in a directory of its own."""

    def __init__(self, server: subprocess.Popen[str], root: Path) -> None:
        self._server = server
        self.root = root

    def run(self, training: str, *lives: dict[str, Any], workers: int = 2, name: str = "resumed", **job: Any) -> Any:
        """The `Answer` to a `Job`."""
        cluster = {"worker": workers, **({"ps": 1} if training == "servers" else {})}
        job = {"training": training, "directory": str(self.root / name), "cluster": cluster, "lives": lives, **job}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def faults(self, training: str, *, workers: int = 2, life: dict[str, Any] | None = None) -> Any:
        """What is not as in an uninterrupted training, which is run now."""
        return self.run(training, life or {}, workers=workers, name="reference", compare=str(self.root / "resumed"))[
            "faults"
        ]

    @property
    def checkpoints(self) -> Path:
        """Where the resumed training's are."""
        return self.root / "resumed" / "checkpoints"

    def steps(self, worker: int) -> set[int]:
        """Of a worker's complete checkpoints."""
        found = [
            re.fullmatch(rf"ckpt_worker_{worker}-(\d+)\.\S+\.commit", path.name) for path in self.checkpoints.iterdir()
        ]
        return {int(one[1]) for one in found if one}


@pytest.fixture(scope="module")
def gang_server() -> Iterator[subprocess.Popen[str]]:
    """The process that forks the gangs."""
    script = str(Path(__file__).with_name("gang_server.py"))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, script], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def trainings(gang_server: subprocess.Popen[str], tmp_path: Path) -> Trainings:
    """Trainings in a directory of this test."""
    return Trainings(gang_server, tmp_path)


def kill(*workers: int, at: int) -> dict[str, Any]:
    """A life in which workers are killed after a step."""
    return {"kill": {str(worker): [at, 0.0] for worker in workers}}


def resumed(answer: Any) -> list[list[str]]:
    """From which checkpoint each process of each life has resumed, if from any."""
    return [[next(iter(re.findall(r"resumed (\S+-\d+)", said)), "") for said in life] for life in answer["said"]]


@pytest.mark.parametrize("training", MULTI_WORKER)
def test_workers_that_step_together_resume_exactly(trainings: Trainings, training: str) -> None:
    """Each worker goes on with its own next elements, all at the same step, whoever was killed."""
    answer = trainings.run(training, kill(1, at=11), kill(0, 1, at=18), {})
    assert answer["codes"][-1] == [0, 0]
    assert resumed(answer)[1:] == [[f"ckpt_worker_{worker}-{step}" for worker in (0, 1)] for step in (8, 16)]
    assert trainings.faults(training) == []


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_mirrored_fit_resumes_exactly(trainings: Trainings, devices: int) -> None:
    """Under MirroredStrategy the position is saved, and each replica's metrics, also in a second epoch."""
    training = f"fit:mirrored{devices}"
    trainings.run(training, kill(0, at=11), kill(0, at=15), kill(0, at=29), kill(0, at=33), {}, workers=1)
    assert trainings.faults(training, workers=1) == []


@pytest.mark.slow
def test_a_mirrored_fit_of_one_long_pass_resumes_exactly(trainings: Trainings) -> None:
    """With repeat() and steps_per_epoch a seeded shuffle may draw each pass anew."""
    life = {"steps_per_epoch": 10, "again": True}
    trainings.run("fit:mirrored2", {**life, **kill(0, at=11)}, {**life, **kill(0, at=25)}, life, workers=1)
    assert trainings.faults("fit:mirrored2", workers=1, life=life) == []


@pytest.mark.slow
def test_epochs_that_are_shuffled_anew_are_refused(trainings: Trainings) -> None:
    """A position in a second epoch with an order of its own would be of no use, and the remedies are named."""
    answer = trainings.run("fit:mirrored2", {"again": True}, workers=1)
    assert answer["codes"] == [[1]]
    assert "Use shuffle(..., seed=N, reshuffle_each_iteration=False), or repeat()" in answer["said"][0][0]


@pytest.mark.slow
def test_the_newest_step_that_all_have_saved_serves(trainings: Trainings) -> None:
    """A kill between the workers' commits leaves one without the newest checkpoint: the one before serves for all."""
    trainings.run("loop:workers", kill(0, 1, at=11))
    next(trainings.checkpoints.glob("ckpt_worker_1-8.*.commit")).unlink()
    answer = trainings.run("loop:workers", {})
    assert resumed(answer) == [["ckpt_worker_0-4", "ckpt_worker_1-4"]]
    assert "ckpt_worker_0-8 is beyond the model's global_step 4 and does not count any more" in answer["said"][0][0]
    assert trainings.faults("loop:workers") == []


@pytest.mark.slow
def test_a_kill_in_the_first_save_begins_anew(trainings: Trainings) -> None:
    """Where one worker has only its first checkpoint, and another none, all begin at the beginning."""
    trainings.run("loop:workers", kill(0, 1, at=6))
    next(trainings.checkpoints.glob("ckpt_worker_1-4.*.commit")).unlink()
    answer = trainings.run("loop:workers", {})
    assert resumed(answer) == [["", ""]]
    assert trainings.faults("loop:workers") == []


@pytest.mark.slow
def test_lost_checkpoints_of_one_worker_are_an_error_of_all(trainings: Trainings) -> None:
    """A training is not begun anew because one worker has lost its files."""
    trainings.run("loop:workers", kill(0, 1, at=11))
    for path in trainings.checkpoints.glob("ckpt_worker_1-*"):
        path.unlink()
    answer = trainings.run("loop:workers", {})
    assert answer["codes"] == [[1, 1]]
    assert "in " + str(trainings.checkpoints) + " is ckpt_worker_0-8; ckpt_worker_0-4" in answer["said"][0][0]
    assert "The 2 workers have no whole checkpoint of the same step" in answer["said"][0][1]


@pytest.mark.slow
def test_another_number_of_workers_is_refused(trainings: Trainings) -> None:
    """A checkpoint of two workers is of no use to one, whose shard is another."""
    trainings.run("loop:workers", kill(0, 1, at=11))
    answer = trainings.run("loop:mirrored2", {}, workers=1)
    assert answer["codes"] == [[1]]
    assert "has checkpoints of another number of workers (ckpt_worker_0-4), and 1 train now" in answer["said"][0][0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("training", MULTI_WORKER)
def test_a_notice_at_one_worker_ends_all(trainings: Trainings, training: str, workers: Sequence[int]) -> None:
    """All save at the same step and leave, and no step is made again."""
    notice = {"term": {str(worker): 10 + worker for worker in workers}, "save": {"save_steps": 1000}}
    answer = trainings.run(training, notice, {})
    assert set(answer["codes"][0]) <= {42, 143}
    assert 143 in answer["codes"][0]
    first, second = resumed(answer)[1]
    step = int(first.split("-")[1])
    assert second == f"ckpt_worker_1-{step}"
    lines = (trainings.root / "resumed" / "taken-0-0").read_text().splitlines()
    assert int(lines[-1].split()[0]) == step
    assert trainings.faults(training) == []


@pytest.mark.slow
def test_a_save_that_one_worker_cannot_write_counts_for_none(trainings: Trainings) -> None:
    """The training goes on, and no worker keeps that checkpoint."""
    answer = trainings.run("loop:workers", {"no_room": {"1": 8}, "steps": 10})
    assert answer["codes"] == [[0, 0]]
    assert "ckpt_worker_0-8 was not saved: another worker could not" in answer["said"][0][0]
    assert (trainings.steps(0), trainings.steps(1)) == ({4}, {4})


@pytest.mark.slow
def test_the_chiefs_clock_says_when_all_save(trainings: Trainings) -> None:
    """With save_secs the workers save at the same steps."""
    trainings.run("loop:workers", {"save": {"save_secs": 0.05}})
    assert trainings.steps(0)
    assert trainings.steps(0) == trainings.steps(1)


def test_a_worker_that_shares_a_model_goes_on_at_its_own_step(trainings: Trainings) -> None:
    """A worker that is restarted alone goes on behind its own last save, whatever the others have done since."""
    answer = trainings.run("servers", kill(1, at=23), alone=True)
    assert answer["codes"][-1][:2] == [0, 0]
    said = answer["said"][0][1]
    assert "this worker goes on at its own step 20, where the model was at global_step" in said
    assert "at most what it took in the 5 steps after that, and until that save was complete, is trained twice" in said
    assert answer["faults"] == []


@pytest.mark.slow
def test_all_workers_that_share_a_model_follow_it_back(trainings: Trainings) -> None:
    """Where the model goes back too, each worker goes on behind what the model has seen: nothing is left out."""
    answer = trainings.run("servers", kill(0, 1, at=33), {})
    assert answer["codes"][-1][:2] == [0, 0]
    assert all(name for name in resumed(answer)[1][:2])
    assert answer["faults"] == []


@pytest.mark.slow
def test_a_cluster_that_is_not_in_tf_config_is_seen_in_the_graph(trainings: Trainings) -> None:
    """The device of the worker's iterators names its checkpoints."""
    life = {"no_config": True}
    answer = trainings.run("servers", {**life, **kill(1, at=23)}, life)
    assert resumed(answer)[1][1].startswith("input_worker_1.ckpt-")
    assert answer["faults"] == []
