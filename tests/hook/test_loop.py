"""Custom loops with `InputPipelineCheckpoint`: killed anywhere, they go on with the next element, in the same order."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.hook.conftest import Training

pytestmark = pytest.mark.tensorflow

SAVED_ALIKE = [
    {"mode": "whole"},
    {"mode": "whole", "function": True},
    {"mode": "whole", "function": True, "inner": 3},
    {"mode": "beside"},
    {"mode": "beside", "function": True, "data": {"elements_per_step": 1}},
    {"mode": "inside"},
    {"mode": "inside", "function": True, "inner": 2},
    {"mode": "inside", "pipeline": "repeated", "passes": 1},
    {"mode": "whole", "pipeline": "batched"},
    {"mode": "inside", "pipeline": "batched", "function": True, "inner": 2},
    {"mode": "beside", "pipeline": "batched", "save_model": 24},
    {"mode": "whole", "pipeline": "once", "data": {"save_steps": 1}},
    {"mode": "whole", "pipeline": "twice", "data": {"save_steps": 1}},
    {"mode": "inside", "pipeline": "twice", "data": {"save_steps": 1}},
    {"mode": "whole", "pipeline": "twice", "data": {"state": "position"}},
    {"mode": "beside", "pipeline": "twice", "save_model": 24},
    {"mode": "whole", "pipeline": "concatenated"},
    {"mode": "inside", "pipeline": "captured"},
    {"mode": "inside", "pipeline": "batched", "second": True, "data": {"save_steps": 1}},
    {"mode": "whole", "pipeline": "sampled", "data": {"save_steps": 1}},
    {"mode": "whole", "pipeline": "files"},
    {"mode": "inside", "pipeline": "files"},
    {"mode": "whole", "pipeline": "cached"},
    {"mode": "beside", "pipeline": "random"},
    {"mode": "whole", "pipeline": "generator"},
    {"mode": "inside", "pipeline": "generator", "function": True, "data": {"elements_per_step": 1}},
    {"mode": "beside", "pipeline": "generator"},
    {"mode": "whole", "data": {"state": "position"}},
    {"mode": "whole", "strategy": True},
    {"mode": "beside", "pipeline": "plain", "strategy": True},
]


@pytest.mark.parametrize("job", SAVED_ALIKE, ids=lambda job: "-".join(str(value) for value in job.values()))
def test_resumes_exactly(loop: Training, loop_reference: Training, job: dict[str, Any]) -> None:
    """Killed in each pass, at its boundary and next to saves: every step gets its element, the weight is the same."""
    whole = loop_reference.live(**job)
    assert (whole.error, len(whole.elements)) == ("", 72)
    for kill in (8, 24, 27, 47, 0):
        step = kill if kill == 0 or kill % job.get("inner", 1) == 0 else kill + job["inner"] - kill % job["inner"]
        life = loop.live(**job, kill=step)
        assert life.error == ""
        assert life.elements == {step: whole.elements[step] for step in life.elements}
    assert max(life.elements) == 72
    assert life.end == whole.end


def test_unseeded_shuffle(loop: Training) -> None:
    """Within a pass the order is the killed run's, and no element of the pass is seen twice."""
    killed = loop.live(pipeline="unseeded", kill=13)
    resumed = loop.live(pipeline="unseeded")
    assert min(resumed.elements) == 11
    assert {step: resumed.elements[step] for step in (11, 12, 13)} == {
        step: killed.elements[step] for step in (11, 12, 13)
    }
    assert sorted({**killed.elements, **resumed.elements}[step] for step in range(1, 25)) == list(range(24))


@pytest.mark.parametrize("pipeline", ["kept order", "kept choice"])
def test_an_order_that_no_checkpoint_holds(loop: Training, pipeline: str) -> None:
    """A shuffle without a seed whose order is that of all passes: a new process has another one, and that is said."""
    life = loop.live(pipeline=pipeline, passes=1)
    assert (
        "ShuffleDatasetV3 without a seed draws once for all passes over the data, and a new process draws again: after "
        "a resume the next pass has another order, and behind take() other elements. Give it a seed"
    ) in life.log


