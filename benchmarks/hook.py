"""What the hook costs, beside TensorFlow 2.15's own in the same run: `python benchmarks/hook.py`.

On TensorFlow 2.16 and later, which have no hook of their own, only ours is measured. Every ratio is the median of
alternating rounds on the same graph.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from pipeline_ckpt import CheckpointInputPipelineHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

v1 = tf.compat.v1
ROUNDS = 7
THEIRS: Any = getattr(tf.data.experimental, "CheckpointInputPipelineHook", None)


@dataclass(frozen=True, slots=True)
class _Config:
    """What TensorFlow's hook reads of an Estimator's configuration."""

    save_checkpoints_secs: float | None = None
    save_checkpoints_steps: int | None = 10**9
    num_worker_replicas: int = 1


@dataclass(frozen=True, slots=True)
class _Estimator:
    """What TensorFlow's hook reads of an Estimator."""

    model_dir: str
    _config: _Config = _Config()


@dataclass(frozen=True, slots=True)
class Training:
    """A running training with one hook that saves when it is told to."""

    session: Any
    raw: Any
    step: Any
    save: Callable[[], None]
    """Returns when the training may go on."""
    written: Callable[[], None]
    """Returns when the checkpoint is complete."""


def buffer() -> Any:
    """A shuffle buffer of 100,000 elements of 1 KB."""
    blocks = tf.data.Dataset.range(10**9).map(lambda n: n + tf.zeros([128], tf.int64))
    return blocks.shuffle(100_000, seed=1).map(lambda block: block[0])


def numbers() -> Any:
    """A small state."""
    return tf.data.Dataset.range(10**9).shuffle(16, seed=1)


@contextlib.contextmanager
def training(hook: str, make_dataset: Callable[[], Any], *, ops: int = 0, durable: bool = False) -> Iterator[Training]:
    """A session that trains on `make_dataset` with `theirs`, `ours` or no hook, in a graph of `ops` further ops."""
    directory = tempfile.mkdtemp()
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(make_dataset())
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        global_step = v1.train.get_or_create_global_step()
        chain = tf.constant(0.0)
        for _ in range(ops):
            chain = chain + 1.0
        with tf.control_dependencies([iterator.get_next()]):
            step = v1.assign_add(global_step, 1).op
        made = _hook(hook, directory, durable=durable)
        with v1.train.MonitoredTrainingSession(hooks=[made] if made else []) as session:
            session.run(step)
            raw = session._tf_sess()
            yield Training(session, raw, step, *_saves(hook, made, raw, global_step))
    shutil.rmtree(directory)


def _hook(hook: str, directory: str, *, durable: bool) -> Any:
    if hook == "theirs":
        return THEIRS(_Estimator(directory))
    if hook == "ours":
        return CheckpointInputPipelineHook(checkpoint_dir=directory, save_steps=10**9, durable=durable)
    return None


def _saves(hook: str, made: Any, raw: Any, global_step: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    def nothing() -> None:
        pass

    if hook == "ours":
        return lambda: made.save_now(raw, int(raw.run(global_step))), made._checkpointer.finish
    if hook == "theirs":
        saver = made._checkpoint_saver_hook
        return lambda: saver._save(raw, int(raw.run(global_step))), nothing
    return nothing, nothing


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def steps(one: Training, count: int = 300) -> float:
    """Seconds of `count` steps without a save."""
    return seconds(lambda: [one.session.run(one.step) for _ in range(count)])


@dataclass(frozen=True, slots=True)
class Save:
    """One save, in seconds."""

    stall: float
    whole: float


def save(one: Training) -> Save:
    """Measures a save of another step than the last one's."""
    one.session.run(one.step)
    start = time.perf_counter()
    one.save()
    stall = time.perf_counter() - start
    one.written()
    return Save(stall, time.perf_counter() - start)


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the rounds' ratios, and of ours."""
    own = f"ours {statistics.median(ours) * 1e3:8.2f} ms"
    if not theirs:
        return f"{own}   (no hook of TensorFlow's to compare with)"
    found = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return f"{own}   theirs {statistics.median(theirs) * 1e3:8.2f} ms   ratio {found:.2f}"


def step_time() -> None:
    """A step without a save."""
    ways = ["ours", "theirs"] if THEIRS else ["ours"]
    with contextlib.ExitStack() as stack:
        running = {way: stack.enter_context(training(way, numbers)) for way in ways}
        measured: dict[str, list[float]] = {way: [] for way in ways}
        for one in running.values():
            steps(one)
        for _ in range(ROUNDS):
            for way, one in running.items():
                measured[way].append(steps(one) / 300)
    print(f"{'a step without a save':44} {ratio(measured['ours'], measured.get('theirs', []))}  (bar 1.05)")


def save_time(name: str, make_dataset: Callable[[], Any], *, ops: int, bar: float, stall: float | None = None) -> None:
    """A save, and its durable kind."""
    ways = ["ours", "theirs"] if THEIRS else ["ours"]
    with contextlib.ExitStack() as stack:
        running = {way: stack.enter_context(training(way, make_dataset, ops=ops)) for way in ways}
        running["durable"] = stack.enter_context(training("ours", make_dataset, ops=ops, durable=True))
        found: dict[str, list[Save]] = {way: [] for way in running}
        for one in running.values():
            save(one)
        for _ in range(ROUNDS):
            for way, one in running.items():
                found[way].append(save(one))
    theirs = [one.whole for one in found.get("theirs", [])]
    print(f"{name:44} {ratio([one.whole for one in found['ours']], theirs)}  (bar {bar})")
    if stall is not None:
        print(f"{'  of which training waits':44} {ratio([one.stall for one in found['ours']], theirs)}  (bar {stall})")
    print(f"{'  with durable=True':44} {ratio([one.whole for one in found['durable']], theirs)}")


def resume_time(forward: int = 1000) -> None:
    """Restore and fast-forward over cheap elements."""
    directory = Path(tempfile.mkdtemp())

    def run(until: int, save_steps: int) -> float:
        with tf.Graph().as_default():
            iterator = v1.data.make_initializable_iterator(numbers())
            v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
            global_step = v1.train.get_or_create_global_step()
            with tf.control_dependencies([iterator.get_next()]):
                step = v1.assign_add(global_step, 1)
            hook = CheckpointInputPipelineHook(checkpoint_dir=directory, save_steps=save_steps)
            with v1.train.MonitoredTrainingSession(
                checkpoint_dir=str(directory), hooks=[hook], save_checkpoint_steps=10**9
            ) as session:
                first = seconds(lambda: session.run(global_step))
                while session.run(global_step) < until:
                    session.run(step)
        return first

    run(forward, 10**9)
    for path in directory.glob(f"input.ckpt-{forward}.*"):
        path.unlink()
    print(f"{'restore + fast-forward of 1,000 elements':44} {run(forward, 10**9):.3f} s  (bar 1 s)")
    shutil.rmtree(directory)


def main() -> None:
    """Prints the table."""
    print(f"TensorFlow {tf.__version__}, median of {ROUNDS} alternating rounds\n")
    step_time()
    save_time("a save, 5,000 ops, small state", numbers, ops=5000, bar=0.5)
    save_time("a save, shuffle buffer of 100,000 x 1 KB", buffer, ops=0, bar=1.05, stall=0.7)
    resume_time()


if __name__ == "__main__":
    main()
