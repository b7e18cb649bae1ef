"""Planted bugs, each from a large random schedule down to the smallest that shows it: real trainings, real kills."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import planted
import pytest
from shrinkable import SHRINKABLE, check_of, search

from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule, Outcome
from pytest_pipeline_ckpt.engine.runner import Engine
from pytest_pipeline_ckpt.engine.shrinking import size
from pytest_pipeline_ckpt.smaller import find_smallest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One for all searches: TensorFlow is imported once."""
    engine = Engine(tmp_path_factory.mktemp("engine"), seed=1, isolation="fork", say=print)
    yield engine
    engine.close()


@pytest.mark.parametrize("name", SHRINKABLE)
def test_the_known_minimum_is_found(engine: Engine, tmp_path: Path, name: str) -> None:
    """From a large random schedule the search comes to the one that is known to be the smallest."""
    found = search(name, engine, tmp_path, seconds=240.0)
    first, smallest = found.failed.schedule, found.smallest.trial.schedule
    assert first is not None
    assert smallest is not None
    assert str(smallest) == SHRINKABLE[name].smallest
    assert size(first) > size(smallest)
    assert found.smallest.complete
    assert found.smallest.trial.verdict.outcome is SHRINKABLE[name].outcome
    assert found.smallest.trial.directory.is_dir()


def hangs_when_resumed_early(model_dir: str) -> None:
    """Restarts its data; a life that resumes at step 10 waits for ever."""
    import threading

    import tensorflow as tf

    model = planted.Model(model_dir)
    if model.at == 10:
        threading.Event().wait()
    iterator = iter(tf.data.Dataset.range(1000))
    while model.at < planted.STEPS:
        next(iterator)
        model.train()


def test_an_attempt_that_hangs_ends_with_the_budget(engine: Engine, tmp_path: Path) -> None:
    """An attempt without progress is ended when the time for the search is up, not at the timeout of a life."""
    check = check_of(hangs_when_resumed_early, engine, tmp_path)
    failed = check.trial("trial-0", lambda _: KillSchedule((Kill(35),)))
    assert failed.verdict.outcome is Outcome.RESTARTED
    smallest = find_smallest(check, failed, {}, seconds=5.0, limit="--preempt-shrink (5 s)")
    assert (smallest.trial, smallest.tried, smallest.complete) == (failed, 1, False)
    assert smallest.seconds < check.conditions.timeout / 2


def test_an_attempt_that_cannot_be_carried_out(engine: Engine, tmp_path: Path) -> None:
    """When the machine fails an attempt, the search ends with what it has, and says why."""
    check = check_of(planted.no_iterator_saved, engine, tmp_path)
    failed = check.trial("trial-0", lambda _: KillSchedule((Kill(35),)))
    occupied = tmp_path / "trial-0-smaller-2"
    occupied.write_text("")
    smallest = find_smallest(check, failed, {}, seconds=120.0, limit="--preempt-shrink (120 s)")
    assert (str(smallest.trial.schedule), smallest.tried, smallest.complete) == ("step:11", 2, False)
    assert smallest.limit == (
        f"an error: {occupied} can't be made: File exists; ledgers and checkpoints are written there - point pytest "
        "elsewhere with --basetemp or TMPDIR"
    )


def test_a_hung_trial_is_shrunk_where_that_is_cheap(engine: Engine, tmp_path: Path) -> None:
    """Each attempt at a training that hangs takes the timeout: none is begun where that is longer than the budget."""
    check = check_of(planted.lock_left_behind, engine, tmp_path)
    check = dataclasses.replace(check, conditions=dataclasses.replace(check.conditions, timeout=3.0))
    failed = check.trial("trial-0", lambda _: KillSchedule((Kill(35),)))
    assert failed.verdict.outcome is Outcome.HUNG
    assert find_smallest(check, failed, {}, seconds=2.0, limit="").tried == 0
    smallest = find_smallest(check, failed, {}, seconds=120.0, limit="")
    assert smallest.trial.schedule == KillSchedule((Kill(1),))
