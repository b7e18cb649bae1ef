"""A mixture of three corpora by weights, drawn with a seed; the steps are tf.functions."""

from __future__ import annotations

from typing import Any

import proof
import tensorflow as tf

STEPS = 36


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten")
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    corpora = [tf.data.Dataset.range(STEPS).shard(3, index) for index in range(3)]
    iterator = iter(tf.data.Dataset.sample_from_datasets(corpora, [0.5, 0.3, 0.2], seed=8))
    tracked = {"weight": weight, "step": step, "seen": seen}
    if how == "saved":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()

    @tf.function  # type: ignore[untyped-decorator]
    def train_step(element: Any) -> None:
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        step.assign_add(1)

    while int(step) < STEPS:
        train_step(next(iterator))
        if int(step) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy())


main()
