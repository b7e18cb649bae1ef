"""Trainings that do not resume exactly, and where that comes from: the stage of the pipeline or the code, and why.

Each has one fault. TensorFlow is imported where it runs.
"""

from __future__ import annotations

import functools
import importlib.util
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import faulty_code
import planted
import trainings
from faulty_code import ROWS, rows

from pytest_pipeline_ckpt.engine.causes import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HAS_ESTIMATOR = importlib.util.find_spec("tensorflow_estimator") is not None


@dataclass(frozen=True, slots=True)
class Fault:
    """A training, or the dataset of one, with one fault."""

    stage: str | None
    """The guilty stage's name; None: it is the training code."""
    cause: Cause
    dataset: Callable[[], Any] | None = None
    training: Callable[[str], None] | None = None
    at: str = "step:25"
    settings: Mapping[str, Any] = field(default_factory=dict)


def _options(**given: Any) -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    for name, value in given.items():
        setattr(options, name, value)
    return options


def _policy(name: str) -> Any:
    import tensorflow as tf

    return _options(experimental_external_state_policy=getattr(tf.data.experimental.ExternalStatePolicy, name))


def _uniform(n: Any) -> Any:
    import tensorflow as tf

    return tf.random.uniform([], seed=5) + tf.cast(n, tf.float32)


# Generators.


def _generator() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_generator(lambda: iter(range(ROWS)), output_signature=tf.TensorSpec([], tf.int64))


def generator() -> Any:
    return _generator().batch(2).prefetch(1)


def generator_in_interleave() -> Any:
    return rows().interleave(lambda _: _generator().take(3), cycle_length=2)


def generator_in_flat_map() -> Any:
    return rows().flat_map(lambda _: _generator().take(2)).batch(2)


def generator_beside_a_range() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.zip((rows(), _generator())).prefetch(1)


def unseeded_and_repeated() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(30).shuffle(30).repeat().batch(4)


# Random numbers.


def random_map(policy: str) -> Any:
    return rows().map(_uniform).batch(2).prefetch(1).with_options(_policy(policy))


def random_parallel_map() -> Any:
    return rows().map(_uniform, num_parallel_calls=2).prefetch(1).with_options(_policy("IGNORE"))


def random_filter() -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.range(2 * ROWS).filter(lambda _: tf.random.uniform([], seed=5) < 0.5)
    return dataset.prefetch(1).with_options(_policy("IGNORE"))


def random_generator_object() -> Any:
    import tensorflow as tf

    numbers = tf.random.Generator.from_seed(3)
    return rows().map(lambda n: numbers.uniform([]) + tf.cast(n, tf.float32)).batch(2)


def random_shuffle_in_map() -> Any:
    import tensorflow as tf

    return rows().batch(4).map(lambda n: tf.random.shuffle(n, seed=3)).repeat().with_options(_policy("IGNORE"))


def random_flat_map() -> Any:
    import tensorflow as tf

    def some(n: Any) -> Any:
        return tf.data.Dataset.from_tensors(n).repeat(tf.random.uniform([], 1, 4, tf.int64, seed=5))

    return rows().flat_map(some).batch(2).with_options(_policy("IGNORE"))


def random_scan() -> Any:
    import tensorflow as tf

    dataset = rows().scan(0.0, lambda state, n: (state + 1, state + _uniform(n)))
    return dataset.take(tf.int64.max).with_options(_policy("IGNORE"))


def random_groups() -> Any:
    import tensorflow as tf

    def key(_: Any) -> Any:
        return tf.random.uniform([], 0, 2, tf.int64, seed=5)

    grouped = rows().group_by_window(key, lambda _, window: window.batch(2), window_size=2)
    return grouped.with_options(_policy("IGNORE"))


def rejection_resampled() -> Any:
    import tensorflow as tf

    return rows().rejection_resample(lambda n: tf.cast(n % 2, tf.int32), [0.5, 0.5], seed=1).batch(2)


def random_deep_in_ten_stages() -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.range(2 * ROWS).shuffle(32, seed=1).map(lambda n: n + 1).filter(lambda n: n % 5 != 0)
    dataset = dataset.batch(4).map(lambda n: tf.cast(n, tf.float32)).unbatch()
    dataset = dataset.map(lambda n: n + tf.random.normal([], seed=2))
    return dataset.batch(3, drop_remainder=True).prefetch(2).with_options(_policy("WARN"))


