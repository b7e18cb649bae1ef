"""The mistake: the checkpoint holds the model and the step, and the iterator was forgotten.

The loss looks fine. After each preemption the training begins again with the first batch: the batches at the
beginning of the data are trained more often than those at its end, or an epoch's end is never seen at all.
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
    """Trains to step `steps`, saves every 10 steps."""
    model, step = Classifier(), tf.Variable(0, dtype=tf.int64)
    iterator = iter(make_dataset(data_dir))
    checkpoint = tf.train.Checkpoint(model=model, step=step)  # and iterator=iterator
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    checkpoint.restore(manager.latest_checkpoint)
    while int(step) < steps:
        batch = next(iterator)
        model.train_step(batch["image"], batch["label"])
        step.assign_add(1)
        if int(step) % 10 == 0:
            manager.save(checkpoint_number=step)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    train(**vars(parser.parse_args()))
