"""TensorFlow's PreemptionCheckpointHandler in one process; the loop saves every ten steps too."""

from __future__ import annotations

from typing import Any

import proof
import tensorflow as tf

STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten")
    step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    iterator = iter(tf.data.Dataset.range(STEPS))
    tracked: dict[str, Any] = {"step": step, "weight": weight, "seen": seen}
    if how == "saved":
        tracked["iterator"] = iterator
    checkpoint = tf.train.Checkpoint(**tracked)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec({}))
    handler = tf.distribute.experimental.PreemptionCheckpointHandler(resolver, checkpoint, model_dir)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)

    def train_step() -> None:
        element = next(iterator)
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        step.assign_add(1)

    while int(step) < STEPS:
        handler.run(train_step)
        if int(step) % 10 == 0:
            manager.save()
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy())


main()
