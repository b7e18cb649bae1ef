"""Pipelines that TensorFlow cannot save, or that do not repeat themselves, or that have changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from forked import without_incarnations

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hook.conftest import Life, Training

pytestmark = pytest.mark.tensorflow

POSITION = {"save_steps": 10, "state": "position"}


def _same(expected: dict[int, int], *lives: Life) -> None:
    """Each step of the lives was trained on the element of the reference."""
    assert all(life.elements for life in lives)
    for life in lives:
        assert life.elements == {step: expected[step] for step in life.elements}


@pytest.mark.parametrize(("pipeline", "op"), [("generator", "PyFunc"), ("python", "PyFunc")])
def test_python_in_the_pipeline(training: Training, reference: Training, pipeline: str, op: str) -> None:
    """What TensorFlow cannot save is saved as a position, which is said, and resumed by reading on."""
    expected = reference.live(pipeline=pipeline, hook=None).elements
    lives = [training.live(pipeline=pipeline, kill=kill) for kill in ("after:17", "after:25", "")]
    _same(expected, *lives)
    assert [min(life.elements) for life in lives] == [1, 11, 21]
    assert (
        f"TensorFlow cannot save the state of a pipeline with {op}: its position is saved instead. A resume reads and "
        "drops all elements from the beginning of the data, and is exact if they are the same in each run"
    ) in lives[0].log
    assert training.files("input.ckpt*.index") == set()


def test_position(training: Training, reference: Training) -> None:
    """state="position" saves some hundred bytes and resumes as exactly, twice."""
    expected = reference.live(hook=None).elements
    lives = [training.live(kill=kill, hook=POSITION) for kill in ("after:27", "between:30", "")]
    _same(expected, *lives)
    names = sorted(map(without_incarnations, training.files()))
    tokens = [f"input.ckpt.{number}.token" for number in (1, 2, 3)]
    assert names == sorted([*(f"input.ckpt-{step}.commit" for step in (0, 10, 20, 40)), *tokens])
    assert "resumed input.ckpt-20, and 20 steps forward to global_step 20" in lives[1].log
    assert "resumed input.ckpt-20, and 30 steps forward to global_step 30" in lives[2].log


def test_from_position_to_state_and_back(training: Training, reference: Training) -> None:
    """Either kind of checkpoint can follow the other."""
    expected = reference.live(hook=None).elements
    hooks: list[Any] = [POSITION, {}, POSITION]
    lives = [
        training.live(kill=kill, hook=hook) for kill, hook in zip(("after:12", "after:22", ""), hooks, strict=True)
    ]
    _same(expected, *lives)


def test_position_of_what_does_not_repeat_itself(training: Training) -> None:
    """A position that would be of no use is refused before anything is trained."""
    life = training.live(pipeline="unseeded", hook=POSITION)
    assert (life.elements, life.error) == (
        {},
        "FastForwardError: The position of the iterators IteratorV2:0 would be of no use after a preemption: the "
        "pipeline does not yield the same elements in the same order each time (ShuffleDataset without a seed). Make "
        'it reproducible, or pass on_nondeterminism="warn" if repeated and lost elements do not matter.',
    )
    allowed = {**POSITION, "on_nondeterminism": "warn"}
    assert training.live(pipeline="unseeded", hook=allowed, steps=20, kill="after:15").status == -9
    again = training.live(pipeline="unseeded", hook=allowed, steps=20)
    assert (again.status, min(again.elements)) == (0, 11)
    assert "ShuffleDataset without a seed: elements may be repeated or lost" in again.log


def test_reading_on_in_an_unordered_pipeline(training: Training) -> None:
    """Where a fast-forward would land elsewhere, the op is named."""
    training.live(pipeline="unordered", kill="between:20")
    life = training.live(pipeline="unordered")
    assert (life.elements, life.error) == (
        {},
        "FastForwardError: The pipeline must be brought from step 10 to the model's step 20, and does not yield the "
        "same elements in the same order each time: ParallelMapDatasetV2 with deterministic=False. Make it "
        'reproducible, or pass on_nondeterminism="warn" if repeated and lost elements do not matter.',
    )
    warned = training.live(pipeline="unordered", hook={"on_nondeterminism": "warn"})
    assert (warned.status, min(warned.elements)) == (0, 21)


def test_an_epoch_that_ends_within_a_fast_forward(training: Training) -> None:
    """What TensorFlow draws anew is said."""
    training.live(pipeline="unseeded-repeat", kill="between:20")
    assert (
        "the pipeline is brought from step 10 to 20 by reading on: should an epoch end in between, its unseeded "
        "shuffle draws the next one anew; seed it to be sure"
    ) in training.live(pipeline="unseeded-repeat").log


def test_changed_code(training: Training) -> None:
    """A pipeline of the same structure and elements but other code goes on, and that is said."""
    training.live(kill="after:11")
    life = training.live(pipeline="other function")
    assert (life.status, min(life.elements)) == (0, 11)
    assert (
        "the input pipeline is not the one that wrote input.ckpt-10 (its code, file names or TensorFlow's version "
        "changed): elements that were in its buffers are the old one's, all others the new one's"
    ) in life.log


def test_the_same_pipeline_is_not_said_to_have_changed(training: Training) -> None:
    """The fingerprint of a pipeline is the same in each process."""
    training.live(kill="after:11", pipeline="unseeded")
    life = training.live(pipeline="unseeded", steps=30)
    assert "is not the one that wrote" not in life.log


def test_other_elements(training: Training) -> None:
    """A checkpoint of a pipeline with other elements is not used."""
    training.live(kill="after:11")
    before = training.files()
    life = training.live(pipeline="other elements")
    assert life.error == (
        f"NoUsableCheckpointError: The model in {training.model_dir} is at global_step 10, and no input checkpoint "
        "input.ckpt-N with N <= 10 is usable (input.ckpt-10: has elements of int64(), the graph's are int32(); "
        "input.ckpt-0: has elements of int64(), the graph's are int32()). Restore the files, or pass "
        'on_missing="replay" if the pipeline yields the same elements in each run.'
    )
    assert training.files() == before


def test_named_iterators(training: Training, reference: Training) -> None:
    """Of two iterators only the named one is saved."""
    job: dict[str, Any] = {"pipeline": "two", "hook": {"iterators": ["IteratorV2:0"]}}
    training.live(kill="after:11", **job)
    mark = json.loads(training.path("input.ckpt-10.commit").read_text())
    assert mark["iterators"] == ["IteratorV2:0"]
    expected = reference.live(pipeline="two", hook=None).elements
    first = [value // 1000 for value in training.live(**job).elements.values()]
    assert first == [expected[step] // 1000 for step in range(11, 41)]


def test_a_file_that_cannot_be_written(training: Training, reference: Training) -> None:
    """A save that fails in the middle is said; training goes on, the older checkpoint stays whole and serves."""
    job = {"pipeline": "large", "steps": 24, "hook": {"save_steps": 10, "durable": False}}
    life = training.live(largest_file=1_000_000, **job)
    assert (life.status, len(life.elements)) == (0, 24)
    assert (
        f"input.ckpt-10 was not saved: File too large ({training.model_dir}); the one before it is whole, and the next "
        "save tries again"
    ) in life.log
    parts = {f"input.ckpt-0.{part}" for part in ("commit", "index", "data-00000-of-00001")}
    assert {without_incarnations(name) for name in training.files()} == {"input.ckpt.1.token", *parts}
    expected = reference.live(pipeline="large", steps=30, hook=None).elements
    again = training.live(**{**job, "steps": 30})
    assert "resumed input.ckpt-0, and 24 steps forward to global_step 24" in again.log
    assert min(again.elements) == 25
    _same(expected, again)
    assert 30 in training.committed()


@pytest.mark.parametrize("state", ["iterator", "position"])
def test_not_durable(training: Training, reference: Training, state: str) -> None:
    """durable=False changes nothing but the fsyncs."""
    expected = reference.live(hook=None).elements
    hook = {"save_steps": 10, "durable": False, "state": state}
    _same(expected, training.live(hook=hook, kill="after:12"), training.live(hook=hook))


def test_listener(training: Training, reference: Training) -> None:
    """With the listener the input is saved before the model, so that no kill lands between them the other way."""
    expected = reference.live(hook=None).elements
    job: dict[str, Any] = {"listener": True, "save_model": 5, "hook": {"save_steps": 100}}
    lives = [training.live(kill=kill, **job) for kill in ("after:12", "after:19", "")]
    _same(expected, *lives)
    assert [min(life.elements) for life in lives] == [1, 11, 16]
    assert "resumed input.ckpt-10, and 0 steps forward to global_step 10" in lives[1].log


def test_durable(training: Training, tmp_path: Path) -> None:
    """What a mark stands for has been fsynced before the mark is in its place: files first, then their directory."""
    trace = tmp_path / "trace"
    assert training.live(steps=10, trace=str(trace)).status == 0
    text = without_incarnations(trace.read_text())
    lines = text.replace(f"{training.model_dir}/", "").replace(str(training.model_dir), ".").splitlines()
    last = [line for line in lines if "ckpt-10" in line or line == "fsync ."][-8:]
    assert last == [
        "fsync input.ckpt-10.tmp/part.data-00000-of-00001",
        "fsync input.ckpt-10.tmp/part.index",
        "rename input.ckpt-10.data-00000-of-00001",
        "rename input.ckpt-10.index",
        "fsync input.ckpt-10.tmp/commit",
        "fsync .",
        "rename input.ckpt-10.commit",
        "fsync .",
    ]
    trace.unlink()
    assert training.live(steps=20, trace=str(trace), hook={"durable": False}).status == 0
    assert "fsync" not in trace.read_text()


@pytest.mark.parametrize(
    ("cluster", "name"),
    [({"worker": ["a:1", "b:1"]}, "input_worker_1.ckpt"), ({"worker": ["a:1"]}, "input.ckpt")],
)
def test_each_worker_has_its_own(training: Training, cluster: dict[str, list[str]], name: str) -> None:
    """With more than one worker replica the names say whose checkpoint it is."""
    environ = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})}
    assert training.live(steps=5, environ=environ).status == 0
    assert {path.split("-")[0] for path in training.files()} == {name, f"{name}.1.token"}
