"""Training with several workers, each on its share of the data: `MultiWorkerMirroredStrategy`, by TF_CONFIG.

    export TF_CONFIG='{"cluster": {"worker": ["host0:2000", "host1:2000"]}, "task": {"type": "worker", "index": 0}}'
    python train_multiworker.py --model_dir=/tmp/digits          # and the same with "index": 1

Kill one of them at any moment and start them all again, as a launcher does: all go on at the newest step that all have
saved, each with the batch after the last one that the model has seen.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

import tensorflow as tf
from data import DEFAULT
from input import make_dataset
from model import Classifier
from pipeline_ckpt import InputPipelineCheckpoint


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 150, save_steps: int = 10) -> None:
    """Trains to step `steps`, from where the workers' newest common checkpoint in `model_dir` stands."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # first of all: it starts this worker's server
    with strategy.scope():
        model, step, loss = Classifier(), tf.Variable(0, dtype=tf.int64), None

    @tf.function  # type: ignore[untyped-decorator]
    def train_step(batch: Any) -> Any:
        losses = strategy.run(_train_replica, args=(model, batch))
        step.assign_add(1)
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    dataset = strategy.experimental_distribute_dataset(make_dataset(data_dir).with_options(options))
    data = InputPipelineCheckpoint(dataset, step, model_dir, save_steps=save_steps, model=model)
    data.restore()
    batches = iter(data)
    while int(step.numpy()) < steps:
        loss = float(train_step(next(batches)))
        data.after_step()
    data.close()
    print(f"step {int(step.numpy())}, loss {loss}")


def _train_replica(model: Classifier, batch: Any) -> Any:
    """A step on a replica's part of the batch, with the gradients of all replicas."""
    with tf.GradientTape() as tape:
        loss = model.loss(batch["image"], batch["label"])
    gradients = tape.gradient(loss, model.weights)
    model.update(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients))
    return loss


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save_steps", type=int, default=10)
    train(**vars(parser.parse_args()))
