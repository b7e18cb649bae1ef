"""Loops in JAX, with Orbax or without it: killed anywhere, they go on with the next element, in the same order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forked import serving

from tests.hook.conftest import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(find_spec("orbax") is None, reason="the environment py311-jax has Orbax"),
]

WAYS = [
    {"saved": "asynchronous"},
    {"saved": "asynchronous", "form": "device"},
    {"saved": "asynchronous", "form": "tensor", "pipeline": "batched"},
    {"saved": "synchronous", "form": "device", "pipeline": "repeated", "passes": 1},
    {"saved": "synchronous", "pipeline": "ragged"},
    {"saved": "asynchronous", "form": "device", "data": {"state": "position"}},
    {"saved": "v1", "form": "device"},
    {"saved": "beside"},
    {"saved": "beside", "form": "device"},
    {"saved": "beside", "form": "device", "prefetch": 9, "pipeline": "batched"},
    {"saved": "beside", "form": "device", "data": {"state": "position"}},
    {"saved": "inside", "form": "device"},
]


@pytest.fixture(scope="module")
def jax_server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this module."""
    with serving(Path(__file__).with_name("jax_lives.py")) as process:
        yield process


@pytest.fixture
def loop(jax_server: subprocess.Popen[str], tmp_path: Path) -> Training:
    """A loop that has not begun."""
    return Training(jax_server, tmp_path)


