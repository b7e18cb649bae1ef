"""After any preemption the pipeline goes on with the element after the last one that the restored model saw.

Each kill is a SIGKILL of a real training; what the lives took is compared with a run that nobody killed.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forked import without_incarnations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hook.conftest import Life, Training

pytestmark = pytest.mark.tensorflow

KILLED = -signal.SIGKILL


def _differing(expected: dict[int, int], lives: Sequence[Life]) -> list[tuple[int, int, int]]:
    """(step, expected, found) wherever a life was trained on another element than the reference."""
    return [(s, expected[s], e) for life in lives for s, e in life.elements.items() if e != expected[s]]


def _check(training: Training, reference: Training, kills: Sequence[str], **job: Any) -> list[Life]:
    """Runs one life for each kill and a last one; all must train each step on the reference's element."""
    expected = reference.live(**{**job, "hook": None}).elements
    lives = [training.live(kill=kill, **job) for kill in (*kills, "")]
    assert [life.status for life in lives] == [KILLED] * len(kills) + [0], lives[-1].log
    assert set().union(*(life.elements for life in lives)) >= set(expected)
    assert max(lives[-1].elements, default=max(expected)) == max(expected)
    assert _differing(expected, lives) == []
    return lives


@pytest.mark.parametrize("kill", ["before:20", "between:20", "after:20", "after:25", "after:1"])
def test_resumes_exactly(training: Training, reference: Training, kill: str) -> None:
    """A kill before, between and after the two saves, and between steps that save, is harmless."""
    lives = _check(training, reference, [kill])
    restored = {"before:20": 10, "after:1": 0}.get(kill, 20)
    assert min(lives[1].elements) == restored + 1


@pytest.mark.parametrize(
    "kills",
    [
        ["between:20", "between:30"],
        ["after:25", "after:31", "before:40"],
        ["between:10", "after:11", "after:12"],
    ],
)
def test_further_preemptions(training: Training, reference: Training, kills: list[str]) -> None:
    """The second and third preemption resume as exactly as the first."""
    _check(training, reference, kills)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(10, 15), (15, 10), (7, 3), (40, 9), (5, {"save_steps": None, "save_secs": 0.001})],
)
def test_different_save_periods(
    training: Training, reference: Training, model: int, inputs: int | dict[str, Any]
) -> None:
    """Model and input may be saved at different steps and by different timers."""
    hook = inputs if isinstance(inputs, dict) else {"save_steps": inputs}
    _check(training, reference, ["after:28", "after:36"], save_model=model, hook=hook)


@pytest.mark.parametrize("operation", range(1, 7))
def test_killed_inside_a_save(training: Training, reference: Training, operation: int) -> None:
    """A kill instead of any change of a name that a save makes is harmless, and leaves nothing behind."""
    _check(training, reference, [f"file:20:{operation}", "after:35"])
    assert {name for name in training.files() if ".tmp" in name} == set()
    pairs = {name.removesuffix(".index") for name in training.files("input*.index")}
    assert pairs == {name.removesuffix(".commit") for name in training.files("input*.commit")}
    assert {without_incarnations(f"{pair}.") for pair in pairs} == {f"input.ckpt-{n}." for n in training.committed()}


def test_a_save_has_no_further_file_operation(training: Training) -> None:
    """The changes of `test_killed_inside_a_save` are all that a save makes until it deletes old ones."""
    assert training.live(kill="file:20:6").status == KILLED
    assert training.committed() == [0, 10, 20]


def _truncate(training: Training, name: str) -> None:
    path = training.path(name)
    path.write_bytes(path.read_bytes()[:20])


