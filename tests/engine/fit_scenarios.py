"""Keras `fit` under the tap, for `test_tap_fit.py`; started as `tap_scenarios.py` is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tapping import batches, main

if TYPE_CHECKING:
    from pathlib import Path

    from tapping import Gate

keras = tf.keras


def compiled(*, built: bool = True, **options: Any) -> Any:
    """A small model; Keras builds it when it trains first, unless it knows its input."""
    layers = [keras.layers.Input((1,))] if built else []
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


def unknown_length(count: int) -> Any:
    """Batches that `fit` cannot count."""
    return batches(count).filter(lambda x, _: tf.reduce_all(x >= 0))


def several_steps(_: Gate, __: Path) -> Any:
    """Three steps in each call, of four an epoch; validation by as many."""
    compiled(steps_per_execution=3).fit(batches(4), epochs=2, verbose=0, validation_data=batches(2))


def several_steps_compiled(_: Gate, __: Path) -> Any:
    """Two steps in each call, by XLA, and a model that is not built."""
    compiled(built=False, steps_per_execution=2, jit_compile=True).fit(batches(4), epochs=2, verbose=0)


def several_steps_eagerly(_: Gate, __: Path) -> Any:
    """Two steps in each call, eagerly, and a model that is not built."""
    compiled(built=False, steps_per_execution=2, run_eagerly=True).fit(batches(4), epochs=2, verbose=0)


def weighted(_: Gate, __: Path) -> Any:
    """Class weights, which are put into the pipeline; `fit` twice."""
    model = compiled()
    for _fit in range(2):
        model.fit(batches(2), verbose=0, class_weight={0: 1.0, 1: 2.0})


def arrays(_: Gate, __: Path) -> Any:
    """Arrays, of which a third is for validation."""
    rows = np.arange(12, dtype=np.float32).reshape(12, 1)
    compiled().fit(rows, np.zeros((12, 1), np.float32), batch_size=4, epochs=2, verbose=0, validation_split=0.34)


def sequences(_: Gate, __: Path) -> Any:
    """A `PyDataset`, which Keras 2 calls `Sequence`, for training and validation."""

    class Rows(getattr(keras.utils, "PyDataset", keras.utils.Sequence)):  # type: ignore[misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            rows = np.arange(index * 4, index * 4 + 4, dtype=np.float32)
            return rows.reshape(4, 1), np.zeros((4, 1), np.float32)

    compiled().fit(Rows(), epochs=2, verbose=0, validation_data=Rows(), shuffle=False)


def repeated(_: Gate, __: Path) -> Any:
    """One iterator over all epochs, which are so many steps; validation has one too."""
    compiled().fit(
        batches(12).repeat(), epochs=3, steps_per_epoch=4, verbose=0, validation_data=batches(2), validation_steps=2
    )


def not_counted(_: Gate, __: Path) -> Any:
    """A dataset of unknown cardinality, over two epochs."""
    compiled().fit(unknown_length(4), epochs=2, verbose=0)


def not_counted_compiled(_: Gate, __: Path) -> Any:
    """The same by XLA, where what depends on the element and what does not is one operation."""
    compiled(jit_compile=True).fit(unknown_length(4), epochs=2, verbose=0)


def generated(_: Gate, __: Path) -> Any:
    """A pipeline that begins with a Python generator."""

    def rows() -> Any:
        for index in range(3):
            x = np.arange(index * 4, index * 4 + 4, dtype=np.float32)
            yield x.reshape(4, 1), np.zeros((4, 1), np.float32)

    spec = tf.TensorSpec((4, 1))
    compiled().fit(tf.data.Dataset.from_generator(rows, output_signature=(spec, spec)), verbose=0)


class _Restore(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Puts a function around `train_function` that brings iterator and model back before the first step."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.written = written

    def on_train_begin(self, logs: Any = None) -> None:
        del logs
        train, pending = self.model.train_function, [self.written]

        def function(iterator: Any) -> Any:
            while pending:
                optimizer = self.model.optimizer
                tf.train.Checkpoint(iterator=iterator).read(pending.pop()).expect_partial()
                optimizer.iterations.assign(3)
            return train(iterator)

        self.model.train_function = function


class _Save(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Writes the iterator of `fit` after the third step."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix, self.written = prefix, ""

    def on_train_begin(self, logs: Any = None) -> None:
        del logs
        train, calls = self.model.train_function, [0]

        def function(iterator: Any) -> Any:
            result = train(iterator)
            calls[0] += 1
            if calls[0] == 3:
                self.written = tf.train.Checkpoint(iterator=iterator).write(self.prefix)
            return result

        self.model.train_function = function


def restored_by_a_callback(_: Gate, path: Path) -> Any:
    """A `fit` whose iterator is written after three of five steps, and one that goes on from there."""
    save = _Save(str(path / "iterator"))
    compiled().fit(batches(5), verbose=0, callbacks=[save])
    compiled(built=False).fit(batches(5), verbose=0, steps_per_epoch=2, callbacks=[_Restore(save.written)])


if __name__ == "__main__":
    main(globals(), *sys.argv[1:])
