"""Random trials of Keras `fit`: `python benchmarks/keras_trials.py --trials=300 [--of=callback|backup|notice|every]`.

Three epochs, seeded and unseeded shuffle, one to three preemptions a trial; with a seed the final weights are compared
bit for bit. `notice` sends SIGTERM, with a grace of 2 s, and counts a trial apart that replayed a step. Prints how many
trials had which outcome, and those that count as failed.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from random_trials import CONFTEST  # type: ignore[import-not-found]  # noqa: E402  (the path must be known first)

TESTS = """
import sys
sys.path.insert(0, {support!r})
import pytest
from fitted import BACKED_UP, CHECKPOINTED

@pytest.mark.parametrize("order", ["seeded", "unseeded"])
def test_fit(preemption, order):
    preemption.check_training({of}[order], compare_weights=order == "seeded")
"""
MODES = {
    "callback": ("CHECKPOINTED", ["--preempt-at=random"]),
    "backup": ("BACKED_UP", ["--preempt-at=random"]),
    "notice": ("CHECKPOINTED", ["--preempt-at=random", "--preempt-signal=SIGTERM", "--preempt-grace=2"]),
    "every": ("CHECKPOINTED", ["--preempt-at=every"]),
}


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--of", choices=MODES, default="callback")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    of, options = MODES[arguments.of]
    if arguments.of != "every":
        options = [*options, f"--preempt-trials={arguments.trials // 2}", f"--preempt-seed={arguments.seed}"]
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "trials.jsonl")
        log.touch()
        Path(directory, "log_trials.py").write_text(CONFTEST)
        test = Path(directory, "test_fit.py")
        test.write_text(TESTS.format(support=str(ROOT / "tests" / "support"), of=of))
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "log_trials", "-p", "no:randomly", "-p", "no:cacheprovider"),
            *(f"-n{arguments.processes}", f"--rootdir={directory}", *options, str(test)),
        ]
        environ = {**os.environ, "TRIALS_LOG": str(log), "PYTHONPATH": f"{directory}:{ROOT}:{ROOT}/hook/src"}
        start = time.monotonic()
        ended = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True)
        seconds = time.monotonic() - start
        for node, outcome, text in map(json.loads, log.read_text().splitlines()):
            if arguments.of == "notice" and "trained again" in text:
                outcome = f"{outcome}, replayed"
            outcomes[node.split("[")[1].split("-")[0], outcome] += 1
            if outcome != "exact":
                print(f"{outcome}  {text}")
    print(*ended.stdout.splitlines()[-1:], ended.stderr, sep="\n")
    for (order, outcome), count in sorted(outcomes.items()):
        print(f"{arguments.of} {order:10s} {outcome:14s} {count:4d}")
    print(f"--seed={arguments.seed}: {outcomes.total()} trials in {seconds:.0f} s")


if __name__ == "__main__":
    main()
