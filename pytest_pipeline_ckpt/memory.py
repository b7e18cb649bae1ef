"""What failed in earlier runs, kept in pytest's cache and tried first next time.

A worker of pytest-xdist gets what is known with its `workerinput`; what its items find out travels on their reports,
and only the controller writes, at the end. So no two processes write at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .errors import PreemptUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine.checker import ReferenceFacts
    from .engine.model import KillSchedule, Verdict
    from .engine.runner import Check, Trial

KEY = "preempt/failures"
"""In pytest's cache: `{"format": 2, "failures": {test id without the trial: {"at": "step:11", "smallest": true}}}`."""
FORMAT = 2
"""Another one is forgotten, not read: the same words may mean something else. 1 had the failures alone."""
OUTDATED = f"failures of earlier runs are remembered in another version's format (pytest's cache, {KEY}): forgotten"
INPUT_KEY = "preempt_failures"
"""In an xdist worker's input: the same as JSON."""
REPORT_ATTRIBUTE = "preempt_memory"
"""Of a `TestReport`: what its item found out, as JSON: `{test id: the same, or null: forgotten}`."""
_FOUND_OUT: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


@dataclass(frozen=True, slots=True)
class Remembered:
    """A schedule that failed."""

    schedule: KillSchedule
    smallest: bool
    """Whether a complete search found none that is smaller."""


class Memory:
    """The session's. Registered as a plugin in the process that writes, which sees all reports."""

    NAME = "preempt-memory"

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._known: dict[str, Remembered] | None = None
        self._found_out: dict[str, Any] = {}
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(self, self.NAME)

    def to_json(self) -> str:
        """What is known, for a worker."""
        return json.dumps(self._stored())

    def recall(self, test: str) -> Remembered | None:
        """What failed the last time, if anything did."""
        if self._known is None:
            self._known = _read(_failures(self._given()))
        return self._known.get(test)

    @property
    def outdated(self) -> bool:
        """Whether what is known was written by a version that means something else by it."""
        given = self._given()
        return isinstance(given, dict) and bool(given) and given.get("format") != FORMAT

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """An item has ended, here or in a worker."""
        for test, entry in json.loads(getattr(report, REPORT_ATTRIBUTE, "{}")).items():
            # Several trials of a test may fail, in any order: the smallest counts, and more than one that is exact.
            both = _read({"before": self._found_out.get(test), "now": entry})
            if "before" not in both or ("now" in both and _size(both["now"]) < _size(both["before"])):
                self._found_out[test] = entry

    def pytest_sessionfinish(self) -> None:
        """Writes what has changed."""
        if self._cache is None or not self._found_out:
            return
        stored = self._stored()
        failures = _failures(stored)
        known = {test: failures[test] for test in _read(failures)}  # what cannot be read is left behind
        changed = {test: entry for test, entry in {**known, **self._found_out}.items() if entry is not None}
        if _document(changed) != (stored or _document({})):
            self._cache.set(KEY, _document(changed))

    @property
    def _cache(self) -> pytest.Cache | None:
        return getattr(self._config, "cache", None)  # there is none with -p no:cacheprovider

    def _stored(self) -> Any:
        return {} if self._cache is None else self._cache.get(KEY, {})

    def _given(self) -> Any:
        """As stored; in a worker as the controller has read it."""
        given = getattr(self._config, "workerinput", {}).get(INPUT_KEY)
        return self._stored() if given is None else json.loads(given)


def _document(failures: dict[str, Any]) -> dict[str, Any]:
    """What is stored."""
    return {"format": FORMAT, "failures": failures}


def _failures(stored: Any) -> dict[str, Any]:
    """What is in the cache, if it is of this format."""
    match stored:
        case {"format": int(number), "failures": dict(failures)} if number == FORMAT:
            return failures
    return {}


def _read(failures: dict[str, Any]) -> dict[str, Remembered]:
    """The entries that can be read: anybody may have written the file."""
    from .engine import plan

    read = {}
    for test, entry in failures.items():
        match entry:
            case {"at": str(at), "smallest": bool(smallest)}:
                try:
                    schedule = plan.parse_schedule(at, KEY)
                except PreemptUsageError:
                    continue
                if isinstance(schedule, plan.KillSchedule):
                    read[test] = Remembered(schedule, smallest)
    return read


