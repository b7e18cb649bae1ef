"""Verdict -> words: the line of a trial, the message of a failure, the section at the end. Pure but for `summarise`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine.plan import spell
from .state import without_trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .engine.diagnosis import Diagnosis
    from .engine.model import Kill, KillSchedule, Verdict
    from .engine.runner import Trial
    from .options import Settings
    from .smaller import Smallest

REPORT_ATTRIBUTE = "preempt"
"""Of a `TestReport`: a JSON string, what crosses from an xdist worker to the controller."""
NOT_JUDGED = "preempt_not_judged"
"""Likewise, of an item that came to no verdict: why not."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the end of the run says of one trial."""

    outcome: str
    text: str
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What `--preempt-report` says of it; see `report.records`."""


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
    """`element 40, then 3 (SIGTERM)`, `element 40, then file operation 3 of the life`: counted in each life."""
    words = ", then ".join(map(_kill, schedule.kills))
    at_elements = all(kill.op is None and kill.element for kill in schedule.kills)
    return words.replace(", then element ", ", then ") if at_elements else words


def _kill(kill: Kill) -> str:
    signals = [signal.name for signal in (kill.signal, kill.again) if signal is not None]
    announced = "" if signals == ["SIGKILL"] else f" ({', again '.join(signals)})"
    if kill.op is None:
        where = f"element {kill.element}" if kill.element else "the first request for an element"
    else:
        behind = f"after element {kill.element}" if kill.element else "of the life"
        where = f"file operation {kill.op} {behind}"
    if kill.workers:
        where += f" of worker {kill.counts}"
    if len(kill.workers) > 1:
        others = list(map(str, kill.workers[1:]))
        where += f", with {'worker' if len(others) == 1 else 'workers'} {' and '.join(others)}"
    return where + announced


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How one schedule is run again."""

    node: str
    """The pytest id of the test."""
    trial_id: str
    """The trial's part of that id."""
    explicit: bool
    """Spell the signal of every kill, because a setting changes what a bare number means."""
    others: str = ""
    """Options that the schedule needs, each with a space before it."""

    def line(self, schedule: KillSchedule) -> str:
        """The arguments of `pytest` that run this one schedule again."""
        spelled = spell(schedule, explicit=self.explicit)
        if self.node.startswith("--preempt-"):
            return f"{_quoted(without_trial(self.node, self.trial_id))} --preempt-at={spelled}{self.others}"
        if self.node.endswith(f"[{self.trial_id}]"):
            selected = without_trial(self.node, self.trial_id)
        else:
            selected = str(schedule).join(self.node.rsplit(self.trial_id, 1))
        return f"{_quoted(selected)} --preempt-at={spelled}{self.others}"


def failure_message(
    trial: Trial,
    reproduction: Reproduction,
    *,
    smallest: Smallest | None = None,
    replayed: bool = False,
    diagnosis: Diagnosis | None = None,
) -> str:
    """What a failed check says: the verdict, the elements, where it comes from, how to see it again, where to look.

    All of it is about the trial as it was carried out, so that it fits the verdict and the line at the end of the run.
    Only `smallest:` and `reproduce:` are about the smallest schedule, with the reason that its verdict has.

    Args:
        trial: the trial that failed.
        reproduction: how it is run again.
        smallest: the smallest schedule that fails in the same way, if that was looked for.
        replayed: whether its schedule failed in an earlier run.
        diagnosis: where it comes from.
    """
    verdict = trial.verdict
    lines = [f"{verdict.outcome.value}: {verdict.reason}", *elements(verdict)]
    if diagnosis is not None:
        lines += diagnosis.lines()
    if trial.schedule is not None:
        lines.append(f"  killed:    {kills(trial.schedule)}")
    if smallest is not None and (smallest.tried or not smallest.complete):
        lines.append(f"  smallest:  {smallest_text(trial, smallest)}")
    lines += [f"  note:      {note}" for note in verdict.notes]
    if replayed:
        lines.append("  note:      an earlier run failed with this schedule, so it was tried first")
    schedule = trial.schedule if smallest is None else smallest.trial.schedule
    if schedule is not None:
        lines.append(f"  reproduce: pytest {reproduction.line(schedule)}")
    lines.append(f"  files:     {trial.directory}")
    lines += [f"  {tail}".replace("\n", "\n    ") for tail in trial.tails]
    return "\n".join(lines)


def smallest_text(trial: Trial, smallest: Smallest) -> str:
    """What the search for a smaller schedule came to, on one line."""
    if not smallest.tried:
        return f"not looked for: a trial takes about {smallest.expected:.1f} s, too long for {smallest.limit}"
    earlier = smallest.tried - smallest.now
    effort = "tried"
    effort += f" in {smallest.seconds:.1f} s" if smallest.now else ""
    effort += f", {earlier} of them for an earlier trial" if earlier else ""
    cut_short = "" if smallest.complete else f"; the search was cut short by {smallest.limit}"
    if smallest.trial is trial:
        smaller = count(smallest.tried, "smaller schedule")
        return f"this one (none of {smaller} {effort} fails in the same way{cut_short})"
    assert smallest.trial.schedule is not None
    reason = smallest.trial.verdict.reason
    because = "" if reason == trial.verdict.reason else f": {reason}"
    tried = count(smallest.tried, "schedule")
    return f"killed at {kills(smallest.trial.schedule)}{because} (of {tried} {effort}{cut_short})"


def elements(verdict: Verdict) -> list[str]:
    """The elements that went wrong, one a line; `...` stands for the rest of a range."""
    mixed = len({span.what for span in verdict.spans}) > 1
    lines = []
    for span in verdict.spans:
        fate = f" {span.what}:" if mixed else ""
        lines += [f"  #{number}{fate} {preview}" for number, preview in enumerate(span.previews, span.first)]
        if 0 < len(span.previews) <= span.last - span.first:
            lines.append("  ...")
    return lines


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


def not_judged(report: Any, call: Any) -> str:
    """What the report of an item carries that came to no verdict: why, as JSON."""
    skipped = report.skipped and isinstance(report.longrepr, tuple)
    why = report.longrepr[2].removeprefix("Skipped: ") if skipped else str(call.excinfo.value)
    return json.dumps({"id": report.nodeid, "kind": "skipped" if report.skipped else "error", "why": why})


def row_of(verdict: Verdict, text: str, record: Mapping[str, Any]) -> Row:
    """The row of a verdict."""
    return Row(verdict.outcome.value, text, record)


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
