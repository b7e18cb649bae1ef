"""Verdicts -> records: what a report says of a trial, as JSON, because it crosses from pytest-xdist's workers.

Everything that another run of the same trial would give again stands directly in a record, what differs from run to run
(seconds, bytes, memory, paths, output) below its key `measured`. `schema.json` describes each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from ..engine.lifespans import cost_of
from ..engine.model import Ending, KillSchedule
from ..reporting import kills
from ..survey_report import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..engine.every import Judged, Survey
    from ..engine.model import Kill, Life, LifeSpan, Scope, Verdict
    from ..engine.runner import Trial


class WorkerLane(TypedDict, total=False):
    """What a lane has in a gang besides."""

    worker: int


class Lane(WorkerLane):
    """Where a life trained in one lane; positions are elements of the reference run, from 0. See `LifeSpan`."""

    lane: str
    start: int
    taken: int
    kept: int
    rolled_back: int
    untrained: int
    wrong: list[list[int]]
    wrong_elements: int
    ahead: int | None
    saves: list[int]
    passes: list[int]


class LifeMeasured(TypedDict):
    """What a life cost; see `engine.model.Cost`."""

    seconds: float
    save_seconds: float
    saved_bytes: int
    peak_mb: float


class WorkerRecord(TypedDict):
    """One worker's life in an incarnation of a gang; `kill`: None too where it was ended because another was gone."""

    worker: int
    ending: str
    status: str
    kill: str | None
    saves: int | None
    measured: LifeMeasured | None


class GangRecord(TypedDict, total=False):
    """What a life has in a gang besides."""

    workers: list[WorkerRecord]


class LifeRecord(GangRecord):
    """One life; `life` 0 is the reference run. Of a gang: an incarnation of it."""

    life: int
    ending: str
    status: str
    kill: str | None
    saves: int | None
    lanes: list[Lane]
    measured: LifeMeasured | None


class Wrong(TypedDict):
    """A range of elements that did not go as in the reference run, both ends included."""

    what: str
    first: int
    last: int
    previews: list[str]


class ScopeRecord(TypedDict):
    """What the verdict rests on."""

    kills_landed: int
    saves_crossed: int
    elements_compared: int
    elements_replayed: int


class Measured(TypedDict):
    """Where the files of a trial are, what its lives printed last, and what was found within a limited time."""

    files: str
    output: list[str]
    diagnosis: list[str]
    smallest: str | None


class GangTrial(TypedDict, total=False):
    """What a trial has in a gang besides."""

    workers: int
    worker: int | None


class TrialRecord(GangTrial):
    """One trial: live kills of one check of one item."""

    kind: Literal["trial"]
    id: str
    test: str
    trial: str
    number: int
    check: int
    passed: bool
    outcome: str
    reason: str
    life: int
    kills: str | None
    schedule: str | None
    reproduce: str | None
    scope: ScopeRecord
    wrong: list[Wrong]
    notes: list[str]
    reference: LifeRecord | None
    lives: list[LifeRecord]
    measured: Measured


class FailureRecord(TypedDict):
    """A state that does not resume exactly; `wrong`, `lives` and the output are those of the first of its kind."""

    number: int
    element: int
    where: str
    outcome: str
    reason: str
    schedule: str | None
    reproduce: str | None
    wrong: list[Wrong]
    lives: list[LifeRecord]
    measured: Measured


class SurveyRecord(TypedDict):
    """Every instant of one check of one test."""

    kind: Literal["survey"]
    id: str
    test: str
    trial: str
    number: int
    check: int
    passed: bool
    outcome: str
    reason: str
    scope: ScopeRecord
    notes: list[str]
    power_loss: bool
    times: int
    elements: int
    operations: int | None
    states: int
    judged: int
    sequences: int
    saves: list[int]
    map: list[list[int | str]]
    failures: list[FailureRecord]
    reference: LifeRecord | None
    measured: Measured


Judgement: TypeAlias = TrialRecord | SurveyRecord


class Who(TypedDict):
    """Which check of which item a record is about."""

    id: str
    """The item's, the same however many processes there are."""
    test: str
    """What its trials share."""
    trial: str
    number: int
    check: int


def trial_record(
    trial: Trial, who: Who, reproduce: str | None, *, smallest: str | None = None, diagnosis: Sequence[str] = ()
) -> TrialRecord:
    """The record of a trial; whoever knows the test's outcome sets `passed`.

    Args:
        trial: that was carried out.
        who: it is about.
        reproduce: the arguments of pytest that run its schedule again.
        smallest: those that run a smaller one that fails too.
        diagnosis: lines on what is to blame and what helps.
    """
    verdict = trial.verdict
    record = TrialRecord(
        kind="trial",
        id=who["id"],
        test=who["test"],
        trial=who["trial"],
        number=who["number"],
        check=who["check"],
        passed=verdict.exact,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        life=verdict.life,
        kills=None if trial.schedule is None else kills(trial.schedule),
        schedule=None if trial.schedule is None else str(trial.schedule),
        reproduce=None if reproduce is None else f"pytest {reproduce}",
        scope=_scope(verdict.scope),
        wrong=_wrong(verdict),
        notes=list(verdict.notes),
        reference=None if trial.reference is None else _life(0, trial.reference, verdict.lives),
        lives=[_life(number, life, verdict.lives) for number, life in enumerate(trial.lives, 1)],
        measured=Measured(
            files=str(trial.directory),
            output=list(trial.tails),
            diagnosis=list(diagnosis),
            smallest=None if smallest is None else f"pytest {smallest}",
        ),
    )
    if trial.reference is not None and trial.reference.gang:
        record["workers"], record["worker"] = len(trial.reference.gang), verdict.worker
    return record


