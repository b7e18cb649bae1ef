"""A warm start from pretrained weights at each start, before or after the checkpoint of this run is restored."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import proof
import tensorflow as tf

STEPS = 30


def pretrained() -> str:
    """A file that no run of this training writes: it is there before the first one."""
    path = os.path.join(tempfile.gettempdir(), f"corpus-pretrained-{os.getuid()}.npz")
    if not os.path.exists(path):
        own = f"{path}.{os.getpid()}.npz"
        np.savez(own, weight=np.float32(1000), seen=np.zeros(STEPS, np.int32))
        os.replace(own, path)
    return path


def main() -> None:
    model_dir, how = proof.arguments("first", "last", "data_forgotten")
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    iterator = iter(tf.data.Dataset.range(STEPS))
    tracked = {"weight": weight, "step": step, "seen": seen}
    if how != "data_forgotten":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    if how == "last":
        manager.restore_or_initialize()
    with np.load(pretrained()) as arrays:
        weight.assign(arrays["weight"])
        seen.assign(arrays["seen"])
    if how != "last":
        manager.restore_or_initialize()
    while int(step) < STEPS:
        element = next(iterator)
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy())


main()
