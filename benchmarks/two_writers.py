"""Two live processes over one directory: `python benchmarks/two_writers.py --trials=200 [--seed=N]`.

Each trial is four lives of a training. Some are stopped (SIGSTOP) at a random moment, woken while their successor
trains, and killed at another one. What each life was trained on is written outside of the directory, and tells which
life has gone on where nobody had been, or has missed what the one before had saved.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

RIVALS = Path(__file__).parent.parent / "tests" / "support" / "rivals.py"


def main() -> None:
    """Runs the trials, and prints what was wrong, and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    given = parser.parse_args()
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(RIVALS), str(given.trials), str(given.seed)], stdout=subprocess.PIPE, text=True, check=True
    )
    answer = json.loads(done.stdout)
    print("\n".join(answer["wrong"]))
    print(
        f"{given.trials} trials, seed {given.seed}: {len(answer['wrong'])} wrong continuations, "
        f"{answer['superseded']} processes were told that they are superseded; "
        f"{(time.monotonic() - begun) / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
