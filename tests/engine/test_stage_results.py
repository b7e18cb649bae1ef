"""What the walk through a pipeline's stages found: which stage is guilty, from files written by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.stage_results import (
    HUNG,
    PIPELINE,
    RECORDED,
    RESUMED,
    Fault,
    PipelineResult,
    StageResult,
    difference,
    read,
    short,
)

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"source": False, "ops": {}, "unordered": False, "buffer": None, "keeps": None, "row": 8}
OPTIONS = {"symbolic": False, "policy": None}


def array(values: Any) -> Any:
    """Fingerprints."""
    return np.array(list(values), np.uint64)


class Walked:
    """Writes what `stage_walk` would."""

    def __init__(self, directory: Path, stages: int) -> None:
        self._directory = directory
        facts = [
            {**FACTS, "name": f"Dataset.s{n}", "label": f"input.py:{n}, in make", "source": n == 0}
            for n in range(stages)
        ]
        self._append(PIPELINE, {"options": OPTIONS, "stages": facts})

    def recorded(self, number: int, values: Any, **more: Any) -> None:
        """The first life's row of a stage, and what it read."""
        np.save(self._directory / f"{number}.npy", array(values))
        row = {"read": len(values), "ended": True, "opaque": False, "bytes": 8, "saved": [3], "error": None}
        self._append(RECORDED, {"number": number, **row, **more})

    def resumed(self, number: int, fresh: Any, behind: Any, errors: Any = None) -> None:
        """The second life's."""
        np.save(self._directory / f"{number}-fresh.npy", array(fresh))
        np.save(self._directory / f"{number}-from-3.npy", array(behind))
        self._append(RESUMED, {"number": number, "errors": errors or {}})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self._directory / name).open("a") as file:
            file.write(json.dumps(row) + "\n")


def stage(number: int, **more: Any) -> StageResult:
    """A stage that resumes exactly."""
    known: dict[str, Any] = {**FACTS, "source": number == 0, "read": 6, "compared": True, **more}
    return StageResult(f"Dataset.s{number}", f"input.py:{number}, in make", **known)


def test_stages_that_resume_exactly(tmp_path: Path) -> None:
    """What was read behind the restore is what was read without it: no stage is guilty."""
    walked = Walked(tmp_path, 2)
    for number in range(2):
        walked.recorded(number, range(6))
        walked.resumed(number, range(6), range(3, 6))
    found = read(tmp_path)
    assert found == PipelineResult((stage(0), stage(1)))
    assert found.guilty is None


def test_first_stage_that_does_not_resume_is_guilty(tmp_path: Path) -> None:
    """Those behind it are wrong too, and it is the first that is named."""
    walked = Walked(tmp_path, 3)
    walked.recorded(0, range(6))
    walked.resumed(0, range(6), range(3, 6))
    for number in (1, 2):
        walked.recorded(number, range(6))
        walked.resumed(number, range(6), [3, 14, 15])
    found = read(tmp_path)
    assert found is not None
    assert found.guilty == 1
    saved = "saved after 3 elements and restored in a new process"
    words = f"{saved}, it yields other elements than without the restart: element 4, and 1 later one"
    assert found.stages[1] == stage(1, fault=Fault("elements", words))


def test_stage_that_is_drawn_anew_but_restored_is_not_guilty(tmp_path: Path) -> None:
    """An unseeded shuffle reads another order in another process, and goes on rightly behind a restore."""
    walked = Walked(tmp_path, 1)
    walked.recorded(0, range(6))
    walked.resumed(0, [5, 4, 3, 2, 1, 0], range(3, 6))
    assert read(tmp_path) == PipelineResult((stage(0, differs=True),))


def test_source_too_short_to_be_saved(tmp_path: Path) -> None:
    """A source of one element that another process makes otherwise is guilty, although none of it was restored."""
    walked = Walked(tmp_path, 1)
    walked.recorded(0, [7], saved=[])
    walked.resumed(0, [8], [])
    fault = Fault("elements", "another process reads other elements from it")
    assert read(tmp_path) == PipelineResult((stage(0, read=1, differs=True, fault=fault),))


def test_stage_that_cannot_be_saved(tmp_path: Path) -> None:
    """TensorFlow's refusal is the fault."""
    walked = Walked(tmp_path, 1)
    message = (
        "{{function_node __wrapped__SerializeIterator_device_/cpu:0}} PyFunc is stateful. [Op:SerializeIterator] name: "
    )
    walked.recorded(0, range(3), ended=False, saved=[], error={"when": "save", "type": "E", "message": message})
    walked.resumed(0, range(3), [])
    fault = Fault("save", "TensorFlow refuses to save its iterator: PyFunc is stateful.", message)
    assert read(tmp_path) == PipelineResult((stage(0, read=3, compared=False, fault=fault),))


