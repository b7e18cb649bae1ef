"""The counters of a training, and whose they are; the trainings are in `evidence_scenarios.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tapped import Runs, story

from pytest_pipeline_ckpt.engine.model import Kind

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.model import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
KERAS_3 = importlib.util.find_spec("tensorflow_estimator") is None
HAS_JAX = importlib.util.find_spec("orbax") is not None and importlib.util.find_spec("flax") is not None
TENSORFLOW = (
    "gan",
    "apart",
    "elsewhere",
    "named",
    "scaled",
    "scaled_inside",
    *(["accumulated"] if KERAS_3 else []),
    "inside",
)
BY_HAND = ("counted_by_hand", "restored_by_hand", "miscounted_by_hand")
GROUPS = (TENSORFLOW, BY_HAND, ("session",), ("orbax", "nnx", "nnx_module", "integers", "assembled", "unpacked"))
SCENARIOS = Path(__file__).with_name("evidence_scenarios.py")
in_jax = pytest.mark.skipif(not HAS_JAX, reason="JAX, Flax or Orbax is not installed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, GROUPS, tmp_path_factory.mktemp("counters"))


def _roles(ledger: Ledger) -> dict[str, str]:
    return {one.name: one.role for one in ledger.evidence.counters}


def _read(ledger: Ledger, name: str, *, why: str = "element") -> list[int | None]:
    return [one.values.get(name) for one in ledger.evidence.readings if one.why == why]


def test_readings_stand_at_their_step(runs: Runs) -> None:
    """What is read before an element belongs to the STEP of the ledger that has this number."""
    ledger = runs.ledger("gan")
    at = [one.at for one in ledger.evidence.readings if one.why == "element"]
    assert list(ledger.records["kind"][at]) == [Kind.STEP] * 6


def test_each_optimizer_that_is_applied(runs: Runs) -> None:
    """Both optimizers of a GAN are counters, in the order in which they were made; one that nobody applies is none."""
    ledger = runs.ledger("gan")
    assert _roles(ledger) == {"Adam.iterations": "model", "Adam.iterations#2": "model"}
    assert _read(ledger, "Adam.iterations") == [0, 1, 2, 3, 4, 5]
    assert _read(ledger, "Adam.iterations#2") == [0, 0, 1, 1, 2, 2]
    assert _read(ledger, "Adam.iterations", why="end") == [6]


def test_a_step_beside_the_data_is_the_datas(runs: Runs) -> None:
    """Where the model has an optimizer in its own Checkpoint, the ledger has that one, not the `step` of the data."""
    ledger = runs.ledger("apart")
    assert _roles(ledger) == {"SGD.iterations": "model", "step": "data", "save_counter": "data"}
    assert story(ledger) == "0.0=0, 0.0=1, 0.0=2, 0.0=3, saved 4, saved 4, done 4"


def test_without_a_model_the_datas_step_is_taken(runs: Runs) -> None:
    """Where nothing holds weights, the ledger has the step beside the iterator, and whose it is is known."""
    assert _roles(runs.ledger("elsewhere")) == {"step": "data"}
    assert story(runs.ledger("elsewhere")) == "0.0=0, 0.0=1, 0.0=2, done 3"


def test_integers_with_any_name(runs: Runs) -> None:
    """An epoch and a step in it that are saved with weights are the model's; a step that is saved alone is nobody's."""
    ledger = runs.ledger("named")
    assert _roles(ledger) == {"epoch": "model", "step_in_epoch": "model", "step": "bare"}
    assert list(zip(_read(ledger, "epoch"), _read(ledger, "step_in_epoch"), strict=True)) == [
        *((0, 0), (0, 1), (1, 0), (1, 1)),
    ]


def test_under_loss_scaling_the_inner_optimizer_counts(runs: Runs) -> None:
    """What is read is what the inner optimizer counts, with or without the steps that were skipped."""
    ledger = runs.ledger("scaled")
    assert _roles(ledger) == {"SGD.iterations": "model"}
    assert _read(ledger, "SGD.iterations", why="end") == [runs.seen("scaled")]


def test_a_step_that_loss_scaling_skips_is_a_step(runs: Runs) -> None:
    """Else what a step takes would depend on the weights; eagerly, and in a function."""
    assert runs.seen("scaled") == runs.seen("scaled_inside") == (3 if KERAS_3 else 4)
    assert story(runs.ledger("scaled")) == "0.0=?, 0.0=1, 0.0=2, 0.0=3, done 4"
    assert story(runs.ledger("scaled_inside")) == "0.0=0, 0.0=1, 0.0=2, 0.0=3, done 4"


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 accumulates no gradients")
def test_micro_batches_are_counted(runs: Runs) -> None:
    """When gradients are accumulated, each micro-batch counts, not each update."""
    assert _read(runs.ledger("accumulated"), "SGD.iterations") == [0, 1, 2, 3, 4]
    assert story(runs.ledger("accumulated")).startswith("0.0=0, 0.0=1, 0.0=2")


def test_within_a_function_only_the_first_element_is_read_at(runs: Runs) -> None:
    """Where a call of a function takes several elements, what all counters said before it holds for the first only."""
    ledger = runs.ledger("inside")
    assert list(zip(_read(ledger, "step"), _read(ledger, "other"), strict=True)) == [(0, 0), (2, 2), (4, 4), (6, 6)]
    at = [one.at for one in ledger.evidence.readings if one.why == "element"]
    assert at == [0, 4, 8, 12]


def test_of_a_session(runs: Runs) -> None:
    """The global step of a graph with trained variables is the model's, at elements, saves and restores."""
    ledger = runs.ledger("session")
    assert _roles(ledger) == {"global_step": "model"}
    assert _read(ledger, "global_step") == [0, 1, 2, 3, 4, 5]
    assert _read(ledger, "global_step", why="restore") == [4]


