"""Trainings with the production hook, saved in all the ways that people save. TensorFlow is imported where it runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 60


def _numbers(kind: str) -> Any:
    import tensorflow as tf

    numbers = tf.data.Dataset.range(100).map(lambda n: n * 3)
    if kind == "generator":
        spec = tf.TensorSpec([], tf.int64)
        return tf.data.Dataset.from_generator(lambda: iter(range(500)), output_signature=spec).shuffle(9, seed=2)
    if kind == "unseeded":
        return numbers.shuffle(100).prefetch(2)
    if kind == "batches":
        return numbers.shuffle(40, seed=5).batch(2).repeat()
    if kind == "epoch":
        return numbers.shuffle(40, seed=5, reshuffle_each_iteration=False).take(25)
    return numbers.shuffle(40, seed=5).repeat().batch(2).prefetch(2)


def session(model_dir: str, *, model: Any, hook: Any, kind: str = "seeded", listener: bool = False) -> None:
    """`MonitoredTrainingSession`; `model` and `hook` are keywords of the two that save."""
    import pipeline_ckpt
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(_numbers(kind))
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        global_step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([iterator.get_next()]):
            train = v1.assign_add(global_step, 1)
        ours = pipeline_ckpt.CheckpointInputPipelineHook(checkpoint_dir=model_dir, **hook)
        listeners = [pipeline_ckpt.InputPipelineSaverListener(ours)] if listener else []
        saver = v1.train.CheckpointSaverHook(model_dir, saver=v1.train.Saver(), listeners=listeners, **model)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, hooks=[saver, ours], save_checkpoint_secs=None, save_summaries_steps=None
        ) as training:
            step = training.run(global_step)
            while step < STEPS:
                step = training.run(train)


def monitored(model_dir: str) -> None:
    """`MonitoredTrainingSession` with its own hook for the model, which saves again what it has restored."""
    import pipeline_ckpt
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(_numbers("seeded"))
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        global_step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([iterator.get_next()]):
            train = v1.assign_add(global_step, 1)
        ours = pipeline_ckpt.CheckpointInputPipelineHook(checkpoint_dir=model_dir, save_steps=10)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, hooks=[ours], save_checkpoint_steps=10, save_summaries_steps=None
        ) as training:
            step = training.run(global_step)
            while step < STEPS:
                step = training.run(train)


def estimator(model_dir: str, *, model: Any, hook: Any, kind: str = "seeded", steps: int | None = None) -> None:
    """`tf.estimator` (TensorFlow 2.15): `train` and `evaluate` in turns; `steps` of a call, None: to the data's end."""
    import pipeline_ckpt
    import tensorflow as tf

    v1 = tf.compat.v1

    def model_fn(features: Any, mode: str) -> Any:
        loss = tf.reduce_sum(tf.cast(features, tf.float32))
        if mode != "train":
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        with tf.control_dependencies([features]):
            train = v1.assign_add(v1.train.get_global_step(), 1)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

    trainer = tf.estimator.Estimator(model_fn, config=tf.estimator.RunConfig(model_dir=model_dir, **model))
    ours = pipeline_ckpt.CheckpointInputPipelineHook(trainer, **hook)
    while (at := _step(trainer)) < STEPS:
        count = STEPS - at if steps is None else min(steps, STEPS - at)
        trainer.train(lambda: _numbers(kind), hooks=[ours], steps=count)
        trainer.evaluate(lambda: tf.data.Dataset.range(1000, 1003))


def _step(trainer: Any) -> int:
    return int(trainer.get_variable_value("global_step")) if trainer.latest_checkpoint() else 0


def _secs(seconds: float) -> dict[str, float]:
    return {"save_secs": seconds}


def _every(steps: int) -> dict[str, int]:
    return {"save_steps": steps}


SESSIONS: dict[str, Callable[[str], None]] = {
    "equal": functools.partial(session, model=_every(10), hook=_every(10)),
    "input more often": functools.partial(session, model=_every(15), hook=_every(4)),
    "input more rarely": functools.partial(session, model=_every(7), hook=_every(25)),
    "seconds": functools.partial(session, model=_secs(0.03), hook=_secs(0.05)),
    "listener": functools.partial(session, model=_every(8), hook=_every(1000), listener=True),
    "position": functools.partial(session, model=_every(10), hook={**_every(10), "state": "position"}),
    "generator": functools.partial(session, model=_every(10), hook=_every(15), kind="generator"),
    "unseeded": functools.partial(session, model=_every(10), hook=_every(15), kind="unseeded"),
    "repeated batches": functools.partial(session, model=_every(10), hook=_every(15), kind="batches"),
}
ESTIMATORS: dict[str, Callable[[str], None]] = {
    "one call": functools.partial(estimator, model={"save_checkpoints_steps": 10}, hook={}),
    "other times": functools.partial(estimator, model={"save_checkpoints_steps": 10}, hook=_every(15)),
    "calls of 25 steps": functools.partial(estimator, model={"save_checkpoints_steps": 10}, hook={}, steps=25),
    "epochs": functools.partial(estimator, model={"save_checkpoints_steps": 10}, hook=_every(6), kind="epoch"),
}
