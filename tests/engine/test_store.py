"""What trials share on disk: a run of another version's format is never read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_pipeline_ckpt.engine import ledger, store
from pytest_pipeline_ckpt.engine.ledger import LedgerWriter
from pytest_pipeline_ckpt.engine.model import Ending, Kind, Ledger, Life

if TYPE_CHECKING:
    from pathlib import Path


def shared(directory: Path, said: list[str], lived: list[Path]) -> Life:
    """The life in a directory, which writes a ledger of one record when it has to be lived."""

    def live(at: Path) -> tuple[Life, float]:
        lived.append(at)
        LedgerWriter(at).event(Kind.DONE, 40)
        return Life(Ledger(records=ledger.read(at).records), Ending.FINISHED), 1.5

    return store.shared_life(directory, live, said.append)[0]


def test_lived_once(tmp_path: Path) -> None:
    """Whoever comes second reads what the first one has lived."""
    said: list[str] = []
    lived: list[Path] = []
    lives = [shared(tmp_path / "reference-0", said, lived) for _ in range(2)]
    assert len(lived) == 1
    assert [int(life.ledger.records["value"][0]) for life in lives] == [40, 40]
    assert not said


@pytest.mark.parametrize(
    "older",
    ['{"ending": "finished", "status": "", "stderr": "", "peak_mb": 0, "s": 9}', '{"format": 1}', '{"format": 2, "en'],
    ids=["without a number", "of another number", "torn"],
)
def test_another_format(tmp_path: Path, older: str) -> None:
    """A shared run of another format is dropped with one sentence, and lived again."""
    said: list[str] = []
    lived: list[Path] = []
    directory = tmp_path / "reference-0"
    directory.mkdir()
    (directory / "outcome.json").write_text(older)
    (directory / "ledger.bin").write_bytes(b"of another version")
    life = shared(directory, said, lived)
    assert said == [store.OUTDATED.format(directory)]
    assert len(lived) == 1
    assert len(life.ledger.records) == 1
    assert json.loads((directory / "outcome.json").read_text())["format"] == store.FORMAT
    shared(directory, said, lived)
    assert len(lived) == len(said) == 1
