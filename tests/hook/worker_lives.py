"""Trainings of several workers, one process of which `main` runs; the cluster is in TF_CONFIG.

Each life logs what it takes: one line `STEP ELEMENTS...` for each step, flushed, to `taken-WORKER-LIFE` in DIRECTORY.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from typing import Any

import tensorflow as tf
from pipeline_ckpt import InputPipelineCheckpoint
from pipeline_ckpt.keras import CheckpointInputPipeline

ROWS, BATCH = 96, 8
STEPS = 30
SAVE_STEPS = 4


def options() -> dict[str, Any]:
    """What a test wants: JSON in the environment."""
    found: dict[str, Any] = json.loads(os.environ.get("LIFE") or "{}")
    return found


def task() -> int:
    """The number of this worker."""
    return int(json.loads(os.environ.get("TF_CONFIG") or "{}").get("task", {}).get("index", 0))


def dataset(*, again: bool) -> Any:
    """Rows of numbers, shuffled the same way in each pass."""
    rows = tf.data.Dataset.range(ROWS).shuffle(32, seed=7, reshuffle_each_iteration=again)
    rows = rows.map(lambda row: (tf.cast([row], tf.float32) / ROWS, tf.cast([row], tf.float32) / ROWS * 2.0))
    sharding = tf.data.Options()
    sharding.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return rows.batch(BATCH, drop_remainder=True).with_options(sharding)


class Log:
    """What this life takes, in a file of its own."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        life = len([name for name in os.listdir(directory) if name.startswith(f"taken-{task()}-")])
        self._file = open(f"{directory}/taken-{task()}-{life}", "a", buffering=1)  # noqa: SIM115  (for life)
        self._kill = options().get("kill", {}).get(str(task()))

    def step(self, number: int, taken: Any) -> None:
        """Step `number` has been trained on these."""
        rows = " ".join(str(round(float(one) * ROWS)) for one in taken)
        self._file.write(f"{number} {rows}\n")
        if self._kill is not None and number == self._kill[0]:
            kill_after(self._kill[1])
        if options().get("no_room", {}).get(str(task())) == number:
            # Where this worker's next save wants to put a file, there is a directory.
            os.makedirs(f"{self._directory}/checkpoints/ckpt_worker_{task()}-{number}.index/full")
        if options().get("term", {}).get(str(task())) == number:
            os.kill(os.getpid(), signal.SIGTERM)


def kill_after(seconds: float) -> None:
    """Kills this process, at once or while it goes on."""
    if seconds == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def rows_of(strategy: Any, per_replica: Any) -> list[float]:
    """The rows of all replicas of this worker."""
    values = strategy.experimental_local_results(per_replica)
    return [float(row) for value in values for row in value.numpy().reshape(-1)]


def strategy_of(kind: str) -> Any:
    """The strategy that a kind of training names: `mirrored1`, `mirrored2` or `workers`."""
    if kind.startswith("mirrored"):
        count = int(kind[-1])
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * count)
        return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(count)])
    return tf.distribute.MultiWorkerMirroredStrategy()


def loop(kind: str, directory: str) -> None:
    """A custom loop under a strategy."""
    strategy = strategy_of(kind)
    with strategy.scope():
        model = tf.Variable([0.5, 0.0])
        step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    distributed = strategy.experimental_distribute_dataset(dataset(again=False).repeat())
    data = InputPipelineCheckpoint(
        distributed,
        step,
        f"{directory}/checkpoints",
        **(options().get("save") or {"save_steps": SAVE_STEPS}),
        model=model,
    )
    data.restore()
    log = Log(directory)

    @tf.function  # type: ignore[untyped-decorator]
    def train(features: Any, labels: Any) -> Any:
        def replica(x: Any, y: Any) -> Any:
            error = x * model[0] + model[1] - y
            context = tf.distribute.get_replica_context()
            gradient = tf.stack([tf.reduce_mean(error * x), tf.reduce_mean(error)])
            model.assign_sub(0.1 * context.all_reduce(tf.distribute.ReduceOp.MEAN, gradient))
            return x

        taken = strategy.run(replica, (features, labels))
        step.assign_add(1)
        return taken

    batches = iter(data)
    while int(step.numpy()) < options().get("steps", STEPS):
        features, labels = next(batches)
        taken = train(features, labels)
        log.step(int(step.numpy()), rows_of(strategy, taken))
        data.after_step()
    data.close()
    finished(directory, [float(value) for value in model.numpy()])


class Rows(tf.keras.layers.Layer):  # type: ignore[misc]  # untyped base
    """Passes on what the model is trained on, and writes it down."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._written = path

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The inputs."""
        if training:
            words = tf.strings.as_string(tf.cast(tf.round(tf.reshape(inputs, [-1]) * ROWS), tf.int64))
            tf.print(tf.strings.reduce_join(words, separator=" "), output_stream=f"file://{self._written}")
        return inputs


class Told(tf.keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """Logs each step of a `fit`, with what the replicas were given."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self._log, self._path, self._at = Log(directory), f"{directory}/rows-{task()}-{os.getpid()}", 0

    @property
    def path(self) -> str:
        """Where `Rows` writes."""
        return self._path

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step has ended."""
        with open(self._path) as file:
            file.seek(self._at)
            rows = file.read()
            self._at = file.tell()
        self._log.step(int(self.model.optimizer.iterations.numpy()), [int(row) / ROWS for row in rows.split()])


def fit(kind: str, directory: str) -> None:
    """A Keras `fit` under a strategy."""
    strategy = strategy_of(kind)
    told = Told(directory)
    with strategy.scope():
        layers = [tf.keras.Input((1,)), Rows(told.path), tf.keras.layers.Dense(1, kernel_initializer="ones")]
        model = tf.keras.Sequential(layers)
        model.compile(tf.keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    saving = CheckpointInputPipeline(
        f"{directory}/checkpoints", **(options().get("save") or {"save_steps": SAVE_STEPS})
    )
    several = {"steps_per_epoch": options()["steps_per_epoch"]} if "steps_per_epoch" in options() else {}
    data = dataset(again=options().get("again", False))
    history = model.fit(
        data.repeat() if several else data, epochs=3, verbose=0, callbacks=[told, saving], **several
    ).history
    weights = [float(value) for weight in model.get_weights() for value in weight.reshape(-1)]
    finished(directory, weights + [float(value) for value in history["mae"]])


def finished(directory: str, results: list[float]) -> None:
    """The training is complete, with these results."""
    with open(f"{directory}/finished-{task()}", "w") as file:
        json.dump(results, file)


def main(kind: str, directory: str) -> None:
    """Runs one process: of `loop:workers`, `fit:mirrored2`, ..."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
    what, _, strategy = kind.partition(":")
    {"loop": loop, "fit": fit}[what](strategy, directory)
