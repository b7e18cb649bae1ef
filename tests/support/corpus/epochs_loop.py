"""Epoch and step within it in the checkpoint, a new iterator for each epoch: is the one of the middle brought on?"""

from __future__ import annotations

import proof
import tensorflow as tf

EPOCHS, PER_EPOCH = 3, 12
model_dir, how = proof.arguments("skip", "anew", "skip_all")

dataset = tf.data.Dataset.range(PER_EPOCH).shuffle(PER_EPOCH, seed=3, reshuffle_each_iteration=False)
weights = {"kernel": tf.Variable(0.0), "seen": tf.Variable(tf.zeros([PER_EPOCH], tf.int32))}
epoch = tf.Variable(0, dtype=tf.int64, name="epoch")
step_in_epoch = tf.Variable(0, dtype=tf.int64, name="step_in_epoch")
checkpoint = tf.train.Checkpoint(epoch=epoch, step_in_epoch=step_in_epoch, **weights)
manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=1)
checkpoint.restore(manager.latest_checkpoint)
total = int(epoch) * PER_EPOCH + int(step_in_epoch)

while int(epoch) < EPOCHS:
    begin = {"skip": int(step_in_epoch), "anew": 0, "skip_all": total % (PER_EPOCH - 1)}[how]
    for element in dataset.skip(begin):
        weights["kernel"].assign_add(tf.cast(element, tf.float32))
        weights["seen"].scatter_nd_add([[element]], [1])
        step_in_epoch.assign_add(1)
        if int(step_in_epoch) % 5 == 0:
            manager.save()
        proof.moment()
        if int(step_in_epoch) == PER_EPOCH:
            break
    epoch.assign_add(1)
    step_in_epoch.assign(0)
    total = 0
proof.report(weights["seen"].numpy(), EPOCHS, kernel=weights["kernel"].numpy())
