"""How long the checker takes, and how much memory it adds, for two ledgers of many records.

Ten million records are 320 MB a ledger, so the ledgers are files mapped into memory, as large as they may be; what is
measured is what `judge` adds to that (`tracemalloc`, which sees NumPy's arrays) and the process's peak. Each
case runs in a process of its own.

    python benchmarks/checker.py --records 10000000
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pipeline_ckpt.engine import checker
from pytest_pipeline_ckpt.engine.ledger import RECORD
from pytest_pipeline_ckpt.engine.model import Ending, Kill, Kind, Ledger, Life, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

OBSERVED, SAVED = 16, 10_000
MEGABYTE = 1 << 20


def one_stream(records: int) -> Any:
    """One iterator, a step each 16 elements, a save each 10,000."""
    return _records(records, iterators=1)


def two_streams(records: int) -> Any:
    """Two iterators side by side, one element of each a step."""
    return _records(records, iterators=2)


def epochs(records: int) -> Any:
    """A thousand epochs, each with its own iterator."""
    made = _records(records, iterators=1)
    chosen = made["kind"] <= Kind.STEP
    made["iterator"][chosen] = np.minimum(np.flatnonzero(chosen) * 1000 // records, 999)
    return made


def _records(records: int, *, iterators: int) -> Any:
    made = np.zeros(records, RECORD)
    cycle = OBSERVED * iterators + iterators
    place = np.arange(records) % cycle
    made["kind"] = np.where(place < iterators, 0, Kind.ELEMENT)
    element = np.cumsum(made["kind"] == Kind.ELEMENT) - 1
    element[element < 0] = 0
    made["value"] = (element + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    made["stream"] = np.where(place < iterators, place, (place - iterators) % iterators)
    steps = np.flatnonzero(made["kind"] == 0)
    made["kind"][steps] = Kind.STEP
    # Before each cycle both iterators have given the same number of elements.
    made["value"][steps] = (steps // cycle * OBSERVED).astype(np.uint64)
    if iterators == 1:
        saves = steps[SAVED // OBSERVED :: SAVED // OBSERVED]
        made["kind"][saves] = Kind.SAVED
        made["stream"][saves] = 0
    return made


def _ledger(path: Path, iterators: int) -> Ledger:
    streams = tuple(Stream(n, f"train.py:{n}:main", f"train.py:{n}, in main") for n in range(iterators))
    return Ledger(np.memmap(path, RECORD, mode="r"), streams)


def _killed_and_resumed(path: Path, made: Any, *, iterators: int) -> list[Path]:
    """Files of a killed life, to nine tenths, and of one that resumed from eight tenths."""
    cycle = OBSERVED * iterators + iterators
    killed, begin = len(made) * 9 // 10, len(made) * 8 // 10 // cycle * cycle
    while made["kind"][begin] != Kind.STEP:
        begin += cycle
    paths = [path / "killed", path / "resumed"]
    made[:killed].tofile(paths[0])
    restored = np.zeros(1, RECORD)
    restored["kind"], restored["value"] = Kind.RESTORED, made["value"][begin]
    with paths[1].open("wb") as file:
        restored.tofile(file)
        made[begin:].tofile(file)
    return paths


def _prepare(name: str, records: int, directory: Path) -> None:
    made = CASES[name](records)
    elements = int(np.count_nonzero(made["kind"] == Kind.ELEMENT))
    iterators = 2 if name == "two_streams" else 1
    done = np.zeros(1, RECORD)
    done["kind"], done["value"] = Kind.DONE, elements // iterators
    made = np.concatenate((made, done))
    made.tofile(directory / "reference")
    _killed_and_resumed(directory, made, iterators=iterators)


def _measure(name: str, trial: str, directory: Path, results: Any) -> None:
    iterators = 2 if name == "two_streams" else 1
    reference = Life(_ledger(directory / "reference", iterators), Ending.FINISHED)
    if trial == "equal":
        lives = [Life(_ledger(directory / "reference", iterators), Ending.FINISHED)]
    else:
        killed = Life(_ledger(directory / "killed", iterators), Ending.KILLED, Kill(1))
        lives = [killed, Life(_ledger(directory / "resumed", iterators), Ending.FINISHED)]
    for life in (reference, *lives):  # the files are in the page cache, as after a run
        int(np.asarray(life.ledger.records)["ms"].sum())
    gc.collect()
    before, busy = time.perf_counter(), time.process_time()
    verdict = checker.judge([reference], lives)
    seconds, cpu = time.perf_counter() - before, time.process_time() - busy
    tracemalloc.start()
    checker.judge([reference], lives)
    added = tracemalloc.get_traced_memory()[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put((verdict.outcome.value, verdict.reason, seconds, cpu, added / MEGABYTE, peak / MEGABYTE))


CASES: dict[str, Callable[[int], Any]] = {"one_stream": one_stream, "two_streams": two_streams, "epochs": epochs}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000, help="in each of two ledgers (default: 10,000,000)")
    records = parser.parse_args().records
    spawn = multiprocessing.get_context("spawn")
    print(f"{records:,} records a ledger\n")
    print(
        f"{'case':<12} {'trial':<8} {'verdict':<8} {'seconds':>8} {'of CPU':>7} {'added MB':>9} {'process peak MB':>16}"
    )
    for name in CASES:
        with tempfile.TemporaryDirectory() as directory:
            preparing = spawn.Process(target=_prepare, args=(name, records, Path(directory)))
            preparing.start()
            preparing.join()
            for trial in ("equal", "resumed"):
                results = spawn.Queue()
                process = spawn.Process(target=_measure, args=(name, trial, Path(directory), results))
                process.start()
                outcome, reason, seconds, cpu, added, peak = results.get()
                process.join()
                print(f"{name:<12} {trial:<8} {outcome:<8} {seconds:>8.2f} {cpu:>7.2f} {added:>9.0f} {peak:>16.0f}")
                if outcome != "exact":
                    print(f"    {reason}")


if __name__ == "__main__":
    main()
