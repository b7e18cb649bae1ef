"""An exception that nobody catches, through code that is wrapped, with its causes."""

import tensorflow as tf


def body():
    """Restores what is not there."""
    try:
        tf.train.Checkpoint(v=tf.Variable(1)).read("/nowhere/at/all")
    except Exception as error:
        raise RuntimeError("first") from error


try:
    body()
except RuntimeError:
    iterator = iter(tf.data.Dataset.range(1).map(lambda x: tf.debugging.assert_less(x, tf.constant(0, tf.int64)) or x))
    next(iterator)