def survey_record(
    survey: Survey, who: Who, reproduce: Callable[[KillSchedule], str], *, diagnosis: Sequence[str] = ()
) -> SurveyRecord:
    """The record of what one item found; `document.report` puts those of several processes together."""
    verdict = survey.verdict
    telling = {id(group[0]) for group in groups(survey.failures)}
    return SurveyRecord(
        kind="survey",
        **who,
        passed=verdict.exact,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        scope=_scope(verdict.scope),
        notes=list(verdict.notes),
        power_loss=survey.power,
        times=survey.times,
        elements=survey.elements,
        operations=survey.operations,
        states=survey.states,
        judged=survey.judged,
        sequences=survey.sequences,
        saves=list(survey.saves),
        map=[[one.number, one.element, one.outcome.value, int(one.loss)] for one in survey.states_judged],
        failures=[_failure(one, reproduce, whole=id(one) in telling) for one in survey.failures],
        reference=None if survey.run is None else _life(0, survey.run, survey.spans),
        measured=Measured(
            files=str(survey.directory), output=list(survey.tails), diagnosis=list(diagnosis), smallest=None
        ),
    )


def _failure(one: Judged, reproduce: Callable[[KillSchedule], str], *, whole: bool) -> FailureRecord:
    verdict, schedule = one.verdict, one.schedule
    return FailureRecord(
        number=one.number,
        element=one.instants[0].element,
        where=one.words,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        schedule=None if schedule is None else str(schedule),
        reproduce=None if schedule is None else f"pytest {reproduce(schedule)}",
        wrong=_wrong(verdict) if whole else [],
        lives=_resumed(one) if whole else [],
        measured=Measured(
            files=str(one.directory), output=list(one.tails) if whole else [], diagnosis=[], smallest=None
        ),
    )


def _resumed(one: Judged) -> list[LifeRecord]:
    """The reference run and the lives of a state, as far as they trained."""
    made = []
    for number in sorted({span.life for span in one.verdict.lives}):
        lanes = [span for span in one.verdict.lives if span.life == number]
        kill = one.instants[number - 1].words if 0 < number <= len(one.instants) else None
        ending = Ending.KILLED if kill is not None else lanes[0].ending
        made.append(
            LifeRecord(
                life=number,
                ending=ending.value,
                kill=kill,
                saves=None,
                lanes=list(map(_lane, lanes)),
                measured=None,
                status="",
            )
        )
    return made


def _life(number: int, life: Life, spans: Iterable[LifeSpan]) -> LifeRecord:
    record = LifeRecord(
        life=number,
        ending=life.ending.value,
        status=life.status,
        kill=_planned(life.kill),
        saves=cost_of(life).saves,
        lanes=[_lane(span) for span in spans if span.life == number],
        measured=_measured(life),
    )
    if life.gang:
        record["workers"] = [
            WorkerRecord(
                worker=worker,
                ending=one.ending.value,
                status=one.status,
                kill=_planned(_meant_for(worker, one, life)),
                saves=cost_of(one).saves,
                measured=_measured(one),
            )
            for worker, one in enumerate(life.gang)
            if one is not None
        ]
    return record


def _meant_for(worker: int, life: Life, incarnation: Life) -> Kill | None:
    """What a worker's life was planned to be killed by: the kill that was for it and others, or its own."""
    kill = incarnation.kill
    return kill if kill is not None and worker in (kill.workers or (worker,)) else life.kill


def _planned(kill: Kill | None) -> str | None:
    return None if kill is None else kills(KillSchedule((kill,)))


def _measured(life: Life) -> LifeMeasured:
    cost = cost_of(life)
    return LifeMeasured(
        seconds=round(cost.seconds, 3),
        save_seconds=round(cost.save_seconds, 6),
        saved_bytes=cost.saved_bytes,
        peak_mb=round(cost.peak_mb, 1),
    )


def _lane(span: LifeSpan) -> Lane:
    lane = Lane(
        lane=span.lane,
        start=span.start,
        taken=span.taken,
        kept=span.kept,
        rolled_back=span.taken - span.kept,
        untrained=span.untrained,
        wrong=[list(bounds) for bounds in span.wrong],
        wrong_elements=span.wrong_elements,
        ahead=span.ahead,
        saves=list(span.saves),
        passes=list(span.passes),
    )
    if span.worker is not None:
        lane["worker"] = span.worker
    return lane


def _wrong(verdict: Verdict) -> list[Wrong]:
    return [Wrong(what=one.what, first=one.first, last=one.last, previews=list(one.previews)) for one in verdict.spans]


def _scope(scope: Scope) -> ScopeRecord:
    return ScopeRecord(
        kills_landed=scope.kills_landed,
        saves_crossed=scope.saves_crossed,
        elements_compared=scope.elements_compared,
        elements_replayed=scope.elements_replayed,
    )


__all__ = [
    "FailureRecord",
    "Judgement",
    "Lane",
    "LifeRecord",
    "SurveyRecord",
    "TrialRecord",
    "Who",
    "WorkerRecord",
    "survey_record",
    "trial_record",
]
