"""What a user reads of the smallest schedule."""

from __future__ import annotations

from pathlib import Path
from signal import SIGTERM

import pytest

from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule, Outcome, Verdict
from pytest_pipeline_ckpt.engine.runner import Trial
from pytest_pipeline_ckpt.reporting import Reproduction, failure_message
from pytest_pipeline_ckpt.smaller import Smallest

LIMIT = "--preempt-shrink (10 s)"


def trial(*kills: Kill, reason: str = "elements 0..49 were trained twice", name: str = "trial-0") -> Trial:
    """One that failed."""
    verdict = Verdict(Outcome.RESTARTED, reason, 2, notes=("2 elements trained again after rollbacks (legal replay)",))
    return Trial(verdict, KillSchedule(kills), Path("/base", name))


FAILED = trial(Kill(60), Kill(36))
SMALLER = trial(Kill(11), reason="elements 0..9 were trained twice", name="trial-0-smaller-1")


@pytest.mark.parametrize(
    ("smallest", "line", "at"),
    [
        (
            Smallest(SMALLER, 7, 7, 6.24, complete=True, limit=LIMIT, expected=0.4),
            "killed at element 11: elements 0..9 were trained twice (of 7 schedules tried in 6.2 s)",
            "step:11",
        ),
        (
            Smallest(SMALLER, 7, 2, 0.84, complete=True, limit=LIMIT, expected=0.4),
            "killed at element 11: elements 0..9 were trained twice (of 7 schedules tried in 0.8 s, 5 of them for an "
            "earlier trial)",
            "step:11",
        ),
        (
            Smallest(SMALLER, 7, 0, 0.0, complete=True, limit=LIMIT, expected=0.4),
            "killed at element 11: elements 0..9 were trained twice (of 7 schedules tried, 7 of them for an earlier "
            "trial)",
            "step:11",
        ),
        (
            Smallest(trial(Kill(60, SIGTERM)), 1, 1, 9.96, complete=False, limit=LIMIT, expected=4.0),
            "killed at element 60 (SIGTERM) (of 1 schedule tried in 10.0 s; the search was cut short by "
            "--preempt-shrink (10 s))",
            "step:60@SIGTERM",
        ),
        (
            Smallest(FAILED, 3, 3, 1.25, complete=True, limit=LIMIT, expected=0.4),
            "this one (none of 3 smaller schedules tried in 1.2 s fails in the same way)",
            "step:60,36",
        ),
        (
            Smallest(FAILED, 0, 0, 0.0, complete=False, limit=LIMIT, expected=75.0),
            "not looked for: a trial takes about 75.0 s, too long for --preempt-shrink (10 s)",
            "step:60,36",
        ),
    ],
)
def test_message(smallest: Smallest, line: str, at: str) -> None:
    """The message is about the trial; the smallest schedule has a line of its own, and is the one to reproduce."""
    reproduction = Reproduction("test_input.py::test_resumes[random-0]", "random-0", explicit=False)
    assert failure_message(FAILED, reproduction, smallest=smallest).splitlines() == [
        "restarted: elements 0..49 were trained twice",
        "  killed:    element 60, then 36",
        f"  smallest:  {line}",
        "  note:      2 elements trained again after rollbacks (legal replay)",
        f"  reproduce: pytest test_input.py::test_resumes --preempt-at={at}",
        "  files:     /base/trial-0",
    ]


def test_message_without_a_search() -> None:
    """Where nothing smaller is possible, or was looked for, there is no such line; a replay is said."""
    reproduction = Reproduction("test_input.py::test_resumes[random-0]", "random-0", explicit=True)
    failed = trial(Kill(1))
    nothing = Smallest(failed, 0, 0, 0.0, complete=True, limit=LIMIT, expected=0.4)
    lines = [
        "restarted: elements 0..49 were trained twice",
        "  killed:    element 1",
        "  note:      2 elements trained again after rollbacks (legal replay)",
        "  reproduce: pytest test_input.py::test_resumes --preempt-at=step:1@SIGKILL",
        "  files:     /base/trial-0",
    ]
    assert failure_message(failed, reproduction, smallest=nothing).splitlines() == lines
    lines.insert(3, "  note:      an earlier run failed with this schedule, so it was tried first")
    assert failure_message(failed, reproduction, replayed=True).splitlines() == lines
