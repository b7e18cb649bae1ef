"""Runs the trainings of a scenario module under the tap, and reads what was recorded. No TensorFlow here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pipeline_ckpt.engine.fingerprint import fingerprint
from pytest_pipeline_ckpt.engine.ledger import read
from pytest_pipeline_ckpt.engine.model import UNKNOWN_STEP, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_pipeline_ckpt.engine.model import Ledger


class Runs:
    """Runs each group of scenarios once, in one process, when one of them is first asked for."""

    def __init__(self, scenarios: Path, groups: Sequence[Sequence[str]], directory: Path) -> None:
        self._scenarios, self._groups, self._directory = scenarios, groups, directory

    def ledger(self, name: str) -> Ledger:
        """What the tap recorded."""
        self._run(name)
        return read(self._directory / name)

    def seen(self, name: str) -> Any:
        """What the training itself returned."""
        self._run(name)
        return json.loads((self._directory / name / "seen.json").read_text())

    def _run(self, name: str) -> None:
        if (self._directory / name).exists():
            return
        group = next(group for group in self._groups if name in group)
        environ = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        ran = subprocess.run(
            [sys.executable, str(self._scenarios), str(self._directory), *group],
            env=environ,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]


def story(ledger: Ledger) -> str:
    """The records in short: `0.1=5* ` is an element of stream 0, iterator 1, taken at step 5.

    Iterators that nobody reads, of which frameworks make some, are not counted.
    """
    words = []
    pending = ""
    numbers = _numbers(ledger)
    for record in ledger.records:
        kind, at = Kind(record["kind"]), f"{record['stream']}.{numbers.get((record['stream'], record['iterator']))}"
        value = int(record["value"].astype(np.int64)) if kind is not Kind.ELEMENT else 0
        if kind is Kind.STEP:
            assert not pending
            pending = f"{at}={'?' if value == UNKNOWN_STEP else value}"
        elif kind is Kind.ELEMENT:
            assert not pending or pending.startswith(at + "=")
            words.append(pending or at)
            pending = ""
        elif kind is Kind.END:
            words.append(f"end {at}")
        else:
            words.append(f"{kind.name.lower()} {'?' if value == UNKNOWN_STEP else value}")
    assert not pending
    return ", ".join(words)


def _numbers(ledger: Ledger) -> dict[tuple[int, int], int]:
    """For each iterator that is read its number among those of its stream, in the order in which they were made."""
    read = ledger.records[np.isin(ledger.records["kind"], (Kind.ELEMENT, Kind.STEP, Kind.END))]
    found = sorted({(int(one["stream"]), int(one["iterator"])) for one in read})
    return {(stream, one): sum(other == stream for other, _ in found[:at]) for at, (stream, one) in enumerate(found)}


def run_of(at: str, steps: Sequence[int]) -> str:
    """Elements of one iterator, with their steps, as `story` writes them."""
    return ", ".join(f"{at}={step}" for step in steps)


def values(ledger: Ledger, stream: int) -> list[int]:
    """The fingerprints of a stream's elements."""
    records = ledger.records
    chosen = records[(records["kind"] == Kind.ELEMENT) & (records["stream"] == stream)]
    return [int(value) for value in chosen["value"]]


def numbers(expected: Sequence[int]) -> list[int]:
    """The fingerprints of `tap_scenarios.numbers`' elements."""
    return [fingerprint([np.array(number, np.int64), np.array(b"n%d" % number, object)]).value for number in expected]


def batches(count: int) -> list[int]:
    """The fingerprints of `tap_scenarios.batches`' elements."""
    rows = np.arange(count * 4, dtype=np.float32).reshape(count, 4, 1)
    return [fingerprint([batch, np.zeros((4, 1), np.float32)]).value for batch in rows]
