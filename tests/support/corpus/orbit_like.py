"""After tf-models' orbit: a controller calls a trainer's loop of five steps, a tf.function, and saves after some."""

from __future__ import annotations

from typing import Any

import proof
import tensorflow as tf

STEPS, LOOP, SAVE_EVERY = 40, 5, 10


class Trainer(tf.Module):  # type: ignore[misc]  # untyped base
    """Trains so many steps at a call."""

    def __init__(self) -> None:
        super().__init__()
        self.global_step = tf.Variable(0, dtype=tf.int64)
        self.weight = tf.Variable(0.0)
        self.seen = tf.Variable(tf.zeros([STEPS], tf.int32))
        self.iterator = iter(tf.data.Dataset.range(STEPS).shuffle(STEPS, seed=9).prefetch(2))

    @tf.function  # type: ignore[untyped-decorator]
    def train_loop(self, iterator: Any, steps: Any) -> None:
        for _ in tf.range(steps):
            element = next(iterator)
            self.weight.assign_add(tf.cast(element, tf.float32))
            self.seen.scatter_nd_add([[element]], [1])
            self.global_step.assign_add(1)


class Controller:
    """Restores at its making, then trains and saves in turn."""

    def __init__(self, trainer: Trainer, manager: Any) -> None:
        self.trainer, self.manager = trainer, manager
        manager.restore_or_initialize()

    def train(self, steps: int) -> None:
        while int(self.trainer.global_step) < steps:
            self.trainer.train_loop(self.trainer.iterator, tf.constant(LOOP))
            if int(self.trainer.global_step) % SAVE_EVERY == 0:
                self.manager.save(checkpoint_number=self.trainer.global_step)
            proof.moment()


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten")
    trainer = Trainer()
    tracked = {"global_step": trainer.global_step, "weight": trainer.weight, "seen": trainer.seen}
    if how == "saved":
        tracked["iterator"] = trainer.iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    Controller(trainer, manager).train(STEPS)
    proof.report(trainer.seen.numpy(), weight=trainer.weight.numpy())


main()
