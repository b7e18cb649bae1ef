"""Training with a custom loop: one `tf.train.Checkpoint` holds the model, the step and the iterator.

    python train_loop.py --model_dir=/tmp/digits

Kill it at any moment and start it again: it goes on with the batch after the last one that the model has seen.
"""

from __future__ import annotations

import argparse

import tensorflow as tf
from data import DEFAULT
from input import make_dataset
from model import Classifier


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 150, save_steps: int = 10) -> None:
    """Trains to step `steps`, from where the newest checkpoint in `model_dir` stands."""
    model, step, loss = Classifier(), tf.Variable(0, dtype=tf.int64), None
    iterator = iter(make_dataset(data_dir))
    # One checkpoint for all: model and iterator cannot get out of step, wherever a kill lands.
    checkpoint = tf.train.Checkpoint(model=model, step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    while int(step) < steps:
        batch = next(iterator)
        loss = float(model.train_step(batch["image"], batch["label"]))
        step.assign_add(1)
        if int(step) % save_steps == 0 or int(step) == steps:
            manager.save(checkpoint_number=step)
    print(f"step {int(step)}, loss {loss}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save_steps", type=int, default=10)
    train(**vars(parser.parse_args()))
