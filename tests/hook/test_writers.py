"""Two processes that write into one directory: none goes on from, or misses, anything because of the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from forked import without_incarnations
from scenarios import outcomes_of

if TYPE_CHECKING:
    from tests.hook.conftest import Training

pytestmark = pytest.mark.tensorflow

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
SCENARIOS = [
    "every_way_to_stop_two_writers_that_begin",
    "every_way_to_stop_two_writers_that_go_on",
    "who_is_superseded_is_told_so",
    "the_same_step_is_saved_twice",
    "a_second_resume_in_a_process_goes_on",
    "a_start_that_was_deleted_meanwhile",
    "a_start_that_is_held_cannot_be_deleted",
    "a_loss_that_is_no_number_can_be_gone_on_from",
    "of_two_that_begin_at_once_one_goes_on",
    "without_hard_links",
    "format_1_is_gone_on_from",
    "who_begins_anew_has_nothing_before",
    "what_tensorflows_hook_has_left_is_linked",
    "each_worker_has_its_own_token",
    "the_head_tidies_up",
    "an_emptied_directory_is_written_to_again",
    "a_damaged_token_is_refused",
]
FAULTS = [
    "what_nobody_says_of_whether_it_counts_is_not_begun_over",
    "a_link_that_was_made_and_failed",
    "a_start_whose_token_may_be_there_keeps_what_it_goes_on_from",
    "a_start_without_a_token_drops_what_it_held",
    "a_token_that_cannot_be_read_is_nobody_elses",
    "a_save_that_fails_behind_its_pair_leaves_nothing",
    "without_tokens_a_superseded_process_stays_so",
]


@pytest.fixture(scope="session")
def outcomes() -> dict[str, str]:
    """What was wrong in each scenario."""
    return outcomes_of(HERE / "writer_scenarios.py")


@pytest.fixture(scope="session")
def faults() -> dict[str, str]:
    """What was wrong in each scenario with a fault."""
    return outcomes_of(HERE / "fault_scenarios.py")


@pytest.mark.parametrize("name", FAULTS)
def test_faults(faults: dict[str, str], name: str) -> None:
    """Each scenario does what its name says."""
    assert faults[name] == ""


@pytest.mark.parametrize("name", SCENARIOS)
def test_writers(outcomes: dict[str, str], name: str) -> None:
    """Each scenario does what its name says."""
    assert outcomes[name] == ""


def test_all_scenarios_are_tested(outcomes: dict[str, str], faults: dict[str, str]) -> None:
    """None is forgotten in the lists above."""
    assert (list(outcomes), list(faults)) == (SCENARIOS, FAULTS)


def test_processes_that_wake_up() -> None:
    """Really stopped, woken while their successor trains, and killed: each later life goes on exactly."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(SUPPORT / "rivals.py"), "4", "1"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["wrong"] == []
    assert answer["superseded"] > 0


def test_format_1_of_the_hook(training: Training, reference: Training) -> None:
    """A directory of the first format (`format1/hook`: killed at step 25) is gone on from, twice."""
    shutil.copytree(HERE / "format1" / "hook", training.model_dir)
    expected = reference.live(hook=None).elements
    lives = [training.live(kill="after:31"), training.live()]
    assert [min(life.elements) for life in lives] == [21, 31]
    for life in lives:
        assert life.elements == {step: expected[step] for step in life.elements}
    assert training.committed() == [10, 20, 30, 40]
    assert {name for name in training.files("*.commit") if without_incarnations(name) == name} == {
        "input.ckpt-10.commit"
    }


def test_format_1_of_a_loop(loop: Training, loop_reference: Training) -> None:
    """So is one that holds the model (`format1/loop`: killed at step 13)."""
    shutil.copytree(HERE / "format1" / "loop", loop.model_dir)
    whole = loop_reference.live()
    killed, last = loop.live(kill=17), loop.live()
    assert [min(life.elements) for life in (killed, last)] == [11, 16]
    for life in (killed, last):
        assert life.elements == {step: whole.elements[step] for step in life.elements}
    assert last.end == whole.end


def test_older_hook_checkpoints_are_kept_for_older_models(training: Training) -> None:
    """A model that is rolled back behind the start of this life finds what an earlier one has saved for it."""
    training.live(kill="after:25")
    training.live(kill="after:35")
    (training.model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-10"\n')
    life = training.live()
    assert min(life.elements) == 11
    assert "resumed input.ckpt-10, and 0 steps forward to global_step 10" in life.log
    assert training.committed() == [0, 10, 20, 30, 40]
