"""Verdict -> words: the line of a trial, the message of a failure, the section at the end. Pure but for `summarise`."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine.plan import spell
from .state import without_trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .engine.every import Judged, Survey
    from .engine.model import KillSchedule, Verdict
    from .engine.runner import Trial
    from .options import Settings

REPORT_ATTRIBUTE = "preempt"
"""Of a `TestReport`: a JSON string, the only thing that crosses from an xdist worker to the controller."""
_MOST_WINDOWS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """What the end of the run says of one trial."""

    outcome: str
    text: str


def trial_text(trial: Trial) -> str:
    """Where the trial was killed and what came of it, on one line."""
    verdict = trial.verdict
    killed = "" if trial.schedule is None else f"killed at {kills(trial.schedule)}; "
    if not verdict.exact:
        return f"{killed}{verdict.reason}"
    scope = verdict.scope
    compared, crossed = count(scope.elements_compared, "element"), count(scope.saves_crossed, "save")
    return killed + "; ".join((f"resumed exactly: {compared} compared, {crossed} crossed", *verdict.notes))


def kills(schedule: KillSchedule) -> str:
    """`element 40, then 3 (SIGTERM)`, `element 40, file operation 3`: counted in each life."""
    words = [
        f"{kill.element}"
        + ("" if kill.op is None else f", file operation {kill.op}")
        + ("" if kill.signal.name == "SIGKILL" else f" ({kill.signal.name})")
        for kill in schedule.kills
    ]
    return "element " + ", then ".join(words)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How one schedule is run again."""

    node: str
    """The pytest id of the test."""
    trial_id: str
    """The trial's part of that id."""
    explicit: bool
    """Spell the signal of every kill, because a setting changes what a bare number means."""

    def line(self, schedule: KillSchedule) -> str:
        """The arguments of `pytest` that run this one schedule again."""
        spelled = spell(schedule, explicit=self.explicit)
        if self.node.startswith("--preempt-"):
            return f"{_quoted(without_trial(self.node, self.trial_id))} --preempt-at={spelled}"
        if self.node.endswith(f"[{self.trial_id}]"):
            selected = without_trial(self.node, self.trial_id)
        else:
            selected = str(schedule).join(self.node.rsplit(self.trial_id, 1))
        return f"{_quoted(selected)} --preempt-at={spelled}"


def failure_message(trial: Trial, reproduction: Reproduction) -> str:
    """What a failed check says: the verdict, the elements, how to see it again, where to look."""
    verdict = trial.verdict
    lines = [f"{verdict.outcome.value}: {verdict.reason}", *_elements(verdict)]
    if trial.schedule is not None:
        lines.append(f"  killed:    {kills(trial.schedule)}")
    lines += [f"  note:      {note}" for note in verdict.notes]
    if trial.schedule is not None:
        lines.append(f"  reproduce: pytest {reproduction.line(trial.schedule)}")
    lines.append(f"  files:     {trial.directory}")
    lines += [f"  {tail}".replace("\n", "\n    ") for tail in trial.tails]
    return "\n".join(lines)


def _elements(verdict: Verdict) -> list[str]:
    return [
        f"  #{number} {preview}" for span in verdict.spans for number, preview in enumerate(span.previews, span.first)
    ]


def survey_text(survey: Survey) -> str:
    """Which states were judged and what came of it, on one line."""
    verdict = survey.verdict
    if not survey.states:
        return verdict.reason
    whole = (
        f"{count(survey.elements, 'element')} and {count(survey.operations, 'file operation')} leave "
        f"{count(survey.states, 'state')}"
    )
    judged = "" if survey.judged == survey.states else f", {survey.judged} of them judged here"
    if not verdict.exact:
        bad = f"{len(survey.failures)} not exact ({_outcomes(survey)})"
        return f"{whole}{judged}; {bad}; first {_where(survey.failures[0])}"
    compared = count(verdict.scope.elements_compared, "element")
    return "; ".join((f"{whole}{judged}; each resumed exactly: {compared} compared", *verdict.notes))


