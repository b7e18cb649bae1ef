"""What the trainings of `fit_lives.py` train: data, models, optimizers, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

keras: Any = tf.keras
layers: Any = keras.layers
ROWS, BATCH = 32, 4
LEGACY: Any = getattr(keras.optimizers, "legacy", None)


def _features(index: Any) -> Any:
    return tf.random.stateless_normal([4], tf.stack([tf.cast(index, tf.int64), 1]))


def _target(index: Any) -> Any:
    return tf.random.stateless_normal([1], tf.stack([tf.cast(index, tf.int64), 2]))


def pair(index: Any) -> Any:
    return _features(index), _target(index)


def _of_range(make: Any = lambda rows: rows.shuffle(ROWS, seed=7)) -> Any:
    return make(tf.data.Dataset.range(ROWS)).map(pair).batch(BATCH).prefetch(2)


def _arrays() -> Any:
    rows = np.arange(ROWS * 4, dtype="float32").reshape(ROWS, 4) / 100
    return np.sin(rows * 7), np.cos(rows[:, :1] * 11)


def _batches() -> Any:
    x, y = _arrays()
    for start in range(0, ROWS, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


_SPEC = (tf.TensorSpec([None, 4]), tf.TensorSpec([None, 1]))
_Sequence: Any = getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence


class Rows(_Sequence):  # type: ignore[misc]  # untyped base
    """Batches by number."""

    def __len__(self) -> int:
        return ROWS // BATCH

    def __getitem__(self, index: int) -> Any:
        x, y = _arrays()
        return x[index * BATCH : (index + 1) * BATCH], y[index * BATCH : (index + 1) * BATCH]


class Redrawn(Rows):
    """Draws another order for each epoch."""

    def on_epoch_end(self) -> None:
        self.drawn = np.random.permutation(ROWS)


def _endless() -> Any:
    while True:
        yield from _batches()


def _ids(shuffle: Any) -> Any:
    """Elements that say which they are: the target of element N is 2**N, so a sum tells which ones were seen."""
    rows = shuffle(tf.data.Dataset.range(16))
    return rows.map(
        lambda n: (
            _features(n),
            tf.reshape(tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), n), tf.float32), [1]),
        )
    ).batch(2)


DATA: dict[str, Any] = {
    "seeded": _of_range,
    # A prefetch before the batch, or TensorFlow makes one op of map and batch, which saves what is below it.
    "once": lambda: (
        tf.data.Dataset.range(ROWS).shuffle(ROWS, seed=7).repeat(1).map(pair).prefetch(1).batch(BATCH).prefetch(2)
    ),
    "twice, unknown": lambda: _of_range(lambda rows: rows.shuffle(ROWS, seed=7).repeat(2)).filter(lambda x, y: True),
    "shuffled twice": lambda: _of_range(lambda rows: rows.shuffle(ROWS, seed=7).shuffle(4, seed=8)),
    "larger batches": lambda: _of_range().unbatch().batch(2 * BATCH).apply(tf.data.experimental.assert_cardinality(4)),
    "repeat": lambda: _of_range(lambda rows: rows.shuffle(ROWS, seed=7).repeat()),
    "repeated batches": lambda: _of_range().repeat(),
    "unknown": lambda: _of_range().filter(lambda x, y: True),
    "fixed order": lambda: _of_range(lambda rows: rows.shuffle(ROWS, seed=7, reshuffle_each_iteration=False)),
    "other elements": lambda: tf.data.Dataset.range(ROWS).map(lambda n: (tf.zeros([3]), _target(n))).batch(BATCH),
    "labels": lambda: (
        tf.data.Dataset.range(ROWS).shuffle(ROWS, seed=7).map(lambda n: (_features(n), n % 2)).batch(BATCH)
    ),
    "generator dataset": lambda: tf.data.Dataset.from_generator(_batches, output_signature=_SPEC),
    "unseeded ids": lambda: _ids(lambda rows: rows.shuffle(16)),
    "rows": Rows,
    "redrawn": Redrawn,
    "generator": _endless,
    "arrays": _arrays,
}


class Subclassed(keras.Model):  # type: ignore[misc]  # untyped base
    """A model that is built by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(8, activation="relu")
        self.normal = layers.BatchNormalization()
        self.last = layers.Dense(1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.normal(self.first(inputs), training=training))


class TwoOptimizers(keras.Model):  # type: ignore[misc]  # untyped base
    """A training step of its own, with a second optimizer that `fit` does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(8, activation="relu")
        self.last = layers.Dense(1)
        self.other = keras.optimizers.Adam(0.02)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.first(inputs))

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        own, others = self.first.trainable_variables, self.last.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, own), own, strict=True))
        self.other.apply_gradients(zip(tape.gradient(loss, others), others, strict=True))
        return {"loss": loss}


class Adversarial(keras.Model):  # type: ignore[misc]  # untyped base
    """Two models with an optimizer each: that of `compile` is made, and never applied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(4), layers.Dense(1)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.build((None, 4))

    def compile(self, optimizer: Any, loss: Any = None, metrics: Any = None, **kwargs: Any) -> None:
        super().compile(**kwargs)
        self.own, self.other = optimizer, keras.optimizers.Adam(0.02)

    @property
    def metrics(self) -> list[Any]:
        return [self.loss_tracker]

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.first(inputs))

    def train_step(self, data: Any) -> Any:
        x, y = data
        for sign, optimizer, part in ((1, self.own, self.last), (-0.1, self.other, self.first)):
            with tf.GradientTape() as tape:
                loss = sign * tf.reduce_mean((self(x, training=True) - y) ** 2)
            weights = part.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def _functional() -> Any:
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.25)(hidden) + layers.Dense(8)(inputs)))


def _sequential(*inner: Any, built: bool = True, last: int = 1, width: int = 8) -> Any:
    inputs = [keras.Input((4,))] if built else []
    return keras.Sequential([*inputs, layers.Dense(width, activation="relu"), *inner, layers.Dense(last)])


MODELS: dict[str, Any] = {
    "plain": lambda: _sequential(layers.BatchNormalization()),
    "unbuilt": lambda: _sequential(layers.BatchNormalization(), built=False),
    "dropout": lambda: _sequential(layers.Dropout(0.25)),
    "unbuilt dropout": lambda: _sequential(layers.Dropout(0.25), built=False),
    "functional": _functional,
    "subclassed": Subclassed,
    "two optimizers": TwoOptimizers,
    "adversarial": Adversarial,
    "labels": lambda: _sequential(last=2),
    "wider": lambda: _sequential(layers.BatchNormalization(), width=9),
    "fewer": _sequential,
    "more": lambda: _sequential(layers.BatchNormalization(), layers.Dense(8)),
}

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "legacy": lambda: LEGACY.Adam(0.01),
    "accumulating": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "averaging": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
    "scaling": lambda: (
        getattr(keras.optimizers, "LossScaleOptimizer", None) or keras.mixed_precision.LossScaleOptimizer
    )(keras.optimizers.Adam(0.01)),
}


class Seen(keras.metrics.Metric):  # type: ignore[misc]  # untyped base
    """The sum of the targets of an epoch: which of the elements of `_ids` were seen."""

    def __init__(self, name: str = "seen") -> None:
        super().__init__(name=name)
        self.total = self.add_weight(name="total", shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(tf.reduce_sum(tf.cast(y_true, tf.float32)))

    def result(self) -> Any:
        return tf.convert_to_tensor(self.total)
