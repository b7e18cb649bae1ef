from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_pipeline_ckpt.engine import recording
from pytest_pipeline_ckpt.engine.instants import Timeline
from pytest_pipeline_ckpt.engine.ledger import RECORD
from pytest_pipeline_ckpt.engine.model import Ending, Kind, Ledger, Life
from pytest_pipeline_ckpt.engine.operations import Act, Operation
from pytest_pipeline_ckpt.engine.runs import Run

OUTSIDE = ("/data/ckpt/ckpt-10.index",)
OBJECTS = "no file operation belongs to them, as in an object store"


def run(saves: list[int], operations: list[tuple[str, int]], *elsewhere: str, before: int = 0) -> Run:
    """One whose ledger has saves at these places, and that made these files when it had so many records."""
    records = np.zeros(40, RECORD)
    records["kind"] = Kind.ELEMENT
    records["kind"][saves] = Kind.SAVED
    made = [Operation(Act.CREATE, name, creates=True, elements=elements) for name, elements in operations]
    meta = recording.Recorded("/run", before, 1, (), elsewhere=elsewhere)
    life = Life(Ledger(records), Ending.FINISHED)
    return Run(life, Path("directory"), Path("/run"), meta, Timeline(made, before, range(40)))


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (run([10, 21], [("model/ckpt-1.index", 10), ("model/ckpt-2.index", 21)]), None),
        (run([10, 21], []), OBJECTS),
        (run([10, 21], [("scratch/cache.index", 5)]), OBJECTS),
        (run([10, 21], [("model/events.out.tfevents.1", 5)]), OBJECTS),
        (run([10, 21], [("model/config", 0)], before=1), OBJECTS),
        (run([10, 21], [], *OUTSIDE), "/data/ckpt"),
        (run([], [], "/data/b/x.npz", "/data/a/y.pkl"), "/data/a, /data/b"),
        (run([], []), None),
    ],
)
def test_checkpoints_that_went_elsewhere(recorded: Run, expected: str | None) -> None:
    """Saves were seen, or files that look like them were, and nothing is below the checkpoint directory."""
    assert recorded.saved_elsewhere() == expected


@pytest.mark.parametrize(
    ("second", "elsewhere", "expected"),
    [
        ("model/data-2.index", OUTSIDE, None),
        ("scratch/cache", OUTSIDE, "/data/ckpt"),
        ("scratch/cache", ("/data/export/weights.npz",), None),
        ("scratch/cache", (), None),
    ],
)
def test_some_checkpoints_went_elsewhere(second: str, elsewhere: tuple[str, ...], expected: str | None) -> None:
    """A save without any operation, and a TensorFlow checkpoint outside; an export besides the saves is none."""
    assert run([10, 21], [("model/data-1.index", 10), (second, 21)], *elsewhere).saved_elsewhere() == expected


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], False),
        ([("model/state.npz", 3)], True),
        ([("model/events.out.tfevents.1", 3)], False),
        ([("scratch/cache", 3)], False),
    ],
)
def test_whether_a_run_saved_anything(operations: list[tuple[str, int]], expected: bool) -> None:
    """A file that a restore may read, whoever wrote it."""
    assert run([], operations).saved() is expected
