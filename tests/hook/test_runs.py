"""Which runs of a session make a step, as the steps tell that are read: no session."""

from __future__ import annotations

import pytest
from pipeline_ckpt.runs import RunsOfSteps

RUNS = 60


def between(steps: list[int], *, reads_before: bool = False) -> list[bool]:
    """Whether each of some runs, behind which the model is at these steps, is seen to end between two steps."""
    runs = RunsOfSteps()
    runs.begin(0)
    found, before = [], 0
    for number, step in enumerate(steps):
        runs.begin_run(None)
        seen = steps[number - 1] if reads_before and number else 0 if reads_before else step
        runs.saw(seen, before=before)
        before = seen
        if runs.wants_step:
            runs.end_run(step)
        found.append(runs.is_between_steps(step))
    return found


@pytest.mark.parametrize("reads_before", [True, False])
def test_each_run_is_a_step(reads_before: bool) -> None:
    """All runs end between two steps."""
    assert all(between(list(range(1, RUNS)), reads_before=reads_before))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("reads_before", [True, False])
def test_steps_of_several_runs(size: int, reads_before: bool) -> None:
    """Only the last run of each step does."""
    steps = [number // size for number in range(1, RUNS)]
    assert between(steps, reads_before=reads_before) == [number % size == 0 for number in range(1, RUNS)]


def test_the_step_is_not_read_forever() -> None:
    """Where each run makes a step, it is read after the first runs only."""
    runs = RunsOfSteps()
    runs.begin(0)
    wanted = []
    for step in range(1, RUNS):
        runs.begin_run(None)
        runs.saw(step, before=step - 1)
        wanted.append(runs.wants_step)
        if runs.wants_step:
            runs.end_run(step)
    assert wanted == [True] * 16 + [False] * (RUNS - 17)


def test_runs_that_come_to_be_several() -> None:
    """Later on a step of two runs is seen by the second run that reads the same step."""
    steps = [*range(1, 31), 30, 31, 31, 32, 32, 33]
    assert between(steps)[-5:] == [True, False, True, False, True]


def test_a_save_that_is_due() -> None:
    """Whoever has read the step before a run knows whether it has made one, however many single runs there were."""
    runs = RunsOfSteps()
    runs.begin(0)
    for step in range(1, RUNS):
        runs.begin_run(None)
        runs.saw(step, before=step - 1)
        runs.end_run(step)
    assert (runs.is_between_steps(step), runs.is_between_steps(step, surely=True)) == (True, False)
    found = []
    for behind in (step, step + 1):
        runs.begin_run(step)
        runs.saw(behind, before=step - 1)
        found.append(runs.is_between_steps(behind, surely=True))
    assert found == [False, True]
