"""The mistake: the model is saved every 10 steps and the input every 15, each into its own checkpoint.

Both are restored after a preemption, each from its newest checkpoint, but these are of different steps: batches are
trained twice, or are never trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "digits"))

from data import DEFAULT
from input import make_dataset
from model import Classifier


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 60) -> None:
    """Trains to step `steps`."""
    model, step = Classifier(), tf.Variable(0, dtype=tf.int64)
    iterator = iter(make_dataset(data_dir))
    input_checkpoint = tf.train.Checkpoint(iterator=iterator)
    input_manager = tf.train.CheckpointManager(input_checkpoint, f"{model_dir}/input", max_to_keep=3)
    model_checkpoint = tf.train.Checkpoint(model=model, step=step)
    model_manager = tf.train.CheckpointManager(model_checkpoint, f"{model_dir}/model", max_to_keep=3)
    input_checkpoint.restore(input_manager.latest_checkpoint)
    model_checkpoint.restore(model_manager.latest_checkpoint)
    while int(step) < steps:
        batch = next(iterator)
        model.train_step(batch["image"], batch["label"])
        step.assign_add(1)
        if int(step) % 15 == 0:
            input_manager.save(checkpoint_number=step)
        if int(step) % 10 == 0:
            model_manager.save(checkpoint_number=step)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    train(**vars(parser.parse_args()))
