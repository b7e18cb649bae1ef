"""The mistake: to take `BackupAndRestore(save_freq=10)` for a backup of the training, when it is one of the model.

The callback restores the weights, the optimizer and the epoch in the middle of an epoch; `fit` makes a new iterator,
and the epoch's data begins again with its first batch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "digits"))

from data import DEFAULT
from input import make_dataset

STEPS_PER_EPOCH = 1797 // 32


def train(model_dir: str, *, data_dir: str = DEFAULT) -> None:
    """Trains two epochs, backs up every 10 steps."""
    dataset = make_dataset(data_dir, epochs=1).map(_image_and_label)
    # Keras can only resume inside of an epoch whose length it knows.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(STEPS_PER_EPOCH))
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(32, activation="relu"),
            tf.keras.layers.Dense(10),
        ]
    )
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build([None, 8, 8, 1])
    backup = tf.keras.callbacks.BackupAndRestore(f"{model_dir}/backup", save_freq=10)
    model.fit(dataset, epochs=2, callbacks=[backup], verbose=0)


def _image_and_label(batch: dict[str, Any]) -> tuple[Any, Any]:
    return batch["image"], batch["label"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    train(**vars(parser.parse_args()))
