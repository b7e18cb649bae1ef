"""The summary for GitHub Actions: what failed, and how to see it again, as Markdown. Pure but for `append`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ..reporting import count
from .document import bad, expected, judgements

if TYPE_CHECKING:
    from pathlib import Path

    from .document import Report
    from .records import Judgement

MOST_BYTES = 1 << 20
"""Of the file: GitHub refuses a step's whole summary beyond 1 MiB."""
_MOST_ROWS = 100
_MOST_CHARACTERS = 600
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>()#|&~$!@]|(?<=:)//|(?<=www)\.")


def escaped(text: str, *, most: int = _MOST_CHARACTERS) -> str:
    """Text as GitHub's Markdown shows it literally, in a table too, on one line; cut when it is too long."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return _SPECIAL.sub(lambda found: "".join(f"&#{ord(one)};" for one in found[0]), line)


def summary(report: Report, *, most_bytes: int) -> str:
    """The Markdown of a report, in at most so many bytes; empty when there is no room, or nothing to say."""
    judged = judgements(report)
    if not judged and not report["not_judged"]:
        return ""
    failures = [one for one in judged if bad(one)]
    for shown in range(min(len(failures), _MOST_ROWS), -1, -1):
        text = _text(report, failures, shown)
        if len(text.encode()) <= most_bytes:
            return text
    return ""


def append(report: Report, path: Path) -> None:
    """Appends the summary to a file; raises OSError."""
    with path.open("ab") as file:
        text = summary(report, most_bytes=MOST_BYTES - file.tell())
        file.write(text.encode())


def _text(report: Report, failures: list[Judgement], shown: int) -> str:
    lines = ["", "### Preemption", "", _headline(report), ""]
    if failures[:shown]:
        lines += ["| test | verdict | what went wrong | to see it again |", "|---|---|---|---|"]
        lines += map(_row, failures[:shown])
    if len(failures) > shown:
        lines += ["", f"… and {count(len(failures) - shown, 'more failure')}."]
    good = Counter(one["test"] for one in judgements(report) if one["outcome"] == "exact")
    asked = Counter(one["test"] for one in judgements(report) if expected(one))
    tests = sorted({*good, *asked})
    if tests and len(tests) <= _MOST_ROWS:
        lines += ["", "| test | resumed exactly | not exact, as the test expects |", "|---|---:|---:|"]
        lines += [f"| {_code(test)} | {good[test]} | {asked[test]} |" for test in tests]
    for kind, words in (("error", "could not be carried out"), ("skipped", "not started")):
        left = [one for one in report["not_judged"] if one["kind"] == kind]
        if left:
            lines += ["", f"{len(left)} {words}: {escaped(left[0]['why'])}"]
    return "\n".join(lines) + "\n"


def _headline(report: Report) -> str:
    counts = report["counts"]
    words = [f"{count(counts['failed'], 'failure')}"] if counts["failed"] else []
    words += [f"{counts['exact']} resumed exactly"]
    words += [f"{counts['expected']} not exact, as their tests expect"] if counts["expected"] else []
    stopped = " The run was interrupted: this is what was known by then." if report["interrupted"] else ""
    symbol = "❌" if counts["failed"] else "✅" if counts["exact"] + counts["expected"] else "⚠️"
    return f"{symbol} {', '.join(words)} (`--preempt-seed={report['seed']}`).{stopped}"


def _row(one: Judgement) -> str:
    if one["kind"] == "survey":
        again = next((failure["reproduce"] for failure in one["failures"] if failure["reproduce"]), None)
    else:
        again = one["measured"]["smallest"] or one["reproduce"]
    reason = escaped(one["reason"])
    if one["measured"]["diagnosis"]:
        reason += f"<br>{escaped(' '.join(one['measured']['diagnosis']))}"
    return f"| {_code(one['id'])} | {one['outcome']} | {reason} | {_code(again) if again else ''} |"


def _code(text: str) -> str:
    return f"<code>{escaped(text)}</code>"


__all__ = ["MOST_BYTES", "append", "escaped", "summary"]
