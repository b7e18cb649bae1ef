"""A shuffle buffer in Python, refilled from the iterator that is saved: the buffer is saved too, or lost."""

from __future__ import annotations

import random

import proof
import tensorflow as tf

STEPS, SIZE = 30, 6


def main() -> None:
    model_dir, how = proof.arguments("saved", "lost")
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    iterator = iter(tf.data.Dataset.range(STEPS))
    kept = tf.Variable(tf.zeros([0], tf.int64), shape=[None])
    tracked = {"weight": weight, "step": step, "seen": seen, "iterator": iterator}
    if how == "saved":
        tracked["kept"] = kept
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    buffer = kept.numpy().tolist()
    while int(step) < STEPS:
        while len(buffer) < SIZE and (element := next(iterator, None)) is not None:
            buffer.append(int(element))
        if not buffer:
            break
        chosen = buffer.pop(random.Random(int(step)).randrange(len(buffer)))
        weight.assign_add(float(chosen))
        seen.scatter_nd_add([[chosen]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            kept.assign(buffer)
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy())


main()
