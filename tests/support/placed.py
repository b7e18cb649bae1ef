"""Trainings that keep their position in files of their own, and where these lead."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable


def _trained(position: int, save: Callable[[int], object]) -> None:
    step = tf.Variable(position, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)  # shows the step
    for _ in tf.data.Dataset.range(25).skip(position):
        checkpoint.step.assign_add(1)
        if int(step) % 10 == 0:
            save(int(step))


def _replaced(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


def names_what_comes(model_dir: str, *, relative: bool = True) -> None:
    """`latest` names the next file before that is there, so most kills leave nothing to resume from."""
    directory = Path(model_dir)
    directory.mkdir(exist_ok=True)
    latest = directory / "latest.json"
    start = int(Path(json.loads(latest.read_text())).read_text()) if latest.exists() else 0

    def save(step: int) -> None:
        path = directory / f"position-{step}"
        _replaced(latest, json.dumps(os.path.relpath(path) if relative else str(path)).encode())
        _replaced(path, str(step).encode())

    _trained(start, save)


def names_what_comes_absolutely(model_dir: str) -> None:
    """The same, and the path leads to the directory from everywhere."""
    names_what_comes(model_dir, relative=False)


def packs_its_path(model_dir: str) -> None:
    """`latest` names a file that is there, and nobody who looks for the path in it finds it."""
    directory = Path(model_dir)
    directory.mkdir(exist_ok=True)
    latest = directory / "latest.gz"
    start = int(Path(gzip.decompress(latest.read_bytes()).decode()).read_text()) if latest.exists() else 0

    def save(step: int) -> None:
        path = directory / f"position-{step}"
        _replaced(path, str(step).encode())
        _replaced(latest, gzip.compress(os.path.relpath(path).encode()))

    _trained(start, save)


def reads_a_temporary_name(model_dir: str) -> None:
    """A kill between two calls leaves the new state only, under a name that looks like one of TensorFlow's."""
    directory = Path(model_dir)
    directory.mkdir(exist_ok=True)
    state, new = directory / "state", directory / "state_temp"
    found = next((path for path in (state, new) if path.exists()), None)
    start = 0 if found is None else json.loads(found.read_text())["step"]

    def save(step: int) -> None:
        new.write_text(json.dumps({"step": step}))
        state.unlink(missing_ok=True)
        new.rename(state)

    _trained(start, save)


def marks_by_mknod(model_dir: str) -> None:
    """A file that says that a save is under way makes a resumed life begin anew, with a model that is further."""
    directory = Path(model_dir)
    directory.mkdir(exist_ok=True)
    state, mark = directory / "state", directory / "mark"
    start = int(state.read_text()) if state.exists() else 0
    step, skipped = tf.Variable(start, dtype=tf.int64), 0 if mark.exists() else start
    mark.unlink(missing_ok=True)
    checkpoint = tf.train.Checkpoint(step=step)  # shows the step
    for _ in tf.data.Dataset.range(25).skip(skipped):
        checkpoint.step.assign_add(1)
        if int(step) % 10 == 0:
            os.mknod(mark)
            _replaced(state, str(int(step)).encode())
            mark.unlink()


def has_a_file_called_checkpoint(model_dir: str) -> None:
    """Flax and T5X call a msgpack file of their own so, here beside TensorFlow's."""
    step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
    iterator = iter(tf.data.Dataset.range(25))
    checkpoint = tf.train.Checkpoint(step=step, weight=weight, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, str(Path(model_dir, "tf")), max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    for element in iterator:
        weight.assign_add(tf.cast(element, tf.float32))
        if int(step.assign_add(1)) % 10 == 0:
            own = Path(model_dir, f"checkpoint_{int(step)}")
            own.mkdir(exist_ok=True)
            (own / "checkpoint").write_bytes(bytes([0x83, 0xA4, 0xFF, 0xFE]) * 8)
            manager.save()


def saves_elsewhere(model_dir: str) -> None:
    """Its checkpoints are not below the directory that it was given."""
    step = tf.Variable(0, dtype=tf.int64)
    iterator = iter(tf.data.Dataset.range(25))
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    elsewhere = Path(model_dir).parent.with_name("elsewhere")
    manager = tf.train.CheckpointManager(checkpoint, str(elsewhere), max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    for _ in iterator:
        if int(step.assign_add(1)) % 10 == 0:
            manager.save()
