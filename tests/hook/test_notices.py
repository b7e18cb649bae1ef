"""Notices of preemption: who notices what, what is brought back, and that a session loses no step by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scenarios import outcomes_of

if TYPE_CHECKING:
    from tests.hook.conftest import Training

pytestmark = pytest.mark.tensorflow

SCENARIOS = [
    "a_signal_is_a_flag",
    "an_exit_code_can_be_chosen",
    "a_second_signal_changes_nothing",
    "the_users_handler_comes_after_the_save",
    "what_the_users_handler_raises_wins",
    "nobody_acted_on_it_so_it_is_delivered_again",
    "a_training_that_is_gone_does_not_swallow_it",
    "an_ignored_signal_stays_ignored",
    "who_came_after_us_has_the_say",
    "another_thread_handles_no_signals",
    "a_file_is_a_notice",
    "an_url_is_a_notice",
    "an_url_that_nobody_answers_is_none",
    "a_broken_answer_is_none_and_ends_nothing",
    "an_answer_that_drips_is_cut",
    "a_callable_that_raises_is_none",
    "a_forked_child_is_ended_by_the_signal",
    "a_forked_child_has_the_users_handler",
    "what_has_come_is_not_the_childs",
    "a_child_may_train_by_itself",
    "children_of_all_kinds_end",
    "wrong_values_are_refused",
]


@pytest.fixture(scope="session")
def outcomes() -> dict[str, str]:
    """What was wrong in each scenario."""
    return outcomes_of(Path(__file__).with_name("notice_scenarios.py"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_notices(outcomes: dict[str, str], name: str) -> None:
    """Each scenario does what its name says."""
    assert outcomes[name] == ""


def test_all_scenarios_are_tested(outcomes: dict[str, str]) -> None:
    """None is forgotten in the list above."""
    assert list(outcomes) == SCENARIOS


def test_session(training: Training, reference: Training) -> None:
    """All hooks save at the step of the notice, and the next life replays none."""
    whole = reference.live()
    noticed = training.live(notice=13)
    assert (noticed.status, max(noticed.elements)) == (143, 13)
    assert "SIGTERM: stopping after this step; the training's loop must ask session.should_stop()" in noticed.log
    assert training.committed()[-1] == 13
    resumed = training.live()
    assert (resumed.status, min(resumed.elements)) == (0, 14)
    assert {**noticed.elements, **resumed.elements} == whole.elements


def test_session_with_notices_of_its_own(training: Training) -> None:
    """`notices=()` leaves the signal alone: it ends the process."""
    assert training.live(notice=13, hook={"notices": []}).status == -15