def test_model_rolled_back(loop: Training, loop_reference: Training) -> None:
    """An older checkpoint of the model takes the input back with it."""
    whole = loop_reference.live()
    loop.live(mode="beside", kill=40)
    state = loop.model_dir / "model" / "checkpoint"
    state.write_text('model_checkpoint_path: "ckpt-28"\nall_model_checkpoint_paths: "ckpt-28"\n')
    life = loop.live(mode="beside")
    assert min(life.elements) == 29
    assert life.elements == {step: whole.elements[step] for step in life.elements}
    assert "beyond the model's global_step 28 and does not count any more" in life.log


def test_forward_without_a_number(loop: Training) -> None:
    """Elements that a function takes are not counted, and nothing is guessed where some must be read and dropped."""
    loop.live(mode="beside", function=True, kill=9)
    life = loop.live(mode="beside", function=True)
    # The save at step 5 may still be on its way when the kill comes.
    assert life.error.replace("step 0 to", "step 5 to") == (
        "FastForwardError: How many elements a step takes of the iterators iterator is not known, and the pipeline "
        "must be brought from step 5 to the model's step 7. Pass elements_per_step= with one number for each of them "
        "(0: not used in training)."
    )


def test_input_lost(loop: Training) -> None:
    """A model without its input is never started again at the first element."""
    loop.live(mode="beside", kill=20)
    for path in loop.model_dir.glob("input*.commit"):
        path.unlink()
    life = loop.live(mode="beside")
    assert life.elements == {}
    assert life.error.startswith("NoUsableCheckpointError: The model in ")