def symbolic(make: Callable[[], Any]) -> Any:
    return make().batch(2).with_options(_options(experimental_symbolic_checkpoint=True))


def _random_rows() -> Any:
    return rows().map(_uniform)


def _random_batches() -> Any:
    import tensorflow as tf

    return rows().batch(2).map(lambda n: tf.cast(n, tf.float32) + tf.random.uniform([2], seed=4))


# Python.


def _count() -> Callable[[Any], Any]:
    import numpy as np

    calls = [0]

    def counted(n: Any) -> Any:
        calls[0] += 1
        return np.int64(n + 1000 * calls[0])

    return counted


def _counted_rows() -> Any:
    import tensorflow as tf

    counted = _count()
    return rows().map(lambda n: tf.numpy_function(counted, [n], tf.int64))


def numpy_function() -> Any:
    return _counted_rows().batch(2)


def py_function() -> Any:
    import tensorflow as tf

    return rows().map(lambda n: tf.py_function(lambda value: value + 1, [n], tf.int64)).batch(2)


def numpy_function_counts(policy: str) -> Any:
    return _counted_rows().batch(2).with_options(_policy(policy))


def py_function_draws() -> Any:
    import tensorflow as tf

    def draw(n: Any) -> Any:
        return n + random.randrange(10**6)

    return rows().map(lambda n: tf.py_function(draw, [n], tf.int64)).with_options(_policy("WARN"))


def stateless_that_counts() -> Any:
    import tensorflow as tf

    counted = _count()
    return rows().map(lambda n: tf.numpy_function(counted, [n], tf.int64, stateful=False)).batch(2)


def stateless_that_draws() -> Any:
    import numpy as np
    import tensorflow as tf

    def draw(n: Any) -> Any:
        return np.float64(n + np.random.rand())

    return rows().map(lambda n: tf.numpy_function(draw, [n], tf.float64, stateful=False)).prefetch(1)


# Other states.


def variable_counts(policy: str | None = None) -> Any:
    import tensorflow as tf

    counter = tf.Variable(0, dtype=tf.int64)
    dataset = rows().map(lambda n: n + 1000 * counter.assign_add(1)).batch(2)
    return dataset if policy is None else dataset.with_options(_policy(policy))


def timestamps() -> Any:
    import tensorflow as tf

    return rows().map(lambda n: tf.timestamp() + tf.cast(n, tf.float64)).batch(2)


def data_service() -> Any:
    import tensorflow as tf

    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    _SERVERS.extend((dispatcher, service.WorkerServer(service.WorkerConfig(dispatcher_address=address))))
    return rows().apply(service.distribute("parallel_epochs", dispatcher.target)).batch(2)


_SERVERS: list[Any] = []
"""They serve as long as somebody refers to them."""


# Order.


def _uneven(n: Any) -> Any:
    import tensorflow as tf

    def slow() -> Any:
        return n + tf.cast(tf.reduce_sum(tf.random.stateless_normal([500_000], [n, 2])) > 1e30, tf.int64)

    return tf.cond(n % 4 == 0, slow, lambda: n)


def unordered_map() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(ROWS).map(_uneven, num_parallel_calls=4, deterministic=False).prefetch(1)


def unordered_by_options() -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.range(ROWS).map(_uneven, num_parallel_calls=4).prefetch(1)
    return dataset.with_options(_options(deterministic=False))


# Built differently by each process.


