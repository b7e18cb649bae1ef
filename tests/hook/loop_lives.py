"""Runs custom loops for the tests of `InputPipelineCheckpoint`: a fork server like `lives.py`, with other trainings.

Jobs come by stdin, see `Job` and `forking.serve`.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pipeline_ckpt
import tensorflow as tf
from forking import serve

PER_PASS = 24


@dataclass(frozen=True, slots=True)
class Job:
    """One life."""

    model_dir: str
    log: str
    """Gets a line `step element` for each step."""
    result: str
    """Gets the outcome: what the model is at the end."""
    mode: str = "whole"
    """Where the data is saved: `whole` (with the model), `beside` (alone), `inside` (the loop's own checkpoint)."""
    function: bool = False
    """Elements are taken in a `tf.function`."""
    inner: int = 1
    """Steps of a call of that function."""
    pipeline: str = "seeded"
    passes: int = 3
    data: dict[str, Any] = field(default_factory=dict)
    """Keywords of `InputPipelineCheckpoint`."""
    save_model: int = 7
    """`beside`: how often the model is saved."""
    kill: int = 0
    """After this step, before anything is saved."""
    signal: int = 9
    handler: str = ""
    """`own`: the training has its own handler of SIGTERM; `ignore`: it ignores it."""
    back: int = 0
    """After this step the model is brought back by half of it."""
    fail: int = 0
    """After this step the training fails, and is sent SIGTERM when it has."""
    unrestored: bool = False
    """`restore` is not called."""
    largest_file: int = 0
    """Bytes at which writing to a file fails (RLIMIT_FSIZE), as on a full disk."""
    second: bool = False
    """`inside`: the checkpoint has the position in another dataset too."""
    strategy: bool = False
    """A `MirroredStrategy` over one CPU distributes the dataset."""


def _generated() -> Any:
    return tf.data.Dataset.from_generator(
        lambda: iter(range(PER_PASS)), output_signature=tf.TensorSpec([], tf.int64)
    ).shuffle(8, seed=3)


def _half(start: int) -> Any:
    return tf.data.Dataset.range(start, start + PER_PASS // 2).shuffle(12, seed=3)


def _files() -> Any:
    """Shuffled files, and their elements shuffled again."""
    files = tf.data.Dataset.range(4).shuffle(4, seed=1)
    return files.interleave(lambda n: tf.data.Dataset.range(n * 6, n * 6 + 6), cycle_length=2).shuffle(7, seed=2)


def _captured(half: Any) -> Any:
    return tf.data.Dataset.range(2).flat_map(lambda _: half)


PIPELINES: dict[str, Any] = {
    "seeded": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, seed=3).map(lambda x: x * 3).prefetch(2),
    "plain": lambda: tf.data.Dataset.range(PER_PASS),
    "other": lambda: tf.data.Dataset.range(PER_PASS).map(lambda x: tf.cast(x, tf.float32)),
    "batched": lambda: tf.data.Dataset.range(PER_PASS * 2).shuffle(48, seed=3).batch(2).prefetch(2).map(lambda x: x[0]),
    "unseeded": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS).prefetch(2),
    "repeated": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, seed=3).repeat(3),
    "once": lambda: tf.data.Dataset.range(48).shuffle(48, seed=3).repeat(1).batch(2).prefetch(2).map(lambda x: x[0]),
    "twice": lambda: tf.data.Dataset.range(24).shuffle(24, seed=3).repeat(2).batch(2).prefetch(2).map(lambda x: x[0]),
    "files": _files,
    "cached": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, seed=3).cache(),
    "random": lambda: tf.data.Dataset.random(seed=3, rerandomize_each_iteration=True).take(PER_PASS),
    "sampled": lambda: tf.data.Dataset.sample_from_datasets([_half(0), _half(12)], [0.2, 0.8], seed=7),
    "kept order": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, reshuffle_each_iteration=False),
    "kept choice": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS).take(PER_PASS).cache(),
    "concatenated": lambda: _half(0).concatenate(_half(12)),
    "captured": lambda: _captured(_half(0)),
    "generator": _generated,
    "stateful": lambda: tf.data.Dataset.range(PER_PASS).map(lambda x: x + tf.random.uniform([], 0, 9, tf.int64)),
}


