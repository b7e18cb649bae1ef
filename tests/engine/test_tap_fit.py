"""The tap in Keras `fit`, by every way of feeding it; the trainings are in `fit_scenarios.py`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tapped import Runs, batches, run_of, story, values

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
SCENARIOS = Path(__file__).with_name("fit_scenarios.py")
GROUP = (
    "several_steps",
    "several_steps_compiled",
    "several_steps_eagerly",
    "weighted",
    "arrays",
    "sequences",
    "repeated",
    "not_counted",
    "not_counted_compiled",
    "generated",
    "restored_by_a_callback",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, [GROUP], tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def keras_3() -> bool:
    """Whether `tf.keras` is Keras 3."""
    return not importlib.metadata.version("keras").startswith("2.")


def test_several_steps_in_a_call(runs: Runs, keras_3: bool) -> None:
    """Each of the steps in one call has its element and its own step, and validation is another stream."""
    ledger = runs.ledger("several_steps")
    assert [values(ledger, stream) for stream in (0, 1)] == [batches(4) * 2, batches(2) * 2]
    assert [stream.label.partition("several_steps")[2] for stream in ledger.streams] == ["", " (evaluate)"]
    # Keras 3 asks for a third element of two.
    ends = {name: f"end {name}" if keras_3 else "" for name in ("0.0", "0.1", "1.0", "1.1")}
    expected = [
        *(run_of("0.0", range(4)), ends["0.0"], "1.0=4", "1.0=4", ends["1.0"]),
        *(run_of("0.1", range(4, 8)), ends["0.1"], "1.1=8", "1.1=8", ends["1.1"], "done 8"),
    ]
    assert story(ledger) == ", ".join(filter(None, expected))


@pytest.mark.parametrize("how", ["compiled", "eagerly"])
def test_several_steps_of_a_model_that_is_not_built(runs: Runs, how: str) -> None:
    """XLA and `run_eagerly` change nothing, nor does a model that gets its weights in the first step."""
    ledger = runs.ledger(f"several_steps_{how}")
    assert values(ledger, 0) == batches(4) * 2
    assert story(ledger) == f"{run_of('0.0', range(4))}, {run_of('0.1', range(4, 8))}, done 8"


def test_class_weights(runs: Runs) -> None:
    """Class weights are part of the element, and a second `fit` goes on with the step and the stream."""
    ledger = runs.ledger("weighted")
    assert [len(stream.components) for stream in ledger.streams] == [3]
    assert story(ledger) == f"{run_of('0.0', range(2))}, {run_of('0.1', range(2, 4))}, done 4"


def test_arrays(runs: Runs, keras_3: bool) -> None:
    """What `validation_split` sets apart is another stream."""
    ledger = runs.ledger("arrays")
    # Keras 2 keeps one iterator over all epochs of arrays.
    second = run_of("0.1" if keras_3 else "0.0", range(2, 4))
    assert story(ledger) == f"0.0=0, 0.0=1, 1.0=2, 1.0=2, {second}, 1.1=4, 1.1=4, done 4"


def test_sequences(runs: Runs) -> None:
    """The batches of a `Sequence` are elements, in training and in validation."""
    ledger = runs.ledger("sequences")
    assert [values(ledger, stream) for stream in (0, 1)] == [batches(3) * 2, batches(3) * 2]
    assert story(ledger) == (
        f"{run_of('0.0', range(3))}, {run_of('1.0', [3] * 3)}, {run_of('0.1', range(3, 6))}, "
        f"{run_of('1.1', [6] * 3)}, done 6"
    )


def test_one_iterator_over_all_epochs(runs: Runs) -> None:
    """With `steps_per_epoch` the training iterator goes on in the next epoch, and each validation has its own."""
    ledger = runs.ledger("repeated")
    assert [values(ledger, stream) for stream in (0, 1)] == [batches(12), batches(2) * 3]
    epochs = [
        f"{run_of('0.0', range(at, at + 4))}, {run_of(f'1.{number}', [at + 4] * 2)}"
        for number, at in enumerate((0, 4, 8))
    ]
    assert story(ledger) == f"{', '.join(epochs)}, done 12"


def test_unknown_cardinality(runs: Runs, keras_3: bool) -> None:
    """Where `fit` counts a step without an element at an epoch's end, the end says so."""
    ledger = runs.ledger("not_counted")
    assert values(ledger, 0) == batches(4) * 2
    # Keras 2 knows the number of steps from the second epoch on.
    last = "end 0.1, done 10" if keras_3 else "done 9"
    assert story(ledger) == f"{run_of('0.0', range(4))}, end 0.0, {run_of('0.1', range(5, 9))}, {last}"
    ends = ledger.records[ledger.records["kind"] == 2][["value", "rows"]].tolist()
    assert ends == [(5, 1), (10, 1)][: 2 if keras_3 else 1]


def test_unknown_cardinality_compiled(runs: Runs, keras_3: bool) -> None:
    """By XLA no step is counted without an element, and an end is just an end."""
    ledger = runs.ledger("not_counted_compiled")
    last = "end 0.1, done 8" if keras_3 else "done 8"
    assert story(ledger) == f"{run_of('0.0', range(4))}, end 0.0, {run_of('0.1', range(4, 8))}, {last}"
    assert not np.any(ledger.records["rows"][ledger.records["kind"] == 2])


def test_generators(runs: Runs) -> None:
    """A pipeline over a Python generator is seen where its elements leave the iterator."""
    ledger = runs.ledger("generated")
    assert values(ledger, 0) == batches(3)
    assert story(ledger) == f"{run_of('0.0', range(3))}, end 0.0, done 4"


def test_iterator_restored_by_a_callback(runs: Runs) -> None:
    """After a callback has restored iterator and step at the first call, what is seen is what follows."""
    ledger = runs.ledger("restored_by_a_callback")
    assert [values(ledger, stream) for stream in (0, 1)] == [batches(5), batches(5)[3:]]
    written = story(ledger)
    assert written.startswith("0.0=0, 0.0=1, 0.0=2, saved 3, 0.0=3, 0.0=4, restored ")
    assert written.endswith(", 1.0=3, 1.0=4, done 5")
