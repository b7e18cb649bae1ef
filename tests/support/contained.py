"""Runs of `container.py`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from container import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER = Path(__file__).with_name("container.py")


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A directory that belongs to the container's user; pytest's own may be entered by nobody else."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name).resolve()


def python(profile: str, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python under a profile, with what the tests share on its path, at home in a directory."""
    command = [sys.executable, str(CONTAINER), profile, sys.executable, *arguments]
    homes = {"HOME": str(here), "KERAS_HOME": str(here / "keras"), "TMPDIR": str(here)}
    environ = {**os.environ, **homes, "PYTHONPATH": str(CONTAINER.parent)}
    return subprocess.run(command, cwd=here, env=environ, capture_output=True, text=True)
