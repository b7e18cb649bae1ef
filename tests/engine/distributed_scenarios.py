"""Iterators of `tf.distribute` under the tap, for `test_tap_distributed.py`; started as `tap_scenarios.py` is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tapping import batches, main

if TYPE_CHECKING:
    from pathlib import Path

    from tapping import Gate

TWO, ONE = ["CPU:0", "CPU:1"], ["CPU:0"]


def _rows(count: int, *, batch: int = 4) -> Any:
    """The numbers below `count` in batches, through a prefetch."""
    return tf.data.Dataset.range(count).batch(batch).prefetch(2)


def _step(strategy: Any) -> tuple[Any, Any]:
    with strategy.scope():
        step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    return step, tf.train.Checkpoint(step=step)


def _sum(strategy: Any, element: Any) -> Any:
    return strategy.reduce("SUM", strategy.run(tf.reduce_sum, args=(element,)), axis=None)


def eager(_: Gate, __: Path) -> Any:
    """Two replicas, read eagerly to the end; the last batch is too small for both."""
    strategy = tf.distribute.MirroredStrategy(TWO)
    step, checkpoint = _step(strategy)
    seen = []
    for element in strategy.experimental_distribute_dataset(_rows(9)):
        seen.append(int(_sum(strategy, element)))
        step.assign_add(1)
    del checkpoint
    return seen


def one_device(_: Gate, __: Path) -> Any:
    """One replica, eagerly and in a function."""
    strategy = tf.distribute.MirroredStrategy(ONE)
    iterator = iter(strategy.experimental_distribute_dataset(_rows(16)))

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        return _sum(strategy, next(iterator))

    return [int(_sum(strategy, next(iterator))), *(int(train(iterator)) for _ in range(3))]


def function(_: Gate, __: Path) -> Any:
    """Two replicas in a function, two epochs, the step assigned where nothing orders it after the element."""
    strategy = tf.distribute.MirroredStrategy(TWO)
    step, checkpoint = _step(strategy)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        total = _sum(strategy, next(iterator))
        step.assign_add(1)
        return total

    seen = []
    for _epoch in range(2):
        iterator = iter(strategy.experimental_distribute_dataset(_rows(12).repeat().take(3)))
        seen += [int(train(iterator)) for _ in range(3)]
    try:
        train(iterator)
    except tf.errors.OutOfRangeError:
        pass
    del checkpoint
    return seen


def optionals(_: Gate, __: Path) -> Any:
    """Optionals, eagerly and in a function."""
    strategy = tf.distribute.MirroredStrategy(TWO)
    iterator = iter(strategy.experimental_distribute_dataset(_rows(12)))

    @tf.function  # type: ignore[untyped-decorator]
    def total(iterator: Any) -> Any:
        optional = iterator.get_next_as_optional()
        if not optional.has_value():
            return tf.constant(-1, tf.int64)
        return _sum(strategy, optional.get_value())

    seen = [int(_sum(strategy, iterator.get_next_as_optional().get_value()))]
    return seen + [int(total(iterator)) for _ in range(3)]


def from_function(_: Gate, __: Path) -> Any:
    """Each replica's batches come from the user's function; elements have two components, one of them ragged."""
    strategy = tf.distribute.MirroredStrategy(TWO)

    def make(context: Any) -> Any:
        del context
        return tf.data.Dataset.range(4).map(lambda n: {"n": n, "rows": tf.range(n)}).ragged_batch(1)

    iterator = iter(strategy.distribute_datasets_from_function(make))
    for _element in range(2):
        next(iterator)


def loop_over_dataset(_: Gate, __: Path) -> Any:
    """`for` over a distributed dataset in a function, called twice, and over an iterator."""
    strategy = tf.distribute.MirroredStrategy(TWO)
    dataset = strategy.experimental_distribute_dataset(_rows(12))

    @tf.function  # type: ignore[untyped-decorator]
    def train(rows: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for element in rows:
            total += _sum(strategy, element)
        return total

    return [int(train(dataset)), int(train(dataset)), int(train(iter(dataset)))]


def workers(_: Gate, __: Path) -> Any:
    """`MultiWorkerMirroredStrategy` of one worker, eagerly to the end and in a function."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    seen = [int(_sum(strategy, one)) for one in strategy.experimental_distribute_dataset(_rows(9))]
    iterator = iter(strategy.experimental_distribute_dataset(_rows(8)))

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        return _sum(strategy, next(iterator))

    return seen + [int(train(iterator)) for _ in range(2)]


def _fit(strategy: Any, **options: Any) -> None:
    keras = tf.keras
    with strategy.scope():
        model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", **options)
    model.fit(batches(4), epochs=2, verbose=0, validation_data=batches(2))


def fit(_: Gate, __: Path) -> Any:
    """Keras `fit` under a strategy of two replicas."""
    _fit(tf.distribute.MirroredStrategy(TWO))


def fit_one_device(_: Gate, __: Path) -> Any:
    """Keras `fit` under a strategy of one replica, several steps in a call."""
    _fit(tf.distribute.MirroredStrategy(ONE), steps_per_execution=2)


if __name__ == "__main__":
    main(globals(), *sys.argv[1:])
