"""A curriculum: fifteen steps of easy data, then hard data, each with an iterator of its own."""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS, EASY = 36, 15
model_dir, how = proof.arguments("saved", "skip", "hard_anew")

step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
seen = tf.Variable(tf.zeros([STEPS], tf.int32))
easy = tf.data.Dataset.range(EASY).shuffle(EASY, seed=5, reshuffle_each_iteration=False)
hard = tf.data.Dataset.range(EASY, STEPS).shuffle(STEPS, seed=6, reshuffle_each_iteration=False)
easy_iterator, hard_iterator = iter(easy), iter(hard)
tracked = {"step": step, "weight": weight, "seen": seen}
if how != "skip":
    tracked["easy"] = easy_iterator
if how == "saved":
    tracked["hard"] = hard_iterator
manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
manager.restore_or_initialize()
if how == "skip":
    easy_iterator = iter(easy.skip(int(step)))
    hard_iterator = iter(hard.skip(max(0, int(step) - EASY)))

while int(step) < STEPS:
    element = next(easy_iterator if int(step) < EASY else hard_iterator)
    weight.assign_add(tf.cast(element, tf.float32))
    seen.scatter_nd_add([[element]], [1])
    if int(step.assign_add(1)) % 5 == 0:
        manager.save(checkpoint_number=step)
    proof.moment()
proof.report(seen.numpy(), weight=weight.numpy())
