"""What is true of a training of the corpus: killed at exact moments, resumed, asked for its proof; no plugin in it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry import Training

HERE = Path(__file__).parent
IMPORTED = {
    "tensorflow": ("tensorflow", "keras"),
    "jax": ("tensorflow", "keras", "jax", "flax", "flax.nnx", "optax", "orbax.checkpoint", "clu.checkpoint"),
}
TOLERANCE = 1e-5
"""Relative: sums of float32 in the same order; what is lost or trained twice changes far more."""
KILLED = -9
ENVIRON = {**os.environ, "PYTHONPATH": str(HERE.parents[2] / "hook" / "src"), "TF_CPP_MIN_LOG_LEVEL": "2"}
"""Of each life: the production package is this checkout's."""


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the script."""

    status: int
    steps: int
    proof: dict[str, Any] | None
    output: str


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of one schedule of kills."""

    kills: str
    lives: tuple[Life, ...]
    wrong: str
    """What the last life's proof shows that the uninterrupted run's does not; empty: nothing."""

    @property
    def landed(self) -> bool:
        """Whether each life but the last one was killed where it should."""
        return all(life.status == KILLED for life in self.lives[:-1])


@dataclass(frozen=True, slots=True)
class Truth:
    """The uninterrupted run, and what came of each schedule."""

    whole: Life
    ended: tuple[Ended, ...]
    cut: Life
    """One that found only a half of the file that was written last."""

    @property
    def resumes(self) -> bool:
        """Whether a killed training ever went on anywhere else than at its beginning."""
        return any(ended.wrong or ended.lives[-1].steps < self.whole.steps for ended in self.ended)

    @property
    def safe(self) -> bool:
        """Whether what came out was always the same, and training did not just begin anew."""
        return self.resumes and not any(ended.wrong for ended in self.ended)

    @property
    def needs_whole_files(self) -> bool:
        """Whether a life that finds a half of a file ends, and says so."""
        return self.cut.status not in (0, KILLED)

    @property
    def landed(self) -> bool:
        """Whether the uninterrupted run's proof is clean, and all kills landed."""
        proof = self.whole.proof
        clean = proof is not None and not proof["twice"] and not proof["never"]
        return clean and all(ended.landed for ended in self.ended)


Launcher = Callable[[list[str], dict[str, str], Path], int]
"""Runs a script with an environment, its output into a file: its exit status."""


def in_its_own_interpreter(argv: list[str], environ: dict[str, str], output: Path) -> int:
    """As a user starts it."""
    with output.open("a") as file:
        return subprocess.call([sys.executable, *argv], env={**ENVIRON, **environ}, stdout=file, stderr=file)


@contextlib.contextmanager
def forking(needs: str) -> Iterator[Launcher]:
    """A launcher that forks from a server which has made the imports: the same, without their seconds."""
    command, pipe = [sys.executable, str(HERE / "zygote.py"), *IMPORTED[needs]], subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=ENVIRON
    ) as server:

        def launch(argv: list[str], environ: dict[str, str], output: Path) -> int:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps({"argv": argv, "environ": environ, "output": str(output)}) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield launch


def find(training: Training, launcher: Launcher) -> Truth:
    """The truth about `training`."""
    with tempfile.TemporaryDirectory() as directory:
        whole = _live(training, launcher, Path(directory), kill="")
    with tempfile.TemporaryDirectory() as directory:
        _live(training, launcher, Path(directory), kill=training.kills[-1].partition(",")[0])
        _halve(Path(directory, "model"))
        cut = _live(training, launcher, Path(directory), kill="")
    ended = []
    for kills in training.kills:
        with tempfile.TemporaryDirectory() as directory:
            lives = [_live(training, launcher, Path(directory), kill=kill) for kill in [*kills.split(", "), ""]]
        ended.append(Ended(kills, tuple(lives), wrong(whole.proof, lives[-1].proof)))
    return Truth(whole, tuple(ended), cut)


def _halve(model: Path) -> None:
    """Leaves of the largest of the files that were written last what a kill in the middle of writing it would."""
    files = [path for path in model.rglob("*") if path.is_file()]
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    late = [path for path in files if path.stat().st_mtime > newest - 1]
    if late:
        largest = max(late, key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)


def _live(training: Training, launcher: Launcher, directory: Path, *, kill: str) -> Life:
    progress, proof, output = directory / "progress", directory / "proof", directory / "output"
    for path in (progress, proof, output):
        path.unlink(missing_ok=True)
    environ = {"PROGRESS": str(progress), "PROOF": str(proof), "KILL": kill}
    argv = [str(training.path), f"--model_dir={directory / 'model'}", f"--how={training.how}"]
    status = launcher(argv, environ, output)
    moments = progress.read_text().splitlines() if progress.exists() else []
    proved = json.loads(proof.read_text()) if proof.exists() else None
    steps = sum(moment.startswith("step ") for moment in moments)
    return Life(status, steps, proved, output.read_text(errors="replace"))


def wrong(right: dict[str, Any] | None, proof: dict[str, Any] | None) -> str:
    """How the proof of a resumed training differs from the one of a run that nobody killed; empty: in nothing."""
    if right is None or proof is None:
        return "no proof"
    words = [f"{word} {_ranges(proof[word])}" for word in ("twice", "never") if proof[word] != right[word]]
    for name, value in right["other"].items():
        if not math.isclose(proof["other"][name], value, rel_tol=TOLERANCE, abs_tol=1e-6):
            words.append(f"{name} {proof['other'][name]:g} not {value:g}")
    return ", ".join(words)


def _ranges(elements: list[int]) -> str:
    """`0..9, 12`."""
    ranges: list[list[int]] = []
    for element in elements:
        if ranges and ranges[-1][1] == element - 1:
            ranges[-1][1] = element
        else:
            ranges.append([element, element])
    return "+".join(f"{first}..{last}" if first < last else str(first) for first, last in ranges) or "none"
