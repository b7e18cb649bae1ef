"""How fast trials are: fork against a fresh interpreter for each life, and 200 random trials on two processes.

    python benchmarks/speed.py

One `check_dataset` trial of 100 steps and 2 lives each way, alternating in one run; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEST = """
def make_dataset():
    import tensorflow as tf

    return tf.data.Dataset.range(1000).shuffle(50, seed=1).map(lambda n: n + 1).batch(4).prefetch(2)

def test_dataset(preemption):
    preemption.check_dataset(make_dataset, steps=100)
"""


def trials(directory: Path, *options: str) -> float:
    """Wall-clock seconds of one pytest run; raises when it is not green."""
    start = time.monotonic()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "--preempt-seed=1",
            *options,
            "test_speed.py",
        ],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - start


def seconds_a_trial(directory: Path, isolation: str, *, more: int) -> float:
    """Seconds of one further trial: the difference between `more` + 1 trials and one."""
    options = ("--preempt-times=1", f"--preempt-isolation={isolation}")
    one = trials(directory, *options, "--preempt-trials=1")
    many = trials(directory, *options, f"--preempt-trials={more + 1}")
    return (many - one) / more


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_speed.py").write_text(TEST)
        ratios = []
        for _ in range(arguments.rounds):
            fork = seconds_a_trial(directory, "fork", more=10)
            spawn = seconds_a_trial(directory, "spawn", more=2)
            ratios.append(spawn / fork)
            print(f"a trial of 100 steps and 2 lives: fork {fork:.2f} s, spawn {spawn:.2f} s, ratio {spawn / fork:.1f}")
        print(f"median ratio: {statistics.median(ratios):.1f}")
        seconds = trials(directory, "-n2", f"--preempt-trials={arguments.trials}")
        print(f"{arguments.trials} random trials with -n 2: {seconds:.1f} s")


if __name__ == "__main__":
    main()
