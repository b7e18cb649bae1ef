"""Texts are packed into rows of 32 tokens in Python: the iterator is saved, and what is left of the last text?"""

from __future__ import annotations

import numpy as np
import proof
import tensorflow as tf

STEPS, ROW, TEXTS = 30, 32, 100


def main() -> None:
    model_dir, how = proof.arguments("saved", "lost")
    lengths = tf.constant(np.random.RandomState(0).randint(5, 20, TEXTS))
    texts = tf.data.Dataset.range(TEXTS).map(lambda text: tf.repeat(text, lengths[text]))
    iterator = iter(texts)
    step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
    tokens_seen = tf.Variable(tf.zeros([TEXTS], tf.int32))
    left = tf.Variable(tf.zeros([0], tf.int64), shape=[None])
    tracked = {"step": step, "weight": weight, "seen": tokens_seen, "iterator": iterator}
    if how == "saved":
        tracked["left"] = left
    checkpoint = tf.train.Checkpoint(**tracked)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    buffer = left.numpy().tolist()
    while int(step) < STEPS:
        while len(buffer) < ROW:
            buffer += next(iterator).numpy().tolist()
        row, buffer = buffer[:ROW], buffer[ROW:]
        weight.assign_add(float(sum(row)))
        tokens_seen.assign_add(tf.math.bincount(row, minlength=TEXTS))
        if int(step.assign_add(1)) % 10 == 0:
            left.assign(buffer)
            manager.save(int(step))
        proof.moment()
    tokens = np.repeat(np.arange(TEXTS), lengths.numpy())[: STEPS * ROW]
    proof.report(tokens_seen.numpy(), np.bincount(tokens, minlength=TEXTS).tolist(), weight=weight.numpy())


main()