def _files(order: Callable[[list[str]], list[str]]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(order([f"part-{number}" for number in range(ROWS)])).batch(2)


def _by_numpy(files: list[str]) -> list[str]:
    import numpy as np

    np.random.shuffle(files)
    return files


def files_shuffled_late() -> Any:
    import tensorflow as tf

    files = list({f"part-{number}" for number in range(ROWS)})
    return tf.data.Dataset.from_tensor_slices(files).shuffle(4, seed=1).map(tf.strings.length).batch(2)


def drawn_constant() -> Any:
    offset = random.randrange(10**9)
    return rows().map(lambda n: n + offset).batch(2)


def time_of_the_start() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(time.time_ns()).repeat(ROWS).batch(2)


def _dataset(stage: str, cause: Cause, make: Callable[..., Any], *arguments: Any, **settings: Any) -> Fault:
    return Fault(stage, cause, functools.partial(make, *arguments) if arguments else make, settings=settings)


def _unordered(make: Callable[[], Any]) -> Fault:
    """Killed long after its last save: the more elements come again, the surer they come in another order."""
    settings = {"steps": 120, "save_every": 50}
    return Fault("Dataset.map", Cause.UNORDERED, make, at="step:95", settings=settings)


def _code(cause: Cause, train: Callable[..., Any], *, at: str = "step:25") -> Fault:
    return Fault(None, cause, training=train, at=at)


FAULTS: dict[str, Fault] = {
    "generator": _dataset("Dataset.from_generator", Cause.GENERATOR, generator),
    "generator in interleave": _dataset("Dataset.interleave", Cause.GENERATOR, generator_in_interleave),
    "generator in flat_map": _dataset("Dataset.flat_map", Cause.GENERATOR, generator_in_flat_map),
    "generator beside a range": _dataset("Dataset.from_generator", Cause.GENERATOR, generator_beside_a_range),
    "random map, ignored": _dataset("Dataset.map", Cause.RANDOM_STATE, random_map, "IGNORE"),
    "random map, warned of": _dataset("Dataset.map", Cause.RANDOM_STATE, random_map, "WARN"),
    "random map, refused": _dataset("Dataset.map", Cause.RANDOM_REFUSED, random_map, "FAIL"),
    "random parallel map": _dataset("Dataset.map", Cause.RANDOM_STATE, random_parallel_map),
    "random filter": _dataset("Dataset.filter", Cause.RANDOM_STATE, random_filter),
    "random generator object": _dataset("Dataset.map", Cause.RANDOM_REFUSED, random_generator_object),
    "random shuffle in a map": _dataset("Dataset.map", Cause.RANDOM_STATE, random_shuffle_in_map, steps=60),
    "random flat_map": _dataset("Dataset.flat_map", Cause.RANDOM_STATE, random_flat_map),
    "random scan": _dataset("Dataset.scan", Cause.RANDOM_STATE, random_scan),
    "random groups": _dataset("Dataset.group_by_window", Cause.RANDOM_STATE, random_groups),
    "rejection_resample": _dataset("Dataset.rejection_resample", Cause.RANDOM_REFUSED, rejection_resampled),
    "random deep in ten stages": _dataset("Dataset.map", Cause.RANDOM_STATE, random_deep_in_ten_stages),
    "symbolic, random rows": _dataset("Dataset.map", Cause.SYMBOLIC, symbolic, _random_rows),
    "symbolic, random batches": _dataset("Dataset.map", Cause.SYMBOLIC, symbolic, _random_batches),
    "symbolic, Python that counts": _dataset("Dataset.map", Cause.SYMBOLIC, symbolic, _counted_rows),
    "numpy_function": _dataset("Dataset.map", Cause.PYTHON_REFUSED, numpy_function),
    "py_function": _dataset("Dataset.map", Cause.PYTHON_REFUSED, py_function),
    "numpy_function counts, ignored": _dataset("Dataset.map", Cause.PYTHON_STATE, numpy_function_counts, "IGNORE"),
    "numpy_function counts, warned of": _dataset("Dataset.map", Cause.PYTHON_STATE, numpy_function_counts, "WARN"),
    "py_function draws": _dataset("Dataset.map", Cause.PYTHON_STATE, py_function_draws),
    "stateful=False counts": _dataset("Dataset.map", Cause.STATELESS_PYTHON, stateless_that_counts),
    "stateful=False draws": _dataset("Dataset.map", Cause.STATELESS_PYTHON, stateless_that_draws),
    "variable, refused": _dataset("Dataset.map", Cause.VARIABLE, variable_counts),
    "variable, ignored": _dataset("Dataset.map", Cause.VARIABLE, variable_counts, "IGNORE"),
    "timestamps": _dataset("Dataset.map", Cause.STATEFUL_OP, timestamps),
    "data service": _dataset("Dataset.apply", Cause.NOT_SERIALISABLE, data_service),
    "file cache": Fault("Dataset.cache", Cause.FILE_CACHE, training=faulty_code.file_cache, at="step:5"),
    "deterministic=False": _unordered(unordered_map),
    "deterministic=False by options": _unordered(unordered_by_options),
    "files by set": _dataset("Dataset.from_tensor_slices", Cause.BUILT_ANEW, _files, lambda files: list(set(files))),
    "files by hash": _dataset(
        "Dataset.from_tensor_slices", Cause.BUILT_ANEW, _files, lambda files: sorted(files, key=hash)
    ),
    "files by np.random": _dataset("Dataset.from_tensor_slices", Cause.BUILT_ANEW, _files, _by_numpy),
    "files by set, shuffled": _dataset("Dataset.from_tensor_slices", Cause.BUILT_ANEW, files_shuffled_late),
    "constant drawn in Python": _dataset("Dataset.map", Cause.BUILT_ANEW, drawn_constant),
    "time of the start": _dataset("Dataset.from_tensors", Cause.BUILT_ANEW, time_of_the_start),
    "iterator in no checkpoint": _code(Cause.NOT_SAVED, planted.no_iterator_saved),
    "loop over the dataset": _code(Cause.FOR_LOOP, faulty_code.loop_over_the_dataset),
    "epochs over the dataset": _code(Cause.FOR_LOOP, faulty_code.epochs_over_the_dataset, at="step:45"),
    "another iterator": _code(Cause.NEW_ITERATOR, faulty_code.another_iterator),
    "dataset tracked": _code(Cause.DATASET_TRACKED, faulty_code.dataset_tracked),
    "saved and not restored": _code(Cause.NOT_RESTORED, faulty_code.saved_and_not_restored),
    "input saved less often": _code(Cause.SAVED_APART, planted.input_saved_less_often),
    "input saved more often": _code(Cause.SAVED_APART, planted.input_saved_more_often),
    "input not saved yet": _code(Cause.SAVED_APART, planted.input_saved_less_often, at="step:13"),
    "halves saved apart": _code(Cause.TORN, faulty_code.halves_saved_apart),
    "position of its own": _code(Cause.OWN_POSITION, planted.counts_from_its_own_start, at="step:25,15"),
    "epoch forgotten": _code(Cause.OWN_POSITION, planted.epoch_forgotten, at="step:45"),
    "session without its input": _code(
        Cause.NOT_SAVED_IN_SESSION, functools.partial(faulty_code.session, make=rows, saveable=False)
    ),
    "monitored session without a hook": _code(Cause.NOT_SAVED_IN_SESSION, faulty_code.monitored_without_hook),
    "elements held by a thread": _code(Cause.IN_FLIGHT, faulty_code.held_by_a_loader),
    "unseeded shuffle, repeated": Fault(
        "Dataset.repeat",
        Cause.DRAWN_ANEW,
        training=functools.partial(faulty_code.trained, make=unseeded_and_repeated),
    ),
    "steps made again": _code(Cause.COUNTED_ANEW, planted.trains_its_steps_again),
    "nothing restored": _code(Cause.NEVER_RESTORED, planted.saves_and_never_restores),
    "Keras BackupAndRestore": _code(Cause.KERAS_FIT, trainings.keras_backup, at="step:18"),
    "loop in a tf.function": _code(Cause.NOT_SAVEABLE, functools.partial(trainings.epoch_in_a_function, skips=False)),
    "unseeded shuffle, saved on notice": Fault(
        "Dataset.shuffle", Cause.UNSEEDED, training=planted.saves_on_notice_unseeded, at="step:25@SIGTERM"
    ),
    "random map in a custom loop": Fault(
        "Dataset.map",
        Cause.RANDOM_STATE,
        training=functools.partial(faulty_code.trained, make=functools.partial(random_map, "IGNORE")),
    ),
    "files by set in a custom loop": Fault(
        "Dataset.from_tensor_slices",
        Cause.BUILT_ANEW,
        training=functools.partial(faulty_code.trained, make=functools.partial(_files, lambda files: list(set(files)))),
    ),
    "random map in a session": Fault(
        "Dataset.map",
        Cause.RANDOM_STATE,
        training=functools.partial(faulty_code.session, make=functools.partial(random_map, "IGNORE"), saveable=True),
    ),
}
"""By name."""
if HAS_ESTIMATOR:
    FAULTS |= {
        "Estimator, TensorFlow's hook": _code(Cause.SAVED_APART, trainings.estimator, at="step:25,18"),
        "Estimator without a hook": _code(
            Cause.NOT_SAVED_IN_SESSION, functools.partial(trainings.estimator, with_hook=False)
        ),
    }
