"""Runs whose every instant is known: recorded, or looked at between elements where recording is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from ..errors import RecordingRefusedError
from . import crash_states, ledger, operations, recording, standing, store
from .instants import Timeline, element_records
from .model import Ending, Kill, Kind, Life
from .operations import Act, LogWriter, snapshot
from .runner import Check, live
from .snapshots import Snapshots

if TYPE_CHECKING:
    from .instants import Instant
    from .operations import Operation
    from .process import TrainingProcess

_RECORDED = "recorded"
_MOST_NAMES = 3
_READ = 1 << 20  # bytes at once


@dataclass(frozen=True, slots=True)
class Run:
    """A life and the log of its file operations."""

    life: Life
    directory: Path
    root: Path
    """What was recorded: checkpoints, and what the pipeline keeps besides."""
    meta: recording.Recorded
    timeline: Timeline

    @property
    def log(self) -> Path:
        """The log's directory."""
        return self.directory / recording.LOG

    @property
    def saves(self) -> list[int]:
        """Of each save its place among the ledger's records."""
        found: list[int] = np.flatnonzero(self.life.ledger.records["kind"] == Kind.SAVED).tolist()
        return found

    def saved(self) -> bool:
        """Whether it has written anything into its checkpoint directory that a restore may read."""
        timeline = self.timeline
        return any(_is_of_a_save(operation, timeline) for operation in timeline.operations[timeline.before :])

    def saved_elsewhere(self) -> str | None:
        """Where checkpoints went that are not below the checkpoint directory, in words; None: there are none.

        Saves were seen to which no file operation belongs, or files were made outside by names that checkpoints have.
        """
        timeline = self.timeline
        own = [op.elements for op in timeline.operations[timeline.before :] if _is_of_a_save(op, timeline)]
        bounds = zip([-1, *self.saves], self.saves, strict=False)
        without = [end for begin, end in bounds if bisect_right(own, end) == bisect_right(own, begin)]
        seen = self.meta.elsewhere
        if own and not (without and any(path.endswith(".index") for path in seen)):
            return None  # a cache or an exported model may be elsewhere
        if seen:
            return ", ".join(sorted({os.path.dirname(path) for path in seen}))
        return "no file operation belongs to them, as in an object store" if self.saves else None

    def killed_at(self, instant: Instant) -> Life:
        """The life as it would have been."""
        state, whole = instant.state, self.life.ledger
        taken = state.elements
        # Operations that follow with no record between belong to the same save: TensorFlow's file `checkpoint` does.
        rest = itertools.takewhile(lambda one: one.elements == taken, self.timeline.operations[state.operation :])
        saving = state.torn or any(_is_of_a_save(one, self.timeline) for one in rest)
        evidence = whole.evidence.upto(taken, saving=saving)
        ledger = dataclasses.replace(whole, records=whole.records[:taken], evidence=evidence)
        killed = Life(ledger, Ending.KILLED, kill=instant.kill or Kill(max(1, instant.element)))
        return dataclasses.replace(killed, standing=standing.standing([killed], instant.state.files, whole))


def _is_of_a_save(operation: Operation, timeline: Timeline) -> bool:
    path = operation.target if operation.act in (Act.RENAME, Act.LINK) else operation.path
    makes = operation.act in (Act.CREATE, Act.WRITE, Act.RENAME, Act.LINK, Act.SYMLINK)
    return makes and path.startswith("model/") and timeline.names.tells(operation)


def run_of(life: Life, directory: Path, ignored: frozenset[str]) -> Run:
    """The run that a life's directory holds; `ignored`: keys of the streams that do not train."""
    meta = recording.read(directory)
    known = list(operations.read(directory / recording.LOG))
    timeline = Timeline(known, meta.before, element_records(life.ledger, ignored))
    return Run(life, directory, Path(meta.root), meta, timeline)


def recorded_directory(check: Check) -> Path:
    """Where the recorded run of a check is."""
    return check.directory / _RECORDED


