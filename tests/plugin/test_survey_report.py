"""What a user reads of `every`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_pipeline_ckpt.engine.crash_states import CrashState
from pytest_pipeline_ckpt.engine.every import Judged, Survey
from pytest_pipeline_ckpt.engine.instants import Instant
from pytest_pipeline_ckpt.engine.model import Kill, Outcome, Scope, Span, Verdict
from pytest_pipeline_ckpt.progress import Count, line
from pytest_pipeline_ckpt.reporting import Reproduction
from pytest_pipeline_ckpt.survey_report import survey_message, survey_text

EXACT = Verdict(Outcome.EXACT, "each of 9 states that a kill can leave resumes exactly", scope=Scope(9, 4, 120))
REPRODUCTION = Reproduction("test_input.py::test_resumes[every]", "every", explicit=False)


def judged(position: int, reason: str, *instants: Instant, outcome: Outcome = Outcome.MISALIGNED) -> Judged:
    """A failure."""
    verdict = Verdict(outcome, reason, 2, (Span("twice", 10, 11, ("7", "8")),) if position == 3 else ())
    return Judged(position, position, instants, verdict, Path("/base/state"), ("life 2 (exit code 1), end: x",))


def instant(words: str, kill: Kill | None) -> Instant:
    """A named one."""
    return Instant(CrashState(0, 0, False, {}, {}, frozenset()), 0, kill, words)


@pytest.mark.parametrize(
    ("survey", "text"),
    [
        (
            Survey(EXACT, elements=100, operations=214, states=9, mine=9, judged=9, sequences=9),
            "100 elements and 214 file operations leave 9 states; each resumed exactly: 120 elements compared",
        ),
        (
            Survey(EXACT, elements=1, operations=1, states=9, mine=5, times=2, judged=5, sequences=17),
            "1 element and 1 file operation leave 9 states, 5 of them judged; each resumed exactly, 17 sequences "
            "of 2 kills: 120 elements compared",
        ),
        (
            Survey(EXACT, elements=100, operations=None, states=9, mine=9, judged=9, sequences=9),
            "100 elements leave 9 states; each resumed exactly: 120 elements compared",
        ),
        (Survey(Verdict(Outcome.UNKNOWN, "the model's step is not known")), "the model's step is not known"),
    ],
)
def test_the_line_of_an_item(survey: Survey, text: str) -> None:
    """How many states there are, how many were judged here, what came of them."""
    assert survey_text(survey) == text


def test_the_message_of_a_failure() -> None:
    """Each kind of failure: where it begins and ends, its elements, how to see one again, what was printed."""
    failures = (
        judged(
            3, "the pipeline resumed 10 elements behind", instant("after element 20, when it had A", Kill(20, op=3))
        ),
        judged(
            4, "the pipeline resumed 10 elements behind", instant("after element 20, when it had B", Kill(20, op=4))
        ),
        judged(
            7, "the pipeline resumed 20 elements behind", instant("after element 30, when it had A", Kill(30, op=3))
        ),
        judged(
            8,
            "life 3 crashed",
            instant("after element 40", None),
            instant("before the first element", Kill(0, op=1)),
            outcome=Outcome.CRASHED,
        ),
    )
    verdict = Verdict(Outcome.MISALIGNED, "4 of 9 states that a kill can leave do not resume exactly", notes=("N",))
    survey = Survey(
        verdict, elements=40, operations=80, states=9, mine=9, judged=9, failures=failures, directory=Path("/base")
    )
    assert survey_message(survey, REPRODUCTION).splitlines() == [
        "misaligned: 4 of 9 states that a kill can leave do not resume exactly",
        "  note:      N",
        "  judged:    40 elements and 80 file operations leave 9 states; 4 not exact (misaligned 3, crashed 1); first "
        "after element 20, when it had A",
        "  misaligned, 3 states in 2 windows: the pipeline resumed 10 elements behind",
        "    #10 7",
        "    #11 8",
        "    from:    after element 20, when it had A",
        "    to:      after element 20, when it had B",
        "    from:    after element 30, when it had A",
        "    reproduce: pytest test_input.py::test_resumes --preempt-at=step:20/op:3",
        "    life 2 (exit code 1), end: x",
        "  crashed, 1 sequence of kills: life 3 crashed",
        "    from:    after element 40, then before the first element",
        "    reproduce: no live kill lands there (within a write, a power loss, the end of the run)",
        "    life 2 (exit code 1), end: x",
        "  files:     /base",
    ]


def test_many_kinds_of_failures() -> None:
    """The first six are shown, the others counted."""
    failures = tuple(judged(n, f"reason {'x' * n}", instant("here", None)) for n in range(10, 18))
    survey = Survey(Verdict(Outcome.MISALIGNED, "8 of 9"), states=9, judged=9, failures=failures)
    said = survey_message(survey, REPRODUCTION)
    assert said.count("misaligned, 1 state: reason") == 6
    assert "  ... and 2 states more that failed in 2 other ways" in said


@pytest.mark.parametrize(
    ("count", "seconds", "text"),
    [
        (Count(124, 310, 0), 20.33, "every 124/310 states, 0 not exact, 6.1/s, 30 s left"),
        (Count(310, 310, 2), 31.0, "every 310/310 states, 2 not exact, 10.0/s, 0 s left"),
        (Count(0, 310, 0), 9.0, "every 0/310 states, 0 not exact"),
    ],
)
def test_progress(count: Count, seconds: float, text: str) -> None:
    """How far, how fast, how long."""
    assert line(count, seconds) == text
