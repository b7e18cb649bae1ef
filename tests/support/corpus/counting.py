"""A Keras layer whose saved weights count what the model was trained on, and data for it: (element, value) pairs."""

from __future__ import annotations

from typing import Any

import keras
import proof
import tensorflow as tf


@keras.saving.register_keras_serializable("corpus")
class Seen(keras.layers.Layer):  # type: ignore[misc]  # untyped base
    """Counts the elements, and hands on the values."""

    def __init__(self, elements: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.elements = elements

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "elements": self.elements}

    def build(self, shape: Any) -> None:
        self.times = self.add_weight(
            shape=(self.elements,), initializer="zeros", trainable=False, name="times", dtype="float32"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            element = keras.ops.cast(inputs[:, 0], "int32")
            self.times.assign_add(keras.ops.sum(keras.ops.one_hot(element, self.elements, dtype="float32"), axis=0))
        return inputs[:, 1:]


def numbers(elements: int) -> Any:
    """Batches of one element: its number, and a value to learn."""

    def example(number: Any) -> Any:
        value = tf.cast(number, tf.float32)
        return tf.stack([value, value / elements]), value[None] / elements

    return tf.data.Dataset.range(elements).map(example).batch(1)


def counted_model(elements: int) -> Any:
    """A small model that counts; always with the same first weights."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((2,), dtype="float32"), Seen(elements), keras.layers.Dense(2), keras.layers.Dense(1)]
    )


def report(model: Any, due: int = 1, **other: Any) -> None:
    """The proof of a model that counts."""
    seen = next(layer for layer in model.layers if isinstance(layer, Seen))
    proof.report(keras.ops.convert_to_numpy(seen.times), due, **other)


def steps() -> Any:
    """A callback that notes each step; the last one of its list."""
    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: proof.moment())
