"""A loop that validates every ten steps, over validation data whose iterator is new each time, and is not saved."""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS = 30
model_dir, how = proof.arguments("saved", "forgotten", "one_at_a_time")

step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
seen = tf.Variable(tf.zeros([STEPS], tf.int32))
validation = tf.data.Dataset.range(1000, 1004)
endless = iter(validation.repeat())
iterator = iter(tf.data.Dataset.range(STEPS).shuffle(STEPS, seed=4))
tracked = {"step": step, "weight": weight, "seen": seen}
if how != "forgotten":
    tracked["iterator"] = iterator
manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
manager.restore_or_initialize()

while int(step) < STEPS:
    element = next(iterator)
    weight.assign_add(tf.cast(element, tf.float32))
    seen.scatter_nd_add([[element]], [1])
    step.assign_add(1)
    if how == "one_at_a_time" and int(step) % 4 == 0:
        print("validation", float(weight) - float(next(endless)))
    if int(step) % 10 == 0:
        if how != "one_at_a_time":
            print("validation", sum(float(weight) - float(value) for value in validation))
        manager.save(checkpoint_number=step)
    proof.moment()
proof.report(seen.numpy(), weight=weight.numpy())
