"""Trainings under the tap, for `test_tap.py`: `python tap_scenarios.py DIRECTORY NAME...` runs some of them.

Each leaves its ledger in `DIRECTORY/NAME`, and what it returned in `seen.json` beside it. Not a test module:
TensorFlow must never be imported in the pytest process.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tapping import GIVEN, batches, main, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tapping import Gate

v1 = tf.compat.v1


def eager_loop(_: Gate, __: Path) -> Any:
    """Two epochs, the second one broken off, with a validation pass between them."""
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    seen = []
    for epoch in range(2):
        for element in numbers(10):
            seen.append(int(element["i"]))
            step.assign_add(1)
            if epoch == 1 and len(seen) == 16:
                break
        if epoch == 0:
            for _element in numbers(3, start=100):
                pass
    del checkpoint
    return seen


def eager_restore(_: Gate, path: Path) -> Any:
    """Saves at step 5, goes on to 7, restores, goes on with the restored iterator."""
    iterator = iter(numbers(10))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, str(path / "model"), max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    seen = []
    for _step in range(7):
        seen.append(int(next(iterator)["i"]))
        if int(step.assign_add(1)) == 5:
            manager.save()
    checkpoint.restore(manager.latest_checkpoint)
    for _step in range(2):
        seen.append(int(iterator.get_next()["i"]))
        step.assign_add(1)
    return seen


def eager_optional(_: Gate, __: Path) -> Any:
    """Asks for optionals until there is none."""
    iterator = iter(numbers(3))
    seen: list[int] = []
    while True:
        optional = iterator.get_next_as_optional()
        if not optional.has_value():
            return seen
        seen.append(int(optional.get_value()["i"]))


def eager_many(_: Gate, __: Path) -> Any:
    """A hundred elements: STEP for the first 64, then for every 32nd."""
    step = tf.Variable(0)
    checkpoint = tf.train.Checkpoint(global_step=step)
    for _element in numbers(100):
        step.assign_add(1)
    del checkpoint


def function_loop(_: Gate, __: Path) -> Any:
    """One traced function, two iterators; loops inside; the step is assigned without any dependency on the data."""
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for _step in tf.range(2):
            total = next(iterator)["i"]
            step.assign_add(1)
        return total

    seen = []
    for _epoch in range(2):
        iterator = iter(numbers(9))
        seen += [int(train(iterator)) for _ in range(3)]
    del checkpoint
    return seen


def function_for(_: Gate, __: Path) -> Any:
    """A `for` over an iterator inside a function, which AutoGraph makes a while loop over optionals."""
    total = tf.Variable(0, dtype=tf.int64)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> None:
        for element in iterator:
            total.assign_add(element["i"])

    train(iter(numbers(5)))
    return int(total)


def function_restore(_: Gate, path: Path) -> Any:
    """As `eager_restore`, in a function, with `Checkpoint.write` and `read`."""
    iterator = iter(numbers(10))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        number = next(iterator)["i"]
        step.assign_add(1)
        return number

    seen = [int(train(iterator)) for _ in range(3)]
    written = checkpoint.write(str(path / "model"))
    seen += [int(train(iterator)) for _ in range(2)]
    checkpoint.read(written)
    return seen + [int(train(iterator)) for _ in range(2)]


def function_given(_: Gate, __: Path) -> Any:
    """A step that only the given callable knows, assigned where nothing orders it after the element."""
    iterator = iter(numbers(4))
    counter = tf.Variable(1000)
    GIVEN.append(counter)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> Any:
        number = next(iterator)["i"]
        counter.assign_add(1)
        return number

    return [int(train(iterator)) for _ in range(4)]


def function_inside(_: Gate, __: Path) -> Any:
    """An iterator that the function itself makes, for each call anew."""

    @tf.function  # type: ignore[untyped-decorator]
    def first_two() -> Any:
        iterator = iter(numbers(5))
        return next(iterator)["i"] + next(iterator)["i"]

    return [int(first_two()), int(first_two())]


def data_service(_: Gate, __: Path) -> Any:
    """A pipeline that a local dispatcher and a worker process, read in a function."""
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    share = service.distribute(processing_mode=service.ShardingPolicy.OFF, service=dispatcher.target)
    iterator = iter(numbers(3).apply(share))
    take = tf.function(lambda iterator: next(iterator)["i"])
    seen = [int(take(iterator)) for _ in range(3)]
    del worker
    return seen


def _zoo() -> dict[str, Any]:
    """Datasets of every kind of element."""
    base = tf.data.Dataset.range(3)
    lengths = base.map(tf.range)
    ragged = lengths.apply(tf.data.experimental.dense_to_ragged_batch(2))

    def optional(i: Any) -> Any:
        spec = tf.TensorSpec([], tf.int64)
        make = tf.experimental.Optional
        return tf.cond(tf.equal(i % 2, 0), lambda: make.from_value(i), lambda: make.empty(spec))

    return {
        "scalar": base,
        "nested": base.map(lambda i: {"a": (i, {"b": tf.fill([2, 3], i)}), "c": tf.as_string(i)}).batch(2),
        "strings": base.map(lambda i: tf.stack([tf.as_string(i), "a\0b", ""])),
        "ragged": ragged,
        "ragged2": base.map(lambda i: tf.RaggedTensor.from_row_lengths(tf.range(3), [1, 2])).batch(2),
        "ragged_strings": base.map(lambda i: tf.strings.split(tf.stack([tf.as_string(i), "x y z"]))),
        "sparse": base.map(lambda i: tf.sparse.from_dense(tf.one_hot(i, 4))),
        "optional": base.map(lambda i: {"o": optional(i), "i": i}),
        "bfloat16": base.map(lambda i: tf.cast(tf.fill([2], i), tf.bfloat16)),
        "bool": base.map(lambda i: (i > 0, tf.cast(i, tf.complex64), tf.cast(i, tf.uint16))),
        "empty": base.map(lambda i: (tf.zeros([0, 3]), tf.zeros([2, 0]))),
    }


def window_eager(_: Gate, __: Path) -> Any:
    """Elements with a nested dataset."""
    for _element in tf.data.Dataset.range(4).window(2).map(lambda w: {"w": w, "i": 1}):
        pass


def window_function(_: Gate, __: Path) -> Any:
    """Elements with a nested dataset, in a function that reads it."""

    @tf.function  # type: ignore[untyped-decorator]
    def total(iterator: Any) -> Any:
        return next(iterator)["w"].reduce(tf.constant(0, tf.int64), lambda a, b: a + b)

    iterator = iter(tf.data.Dataset.range(4).window(2).map(lambda w: {"w": w, "i": 1}))
    return [int(total(iterator)) for _ in range(2)]


def _pictures() -> Any:
    """Batches whose last one is smaller: the spec does not know their size."""
    rows = tf.data.Dataset.range(5).map(lambda i: {"image": tf.cast(tf.fill([8, 8], i), tf.uint8), "label": i})
    return rows.batch(3)


def _texts() -> Any:
    """A long path, a half-precision weight, a large tensor."""
    long = "/data/" + "x" * 70
    return tf.data.Dataset.range(2).map(
        lambda i: (tf.strings.join([long, tf.as_string(i)]), tf.cast(i, tf.bfloat16), tf.fill([100, 100], 0.5))
    )


def _irregular() -> Any:
    """Ragged, sparse and optional components."""
    make, spec = tf.experimental.Optional, tf.TensorSpec([], tf.int64)
    return tf.data.Dataset.range(2).map(
        lambda i: {
            "optional": tf.cond(i > 0, lambda: make.from_value(i), lambda: make.empty(spec)),
            "ragged": tf.RaggedTensor.from_row_lengths(tf.range(7) + tf.cast(i, tf.int32), [3, 4]),
            "sparse": tf.sparse.from_dense(tf.one_hot(i, 4)),
        }
    )


def shown_eager(_: Gate, __: Path) -> Any:
    """Elements that messages show, eagerly; each kind is a stream."""
    for _element in _pictures():
        pass
    for _element in _texts():
        pass
    for _element in _irregular():
        pass


def shown_function(_: Gate, __: Path) -> Any:
    """The same elements in functions."""

    def drain(iterator: Any) -> None:
        take = tf.function(lambda: tf.nest.flatten(next(iterator), expand_composites=True) and 0)
        try:
            while True:
                take()
        except tf.errors.OutOfRangeError:
            pass

    drain(iter(_pictures()))
    drain(iter(_texts()))
    drain(iter(_irregular()))


ZOO = (
    "scalar",
    "nested",
    "strings",
    "ragged",
    "ragged2",
    "ragged_strings",
    "sparse",
    "optional",
    "bfloat16",
    "bool",
    "empty",
)


def _spec_of(leaf: Any) -> str:
    return str(tf.type_spec_from_value(leaf))


def _shape_of(element: Any) -> str:
    specs = tf.nest.map_structure(_spec_of, element)
    return f"{tf.nest.map_structure(lambda leaf: type(leaf).__name__, element)} {specs}"


def zoo_eager(_: Gate, __: Path) -> Any:
    """All kinds of elements, eagerly."""
    seen = {}
    for name, dataset in _zoo().items():
        iterator = iter(dataset)
        for element in iterator:
            seen[name] = f"{tf.nest.map_structure(lambda leaf: type(leaf).__name__, element)}"
    return seen


def zoo_function(_: Gate, __: Path) -> Any:
    """All kinds of elements in functions, and what the elements look like there."""
    seen: dict[str, Any] = {}
    for name, dataset in _zoo().items():

        @tf.function  # type: ignore[untyped-decorator]
        def take(iterator: Any, name: str = name) -> Any:
            element = iterator.get_next()
            seen[name] = [_shape_of(element), str(iterator.element_spec)]
            return tf.constant(0)

        iterator = iter(dataset)
        while True:
            try:
                take(iterator)
            except tf.errors.OutOfRangeError:
                break
    return seen


def zoo_session(_: Gate, __: Path) -> Any:
    """All kinds of elements in sessions; only their numeric or string parts are fetched."""
    for name in ZOO:
        with tf.Graph().as_default(), v1.Session() as session:
            iterator = v1.data.make_initializable_iterator(_zoo()[name])
            element = iterator.get_next()
            leaf = tf.nest.flatten(element, expand_composites=True)[0]
            session.run(iterator.initializer)
            try:
                while True:
                    session.run(leaf.op)
            except tf.errors.OutOfRangeError:
                pass


def _session_training(count: int) -> tuple[Any, Any, Any]:
    iterator = v1.data.make_initializable_iterator(numbers(count))
    element = iterator.get_next()
    global_step = v1.train.get_or_create_global_step()
    # No dependency of the step on the element: read in the same run, it would be the wrong one half of the time.
    train = tf.group(v1.assign_add(global_step, 1), element["i"], element["name"])
    return iterator, element, train


def session_loop(_: Gate, __: Path) -> Any:
    """Two full passes and one broken off, with a validation iterator, in a finalized graph."""
    seen: list[int] = []
    with tf.Graph().as_default() as graph, v1.Session() as session:
        iterator, element, train = _session_training(5)
        validation = v1.data.make_initializable_iterator(numbers(2, start=100))
        checked = validation.get_next()["i"]
        prepare = tf.group(iterator.initializer, v1.local_variables_initializer())
        session.run(v1.global_variables_initializer())
        graph.finalize()
        for epoch in range(4):
            session.run(prepare)
            try:
                while epoch < 2 or len(seen) < 12:
                    seen.append(int(session.run({"all": [element["i"], train]})["all"][0]))
            except tf.errors.OutOfRangeError:
                pass
            if epoch == 0:
                session.run(validation.initializer)
                session.run([checked])
        session.run(prepare)
        seen.append(int(session.run([element["i"], train])[0]))
    return seen


def session_feedable(_: Gate, __: Path) -> Any:
    """One get_next, fed with the handles of two iterators in turn."""
    seen = []
    with tf.Graph().as_default(), v1.Session() as session:
        first = v1.data.make_one_shot_iterator(numbers(3))
        second = v1.data.make_initializable_iterator(numbers(3, start=100))
        handle = v1.placeholder(tf.string, [])
        types = v1.data.get_output_types(first)
        shapes = v1.data.get_output_shapes(first)
        element = v1.data.Iterator.from_string_handle(handle, types, shapes).get_next()
        session.run(second.initializer)
        handles = [session.run(one.string_handle()) for one in (first, second)]
        for turn in range(6):
            seen.append(int(session.run(element["i"], {handle: handles[turn % 2]})))
        try:
            session.run(element["i"], {handle: handles[1]})
        except tf.errors.OutOfRangeError:
            pass
    return seen


def session_structure(_: Gate, __: Path) -> Any:
    """A reinitialisable iterator over a training and a validation dataset."""
    seen = []
    with tf.Graph().as_default(), v1.Session() as session:
        train, check = numbers(2), numbers(2, start=100)
        types, shapes = v1.data.get_output_types(train), v1.data.get_output_shapes(train)
        iterator = v1.data.Iterator.from_structure(types, shapes)
        element = iterator.get_next()["i"]
        starts = [iterator.make_initializer(one) for one in (train, check)]
        for start in starts:
            session.run(start)
            seen += [int(session.run(element)) for _ in range(2)]
    return seen


def session_saveable(_: Gate, path: Path) -> Any:
    """The documented way to save an iterator in a session, through a real restore in a new session."""
    seen = []
    for _life in range(2):
        with tf.Graph().as_default(), v1.Session() as session:
            iterator, element, train = _session_training(10)
            saveable = tf.data.experimental.make_saveable_from_iterator(iterator)
            v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, saveable)
            saver = v1.train.Saver()
            session.run([v1.global_variables_initializer(), iterator.initializer])
            latest = tf.train.latest_checkpoint(str(path))
            if latest is not None:
                saver.restore(session, latest)
            seen += [int(session.run([element["i"], train])[0]) for _ in range(3)]
            if latest is None:
                saver.save(session, str(path / "model"), global_step=3)
                seen.append(int(session.run([element["i"], train])[0]))
    return seen


def monitored(_: Gate, path: Path) -> Any:
    """`MonitoredTrainingSession`, twice over one directory; 80 steps, then 8 more."""
    seen = []
    for steps in (80, 8):
        with tf.Graph().as_default():
            iterator, element, train = _session_training(100)
            ready = tf.group(iterator.initializer, v1.local_variables_initializer())
            scaffold = v1.train.Scaffold(local_init_op=ready)
            with v1.train.MonitoredTrainingSession(
                checkpoint_dir=str(path / "model"),
                scaffold=scaffold,
                save_checkpoint_steps=50,
                save_summaries_steps=None,
                save_summaries_secs=None,
                log_step_count_steps=None,
            ) as session:
                seen += [int(session.run([element["i"], train])[0]) for _ in range(steps)]
    return seen


def estimator(_: Gate, path: Path) -> Any:
    """The real Estimator: train, evaluate with the same input function, train on."""

    def input_fn() -> Any:
        return numbers(6)

    def model_fn(features: Any, mode: str) -> Any:
        weight = v1.get_variable("w", initializer=0.0)
        loss = weight * tf.cast(features["i"], tf.float32) + tf.cast(tf.strings.length(features["name"]), tf.float32)
        step = v1.train.get_or_create_global_step()
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=v1.assign_add(step, 1))

    made = tf.estimator.Estimator(model_fn, str(path / "model"))
    made.train(input_fn, steps=4)
    made.evaluate(input_fn, steps=2)
    made.train(input_fn, steps=3)


def _model(**compiled: Any) -> Any:
    keras = tf.keras
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **compiled)
    return model


def keras_fit(_: Gate, path: Path) -> Any:
    """Two epochs with validation, weights saved; weights restored after more training; one more epoch."""
    model = _model()
    model.fit(batches(3), epochs=2, verbose=0, validation_data=batches(1))
    model.save_weights(str(path / "w.weights.h5"))
    model.fit(batches(2), verbose=0)
    model.load_weights(str(path / "w.weights.h5"))
    model.fit(batches(2), verbose=0)


def keras_jit(_: Gate, __: Path) -> Any:
    """XLA, and several steps in one call."""
    _model(jit_compile=True).fit(batches(3), verbose=0)
    _model(steps_per_execution=2).fit(batches(4), verbose=0)


def keras_eager(_: Gate, __: Path) -> Any:
    """`run_eagerly`, and a custom loop over `train_on_batch`."""
    _model(run_eagerly=True).fit(batches(2), verbose=0)
    model = _model()
    for x, y in batches(3):
        model.train_on_batch(x, y)


def keras_backup(_: Gate, path: Path) -> Any:
    """`BackupAndRestore`: a fit that is interrupted, then one that resumes."""
    keras = tf.keras

    class Stop(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            if epoch == 2:
                raise KeyboardInterrupt

    backup = str(path / "backup")
    try:
        _model().fit(batches(3), epochs=4, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(backup), Stop()])
    except KeyboardInterrupt:
        pass
    _model().fit(batches(3), epochs=4, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(backup)])


def custom_optimizer(_: Gate, __: Path) -> Any:
    """A custom loop whose Checkpoint has no step, but an optimizer."""
    keras = tf.keras
    weight = tf.Variable(1.0)
    optimizer = keras.optimizers.SGD(0.1)
    checkpoint = tf.train.Checkpoint(net=tf.train.Checkpoint(weight=weight), optimizer=optimizer)

    @tf.function  # type: ignore[untyped-decorator]
    def train(iterator: Any) -> None:
        element = next(iterator)
        optimizer.apply_gradients([(tf.cast(element["i"], tf.float32), weight)])

    iterator = iter(numbers(4))
    for _step in range(4):
        train(iterator)
    del checkpoint


def _held(gate: Gate, train: Callable[[list[int]], None]) -> list[int]:
    """What the trainer has seen while the gate holds it at the third element, and in the end."""
    gate.hold = 3
    seen: list[int] = []
    thread = threading.Thread(target=train, args=(seen,))
    thread.start()
    assert gate.held.wait(60)
    at_gate = len(seen)
    gate.release.set()
    thread.join(60)
    return [at_gate, len(seen)]


def gate_eager(gate: Gate, _: Path) -> Any:
    """The gate in an eager loop."""

    def train(seen: list[int]) -> None:
        for element in numbers(5):
            seen.append(int(element["i"]))

    return _held(gate, train)


def gate_function(gate: Gate, _: Path) -> Any:
    """The gate in a function that steps a counter with each element."""
    counter = tf.Variable(0, dtype=tf.int64)

    @tf.function  # type: ignore[untyped-decorator]
    def step(iterator: Any) -> Any:
        return counter.assign_add(next(iterator)["i"] * 0 + 1)

    def train(seen: list[int]) -> None:
        iterator = iter(numbers(5))
        for _step in range(5):
            seen.append(int(step(iterator)))

    return _held(gate, train)


def gate_session(gate: Gate, _: Path) -> Any:
    """The gate in a session."""

    def train(seen: list[int]) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            iterator = v1.data.make_initializable_iterator(numbers(5))
            element = iterator.get_next()["i"]
            session.run(iterator.initializer)
            for _step in range(5):
                seen.append(int(session.run(element)))

    return _held(gate, train)


def gate_keras(gate: Gate, _: Path) -> Any:
    """The gate in `fit`: the weights' updates are what the trainer has seen."""
    model = _model()

    class Count(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self, seen: list[int]) -> None:
            super().__init__()
            self.seen = seen

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del logs
            self.seen.append(batch)

    return _held(gate, lambda seen: model.fit(batches(5), verbose=0, callbacks=[Count(seen)]))


if __name__ == "__main__":
    main(globals(), *sys.argv[1:])
