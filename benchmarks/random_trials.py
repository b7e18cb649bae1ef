"""Random trials of what must be exact: the good pipelines and examples (false alarms), or the production hook.

    python benchmarks/random_trials.py --trials=300 [--of=pipelines|hook|loops] [--seed=N]

Prints a row for each pipeline, the seed, and the trials that were not exact.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from good_pipelines import GOOD  # noqa: E402  (the path must be known first)
from hooked import ESTIMATORS, SESSIONS  # noqa: E402
from looped import LOOPS  # noqa: E402

HAS_ESTIMATOR = importlib.util.find_spec("tensorflow_estimator") is not None
TESTS = {
    "pipelines": (["tests/acceptance/test_good_pipelines.py::test_resumes_exactly", "examples/digits"], len(GOOD) + 4),
    "hook": (["tests/acceptance/test_hook.py"], len(SESSIONS) + HAS_ESTIMATOR * len(ESTIMATORS)),
    "loops": (["tests/acceptance/test_loop.py::test_loops_resume_exactly"], len(LOOPS)),
}
"""What pytest is to run, and how many tests that is."""

CONFTEST = """
import json, os

def pytest_runtest_logreport(report):
    # An xdist worker sees its reports too; they count once, in the controller.
    if hasattr(report, "preempt") and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(os.environ["TRIALS_LOG"], "a") as log:
            for row in json.loads(report.preempt)["rows"]:
                log.write(json.dumps([report.nodeid, row["outcome"], row["text"]]) + "\\n")
"""


def run(directory: Path, of: str, *, trials_each: int, seed: int, processes: int) -> tuple[list[list[str]], float]:
    """Runs the trials; returns (test id, outcome, text) of each, and the seconds that it took."""
    log = directory / "trials.jsonl"
    (directory / "log_trials.py").write_text(CONFTEST)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "log_trials", "-p", "no:randomly", f"-n{processes}"),
        *(f"--preempt-trials={trials_each}", f"--preempt-seed={seed}", "--preempt-at=random"),
        *TESTS[of][0],
    ]
    environ = {**os.environ, "TRIALS_LOG": str(log), "PYTHONPATH": f"{directory}:{ROOT}"}
    start = time.monotonic()
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    seconds = time.monotonic() - start
    print(ended.stdout.splitlines()[-1])
    return [json.loads(line) for line in log.read_text().splitlines()], seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--of", choices=TESTS, default="pipelines")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows, seconds = run(
            Path(directory),
            arguments.of,
            trials_each=-(-arguments.trials // TESTS[arguments.of][1]),
            seed=arguments.seed,
            processes=arguments.processes,
        )
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for node, outcome, text in rows:
        name = node.split("[")[0] if "examples" in node else node.split("[")[-1].rsplit("-random", 1)[0]
        outcomes[name][outcome] += 1
        if outcome != "exact":
            print(f"NOT EXACT  {node}: {text}")
    for name, counts in sorted(outcomes.items()):
        print(f"{name:60s} {counts['exact']:4d} exact of {counts.total():4d}")
    wrong = sum(outcome != "exact" for _, outcome, _ in rows)
    print(f"--preempt-seed={arguments.seed}: {len(rows)} trials, {wrong} not exact, {seconds:.0f} s")


if __name__ == "__main__":
    main()
