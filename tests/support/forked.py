"""The tests' side of fork servers (`forking.py`): trainings whose lives they run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = str(Path(__file__).parent)
_MARK = re.compile(r"\S+-(\d+)(?:\.(\d+-[a-z]{8}))?\.commit")
_WRITER = re.compile(r"-\d+\.(\d+)-[a-z]{8}\.")


@contextlib.contextmanager
def serving(script: Path) -> Iterator[subprocess.Popen[str]]:
    """A fork server, until the block ends."""
    pipe = subprocess.PIPE
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environ, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True, slots=True)
class Lived:
    """How a life ended, and what it left."""

    status: int
    outcome: dict[str, Any]
    """See `forking.serve`; empty of one that was killed."""
    lines: list[str]
    """What it wrote to its log."""
    stderr: str


class Lives:
    """One model directory, and the lives that train in it."""

    def __init__(self, server: subprocess.Popen[str], directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._count = 0
        self.model_dir = directory / "model"

    def run(self, **job: Any) -> Lived:
        """Runs one life to its end."""
        self._count += 1
        log, result, stderr = (self._directory / f"{self._count}.{kind}" for kind in ("log", "json", "json.err"))
        log.touch()
        job = {"model_dir": str(self.model_dir), "log": str(log), "result": str(result), **job}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the fork server has died"
        outcome = json.loads(result.read_text()) if result.exists() else {}
        return Lived(int(answer), outcome, log.read_text().splitlines(), stderr.read_text())

    def committed(self) -> list[int]:
        """The numbers of the committed checkpoints that count."""
        marks = [_MARK.fullmatch(path.name) for path in self.model_dir.glob("*.commit")]
        found = [(int(mark[1]), mark[2] or "") for mark in marks if mark]
        tokens = {}
        for path in self.model_dir.glob("*.token"):
            token = json.loads(path.read_text())
            tokens[f"{token['number']}-{token['nonce']}"] = token["start"]
        if not tokens:
            return sorted(step for step, incarnation in found if not incarnation)
        incarnation = max(tokens, key=lambda one: int(one.split("-")[0]))
        counting = {step for step, writer in found if writer == incarnation}
        while start := tokens.get(incarnation):
            incarnation, last = start["incarnation"], start["step"]
            if incarnation and incarnation not in tokens:
                break
            counting |= {step for step, writer in found if writer == incarnation and step <= last}
        return sorted(counting)

    def path(self, name: str) -> Path:
        """Where the newest incarnation has a file: `ckpt-3.index` is in `ckpt-3.1-kqzvwmtb.index`."""
        stem, _, part = re.sub(r"^(\S+?-\d+)\.", r"\1/", name).partition("/")
        found = [path for path in self.model_dir.glob(f"{stem}.*-*.{part}") if _WRITER.search(path.name)]
        assert found, (name, sorted(path.name for path in self.model_dir.iterdir()))
        return max(found, key=lambda path: int(_WRITER.findall(path.name)[0]))


def without_incarnations(said: str) -> str:
    """A text, or a name in it, without who has written the files."""
    return re.sub(r"(?<=\d)\.\d+-[a-z]{8}(?=\.)", "", said)
