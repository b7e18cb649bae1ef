"""Counts the processes that are left after trials whose training starts a worker, a `setsid` child and a daemon.

    python benchmarks/survivors.py --trials=200

Three rows: after the trials, after Ctrl-C in the middle of them, after `kill -9` of pytest. Only 0 is good.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from family import survivors  # noqa: E402  (the path must be known first)

TEST = """
from family import train

def test_family(preemption):
    preemption.check_training(train)
"""


def pytest_command(directory: Path, *, trials: int) -> list[str]:
    """Runs `trials` trials on two processes."""
    (directory / "test_family.py").write_text(TEST)
    options = ["-q", "-n2", "-p", "no:randomly", f"--preempt-trials={trials}", "-o", f"pythonpath={SUPPORT}"]
    return [sys.executable, "-m", "pytest", *options, str(directory / "test_family.py")]


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Starts trials and returns when a training has started its family."""
    process = subprocess.Popen(
        pytest_command(directory, trials=50), cwd=directory, stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: bool(survivors()))
    return process


def wait_until(condition: Callable[[], bool], *, seconds: float = 120.0) -> bool:
    """Whether the condition came true in time."""
    stop = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > stop:
            return False
        time.sleep(0.05)
    return True


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ended = subprocess.run(pytest_command(directory, trials=trials), cwd=directory, stdout=subprocess.PIPE)
        rows.append((f"{trials} trials ({ended.stdout.decode().splitlines()[-1]})", len(left_over())))
        process = start(directory)
        process.send_signal(signal.SIGINT)
        process.wait()
        rows.append(("Ctrl-C", len(left_over())))
        process = start(directory)
        process.kill()
        process.wait()
        wait_until(lambda: not left_over(), seconds=30.0)
        rows.append(("kill -9 of pytest", len(left_over())))
    for what, count in rows:
        print(f"{count:5d} processes left after {what}")


def left_over() -> list[psutil.Process]:
    """Processes of the trainings, and fork servers, that still run."""
    servers = []
    for process in psutil.process_iter():
        try:
            if "pytest_pipeline_ckpt.engine.forkserver" in " ".join(process.cmdline()):
                servers.append(process)
        except psutil.NoSuchProcess:
            continue
    return [*survivors(), *servers]


if __name__ == "__main__":
    main()
