"""An exponential moving average of the weights, which is what is deployed: does it go on, or begin anew?"""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("saved", "average_anew", "data_forgotten")
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    iterator = iter(tf.data.Dataset.range(STEPS))
    average = tf.Variable(weight)
    tracked = {"weight": weight, "average": average, "step": step, "seen": seen}
    if how != "data_forgotten":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    if how == "average_anew":
        # Wrong: it begins with the weights of each start.
        average.assign(weight)
    while int(step) < STEPS:
        element = next(iterator)
        weight.assign_add(tf.cast(element, tf.float32))
        average.assign(0.95 * average + 0.05 * weight)
        seen.scatter_nd_add([[element]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy(), average=average.numpy())


main()
