"""Fixtures: lives of one training, run by a fork server (`lives.py`, `loop_lives.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forked import Lives, serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Life:
    """How one life went."""

    status: int
    elements: dict[int, int]
    """For each step of this life what it was trained on."""
    error: str
    """`NameOfError: message`, or nothing."""
    log: str
    """What the package logged, and all else of stderr."""
    end: dict[str, Any]
    """What it says of itself when it ends."""


class Training(Lives):
    """One model directory, and the lives that train in it."""

    def live(self, **job: Any) -> Life:
        """Runs one life to its end; see `lives.Job`."""
        lived = self.run(**job)
        elements = {int(step): int(value) for step, value in map(str.split, lived.lines)}
        error = lived.outcome.get("error", "")
        return Life(lived.status, elements, error, lived.stderr, {} if error else lived.outcome)

    def files(self, pattern: str = "input*") -> set[str]:
        """The names in the model directory."""
        return {path.name for path in self.model_dir.glob(pattern)}


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this pytest process."""
    with serving(HERE / "lives.py") as process:
        yield process


@pytest.fixture(scope="session")
def loop_server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this pytest process for custom loops."""
    with serving(HERE / "loop_lives.py") as process:
        yield process


@pytest.fixture
def loop(loop_server: subprocess.Popen[str], tmp_path: Path) -> Training:
    """A custom loop that has not begun."""
    return Training(loop_server, tmp_path)


@pytest.fixture
def loop_reference(loop_server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same loop in a directory of its own, which nobody kills."""
    return Training(loop_server, tmp_path_factory.mktemp("reference"))


@pytest.fixture
def training(server: subprocess.Popen[str], tmp_path: Path) -> Training:
    """A training that has not begun."""
    return Training(server, tmp_path)


@pytest.fixture
def reference(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same training in a directory of its own, which nobody kills."""
    return Training(server, tmp_path_factory.mktemp("reference"))
