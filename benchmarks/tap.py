"""What the tap costs: `python benchmarks/tap.py`. Prints a table; each ratio is measured within this one run.

The bars are those of the project: eagerly at most 60 us for an element of 10 KB, in a graph at most 1.3 times a
no-op `numpy_function` on the same element, and at least 2 GB/s on large elements.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from pytest_pipeline_ckpt.engine import elements, tap
from pytest_pipeline_ckpt.engine.fingerprint import fingerprint
from pytest_pipeline_ckpt.engine.ledger import LedgerWriter
from pytest_pipeline_ckpt.engine.recorder import STEPS_FIRST

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.engine.model import Stream

v1 = tf.compat.v1
ROUNDS, ELEMENTS = 30, 200
SMALL: dict[str, Any] = {
    "features": np.random.default_rng(1).random((10, 256)).astype(np.float32),
    "label": np.arange(10),
}
WARM_UP = 400
"""Elements before the first timing: the first 64 of a life all get a STEP."""


class Gate:
    """Lets everything through."""

    asks = False

    def asked(self, key: str) -> None:
        """Does nothing."""

    def taken(self, stream: Stream) -> None:
        """Does nothing."""


def interleaved(ways: dict[str, Callable[[int], None]]) -> dict[str, float]:
    """The best round's microseconds for one element of each way; in turns, so that noise hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(WARM_UP)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way(ELEMENTS)
            times[name].append((time.perf_counter() - start) / ELEMENTS * 1e6)
    return {name: min(measured) for name, measured in times.items()}


def installed() -> Any:
    """A tap with a ledger in a temporary directory."""
    return tap.install(LedgerWriter(Path(tempfile.mkdtemp())), Gate())


def dataset() -> Any:
    """The small element, for ever."""
    return tf.data.Dataset.from_tensors(SMALL).repeat()


def taking(iterator: Any, take: Callable[[Any], Any]) -> Callable[[int], None]:
    """A way that takes elements from an iterator."""

    def way(count: int) -> None:
        for _ in range(count):
            take(iterator)

    return way


def record_only(recorder_of: Any) -> Callable[[int], None]:
    """The tap's work on an eager element, without TensorFlow's."""
    element = next(iter(dataset()))
    known = recorder_of._known(iter(dataset()))

    def way(count: int) -> None:
        for _ in range(count):
            parts = elements.components(element, known.leaves)
            recorder_of.recorder.taken(known, parts, recorder_of.steps.eager, recorder_of.steps.values)

    return way


def eager() -> tuple[float, float, float]:
    """Microseconds for an element without the tap, with it, and of the tap's own work."""
    step = tf.Variable(0, dtype=tf.int64)
    untapped = iter(dataset())
    untapped._next_internal = partial(type(untapped)._next_internal, untapped)  # an instance's own wins over the tap
    made = installed()
    checkpoint = tf.train.Checkpoint(step=step)
    iterator = iter(dataset())
    found = interleaved(
        {
            "plain": taking(untapped, next),
            "tapped": taking(iterator, next),
            "own": record_only(made),
        }
    )
    made.uninstall()
    del checkpoint
    return found["plain"], found["tapped"], found["own"]


def _no_op(*_: Any) -> Any:
    return np.int64(0)


def _with_no_op(element: Any) -> Any:
    done = tf.numpy_function(_no_op, tf.nest.flatten(element), tf.int64)
    with tf.control_dependencies([done]):
        return tf.nest.map_structure(tf.identity, element)


def function() -> tuple[float, float, float]:
    """Microseconds for an element in a tf.function: bare, with a no-op numpy_function, with the tap."""

    def train(element: Any, step: Any) -> None:
        step.assign_add(tf.cast(element["label"][0], tf.int64) * 0 + 1)

    ways: dict[str, Callable[[int], None]] = {}
    for name in ("bare", "no-op", "tapped"):
        made = installed() if name == "tapped" else None
        step = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(step=step)

        @tf.function  # type: ignore[untyped-decorator]
        def run(iterator: Any, step: Any = step, name: str = name) -> None:
            element = next(iterator)
            train(_with_no_op(element) if name == "no-op" else element, step)

        iterator = iter(dataset())
        run(iterator)
        ways[name] = taking(iterator, run)
        if made is not None:
            made.uninstall()  # the traced function keeps its tap
        del checkpoint
    found = interleaved(ways)
    return found["bare"], found["no-op"], found["tapped"]


