"""The production package in a custom loop: whole, beside the model's checkpoints, inside of them, taken ahead of."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import proof
import tensorflow as tf
from pipeline_ckpt import InputPipelineCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 30


class Net(tf.Module):  # type: ignore[misc]  # untyped base
    """A weight, and what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(0.0)
        self.seen = tf.Variable(tf.zeros([STEPS], tf.int32))


def taken_ahead(elements: Any, size: int = 2) -> Iterator[Any]:
    """Elements, of which `size` are taken ahead."""
    waiting: collections.deque[Any] = collections.deque()
    for element in elements:
        waiting.append(element)
        if len(waiting) > size:
            yield waiting.popleft()
    yield from waiting


def main() -> None:
    model_dir, how = proof.arguments("whole", "beside", "inside", "taken_ahead")
    net, step = Net(), tf.Variable(0, dtype=tf.int64)
    dataset = tf.data.Dataset.range(STEPS).shuffle(STEPS)
    own = how in ("beside", "inside")
    if how == "inside":
        data = InputPipelineCheckpoint(dataset, step)
    else:
        data = InputPipelineCheckpoint(dataset, step, model_dir, save_steps=5, **({} if own else {"model": net}))
    parts = {"data": data} if how == "inside" else {}
    checkpoint = tf.train.Checkpoint(net=net, step=step, **parts)
    manager = tf.train.CheckpointManager(checkpoint, f"{model_dir}/model", max_to_keep=2)
    if how == "inside":
        data.restore(manager)
    else:
        if own:
            manager.restore_or_initialize()
        data.restore()
    for element in taken_ahead(data) if how == "taken_ahead" else data:
        net.weight.assign_add(tf.cast(element, tf.float32))
        net.seen.scatter_nd_add([[element]], [1])
        step.assign_add(1)
        data.after_step()
        if own and int(step) % 10 == 0:
            manager.save(checkpoint_number=step)
        proof.moment()
    data.close()
    proof.report(net.seen.numpy(), weight=net.weight.numpy())


main()
