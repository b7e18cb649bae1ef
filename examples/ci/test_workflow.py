"""The commands of the workflow, run as they stand there on the digits."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent / "digits"


def _commands() -> list[list[str]]:
    lines = (HERE / "preemption.yml").read_text().splitlines()
    commands = [line.strip().removeprefix("run: ") for line in lines if line.strip().startswith("run: pytest ")]
    return [shlex.split(command.replace("${{ github.run_id }}", "7")) for command in commands]


def _on_digits(argument: str) -> str:
    """The same argument with the names that the workflow's README asks to put in, and with one trial."""
    argument = argument.replace("my_project.input:make_dataset", "input:make_dataset")
    argument = argument.replace("=train.py", f"={DIGITS / 'train_session.py'}")
    return "--preempt-trials=1" if argument.startswith("--preempt-trials=") else argument


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("number", [0, 1])
def test_command(number: int, tmp_path: Path) -> None:
    """Each command of the workflow ends green on a project that resumes exactly."""
    program, _, _, *arguments = _commands()[number]  # without `-n 2`: this test may be one of two already
    assert program == "pytest"
    command = [sys.executable, "-m", "pytest", *map(_on_digits, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(DIGITS), "TMPDIR": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith(("PREEMPT_", "PYTEST_"))}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