def _run(run: Any, train: Any, opened: Any) -> None:
    run(opened, train)


def session() -> tuple[float, float, float]:
    """Microseconds for an element in a session: bare, with a no-op numpy_function, with the tap."""
    ways: dict[str, Callable[[int], None]] = {}
    made = None
    originals = v1.Session.run
    for name in ("bare", "no-op", "tapped"):
        made = installed() if name == "tapped" else None
        with tf.Graph().as_default():
            iterator = v1.data.make_initializable_iterator(dataset())
            element = iterator.get_next()
            element = _with_no_op(element) if name == "no-op" else element
            global_step = v1.train.get_or_create_global_step()
            with tf.control_dependencies([element["label"]]):
                train = v1.assign_add(global_step, 1).op
            opened = v1.Session()
            opened.run([v1.global_variables_initializer(), iterator.initializer])
        run = originals if made is None else v1.Session.run
        ways[name] = taking(opened, partial(_run, run, train))
    found = interleaved(ways)
    if made is not None:
        made.uninstall()
    return found["bare"], found["no-op"], found["tapped"]


def large(dtype: str) -> list[float]:
    """GB/s of the fingerprint, and of an eager iteration's tap, on a batch of 32 images of 256x256x3."""
    images: Any = np.random.default_rng(2).integers(0, 255, (32, 256, 256, 3)).astype(dtype)
    size = int(images.nbytes)
    tensor, label = tf.constant(images), tf.range(32)
    made = installed()
    known = made._known(iter(tf.data.Dataset.from_tensors((tensor, label))))

    def own(count: int) -> None:
        for _ in range(count):
            made.recorder.taken(known, elements.components((tensor, label)), made.steps.eager, made.steps.values)

    own(STEPS_FIRST)  # the first elements of a life get a STEP each, and some of them all counters
    labels = label.numpy()
    times: dict[str, list[float]] = {"fingerprint": [], "tap": []}
    for _ in range(15):
        start = time.perf_counter()
        fingerprint([images, labels])
        middle = time.perf_counter()
        own(1)
        times["fingerprint"].append(middle - start)
        times["tap"].append(time.perf_counter() - middle)
    made.uninstall()
    return [size / statistics.median(one) / 1e9 for one in times.values()]


def nothing_outside() -> bool:
    """Whether importing the package, the plugin's way, leaves TensorFlow alone."""
    code = "import pytest_pipeline_ckpt, sys; sys.exit(any(name.startswith('tensorflow') for name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code]).returncode == 0


def main() -> None:
    """Measures everything and prints the table."""
    size = sum(array.nbytes for array in SMALL.values())
    print(f"TensorFlow {tf.__version__}, numpy {np.__version__}, an element of {size} bytes\n")
    plain, tapped, own = eager()
    added = tapped - plain
    print(f"{'eager':28} {plain:8.1f} us  tapped {tapped:8.1f} us  added {added:6.1f} us  (bar: 60 us)")
    print(f"{'the tap alone, caches warm':28} {own:8.1f} us")
    for name, measure in (("tf.function", function), ("session", session)):
        bare, no_op, with_tap = measure()
        ratio = with_tap / no_op
        times = f"{bare:8.1f} us  no-op {no_op:9.1f} us  tapped {with_tap:7.1f} us"
        print(f"{name:28} {times}  ratio {ratio:.2f}  (bar: 1.30)")
    for dtype in ("float32", "uint8"):
        hashed, through = large(dtype)
        print(f"{'32 images, ' + dtype:28} fingerprint {hashed:5.1f} GB/s  the tap {through:5.1f} GB/s  (bar: 2 GB/s)")
    print(f"{'TensorFlow outside a worker':28} {'not imported' if nothing_outside() else 'IMPORTED'}")


if __name__ == "__main__":
    main()
