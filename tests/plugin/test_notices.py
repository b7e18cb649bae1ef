"""Signals that announce the end: wherever one comes, what is left can be resumed, and what was made of it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trainings

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
NOTICES = ("step:25@SIGTERM", "step:20/op:3@SIGTERM", "step:25@SIGTERM@SIGTERM", "step:0@SIGTERM", "step:25,0@SIGTERM")


@pytest.mark.parametrize("at", NOTICES)
@pytest.mark.preempt(trials=1)
def test_notices(preemption: Preemption, at: str) -> None:
    """At an element, inside a save, twice, and while the first graph is traced: each leaves what can be resumed."""
    verdict = preemption.check_training(trainings.tf_function_loop, at=at)
    assert verdict.scope.kills_landed == at.count(",") + 1
    assert any("did not use the notice" in note for note in verdict.notes)


@pytest.mark.preempt(trials=1)
def test_a_notice_that_is_saved_on(preemption: Preemption) -> None:
    """A training that saves when it is told leaves nothing to say, also when it is told twice."""
    for at in ("step:25@SIGTERM", "step:25@SIGTERM@SIGTERM"):
        verdict = preemption.check_training(trainings.saves_on_notice, at=at)
        assert not any("notice" in note for note in verdict.notes), verdict.notes
        assert verdict.scope.elements_replayed == 0


@pytest.mark.preempt(trials=1, grace=2)
def test_a_notice_that_is_ignored(preemption: Preemption) -> None:
    """It was killed when the grace was up: the verdict says that nothing was saved for it."""
    verdict = preemption.check_training(trainings.ignores_notices, at="step:25@SIGTERM")
    assert "notice ignored: no checkpoint was written within 2.0 s" in verdict.notes
