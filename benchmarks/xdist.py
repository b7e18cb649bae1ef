"""The same verdicts and the same kill points however many processes there are.

    python benchmarks/xdist.py [--trials=10]

Runs a good pipeline and a broken training with `-n 0`, `-n 2` and `-n 4` and one seed, and compares every trial.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
TEST = """
import pytest
from good_pipelines import GOOD
from planted import PLANTED

@pytest.mark.parametrize("name", ["seeded_shuffle_two_epochs", "interleaved_records"])
def test_good(preemption, name):
    preemption.check_dataset(GOOD[name].make, steps=GOOD[name].steps)

def test_broken(preemption):
    preemption.check_training(PLANTED["misaligned behind"].train)
"""
LINE = re.compile(r"^(\w+) +(test_\S+\]): (.*)$", re.MULTILINE)


def lines(directory: Path, *, processes: int, trials: int, seed: int) -> dict[str, tuple[str, str]]:
    """By test id: the verdict, and where it was killed and what came of it."""
    options = ["-q", "-p", "no:randomly", "-o", f"pythonpath={SUPPORT}", f"-n{processes}"]
    options += [f"--preempt-trials={trials}", f"--preempt-seed={seed}"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_xdist.py"], cwd=directory, capture_output=True, text=True
    )
    return {node: (verdict, text) for verdict, node, text in LINE.findall(ended.stdout)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_xdist.py").write_text(TEST)
        found = {n: lines(directory, processes=n, trials=arguments.trials, seed=arguments.seed) for n in (0, 2, 4)}
    for processes, trials in found.items():
        differ = sum(trials.get(node) != line for node, line in found[0].items())
        print(f"-n {processes}: {len(trials)} trials, {differ} differ from -n 0")


if __name__ == "__main__":
    main()
