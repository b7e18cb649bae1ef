"""Runs training lives for the tests of the hook: a fork server that has imported TensorFlow and run no op.

Reads one job (a JSON object, see `Job`) from each line of stdin, forks a child that trains, and answers with
one line: how the child ended, and the error that it raised. Imports nothing of the tests: the interpreter is
a fresh one.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pipeline_ckpt
import tensorflow as tf

v1 = tf.compat.v1


@dataclass(frozen=True, slots=True)
class Job:
    """One life."""

    model_dir: str
    log: str
    """Gets a line `step element` inside each step, so before any save of it."""
    result: str
    """Gets the error as JSON, if one ends the life."""
    steps: int = 40
    save_model: int = 10
    keep_model: int = 5
    pipeline: str = "seeded"
    hook: dict[str, Any] | None = field(default_factory=dict)
    """Keywords of the hook besides `checkpoint_dir`; None: no hook."""
    kill: str = ""
    """`before:N` (before the model's save of step N), `between:N` (after it, before the input's), `after:N`
    (after both), or `file:N:K` (instead of the K-th change of a name that the save of input N makes)."""
    interrupt: int = 0
    """The session breaks (AbortedError) once, after this step, and is recovered by TensorFlow."""
    run_anyway: bool = False
    """Runs a step without asking whether the model is at its last one."""


class _At(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """Calls `action` after step `step`; where, depends on the place among the hooks."""

    def __init__(self, step: int, action: Any) -> None:
        self._step, self._action = step, action

    def begin(self) -> None:
        self._tensor = v1.train.get_global_step()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_context.session.run(self._tensor) == self._step:
            self._action()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_file_operation(count: int) -> Any:
    """From now on the `count`-th change of a name in the file system is a SIGKILL instead."""
    left = [count]

    def arm() -> None:
        for name in ("makedirs", "rename", "remove", "rmtree"):
            original = getattr(tf.io.gfile, name)

            def call(*args: Any, original: Any = original, **kwargs: Any) -> None:
                left[0] -= 1
                if left[0] == 0:
                    _die()
                original(*args, **kwargs)

            setattr(tf.io.gfile, name, call)

    return arm


def _hooks(job: Job) -> list[Any]:
    before, between, after = [], [], []
    kind, _, rest = job.kill.partition(":")
    step, _, count = rest.partition(":")
    if kind == "before":
        before = [_At(int(step), _die)]
    elif kind == "between":
        between = [_At(int(step), _die)]
    elif kind == "file":
        between = [_At(int(step), _die_at_file_operation(int(count)))]
    elif kind == "after":
        after = [_At(int(step), _die)]
    if job.interrupt:
        after.append(_At(job.interrupt, _break_once()))
    saver = v1.train.CheckpointSaverHook(job.model_dir, save_steps=job.save_model, saver=_saver(job))
    own = [] if job.hook is None else [_own_hook(job)]
    return [*before, saver, *between, *own, *after]


def _own_hook(job: Job) -> Any:
    keywords = {"save_steps": 10, **(job.hook or {})}
    return pipeline_ckpt.CheckpointInputPipelineHook(checkpoint_dir=job.model_dir, **keywords)


def _saver(job: Job) -> Any:
    saver = v1.train.Saver(max_to_keep=job.keep_model, save_relative_paths=True)
    v1.add_to_collection(v1.GraphKeys.SAVERS, saver)
    return saver


def _break_once() -> Any:
    broken: list[bool] = []

    def action() -> None:
        if not broken:
            broken.append(True)
            raise tf.errors.AbortedError(None, None, "the session is broken on purpose")

    return action


def _dataset(pipeline: str) -> Any:
    numbers = tf.data.Dataset.range(30).map(lambda x: x * 3)
    if pipeline == "unseeded":
        return numbers.shuffle(30).prefetch(4)
    if pipeline == "unseeded-repeat":
        return numbers.shuffle(30).repeat().prefetch(4)
    if pipeline == "finite":
        return numbers
    if pipeline == "finite-short":
        return numbers.take(12)
    if pipeline == "stateful":
        return numbers.repeat().map(lambda x: x + tf.random.uniform([], maxval=9, dtype=tf.int64))
    return numbers.shuffle(16, seed=7).repeat().prefetch(4)


def _element(pipeline: str) -> Any:
    """The tensor of what a step takes."""
    iterator = v1.data.make_initializable_iterator(_dataset(pipeline))
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    if pipeline == "branch":
        return v1.cond(v1.train.get_global_step() >= 0, iterator.get_next, lambda: tf.constant(0, tf.int64))
    element = iterator.get_next()
    if pipeline == "pairs":
        with tf.control_dependencies([element]):  # without it, either may be the first
            return element * 1000 + iterator.get_next()
    if pipeline == "two":
        other = v1.data.make_initializable_iterator(tf.data.Dataset.range(100).shuffle(9, seed=3).repeat())
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, other.initializer)
        return element * 1000 + other.get_next()
    return element


def train(job: Job) -> None:
    """Trains to step `job.steps`; the model is its global_step."""
    with tf.Graph().as_default():
        if job.pipeline != "no step":
            global_step = v1.train.get_or_create_global_step()
        element = tf.constant(0) if job.pipeline == "no iterator" else _element(job.pipeline)
        if job.pipeline == "no step":
            _own_hook(job).begin()
        with tf.control_dependencies([element]):
            step_op = v1.assign_add(global_step, 1)
        train_op = tf.numpy_function(_logger(job.log), [step_op, element], tf.int64)
        # The loop of a real training: never a step more than asked for, also when it is called again at the
        # end.
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=job.model_dir,
            hooks=_hooks(job),
            save_checkpoint_steps=None,
            save_checkpoint_secs=None,
            save_summaries_steps=None,
            log_step_count_steps=None,
        ) as session:
            step = 0 if job.run_anyway else session.run(global_step)
            while step < job.steps and not session.should_stop():
                step = session.run(train_op)


def _logger(path: str) -> Any:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(step: Any, element: Any) -> Any:
        os.write(log, f"{step} {element}\n".encode())
        return step

    return write


def _live(job: Job) -> None:
    """The child: never returns."""
    try:
        train(job)
    except Exception as error:
        with open(job.result, "w") as file:
            json.dump({"error": type(error).__name__, "message": str(error)}, file)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Serves until stdin ends."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        child = os.fork()
        if child == 0:
            os.dup2(os.open(job.result + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            _live(job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
