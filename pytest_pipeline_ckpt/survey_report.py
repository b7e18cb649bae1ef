"""What `every` found -> words: the line of an item, the message of a failure. Pure."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

from .reporting import Reproduction, count, elements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engine.diagnosis import Diagnosis
    from .engine.every import Judged, Survey

_MOST_GROUPS = 6
_MOST_WINDOWS = 2


def survey_text(survey: Survey) -> str:
    """Which states were judged and what came of it, on one line."""
    verdict = survey.verdict
    if not survey.states:
        return verdict.reason
    operations = "" if survey.operations is None else f" and {count(survey.operations, 'file operation')}"
    whole = f"{count(survey.elements, 'element')}{operations} leave {count(survey.states, 'state')}"
    judged = "" if survey.judged == survey.states else f", {survey.judged} of them judged"
    if not verdict.exact and not survey.failures:
        return f"{whole}{judged}; {verdict.reason}"
    if not verdict.exact:
        what = "" if survey.times == 1 else f"{'sequence' if len(survey.failures) == 1 else 'sequences'} of kills "
        bad = f"{len(survey.failures)} {what}not exact ({outcomes(survey.failures)})"
        return f"{whole}{judged}; {bad}; first {survey.failures[0].words}"
    again = "" if survey.times == 1 else f", {count(survey.sequences, 'sequence')} of {survey.times} kills"
    compared = count(verdict.scope.elements_compared, "element")
    return "; ".join((f"{whole}{judged}; each resumed exactly{again}: {compared} compared", *verdict.notes))


def outcomes(failures: Sequence[Judged]) -> str:
    """`crashed 104, restarted 21`."""
    numbers = Counter(one.verdict.outcome.value for one in failures)
    return ", ".join(f"{name} {number}" for name, number in numbers.most_common())


def told_groups(survey: Survey) -> list[list[Judged]]:
    """The kinds of failure that are told one by one."""
    return groups(survey.failures)[:_MOST_GROUPS]


def survey_message(survey: Survey, reproduction: Reproduction, diagnoses: Sequence[Diagnosis | None] = ()) -> str:
    """What a failed `every` says: each kind of failure with its first states, and how to see one again.

    Args:
        survey: what was found.
        reproduction: how a schedule is run again.
        diagnoses: of each of `told_groups`; one where the recorded run itself failed.
    """
    verdict = survey.verdict
    lines = [f"{verdict.outcome.value}: {verdict.reason}"]
    lines += [f"  note:      {note}" for note in verdict.notes]
    if survey.failures:
        lines.append(f"  judged:    {survey_text(survey)}")
    elif diagnoses and diagnoses[0] is not None:
        lines += diagnoses[0].lines()
    found = groups(survey.failures)
    for group, diagnosis in itertools.zip_longest(told_groups(survey), diagnoses if survey.failures else ()):
        lines += _group(group, reproduction, diagnosis)
    if len(found) > _MOST_GROUPS:
        rest = sum(len(group) for group in found[_MOST_GROUPS:])
        lines.append(f"  ... and {count(rest, 'state')} more that failed in {len(found) - _MOST_GROUPS} other ways")
    lines.append(f"  files:     {survey.directory}")
    lines += [f"  {tail}".replace("\n", "\n    ") for tail in survey.tails]
    return "\n".join(lines)


def groups(failures: Sequence[Judged]) -> list[list[Judged]]:
    """Failures of one kind: the same outcome and, but for its numbers, the same reason."""
    found: dict[tuple[str, str], list[Judged]] = {}
    for one in failures:
        found.setdefault(kind_of(one.verdict.outcome.value, one.verdict.reason), []).append(one)
    return list(found.values())


def kind_of(outcome: str, reason: str) -> tuple[str, str]:
    """What failures of one kind have in common."""
    return outcome, re.sub(r"[0-9]+", "0", reason)


def windows(group: Sequence[Judged]) -> list[list[Judged]]:
    """States one after the other, as far as this item has them."""
    found: list[list[Judged]] = []
    for one in group:
        if found and one.position - found[-1][-1].position <= 1:
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _group(group: Sequence[Judged], reproduction: Reproduction, diagnosis: Diagnosis | None) -> list[str]:
    found = windows(group)
    first = found[0][0]
    number = count(len(group), "state") if len(first.instants) == 1 else f"{count(len(group), 'sequence')} of kills"
    number += f" in {len(found)} windows" if len(found) > 1 else ""
    lines = [f"  {first.verdict.outcome.value}, {number}: {first.verdict.reason}"]
    lines += [f"  {element}" for element in elements(first.verdict)]
    lines += [] if diagnosis is None else [f"  {line}" for line in diagnosis.lines()]
    for window in found[:_MOST_WINDOWS]:
        lines.append(f"    from:    {window[0].words}")
        if len(window) > 1:
            lines.append(f"    to:      {window[-1].words}")
    if len(found) > _MOST_WINDOWS:
        lines.append(f"    ... and {count(len(found) - _MOST_WINDOWS, 'more window')}")
    schedule = next((one.schedule for one in group if one.schedule is not None), None)
    if schedule is not None:
        lines.append(f"    reproduce: pytest {reproduction.line(schedule)}")
    else:
        lines.append("    reproduce: no live kill lands there (within a write, a power loss, the end of the run)")
    lines += [f"    {tail}".replace("\n", "\n      ") for tail in first.tails]
    return lines
