"""Whole trainings in the ways that people write them. TensorFlow is imported where it runs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

STEPS = 40
SAVE_EVERY = 10


def raw_session(model_dir: str) -> None:
    """A v1 session with the iterator in the model's `Saver`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        iterator = v1.data.make_initializable_iterator(tf.data.Dataset.range(200).shuffle(20, seed=3).batch(2))
        v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, tf.data.experimental.make_saveable_from_iterator(iterator))
        weight = v1.get_variable("weight", [], use_resource=True)
        loss = tf.reduce_mean((tf.cast(iterator.get_next(), tf.float32) / 200 - weight) ** 2)
        step = v1.train.get_or_create_global_step()
        train = v1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
        saver = v1.train.Saver(max_to_keep=2)
        session.run([v1.global_variables_initializer(), iterator.initializer])
        latest = tf.train.latest_checkpoint(model_dir)
        if latest:
            saver.restore(session, latest)
        while (at := int(session.run(step))) < STEPS:
            session.run(train)
            if (at + 1) % SAVE_EVERY == 0:
                saver.save(session, str(Path(model_dir, "model")), global_step=at + 1)


def tf_function_loop(model_dir: str) -> None:
    """A custom loop that takes its batch inside of a `tf.function`, two batches a step."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(1000).shuffle(20, seed=3).batch(2).prefetch(2))
    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(weight=weight, step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)

    @tf.function  # type: ignore[untyped-decorator]
    def train(batches: Any) -> None:
        for _ in tf.range(2):
            weight.assign_sub(0.01 * (weight - tf.reduce_mean(tf.cast(next(batches), tf.float32)) / 1000))
        step.assign_add(1)

    while step < STEPS:
        train(iterator)
        if int(step) % SAVE_EVERY == 0:
            manager.save()


def validated_every_save(model_dir: str) -> None:
    """A custom loop with as many validation elements at each save as there were steps since the last."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(1000).batch(2))
    next(iter(tf.data.Dataset.range(1000).batch(2)))  # a look at the data, as notebooks have it
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save()
            for _ in tf.data.Dataset.range(5000, 5000 + SAVE_EVERY):
                pass


def skips_what_it_has_seen(model_dir: str) -> None:
    """A custom loop that keeps only the step, and calls `next` as often as it has trained."""
    import tensorflow as tf

    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    iterator = iter(tf.data.Dataset.range(1000).shuffle(20, seed=3))
    for _ in range(int(step)):
        next(iterator)
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save()


def step_in_python(model_dir: str) -> None:
    """A custom loop whose step is a number in the environment and in a file: no TensorFlow object has it."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(STEPS).shuffle(20, seed=3))
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    step = int(manager.latest_checkpoint.rsplit("-", 1)[1]) if manager.latest_checkpoint else 0
    os.environ["TRAINED_STEPS"] = str(step)
    for _ in iterator:
        step += 1
        os.environ["TRAINED_STEPS"] = str(step)
        if step % SAVE_EVERY == 0:
            manager.save(checkpoint_number=step)


def epoch_in_a_function(model_dir: str, *, skips: bool = True) -> None:
    """Each epoch is one call of a function that loops over the dataset; saved behind each epoch, shuffled anew or not.

    The order of an epoch follows from its number, or is that of the process' first epoch again.
    """
    import tensorflow as tf

    step, epoch = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
    weight = tf.Variable(0.0)
    checkpoint = tf.train.Checkpoint(weight=weight, step=step, epoch=epoch)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)

    @tf.function  # type: ignore[untyped-decorator]
    def train(rows: Any) -> None:
        for row in rows:
            weight.assign_add(0.01 * (tf.cast(row, tf.float32) - weight))
            step.assign_add(1)

    first = int(epoch.numpy())
    for number in range(first, 4):
        seed = number if skips else number - first
        train(tf.data.Dataset.range(SAVE_EVERY).shuffle(SAVE_EVERY, seed=seed))
        epoch.assign_add(1)
        manager.save(checkpoint_number=int(step.numpy()))


def mirrored(model_dir: str, *, skips: bool = True) -> None:
    """A custom loop over two replicas, whose iterator no checkpoint holds: a life skips what was trained, or not."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        weight = tf.Variable(0.0)
        step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    checkpoint = tf.train.Checkpoint(weight=weight, step=step)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    dataset = tf.data.Dataset.range(1000).shuffle(20, seed=3).batch(4).skip(int(step.numpy()) if skips else 0)
    iterator = iter(strategy.experimental_distribute_dataset(dataset))

    @tf.function  # type: ignore[untyped-decorator]
    def train(batches: Any) -> None:
        loss = strategy.run(lambda batch: tf.reduce_mean(tf.cast(batch, tf.float32)), args=(next(batches),))
        weight.assign_sub(0.01 * strategy.reduce("MEAN", loss, axis=None))
        step.assign_add(1)

    while step < STEPS:
        train(iterator)
        if int(step.numpy()) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step.numpy()))


