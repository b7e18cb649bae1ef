"""Whether `--preempt-at=every` knows each state that a kill can leave.

    python benchmarks/every_complete.py [--rounds=3] [eager session background estimator keras]

For each workload one run is recorded, and the restore-visible states of its log are computed. Then the training is
started again and again, and really killed before its first restore-visible file operation, its second, and so on until
it has no more. Both sets must be the same: names, sizes, and what TensorFlow's checkpoint state files say; contents
differ from run to run, and so do the sizes of saved iterators that buffer elements. No live kill lands within a
write: such states are counted, and not compared.

Where several threads write at a time, their operations interleave otherwise in each run. Two more comparisons say
whether anything else is wrong: of what each thread writes alone (the hook's files, and the rest), and of what every
kill left, byte for byte, with the state that is computed from the log of that very life. In one round the kills do not
meet every state of two threads that take turns otherwise in each life; more rounds meet more.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
import trainings  # noqa: E402  (the path must be known first)
from directories import contents  # noqa: E402
from good_pipelines import GOOD  # noqa: E402
from hooked import SESSIONS  # noqa: E402

from pytest_pipeline_ckpt.engine import crash_states, operations, recording, relocation, store  # noqa: E402
from pytest_pipeline_ckpt.engine.model import Ending, Kill  # noqa: E402
from pytest_pipeline_ckpt.engine.names import may_be_read, visible  # noqa: E402
from pytest_pipeline_ckpt.engine.runner import Conditions, Engine, Workload, live  # noqa: E402
from pytest_pipeline_ckpt.payload import pickled  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

State = frozenset[str]
"""A line for each file, link and directory that a restore may read."""

CONDITIONS = Conditions(timeout=120, grace=5, max_elements=10**6, order="exact")
EAGER = Workload("dataset", pickled(GOOD["batches"].make, None), {"steps": 40, "save_every": 10, "runner": "eager"})
WORKLOADS = {
    "eager": EAGER,
    "session": Workload("training", pickled(SESSIONS["listener"], None)),
    "background": Workload("training", pickled(SESSIONS["equal"], None)),
    "estimator": Workload("training", pickled(trainings.estimator, None)),
    "keras": Workload("training", pickled(trainings.keras_backup, None)),
}
"""An eager loop with one `tf.train.Checkpoint`; a session with our hook, which saves before the model is saved, and the
same with saves beside the training; an Estimator with TensorFlow's hook; Keras' `BackupAndRestore`."""
HAS_ESTIMATOR = importlib.util.find_spec("tensorflow_estimator") is not None
_STATE_FILE = b"model_checkpoint_path: "
_ITERATORS = re.compile(r"input\.ckpt-.*(\.data-|commit$)")
"""What a hook saves of iterators: how much is buffered when it does differs from run to run, by an element or two, and
the mark of our hook has the data's size in it, with one digit more or less."""
_INPUT = ("model/input.", "model/checkpoint_input ")
"""How the lines of what a hook writes begin."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What is known of a recorded run."""

    operations: int
    visible: int
    threads: int
    found: int
    """States, as `every` tells them apart: by contents."""
    torn: int
    """Those of them that only a kill within a write leaves."""
    states: frozenset[State]
    """The others, told apart by names and sizes."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a live kill left."""

    landed: bool
    state: State
    as_logged: bool
    """Whether it is, byte for byte, the last state of the life's own log."""


def seen(root: Path) -> State:
    """What a restore can tell of a directory, in words that are the same for each run."""
    paths = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return frozenset(f"{name} {_described(path, root)}" for name, path in paths.items() if may_be_read(name))


