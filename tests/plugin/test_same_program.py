"""The program under test is the user's: it prints what it prints without the plugin, and leaves what it leaves.

What cannot be the same is in `docs/limitations.md`; the programs look at everything else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_pipeline_ckpt.engine import worker
from pytest_pipeline_ckpt.engine.runner import Conditions, Engine, Workload, live
from pytest_pipeline_ckpt.payload import pickled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
PROGRAMS = Path(__file__).parents[1] / "support" / "same_program"
CONDITIONS = Conditions(timeout=120, grace=5, max_elements=10**6, order="exact")
WAYS = ("text", "large", "huge", "none", "true", "two", "hard", "abort", "thread", "exit", "closed")
RUNS = {
    **{path.stem: [path.name, "{model_dir}"] for path in sorted(PROGRAMS.glob("*.py")) if path.stem != "exits"},
    "package": ["-m", "package", "{model_dir}"],
    **{f"exits_{way}": ["exits.py", "{model_dir}", way] for way in WAYS},
}
_LOG = re.compile(r"(\d{4}-\d\d-\d\d \d\d:|[IWEF]\d{4} |WARNING: All log|To enable the following)")
"""Lines of TensorFlow's log, which have the time and come when they come."""
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}|started \d+")


class Seen(NamedTuple):
    """All that a program shows of itself."""

    code: int
    stdout: list[str]
    stderr: list[str]
    files: dict[str, bytes | None]


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the user is told."""
    return []


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Engine]:
    """Starts the programs with the plugin."""
    engine = Engine(tmp_path_factory.mktemp("servers"), seed=1, isolation="fork", say=said.append)
    yield engine
    engine.close()


@pytest.mark.parametrize("name", RUNS)
def test_a_program_is_the_same_with_and_without_the_plugin(
    name: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code, all that it prints, and the files that it leaves."""
    monkeypatch.chdir(PROGRAMS)
    model_dir = tmp_path / "model"
    plain = without(RUNS[name], tmp_path, model_dir)
    shutil.rmtree(model_dir)
    assert with_plugin(engine, RUNS[name], tmp_path / "life", model_dir) == plain
    assert plain.stdout or plain.stderr or plain.code


def test_fresh_interpreters_run_the_same_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--preempt-isolation=spawn` nothing is imported before the program imports it."""
    monkeypatch.chdir(PROGRAMS)
    engine = Engine(tmp_path, seed=1, isolation="spawn", say=print)
    try:
        for name in ("main_module", "variables_jax", "training"):
            plain = without(RUNS[name], tmp_path, tmp_path / "model")
            shutil.rmtree(tmp_path / "model")
            assert with_plugin(engine, RUNS[name], tmp_path / "life", tmp_path / "model") == plain, name
            shutil.rmtree(tmp_path / "model")
    finally:
        engine.close()


def without(argv: Sequence[str], directory: Path, model_dir: Path) -> Seen:
    """The program, run by its interpreter alone."""
    model_dir.mkdir()
    out, err = directory / "out.txt", directory / "err.txt"
    words = [word.replace("{model_dir}", str(model_dir)) for word in argv]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(worker._PYTEST)}
    with out.open("w") as stdout, err.open("w") as stderr:
        done = subprocess.run(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environ
        )
    return seen(done.returncode, out, err, model_dir)


def with_plugin(engine: Engine, argv: Sequence[str], directory: Path, model_dir: Path) -> Seen:
    """The program as a life of a training."""
    workload = Workload("script", pickled(None, None), {"argv": list(argv)})
    process = engine.start(workload, directory, model_dir, slot=0)
    live(process, CONDITIONS)
    assert process.ended is not None
    return seen(process.ended.returncode, directory / worker.STDOUT, directory / worker.STDERR, model_dir)


def seen(code: int, stdout: Path, stderr: Path, model_dir: Path) -> Seen:
    """What it shows, without what is another in each run."""
    files = {
        str(path.relative_to(model_dir)): path.read_bytes() if path.suffix == ".txt" else None
        for path in sorted(model_dir.rglob("*"))
        if path.is_file()
    }
    return Seen(code, _lines(stdout), _lines(stderr), files)


def _lines(file: Path) -> list[str]:
    return [_ADDRESS.sub("...", line) for line in file.read_text().splitlines() if not _LOG.match(line)]
