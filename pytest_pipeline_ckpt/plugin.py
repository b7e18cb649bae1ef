"""The pytest hooks. Imported by every pytest run, so it leaves early and imports the rest only where it is used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from . import options
from .errors import PreemptUsageError
from .fixtures import parametrise, preemption, training_process
from .memory import INPUT_KEY, carry
from .state import ROWS, SEED_KEY, STATE, State, state_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_SHARD = re.compile(r"[\[-]every(:[0-9]+)?-[0-9]+of[0-9]+\]$")
"""How the id of an item ends that has its share of every instant."""
_FIXTURES = frozenset(("preemption", "training_process"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Registers `--preempt-...` and the ini keys."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker; refuses settings that can't be used before anything is collected."""
    config.addinivalue_line("markers", options.MARKER_LINE)
    if options.mentioned(config):
        from .items import take_over_arguments

        try:
            settings = options.resolve(config)
            take_over_arguments(config, settings)
        except PreemptUsageError as error:
            raise pytest.UsageError(str(error)) from None
        if settings.report.value:
            _collect(config, settings.report.value)


def _collect(config: pytest.Config, files: Iterable[str] = ()) -> None:
    """Collects what the trials come to, for the reports."""
    from .report.collector import collect

    collect(config, tuple(files))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hands the seed and what failed before to an xdist worker, and shows how far the workers are with `every`."""
    state = state_of(node.config)
    node.workerinput[SEED_KEY] = state.seed
    node.workerinput[INPUT_KEY] = state.memory.to_json()
    _collect(node.config)
    if not node.config.pluginmanager.has_plugin(_Workers.NAME):
        node.config.pluginmanager.register(_Workers(state), _Workers.NAME)


class _Workers:
    """The controller's hooks: they are not told the configuration."""

    NAME = "preempt-workers"

    def __init__(self, state: State) -> None:
        self._state = state

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A worker begins with a test."""
        if _SHARD.search(nodeid):
            self._state.watch_workers()


@pytest.hookimpl(trylast=True)  # the trial comes last in the id, behind the test's own parameters
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for each trial."""
    if "preemption" in metafunc.fixturenames:
        parametrise(metafunc)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Adds the items of `--preempt-dataset` and `--preempt-script`."""
    if options.mentioned(session.config):
        from .items import items_from_options

        items.extend(items_from_options(session))


def pytest_report_collectionfinish(config: pytest.Config, items: Iterable[pytest.Item]) -> str | None:
    """Says the seed when tests that preempt were collected."""
    from . import reporting

    if not any(map(_preempts, items)):
        return None
    state = state_of(config)
    return reporting.header(state.settings, state.seed)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts to import TensorFlow in the background when there will be lives."""
    if not session.config.option.collectonly and any(map(_preempts, session.items)):
        state = state_of(session.config)
        _collect(session.config)
        if not state.settings.never:
            state.warm_up()


def _preempts(item: pytest.Item) -> bool:
    return not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets the report carry what the trial came to; JSON, because it crosses to the xdist controller."""
    report = yield
    if STATE in item.config.stash and call.when == "call":
        rows, notes = item.stash.get(ROWS, []), item.config.stash[STATE].take_notes()
        item.stash[ROWS] = []  # a rerun of the item has its own
        carry(item, report)
        if rows or notes:
            from . import reporting

            setattr(report, reporting.REPORT_ATTRIBUTE, reporting.to_json(rows, notes, passed=report.passed))
    if "preemption" in getattr(item, "fixturenames", ()) and call.when != "teardown" and not report.passed:
        from . import reporting

        if not hasattr(report, reporting.REPORT_ATTRIBUTE):
            setattr(report, reporting.NOT_JUDGED, reporting.not_judged(report, call))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line for each trial."""
    from . import reporting

    reports = [report for group in terminalreporter.stats.values() for report in group]
    carrying = [report for report in reports if hasattr(report, reporting.REPORT_ATTRIBUTE)]
    if carrying:
        state = state_of(config)
        reporting.summarise(terminalreporter, carrying, head=reporting.header(state.settings, state.seed))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends every process that is left."""
    if STATE in config.stash:
        config.stash[STATE].close()


__all__ = ["preemption", "training_process"]
