"""The tap on loops over datasets that have no iterator; the trainings are in `loop_scenarios.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tapped import Runs, numbers, run_of, story, values

from pytest_pipeline_ckpt.engine.ledger import preview

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
SCENARIOS = Path(__file__).with_name("loop_scenarios.py")
GROUP = ("for_in_function", "left_by_break", "argument", "reduced", "within_the_pipeline", "in_a_session", "gate_loop")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, [GROUP], tmp_path_factory.mktemp("loops"))


def test_for_over_a_dataset(runs: Runs) -> None:
    """Each time that a loop in a function runs, its elements are another iterator's, with the step before each."""
    ledger = runs.ledger("for_in_function")
    assert runs.seen("for_in_function") == [10, 20]
    assert values(ledger, 0) == numbers(range(5)) * 2
    assert story(ledger) == f"{run_of('0.0', range(5))}, end 0.0, {run_of('0.1', range(5, 10))}, end 0.1, done 10"


def test_streams_are_named_by_the_loop(runs: Runs) -> None:
    """A stream is named by the line of the loop, not by that of the code which AutoGraph has made of it."""
    (stream,) = runs.ledger("for_in_function").streams
    file, line, function = stream.key.split(" > ")[-1].rsplit(":", 2)
    assert (Path(file), function) == (SCENARIOS, "epoch")
    assert "for element in dataset" in SCENARIOS.read_text().splitlines()[int(line) - 1]
    assert stream.label == f"loop_scenarios.py:{line}, in epoch"


def test_loop_that_is_left(runs: Runs) -> None:
    """After `break` no element is recorded, and no end; an `enumerate` is part of the element."""
    ledger = runs.ledger("left_by_break")
    assert runs.seen("left_by_break") == 3
    assert story(ledger) == "0.0=?, 0.0=?, 0.0=?, 0.0=?, done ?"
    assert preview(ledger, 3) == "{'0': 3, '1.i': 3, '1.name': b'n3'}"


def test_dataset_as_argument(runs: Runs) -> None:
    """A dataset that a function gets is seen; a loop within the loop's body is part of the step."""
    ledger = runs.ledger("argument")
    assert runs.seen("argument") == 4
    assert values(ledger, 0) == numbers(range(2))
    assert story(ledger) == "0.0=?, 0.0=?, end 0.0, done ?"


def test_reduce(runs: Runs) -> None:
    """`reduce` is seen in a function and eagerly, and AutoGraph converts the user's function as ever."""
    ledger = runs.ledger("reduced")
    assert runs.seen("reduced") == [6, 6]
    assert [values(ledger, stream) for stream in (0, 1)] == [numbers(range(4))] * 2
    assert story(ledger) == f"{run_of('0.0', range(4))}, end 0.0, {run_of('1.0', range(4, 8))}, end 1.0, done 8"


def test_loops_within_the_pipeline(runs: Runs) -> None:
    """What the functions of a pipeline go through is not what leaves it."""
    assert runs.seen("within_the_pipeline") == [2, 10, 18, 26]
    assert story(runs.ledger("within_the_pipeline")) == "0.0=?, 0.0=?, 0.0=?, 0.0=?, end 0.0, done ?"


def test_in_a_session(runs: Runs) -> None:
    """A session that runs such a function has its elements seen too."""
    ledger = runs.ledger("in_a_session")
    assert runs.seen("in_a_session") == [3, 3]
    assert values(ledger, 0) == numbers(range(3)) * 2
    assert story(ledger) == "0.0=?, 0.0=?, 0.0=?, end 0.0, 0.1=?, 0.1=?, 0.1=?, end 0.1, done ?"


def test_gate(runs: Runs) -> None:
    """While the gate holds the third element, the loop's body has run twice; then it goes on to the end."""
    assert runs.seen("gate_loop") == [2, 5]
