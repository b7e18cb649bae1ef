"""A step whose loss is not finite is left out, and not counted: the step is no position in the data any more."""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS, ELEMENTS, BAD = 28, 32, (6, 17)


def main() -> None:
    model_dir, how = proof.arguments("saved", "skip", "skip_taken")
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    taken = tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([ELEMENTS], tf.int32))
    losses = tf.data.Dataset.range(ELEMENTS).map(lambda n: (n, tf.where(tf.reduce_any(n == BAD), float("nan"), 1.0)))
    iterator = iter(losses)
    tracked = {"weight": weight, "step": step, "seen": seen, "taken": taken}
    if how == "saved":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    if how != "saved":
        iterator = iter(losses.skip(int(step if how == "skip" else taken)))
    while int(step) < STEPS:
        element, loss = next(iterator)
        taken.assign_add(1)
        if not tf.math.is_finite(loss):
            continue
        weight.assign_add(loss * tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    due = [int(element not in BAD and element < STEPS + len(BAD)) for element in range(ELEMENTS)]
    proof.report(seen.numpy(), due, weight=weight.numpy())


main()
