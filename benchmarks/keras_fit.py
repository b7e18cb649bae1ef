"""What `CheckpointInputPipeline` costs: `python benchmarks/keras_fit.py`.

A step of about 5 ms with the callback and without it, no save; and a save, durable and not, beside one of Keras'
`BackupAndRestore` of the same model. Each ratio is of alternating rounds in one process.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from pipeline_ckpt.keras import CheckpointInputPipeline

if TYPE_CHECKING:
    from collections.abc import Callable

keras: Any = tf.keras
ROUNDS, SAVES = 7, 15
PAIRS, SHORT = 80, 40


class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """When each batch has ended, the callbacks before it included."""

    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True  # Keras 2 copies the logs for callbacks that do not say so
        self.seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Ends a step."""
        self.seconds.append(time.perf_counter())


def _model(width: int) -> Any:
    model = keras.Sequential(
        [
            keras.Input((width,)),
            *(keras.layers.Dense(width, activation="relu") for _ in range(4)),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-4), "mse")
    return model


def _data(width: int, rows: int, steps: int) -> Any:
    return tf.data.Dataset.from_tensors((tf.ones([rows, width]), tf.ones([rows, 1]))).repeat(steps)


def _per_step(model: Any, data: Any, callbacks: list[Any]) -> float:
    """The median of the seconds between the ends of two batches."""
    clock = Clock()
    model.fit(data, epochs=1, verbose=0, callbacks=[*callbacks, clock])
    return statistics.median(b - a for a, b in zip(clock.seconds[1:], clock.seconds[2:], strict=False))


def steps() -> None:
    """The cost on each step: many short runs in turn, as the machine's speed changes while they go on."""
    model, data = _model(640), _data(640, 32, SHORT)
    model.fit(data, epochs=1, verbose=0)
    ratios, plain = [], []
    for _ in range(PAIRS):
        with tempfile.TemporaryDirectory() as directory:
            plain.append(_per_step(model, data, []))
            ours = CheckpointInputPipeline(directory, save_steps=10**9)
            ratios.append(_per_step(model, data, [ours]) / plain[-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"a step of {statistics.median(plain) * 1e3:.1f} ms without a save: {middle - 1:+.2%} "
        f"(a half of {PAIRS} pairs of runs within {low - 1:+.2%} and {high - 1:+.2%})"
    )


def _call() -> float:
    """The seconds of our own code in a step, without any saving: the callbacks and the function in between."""
    model, data = _model(8), _data(8, 2, 1000)
    model.fit(data, epochs=1, verbose=0)
    differences = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            without = _per_step(model, data, [])
            differences.append(_per_step(model, data, [CheckpointInputPipeline(directory, save_steps=10**9)]) - without)
    return statistics.median(differences)


def saves(width: int) -> None:
    """The cost of a save."""
    model, data = _model(width), _data(width, 4, SAVES)
    kinds: dict[str, Callable[[str], Any]] = {
        "BackupAndRestore": lambda directory: keras.callbacks.BackupAndRestore(directory, save_freq=1),
        "durable": lambda directory: CheckpointInputPipeline(directory, save_steps=1, durable=True),
        "not durable": lambda directory: CheckpointInputPipeline(directory, save_steps=1, durable=False),
    }
    step = _per_step(model, data, [])
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, make in kinds.items():
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as directory:
                seconds[name].append(_per_step(model, data, [make(directory)]) - step)
    theirs = seconds.pop("BackupAndRestore")
    size = sum(int(tf.size(tf.convert_to_tensor(one))) for one in model.weights) * 12 / 2**20
    print(f"a save of {size:.1f} MiB by BackupAndRestore: {statistics.median(theirs) * 1e3:.1f} ms")
    for name, ours in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"    ours, {name}: {statistics.median(ours) * 1e3:.1f} ms, {ratio:.2f} times")


if __name__ == "__main__":
    steps()
    print(f"our own code in a step: {_call() * 1e6:.0f} us")
    for _width in (64, 512, 2048):
        saves(_width)
