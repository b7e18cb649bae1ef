"""Records for the tests of the report: judged from histories made by hand, as real ones are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histories_builder import Book

from pytest_pipeline_ckpt.engine import gang_verdict
from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.crash_states import CrashState
from pytest_pipeline_ckpt.engine.every import Judged, Mapped, Survey, said
from pytest_pipeline_ckpt.engine.gang import incarnation
from pytest_pipeline_ckpt.engine.instants import Instant
from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule, Life, Outcome, Scope, Verdict
from pytest_pipeline_ckpt.engine.runner import Trial
from pytest_pipeline_ckpt.report import document
from pytest_pipeline_ckpt.report.records import Who, survey_record, trial_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pipeline_ckpt.report.document import NotJudged, Report
    from pytest_pipeline_ckpt.report.records import Judgement, SurveyRecord, TrialRecord

MEASURED = {
    "began": "2026-01-02T03:04:05+00:00",
    "seconds": 1.5,
    "python": "3.11.7",
    "tensorflow": "2.21.0",
    "pytest_pipeline_ckpt": "0.1.0",
}


def unkilled() -> Life:
    """The reference run: elements 0..19 with step = element, saved after every fifth."""
    book = Book()
    for begin in range(0, 20, 5):
        book.train(range(begin, begin + 5), step=begin).saved(begin + 5)
    return book.done(20).finished()


def killed() -> Life:
    """Killed at its 13th element, with a checkpoint at 10."""
    return Book().train(range(10), step=0).saved(10).train(range(10, 13), step=10).killed()


def resumed(values: Iterable[int]) -> Life:
    """A last life that restored step 10 and took `values`."""
    taken = list(values)
    return Book().restored(10).train(taken, step=10).done(10 + len(taken)).finished()


RIGHT, RESTARTED, BEHIND, LOST = range(10, 20), range(10), range(7, 17), [*range(10, 14), *range(15, 20)]


def a_trial(values: Iterable[int] = RIGHT, *, test: str = "test_a.py::test_a", number: int = 0) -> TrialRecord:
    """The record of a trial whose resumed life takes `values`."""
    lives = (killed(), resumed(values))
    verdict = judge([unkilled()], lives)
    schedule = KillSchedule((Kill(13),))
    trial = Trial(verdict, schedule, Path("/tmp/x/trial"), lives=lives, reference=unkilled())
    name = f"random-{number}"
    who = Who(id=f"{test}[{name}]", test=test, trial=name, number=number, check=0)
    return trial_record(trial, who, f"{test} --preempt-at={schedule}")


def a_gang_trial(*values: Iterable[int], apart: bool = False, number: int = 0) -> TrialRecord:
    """The record of a trial of a gang, whose workers' resumed lives take these values; `apart`: worker 0 had none."""
    reference = incarnation([unkilled() for _ in values])
    kill = Kill(13, workers=(1,))
    last = [None if apart and not worker else resumed(taken) for worker, taken in enumerate(values)]
    if apart:
        lives = (incarnation([unkilled(), killed()]), incarnation(last))
    else:
        survivors = [replace(killed(), kill=None) for _ in values[2:]]
        lives = (incarnation([replace(killed(), kill=None), killed(), *survivors], kill), incarnation(last))
    verdict = gang_verdict.judge([reference], lives, apart=apart)
    trial = Trial(verdict, KillSchedule((kill,)), Path("/tmp/x/trial"), lives=lives, reference=reference)
    test, name = "test_g.py::test_g", f"random-{number}"
    who = Who(id=f"{test}[{name}]", test=test, trial=name, number=number, check=0)
    return trial_record(trial, who, f"{test} --preempt-at=step:13#1 --preempt-workers=2")


def a_survey(bad: Sequence[int] = (), *, states: int = 12, shard: int = 0, shards: int = 1) -> SurveyRecord:
    """The record of what one of `shards` items found: the states in `bad` restart."""
    mine = range(states)[shard::shards]
    failures = tuple(_judged(number, position) for position, number in enumerate(mine) if number in bad)
    verdict = Verdict(Outcome.EXACT, said(0, len(mine), power=False), scope=Scope(len(mine), 0, 10 * len(mine), 0))
    if failures:
        verdict = Verdict(Outcome.RESTARTED, "some", scope=verdict.scope)
    outcomes = {one.number: one.verdict.outcome for one in failures}
    mapped = tuple(Mapped(n, _element(n), outcomes.get(n, Outcome.EXACT), loss=False) for n in mine)
    survey = Survey(
        verdict,
        elements=20,
        operations=40,
        states=states,
        mine=len(mine),
        judged=len(mine),
        sequences=len(mine),
        failures=failures,
        directory=Path("/tmp/x"),
        states_judged=mapped,
        saves=(5, 10, 15, 20),
        run=unkilled(),
        spans=judge([unkilled()], [unkilled()]).lives,
    )
    test = "test_b.py::test_b"
    who = Who(id=f"{test}[every]", test=test, trial="every", number=shard, check=0)
    return survey_record(survey, who, lambda schedule: f"{test} --preempt-at={schedule}")


def _element(number: int) -> int:
    return 5 * (number // 3)


def _judged(number: int, position: int) -> Judged:
    element = _element(number)
    state = CrashState(number, element, False, {}, {}, frozenset())
    instant = Instant(state, element, Kill(element + 1), f"after element {element}, when it had renamed {number}")
    verdict = judge([unkilled()], [killed(), resumed(RESTARTED)])
    return Judged(number, position, (instant,), verdict, Path("/tmp/x/state"))


def a_report(
    records: Iterable[Judgement], not_judged: Iterable[NotJudged] = (), *, interrupted: bool = False, **measured: Any
) -> Report:
    """The report of some records."""
    return document.report(
        records, not_judged, at="random", seed=7, interrupted=interrupted, measured={**MEASURED, **measured}
    )


def without_measured(report: Any) -> Any:
    """A report without what differs from run to run."""
    if isinstance(report, dict):
        return {key: without_measured(value) for key, value in report.items() if key != "measured"}
    return [without_measured(one) for one in report] if isinstance(report, list) else report
