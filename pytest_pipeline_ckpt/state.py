"""What the plugin keeps for a pytest session: the seed, the engine, and what must be said at the end."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from . import options
from .errors import PreemptionSafetyError, WorkerError
from .memory import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .engine.model import KillSchedule
    from .engine.runner import Engine, Trial
    from .options import Settings
    from .progress import Watcher
    from .reporting import Row

SEED_KEY = "preempt_seed"
STATE: pytest.StashKey[State] = pytest.StashKey()
ROWS: pytest.StashKey[list[Row]] = pytest.StashKey()
"""Of an item: what its trials came to."""


class State:
    """One for each pytest process that meets a test which preempts."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.failures: dict[str, PreemptionSafetyError] = {}
        """By test and check: what a rerun must not turn green."""
        self.memory = Memory(config)
        self.tried: dict[Path, dict[KillSchedule, Trial]] = {}
        """By check: what was carried out to shrink a failed trial; the next one of the test may want the same."""
        self.notes: list[str] = []
        """Said once, not yet carried by a report."""
        self._said: set[str] = set()
        self._engine: Engine | None = None
        self._watcher: Watcher | None = None
        self.started = time.monotonic()
        handed_over = getattr(config, "workerinput", {}).get(SEED_KEY)
        self.settings = options.resolve(config)
        """Without any marker or argument."""
        given = self.settings.seed.value
        drawn = int.from_bytes(os.urandom(4), "big")
        self.seed: int = handed_over if handed_over is not None else drawn if given is None else given

    @property
    def directory(self) -> Path:
        """Where trials are; the same for all xdist workers of a session.

        Raises:
            WorkerError: it can't be written.
        """
        factory: pytest.TempPathFactory = self.config._tmp_path_factory  # type: ignore[attr-defined]
        try:
            base = factory.getbasetemp()
            directory = (base.parent if self.is_worker else base) / "preempt"
            directory.mkdir(exist_ok=True)
            probe = directory / f".writable-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            where = error.filename or "the temporary directory"
            raise WorkerError(
                f"{where} can't be written: {error.strerror}; ledgers and checkpoints of the trials go there - "
                "point pytest elsewhere with --basetemp or TMPDIR"
            ) from None
        return directory

    @property
    def is_worker(self) -> bool:
        """Whether this is one of pytest-xdist's processes, which nobody sees."""
        return hasattr(self.config, "workerinput")

    @property
    def engine(self) -> Engine:
        """The engine, made at the first use."""
        if self._engine is None:
            from .engine.runner import Engine

            self._engine = Engine(self.directory, seed=self.seed, isolation=self.settings.isolation.value, say=self.say)
        return self._engine

    def warm_up(self) -> None:
        """Starts what the first life needs; what is wrong with the machine is the first test's to say."""
        with contextlib.suppress(WorkerError):
            self.engine.warm_up()

    @property
    def seconds(self) -> float:
        """How long this session has been preempting, for `--preempt-budget`."""
        return time.monotonic() - self.started

    def say(self, sentence: str) -> None:
        """Says something once: at once where there is a terminal, and again at the end."""
        if sentence in self._said:
            return
        self._said.add(sentence)
        self.notes.append(sentence)
        self.show(f"preempt: {sentence}")

    def show(self, line: str, *, rewrite: bool = False) -> None:
        """Writes a line at once, where there is a terminal reporter (an xdist worker has none).

        Args:
            line: to write.
            rewrite: leave it to be overwritten by the next one, if this is a terminal.
        """
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if terminal is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                if rewrite and terminal.isatty:
                    terminal.rewrite(line, erase=True)
                else:
                    terminal.ensure_newline()
                    terminal.write_line(line)

    @property
    def on_terminal(self) -> bool:
        """Whether what is shown is seen at once by somebody, and can be rewritten."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        return terminal is not None and bool(terminal.isatty)

    def take_notes(self) -> list[str]:
        """The notes that no report has carried yet."""
        notes, self.notes = self.notes, []
        return notes

    def watch_workers(self) -> None:
        """Shows how far the workers are; once for the session."""
        if self._watcher is None:
            from .progress import Watcher

            self._watcher = Watcher(self)

    def close(self) -> None:
        """Ends every process."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def state_of(config: pytest.Config) -> State:
    """The session's state, made at the first use."""
    if STATE not in config.stash:
        config.stash[STATE] = State(config)
    return config.stash[STATE]


def settings_of(node: Any, *, arguments: Mapping[str, object] | None = None) -> Settings:
    """The settings of a test; raises PreemptUsageError."""
    marker = options.marker_keywords(node.iter_markers(options.MARKER))
    return options.resolve(node.config, marker=marker, arguments=arguments)


def without_trial(node: str, trial_id: str) -> str:
    """The id that a test's trials share: `test_x` of `test_x[random-3]`, `test_x[a]` of `test_x[a-random-3]`."""
    before, _, after = node.rpartition(trial_id)
    return f"{before.rstrip('-')}{after}".removesuffix("[]")
