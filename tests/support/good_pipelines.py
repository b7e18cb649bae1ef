"""Input pipelines that resume exactly, each with operations of its own. TensorFlow is imported where it runs."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Good:
    """A pipeline and how it is to be trained on."""

    make: Callable[[], Any]
    steps: int | None = None
    order: Literal["exact", "any"] = "exact"


def batches() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(400).batch(4).prefetch(2)


def seeded_shuffle_two_epochs() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(60).shuffle(16, seed=3).repeat(2).batch(2)


def parallel_map_with_stateless_random() -> Any:
    import tensorflow as tf

    def augment(index: Any) -> Any:
        return tf.random.stateless_normal([8], seed=[7, tf.cast(index, tf.int32)]) + tf.cast(index, tf.float32)

    return tf.data.Dataset.range(120).map(augment, num_parallel_calls=4).batch(2).prefetch(1)


def interleaved_records() -> Any:
    import tensorflow as tf

    directory = Path(tempfile.gettempdir(), "preempt-interleaved-records")
    directory.mkdir(exist_ok=True)
    files = [str(directory / f"{shard}.tfrecord") for shard in range(4)]
    for shard, file in enumerate(files):
        if not Path(file).exists():
            fresh = f"{file}.{uuid.uuid4()}"
            with tf.io.TFRecordWriter(fresh) as writer:
                for row in range(20):
                    writer.write(f"{shard}:{row}".encode())
            Path(fresh).rename(file)
    shards = tf.data.Dataset.from_tensor_slices(files)
    return shards.interleave(tf.data.TFRecordDataset, cycle_length=3, block_length=2, num_parallel_calls=2)


def ragged_rows() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(90).map(lambda n: tf.range(n % 5)).ragged_batch(3)


def sparse_rows() -> Any:
    import tensorflow as tf

    def sparse(n: Any) -> Any:
        return tf.sparse.SparseTensor([[0], [3]], tf.stack([n, n * 2]), [5])

    return tf.data.Dataset.range(80).map(sparse)


def nested_strings() -> Any:
    import tensorflow as tf

    def element(n: Any) -> Any:
        return {"id": tf.strings.as_string(n), "pair": (n, {"half": tf.cast(n, tf.float16) / 2})}

    return tf.data.Dataset.range(80).map(element).padded_batch(2)


def zipped_with_another_length() -> Any:
    import tensorflow as tf

    short = tf.data.Dataset.range(7).repeat()
    return tf.data.Dataset.zip((tf.data.Dataset.range(80), short))


def windows_flattened() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(40).window(4, shift=2).flat_map(lambda window: window.batch(4))


def buckets_by_length() -> Any:
    import tensorflow as tf

    return (
        tf.data.Dataset.range(160)
        .map(lambda n: tf.ones([1 + n % 9], tf.int64) * n)
        .bucket_by_sequence_length(lambda row: tf.shape(row)[0], [3, 6], [4, 4, 4])
    )


def seeded_sample_of_two() -> Any:
    import tensorflow as tf

    sources = [tf.data.Dataset.range(0, 50), tf.data.Dataset.range(1000, 1050)]
    return tf.data.Dataset.sample_from_datasets(sources, weights=[0.7, 0.3], seed=5)


def running_sum() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(80).scan(tf.constant(0, tf.int64), lambda state, n: (state + n, state + n))


def cached_then_shuffled_each_epoch() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(30).cache().shuffle(30, seed=1, reshuffle_each_iteration=True).repeat(3)


def seeded_random_numbers() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.random(seed=4).map(lambda n: n % 1000)


def filtered_and_unbatched() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(200).batch(10).unbatch().filter(lambda n: n % 3 != 0)


def optional_components() -> Any:
    import tensorflow as tf

    def element(n: Any) -> Any:
        return n, tf.cond(
            n % 2 == 0,
            lambda: tf.experimental.Optional.from_value(n),
            lambda: tf.experimental.Optional.empty(tf.TensorSpec([], tf.int64)),
        )

    return tf.data.Dataset.range(60).map(element)


def unseeded_shuffle() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(80).shuffle(20)


def identical_elements() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(tf.zeros([4])).repeat(60)


GOOD = {
    function.__name__: Good(function, steps)
    for function, steps in (
        (batches, 60),
        (seeded_shuffle_two_epochs, None),
        (parallel_map_with_stateless_random, None),
        (interleaved_records, None),
        (ragged_rows, None),
        (sparse_rows, 60),
        (nested_strings, None),
        (zipped_with_another_length, 60),
        (windows_flattened, None),
        (buckets_by_length, None),
        (seeded_sample_of_two, 60),
        (running_sum, 60),
        (cached_then_shuffled_each_epoch, None),
        (seeded_random_numbers, 60),
        (filtered_and_unbatched, 60),
        (optional_components, None),
        (unseeded_shuffle, None),
        (identical_elements, None),
    )
}
