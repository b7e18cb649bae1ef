"""A Python thread takes elements ahead into a queue: what is in the queue at a save?"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import proof
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 30


def ahead(iterator: Any, size: int = 3) -> Iterator[Any]:
    """Elements of `iterator`, of which `size` are taken ahead."""
    elements: queue.Queue[Any] = queue.Queue(size)

    def fill() -> None:
        for element in iterator:
            elements.put(element)
        elements.put(None)

    threading.Thread(target=fill, daemon=True).start()
    while (element := elements.get()) is not None:
        yield element


def main() -> None:
    model_dir, how = proof.arguments("skip", "in_flight", "no_thread")
    dataset = tf.data.Dataset.range(STEPS)
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    seen = tf.Variable(tf.zeros([STEPS], tf.int32))
    iterator = iter(dataset)
    tracked = {"weight": weight, "step": step, "seen": seen}
    if how != "skip":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    if how == "skip":
        iterator = iter(dataset.skip(int(step)))
    for element in iterator if how == "no_thread" else ahead(iterator):
        weight.assign_add(tf.cast(element, tf.float32))
        seen.scatter_nd_add([[element]], [1])
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    proof.report(seen.numpy(), weight=weight.numpy())


main()