def test_a_step_in_a_file(runs: Runs) -> None:
    """What is saved by hand is read at saves, and at elements in the variable that has the same name and value."""
    ledger = runs.ledger("counted_by_hand")
    assert _roles(ledger) == {"state.step": "model"}
    assert _read(ledger, "state.step") == [0, 1, 2, 3, 4, 5]
    assert _read(ledger, "state.step", why="save") == [3, 6]
    assert [word for word in story(ledger).split(", ") if word.startswith("saved")] == ["saved 3", "saved 6"]


def test_a_step_that_is_restored_from_a_file(runs: Runs) -> None:
    """It is read at the restore; at elements only if a variable had its value at the first one."""
    ledger = runs.ledger("restored_by_hand")
    assert _read(ledger, "state.step", why="restore") == [3]
    assert _read(ledger, "state.step") == [3, 4, 5]
    assert _read(ledger, "state.epoch") == [None, None, None]
    assert story(ledger).startswith("restored 3, ")


def test_other_variables_and_files_count_nothing(runs: Runs) -> None:
    """A variable that differs from what is saved is not read; settings, logs and results are no counters."""
    ledger = runs.ledger("miscounted_by_hand")
    assert _roles(ledger) == {"state.step": "model"}
    assert _read(ledger, "state.step", why="save") == [101, 102, 103, 104]
    assert _read(ledger, "state.step") == []


@in_jax
def test_keras_on_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `fit` holds the values, and when it has given them back for a save, the optimizer's step is read."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    ledger = Runs(SCENARIOS, (("on_jax",),), tmp_path).ledger("on_jax")
    assert _roles(ledger) == {"SGD.iterations": "model"}
    build, *steps = _read(ledger, "SGD.iterations")
    assert (build, steps) == (0, [0, 1, 2, 3, 4])
    assert _read(ledger, "SGD.iterations", why="save") == [2, 4]


@in_jax
def test_states_of_jax(runs: Runs) -> None:
    """A Flax state that is given away at each step is read where it is; so is what Orbax is given, and gives."""
    ledger = runs.ledger("orbax")
    assert _roles(ledger) == {"state.step": "model", "state.count": "model", "checkpoint number": "bare"}
    assert _read(ledger, "state.step") == [0, 1, 2, 3, 4, 2, 3, 4, 5]
    assert _read(ledger, "checkpoint number", why="save") == _read(ledger, "state.count", why="save") == [2]
    assert _read(ledger, "state.step", why="restore") == [2]
    steps = ledger.records["value"][ledger.records["kind"] == Kind.STEP].astype(np.int64)
    assert list(steps) == [0, 1, 2, 3, 4, 2, 3, 4, 5]


@in_jax
def test_an_optimizer_of_nnx(runs: Runs) -> None:
    """An optimizer that is an attribute of a trainer, and is changed in place, is read in each step."""
    assert _read(runs.ledger("nnx"), "state.step") == [0, 1, 2, 3]


@in_jax
def test_a_module_beside_an_optimizer_of_nnx(runs: Runs) -> None:
    """A module of the user's, whose parameters have no dictionaries, does not hide the optimizer beside it."""
    assert _read(runs.ledger("nnx_module"), "state.step") == [0, 1, 2, 3]


@in_jax
def test_a_checkpoint_in_a_variable(runs: Runs) -> None:
    """It stands while elements are trained on: its step is what was saved, and not where the model is."""
    ledger = runs.ledger("assembled")
    steps = ledger.records["value"][ledger.records["kind"] == Kind.STEP].astype(np.int64)
    assert list(steps) == [0, 1, 2, 3, 4, 5, 6]
    assert _read(ledger, "state.count") == [0, 1, 2, 3, 4, 5, 6]


@in_jax
def test_a_checkpoint_whose_parts_are_in_other_variables(runs: Runs) -> None:
    """From the first element on the part that is trained tells the step, not what the file said."""
    ledger = runs.ledger("unpacked")
    steps = ledger.records["value"][ledger.records["kind"] == Kind.STEP].astype(np.int64)
    assert list(steps) == [1, 2, 3, 4]


@in_jax
def test_a_state_of_integers(runs: Runs) -> None:
    """A state may have no float in it; it is found before its first step, when it is NumPy's; only its step counts."""
    ledger = runs.ledger("integers")
    assert _roles(ledger) == {"state.step": "model"}
    assert _read(ledger, "state.step", why="restore") == [5]
    assert _read(ledger, "state.step") == [5, 6, 7]
