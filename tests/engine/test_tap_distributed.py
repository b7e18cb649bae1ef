"""The tap on iterators of `tf.distribute`; the trainings are in `distributed_scenarios.py`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tapped import Runs, batches, run_of, story, values

from pytest_pipeline_ckpt.engine.fingerprint import fingerprint
from pytest_pipeline_ckpt.engine.ledger import preview

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
SCENARIOS = Path(__file__).with_name("distributed_scenarios.py")
MIRRORED = (
    "eager",
    "one_device",
    "function",
    "optionals",
    "from_function",
    "loop_over_dataset",
    "fit",
    "fit_one_device",
)
GROUPS = (MIRRORED, ("workers",))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, GROUPS, tmp_path_factory.mktemp("distributed"))


def rows(*bounds: Sequence[int]) -> list[int]:
    """The fingerprints of batches of numbers: those that the pipeline made, before they were distributed."""
    return [fingerprint([np.arange(*one)]).value for one in bounds]


FOURS = [(0, 4), (4, 8), (8, 12), (12, 16)]


def test_replicas_make_one_element(runs: Runs) -> None:
    """Eagerly, what two replicas get is one element, equal to the batch that was split; the last one may be small."""
    ledger = runs.ledger("eager")
    assert runs.seen("eager") == [6, 22, 8]
    assert values(ledger, 0) == rows((0, 4), (4, 8), (8, 9))
    assert story(ledger) == f"{run_of('0.0', range(3))}, end 0.0, done 3"
    assert ledger.streams[0].components == ({"name": "", "dtype": "int64", "shape": [None]},)


def test_one_device(runs: Runs) -> None:
    """With one replica too, each element is seen once, eagerly and in a function."""
    assert values(runs.ledger("one_device"), 0) == rows(*FOURS)
    assert story(runs.ledger("one_device")) == f"{', '.join(['0.0=?'] * 4)}, done ?"


def test_in_a_function(runs: Runs) -> None:
    """In a function, the iterator is found at run time, and elements are seen behind the devices' prefetch."""
    ledger = runs.ledger("function")
    assert runs.seen("function") == [6, 22, 38] * 2
    assert values(ledger, 0) == rows(*FOURS[:3], *FOURS[:3])
    # The last call finds no element, and counts a step all the same.
    assert story(ledger) == f"{run_of('0.0', range(3))}, {run_of('0.1', range(3, 6))}, end 0.1, done 7"
    assert ledger.records["rows"][-2] == 1


def test_optionals(runs: Runs) -> None:
    """An optional with a value is an element, one without is the end, eagerly and in a function."""
    ledger = runs.ledger("optionals")
    assert runs.seen("optionals") == [6, 22, 38, -1]
    assert values(ledger, 0) == rows(*FOURS[:3])
    assert story(ledger) == "0.0=?, 0.0=?, 0.0=?, end 0.0, done ?"


def test_components_that_make_no_batch(runs: Runs) -> None:
    """Ragged components of the replicas stay apart."""
    ledger = runs.ledger("from_function")
    assert [preview(ledger, element) for element in range(2)] == [
        "{'n': int64[2] 0 1, 'rows': ragged int64[1,?] 0 values, 'rows': ragged int64[1,?] 1 value: 0}",
        "{'n': int64[2] 2 3, 'rows': ragged int64[1,?] 2 values: 0 1, 'rows': ragged int64[1,?] 3 values: 0 1 2}",
    ]


def test_loops_in_a_function(runs: Runs) -> None:
    """A `for` over a distributed dataset makes an iterator in each call; over an iterator, it is that one."""
    ledger = runs.ledger("loop_over_dataset")
    assert runs.seen("loop_over_dataset") == [66] * 3
    assert [values(ledger, stream) for stream in (0, 1)] == [rows(*FOURS[:3]) * 2, rows(*FOURS[:3])]
    loops = [f"{', '.join([f'{name}=?'] * 3)}, end {name}" for name in ("0.0", "0.1", "1.0")]
    assert story(ledger) == ", ".join([*loops, "done ?"])


def test_several_workers(runs: Runs) -> None:
    """`MultiWorkerMirroredStrategy`: what this worker gets, to the last small batch."""
    ledger = runs.ledger("workers")
    assert runs.seen("workers") == [6, 22, 8, 6, 22]
    assert (values(ledger, 0), values(ledger, 1)) == (rows((0, 4), (4, 8), (8, 9)), rows(*FOURS[:2]))
    assert story(ledger) == "0.0=?, 0.0=?, 0.0=?, end 0.0, 1.0=?, 1.0=?, done ?"


@pytest.mark.parametrize("name", ["fit", "fit_one_device"])
def test_keras_fit(runs: Runs, name: str) -> None:
    """`fit` under a strategy: the user's batches with steps; validation and Keras 3's look at the data are apart."""
    ledger = runs.ledger(name)
    looks = not importlib.metadata.version("keras").startswith("2.")
    labels = [stream.label.partition("_fit")[2] for stream in ledger.streams]
    assert labels == ([" (build)", "", " (evaluate)"] if looks else ["", " (evaluate)"])
    train, check = labels.index(""), labels.index(" (evaluate)")
    assert (values(ledger, train), values(ledger, check)) == (batches(4) * 2, batches(2) * 2)
    written = [word for word in story(ledger).split(", ") if word.startswith(f"{train}.")]
    assert written == [*(f"{train}.0={step}" for step in range(4)), *(f"{train}.1={step}" for step in range(4, 8))]
