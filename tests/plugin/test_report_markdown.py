"""The summary for GitHub Actions."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import LOST, RESTARTED, a_report, a_survey, a_trial

from pytest_pipeline_ckpt.report.markdown import MOST_BYTES, append, escaped, summary

if TYPE_CHECKING:
    from pathlib import Path


def test_failures_and_counts() -> None:
    """A failure is a row with its reason and its command; the good ones are counted."""
    asked = a_trial(LOST, test="test_a.py::test_asks")
    asked["passed"] = True
    left = [{"id": "test_c", "kind": "skipped", "why": "--preempt-budget: 5 s are used up"}]
    report = a_report([a_trial(), a_trial(RESTARTED, number=1), asked, a_survey()], left)  # type: ignore[arg-type]
    assert summary(report, most_bytes=MOST_BYTES).splitlines() == [
        "",
        "### Preemption",
        "",
        "❌ 1 failure, 2 resumed exactly, 1 not exact, as their tests expect (`--preempt-seed=7`).",
        "",
        "| test | verdict | what went wrong | to see it again |",
        "|---|---|---|---|",
        "| <code>test&#95;a.py::test&#95;a&#91;random-1&#93;</code> | restarted | elements 0..9 were trained twice: "
        "life 2 restarted the pipeline at element 0, and the model had resumed at step 10, element 10 | <code>pytest "
        "test&#95;a.py::test&#95;a --preempt-at=step:13</code> |",
        "",
        "| test | resumed exactly | not exact, as the test expects |",
        "|---|---:|---:|",
        "| <code>test&#95;a.py::test&#95;a</code> | 1 | 0 |",
        "| <code>test&#95;a.py::test&#95;asks</code> | 0 | 1 |",
        "| <code>test&#95;b.py::test&#95;b</code> | 1 | 0 |",
        "",
        "1 not started: --preempt-budget: 5 s are used up",
    ]


def test_a_smaller_schedule_and_a_diagnosis() -> None:
    """What another part of the plugin found out is said where the failure is."""
    record = a_trial(RESTARTED)
    measured = record["measured"]
    measured["smallest"] = "pytest x --preempt-at=step:11"
    measured["diagnosis"] = ["The iterator", "is in no checkpoint."]
    text = summary(a_report([record]), most_bytes=MOST_BYTES)
    assert "<code>pytest x --preempt-at=step:11</code>" in text
    assert "element 10<br>The iterator is in no checkpoint. |" in text
    assert "step:13" not in text


def test_interrupted() -> None:
    """A run that was interrupted says so."""
    text = summary(a_report([a_trial()], interrupted=True), most_bytes=MOST_BYTES)
    assert "✅ 1 resumed exactly (`--preempt-seed=7`). The run was interrupted: this is what was known by then." in text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=100))
def test_text_stays_text(text: str) -> None:
    """Nothing is left that Markdown or a table would take for a sign, and what is shown is what was given."""
    made = escaped(text)
    assert not set("\\`*_{}[]<>()|~$!@") & set(made)
    assert not re.search(r"&(?!#\d+;)|://|www\.|\n", made)
    assert html.unescape(made) == " ".join(text.split()) or re.search(r"[\x7f-\x9f]", text)


def test_long_text_is_cut() -> None:
    """A reason of a megabyte does not fill the file."""
    assert escaped("x" * 1000, most=10) == "xxxxxxxxx…"


@pytest.mark.parametrize("room", [0, 40, 300, 2000, 10_000])
def test_there_is_never_more_than_there_is_room(room: int) -> None:
    """As many failures are shown as there is room for; the others are counted."""
    report = a_report([a_trial(RESTARTED, number=number) for number in range(50)])
    text = summary(report, most_bytes=room)
    assert len(text.encode()) <= room
    shown = text.count("| restarted |")
    if text:
        assert f"… and {50 - shown} more failures." in text
        longer = len(text.encode()) + 2 * len(text.encode()) // max(1, shown)
        assert shown == 50 or longer > room or shown == 0


def test_the_file_stays_below_the_limit(tmp_path: Path) -> None:
    """The step's own text is kept, and the file never grows beyond 1 MiB."""
    report = a_report([a_trial(RESTARTED, number=number) for number in range(3)])
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (MOST_BYTES - 1000))
    append(report, path)
    assert MOST_BYTES - 1000 < path.stat().st_size <= MOST_BYTES
    append(report, path)
    append(report, path)
    assert path.stat().st_size <= MOST_BYTES


def test_nothing_to_say() -> None:
    """A run without any trial adds nothing."""
    assert summary(a_report([]), most_bytes=MOST_BYTES) == ""
