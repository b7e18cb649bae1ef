"""Runs training lives for the tests of the hook: a fork server that has imported TensorFlow and run no op.

Jobs come by stdin, see `Job` and `forking.serve`. Imports nothing else of the tests: the interpreter is a fresh one.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pipeline_ckpt
import tensorflow as tf
from forking import serve

v1 = tf.compat.v1


@dataclass(frozen=True, slots=True)
class Job:
    """One life."""

    model_dir: str
    log: str
    """Gets a line `step element` inside each step, so before any save of it."""
    result: str
    """Gets the outcome."""
    steps: int = 40
    save_model: int = 10
    save_model_secs: float | None = None
    """Estimators: instead of `save_model`."""
    keep_model: int = 5
    pipeline: str = "seeded"
    hook: dict[str, Any] | None = field(default_factory=dict)
    """Keywords of the hook besides `checkpoint_dir`; None: no hook."""
    kill: str = ""
    """`before:N` (before the model's save of step N), `between:N` (after it, before the input's), `after:N`
    (after both are written), or `file:N:K` (instead of the K-th change of a name that the save of input N makes)."""
    listener: bool = False
    """The input is saved by the listener, before the model."""
    train: str = "session"
    """`session`, or `estimator`: one `train` call and one `evaluate` after the other until the model is at `steps`,
    with one hook for all; `estimators`: the same with a new Estimator and a new hook for each."""
    call: int | None = None
    """Steps of a `train` call; None: to the end of the data, or to `steps`."""
    theirs: bool = False
    """TensorFlow's own hook instead of ours."""
    strategy: str = ""
    """`mirrored`: a `MirroredStrategy` over one CPU."""
    evaluate_with_hook: bool = False
    """The same pipeline in the evaluation, and the hook passed to it too."""
    checkpoint_dir: str = ""
    """Of the input, where it is not the model's."""
    largest_file: int = 0
    """Bytes at which writing to a file fails (RLIMIT_FSIZE), as on a full disk."""
    increment: int = 1
    """By which a step moves `global_step`."""
    peek: int = 0
    """Every so many steps an element is taken without a step."""
    initialise: bool = False
    """The iterator is initialised by the first run in the session, not when the session is made."""
    accident: int = 0
    """At this step a run takes an element and ends in StopIteration, which is no error to a MonitoredSession."""
    sessions: int = 1
    """So many sessions, one after the other, with one hook; each trains `steps` divided by this."""
    trace: str = ""
    """A file that gets a line for each fsync and each rename."""
    construct: dict[str, Any] = field(default_factory=dict)
    """Only makes a hook, with these arguments."""
    environ: dict[str, str] = field(default_factory=dict)
    kill_resume: int = 0
    """Instead of the K-th change of a name in this life, which a resume makes."""
    interrupt: int = 0
    """The session breaks (AbortedError) once, after this step, and is recovered by TensorFlow."""
    notice: int = 0
    """SIGTERM comes during this step."""
    rewind: int = 0
    """At this step the loop restores the model's newest checkpoint into the session, as a hook against NaNs may."""
    again: bool = False
    """The loop initialises the iterator again whenever the data has ended."""
    apart: int = 0
    """Each step takes its element by one run, and trains on it by another; before this step a second passes."""
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


def _die_when_written(hooks: list[Any]) -> None:
    """Dies when the saves that have begun are complete: another thread writes them."""
    _when_written(hooks, _die)()


def _when_written(hooks: list[Any], action: Any) -> Any:
    def call() -> None:
        for hook in hooks:
            hook._checkpointer.finish()
        action()

    return call


def _die_at_file_operation(count: int) -> Any:
    """From now on the `count`-th change of a name in the file system is a SIGKILL instead."""
    left = [count]

    def arm() -> None:
        for module, name in (
            (tf.io.gfile, "makedirs"),
            (tf.io.gfile, "rename"),
            (os, "link"),
            (os, "unlink"),
            (shutil, "rmtree"),
        ):
            original = getattr(module, name)

            def call(path: Any, *args: Any, original: Any = original, name: str = name, **kwargs: Any) -> None:
                left[0] -= name != "unlink" or os.path.lexists(path)
                if left[0] == 0:
                    _die()
                original(path, *args, **kwargs)

            setattr(module, name, call)

    return arm


