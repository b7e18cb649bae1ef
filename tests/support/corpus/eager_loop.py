"""A custom loop, its step and its weights in a tf.train.Checkpoint: and the data?"""

from __future__ import annotations

import proof
import tensorflow as tf

STEPS, BATCH = 30, 2
model_dir, how = proof.arguments(
    "saved",
    "forgotten",
    "skip",
    "skip_elements",
    "never_restores",
    "unseeded",
    "unseeded_skip",
    "unseeded_repeat",
    "overrun",
)

step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
seen = tf.Variable(tf.zeros([STEPS * BATCH], tf.int32))
dataset = tf.data.Dataset.range(STEPS * BATCH)
if how.startswith("unseeded"):
    dataset = dataset.shuffle(STEPS * BATCH)
if how == "unseeded_repeat":
    dataset = dataset.repeat()
if how == "overrun":
    dataset = dataset.shuffle(20, seed=4).repeat()

tracked = {"step": step, "weight": weight, "seen": seen}
iterator = iter(dataset.batch(BATCH))
if how in ("saved", "unseeded", "unseeded_repeat", "overrun"):
    tracked["iterator"] = iterator
manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
if how != "never_restores":
    manager.restore_or_initialize()
if how in ("skip", "unseeded_skip"):
    iterator = iter(dataset.batch(BATCH).skip(int(step)))
if how == "skip_elements":
    # Wrong: steps are batches, and these are elements.
    iterator = iter(dataset.skip(int(step)).batch(BATCH))

# Wrong where `overrun`: all steps once more, whatever has been trained already.
last = int(step) + STEPS if how == "overrun" else STEPS
while int(step) < last:
    batch = next(iterator, None)
    if batch is None:
        break
    weight.assign_add(tf.reduce_sum(tf.cast(batch, tf.float32)))
    seen.scatter_nd_add(batch[:, None], tf.ones([len(batch)], tf.int32))
    if int(step.assign_add(1)) % 10 == 0:
        manager.save(checkpoint_number=step)
    proof.moment()
proof.report(seen.numpy(), weight=weight.numpy())
