"""A second stream of which only every third step takes one element: replay, unlabelled or distillation data."""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS, EVERY = 30, 3


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten", "from_15", "from_15_forgotten")
    begin = 15 if how.startswith("from") else 0
    used = len(range(begin, STEPS, EVERY))
    weight, extra_weight = tf.Variable(0.0), tf.Variable(0.0)
    step = tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS + used], tf.int32))
    iterator = iter(tf.data.Dataset.range(STEPS))
    replayed = iter(tf.data.Dataset.range(STEPS, STEPS + 100))
    tracked = {"weight": weight, "extra": extra_weight, "step": step, "seen": seen, "iterator": iterator}
    if not how.endswith("forgotten"):
        tracked["replayed"] = replayed
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    while int(step) < STEPS:
        element = next(iterator)
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        if int(step) >= begin and (int(step) - begin) % EVERY == 0:
            again = next(replayed)
            extra_weight.assign_add(tf.cast(again, tf.float32))
            seen.scatter_nd_add([[again]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy(), extra=extra_weight.numpy())


main()
