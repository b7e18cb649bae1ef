"""The sidecar of a life's counters and files: what is written is read, also if the life was killed in a line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import ledger
from pytest_pipeline_ckpt.engine.evidence import (
    FILE,
    JAX_STATE,
    Counter,
    Evidence,
    EvidenceWriter,
    Origin,
    Reading,
    Saved,
    Weight,
    read,
)
from pytest_pipeline_ckpt.engine.lineage import Lineage

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _written(path: Path) -> Evidence:
    """A life that shows one of each, at as many records as there are lines."""
    records = 0
    root = path / "run"
    root.mkdir(exist_ok=True)
    writer = EvidenceWriter(path, root, lambda: records)
    adam, other = writer.number(), writer.number()
    writer.read("element", {adam: 0, other: 5})
    records = 1
    writer.counter(Counter("Adam.iterations", "bare"), number=adam)
    writer.counter(Counter("Adam.iterations", "model", "an optimizer"), number=adam)
    records = 2
    writer.read("save", {adam: 1})
    writer.writing(str(root / "model" / "ckpt-1"), weights=True, data=False)
    records = 3
    writer.wrote(str(root / "model" / "ckpt-1"))
    writer.writing(str(root / "w.tmp"), weights=False, data=False)
    writer.wrote(str(root / "w.tmp"), weights=True)
    writer.moved(str(root / "w.tmp"), str(root / "w"))
    records = 4
    writer.restored("/elsewhere/teacher", weights=True, data=False)
    writer.origins([("/elsewhere/teacher", 2, ("a", "b"), True), (None, 1, ("c",), False)])
    return read(path)


def test_what_no_checkpoint_of_tensorflow_can_hold() -> None:
    """A JAX state, or arrays in the user's functions and nothing else; without a weight, nobody knows."""
    variable, array = Weight("w", (3,)), Weight("w", (3,), function="train")
    in_jax = Counter("step", "model", JAX_STATE)
    cases = [Evidence(), Evidence(weights=(variable, array)), Evidence(weights=(array,)), Evidence((in_jax,))]
    assert [one.apart for one in cases] == [False, False, True, True]


def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Counters have what was said of them last, readings only the announced ones, paths are relative to the run."""
    found = _written(tmp_path_factory.mktemp("life"))
    assert found.counters == (Counter("Adam.iterations", "model", "an optimizer"),)
    assert found.readings == (
        Reading(0, "element", {"Adam.iterations": 0}),
        Reading(2, "save", {"Adam.iterations": 1}),
    )
    assert found.saved == (Saved("model/ckpt-1", 2, 3, True, False), Saved("w.tmp", 3, 3, True, False))
    assert found.moved == ((3, "w.tmp", "w"),)
    assert [(one.at, one.path) for one in found.restored] == [(4, "/elsewhere/teacher")]
    assert found.origins == (Origin(4, "/elsewhere/teacher", 2, ("a", "b"), True), Origin(4, None, 1, ("c",)))


def test_what_a_killed_life_had_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A save that was complete later had only begun, and what came later is not there."""
    found = _written(tmp_path_factory.mktemp("life")).upto(2)
    assert found.saved == (Saved("model/ckpt-1", 2, None, True, False),)
    assert (found.moved, found.restored, found.origins) == ((), (), ())
    assert len(found.readings) == 2


def test_what_a_life_had_shown_that_was_killed_within_a_save(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was complete when the ledger had as many records was not yet when the save was not over."""
    whole = _written(tmp_path_factory.mktemp("life"))
    assert [one.done for one in whole.upto(3).saved] == [3, 3]
    assert [one.done for one in whole.upto(3, saving=True).saved] == [None, None]


@given(st.data())
def test_a_torn_tail_is_dropped(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """However short the file is cut, what is read is a beginning of what was written."""
    path = tmp_path_factory.mktemp("life")
    whole = _written(path)
    content = (path / FILE).read_bytes()
    (path / FILE).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found = read(path)
    assert found.restored == whole.restored[: len(found.restored)]
    assert [(one.path, one.began) for one in found.saved] == [
        (one.path, one.began) for one in whole.saved[: len(found.saved)]
    ]
    assert len(found.readings) <= len(whole.readings)


def test_no_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A life that never wrote has shown nothing."""
    assert read(tmp_path_factory.mktemp("life")) == Evidence()


_FORKS = """
import os, pathlib, sys
from pytest_pipeline_ckpt.engine.evidence import Counter, EvidenceWriter
from pytest_pipeline_ckpt.engine.ledger import LedgerWriter
from pytest_pipeline_ckpt.engine.model import Kind

ledger = LedgerWriter(pathlib.Path(sys.argv[1]))
evidence = EvidenceWriter(ledger.directory, None, lambda: ledger.records)
evidence.counter(Counter("step", "model"))
child = os.fork()
ledger.event(Kind.SAVED, 2 if child else 1)
evidence.read("save", {0: 2 if child else 1})
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_forked_processes_write_nothing(tmp_path: Path) -> None:
    """What a process saves that the user's code has forked is in neither ledger nor evidence."""
    subprocess.run([sys.executable, "-c", _FORKS, str(tmp_path)], check=True)
    assert [one.values for one in read(tmp_path).readings] == [{"step": 2}]
    assert list(ledger.read(tmp_path).records["value"]) == [2]


def test_a_save_is_of_the_moment_at_which_it_began(tmp_path: Path) -> None:
    """A thread takes elements while the counters are read and until the first file is written: all is of one moment."""
    records = iter([3, 4, 9])
    writer = EvidenceWriter(tmp_path, tmp_path, lambda: next(records))
    number = writer.number()
    lineage, at = Lineage(writer), writer.now()
    writer.counter(Counter("step", "model"), number=number)
    writer.read("save", {number: 20}, at=at)
    with lineage.call(tmp_path / "ckpt", at=at):
        lineage.writing(tmp_path / "ckpt", weights=True, data=False)
    found = read(tmp_path)
    assert found.readings == (Reading(3, "save", {"step": 20}),)
    assert found.saved == (Saved("ckpt", 3, 9, weights=True, data=False),)
