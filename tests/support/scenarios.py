"""Runs scenarios, each in a fork of an interpreter that has imported the package once: pytest's own must not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def outcomes_of(script: Path) -> dict[str, str]:
    """What was wrong in each scenario of a script, by their names; run in another interpreter.

    Args:
        script: calls `print_outcomes`.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *_inherited()])}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _inherited() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [path] if path else []


def print_outcomes(scenarios: Sequence[Callable[[], None]]) -> None:
    """Prints `{name: error}`; an empty error for a scenario that went well."""
    json.dump({scenario.__name__: _outcome(scenario) for scenario in scenarios}, sys.stdout)


def _outcome(scenario: Callable[[], None]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            scenario()
        except BaseException:
            os.write(writer, traceback.format_exc(limit=-3).encode()[-3000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or ("" if status == 0 else f"ended with {status}")
