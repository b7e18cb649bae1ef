"""`every`: what a resumed life finds is what the kill left, wherever its files lead and whatever they are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import placed
import pytest
from unsafe import failure

from pytest_pipeline_ckpt import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.fixtures import Preemption

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.preempt(trials=1)]  # one item, all states


@pytest.mark.parametrize("train", [placed.names_what_comes, placed.names_what_comes_absolutely])
def test_paths_in_text_do_not_lead_to_the_recorded_run(preemption: Preemption, train: Callable[[str], None]) -> None:
    """Relative or absolute: what the named file lacks after a kill, a resumed life lacks too."""
    outcome, message = failure(preemption, train, at="every")
    assert outcome is Outcome.CRASHED
    assert re.search(r"(\d+) not exact \(crashed \1\)", message)
    files = re.search(r"^  files: +(.*)$", message, re.MULTILINE)
    assert files is not None
    assert not (Path(files[1]) / "recorded-run").exists()
    assert (Path(files[1]) / "recorded-left/model/position-20").read_text() == "20"


def test_a_path_that_nobody_finds(preemption: Preemption) -> None:
    """Lives that resume elsewhere fail; those at the recorded place do not, and they count."""
    verdict = preemption.check_training(placed.packs_its_path, at="every")
    assert verdict.scope.kills_landed > 6
    assert not any("saved nothing" in note for note in verdict.notes)


def test_a_name_like_one_of_tensorflows(preemption: Preemption) -> None:
    """Half a `state_temp` is a state, because a resume reads it."""
    outcome, message = failure(preemption, placed.reads_a_temporary_name, at="every")
    assert outcome is Outcome.CRASHED
    assert "when it had made state_temp: life 2 crashed" in message


def test_a_file_that_mknod_made(preemption: Preemption) -> None:
    """It is recorded, and what it makes of a resume is found; the printed schedule shows the same live."""
    outcome, message = failure(preemption, placed.marks_by_mknod, at="every")
    assert outcome is Outcome.RESTARTED
    schedule = re.search(r"--preempt-at=(\S+)", message)
    assert schedule is not None
    assert failure(preemption, placed.marks_by_mknod, at=schedule[1])[0] is Outcome.RESTARTED


@pytest.mark.parametrize("at", ["step:15", "step:22,3", "every:6"])
def test_a_file_called_checkpoint_that_is_another_librarys(preemption: Preemption, at: str) -> None:
    """It is no text, and disturbs neither the step on disk nor the weights that are compared."""
    preemption.check_training(placed.has_a_file_called_checkpoint, at=at, compare_weights=True)


def test_checkpoints_that_are_elsewhere(preemption: Preemption) -> None:
    """Nothing is claimed: each life would find what the recorded run has left there."""
    outcome, message = failure(preemption, placed.saves_elsewhere, at="every")
    assert outcome is Outcome.UNKNOWN
    assert re.search(r"checkpoints were saved that are not below the checkpoint directory \(/.*/elsewhere\): ", message)
