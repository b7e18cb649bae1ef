"""Training with Keras `fit`: `CheckpointInputPipeline` resumes it at the next batch of the same epoch.

    python train_keras.py --model_dir=/tmp/digits

Kill it at any moment and start it again. Send it SIGTERM: it saves after the current batch, and leaves with 143.
"""

from __future__ import annotations

import argparse
from typing import Any

import tensorflow as tf
from data import DEFAULT
from input import make_dataset
from pipeline_ckpt.keras import CheckpointInputPipeline

BATCHES = 1797 // 32


def train(model_dir: str, *, data_dir: str = DEFAULT, epochs: int = 3, save_steps: int = 10) -> None:
    """Trains so many epochs, from where the newest checkpoint in `model_dir` stands."""
    keras: Any = tf.keras
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    dataset = make_dataset(data_dir, epochs=1).map(_image_and_label)
    # Nobody can tell from the files how many batches there are, and Keras wants to know.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(BATCHES))
    resume = CheckpointInputPipeline(f"{model_dir}/checkpoints", save_steps=save_steps)
    history = model.fit(dataset, epochs=epochs, callbacks=[resume], verbose=0)
    weights = tf.train.Checkpoint(**{f"weight_{number}": one for number, one in enumerate(model.weights)})
    tf.train.CheckpointManager(weights, f"{model_dir}/final", max_to_keep=1).save(checkpoint_number=1)
    print(f"accuracy of each epoch: {history.history['accuracy']}")


def _image_and_label(batch: dict[str, Any]) -> tuple[Any, Any]:
    return batch["image"], batch["label"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--save_steps", type=int, default=10)
    train(**vars(parser.parse_args()))
