"""Trainings with one real mistake each, and the verdict that each must get. TensorFlow is imported where it runs."""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STEPS = 40
SAVE_EVERY = 10


@dataclass(frozen=True, slots=True)
class Planted:
    """A broken training, the kill that shows it, and its verdict."""

    train: Callable[[str], None]
    at: str
    outcome: str
    says: str
    """A part of the reason."""
    life: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)


class Model:
    """The model of these trainings: a step that is saved in a `tf.train.Checkpoint` of its own."""

    def __init__(self, model_dir: str, *, every: int = SAVE_EVERY, **tracked: Any) -> None:
        import tensorflow as tf

        self._every = every
        self.step = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(step=self.step, **tracked)
        self._manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
        checkpoint.restore(self._manager.latest_checkpoint)

    @property
    def at(self) -> int:
        return int(self.step.numpy())

    def train(self) -> bool:
        """One step; returns whether the model was saved behind it."""
        self.step.assign_add(1)
        return self.at % self._every == 0 and bool(self.save())

    def save(self) -> str:
        return str(self._manager.save(checkpoint_number=self.at))


class Position:
    """What people write beside the model's checkpoint: numbers in a JSON file."""

    def __init__(self, model_dir: str) -> None:
        self._path = Path(model_dir, "position.json")

    def load(self, default: Any = 0) -> Any:
        return json.loads(self._path.read_text()) if self._path.exists() else default

    def save(self, value: Any) -> None:
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps(value))
        fresh.rename(self._path)


def no_iterator_saved(model_dir: str) -> None:
    """The iterator is in no checkpoint."""
    import tensorflow as tf

    model = Model(model_dir)
    iterator = iter(tf.data.Dataset.range(1000))
    while model.at < STEPS:
        next(iterator)
        model.train()


def input_saved_less_often(model_dir: str) -> None:
    """Two timers: the model every 10 steps, the input every 15."""
    _two_timers(model_dir, model_every=10, input_every=15)


def input_saved_more_often(model_dir: str) -> None:
    """Two timers: the model every 15 steps, the input every 10."""
    _two_timers(model_dir, model_every=15, input_every=10)


def _two_timers(model_dir: str, *, model_every: int, input_every: int) -> None:
    import tensorflow as tf

    model = Model(model_dir, every=model_every)
    iterator = iter(tf.data.Dataset.range(1000))
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, str(Path(model_dir, "input")), max_to_keep=3)
    checkpoint.restore(manager.latest_checkpoint)
    while model.at < STEPS:
        next(iterator)
        model.train()
        if model.at % input_every == 0:
            manager.save()


def shuffle_buffer_dropped(model_dir: str) -> None:
    """The source goes on where it was, what was in the shuffle buffer is gone."""
    import tensorflow as tf

    model, buffer = Model(model_dir), 8
    read = model.at + buffer if model.at else 0
    for _ in tf.data.Dataset.range(60).skip(read).shuffle(buffer, seed=2):
        model.train()


