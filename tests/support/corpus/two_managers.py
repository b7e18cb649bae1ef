"""Model and data in two checkpoints: at the same steps, at other ones, or paired by the number in their names."""

from __future__ import annotations

import keras
import proof
import tensorflow as tf

STEPS = 30


class Net(tf.Module):  # type: ignore[misc]  # untyped base
    """A weight, and what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(0.0)
        self.seen = tf.Variable(tf.zeros([STEPS], tf.int32))


def main() -> None:
    model_dir, how = proof.arguments("paired", "same_steps", "other_steps")
    net, step = Net(), tf.Variable(0, dtype=tf.int64)
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([net.weight])
    iterator = iter(tf.data.Dataset.range(STEPS).prefetch(2))
    model = tf.train.Checkpoint(net=net, optimizer=optimizer)
    data = tf.train.Checkpoint(step=step, iterator=iterator)
    models = tf.train.CheckpointManager(model, f"{model_dir}/model", max_to_keep=2)
    positions = tf.train.CheckpointManager(data, f"{model_dir}/data", max_to_keep=None)
    newest = models.restore_or_initialize()
    if how != "paired":
        positions.restore_or_initialize()
    elif newest:
        data.restore(newest.replace(f"{model_dir}/model", f"{model_dir}/data"))

    while int(step) < STEPS:
        element = next(iterator)
        optimizer.apply([tf.constant(1.0)], [net.weight])
        net.seen.scatter_nd_add([[element]], [1])
        now = int(step.assign_add(1))
        if now % (5 if how == "other_steps" else 10) == 0:
            positions.save(checkpoint_number=now)
            proof.moment("between")
        if now % 10 == 0:
            models.save(checkpoint_number=now)
        proof.moment()
    proof.report(net.seen.numpy(), weight=net.weight.numpy(), iterations=optimizer.iterations.numpy())


main()