class _Training:
    """Model, step, and the data with its checkpoint."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.step = tf.Variable(0, dtype=tf.int64)
        self.model = tf.Module()
        self.model.weight = tf.Variable(tf.zeros([], tf.float64))
        dataset: Any = PIPELINES[job.pipeline]()
        if job.strategy:
            dataset = tf.distribute.MirroredStrategy(["/cpu:0"]).experimental_distribute_dataset(dataset)
        self._log = os.open(job.log, os.O_WRONLY | os.O_APPEND)
        keywords: dict[str, Any] = {"save_steps": 5, **job.data}
        if job.mode == "inside":
            self.data = pipeline_ckpt.InputPipelineCheckpoint(dataset, self.step, **keywords)
        else:
            with_it = {"model": self.model} if job.mode == "whole" else {}
            self.data = pipeline_ckpt.InputPipelineCheckpoint(dataset, self.step, job.model_dir, **keywords, **with_it)
        also = {"data": self.data} if job.mode == "inside" else {}
        if job.second:
            also["second"] = pipeline_ckpt.InputPipelineCheckpoint(PIPELINES["plain"](), self.step, notices=())
        self.second = also.get("second")
        checkpoint = tf.train.Checkpoint(model=self.model, step=self.step, **also)
        self.manager = tf.train.CheckpointManager(checkpoint, f"{job.model_dir}/model", max_to_keep=3)

    def restore(self) -> None:
        if self.job.mode == "beside":
            self.manager.checkpoint.restore(self.manager.latest_checkpoint)
        self.data.restore(*([self.manager] if self.job.mode == "inside" else []))
        if self.second is not None:
            self.second.restore(self.manager)

    def train(self, element: Any) -> Any:
        self.model.weight.assign(self.model.weight * 1.01 + tf.cast(element, tf.float64))
        with tf.control_dependencies([element]):  # else a step is counted too when there is no element left
            self.step.assign_add(1)
        return element

    def after(self, elements: Any) -> None:
        """What a loop does after each step, or after each call of a function that makes several."""
        step = int(self.step)
        for number, element in enumerate(elements, step - len(elements) + 1):
            os.write(self._log, f"{number} {int(element)}\n".encode())
        if step == self.job.kill:
            os.kill(os.getpid(), self.job.signal)
        if step == self.job.back:
            self.data.after_step()
            self.step.assign(step // 2)
        if step == self.job.fail:
            raise RuntimeError("the training has failed")
        self.data.after_step()
        if self.job.mode == "beside" and step % self.job.save_model == 0:
            self.manager.save(checkpoint_number=step)


def _by_function(training: _Training) -> None:
    """One pass, whose elements a function takes."""
    inner = training.job.inner

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def steps(iterator: Any) -> Any:
        taken = tf.TensorArray(tf.int64, inner)
        for number in tf.range(inner):
            taken = taken.write(number, training.train(next(iterator)))
        return taken.stack()

    iterator = training.data.iterator
    while True:
        try:
            taken = steps(iterator)
        except tf.errors.OutOfRangeError:
            training.data.end_pass()
            return
        training.after(taken.numpy())


def _train(job: Job) -> dict[str, Any]:
    if job.handler:
        own = signal.SIG_IGN if job.handler == "ignore" else lambda *_: print("handled", file=sys.stderr)
        signal.signal(signal.SIGTERM, own)
    if job.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.largest_file, resource.RLIM_INFINITY))
    training = _Training(job)
    if not job.unrestored:
        training.restore()
    try:
        while training.data.passes < job.passes:
            if job.function:
                _by_function(training)
            else:
                for element in training.data:
                    training.after([training.train(element)])
    except RuntimeError:
        if not job.fail:
            raise
        del training
        return {}
    training.data.close()
    restored = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    return {"weight": float(training.model.weight), "passes": training.data.passes, "restored": restored}


def live(job: Job) -> dict[str, Any]:
    """Lives a job; what it says of itself when it ends."""
    outcome = _train(job)
    if job.fail:
        os.kill(os.getpid(), signal.SIGTERM)
    return outcome


if __name__ == "__main__":
    serve(Job, live)