def _described(path: Path, root: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_dir():
        return "/"
    if path.read_bytes().startswith(_STATE_FILE):
        state: Any = tf.train.get_checkpoint_state(str(path.parent), path.name)
        names = (state.model_checkpoint_path, *state.all_model_checkpoint_paths)
        return " ".join(os.path.relpath(name, root) for name in names)
    size = path.stat().st_size
    return "not empty" if size and _ITERATORS.search(str(path)) else str(size)


def readable(root: Path) -> dict[str, Any]:
    """What a restore may read in a directory, bytes and all."""
    return {name: what for name, what in contents(root).items() if may_be_read(name)}


class Workshop:
    """Lives one workload again and again.

    Args:
        workload: what is trained.
        engine: starts its lives.
        base: for its directories.
    """

    def __init__(self, workload: Workload, engine: Engine, base: Path) -> None:
        self._workload = workload
        self._engine = engine
        self._base = base

    def recorded(self) -> Computed:
        """One run that nobody kills, and the states of its log."""
        directory, _, _ = self._live("recorded")
        log, meta = list(operations.read(directory / recording.LOG)), recording.read(directory)
        found = list(crash_states.distinct(crash_states.crash_states(log, before=meta.before)))
        whole = [state for state in crash_states.crash_states(log, before=meta.before) if not state.torn]
        whole = list(crash_states.distinct(whole))
        states = frozenset(seen(self._rebuilt(state, directory)) for state in whole)
        shown = sum(map(visible, log[meta.before :]))
        return Computed(len(log) - meta.before, shown, meta.threads, len(found), len(found) - len(whole), states)

    def kills(self, expected: int, *, rounds: int) -> Iterator[Left]:
        """Kills before each operation until none lands: two at a time as many as are expected to."""
        with ThreadPoolExecutor(2) as pool:
            for _ in range(rounds):
                yield from pool.map(self._kill, range(1, expected + 1))
        landed = True
        while landed:
            expected += 1
            left = self._kill(expected)
            landed = left.landed
            yield left

    def _kill(self, op: int) -> Left:
        directory, root, landed = self._live(f"kill-{op}", op)
        *_, last = crash_states.crash_states(operations.read(directory / recording.LOG))
        return Left(landed, seen(root), readable(self._rebuilt(last, directory, moved=False)) == readable(root))

    def _live(self, name: str, op: int | None = None) -> tuple[Path, Path, bool]:
        """Lives, until the `op`-th visible operation if there is one: its directory, what it left, if it was killed."""
        directory, root = self._base / name, self._base / f"{name}-run"
        model_dir = store.model_directory(store.fresh(root))
        process = self._engine.start(self._workload, directory, model_dir, slot=0, record=root, op=op)
        life = live(process, CONDITIONS, kill=None if op is None else Kill(0, op=op))
        if life.ending not in (Ending.KILLED, Ending.FINISHED):
            raise RuntimeError(f"{name} ended by itself: {life.status}\n{life.stderr_tail}")
        return directory, root, life.ending is Ending.KILLED

    def _rebuilt(self, state: crash_states.CrashState, directory: Path, *, moved: bool = True) -> Path:
        place = directory / "rebuilt"
        crash_states.rebuild(state, directory / recording.LOG, place)
        if moved:
            relocation.move(place, Path(recording.read(directory).root))
        return place


def differences(computed: frozenset[State], lived: frozenset[State]) -> str:
    """How many states are in one of the sets only."""
    return f"{len(computed - lived)} only computed, {len(lived - computed)} only left by a kill"


def part(states: frozenset[State], *, hooks: bool) -> frozenset[State]:
    """The states of what a hook writes, or of the rest."""
    return frozenset(frozenset(line for line in state if line.startswith(_INPUT) is hooks) for state in states)


def tell(computed: frozenset[State], lived: frozenset[State]) -> None:
    """Prints each state that only one of the sets has, as it differs from the nearest of the other."""
    for title, mine, others in (("only computed", computed, lived), ("only left by a kill", lived, computed)):
        for state in mine - others:
            nearest = min(others, key=lambda other: len(other ^ state))
            print(f"  {title}: has {sorted(state - nearest)}, lacks {sorted(nearest - state)}")


def compare(name: str, workshop: Workshop, *, rounds: int, verbose: bool) -> None:
    """Prints the rows of one workload."""
    run = workshop.recorded()
    lefts = list(workshop.kills(run.visible, rounds=rounds))
    lived = frozenset(left.state for left in lefts)
    print(f"{name}: {run.operations} operations, {run.visible} of them restore-visible, by {run.threads} threads")
    print(f"  every: {run.found} states, {run.torn} of them torn; the others by names and sizes: {len(run.states)}")
    print(f"  live:  {sum(left.landed for left in lefts)} kills left, by names and sizes: {len(lived)}")
    print(f"  differences: {differences(run.states, lived)}")
    if run.threads > 1:
        for hooks, title in ((True, "what a hook writes"), (False, "the rest")):
            print(f"    {title} alone: {differences(part(run.states, hooks=hooks), part(lived, hooks=hooks))}")
    print(f"    left otherwise than the life's own log says: {sum(not left.as_logged for left in lefts)}", flush=True)
    if verbose:
        tell(run.states, lived)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--rounds", type=int, default=1, help="so many kills before each operation")
    parser.add_argument("--verbose", action="store_true", help="print the states that differ")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in WORKLOADS if name != "estimator" or HAS_ESTIMATOR]
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"there is no workload {', '.join(sorted(unknown))}: give some of {', '.join(WORKLOADS)}")
    print(f"TensorFlow {tf.__version__}")
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory), seed=1, isolation="fork", say=print)
        try:
            for name in names:
                workshop = Workshop(WORKLOADS[name], engine, Path(directory, name))
                compare(name, workshop, rounds=arguments.rounds, verbose=arguments.verbose)
        finally:
            engine.close()


if __name__ == "__main__":
    main()