def _trace(path: str) -> None:
    """Writes down each fsync and each rename, and does them."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    fsync, rename = os.fsync, tf.io.gfile.rename

    def traced_fsync(descriptor: Any) -> None:
        fsync(descriptor)
        os.write(log, f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}\n".encode())

    def traced_rename(source: str, target: str, **kwargs: Any) -> None:
        rename(source, target, **kwargs)
        os.write(log, f"rename {target}\n".encode())

    os.fsync = traced_fsync  # type: ignore[assignment]  # the parameter has another name
    tf.io.gfile.rename = traced_rename


def _hooks(job: Job, own: list[Any]) -> list[Any]:
    """The session's hooks; `own` holds ours, and gets it if it is empty."""
    before, between, after = [], [], []
    kind, _, rest = job.kill.partition(":")
    step, _, count = rest.partition(":")
    if kind == "before":
        before = [_At(int(step), lambda: _die_when_written(own))]
    elif kind == "between":
        between = [_At(int(step), lambda: _die_when_written(own))]
    elif kind == "file":
        between = [_At(int(step), _when_written(own, _die_at_file_operation(int(count))))]
    elif kind == "after":
        after = [_At(int(step), lambda: _die_when_written(own))]
    if job.notice:
        before.append(_At(job.notice, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    if job.interrupt:
        after.append(_At(job.interrupt, _when_written(own, _break_once())))
    own += [] if job.hook is None or own else [_own_hook(job)]
    listeners = [pipeline_ckpt.InputPipelineSaverListener(own[0])] if job.listener else []
    saver = v1.train.CheckpointSaverHook(
        job.model_dir, save_steps=job.save_model, saver=_saver(job), listeners=listeners
    )
    return [*before, saver, *between, *own, *after]


def _own_hook(job: Job) -> Any:
    keywords = {"save_steps": 10, **(job.hook or {})}
    return pipeline_ckpt.CheckpointInputPipelineHook(checkpoint_dir=job.checkpoint_dir or job.model_dir, **keywords)


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
    make = PIPELINES.get(pipeline)
    return numbers.shuffle(16, seed=7).repeat().prefetch(4) if make is None else make(numbers)


def _generator(_: Any) -> Any:
    return tf.data.Dataset.from_generator(lambda: iter(range(200)), output_signature=tf.TensorSpec([], tf.int64))


def _python(numbers: Any) -> Any:
    return numbers.repeat().map(lambda x: _unchanged(tf.numpy_function(lambda y: y, [x], tf.int64)))


def _large(_: Any) -> Any:
    """A buffer of 16 MB."""
    blocks = tf.data.Dataset.range(10**6).map(lambda x: x + tf.zeros([512], tf.int64))
    return blocks.shuffle(4000, seed=3).map(lambda x: x[0])


PIPELINES: dict[str, Any] = {
    "epoch": lambda numbers: numbers.shuffle(30, seed=5, reshuffle_each_iteration=False).take(12),
    "finite": lambda numbers: numbers,
    "finite-short": lambda numbers: numbers.take(12),
    "generator": _generator,
    "large": _large,
    "other elements": lambda numbers: numbers.repeat().map(lambda x: tf.cast(x, tf.int32)),
    "other function": lambda _: tf.data.Dataset.range(30).map(lambda x: x * 5).shuffle(16, seed=7).repeat().prefetch(4),
    "python": _python,
    "stateful": lambda numbers: numbers.repeat().map(lambda x: x + tf.random.uniform([], maxval=9, dtype=tf.int64)),
    "unordered": lambda numbers: numbers.repeat().map(lambda x: x, num_parallel_calls=2, deterministic=False),
    "unseeded": lambda numbers: numbers.shuffle(30).prefetch(4),
    "unseeded-repeat": lambda numbers: numbers.shuffle(30).repeat().prefetch(4),
}
"""By the names of `Job.pipeline`, from the numbers 0, 3, ... 87; another name has a seeded shuffle."""


def _unchanged(tensor: Any) -> Any:
    tensor.set_shape([])
    return tensor


def _element(pipeline: str) -> Any:
    """The tensor of what a step takes."""
    iterator = v1.data.make_initializable_iterator(_dataset(pipeline))
    v1.add_to_collection("initializer", iterator.initializer)
    if pipeline == "feedable":
        handle = v1.placeholder_with_default(iterator._string_handle, [])
        iterator = v1.data.Iterator.from_string_handle(handle, iterator.output_types, iterator.output_shapes)
    if pipeline == "branch":
        return v1.cond(v1.train.get_global_step() >= 0, iterator.get_next, lambda: tf.constant(0, tf.int64))
    element = iterator.get_next()
    if pipeline == "pairs":
        with tf.control_dependencies([element]):  # without it, either may be the first
            return element * 1000 + iterator.get_next()
    if pipeline == "two":
        other = v1.data.make_initializable_iterator(tf.data.Dataset.range(100).shuffle(9, seed=3).repeat())
        v1.add_to_collection("initializer", other.initializer)
        return element * 1000 + other.get_next()
    return element


def train(job: Job) -> None:
    """Trains to step `job.steps`; the model is its global_step."""
    own: list[Any] = []
    for number in range(1, job.sessions + 1):
        _train_session(job, own, steps=job.steps * number // job.sessions)


def _train_session(job: Job, own: list[Any], *, steps: int) -> None:
    with tf.Graph().as_default():
        if job.pipeline != "no step":
            global_step = v1.train.get_or_create_global_step()
        element = tf.constant(0) if job.pipeline == "no iterator" else _element(job.pipeline)
        if job.pipeline == "no step":
            _own_hook(job).begin()
        initializers = v1.get_collection("initializer")
        if not job.initialise:
            for op in initializers:
                v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, op)
        trained = v1.placeholder(tf.int64, []) if job.apart else element
        with tf.control_dependencies([trained]):
            step_op = v1.assign_add(global_step, job.increment)
        train_op = tf.numpy_function(_logger(job.log), [step_op, trained], tf.int64)
        saver = v1.train.Saver([global_step]) if job.rewind else None
        fails = tf.numpy_function(_stop, [element], tf.int64)
        # The loop of a real training: never a step more than asked for, also when it is called again at the
        # end.
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=job.model_dir,
            hooks=_hooks(job, own),
            save_checkpoint_steps=None,
            save_checkpoint_secs=None,
            save_summaries_steps=None,
            log_step_count_steps=None,
        ) as session:
            if job.initialise:
                session.run(initializers)
            step = 0 if job.run_anyway else session.run(global_step)
            while step < steps and not session.should_stop():
                if job.accident and step == job.accident:
                    session.run(fails)
                if saver is not None and step == job.rewind:
                    saver.restore(session._tf_sess(), tf.train.latest_checkpoint(job.model_dir))
                fed = _taken_before(job, session, element, step)
                try:
                    step = session.run(train_op, {} if fed is None else {trained: fed})
                except tf.errors.OutOfRangeError:
                    if not job.again:
                        raise
                    session.run(initializers)
                if job.peek and step % job.peek == 0:
                    session.run(element)


def _taken_before(job: Job, session: Any, element: Any, step: int) -> Any:
    """What a step is fed with, if it takes its element by a run of its own."""
    if not job.apart:
        return None
    if step == job.apart:
        time.sleep(1)
    return session.run(element)


def _stop(_: Any) -> Any:
    raise StopIteration


def train_estimator(job: Job) -> None:
    """Trains with `tf.estimator` (TensorFlow 2.15)."""
    estimator = _estimator(job)
    hooks: list[Any] = []
    while (at := _step_of(estimator)) < job.steps:
        if not hooks or job.train == "estimators":
            estimator = _estimator(job)
            hooks = _estimator_hooks(job, estimator)
        count = job.steps - at if job.call is None else min(job.call, job.steps - at)
        listeners = [_Listener(job, [] if job.theirs else [hooks[-2]])]
        if job.listener:
            listeners.append(pipeline_ckpt.InputPipelineSaverListener(hooks[-2]))
        estimator.train(lambda: _dataset(job.pipeline), hooks=hooks, steps=count, saving_listeners=listeners)
        if _step_of(estimator) == at:
            raise RuntimeError(f"0 steps were trained from step {at}")
        if job.evaluate_with_hook:
            estimator.evaluate(lambda: _dataset(job.pipeline), hooks=[_estimator_hooks(job, estimator)[-2]], steps=3)
        else:
            estimator.evaluate(lambda: tf.data.Dataset.range(1000, 1003))


def _estimator(job: Job) -> Any:
    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        del labels
        loss = tf.cast(tf.reduce_sum(features), tf.float32)
        if mode != "train":
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        with tf.control_dependencies([features]):
            step_op = v1.assign_add(v1.train.get_global_step(), 1)
        train_op = tf.numpy_function(_logger(job.log), [step_op, features], tf.int64)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op.op)

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"]) if job.strategy == "mirrored" else None
    config = tf.estimator.RunConfig(
        model_dir=job.model_dir,
        **({"save_checkpoints_steps": job.save_model} if job.save_model_secs is None else {}),
        save_checkpoints_secs=job.save_model_secs,
        save_summary_steps=None,
        log_step_count_steps=None,
        keep_checkpoint_max=job.keep_model,
        train_distribute=strategy,
    )
    return tf.estimator.Estimator(model_fn, config=config)


