"""Loops over datasets without an iterator under the tap, for `test_tap_loops.py`; started as `tap_scenarios.py` is."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tapping import main, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from tapping import Gate


def for_in_function(_: Gate, __: Path) -> Any:
    """A `for` over a dataset in a function, called twice; the step is assigned in the loop's body."""
    step, total = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    dataset = numbers(5)

    @tf.function  # type: ignore[untyped-decorator]
    def epoch() -> Any:
        for element in dataset:
            total.assign_add(element["i"])
            step.assign_add(1)
        return total.read_value()

    seen = [int(epoch()), int(epoch())]
    del checkpoint
    return seen


def left_by_break(_: Gate, __: Path) -> Any:
    """A loop with loop variables, an `enumerate`, and a `break` at the fourth element."""
    dataset = numbers(6)

    @tf.function  # type: ignore[untyped-decorator]
    def train() -> Any:
        total = tf.constant(0, tf.int64)
        for index, element in enumerate(dataset):
            if index == 3:
                break
            total += element["i"]
        return total

    return int(train())


def argument(_: Gate, __: Path) -> Any:
    """A dataset that is an argument of the function, and one within a loop over another."""

    @tf.function  # type: ignore[untyped-decorator]
    def train(outer: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for first in outer:
            for second in tf.data.Dataset.range(2):
                total += first["i"] + second
        return total

    return int(train(numbers(2)))


def reduced(_: Gate, __: Path) -> Any:
    """`reduce` with side effects, in a function and eagerly."""
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)

    def train(total: Any, element: Any) -> Any:
        step.assign_add(1)
        if element["i"] > 100:
            total += 1000
        return total + element["i"]

    zero = tf.constant(0, tf.int64)
    dataset = numbers(4)
    compiled = tf.function(lambda: dataset.reduce(zero, train))
    seen = [int(compiled()), int(dataset.reduce(zero, train))]
    del checkpoint
    return seen


def within_the_pipeline(_: Gate, __: Path) -> Any:
    """A pipeline whose own functions loop over datasets and reduce them."""

    def summed(window: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for one in window:
            total += one
        return total + window.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)

    return [int(one) for one in tf.data.Dataset.range(8).window(2).map(summed)]


def in_a_session(_: Gate, __: Path) -> Any:
    """A loop in a function that a session runs, twice."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:

        @tf.function  # type: ignore[untyped-decorator]
        def train() -> Any:
            total = tf.constant(0, tf.int64)
            for element in numbers(3):
                total += element["i"]
            return total

        total = train()
        return [int(session.run(total)) for _ in range(2)]


def gate_loop(gate: Gate, _: Path) -> Any:
    """The gate in a loop's body, held at the third element; then the loop goes on."""
    counter = tf.Variable(0, dtype=tf.int64)
    dataset = numbers(5)

    @tf.function  # type: ignore[untyped-decorator]
    def train() -> None:
        for element in dataset:
            counter.assign_add(element["i"] * 0 + 1)

    gate.hold = 3
    thread = threading.Thread(target=train)
    thread.start()
    assert gate.held.wait(60)
    held = int(counter.numpy())
    gate.release.set()
    thread.join(60)
    return [held, int(counter.numpy())]


if __name__ == "__main__":
    main(globals(), *sys.argv[1:])
