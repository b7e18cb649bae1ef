"""Each step takes an element of two streams, labelled and unlabelled: are both iterators saved?"""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS = 30
model_dir, how = proof.arguments("both", "one", "zipped", "neither")

step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
seen = tf.Variable(tf.zeros([2 * STEPS], tf.int32))
labelled, unlabelled = tf.data.Dataset.range(STEPS), tf.data.Dataset.range(STEPS, 2 * STEPS)
if how == "zipped":
    iterators = [iter(tf.data.Dataset.zip(labelled, unlabelled))]
else:
    iterators = [iter(labelled), iter(unlabelled)]
saved = {"neither": [], "one": iterators[:1]}.get(how, iterators)
checkpoint = tf.train.Checkpoint(step=step, weight=weight, seen=seen, iterators=saved)
manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
manager.restore_or_initialize()

while int(step) < STEPS:
    elements = next(iterators[0]) if how == "zipped" else [next(iterator) for iterator in iterators]
    for element in elements:
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
    if int(step.assign_add(1)) % 10 == 0:
        manager.save(checkpoint_number=step)
    proof.moment()
proof.report(seen.numpy(), weight=weight.numpy())