def _flip(training: Training, name: str) -> None:
    path = training.path(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def _remove(training: Training, name: str) -> None:
    training.path(name).unlink()


def _garbage(training: Training, name: str) -> None:
    training.path(name).write_bytes(b"\0\xff\0\0")


def _not_a_mark(training: Training, name: str) -> None:
    training.path(name).write_text("[1]")


DAMAGES = [
    *((damage, part) for damage in (_truncate, _remove, _garbage) for part in ("index", "data-00000-of-00001")),
    (_flip, "data-00000-of-00001"),
    (_truncate, "commit"),
    (_garbage, "commit"),
    (_not_a_mark, "commit"),
]


@pytest.mark.parametrize(("damage", "part"), DAMAGES)
def test_damaged_checkpoint(training: Training, reference: Training, damage: Any, part: str) -> None:
    """Where the newest input checkpoint is torn or corrupt, the next older one serves, with a warning."""
    expected = reference.live(hook=None).elements
    first = training.live(kill="after:25")
    damage(training, f"input.ckpt-20.{part}")
    second = training.live(kill="after:35")
    third = training.live()
    assert (second.status, min(second.elements)) == (KILLED, 21)
    assert (third.status, min(third.elements)) == (0, 31)
    assert _differing(expected, [first, second, third]) == []
    assert "resumed input.ckpt-10, and 10 steps forward to global_step 20" in second.log
    assert "skipped input checkpoint input.ckpt-20: " in second.log


def test_missing_mark(training: Training, reference: Training) -> None:
    """Files without a mark are no checkpoint."""
    expected = reference.live(hook=None).elements
    training.live(kill="after:25")
    _remove(training, "input.ckpt-20.commit")
    second = training.live()
    assert "resumed input.ckpt-10, and 10 steps forward to global_step 20" in second.log
    assert _differing(expected, [second]) == []


def _roll_back(training: Training, step: int) -> None:
    """What a person does who goes back to an older model checkpoint."""
    (training.model_dir / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')


def test_model_rolled_back(training: Training, reference: Training) -> None:
    """A model that is rolled back takes the input with it, and the abandoned future is never used again."""
    expected = reference.live(hook=None).elements
    first = training.live(kill="after:35")
    _roll_back(training, 10)
    second = training.live(kill="between:20")
    assert (second.status, min(second.elements)) == (KILLED, 11)
    assert training.committed() == [0, 10]
    assert "input.ckpt-30 is beyond the model's global_step 10 and does not count any more" in second.log
    third = training.live()
    assert "resumed input.ckpt-10, and 10 steps forward to global_step 20" in third.log
    assert _differing(expected, [first, second, third]) == []
    assert training.files("*.retired") == set()
    kept = {f"input.ckpt-{step}.commit" for step in training.committed()}
    assert {without_incarnations(name) for name in training.files("*.commit")} == kept


def test_unseeded_pipeline(training: Training) -> None:
    """A pipeline that has another order in each run goes on in the order of the killed one."""
    lives = [training.live(pipeline="unseeded", steps=30, kill=kill) for kill in ("between:10", "after:25", "")]
    history = {step: element for life in lives for step, element in life.elements.items()}
    assert sorted(history.values()) == [3 * n for n in range(30)]
    assert _differing(history, lives) == []


def test_seeds_survive_a_kill_before_the_second_save(training: Training) -> None:
    """The checkpoint of step 0 makes a fast-forward exact also when each run draws its own seed."""
    job = {"pipeline": "unseeded", "steps": 30, "save_model": 10, "hook": {"save_steps": 25}}
    lives = [training.live(kill="after:15", **job), training.live(**job)]
    assert min(lives[1].elements) == 11
    assert _differing(lives[0].elements | lives[1].elements, lives) == []


def test_finite_pipeline(training: Training, reference: Training) -> None:
    """A training that ends with its data is not trained on when it is called again."""
    _check(training, reference, ["after:25"], pipeline="finite", steps=99)
    again = training.live(pipeline="finite", steps=99)
    assert (again.status, again.elements) == (0, {})


def test_finished_training(training: Training, reference: Training) -> None:
    """A finished training that is called again takes no element, and only says that it was: nothing is saved again."""
    _check(training, reference, [])
    before = {path.name: path.stat().st_mtime_ns for path in training.model_dir.glob("input*")}
    again = training.live()
    assert (again.status, again.elements) == (0, {})
    after = {path.name: path.stat().st_mtime_ns for path in training.model_dir.glob("input*")}
    assert before.items() <= after.items()
    parts = {f"input.ckpt-40.{part}" for part in ("commit", "index", "data-00000-of-00001")}
    assert {without_incarnations(name) for name in after.keys() - before.keys()} == {"input.ckpt.2.token", *parts}
    longer = training.live(steps=50)
    assert min(longer.elements) == 41


@pytest.mark.parametrize(("pipeline", "count"), [("pairs", 2), ("pairs", None), ("two", [1, 1]), ("two", None)])
def test_elements_per_step(training: Training, reference: Training, pipeline: str, count: Any) -> None:
    """Several elements a step, and several iterators, are fast-forwarded by as many, said or counted."""
    hook = {"save_steps": 15, "elements_per_step": count}
    lives = _check(training, reference, ["after:28", "after:33"], pipeline=pipeline, hook=hook)
    assert re.search(r"resumed input.ckpt-15, and 5 steps forward .* \(10 elements read and dropped\)", lives[1].log)


def test_recovered_session(training: Training, reference: Training) -> None:
    """A session that breaks and is made again by TensorFlow resumes like a new process."""
    expected = reference.live(hook=None).elements
    life = training.live(interrupt=25, hook={"save_steps": 15})
    assert life.status == 0
    assert "resumed input.ckpt-15, and 5 steps forward to global_step 20" in life.log
    assert _differing(expected, [life]) == []


def test_first_run_may_be_a_step(training: Training, reference: Training) -> None:
    """The input is restored before the first run of a session also when that run is a training step."""
    expected = reference.live(hook=None).elements
    training.live(kill="after:25")
    second = training.live(run_anyway=True)
    assert min(second.elements) == 21
    assert _differing(expected, [second]) == []


def test_moved_directory(training: Training, reference: Training) -> None:
    """A model directory that was moved resumes: no file holds a path."""
    expected = reference.live(hook=None).elements
    training.live(kill="between:20")
    training.model_dir = training.model_dir.rename(training.model_dir.with_name("moved"))
    second = training.live()
    assert (second.status, min(second.elements)) == (0, 21)
    assert _differing(expected, [second]) == []


@pytest.mark.parametrize(
    ("keep", "kept"),
    # The model is kept at 0, 10, 20, 30 and 40; the input is saved every 4 steps.
    [(2, [0, 8, 20, 28, 36, 40]), (1, [0, 8, 20, 28, 40]), (None, range(0, 41, 4))],
)
def test_what_is_kept(training: Training, keep: int | None, kept: Sequence[int]) -> None:
    """Kept are the newest, and for each model checkpoint the newest that is not beyond it."""
    assert training.live(hook={"save_steps": 4, "max_to_keep": keep}).status == 0
    assert training.committed() == list(kept)
    indices = [without_incarnations(name) for name in training.files("input*.index")]
    assert sorted(indices) == sorted(f"input.ckpt-{step}.index" for step in kept)


def test_every_kept_model_checkpoint_can_be_resumed(training: Training, reference: Training) -> None:
    """The model can be rolled back to each kept checkpoint, however few input checkpoints are kept."""
    expected = reference.live(hook=None).elements
    hook = {"save_steps": 3, "max_to_keep": 1}
    assert training.live(hook=hook, keep_model=3).status == 0
    for step in (30, 20):
        _roll_back(training, step)
        life = training.live(hook=hook, keep_model=3, kill=f"after:{step + 1}")
        assert min(life.elements) == step + 1
        assert _differing(expected, [life]) == []


def test_mark(training: Training) -> None:
    """A mark holds the step, the iterators and the files' sizes, by relative names."""
    training.live(kill="after:11")
    mark = json.loads(training.path("input.ckpt-10.commit").read_text())
    parts = [training.path(f"input.ckpt-10.{part}") for part in ("data-00000-of-00001", "index")]
    incarnation = parts[0].name.split(".")[2]
    fingerprint = mark["signature"].pop("fingerprint")
    assert len(fingerprint) == 16
    assert mark == {
        "format": 2,
        "step": 10,
        "iterators": ["IteratorV2:0"],
        "holds": "iterator",
        "began": 0,
        "ended": False,
        "elements_per_step": [1],
        "varies": False,
        "taken": [10],
        "signature": {"elements": ["int64()"]},
        "extra": {},
        "first": False,
        "global_step": None,
        "with_model": False,
        "workers": 1,
        "incarnation": incarnation,
        "bytes": {path.name: path.stat().st_size for path in parts},
    }
    token = json.loads((training.model_dir / "input.ckpt.1.token").read_text())
    assert token.pop("process").startswith("process ")
    assert token == {"format": 2, "number": 1, "nonce": incarnation.removeprefix("1-"), "start": None}


def test_writes_nothing_but_the_iterators(training: Training) -> None:
    """No meta graph, no state file of TensorFlow's: the model's `checkpoint` stays the model's."""
    training.live(hook={"checkpoint_basename": "in"})
    names = {without_incarnations(name) for name in training.files("in-*")}
    assert {name.split(".", 1)[1].split("-")[0] for name in names} == {
        "data",
        "index",
        "commit",
    }
    assert "in-" not in (training.model_dir / "checkpoint").read_text()


def test_takes_over_what_tensorflow_2_15_wrote(training: Training, reference: Training) -> None:
    """A directory of TensorFlow 2.15's own hook (`tf215`: an Estimator at step 20, killed) is gone on from."""
    shutil.copytree(Path(__file__).with_name("tf215"), training.model_dir)
    expected = reference.live(hook=None).elements
    lives = [training.live(kill="after:31"), training.live()]
    assert "took over input.ckpt-20, which TensorFlow's own hook has written" in lives[0].log
    assert [min(life.elements) for life in lives] == [21, 31]
    assert _differing(expected, lives) == []
    assert training.committed() == [20, 30, 40]
