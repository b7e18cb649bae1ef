"""The corpus of trainings that prove themselves: what is true, what the plugin says, and where the two contradict.

    python benchmarks/corpus.py --truth [NAMES]       # without the plugin: kills, resumes, reads the proofs
    python benchmarks/corpus.py [--trials=5] [--every] [--out=results.json] [NAMES]

A name is a program (`keras_fit`) or one way of it (`keras_fit:backup`); none: all. By hand: all of it takes
hours. With `--out` what has been judged is kept in that file, and a second call goes on with the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support" / "corpus"), str(ROOT / "hook" / "src")]
import truth  # noqa: E402  (the path must be known first)
from registry import CORPUS, Training  # noqa: E402


def chosen(names: list[str]) -> list[Training]:
    """Those that are named by program or by name."""
    found = [training for training in CORPUS if not names or {training.name, training.program} & set(names)]
    unknown = set(names) - {name for training in CORPUS for name in (training.name, training.program)}
    if unknown:
        raise SystemExit(f"not in the corpus: {', '.join(sorted(unknown))}")
    return found


def print_truth(trainings: list[Training]) -> int:
    """A row for each training; returns how many differ from what the registry says."""
    differ = 0
    for (needs, fresh), group in itertools.groupby(trainings, key=lambda training: (training.needs, training.fresh)):
        with contextlib.nullcontext(truth.in_its_own_interpreter) if fresh else truth.forking(needs) as launcher:
            for training in group:
                found = truth.find(training, launcher)
                agrees = found.landed and (found.safe, found.resumes) == (training.safe, training.resumes)
                differ += not agrees
                print_row(training, found, agrees=agrees)
    print(f"{len(trainings)} trainings, {differ} differ from what the registry says")
    return differ


def print_row(training: Training, found: truth.Truth, *, agrees: bool) -> None:
    """The truth about one training, and each kill that shows it."""
    word = "safe" if found.safe else "unsafe" if found.resumes else "never resumes"
    print(f"{training.name:34s} {word:14s} {'' if agrees else 'DIFFERS from the registry'}", flush=True)
    for ended in found.ended:
        steps = "+".join(str(life.steps) for life in ended.lives)
        landed = "" if ended.landed else "DID NOT LAND "
        print(f"    {ended.kills:16s} {steps:12s} {landed}{ended.wrong or 'as uninterrupted'}")
    if not agrees:
        for life in [found.whole, *(life for ended in found.ended for life in ended.lives)]:
            if life.status not in (0, truth.KILLED):
                print("    | " + "\n    | ".join(life.output.splitlines()[-12:]))
                break


def main() -> None:
    """Prints the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument("--truth", action="store_true", help="find the truth, without the plugin")
    arguments = parser.parse_args()
    sys.exit(print_truth(chosen(arguments.names)) > 0)


if __name__ == "__main__":
    main()
