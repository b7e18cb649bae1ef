"""After a trial no process of it is left, whatever happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from family import survivors

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

TEST = """
from family import train

def test_family(preemption):
    preemption.check_training(train)
"""


def pytest_run(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    """Starts trials of the training in a session of their own, as a terminal would."""
    (directory / "test_family.py").write_text(TEST)
    support = Path(__file__).parent.parent / "support"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-o",
        f"pythonpath={support}",
        *options,
    ]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, start_new_session=True)


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition is true; fails after a minute."""
    stop = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < stop, "it did not happen within a minute"
        time.sleep(0.05)


@pytest.mark.parametrize("options", [("--preempt-trials=3",), ("--preempt-at=every:20", "--preempt-times=2")])
def test_none_after_trials(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A worker, a `setsid` child and a daemon are gone when the trials are over, recorded ones too."""
    assert pytest_run(tmp_path, *options).wait() == 0
    assert survivors() == []


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ("--preempt-trials=50",)),
        (signal.SIGKILL, ("--preempt-trials=50",)),
        (signal.SIGINT, ("--preempt-at=every", "--preempt-times=2")),
        (signal.SIGKILL, ("--preempt-at=every", "--preempt-times=2")),
        (signal.SIGINT, ("--preempt-trials=50", "--preempt-workers=2")),
    ],
)
def test_none_after_pytest_is_ended(tmp_path: Path, number: signal.Signals, options: tuple[str, ...]) -> None:
    """They are gone too after Ctrl-C and after `kill -9` of pytest in the middle of a trial."""
    process = pytest_run(tmp_path, *options)
    wait_until(lambda: bool(survivors()))
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait()
    wait_until(lambda: not survivors())
