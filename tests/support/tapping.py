"""What the scenarios of the tap share: `python tap_scenarios.py DIRECTORY NAME...` runs some of them.

Each leaves its ledger in `DIRECTORY/NAME`, and what it returned in `seen.json` beside it. Not for test modules:
TensorFlow must never be imported in the pytest process.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from pytest_pipeline_ckpt.engine import tap
from pytest_pipeline_ckpt.engine.ledger import LedgerWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pipeline_ckpt.engine.model import Stream

GIVEN: list[Any] = []
"""The last one is the counter that a scenario whose name ends with `given` has for the `step` callable."""


class Gate:
    """Holds the training at the `hold`-th element, tells how much the trainer has seen by then, and lets it go on."""

    def __init__(self) -> None:
        self.hold = 0
        self.count = 0
        self.asks = False
        self.asked_before: list[str] = []
        self.held, self.release = threading.Event(), threading.Event()

    def asked(self, key: str) -> None:
        """Takes the key down, and how many elements there had been."""
        self.asks = False
        self.asked_before.append(f"{key.rsplit(':', 1)[-1]} {self.count}")

    def taken(self, stream: Stream) -> None:
        """Counts; the stream does not matter here."""
        del stream
        self.count += 1
        if self.count == self.hold:
            self.held.set()
            self.release.wait(60)


def numbers(count: int, *, start: int = 0) -> Any:
    """Elements that tell their number, through a prefetch."""
    dataset = tf.data.Dataset.range(start, start + count)
    named = dataset.map(lambda i: {"i": i, "name": tf.strings.join(["n", tf.as_string(i)])})
    return named.prefetch(4)


def batches(count: int) -> Any:
    """Batches of 4 for a Keras model with one input."""
    return tf.data.Dataset.range(count * 4).map(lambda i: (tf.cast([i], tf.float32), [0.0])).batch(4)


def main(scenarios: Mapping[str, Any], directory: str, *names: str, model_dir: bool = False) -> None:
    """Runs the named ones of some scenarios, each with a tap, and with `model_dir` a `run/NAME/model`, of its own."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for name in names:
        path = Path(directory, name)
        path.mkdir(parents=True)
        gate = Gate()
        step = (lambda: int(GIVEN[-1].numpy())) if name.endswith("given") else None
        kept = Path(directory, "run", name, "model") if model_dir else None
        if kept is not None:
            kept.mkdir(parents=True)
        installed = tap.install(LedgerWriter(path), gate, step=step, model_dir=kept)
        try:
            seen = scenarios[name](gate, path)
            installed.finish()
        finally:
            installed.uninstall()
        (path / "seen.json").write_text(json.dumps(seen))
