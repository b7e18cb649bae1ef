"""The fixture `training`: lives of one training, run by a fork server (`lives.py`)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    """What it says of itself when it ends; only of loops."""


class Training:
    """One model directory, and the lives that train in it."""

    def __init__(self, server: subprocess.Popen[str], directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._count = 0
        self.model_dir = directory / "model"

    def live(self, **job: Any) -> Life:
        """Runs one life to its end; see `lives.Job`."""
        self._count += 1
        log, result = self._directory / f"{self._count}.log", self._directory / f"{self._count}.json"
        log.touch()
        job = {"model_dir": str(self.model_dir), "log": str(log), "result": str(result), **job}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the fork server has died"
        lines = [line.split() for line in log.read_text().splitlines()]
        error = json.loads(result.read_text()) if result.exists() else None
        end = Path(f"{result}.end")
        return Life(
            end=json.loads(end.read_text()) if end.exists() else {},
            status=int(answer),
            elements={int(step): int(value) for step, value in lines},
            error=f"{error['error']}: {error['message']}" if error else "",
            log=Path(f"{result}.err").read_text(),
        )

    def files(self, pattern: str = "input*") -> set[str]:
        """The names in the model directory."""
        return {path.name for path in self.model_dir.glob(pattern)}

    def committed(self) -> list[int]:
        """The steps of the committed input checkpoints."""
        return sorted(int(name.split("-")[1].split(".")[0]) for name in self.files("*.commit"))


@contextlib.contextmanager
def _serving(script: str) -> Iterator[subprocess.Popen[str]]:
    path = str(Path(__file__).with_name(script))
    with subprocess.Popen(
        [sys.executable, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this pytest process."""
    with _serving("lives.py") as process:
        yield process


@pytest.fixture(scope="session")
def loop_server() -> Iterator[subprocess.Popen[str]]:
    """The fork server of this pytest process for custom loops."""
    with _serving("loop_lives.py") as process:
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
