"""Broken trainings with the smallest schedule that shows each, and the search for it. TensorFlow is imported late."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals, signal
from typing import TYPE_CHECKING

import planted
from planted import STEPS, Model, Position

from pytest_pipeline_ckpt.engine.model import Outcome
from pytest_pipeline_ckpt.engine.plan import draw_schedule
from pytest_pipeline_ckpt.engine.runner import Check, Conditions, Engine, Workload
from pytest_pipeline_ckpt.payload import pickled
from pytest_pipeline_ckpt.smaller import Smallest, find_smallest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.engine.checker import ReferenceFacts
    from pytest_pipeline_ckpt.engine.model import KillSchedule
    from pytest_pipeline_ckpt.engine.runner import Trial


def third_start_fails(model_dir: str) -> None:
    """Keeps the log of the last life, and fails on that of the one before."""
    log, old = Path(model_dir, "log"), Path(model_dir, "log.old")
    if log.exists():
        if old.exists():
            raise FileExistsError(old)
        log.rename(old)
    log.touch()
    planted._right(model_dir)


def input_not_saved_on_notice(model_dir: str) -> None:
    """Model and input are saved together, but on a notice the model alone is saved."""
    import tensorflow as tf

    told: list[int] = []
    signal(SIGTERM, lambda number, _: told.append(number))
    model, position = Model(model_dir), Position(model_dir)
    iterator = iter(tf.data.Dataset.range(1000).skip(position.load()))
    while model.at < STEPS:
        next(iterator)
        if model.train():
            position.save(model.at)
        if told:
            model.save()
            return


def third_save_is_late(model_dir: str) -> None:
    """Of every third save the position is written when the next element has been taken."""
    import tensorflow as tf

    model, position, late = Model(model_dir), Position(model_dir), 0
    iterator = iter(tf.data.Dataset.range(1000).skip(position.load()))
    while model.at < 80:
        next(iterator)
        if late:
            position.save(late)
            late = 0
        if model.train():
            if model.at % 30 == 0:
                late = model.at
            else:
                position.save(model.at)


def epochs_of_its_own(model_dir: str) -> None:
    """Each epoch has an order of its own; the epoch that is saved is counted from the one that the life began in."""
    import tensorflow as tf

    rows, model, position = 20, Model(model_dir), Position(model_dir)
    began, epoch = model.at // rows, position.load()
    for number in range(epoch, epoch + 3 - began):
        for _ in tf.data.Dataset.range(rows).shuffle(rows, seed=number + 1).skip(model.at % rows):
            if model.train():
                position.save(model.at // rows - began)


@dataclass(frozen=True, slots=True)
class Shrinkable:
    """A broken training, and what shows its mistake."""

    train: Callable[[str], None]
    draw: int
    """The seed of the random schedule that the search starts from."""
    outcome: Outcome
    smallest: str
    signal: Signals = SIGKILL
    times: int = 3


SHRINKABLE: dict[str, Shrinkable] = {
    "input not saved": Shrinkable(planted.no_iterator_saved, 7, Outcome.RESTARTED, "step:11"),
    "shuffle buffer dropped": Shrinkable(planted.shuffle_buffer_dropped, 1, Outcome.LOST, "step:11"),
    # Kills at 11 to 15 are another failure, those beyond 30 show nothing.
    "two timers": Shrinkable(planted.input_saved_less_often, 27, Outcome.MISALIGNED, "step:16"),
    # Every other save shows it.
    "one shard rewound": Shrinkable(planted.one_shard_rewound, 10, Outcome.DUPLICATED, "step:11"),
    "only behind the third save": Shrinkable(third_save_is_late, 307, Outcome.MISALIGNED, "step:31"),
    "epoch 2": Shrinkable(planted.epoch_forgotten, 26, Outcome.MISALIGNED, "step:41"),
    "on a notice": Shrinkable(input_not_saved_on_notice, 12, Outcome.MISALIGNED, "step:11@SIGTERM", signal=SIGTERM),
    "third start": Shrinkable(third_start_fails, 12, Outcome.CRASHED, "step:1,1"),
    "two kills, each behind a save": Shrinkable(
        planted.counts_from_its_own_start, 12, Outcome.MISALIGNED, "step:11,11", times=2
    ),
    "two kills, the first in epoch 2": Shrinkable(epochs_of_its_own, 95, Outcome.MISALIGNED, "step:21,11"),
}
"""By name. Each is known to show nothing under smaller schedules, by what the training does."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search came to, and where it started."""

    failed: Trial
    smallest: Smallest


def search(name: str, engine: Engine, directory: Path, *, seconds: float) -> Found:
    """Draws the large schedule, carries it out, and shrinks it."""
    bug = SHRINKABLE[name]
    check = check_of(bug.train, engine, directory)

    def draw(facts: ReferenceFacts) -> KillSchedule:
        return draw_schedule(
            bug.draw,
            "shrinkable",
            0,
            elements=facts.elements,
            boundaries=facts.boundaries,
            saves=facts.saves,
            times=bug.times,
            signal=bug.signal,
        )

    failed = check.trial("trial-0", draw)
    assert failed.verdict.outcome is bug.outcome, failed.verdict
    return Found(failed, find_smallest(check, failed, {}, seconds=seconds, limit="--preempt-shrink"))


def check_of(train: Callable[[str], None], engine: Engine, directory: Path) -> Check:
    """A check as the plugin makes it."""
    conditions = Conditions(timeout=60.0, grace=5.0, max_elements=10_000, order="exact")
    return Check(engine, Workload("training", pickled(train, None)), conditions, directory)
