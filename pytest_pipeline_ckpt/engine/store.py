"""What a trial leaves on disk, and the reference run that trials share.

<session>/<check>/reference-0/   ledger, output, outcome.json              shared by all trials of a check,
                  reference-0-run/  model/ scratch/                       also across xdist workers
<session>/<check>/<trial>/life-1/ life-2/ ... run/model/ run/scratch/
                  of a gang: reference-0/worker-0/ ... life-1/worker-0/ worker-1/ ...
<session>/<check>/recorded/ recorded-left/ state-<number>/ slot-<worker>-<n>/   of `every`; recorded-run/ while it runs
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from ..errors import WorkerError
from . import ledger, model
from .gang import incarnation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUN = "run"
"""Directory of what a trial's lives leave to each other: checkpoints, and what the pipeline keeps besides."""
_OUTCOME = "outcome.json"
FORMAT = 2
"""Of what trials share: outcomes, and the ledgers and recordings beside them. Raised whenever one of them changes."""
OUTDATED = "a shared run in {} is of another version's format: it is dropped, and made again"


def check_directory(session: Path, name: str) -> Path:
    """The directory of one check; the same for the same name on every xdist worker."""
    readable = re.sub(r"[^\w.-]+", "-", name.rsplit("/", 1)[-1]).strip("-")[:60]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return session / f"{readable}-{digest}"


def model_directory(run: Path) -> Path:
    """Where a training keeps its checkpoints; beside it is what its pipeline keeps (`scratch_directory`)."""
    return run / "model"


def scratch_directory(model_dir: Path) -> Path:
    """What `{scratch_dir}` stands for."""
    return model_dir.with_name("scratch")


def fresh(directory: Path) -> Path:
    """Makes an empty directory at this path.

    Raises:
        WorkerError: no permission, or no space; names the directory and the remedy.
    """
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    except OSError as error:
        raise WorkerError(
            f"{directory} can't be made: {error.strerror}; ledgers and checkpoints are written there - "
            "point pytest elsewhere with --basetemp or TMPDIR"
        ) from None
    return directory


def shared_life(
    directory: Path, live: Callable[[Path], tuple[model.Life, float]], say: Callable[[str], None]
) -> tuple[model.Life, float]:
    """The life stored in `directory`, with its duration in seconds; whoever comes first lives it, under a file lock.

    Args:
        directory: of the life.
        live: lives it there.
        say: told if there is one of another format, which is not read.
    """
    with locked(directory.with_suffix(".lock")):
        outdated = _outdated(directory / _OUTCOME)
        if outdated:
            say(OUTDATED.format(directory))
        if outdated or not (directory / _OUTCOME).exists():
            life, seconds = live(fresh(directory))
            outcome = {"format": FORMAT, **_outcome(life), "s": seconds}
            if life.gang:
                outcome["workers"] = [None if one is None else _outcome(one) for one in life.gang]
            (directory / _OUTCOME).write_text(json.dumps(outcome))
            return life, seconds
    outcome = json.loads((directory / _OUTCOME).read_text())
    if "workers" not in outcome:
        return _life(directory, outcome), outcome["s"]
    lives = [
        None if one is None else _life(worker_directory(directory, worker), one)
        for worker, one in enumerate(outcome["workers"])
    ]
    return incarnation(lives), outcome["s"]


def _outdated(outcome: Path) -> bool:
    try:
        return bool(json.loads(outcome.read_text()).get("format") != FORMAT)
    except FileNotFoundError:
        return False
    except ValueError:  # torn, by somebody who killed pytest: it is not to be read either
        return True


def _outcome(life: model.Life) -> dict[str, Any]:
    return {
        "ending": life.ending.value,
        "status": life.status,
        "stderr": life.stderr_tail,
        "peak_mb": life.peak_mb,
    }


def _life(directory: Path, outcome: dict[str, Any]) -> model.Life:
    return model.Life(
        ledger=ledger.read(directory),
        ending=model.Ending(outcome["ending"]),
        status=outcome["status"],
        stderr_tail=outcome["stderr"],
        peak_mb=outcome["peak_mb"],
    )


def worker_directory(life: Path, worker: int) -> Path:
    """Where one worker's life is, of a gang's incarnation."""
    return life / f"worker-{worker}"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file lock, against other threads and other processes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise WorkerError(
            f"{path} can't be written: {error.strerror}; point pytest elsewhere with --basetemp or TMPDIR"
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel, however this process ends
        yield
