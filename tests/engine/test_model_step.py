"""`--preempt-model-step`: what tells the model's step, and what is said where it cannot."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pytest_pipeline_ckpt.engine.model_step import ModelStep

STEP = 7
NAME = "seven"
def current(): return STEP + 1
def wrong(): return 2.5
def fails(): raise ValueError("not ready")

step = ModelStep(lambda: None, sys.argv[1], [sys.argv[2]])
try:
    print(step())
    STEP = 20
    print(step())
except ValueError as error:
    print("raised", error)
print(sys.path.count(sys.argv[2]))
"""


def told(reference: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What a process prints that asks for the step by a reference."""
    (directory / "counter.py").write_text("count = 3\n")
    (directory / "broken.py").write_text("import nothing_of_that_name\n")
    program = directory / "program.py"
    program.write_text(PROGRAM)
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "beside.py").write_text("count = 4\n")
    return subprocess.run([sys.executable, program, reference, elsewhere], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("reference", "values"),
    [("__main__:STEP", "7 20"), ("__main__:current", "8 21"), ("counter:count", "3 3"), ("beside:count", "4 4")],
)
def test_the_step_is_read_at_each_call(tmp_path: Path, reference: str, values: str) -> None:
    """From an integer or a function, of the script, of a module beside it, or of one on pytest's path."""
    done = told(reference, tmp_path)
    assert (done.stdout.split(), done.stderr) == ([*values.split(), "0"], "")


def test_what_the_function_raises_is_the_callers(tmp_path: Path) -> None:
    """It may not be ready yet."""
    assert told("__main__:fails", tmp_path).stdout.split("\n")[0] == "raised not ready"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "nowhere.steps:now",
            "there is no module 'nowhere.steps' on the import path; run pytest from the directory that holds it, or "
            "set PYTHONPATH",
        ),
        (
            "__main__:STEPS",
            "__main__ ({program}) has no 'STEPS': define it there before the first element is taken",
        ),
        (
            "sys:no_such_name",
            "sys (built in) has no 'no_such_name': define it there before the first element is taken",
        ),
        (
            "__main__:NAME",
            "__main__ ({program}): NAME is 'seven': it must be an integer, or a function that returns one",
        ),
        (
            "__main__:wrong",
            "__main__ ({program}): wrong() returned 2.5: it must be an integer, or a function that returns one",
        ),
    ],
)
def test_what_cannot_be_looked_up_ends_the_process(tmp_path: Path, reference: str, message: str) -> None:
    """With one sentence, the whole of its output, and exit code 1."""
    done = told(reference, tmp_path)
    said = message.replace("{program}", str(tmp_path / "program.py"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"--preempt-model-step={reference}: {said}\n"


def test_an_import_within_the_module_that_fails_is_shown_as_it_is(tmp_path: Path) -> None:
    """The module is there: what it does not find is its own matter."""
    done = told("broken:count", tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
