"""What `--preempt-at=every` costs; whether it is complete is for `every_complete.py`.

    python benchmarks/every.py [speed growth naive memory recorder]

Runs on two processes take the whole machine: leave it alone meanwhile. Ratios are measured within one run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from good_pipelines import GOOD  # noqa: E402  (the path must be known first)

from pytest_pipeline_ckpt.engine import recording, store  # noqa: E402
from pytest_pipeline_ckpt.engine.runner import Conditions, Engine, Workload, live  # noqa: E402
from pytest_pipeline_ckpt.payload import pickled  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

DATASET = """
def make_dataset():
    import tensorflow as tf

    return tf.data.Dataset.range({elements}).shuffle(50, seed=1).map(lambda n: n + 1).batch(4).prefetch(2)

def test_dataset(preemption):
    preemption.check_dataset(make_dataset, steps={steps}, save_every={save_every})
"""
LARGE = """
def train(model_dir):
    import tensorflow as tf

    weights, step = tf.Variable(tf.zeros([{floats}])), tf.Variable(0, dtype=tf.int64)
    iterator = iter(tf.data.Dataset.range(50))
    checkpoint = tf.train.Checkpoint(weights=weights, step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    for number in iterator:
        weights.assign_add(tf.random.stateless_uniform(weights.shape, [1, int(number)]))
        if step.assign_add(1) % 5 == 0:
            manager.save(checkpoint_number=int(step))

def test_training(preemption):
    preemption.check_training(train)
"""
FOUND = re.compile(r"(\d+) elements? and (\d+) file operations? leave (\d+) states?(?:, (\d+) of them judged)?")
ONE_STATE = 10**6
"""A stride for which one state is judged: what is left is the recorded run, and what pytest takes to start."""
FLOATS = {"tiny": 1, "100 MB": 25 * 2**20}
MB = 2**20


def command(directory: Path, test: str, *options: str) -> list[str]:
    """Runs a test file that is written there."""
    (directory / "test_every.py").write_text(test)
    fixed = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", f"--basetemp={directory / 'base'}"]
    return [sys.executable, "-m", "pytest", *fixed, "--preempt-seed=1", *options, str(directory / "test_every.py")]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A directory."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@dataclass(frozen=True, slots=True)
class Survey:
    """A run of `every` on two processes."""

    seconds: float
    instants: int
    """Elements and file operations: the kills that a naive enumeration would make."""
    states: int
    judged: int


def test_of(steps: int, save_every: int) -> str:
    """The test of a dataset."""
    return DATASET.format(elements=4 * steps, steps=steps, save_every=save_every)


def pytest_run(test: str, *options: str) -> tuple[float, str]:
    """Wall-clock seconds and output of a run on two processes; raises when it is not green."""
    with workplace() as directory:
        start = time.monotonic()
        ended = subprocess.run(command(directory, test, "-n2", *options), cwd=directory, capture_output=True, text=True)
        seconds = time.monotonic() - start
    if ended.returncode != 0:
        raise RuntimeError(ended.stdout)
    return seconds, ended.stdout


@functools.cache
def surveyed(steps: int, save_every: int, stride: int = 1) -> Survey:
    """Judges every `stride`-th state."""
    seconds, output = pytest_run(test_of(steps, save_every), f"--preempt-at=every:{stride}")
    rows = FOUND.findall(output)
    elements, operations, states = map(int, rows[0][:3])
    judged = sum(int(judged or states) for *_, judged in rows)  # an item that has judged all does not say how many
    return Survey(seconds, elements + operations, states, judged)


def speed(steps: int) -> None:
    """All states of a run with 100 saves."""
    found = surveyed(steps, steps // 100)
    print(f"speed: {steps} steps, 100 saves, {found.judged} of {found.states} states judged: {found.seconds:.1f} s")


def growth(steps: int) -> None:
    """What a state costs in longer runs, with more saves and with as many."""
    print("growth: steps  saves  elements + operations  states  judged  seconds  of them fixed  ms a state")
    rows = [(count, step) for count in (steps // 4, steps, 4 * steps) for step in (10, count // 25)]
    for count, save_every in dict.fromkeys(rows):
        saves = count // save_every
        stride = 1 if saves <= 100 else saves // 50
        found, fixed = surveyed(count, save_every, stride), surveyed(count, save_every, ONE_STATE)
        each = (found.seconds - fixed.seconds) / (found.judged - fixed.judged)
        print(
            f"       {count:6d} {saves:6d} {found.instants:22d} {found.states:7d} {found.judged:7d}"
            f" {found.seconds:8.1f} {fixed.seconds:14.1f} {each * 1e3:11.0f}"
            f"{'' if stride == 1 else f'  (every:{stride})'}",
            flush=True,
        )


def naive(steps: int) -> None:
    """The same kills, each with fresh interpreters for the killed life and the resumed one."""
    options = ("--preempt-isolation=spawn", f"--preempt-at=step:{steps // 2}")
    few, more = 2, 4
    test = test_of(steps, steps // 100)
    seconds = {trials: pytest_run(test, *options, f"--preempt-trials={trials}")[0] for trials in (few, few + more)}
    fresh = more / (seconds[few + more] - seconds[few])
    found = surveyed(steps, steps // 100)
    ours = found.judged / found.seconds
    print(f"naive: {fresh:.2f} kills a second, every: {ours:.2f} states a second, ratio {ours / fresh:.1f}")


@dataclass(frozen=False, slots=True)
class Peaks:
    """Largest resident sizes, in MB."""

    supervisor: float = 0
    recording: float = 0
    """Of pytest, until the run is recorded."""
    states: float = 0
    """Of pytest, from then on."""
    own: float = 0
    """Of pytest, what is in no file."""

    def look(self, pytest: psutil.Process, *, recorded: bool) -> None:
        """Looks at a pytest process, and at what its servers have forked."""
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = pytest.memory_info()
            self.own = max(self.own, (memory.rss - memory.shared) / MB)
            if recorded:
                self.states = max(self.states, memory.rss / MB)
                return
            self.recording = max(self.recording, memory.rss / MB)
            for server in pytest.children():
                for supervisor in server.children():
                    self.supervisor = max(self.supervisor, supervisor.memory_info().rss / MB)


def peaks(floats: int) -> Peaks:
    """Those of a run with ten saves of so many floats."""
    found = Peaks()
    with workplace() as directory:
        test = command(directory, LARGE.format(floats=floats), f"--preempt-at=every:{ONE_STATE}")
        with subprocess.Popen(test, cwd=directory, stdout=subprocess.DEVNULL) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                recorded = any(directory.glob(f"base/preempt/*/recorded/{recording.RECORDING}"))
                found.look(watched, recorded=recorded)
                time.sleep(0.01)
        log = next(directory.glob(f"base/preempt/*/recorded/{recording.LOG}"))
        size = sum(path.stat().st_size for path in log.iterdir()) / MB
    if process.returncode != 0:
        raise RuntimeError("the run with a large variable is not green")
    print(
        f"memory: a log of {size:6.0f} MB: resident at most: supervisor {found.supervisor:.0f} MB, pytest "
        f"{found.recording:.0f} MB while it is recorded, {found.states:.0f} MB behind it, {found.own:.0f} MB its own",
        flush=True,
    )
    return found


def memory(_: int) -> None:
    """A run that saves 1 GB beside one that saves next to nothing."""
    tiny, large = (peaks(floats) for floats in FLOATS.values())
    grown = (large.supervisor - tiny.supervisor, large.recording - tiny.recording, large.states - tiny.states)
    print("memory: grown by {:.0f}, {:.0f} and {:.0f} MB".format(*grown))


def recorder(_: int, rounds: int = 15) -> None:
    """A life that is recorded beside one that is not, in turns."""
    arguments = {"steps": 100, "save_every": 10, "runner": "eager"}
    workload = Workload("dataset", pickled(GOOD["batches"].make, None), arguments)
    conditions = Conditions(timeout=120, grace=5, max_elements=10**6, order="exact")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with workplace() as directory:
        engine = Engine(directory, seed=1, isolation="fork", say=print)
        for number in range(2 * (rounds + 1)):
            root, recorded = store.fresh(directory / "run"), number % 2 == 1
            model_dir, record = store.model_directory(root), root if recorded else None
            start = time.monotonic()
            live(engine.start(workload, directory / "life", model_dir, slot=0, record=record), conditions)
            seconds[recorded].append(time.monotonic() - start)
        engine.close()
    plain, recorded_too = seconds[False][1:], seconds[True][1:]
    ratio = statistics.median(one / other for one, other in zip(recorded_too, plain, strict=True))
    print(
        f"recorder: a run of 100 steps and 10 saves {statistics.median(plain) * 1e3:.0f} ms, recorded "
        f"{statistics.median(recorded_too) * 1e3:.0f} ms, ratio {ratio:.2f}"
    )


PARTS = {"speed": speed, "growth": growth, "naive": naive, "memory": memory, "recorder": recorder}


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--steps", type=int, default=1000, help="of the run that speed, growth and naive begin with")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: give some of {', '.join(PARTS)}")
    for name in arguments.parts or PARTS:
        PARTS[name](arguments.steps)


if __name__ == "__main__":
    main()