@pytest.fixture
def whole(jax_server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same loop in a directory of its own, which nobody kills."""
    return Training(jax_server, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("job", WAYS, ids=lambda job: "-".join(str(value) for value in job.values()))
def test_resumes_exactly(loop: Training, whole: Training, job: dict[str, Any]) -> None:
    """Killed before and behind saves, and at a pass's end: each step gets its element, the weight is the same."""
    expected = whole.live(**job)
    assert (expected.error, len(expected.elements)) == ("", 48)
    for kill in (9, 23, 27, 0):
        life = loop.live(**job, kill=kill)
        assert life.error == ""
        assert life.elements == {step: expected.elements[step] for step in life.elements}
    assert min(life.elements) > 1
    assert max(life.elements) == 48
    assert life.end == expected.end


def test_what_is_on_its_way_is_in_the_checkpoint(loop: Training) -> None:
    """By plain elements, too, it is handed out first; the iterator alone does not have it."""
    way = {"saved": "synchronous", "pipeline": "plain"}
    loop.live(**way, form="device", kill=8)
    assert loop.live(**way, by_iterator=True).error == (
        "HookUsageError: 2 elements were on their way to the device when the checkpoint was saved, and data.iterator "
        "does not have them: take them by `for batch in data`, or by prefetch_to_device."
    )
    life = loop.live(**way, form="tensor")
    assert life.elements == {step: (step - 1) % 24 for step in range(6, 49)}


def test_a_step_that_is_told(loop: Training) -> None:
    """A loop that counts from 0 is told so at its first step, and one that goes back too."""
    assert loop.live(saved="beside", told=1).error == (
        "HookUsageError: after_step(0) was called, and the model had made 0 steps before: pass how many it has made "
        "with this one, 1 or more. (A loop over range(start, end) passes step + 1.)"
    )


def test_notice(loop: Training, whole: Training) -> None:
    """SIGTERM saves the data at the step where it comes; the model is the loop's."""
    expected = whole.live(saved="beside", form="device", save_model=1)
    life = loop.live(saved="beside", form="device", save_model=1, kill=13, signal=int(signal.SIGTERM))
    assert (life.status, max(life.elements)) == (143, 13)
    assert 13 in loop.committed()
    life = loop.live(saved="beside", form="device", save_model=1)
    assert life.end == expected.end


def test_damaged(loop: Training) -> None:
    """A step whose input is damaged, or another pipeline's, is refused by name."""
    way = {"saved": "synchronous"}
    loop.live(**way, kill=8)
    (index,) = loop.model_dir.glob("*/data/input_0.index")
    intact = index.read_bytes()
    index.write_bytes(b"damaged")
    prefix = str(index).removesuffix(".index")
    assert loop.live(**way).error == (
        f"NoUsableCheckpointError: The input of {prefix} is not usable: DataLossError. The model has been restored "
        "from it, so no other one serves. Go back to the pipeline that wrote it, or train in another directory."
    )
    index.write_bytes(intact)
    other = "has elements of int64(), the graph's are float32()"
    assert f"The input of {prefix} is not usable: {other}. " in loop.live(**way, pipeline="other").error
    content = json.loads(Path(f"{prefix}.json").read_text())
    Path(f"{prefix}.json").write_text(json.dumps({**content, "format": 2}))
    assert loop.live(**way).error == (
        f"NoUsableCheckpointError: {prefix}.json was written by a newer version of pipeline_ckpt (format 2, this one "
        "reads 1): install that one."
    )
    Path(f"{prefix}.json").write_text(json.dumps({**content, "processes": 4}))
    assert loop.live(**way).error == (
        f"NoUsableCheckpointError: The input in {Path(prefix).parent} was saved by 4 processes, each its own part, and "
        "1 restore it: start as many as before."
    )
    Path(f"{prefix}.json").write_text("{")
    assert loop.live(**way).error.startswith(
        f"NoUsableCheckpointError: {prefix}.json does not say where the input of process 0 was ("
    )


def test_a_model_whose_data_is_of_another_step(loop: Training) -> None:
    """Where each has its own checkpoint, data that is not the model's is refused."""
    loop.live(saved="inside", kill=12)
    (loop.model_dir / "model-10.npz").unlink()
    assert loop.live(saved="inside").error == (
        "NoUsableCheckpointError: The model is at step 5, and the input was saved at step 10: restore both from the "
        "same checkpoint."
    )


WRONG = """
import tensorflow as tf
import pipeline_ckpt, pipeline_ckpt.orbax
from pipeline_ckpt import InputPipelineCheckpoint

dataset = tf.data.Dataset.range(5)

def said(do):
    try:
        do()
    except pipeline_ckpt.HookUsageError as error:
        print(error)

def saved(data):
    pipeline_ckpt.orbax.InputPipelineHandler().save("unused", pipeline_ckpt.orbax.Save(data))

data = InputPipelineCheckpoint(dataset)
said(lambda: saved(5))
said(lambda: saved(data))
said(lambda: next(data.prefetch_to_device(1)))
data.restore()
said(lambda: data.after_step(1))
said(lambda: data.prefetch_to_device(0))
said(lambda: saved(InputPipelineCheckpoint(dataset, 0, "unused", save_steps=5, notices=())))
said(lambda: InputPipelineCheckpoint(dataset, directory="unused", save_steps=5))
said(lambda: InputPipelineCheckpoint(dataset, 2.5))
said(lambda: InputPipelineCheckpoint(dataset, 0, "unused", save_steps=5, model=tf.Module()))
"""


def test_wrong_input() -> None:
    """Each says what was given and what to do."""
    result = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "item=5 is no pipeline_ckpt.InputPipelineCheckpoint: pass the one that the loop takes its elements from.",
        "The InputPipelineCheckpoint was not restored: call its restore() before the first step, in a new training "
        "too.",
        "The InputPipelineCheckpoint was not restored: call its restore() before the first step, in a new training "
        "too.",
        "after_step was called, and this InputPipelineCheckpoint was made without a step, to be saved by another "
        "library: leave the call out, or pass the model's step where it is made.",
        "size=0 is not an integer of at least 1: pass one.",
        "This InputPipelineCheckpoint saves in a directory of its own, unused: leave that out, to have it saved in "
        "another library's checkpoint.",
        "step is missing: pass the tf.Variable that counts the model's steps, or how many it has made.",
        "step=2.5 is neither a tf.Variable of an integer scalar nor a number of steps: pass the variable that counts "
        "the model's steps, or how many it has made.",
        "model can only be saved with a step that is a tf.Variable: pass one, or save the model elsewhere.",
    ]
