"""Gradients of four micro batches are added up by hand, and saves fall between: are the sums saved too?"""

from __future__ import annotations

import proof
import tensorflow as tf

MICRO, GROUP = 40, 4


def main() -> None:
    model_dir, how = proof.arguments("saved", "lost", "whole_groups")
    weights = tf.Variable(tf.zeros([2])), tf.Variable(tf.zeros([MICRO]))  # the second is trained: one row an element
    sums = [tf.Variable(tf.zeros_like(weight)) for weight in weights]
    micro = tf.Variable(0, dtype=tf.int64, name="step")
    iterator = iter(tf.data.Dataset.range(MICRO))
    tracked = {"weights": weights, "step": micro, "iterator": iterator}
    if how == "saved":
        tracked["sums"] = sums
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    for element in iterator:
        gradients = [tf.fill([2], tf.cast(element, tf.float32)), tf.one_hot(element, MICRO)]
        for total, gradient in zip(sums, gradients, strict=True):
            total.assign_add(gradient)
        if int(micro.assign_add(1)) % GROUP == 0:
            for weight, total in zip(weights, sums, strict=True):
                weight.assign_add(total)
                total.assign(tf.zeros_like(total))
        if int(micro) % (12 if how == "whole_groups" else 10) == 0:
            manager.save(int(micro))
        proof.moment()
    proof.report(weights[1].numpy(), weight=weights[0].numpy()[0])


main()