def test_damaged(loop: Training, loop_reference: Training) -> None:
    """A checkpoint with a flipped bit is skipped with a warning, and the one before it serves."""
    whole = loop_reference.live()
    loop.live(kill=13)
    data = loop.path("ckpt-10.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    life = loop.live()
    assert re.search("skipped checkpoint ckpt-10: (DataLoss|Internal)Error", life.log)
    assert (min(life.elements), max(life.elements)) == (6, 72)
    assert life.elements == {step: whole.elements[step] for step in life.elements}


def test_all_damaged(loop: Training) -> None:
    """Where no checkpoint is whole, the training does not begin anew."""
    loop.live(kill=8)
    loop.path("ckpt-5.index").unlink()
    life = loop.live()
    assert life.elements == {}
    assert life.error.startswith(f"NoUsableCheckpointError: No checkpoint in {loop.model_dir} is whole (ckpt-5: ")
    assert life.error.endswith("Restore the files, or remove the directory to train anew.")


def test_other_elements(loop: Training) -> None:
    """Another pipeline is refused, and the remedy said."""
    loop.live(kill=8)
    life = loop.live(pipeline="other")
    assert life.error == (
        f"NoUsableCheckpointError: The input of ckpt-5 in {loop.model_dir} is not usable: has elements of int64(), the "
        "graph's are float32(). The model has been restored from it, so no other one serves. Go back to the pipeline "
        "that wrote it, or train in another directory."
    )


def test_first_save_fails(loop: Training) -> None:
    """A training that could never be saved is not made for nothing."""
    life = loop.live(largest_file=4000)
    assert life.error == (
        f"StorageError: The first checkpoint of this training cannot be written to {loop.model_dir}: File too large. "
        "There is none before it that it could go back to; make room or the directory writable, and start it again."
    )
    assert max(life.elements) == 5


def test_another_number(loop: Training) -> None:
    """A batch size that is given as the number of elements is not believed."""
    life = loop.live(data={"elements_per_step": 32})
    assert life.error == (
        "HookUsageError: elements_per_step=32 was given, and a step has taken 1 of the dataset's elements (a batch is "
        "one): pass that number, or leave it out."
    )


def test_rollback_within_a_process(loop: Training) -> None:
    """A model that is brought back takes no data with it: that is said, not trained on."""
    life = loop.live(back=12)
    assert life.error == (
        "HookUsageError: The model's step went back from 12 to 6, and the data has not: start the process again, and "
        "restore there."
    )


def test_checkpoints_of_others(loop: Training) -> None:
    """A directory with TensorFlow's own `ckpt-N` is not trained over."""
    loop.model_dir.mkdir()
    (loop.model_dir / "ckpt-500.index").touch()
    life = loop.live()
    assert life.error == (
        f"NoUsableCheckpointError: {loop.model_dir} has checkpoints of the same name that this package has not written "
        "(ckpt-500), and none of its own: beginning anew would overwrite them. Pass another directory."
    )
    assert (loop.model_dir / "ckpt-500.index").exists()


def test_stateful(loop: Training) -> None:
    """State outside of the pipeline is refused at the start, by the name of the op."""
    life = loop.live(pipeline="stateful")
    assert life.elements == {}
    assert life.error.startswith("NotSerializableError: The state of the iterators iterator cannot be saved: ")
    assert "RandomUniformInt" in life.error


@pytest.mark.parametrize("mode", ["whole", "beside", "inside"])
def test_notice(loop: Training, mode: str) -> None:
    """SIGTERM: saved at that step, and left with the code by which shells report the signal; nothing is replayed."""
    job = {"mode": mode, "data": {"save_steps": 50}}
    life = loop.live(**job, kill=13, signal=int(signal.SIGTERM))
    assert (life.status, life.end) == (143, {"left": "Preempted", "notice": "SIGTERM"})
    assert "SIGTERM: saved, and leaving with exit code 143" in life.log
    if mode != "beside":  # there the model is saved by somebody else
        assert min(loop.live(**job).elements) == 14


def test_own_handler(loop: Training) -> None:
    """A handler that the training had gets the signal after the save."""
    life = loop.live(kill=13, signal=int(signal.SIGTERM), handler="own")
    assert (life.status, life.end) == (143, {"left": "Preempted", "notice": "SIGTERM"})
    assert life.log.index("SIGTERM: saved, and leaving") < life.log.index("handled")


def test_ignored_signal(loop: Training) -> None:
    """A training that ignores the signal is not made to notice it."""
    life = loop.live(kill=13, signal=int(signal.SIGTERM), handler="ignore")
    assert (life.status, max(life.elements)) == (0, 72)


@pytest.mark.parametrize("job", [{"mode": "whole"}, {"mode": "beside", "function": True}], ids=lambda job: job["mode"])
def test_signal_after_a_failure(loop: Training, job: dict[str, Any]) -> None:
    """The handler goes away with the training, without a garbage collection: a signal then ends the process."""
    assert loop.live(**job, fail=9).status == -signal.SIGTERM


def test_handler_is_brought_back(loop: Training) -> None:
    """After `close` the signal does what it did before."""
    assert loop.live(passes=1).end["restored"]


USAGE = [
    ({"mode": "whole", "data": {"save_steps": None}}, "Exactly one of save_steps and save_secs must be given"),
    ({"mode": "whole", "data": {"save_steps": 0}}, "save_steps=0 is not an integer of at least 1"),
    ({"mode": "whole", "data": {"exit_code": 300}}, "exit_code=300 is not an integer from 0 to 255: pass one."),
    ({"mode": "whole", "data": {"state": "both"}}, "state='both' is unknown: pass 'iterator' or 'position'."),
    ({"mode": "whole", "unrestored": True}, "The InputPipelineCheckpoint was not restored: call its restore()"),
    ({"mode": "inside", "data": {"iterator": 1}}, "iterator can only be saved with a directory: pass one, or put"),
]


@pytest.mark.parametrize(("job", "message"), USAGE)
def test_usage(loop: Training, job: dict[str, Any], message: str) -> None:
    """A wrong value is said with the limit and the remedy before anything is trained."""
    life = loop.live(**job)
    assert life.elements == {}
    assert life.error.startswith(f"HookUsageError: {message}")


def test_mark(loop: Training) -> None:
    """The mark of a checkpoint that holds all tells the pass too."""
    loop.live(kill=31)
    mark = json.loads(loop.path("ckpt-30.commit").read_text())
    assert (mark["step"], mark["holds"], mark["began"], mark["taken"]) == (30, "iterator", 24, [6])
    assert mark["extra"] == {"passes": 1, "ended": False}