def one_shard_rewound(model_dir: str) -> None:
    """Two shards in turn; one of them goes on from the beginning of its block of 10."""
    import tensorflow as tf

    model = Model(model_dir)
    left, right = (model.at + 1) // 2, model.at // 2
    shards = [range(left // 10 * 10, 30), range(100 + right, 130)]
    sources = [tf.data.Dataset.from_tensor_slices(list(shard)) for shard in shards]
    turns = tf.data.Dataset.range(2).repeat()
    for _ in tf.data.Dataset.choose_from_datasets(sources, turns, stop_on_empty_dataset=False):
        model.train()


def rest_shuffled_anew(model_dir: str) -> None:
    """After a resume, what is left is shuffled with another seed."""
    import tensorflow as tf

    model = Model(model_dir)
    order = list(tf.data.Dataset.range(STEPS).shuffle(STEPS, seed=1).as_numpy_iterator())
    rest = tf.data.Dataset.from_tensor_slices(order[model.at :])
    for _ in rest.shuffle(STEPS, seed=model.at) if model.at else rest:
        model.train()


def random_map_ignored(model_dir: str) -> None:
    """A stateful random op whose state is left out of the checkpoint, as the external state policy allows."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    tf.random.set_seed(1)
    dataset = tf.data.Dataset.range(STEPS).map(lambda n: tf.random.uniform([], seed=5) + tf.cast(n, tf.float32))
    iterator = iter(dataset.with_options(options))
    model = Model(model_dir, iterator=iterator)
    for _ in iterator:
        model.train()


def counts_from_its_own_start(model_dir: str) -> None:
    """The position is counted from the life's start: the first resume is right, the second is not."""
    import tensorflow as tf

    model, position = Model(model_dir), Position(model_dir)
    iterator = iter(tf.data.Dataset.range(1000).skip(position.load()))
    taken = 0
    while model.at < STEPS:
        next(iterator)
        taken += 1
        if model.train():
            position.save(taken)


def epoch_forgotten(model_dir: str) -> None:
    """The position in the epoch is kept, the epoch is not: a reshuffled epoch 2 goes on in the order of epoch 1."""
    import tensorflow as tf

    rows = 30
    model = Model(model_dir)
    shuffled = tf.data.Dataset.range(rows).shuffle(rows, seed=1)
    for skip in [model.at % rows] + [0] * (2 - 1 - model.at // rows):
        for _ in shuffled.skip(skip):
            model.train()


def trains_its_steps_again(model_dir: str) -> None:
    """`for _ in range(STEPS)` instead of `while step < STEPS`."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(1000))
    model = Model(model_dir, iterator=iterator)
    for _ in range(STEPS):
        next(iterator)
        model.train()


def directory_exists(model_dir: str) -> None:
    """The second start fails on what the first has left."""
    Path(model_dir, "logs").mkdir()
    _right(model_dir)


def lock_left_behind(model_dir: str) -> None:
    """Waits for a lock that a killed process has not removed."""
    lock = Path(model_dir, "lock")
    while lock.exists():
        time.sleep(0.05)
    lock.touch()
    _right(model_dir)
    lock.unlink()


def done_too_early(model_dir: str) -> None:
    """Takes any checkpoint for a finished training, and exits with 0."""
    if not Path(model_dir, "checkpoint").exists():
        _right(model_dir)


def _right(model_dir: str, dataset: Any = None) -> None:
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(1000) if dataset is None else dataset)
    model = Model(model_dir, iterator=iterator)
    while model.at < STEPS:
        try:
            next(iterator)
        except StopIteration:
            break
        model.train()


def saves_on_notice_unseeded(model_dir: str) -> None:
    """Right, but unseeded, and saved on notice: no element is seen twice, so nothing shows what should have come."""
    import tensorflow as tf

    noticed: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: noticed.append(number))
    iterator = iter(tf.data.Dataset.range(1000).shuffle(500))
    model = Model(model_dir, every=1000, iterator=iterator)
    while model.at < STEPS:
        next(iterator)
        model.train()
        if noticed:
            model.save()
            return


def _files(order: Callable[[list[str]], list[str]], model_dir: str) -> None:
    import tensorflow as tf

    files = order([f"part-{number}" for number in range(STEPS)])
    _right(model_dir, tf.data.Dataset.from_tensor_slices(files))


def _by_set(files: list[str]) -> list[str]:
    return list(set(files))


def _by_hash(files: list[str]) -> list[str]:
    return sorted(files, key=hash)


def _by_numpy(files: list[str]) -> list[str]:
    import numpy as np

    np.random.shuffle(files)
    return files


def no_tensorflow_iterator(model_dir: str) -> None:
    """Trains on arrays: there is nothing to see."""
    model = Model(model_dir)
    while model.at < STEPS:
        model.train()


def step_is_a_python_number(model_dir: str) -> None:
    """The step is kept where no TensorFlow object has it."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(STEPS))
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    checkpoint.restore(manager.latest_checkpoint)
    for number, _ in enumerate(iterator):
        if number % SAVE_EVERY == 0:
            manager.save()


def ends_itself(model_dir: str) -> None:
    """Is killed by somebody else, as by the kernel when memory runs out."""
    import tensorflow as tf

    for number in tf.data.Dataset.range(STEPS):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def momentum_forgotten(model_dir: str) -> None:
    """Weights and iterator are saved, the optimizer's momentum is not."""
    import tensorflow as tf

    weight, momentum = tf.Variable(0.0), tf.Variable(0.0)
    iterator = iter(tf.data.Dataset.range(STEPS))
    model = Model(model_dir, iterator=iterator, weight=weight)
    for element in iterator:
        momentum.assign(0.9 * momentum + tf.cast(element, tf.float32))
        weight.assign_add(0.1 * momentum)
        model.train()


def saves_and_never_restores(model_dir: str) -> None:
    import tensorflow as tf

    weight, step = tf.Variable(0.0), tf.Variable(0, dtype=tf.int64)
    iterator = iter(tf.data.Dataset.range(STEPS))
    checkpoint = tf.train.Checkpoint(weight=weight, step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3)
    for element in iterator:
        weight.assign_add(tf.cast(element, tf.float32))
        if int(step.assign_add(1)) % 10 == 0:
            manager.save()


PLANTED: dict[str, Planted] = {
    "restarted": Planted(no_iterator_saved, "step:25", "restarted", "restarted the pipeline at element 0"),
    "misaligned behind": Planted(input_saved_less_often, "step:25", "misaligned", "5 elements behind the model"),
    "misaligned ahead": Planted(input_saved_more_often, "step:25", "misaligned", "5 elements ahead of the model"),
    "lost": Planted(shuffle_buffer_dropped, "step:25", "lost", "were never trained"),
    "duplicated": Planted(one_shard_rewound, "step:35", "duplicated", "twice"),
    "reordered": Planted(rest_shuffled_anew, "step:25", "reordered", "order"),
    "changed": Planted(random_map_ignored, "step:25", "changed", "not in the reference"),
    "overrun": Planted(trains_its_steps_again, "step:25", "overrun", "trained on"),
    "incomplete": Planted(done_too_early, "step:25", "incomplete", ""),
    "crashed": Planted(directory_exists, "step:25", "crashed", "FileExistsError"),
    "hung": Planted(lock_left_behind, "step:25", "hung", "no progress", settings={"timeout": 3}),
    "never resumed": Planted(saves_and_never_restores, "step:25", "never-resumed", "began anew, with a new model"),
    "diverged": Planted(
        momentum_forgotten, "step:25", "diverged", "weight", life=0, settings={"compare_weights": True}
    ),
    "second preemption": Planted(counts_from_its_own_start, "step:25,15", "misaligned", "behind the model", life=3),
    "epoch 2": Planted(epoch_forgotten, "step:45", "misaligned", "30 elements behind the model"),
    "flaky": Planted(saves_on_notice_unseeded, "step:25@SIGTERM", "flaky", "seed", life=0),
    "no element": Planted(no_tensorflow_iterator, "step:25", "unknown", "no element", life=0),
    "no step": Planted(step_is_a_python_number, "step:25", "unknown", "step=", life=0),
    "ends itself": Planted(ends_itself, "step:25", "crashed", "SIGKILL", life=0),
    "file order by set": Planted(functools.partial(_files, _by_set), "step:25", "", ""),
    "file order by hash": Planted(functools.partial(_files, _by_hash), "step:25", "", ""),
    "file order by np.random": Planted(functools.partial(_files, _by_numpy), "step:25", "", ""),
}
"""By name. An empty outcome: any but `exact`, `unknown` and `flaky`."""
