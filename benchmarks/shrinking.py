"""Which schedules of kills are found for ten planted bugs, from large random ones, and what that costs.

    python benchmarks/shrinking.py [--seconds=10]

The last column is the time of the search alone; a trial is two to four lives.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from shrinkable import SHRINKABLE, search  # noqa: E402  (the path must be known first)

from pytest_pipeline_ckpt.engine.runner import Engine  # noqa: E402


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="as --preempt-shrink")
    seconds = parser.parse_args().seconds
    print(f"{'bug':32s} {'first':36s} {'smallest':18s} {'known minimum':18s} {'tried':>5s} {'seconds':>7s}")
    right = 0
    with tempfile.TemporaryDirectory() as name:
        engine = Engine(Path(name), seed=1, isolation="fork", say=print)
        try:
            for number, (bug, planted) in enumerate(SHRINKABLE.items()):
                found = search(bug, engine, Path(name, str(number)), seconds=seconds)
                first, smallest = str(found.failed.schedule), str(found.smallest.trial.schedule)
                effort = f"{found.smallest.tried:5d} {found.smallest.seconds:7.1f}"
                cut_short = "" if found.smallest.complete else "  cut short"
                print(f"{bug:32s} {first:36s} {smallest:18s} {planted.smallest:18s} {effort}{cut_short}", flush=True)
                right += smallest == planted.smallest
        finally:
            engine.close()
    print(f"the known minimum was found for {right} of {len(SHRINKABLE)}")


if __name__ == "__main__":
    main()
