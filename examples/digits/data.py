"""Writes scikit-learn's digits (1,797 images of 8 x 8 pixels) as sharded TFRecords: `python data.py DIRECTORY`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

SHARDS = 4
DEFAULT = os.path.join(tempfile.gettempdir(), f"digits-tfrecords-{os.getuid()}")


def write(directory: str) -> None:
    """Writes the shards, unless they are there; several processes may do so at once.

    Image n is in shard n modulo 4. The directory appears with all its files, or not at all.
    """
    if os.path.isdir(directory):
        return
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as temporary:
        complete = Path(temporary, "complete")
        complete.mkdir()
        _write_shards(complete)
        try:
            complete.rename(target)
        except OSError:
            if not target.is_dir():  # another process was first
                raise


def _write_shards(directory: Path) -> None:
    # Only who writes needs them: scikit-learn is no dependency of the training.
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits = load_digits()
    for shard in range(SHARDS):
        with tf.io.TFRecordWriter(str(directory / f"digits-{shard}-of-{SHARDS}.tfrecord")) as writer:
            for image, label in zip(digits.images[shard::SHARDS], digits.target[shard::SHARDS], strict=True):
                pixels = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.astype("uint8").tobytes()]))
                number = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)]))
                features = tf.train.Features(feature={"image": pixels, "label": number})
                writer.write(tf.train.Example(features=features).SerializeToString())


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else DEFAULT)