def _size(remembered: Remembered) -> tuple[int, ...]:
    from .engine.shrinking import size

    return size(remembered.schedule)


class CheckMemory:
    """That of one check of one item.

    Args:
        memory: of the session.
        node: the item.
        test: names the check; the same in every run and for every trial.
        say: takes a sentence that the user should read once.
    """

    def __init__(self, memory: Memory, node: Any, test: str, say: Callable[[str], None]) -> None:
        self._memory = memory
        self._node = node
        self._test = test
        self._say = say
        self.replayed: Remembered | None = None
        """The schedule that failed before, if it has failed again."""

    def replay(self, check: Check, name: str) -> Trial | None:
        """Tries what failed in an earlier run; returns the trial if it fails again, or if the reference run does.

        Args:
            check: what is trained.
            name: of the trial's directory.
        """
        if self._memory.outdated:
            self._forget()  # so that something is written, and it is gone
            self._say(OUTDATED)
        remembered = self._memory.recall(self._test)
        if remembered is None:
            return None
        try:
            trial = check.trial(name, lambda facts: _reachable(remembered.schedule, facts, check))
        except _UnreachableError as error:
            self._forget()
            self._say(f"{self._test}: {remembered.schedule} failed before; now it {error}, so it is forgotten")
            return None
        if trial.schedule is None:
            return trial
        verdict = trial.verdict
        again = not verdict.exact and judged(verdict)
        if again:
            self.replayed = remembered
            words = f"it fails again ({verdict.outcome.value})"
        elif verdict.exact or verdict.scope.kills_landed < len(trial.schedule.kills):
            self._forget()
            words = f"{'exact now' if verdict.exact else verdict.reason}, so it is forgotten"
        else:
            words = f"{verdict.outcome.value} now: {verdict.reason}"
        self._say(f"{self._test}: replayed {remembered.schedule}, which failed before: {words}")
        return trial if again else None

    def keep(self, schedule: KillSchedule, *, smallest: bool) -> None:
        """Remembers a schedule that failed."""
        self._node.stash.setdefault(_FOUND_OUT, {})[self._test] = {"at": str(schedule), "smallest": smallest}

    def _forget(self) -> None:
        self._node.stash.setdefault(_FOUND_OUT, {})[self._test] = None


class _UnreachableError(Exception):
    """A kill lies behind the end of the run."""


def _reachable(schedule: KillSchedule, facts: ReferenceFacts, check: Check) -> KillSchedule:
    from .engine.plan import ensure_known

    try:
        ensure_known(schedule, KEY, workers=check.workers, apart=check.workers > 1 and check.restart == "worker")
    except PreemptUsageError:
        raise _UnreachableError("is for other workers than the training has") from None
    for kill in schedule.kills:
        elements = facts.of_workers[kill.counts].elements
        if kill.element > elements:
            raise _UnreachableError(f"lies beyond the end of the run, which takes {elements} training elements")
    return schedule


def judged(verdict: Verdict) -> bool:
    """Whether the verdict says anything about the training: `unknown` and `flaky` do not."""
    return verdict.outcome.value not in ("unknown", "flaky")


def carry(item: pytest.Item, report: pytest.TestReport) -> None:
    """Lets the report carry what the item found out. A test that passes expects its failure: nothing to replay."""
    found_out = item.stash.get(_FOUND_OUT, {})
    if found_out:
        kept = {test: entry if report.failed else None for test, entry in found_out.items()}
        setattr(report, REPORT_ATTRIBUTE, json.dumps(kept))
        item.stash[_FOUND_OUT] = {}  # a rerun of the item has its own


def is_first(node: Any, trial_id: str, ids: Sequence[str]) -> bool:
    """Whether this is the first trial of its test that is selected in this run (`--last-failed` leaves some out).

    Args:
        node: the item.
        trial_id: its trial's part of its id.
        ids: those of all trials of the test.
    """
    before, _, after = node.nodeid.rpartition(trial_id)
    selected = {item.nodeid for item in node.session.items}
    return next((each for each in ids if f"{before}{each}{after}" in selected), trial_id) == trial_id


__all__ = [
    "FORMAT",
    "INPUT_KEY",
    "KEY",
    "OUTDATED",
    "CheckMemory",
    "Memory",
    "Remembered",
    "carry",
    "is_first",
    "judged",
]