def keras_fit(model_dir: str) -> None:
    """Keras `fit` that resumes whole epochs: model and data go back to the epoch's beginning together."""
    _fit(model_dir, save_freq="epoch", delete_checkpoint=False)


def keras_backup(model_dir: str) -> None:
    """Keras `fit` with `BackupAndRestore` as its guide has it, saved within epochs: the backup is deleted at the end.

    The model goes on where it was, the data goes back to the epoch's beginning: it does not resume exactly.
    """
    _fit(model_dir, save_freq=5)


def _fit(model_dir: str, **backup: Any) -> None:
    import tensorflow as tf

    rows = tf.data.Dataset.range(40).shuffle(40, seed=3, reshuffle_each_iteration=False)
    dataset = rows.map(lambda n: (tf.reshape(tf.cast(n, tf.float32), [1]), tf.zeros([1]))).batch(4)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.build((None, 1))
    callback = tf.keras.callbacks.BackupAndRestore(model_dir, **backup)
    model.fit(dataset, epochs=3, callbacks=[callback], verbose=0)


def fit_of_unknown_length(model_dir: str, *, save_freq: str | int = "epoch") -> None:
    """Keras `fit` that resumes whole epochs, over a pipeline that nobody can count, as files have it."""
    import tensorflow as tf

    rows = tf.data.Dataset.range(40).shuffle(40, seed=3, reshuffle_each_iteration=False).filter(lambda n: n >= 0)
    dataset = rows.map(lambda n: (tf.reshape(tf.cast(n, tf.float32), [1]), tf.zeros([1]))).batch(4)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.build((None, 1))
    callback = tf.keras.callbacks.BackupAndRestore(model_dir, save_freq=save_freq, delete_checkpoint=False)
    model.fit(dataset, epochs=3, callbacks=[callback], verbose=0)


def fit_of_several_steps(model_dir: str) -> None:
    """Keras `fit` that resumes whole epochs, with XLA, several steps in a call, class weights and validation data."""
    import tensorflow as tf

    rows = tf.data.Dataset.range(40).shuffle(40, seed=3, reshuffle_each_iteration=False)
    dataset = rows.map(lambda n: (tf.reshape(tf.cast(n, tf.float32), [1]), tf.zeros([1]))).batch(4)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=3, jit_compile=True)
    model.build((None, 1))
    callback = tf.keras.callbacks.BackupAndRestore(model_dir, save_freq="epoch", delete_checkpoint=False)
    model.fit(
        dataset,
        epochs=3,
        callbacks=[callback],
        class_weight={0: 1.0, 1: 2.0},
        validation_data=dataset.take(4),
        verbose=0,
    )