def _outcomes(survey: Survey) -> str:
    numbers = Counter(one.verdict.outcome.value for one in survey.failures)
    return ", ".join(f"{name} {number}" for name, number in numbers.most_common())


def _where(one: Judged) -> str:
    return ", then ".join(instant.words for instant in one.instants)


def survey_message(survey: Survey, reproduction: Reproduction) -> str:
    """What a failed `every` says: the first states of each window of failures, and how to see them again."""
    verdict = survey.verdict
    lines = [f"{verdict.outcome.value}: {verdict.reason}"]
    lines += [f"  note:      {note}" for note in verdict.notes]
    if survey.failures:
        lines.append(f"  states:    {survey_text(survey)}")
    found = windows(survey.failures)
    for window in found[:_MOST_WINDOWS]:
        lines += _window(window, reproduction)
    if len(found) > _MOST_WINDOWS:
        rest = sum(map(len, found[_MOST_WINDOWS:]))
        lines.append(f"  ... and {count(rest, 'state')} more in {count(len(found) - _MOST_WINDOWS, 'window')}")
    lines.append(f"  files:     {survey.directory}")
    lines += [f"  {tail}".replace("\n", "\n    ") for tail in survey.tails]
    return "\n".join(lines)


def _window(window: Sequence[Judged], reproduction: Reproduction) -> list[str]:
    first, last = window[0], window[-1]
    lines = [f"  killed:    {_where(first)}"]
    if last is not first:
        lines.append(f"      until: {_where(last)} ({count(len(window), 'state')})")
    lines.append(f"             {first.verdict.outcome.value}: {first.verdict.reason}")
    lines += [f"           {element}" for element in _elements(first.verdict)]
    if first.schedule is not None:
        lines.append(f"  reproduce: pytest {reproduction.line(first.schedule)}")
    lines += [f"    {tail}".replace("\n", "\n      ") for tail in first.tails]
    return lines


def windows(failures: Sequence[Judged]) -> list[list[Judged]]:
    """Failures with the same outcome, of states one after the other as far as this item has them."""
    found: list[list[Judged]] = []
    for one in failures:
        last = found[-1][-1] if found else None
        same = last is not None and last.verdict.outcome is one.verdict.outcome and last.position + 1 == one.position
        if same:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set(" []{}()*?&;|<>$") else word


def count(number: int, noun: str) -> str:
    """`1 element`, `2 elements`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def header(settings: Settings, seed: int) -> str:
    """What is said once when tests that preempt were collected: enough to run them again."""
    source = "" if settings.at.where == "default" else f" ({settings.at.where})"
    return f"preempt: {settings.at.value}{source}, --preempt-seed={seed}"


def to_json(rows: Sequence[Row], notes: Sequence[str], *, passed: bool) -> str:
    """What a report carries; `passed`: whether the test did, which also a trial that is not exact can be meant to."""
    return json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "notes": list(notes), "passed": passed})


def row_of(verdict: Verdict, text: str) -> Row:
    """The row of a verdict."""
    return Row(verdict.outcome.value, text)


def summarise(terminal: Any, reports: Iterable[Any], *, head: str) -> None:
    """Writes the section with one line for each trial, in the order in which they ended."""
    carried = [
        (report.nodeid, json.loads(getattr(report, REPORT_ATTRIBUTE)))
        for report in reports
        if hasattr(report, REPORT_ATTRIBUTE)
    ]
    if not carried:
        return
    terminal.write_sep("=", "preemption")
    terminal.write_line(head)
    for note in dict.fromkeys(note for _, content in carried for note in content["notes"]):
        terminal.write_line(f"note: {note}")
    width = max(len(row["outcome"]) for _, content in carried for row in content["rows"] or [{"outcome": ""}])
    for node, content in carried:
        for row in content["rows"]:
            expected = content["passed"] and row["outcome"] != "exact"
            terminal.write(row["outcome"].ljust(width), green=content["passed"], red=not content["passed"])
            terminal.write_line(f"  {node}: {row['text']}{' (the test expects this)' if expected else ''}")
