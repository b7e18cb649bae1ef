"""The files of a checkpoint directory: nothing of others is removed, and an interrupted save can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenarios import outcomes_of

pytestmark = pytest.mark.tensorflow

SCENARIOS = [
    "taking_removes_links_only",
    "a_save_replaces_links",
    "abandon_removes_links_only",
    "prune_removes_links_only",
    "prune_keeps_what_a_model_needs",
    "a_save_lists_the_directory_once",
    "a_directory_of_ours_may_be_a_link",
    "a_file_url_is_local",
    "what_stands_in_the_way_is_said",
    "a_save_with_the_model_may_be_interrupted_at_each_line",
    "a_save_beside_the_model_may_be_interrupted_at_each_line",
]


@pytest.fixture(scope="session")
def outcomes() -> dict[str, str]:
    """What was wrong in each scenario."""
    return outcomes_of(Path(__file__).with_name("store_scenarios.py"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_store(outcomes: dict[str, str], name: str) -> None:
    """Each scenario does what its name says."""
    assert outcomes[name] == ""


def test_all_scenarios_are_tested(outcomes: dict[str, str]) -> None:
    """None is forgotten in the list above."""
    assert list(outcomes) == SCENARIOS