def first_run(check: Check) -> tuple[Life, Path]:
    """The recorded run of a check and its directory; whoever asks first records it, the others wait."""
    directory = recorded_directory(check)
    root = check.directory / f"{_RECORDED}-{store.RUN}"

    def run(directory: Path) -> tuple[Life, float]:
        start = time.monotonic()
        try:
            life = live(_started(check, directory, root, record=root), check.conditions)
            _look_whether_complete(directory, root)
        except RecordingRefusedError as error:
            life = _looked_at(check, store.fresh(directory), root, str(error))
        _move_away(root, left(check))
        return life, time.monotonic() - start

    return store.shared_life(directory, run, check.engine.say)[0], directory


def _look_whether_complete(directory: Path, root: Path) -> None:
    """What the log makes must be what the run has left; else something wrote in a way that is not recorded.

    The recorder names what it knows that it cannot see. This finds what nobody has thought of, unless it was undone.
    """
    meta, log = recording.read(directory), directory / recording.LOG
    if meta.blind:
        return  # it is known already, and by a better name
    *_, end = crash_states.crash_states(operations.read(log), before=meta.before)
    made = directory / "made"
    crash_states.rebuild(end, log, made)
    unlike = sorted({name for name, _ in set(_contents(root).items()) ^ set(_contents(made).items())})
    shutil.rmtree(made)
    if unlike:
        more = f" and {len(unlike) - _MOST_NAMES} more" if len(unlike) > _MOST_NAMES else ""
        names = ", ".join(name.removeprefix("model/") for name in unlike[:_MOST_NAMES])
        said = f"{names}{more}: not as the recorded operations leave them, so something else wrote there"
        recording.write(directory, dataclasses.replace(meta, blind=(*meta.blind, said)))


def _contents(root: Path) -> dict[str, object]:
    """Of each regular file a digest, of each link where it leads."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            digest = xxhash.xxh3_64()
            with path.open("rb") as file:
                while piece := file.read(_READ):
                    digest.update(piece)
            found[name] = digest.intdigest()
    return found


def left(check: Check) -> Path:
    return check.directory / f"{_RECORDED}-left"


def _move_away(root: Path, left: Path) -> None:
    """For good: a life that resumes elsewhere, and has the path of the finished run's files, must not find them."""
    shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # the training has removed it
        root.rename(left)


def final_model_dir(check: Check) -> Path:
    """What the recorded run left in its checkpoint directory."""
    return store.model_directory(left(check))


def ignored_streams(check: Check, life: Life) -> frozenset[str]:
    """Keys of the streams that do not train, as the recorded run shows them."""
    return check.facts(life).ignored


def _started(
    check: Check, directory: Path, root: Path, *, record: Path | None, until: int | None = None
) -> TrainingProcess:
    """Starts a life that has nothing to resume from."""
    return check.engine.start(
        check.workload,
        directory,
        store.model_directory(store.fresh(root)),
        slot=0,
        until=until,
        max_elements=check.conditions.max_elements,
        record=record,
    )


def _looked_at(check: Check, directory: Path, root: Path, refused: str) -> Life:
    """The life whose directory is looked at while it waits at each element, in place of a recorded one."""
    process = _started(check, directory, root, record=None, until=1)
    snapshots = Snapshots(root, directory / recording.LOG)
    numbers = itertools.count(2)

    def look(directory: Path) -> int:
        with process.stopped():
            snapshots.take(len(ledger.read(directory).records))
        return next(numbers)

    life = live(process, check.conditions, watch=look)
    snapshots.take(len(life.ledger.records))
    snapshots.close()
    boundaries = tuple(snapshots.boundaries)
    recording.write(directory, recording.Recorded(str(root), boundaries[0], 1, (), refused, boundaries))
    return life


def keep_end(life: Life, directory: Path, root: Path, refused: str) -> None:
    """Keeps what a life that could not be recorded left at `root`, as the one state of it that is known."""
    log = LogWriter(directory / recording.LOG)
    snapshot(root, log)
    log.close()
    end = (log.operations,) if life.ending is Ending.STOPPED else ()
    recording.write(directory, recording.Recorded(str(root), log.operations, 1, (), refused, end))


__all__ = ["Run", "final_model_dir", "first_run", "ignored_streams", "keep_end", "run_of"]
