"""What is left of a ledger, wherever its writer was killed."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import ledger, previews
from pytest_pipeline_ckpt.engine.ledger import LedgerWriter
from pytest_pipeline_ckpt.engine.model import UNKNOWN_STEP, Kind, Stream

STREAM = Stream(0, "train.py:1:main", "train.py:1, in main", ({"name": "", "dtype": "int64", "shape": []},))


def _write(directory: Path, kinds: list[Kind]) -> LedgerWriter:
    """Writes a record of each kind; the n-th element is n."""
    writer = LedgerWriter(directory)
    writer.stream(STREAM)
    element = 0
    for kind in kinds:
        if kind is Kind.ELEMENT:
            element += 1
            preview = previews.pack([np.asarray(element)])
            writer.element(0, 0, element, rows_digest=element, rows=1, preview=preview)
        else:
            writer.event(kind, UNKNOWN_STEP)
    return writer


def test_a_step_is_not_older_than_what_stands_before_it(tmp_path: Path) -> None:
    """What is recorded while a thread that has saved reads the step comes after the save: the model went on then."""
    writer = LedgerWriter(tmp_path)
    training = threading.Thread(target=writer.event, args=(Kind.STEP, 5))

    def read() -> int:
        training.start()
        training.join(timeout=0.5)  # it waits for us; if it did not, it would be done at once
        return 4

    writer.event_as_of_now(Kind.SAVED, read)
    training.join()
    records = ledger.read(tmp_path).records
    assert [(Kind(one["kind"]), int(one["value"])) for one in records] == [(Kind.SAVED, 4), (Kind.STEP, 5)]


KINDS = st.lists(st.sampled_from([Kind.ELEMENT, Kind.ELEMENT, Kind.STEP, Kind.SAVED]), max_size=200)


@given(KINDS, st.data())
@settings(deadline=None)
def test_a_torn_tail_is_dropped(kinds: list[Kind], data: st.DataObject) -> None:
    """Of a ledger that ends anywhere all whole records are read, as they were written."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _write(directory, kinds)
        whole = ledger.read(directory).records
        assert [Kind(kind) for kind in whole["kind"]] == kinds
        size = data.draw(st.integers(0, len(kinds) * ledger.RECORD.itemsize))
        os.truncate(directory / ledger.LEDGER, size)
        torn = ledger.read(directory).records
        assert torn.tolist() == whole[: size // ledger.RECORD.itemsize].tolist()


@given(KINDS, st.booleans())
@settings(deadline=None)
def test_previews_belong_to_their_elements(kinds: list[Kind], held: bool) -> None:
    """A life that was killed without being held lacks previews at its end only; one that was held lacks none."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        writer = _write(directory, kinds)
        if held:
            writer.flush()
        read = ledger.read(directory)
        elements = kinds.count(Kind.ELEMENT)
        shown = [ledger.preview(read, element) for element in range(elements)]
        there = len(read.previews) if read.previews is not None else 0
        assert shown == [str(element + 1) if element < there else None for element in range(elements)]
        assert there == elements if held else there <= elements


def test_a_forked_process_writes_no_previews(tmp_path: Path) -> None:
    """What the training collected before a fork is written once, by the training."""
    writer = _write(tmp_path, [Kind.ELEMENT] * 3)
    child = os.fork()
    if child == 0:
        writer.flush()
        os._exit(0)
    os.waitpid(child, 0)
    writer.flush()
    previews = ledger.read(tmp_path).previews
    assert previews is not None
    assert len(previews) == 3


def test_a_torn_line_of_streams_is_dropped(tmp_path: Path) -> None:
    """A stream whose line was not finished has no record yet."""
    _write(tmp_path, [Kind.ELEMENT])
    with (tmp_path / ledger.STREAMS).open("a") as file:
        file.write('{"index": 1, "ke')
    assert ledger.read(tmp_path).streams == (STREAM,)
