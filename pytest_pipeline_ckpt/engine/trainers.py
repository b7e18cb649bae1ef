"""Child side: the plugin's own trainers for `check_dataset`, and what runs in a training process besides training.

They do what TensorFlow's guides tell people to do, and no more, so that a failure is the pipeline's. They are seen
by the tap like anybody else's code.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .model import UNKNOWN_STEP

if TYPE_CHECKING:
    from collections.abc import Callable

_STEP = re.compile(r"(^|/)(global_step|step)(/\.ATTRIBUTES/VARIABLE_VALUE)?$")
KEPT = 3
"""Checkpoints kept, so that a save also deletes."""


@dataclass(frozen=True, slots=True)
class EagerTrainer:
    """Step and iterator in one `tf.train.Checkpoint`: the guide's way for custom loops."""

    make_dataset: Callable[[], tf.data.Dataset]
    steps: int | None
    save_every: int

    def __call__(self, model_dir: str) -> None:
        """Takes one element a step until `steps` or the end of the dataset."""
        iterator = iter(_checked(self.make_dataset()))
        step = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=KEPT)
        checkpoint.restore(manager.latest_checkpoint)
        at = int(step.numpy())
        while self.steps is None or at < self.steps:
            try:
                next(iterator)
            except StopIteration:
                break
            at = int(step.assign_add(1).numpy())
            if at % self.save_every == 0:
                manager.save(checkpoint_number=at)


@dataclass(frozen=True, slots=True)
class SessionTrainer:
    """Iterator and global step in one `Saver` by `SAVEABLE_OBJECTS`: the documented way for sessions."""

    make_dataset: Callable[[], tf.data.Dataset]
    steps: int | None
    save_every: int

    def __call__(self, model_dir: str) -> None:
        """Takes one element a step until `steps` or the end of the dataset."""
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            iterator = v1.data.make_initializable_iterator(_checked(self.make_dataset()))
            saveable = tf.data.experimental.make_saveable_from_iterator(iterator)
            v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, saveable)
            element = tf.nest.flatten(iterator.get_next(), expand_composites=True)
            global_step = v1.train.get_or_create_global_step()
            with tf.control_dependencies(element):
                train = v1.assign_add(global_step, 1)
            saver = v1.train.Saver(max_to_keep=KEPT)
            session.run([v1.global_variables_initializer(), iterator.initializer])
            latest = tf.train.latest_checkpoint(model_dir)
            if latest is not None:
                saver.restore(session, latest)
            self._loop(session, train, saver, at=int(session.run(global_step)), prefix=str(Path(model_dir, "model")))

    def _loop(self, session: Any, train: Any, saver: Any, *, at: int, prefix: str) -> None:
        while self.steps is None or at < self.steps:
            try:
                at = int(session.run(train))
            except tf.errors.OutOfRangeError:
                break
            if at % self.save_every == 0:
                saver.save(session, prefix, global_step=at, write_meta_graph=False)


TRAINERS: dict[str, type[EagerTrainer | SessionTrainer]] = {"eager": EagerTrainer, "session": SessionTrainer}


def dataset_trainer(
    make_dataset: Callable[[], Any] | str, *, steps: int | None, save_every: int, runner: str
) -> Callable[[str], None]:
    """The trainer over `make_dataset`, a function or its `module:function`."""
    function = _find(make_dataset) if isinstance(make_dataset, str) else make_dataset
    return TRAINERS[runner](function, steps, save_every)


def _find(reference: str) -> Callable[[], Any]:
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        raise SystemExit(
            f"--preempt-dataset={reference}: there is no module {module_name!r} on the import path; run pytest from "
            "the directory that holds it, or set PYTHONPATH"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        has = "has no function" if function is None else "has something else than a function under the name"
        raise SystemExit(f"--preempt-dataset={reference}: {module_name} ({module.__file__}) {has} {name!r}")
    found: Callable[[], Any] = function
    return found


def _checked(dataset: Any) -> tf.data.Dataset:
    if not isinstance(dataset, tf.data.Dataset):
        raise SystemExit(
            f"the function must return a tf.data.Dataset, and returned {type(dataset).__module__}."
            f"{type(dataset).__qualname__}"
        )
    return dataset


def saved_step(model_dir: str) -> int:
    """The step in the newest checkpoint of a directory; `UNKNOWN_STEP` if there is none, or it has none.

    An Estimator that has reached its `max_steps` returns without opening a session: its step is on disk only.
    """
    newest = _newest(model_dir)
    if newest is None:
        return UNKNOWN_STEP
    try:
        reader = tf.train.load_checkpoint(newest)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        steps = [name for name in shapes if _STEP.search(name) and shapes[name] == [] and dtypes[name].is_integer]
        return int(reader.get_tensor(min(steps, key=len))) if steps else UNKNOWN_STEP
    except tf.errors.OpError:  # damaged: what the training made of it is the checker's to judge
        return UNKNOWN_STEP


def _newest(directory: str) -> str | None:
    """The newest checkpoint in `directory` or below it."""
    states = [path.parent for path in Path(directory).rglob("checkpoint") if path.is_file()]
    found = [index for state in states if (index := _latest(state)) is not None]
    newest = max(found, key=lambda index: index.stat().st_mtime_ns, default=None)
    return None if newest is None else str(newest).removesuffix(".index")


def _latest(directory: Path) -> Path | None:
    """The index of the checkpoint that a directory's state file names, if that file is TensorFlow's."""
    try:
        prefix = tf.train.latest_checkpoint(str(directory))
    except (ValueError, tf.errors.OpError):  # others call their files `checkpoint` too, which are no text
        return None
    index = Path(f"{prefix}.index")
    return index if prefix is not None and index.exists() else None
