"""What all tests share."""

from __future__ import annotations

import importlib.util

import pytest

pytest_plugins = ["pytester"]

# The tests of the hook run where only the hook and pytest are installed.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    # The same examples in every run, and no deadline: the machines of CI stall.
    settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
    settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what starts TensorFlow where it is not installed."""
    if importlib.util.find_spec("tensorflow") is not None:
        return
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.get_closest_marker("tensorflow") or "preemption" in fixtures or "training_process" in fixtures:
            item.add_marker(pytest.mark.skip(reason="TensorFlow is not installed"))