def _step_of(estimator: Any) -> int:
    return int(estimator.get_variable_value("global_step")) if estimator.latest_checkpoint() else 0


class _Listener(tf.compat.v1.train.CheckpointSaverListener):  # type: ignore[misc]  # TensorFlow is untyped
    """`kill="before:N"`: dies before the model's save of step N."""

    def __init__(self, job: Job, written: list[Any]) -> None:
        self._written = written
        kind, _, step = job.kill.partition(":")
        self._step = int(step) if kind == "before" else -1

    def before_save(self, session: Any, global_step_value: Any) -> None:
        if global_step_value == self._step:
            _die_when_written(self._written)


def _estimator_hooks(job: Job, estimator: Any) -> list[Any]:
    """The hook in the last place but one; the model's saver comes before all of them."""
    kind, _, rest = job.kill.partition(":")
    if job.theirs:
        hook: Any = tf.data.experimental.CheckpointInputPipelineHook(estimator)
    else:
        hook = pipeline_ckpt.CheckpointInputPipelineHook(estimator, **(job.hook or {}))
    if job.notice:
        return [_At(job.notice, lambda: os.kill(os.getpid(), signal.SIGTERM)), hook, _At(-1, _die)]
    written = [] if job.theirs else [hook]
    between = [_At(int(rest), lambda: _die_when_written(written))] if kind == "between" else []
    after = _At(int(rest), lambda: _die_when_written(written)) if kind == "after" else _At(-1, _die)
    return [*between, hook, after]


def _logger(path: str) -> Any:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(step: Any, element: Any) -> Any:
        os.write(log, f"{step} {element}\n".encode())
        return step

    return write


def live(job: Job) -> None:
    """Lives a job."""
    os.environ.update(job.environ)
    if job.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.largest_file, resource.RLIM_INFINITY))
    if job.kill_resume:
        _die_at_file_operation(job.kill_resume)()
    if job.trace:
        _trace(job.trace)
    if job.construct:
        pipeline_ckpt.CheckpointInputPipelineHook(**job.construct)
    (train if job.train == "session" else train_estimator)(job)


if __name__ == "__main__":
    serve(Job, live)