def estimator(model_dir: str, *, with_hook: bool = True) -> None:
    """`tf.estimator` (TensorFlow 2.15), with TensorFlow's own hook for the input or without it."""
    import tensorflow as tf

    v1 = tf.compat.v1

    def model_fn(features: Any, mode: Any) -> Any:
        weight = v1.get_variable("weight", [], use_resource=True)
        loss = tf.reduce_mean((tf.cast(features, tf.float32) / 200 - weight) ** 2)
        step = v1.train.get_global_step()
        train = v1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

    config = tf.estimator.RunConfig(model_dir=model_dir, save_checkpoints_steps=SAVE_EVERY, keep_checkpoint_max=2)
    trainer = tf.estimator.Estimator(model_fn, config=config)
    trainer.train(
        lambda: tf.data.Dataset.range(200).shuffle(20, seed=3).batch(2),
        hooks=[tf.data.experimental.CheckpointInputPipelineHook(trainer)] if with_hook else [],
        max_steps=STEPS,
    )


def saves_on_notice(model_dir: str) -> None:
    """A custom loop that saves at the next step when SIGTERM has come, and ends."""
    import tensorflow as tf

    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    iterator = iter(tf.data.Dataset.range(1000).shuffle(20, seed=3))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0 or told:
            manager.save(checkpoint_number=int(step))
        if told:
            raise SystemExit(42)


def ignores_notices(model_dir: str) -> None:
    """A custom loop that takes no notice of SIGTERM, and whose step then takes longer than any grace."""
    import tensorflow as tf

    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    iterator = iter(tf.data.Dataset.range(1000).shuffle(20, seed=3))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        next(iterator)
        if told:
            threading.Event().wait(3600)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))


def counts_listeners(model_dir: str) -> None:
    """A right loop, which fails if its process has a descriptor by which another one is recorded."""
    opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    if any("seccomp" in name for name in opened):
        raise RuntimeError(f"inherited: {opened}")
    as_the_guide_has_it(model_dir)


def as_the_guide_has_it(model_dir: str) -> None:
    """A custom loop as TensorFlow's guide has it."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(STEPS).shuffle(20, seed=3))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    for _ in iterator:
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            manager.save(checkpoint_number=int(step))


def newest_position(model_dir: str) -> None:
    """The model is in one checkpoint, the position in the newest of two files that are written in turns."""
    import tensorflow as tf

    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    found = sorted(Path(model_dir).glob("position-*.txt"), key=lambda path: path.stat().st_mtime_ns)
    iterator = iter(tf.data.Dataset.range(1000).skip(int(found[-1].read_text()) if found else 0))
    while step < STEPS:
        next(iterator)
        at = int(step.assign_add(1))
        if at % SAVE_EVERY == 0:
            manager.save(checkpoint_number=at)
            fresh = Path(model_dir, "fresh")
            fresh.write_text(str(at))
            fresh.rename(Path(model_dir, f"position-{at // SAVE_EVERY % 2}.txt"))


def saves_apart_when_resumed(model_dir: str) -> None:
    """Unseeded; the first life saves model and input together, a resumed one the model, then the input."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(400).shuffle(50).repeat())
    step = tf.Variable(0, dtype=tf.int64)
    both, model, data = (
        tf.train.CheckpointManager(tf.train.Checkpoint(**objects), f"{model_dir}/{name}", max_to_keep=2)
        for name, objects in {
            "both": {"step": step, "iterator": iterator},
            "model": {"step": step},
            "input": {"iterator": iterator},
        }.items()
    )
    resumed = both.latest_checkpoint is not None
    for manager in (both, model, data):
        if manager.latest_checkpoint:
            manager.checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % SAVE_EVERY == 0:
            for manager in (model, data) if resumed else (both,):
                manager.save(checkpoint_number=int(step))


def drops_a_drawn_rest(model_dir: str) -> None:
    """Right, but unseeded: which rows each pass leaves out is drawn, and `repeat` hides where passes end."""
    import tensorflow as tf

    rows = tf.data.Dataset.range(42).shuffle(12).batch(4, drop_remainder=True)
    iterator = iter(rows.repeat())
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    while step < STEPS:
        next(iterator)
        if int(step.assign_add(1)) % 8 == 0:
            manager.save(checkpoint_number=int(step))
