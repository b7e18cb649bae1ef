"""Faults of pipelines and training codes with known places: is each found where it is, and how long does it take?

    python benchmarks/diagnosis.py [NAME...]

The faults are those of `tests/support/faults.py`. For each: the verdict, the stage that is named, the reason, and the
seconds from the failed trial to the diagnosis. With no NAME all of them, and a count of those that are right. Below it,
each reason in words, with its remedy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from faults import FAULTS, Fault  # noqa: E402  (the path must be known first)

from pytest_pipeline_ckpt.engine import plan, store  # noqa: E402
from pytest_pipeline_ckpt.engine.model import KillSchedule  # noqa: E402
from pytest_pipeline_ckpt.engine.runner import Check, Conditions, Engine, Workload  # noqa: E402
from pytest_pipeline_ckpt.explaining import diagnosis_of  # noqa: E402
from pytest_pipeline_ckpt.payload import pickled  # noqa: E402

CONDITIONS = Conditions(timeout=60, grace=5, max_elements=10**6, order="exact")
CODE = "(training code)"


def workload(fault: Fault) -> Workload:
    """What is trained."""
    if fault.training is not None:
        return Workload("training", pickled(fault.training, None))
    arguments = {"steps": None, "save_every": 10, "runner": "eager", **fault.settings}
    return Workload("dataset", pickled(fault.dataset, None), arguments, elements_per_step=1)


def row(name: str, fault: Fault, engine: Engine, base: Path) -> bool:
    """Prints what is found; returns whether it is right."""
    check = Check(engine, workload(fault), CONDITIONS, store.check_directory(base, name))
    schedule = plan.parse_schedule(fault.at, "the table of faults")
    assert isinstance(schedule, KillSchedule)
    trial = check.trial("trial", lambda _: schedule)
    begun = time.monotonic()
    found = diagnosis_of(check, trial)
    seconds = time.monotonic() - begun
    stage = "(nothing)" if found is None else found.stage or CODE
    cause = "(none)" if found is None or found.cause is None else found.cause.name
    expected = (fault.stage or CODE, fault.cause.name)
    right = (stage, cause) == expected
    wrong = "" if right else f"  WRONG: {expected[0]}, {expected[1]}"
    outcome = trial.verdict.outcome.value
    print(f"{name:36s} {outcome:10s} {stage:26s} {cause:20s} {seconds:5.1f} s{wrong}", flush=True)
    return right


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a fault; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}: give some of {', '.join(FAULTS)}")
    names = arguments.names or list(FAULTS)
    print(f"{'fault':36s} {'verdict':10s} {'stage':26s} {'reason':20s} seconds")
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory), seed=1, isolation="fork", say=print)
        try:
            right = [row(name, FAULTS[name], engine, Path(directory)) for name in names]
        finally:
            engine.close()
    print(f"{sum(right)} of {len(right)} right ({sum(right) / len(right):.0%})")
    for cause in dict.fromkeys(FAULTS[name].cause for name in names):
        print(f"{cause.name}\n  why:    {cause.advice.reason}\n  remedy: {cause.advice.remedy}")


if __name__ == "__main__":
    main()
