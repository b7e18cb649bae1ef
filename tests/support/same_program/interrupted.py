"""Ends as Ctrl-C ends it."""

import atexit

import tensorflow as tf

atexit.register(print, "atexit")
print(int(tf.constant(1)))
raise KeyboardInterrupt
