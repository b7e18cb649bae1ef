"""Records -> the whole report, in an order that depends on the tests, not on when they ended. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from ..engine.every import said
from ..engine.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .records import FailureRecord, Judgement, ScopeRecord, SurveyRecord, TrialRecord

FORMAT = "pytest-pipeline-ckpt report"
VERSION = 2
"""Of the format: a key that is removed, or means something else, makes it 2."""


class NotJudged(TypedDict):
    """An item whose trial was not carried out, or not to its end."""

    id: str
    kind: str
    """`skipped` or `error`."""
    why: str


class Counts(TypedDict):
    """Of trials, and of surveys (`every`), of which each counts once."""

    exact: int
    failed: int
    """Not exact, in a test that failed."""
    expected: int
    """Not exact, in a test that passed, because it asks for that."""


class Report(TypedDict):
    """What `--preempt-report=report.json` writes; described by `schema.json`."""

    format: str
    version: int
    interrupted: bool
    at: str
    seed: int
    counts: Counts
    trials: list[TrialRecord]
    surveys: list[SurveyRecord]
    not_judged: list[NotJudged]
    measured: dict[str, Any]


def report(
    records: Iterable[Judgement],
    not_judged: Iterable[NotJudged],
    *,
    at: str,
    seed: int,
    interrupted: bool,
    measured: dict[str, Any],
) -> Report:
    """Puts a report together.

    Args:
        records: of all checks; of one that was made again the last counts.
        not_judged: items without any.
        at: when trainings were killed, as `--preempt-at` has it.
        seed: from which the kills were drawn.
        interrupted: not all tests were run.
        measured: of the session, what differs from run to run.
    """
    latest = {(one["test"], one["number"], one["check"], one["id"]): one for one in records}
    ordered = [latest[key] for key in sorted(latest)]
    trials = [one for one in ordered if one["kind"] == "trial"]
    surveys = _merged([one for one in ordered if one["kind"] == "survey"])
    named = {one["id"] for one in ordered}
    left = {one["id"]: one for one in not_judged if one["id"] not in named}
    return Report(
        format=FORMAT,
        version=VERSION,
        interrupted=interrupted,
        at=at,
        seed=seed,
        counts=_counts([*trials, *surveys]),
        trials=trials,
        surveys=surveys,
        not_judged=[left[name] for name in sorted(left)],
        measured=measured,
    )


def _counts(judged: Sequence[Judgement]) -> Counts:
    exact = sum(one["outcome"] == Outcome.EXACT.value for one in judged)
    expected = sum(one["outcome"] != Outcome.EXACT.value and one["passed"] for one in judged)
    return Counts(exact=exact, failed=len(judged) - exact - expected, expected=expected)


def _merged(shards: Sequence[SurveyRecord]) -> list[SurveyRecord]:
    """One record for each check of `every`, however many processes shared its states."""
    found: dict[tuple[str, int], list[SurveyRecord]] = {}
    for one in shards:
        found.setdefault((one["id"], one["check"]), []).append(one)
    return [_whole(of_check) for of_check in found.values()]


def _whole(shards: Sequence[SurveyRecord]) -> SurveyRecord:
    first = shards[0]
    if not any(one["states"] for one in shards):
        return {**first, "number": 0, "passed": all(one["passed"] for one in shards)}
    failures = sorted((one for shard in shards for one in shard["failures"]), key=lambda one: one["number"])
    judged = sum(one["judged"] for one in shards)
    words = said(len({one["number"] for one in failures}), judged, power=first["power_loss"])
    outcome, reason = Outcome.EXACT.value, words
    if failures:
        outcome, reason = failures[0]["outcome"], f"{words}; the first, {failures[0]['where']}: {failures[0]['reason']}"
    else:  # what no single state shows: that none of them was resumed
        for one in shards:
            if one["outcome"] != Outcome.EXACT.value:
                outcome, reason = one["outcome"], one["reason"]
                break
    return {
        **first,
        "number": 0,
        "passed": all(one["passed"] for one in shards),
        "outcome": outcome,
        "reason": reason,
        "scope": _sum([one["scope"] for one in shards]),
        "notes": list(dict.fromkeys(note for one in shards for note in one["notes"])),
        "judged": judged,
        "sequences": sum(one["sequences"] for one in shards),
        "map": sorted((cell for shard in shards for cell in shard["map"]), key=lambda cell: cell[0]),
        "failures": _told_once(failures),
    }


def _told_once(failures: Sequence[FailureRecord]) -> list[FailureRecord]:
    """Each process tells the details of the first failure of a kind; of them the first is kept."""
    telling = {id(group[0]) for group in kinds(failures)}
    return [one if id(one) in telling else _brief(one) for one in failures]


def _brief(one: FailureRecord) -> FailureRecord:
    return {**one, "wrong": [], "lives": [], "measured": {**one["measured"], "output": []}}


def _sum(scopes: Sequence[ScopeRecord]) -> ScopeRecord:
    return {
        "kills_landed": sum(one["kills_landed"] for one in scopes),
        "saves_crossed": sum(one["saves_crossed"] for one in scopes),
        "elements_compared": sum(one["elements_compared"] for one in scopes),
        "elements_replayed": sum(one["elements_replayed"] for one in scopes),
    }


def kinds(failures: Sequence[FailureRecord]) -> list[list[FailureRecord]]:
    """Failures of one kind: the same outcome and, but for its numbers, the same reason; as the message groups them."""
    from ..survey_report import kind_of

    found: dict[tuple[str, str], list[FailureRecord]] = {}
    for one in failures:
        found.setdefault(kind_of(one["outcome"], one["reason"]), []).append(one)
    return list(found.values())


def judgements(report: Report) -> list[Judgement]:
    """Trials and surveys."""
    return [*report["trials"], *report["surveys"]]


def bad(one: Judgement) -> bool:
    """Whether it is not exact and no test asked for that."""
    return one["outcome"] != Outcome.EXACT.value and not one["passed"]


def expected(one: Judgement) -> bool:
    """Whether it is not exact, and the test asked for that."""
    return one["outcome"] != Outcome.EXACT.value and one["passed"]


__all__ = ["FORMAT", "VERSION", "NotJudged", "Report", "bad", "expected", "judgements", "kinds", "report"]
