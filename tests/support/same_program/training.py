"""A training, with all that it prints of itself."""

import sys

import tensorflow as tf

tf.keras.utils.set_random_seed(7)
step, total = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
iterator = iter(tf.data.Dataset.range(20).shuffle(5, seed=3).batch(2))
checkpoint = tf.train.Checkpoint(step=step, total=total, iterator=iterator)
manager = tf.train.CheckpointManager(checkpoint, sys.argv[1], max_to_keep=2)
print(manager.restore_or_initialize())


@tf.function
def train(element):
    """One step."""
    total.assign_add(tf.reduce_sum(tf.cast(element, tf.float32)))
    return step.assign_add(1)


for element in iterator:
    if int(train(element)) % 5 == 0:
        print(manager.save().rpartition("/")[2], float(total), element.numpy())
print(iterator, tf.data.Dataset.range(3))
print(train.experimental_get_tracing_count(), len(train.pretty_printed_concrete_signatures()) > 0)
print([op.type for op in train.get_concrete_function(tf.constant([1, 2], tf.int64)).graph.get_operations()])
