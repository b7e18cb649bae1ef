"""The files that a training writes and reads; the trainings are in `evidence_scenarios.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tapped import Runs, story

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.engine.model import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
HAS_JAX = importlib.util.find_spec("orbax") is not None and importlib.util.find_spec("flax") is not None
TENSORFLOW = (
    "apart",
    "session",
    "saver",
    "managed",
    "beside",
    "apart_and_trained",
    "keras_files",
    "background",
    "by_hand",
    "read_by_hand",
)
GROUPS = (TENSORFLOW, ("orbax", "msgpack"))
SCENARIOS = Path(__file__).with_name("evidence_scenarios.py")
in_jax = pytest.mark.skipif(not HAS_JAX, reason="JAX, Flax or Orbax is not installed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, GROUPS, tmp_path_factory.mktemp("lineage"))


def _saved(ledger: Ledger) -> list[tuple[str, bool, bool]]:
    """Paths of saves that were complete, whether weights and whether iterators are in them."""
    return [(one.path, one.weights, one.data) for one in ledger.evidence.saved if one.done is not None]


def _restored(ledger: Ledger) -> list[str]:
    return [one.path for one in ledger.evidence.restored if one.weights]


def _origins(ledger: Ledger) -> dict[str | None, int]:
    return {
        one.path and one.path.removeprefix("/").rpartition("/outside/")[2]: one.variables
        for one in ledger.evidence.origins
    }


def test_checkpoints_of_model_and_data(runs: Runs) -> None:
    """A manager's save has the path of its files, and what is in it."""
    assert _saved(runs.ledger("apart")) == [("model/d/ckpt-1", False, True), ("model/m/ckpt-1", True, False)]


def test_a_savers_files(runs: Runs) -> None:
    """What a MonitoredTrainingSession saves and restores has its path and moment."""
    ledger = runs.ledger("session")
    kept = [f"model/model.ckpt-{step}" for step in (0, 2, 4, 4, 6)]
    assert _saved(ledger) == [(path, True, False) for path in kept]
    assert _restored(ledger) == ["model/model.ckpt-4"]


def test_a_savers_integers(runs: Runs) -> None:
    """Trained variables of a graph are weights if they are arrays of integers; its step is none."""
    ledger = runs.ledger("saver")
    assert _saved(ledger) == [("model/model.ckpt-1", True, False)]
    assert _restored(ledger) == ["model/model.ckpt-1"]


def test_where_weights_come_from(runs: Runs) -> None:
    """Each weight is with the file of its last restore, also one that was made after it; new ones are with none."""
    ledger = runs.ledger("managed")
    assert runs.seen("managed") == [5.0, 3.0]
    origins = _origins(ledger)
    assert (origins["teacher"], origins["model/ckpt-1"]) == (1, 1)
    assert [one.names for one in ledger.evidence.origins if one.path == "model/ckpt-1"] == [("student:0",)]
    assert origins[None] >= 1


def test_what_is_kept_beside_a_checkpoint(runs: Runs) -> None:
    """What has the shape of a weight and changes is new; weights that an optimizer names are restored."""
    origins = {one.path: (one.variables, one.names) for one in runs.ledger("beside").evidence.origins}
    assert origins.keys() == {"model/ckpt-1", None}
    assert origins["model/ckpt-1"][0] == 2
    assert (origins[None][0], origins[None][1][-1]) == (3, "total")  # with the two of the model that was saved


def test_which_weights_are_trained(runs: Runs) -> None:
    """Of weights from several files those that change from element to element are told apart."""
    origins = runs.ledger("apart_and_trained").evidence.origins
    assert {one.path: one.changed for one in origins} == {
        "model/first-1": False,
        "model/second-1": True,
        "model/third-1": False,
    }


def test_files_of_keras(runs: Runs) -> None:
    """Weights and whole models are seen to be saved and read, by methods and by functions."""
    ledger = runs.ledger("keras_files")
    assert _saved(ledger) == [("model/one.weights.h5", True, False), ("model/two.keras", True, False)]
    assert _restored(ledger) == ["model/two.keras", "model/one.weights.h5"]
    assert runs.seen("keras_files") == 3  # what is loaded is compiled


def test_a_save_in_a_thread(runs: Runs) -> None:
    """A save that TensorFlow writes in a thread has the state of when it was asked for, and is complete later."""
    (only,) = runs.ledger("background").evidence.saved
    assert (only.path, only.began) == ("model/ckpt-1", 6)
    assert only.done is not None
    assert only.done > only.began
    (read,) = [one for one in runs.ledger("background").evidence.readings if one.why == "save"]
    assert read.values["step"] == 3


def test_files_by_hand(runs: Runs) -> None:
    """Whether weights are in a file that is written by hand is known when it is closed; a rename is followed."""
    ledger = runs.ledger("by_hand")
    assert _saved(ledger)[1:] == [
        ("model/w.tmp.npz", True, False),
        ("model/w.pickle", True, False),
        ("model/step.json", False, False),
    ]
    log, *_ = ledger.evidence.saved
    assert (log.path, log.weights, log.done) == ("model/loss.csv", False, len(ledger.records) - 1)
    assert [move[1:] for move in ledger.evidence.moved] == [("model/w.tmp.npz", "model/w.npz")]


def test_what_is_read_by_hand_before_the_first_element(runs: Runs) -> None:
    """A file of arrays below the run is restored if it is read before the first element, not if it is later."""
    ledger = runs.ledger("read_by_hand")
    assert [one.path for one in ledger.evidence.restored] == ["model/w.npz"]
    assert _origins(ledger) == {"model/w.npz": 1}


@in_jax
def test_an_asynchronous_save_of_orbax(runs: Runs) -> None:
    """It has the state of the call, and is complete when its directory has its name."""
    ledger = runs.ledger("orbax")
    (only,) = ledger.evidence.saved
    assert (only.path, only.began, only.weights) == ("model/orbax/2", 4, True)
    assert only.done is not None
    assert only.done > only.began
    assert _restored(ledger) == ["model/orbax/2"]
    assert _origins(ledger) == {"model/orbax/2": 3}


@in_jax
def test_bytes_of_flax(runs: Runs) -> None:
    """A file that gets Flax' bytes is a save of the state, and one that gave them a restore."""
    ledger = runs.ledger("msgpack")
    assert [word for word in story(ledger).split(", ") if word.endswith(" 3")] == ["saved 3", "restored 3"]
    assert _saved(ledger) == [("model/state.msgpack", True, False)]
    assert _restored(ledger) == ["model/state.msgpack"]