def test_error_that_a_later_stage_catches_is_none(tmp_path: Path) -> None:
    """A stage that fails alone is not guilty where the pipeline goes on behind it (ignore_errors)."""
    walked = Walked(tmp_path, 2)
    walked.recorded(0, range(4), ended=False, error={"when": "read", "type": "E", "message": "bad record"})
    walked.resumed(0, range(4), [3])
    walked.recorded(1, range(6))
    walked.resumed(1, range(6), range(3, 6))
    assert read(tmp_path) == PipelineResult((stage(0, read=4), stage(1)))


def test_walk_that_ended_early(tmp_path: Path) -> None:
    """Stages that nobody came to are not compared, and it is said that the walk has not finished."""
    walked = Walked(tmp_path, 2)
    walked.recorded(0, range(6))
    walked.resumed(0, range(6), range(3, 6))
    assert read(tmp_path) == PipelineResult((stage(0), stage(1, read=0, compared=False)), finished=False)


def test_stage_in_which_the_walk_was_stuck(tmp_path: Path) -> None:
    """A stage that gives neither an element nor an end when it is restored is guilty."""
    walked = Walked(tmp_path, 2)
    for number in range(2):
        walked.recorded(number, range(6))
    walked.resumed(0, range(6), range(3, 6))
    (tmp_path / HUNG).write_text("20 s")
    words = "restored in a new process, it is stuck: no element and no end for 20 s"
    stuck = stage(1, compared=False, fault=Fault("read", words))
    assert read(tmp_path) == PipelineResult((stage(0), stuck), finished=False)


def test_no_pipeline_was_seen(tmp_path: Path) -> None:
    """Nothing is known where no iterator was made."""
    assert read(tmp_path) is None


def test_elements_of_nested_datasets_are_not_compared(tmp_path: Path) -> None:
    """Windows cannot be fingerprinted: the stage is neither right nor wrong."""
    walked = Walked(tmp_path, 1)
    walked.recorded(0, range(6), opaque=True)
    walked.resumed(0, [], [])
    assert read(tmp_path) == PipelineResult((stage(0, compared=False),))


@pytest.mark.parametrize(
    ("got", "ended", "words"),
    [
        ([4, 5, 6, 7], True, None),
        ([4, 5, 7, 6], True, "it yields the rest in another order, from element 5 on"),
        ([4, 9, 6, 7], True, "it yields other elements than without the restart: element 4"),
        ([4, 5], True, "it ends before element 5"),
        ([4, 5, 6, 7, 8], True, "it yields more than without the restart"),
        ([4, 5, 6, 7, 8], False, None),
    ],
)
def test_difference(got: list[int], ended: bool, words: str | None) -> None:
    """Each way in which the rest can be another has its words."""
    found = difference(array([4, 5, 6, 7]), array(got), 3, ended=ended)
    saved = "saved after 3 elements and restored in a new process"
    assert found == (None if words is None else Fault("elements", f"{saved}, {words}"))


def test_error_behind_a_restore() -> None:
    """TensorFlow's error is told, unless something was wrong before."""
    error = {"when": "read", "type": "E", "message": "gone"}
    found = difference(array([4, 5, 6]), array([4]), 3, ended=True, error=error)
    assert found == Fault("read", "in a new process it fails at element 4: gone", "gone")


VALUES = st.lists(st.integers(0, 5), max_size=12)


@given(VALUES, VALUES)
def test_difference_is_none_only_for_equal_rests(right: list[int], got: list[int]) -> None:
    """A finished stage resumes exactly if, and only if, the same elements follow."""
    assert (difference(array(right), array(got), 3, ended=True) is None) == (right == got)


@given(VALUES, VALUES)
def test_difference_of_what_goes_on(right: list[int], more: list[int]) -> None:
    """A stage that was not read to its end may yield more behind what is known."""
    assert difference(array(right), array(right + more), 3, ended=False) is None


def test_short_is_short() -> None:
    """A message is one line, without names of nodes, and cut."""
    assert short("{{node a}} {{function_node b}} one\n two [Op:Save] name: ") == "one two"
    assert len(short("x" * 500)) == 160
