"""The input pipeline of the digits: the same elements in the same order in each run, and after each resume."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf
from data import DEFAULT, write

SEED = 20


def make_dataset(data_dir: str = DEFAULT, *, epochs: int | None = 5, batch_size: int = 32) -> tf.data.Dataset:
    """Batches of `image` (float32[batch, 8, 8, 1], 0 to 1) and `label` (int64[batch]).

    What makes it resume exactly: the files are sorted, the interleave is deterministic, the shuffle has a seed, and
    the augmentation draws from the number of the element, not from a generator whose state no checkpoint holds.
    """
    write(data_dir)
    files = sorted(tf.io.gfile.glob(os.path.join(data_dir, "*.tfrecord")))
    dataset = tf.data.Dataset.from_tensor_slices(files)
    dataset = dataset.interleave(
        tf.data.TFRecordDataset, cycle_length=4, block_length=8, num_parallel_calls=2, deterministic=True
    )
    dataset = dataset.map(_parse, num_parallel_calls=2, deterministic=True)
    dataset = dataset.shuffle(512, seed=SEED).repeat(epochs)
    dataset = dataset.enumerate().map(_augment, num_parallel_calls=2, deterministic=True)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(2)


def _parse(record: Any) -> dict[str, Any]:
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, features)
    pixels = tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), [8, 8, 1])
    return {"image": tf.cast(pixels, tf.float32) / 16.0, "label": example["label"]}


def _augment(number: Any, example: dict[str, Any]) -> dict[str, Any]:
    """Moves the image by up to a pixel and changes its brightness; `number` counts over all epochs."""
    seed = tf.stack([tf.constant(SEED, tf.int64), number])
    padded = tf.pad(example["image"], [[1, 1], [1, 1], [0, 0]])
    image = tf.image.stateless_random_crop(padded, [8, 8, 1], seed=seed)
    brightness = tf.random.stateless_uniform([], seed=seed, minval=0.8, maxval=1.2)
    return {"image": image * brightness, "label": example["label"]}
