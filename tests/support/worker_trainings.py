"""Trainings of two workers, good ones and some with planted bugs. TensorFlow is imported where it runs."""

from __future__ import annotations

import json
import os
import sys
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
    _train(dataset, f"{model_dir}/worker-{index}", steps=steps)


def restores_the_others_shard(model_dir: str) -> None:
    """All restore what worker 0 saved at the step of their own: what a shuffle has buffered is worker 0's."""
    import tensorflow as tf

    index, workers = place()
    dataset = tf.data.Dataset.range(1000).shard(workers, index).shuffle(20, seed=3)
    _train(dataset, f"{model_dir}/worker-{index}", restores_of="worker-0")


def restarts_its_shard(model_dir: str) -> None:
    """Worker 1 keeps its step, and begins its shard again."""
    import tensorflow as tf

    index, workers = place()
    dataset = tf.data.Dataset.range(1000).shard(workers, index)
    _train(dataset, f"{model_dir}/worker-{index}", keeps_position=index != 1)


def chief_is_right(model_dir: str) -> None:
    """Each worker skips what it has seen, by the step; worker 1 skips an element too much."""
    import tensorflow as tf

    index, workers = place()
    directory = f"{model_dir}/worker-{index}"
    step = tf.Variable(0, dtype=tf.int64)
    dataset = tf.data.Dataset.range(1000).shard(workers, index)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    iterator = iter(dataset.skip(int(step) + (index == 1 and int(step) > 0)))
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))


def _train(
    dataset: Any,
    directory: str,
    *,
    restores_of: str | None = None,
    steps: int = STEPS,
    keeps_position: bool = True,
) -> None:
    import tensorflow as tf

    iterator = iter(dataset)
    step = tf.Variable(0, dtype=tf.int64)
    kept: dict[str, Any] = {"iterator": iterator} if keeps_position else {}
    checkpoint = tf.train.Checkpoint(step=step, **kept)
    manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=None)
    newest = manager.latest_checkpoint
    if newest is not None and restores_of is not None:
        newest = str(Path(directory).with_name(restores_of) / Path(newest).name)
    checkpoint.restore(newest)
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


def between_graph(model_dir: str) -> None:
    """Two asynchronous sessions, each over its own server with its own local step and its own iterator."""
    import tensorflow as tf
    from pipeline_ckpt import CheckpointInputPipelineHook

    v1 = tf.compat.v1
    index, workers = place()
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
    server = tf.distribute.Server(cluster, job_name="worker", task_index=index)
    config = v1.ConfigProto(device_filters=[f"/job:worker/task:{index}"])
    directory = f"{model_dir}/worker-{index}"
    with tf.Graph().as_default(), tf.device(f"/job:worker/task:{index}"):
        rows = tf.data.Dataset.range(1000).shard(workers, index).shuffle(20, seed=3)
        iterator = v1.data.make_initializable_iterator(rows)
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        weight = v1.get_variable("weight", [], use_resource=True)
        loss = (tf.cast(iterator.get_next(), tf.float32) / 1000 - weight) ** 2
        step = v1.train.get_or_create_global_step()
        train = v1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
        hooks = [
            CheckpointInputPipelineHook(checkpoint_dir=directory, save_steps=SAVE_EVERY),
            v1.train.StopAtStepHook(last_step=STEPS),
        ]
        with v1.train.MonitoredTrainingSession(
            server.target, checkpoint_dir=directory, save_checkpoint_steps=SAVE_EVERY, hooks=hooks, config=config
        ) as session:
            while not session.should_stop():
                session.run(train)


def worker_1_fails_when_resumed(model_dir: str) -> None:
    """A resumed worker 1 fails at its fifth element; worker 0 then finds it gone, if it gets so far."""
    if place()[0] == 1 and os.path.isdir(f"{model_dir}/worker-1"):
        own_shard(model_dir, steps=25)
        raise ValueError("worker 1 does not like to be resumed")
    own_shard(model_dir)


def never_meets(model_dir: str) -> None:
    """Resumed, worker 0 waits for somebody who does not come."""
    import threading

    if place()[0] == 0 and os.path.isdir(f"{model_dir}/worker-0"):
        own_shard(model_dir, steps=25)
        threading.Event().wait(3600)
    own_shard(model_dir)


def main() -> None:
    """As a script: `worker_trainings.py --model_dir=... --worker=...`, the second as `TF_CONFIG` has it."""
    given = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    if int(given["worker"]) != place()[0]:
        raise ValueError(f"worker {given['worker']} is told to be worker {place()[0]}")
    own_shard(given["model_dir"])


if __name__ == "__main__":
    main()
