"""Trainings of two workers, good ones and some with planted bugs. TensorFlow is imported where it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STEPS = 40
SAVE_EVERY = 10


def place() -> tuple[int, int]:
    """The worker, and how many there are: what `TF_CONFIG` says."""
    config = json.loads(os.environ["TF_CONFIG"])
    return config["task"]["index"], len(config["cluster"]["worker"])


def own_shard(model_dir: str, *, steps: int = STEPS) -> None:
    """Each worker trains on its own shard, and keeps its own step and iterator; nobody waits for anybody."""
    import tensorflow as tf

    index, workers = place()
    dataset = tf.data.Dataset.range(1000).shard(workers, index).shuffle(20, seed=3)
    _train(dataset, f"{model_dir}/worker-{index}", restored=f"{model_dir}/worker-{index}", steps=steps)


def restores_the_others_shard(model_dir: str) -> None:
    """Every worker restores the state of worker 0's iterator, whose dataset's source holds the shard's place."""
    import tensorflow as tf

    index, workers = place()
    elements = tf.data.Dataset.range(1000).shuffle(20, seed=3).enumerate()
    mine = tf.Variable(index, dtype=tf.int64)  # the bug: it is in the checkpoint
    dataset = elements.batch(workers, drop_remainder=True)
    _train(dataset, f"{model_dir}/worker-{index}", restored=f"{model_dir}/worker-0", column=mine)


def restarts_its_shard(model_dir: str) -> None:
    """Worker 1 keeps its step, and begins its shard again."""
    import tensorflow as tf

    index, workers = place()
    dataset = tf.data.Dataset.range(1000).shard(workers, index)
    _train(dataset, f"{model_dir}/worker-{index}", restored=f"{model_dir}/worker-{index}", keeps_position=index != 1)


def chief_saves_for_all(model_dir: str) -> None:
    """Only the chief saves, model and its own position: the others skip by the model's step, one too many of them."""
    import tensorflow as tf

    index, workers = place()
    directory = f"{model_dir}/worker-{index}"
    step = tf.Variable(0, dtype=tf.int64)
    dataset = tf.data.Dataset.range(1000).shard(workers, index)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    skipped = int(step) + (1 if index == 1 and int(step) else 0)
    iterator = iter(dataset.skip(skipped))
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))


def _train(
    dataset: Any,
    directory: str,
    *,
    restored: str,
    steps: int = STEPS,
    keeps_position: bool = True,
    column: Any = None,
) -> None:
    import tensorflow as tf

    iterator = iter(dataset)
    step = tf.Variable(0, dtype=tf.int64)
    kept: dict[str, Any] = {"iterator": iterator} if keeps_position else {}
    checkpoint = tf.train.Checkpoint(step=step, **kept)
    manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=2)
    checkpoint.restore(tf.train.latest_checkpoint(restored))
    while step < steps:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))


def mirrored(model_dir: str) -> None:
    """`MultiWorkerMirroredStrategy`: each worker takes its own elements, the gradient is that of all."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index, workers = place()
    iterator = iter(tf.data.Dataset.range(1000).shard(workers, index).shuffle(20, seed=3).batch(2))
    with strategy.scope():
        weight = tf.Variable(0.0)
    step = tf.Variable(0, dtype=tf.int64)

    @tf.function  # type: ignore[untyped-decorator]
    def train(batch: Any) -> None:
        def update(rows: Any) -> None:
            gradient = weight - tf.reduce_mean(tf.cast(rows, tf.float32)) / 1000
            context = tf.distribute.get_replica_context()
            weight.assign_sub(0.01 * context.all_reduce(tf.distribute.ReduceOp.MEAN, gradient))

        strategy.run(update, args=(batch,))

    checkpoint = tf.train.Checkpoint(weight=weight, step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, str(Path(model_dir, f"worker-{index}")), max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        train(next(iterator))
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))
