"""Trainings with Keras `fit`: the production callback, and Keras' own. TensorFlow is imported where it runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCHS, BATCHES = 3, 10


def _train(model_dir: str, callback: Callable[[], Any], *, seed: int | None) -> None:
    """Three epochs, reshuffled, and at the end the weights, for who compares them."""
    import tensorflow as tf

    keras: Any = tf.keras
    keras.utils.set_random_seed(1)
    rows = tf.data.Dataset.range(4 * BATCHES).shuffle(4 * BATCHES, seed=seed)
    examples = rows.map(lambda n: (tf.reshape(tf.cast(n, tf.float32) / 40, [1]), tf.sin(tf.cast(n, tf.float32))))
    # Not one op with the map: a batch by itself saves nothing of a shuffle that has ended, which is the harder case.
    dataset = examples.prefetch(1).batch(4)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(dataset.prefetch(2), epochs=EPOCHS, callbacks=[callback()], verbose=0)
    weights = tf.train.Checkpoint(**{f"weight_{number}": one for number, one in enumerate(model.weights)})
    tf.train.CheckpointManager(weights, f"{model_dir}/final", max_to_keep=1).save(checkpoint_number=1)


def checkpointed(model_dir: str, *, seed: int | None) -> None:
    """With `CheckpointInputPipeline`."""

    def callback() -> Any:
        from pipeline_ckpt.keras import CheckpointInputPipeline

        return CheckpointInputPipeline(f"{model_dir}/checkpoints", save_steps=4)

    _train(model_dir, callback, seed=seed)


def backed_up(model_dir: str, *, seed: int | None) -> None:
    """With Keras' `BackupAndRestore`, as its guide has it, within epochs."""

    def callback() -> Any:
        import tensorflow as tf

        return tf.keras.callbacks.BackupAndRestore(f"{model_dir}/backup", save_freq=4, delete_checkpoint=False)

    _train(model_dir, callback, seed=seed)


def _of(training: Callable[..., None]) -> dict[str, Callable[[str], None]]:
    return {name: functools.partial(training, seed=seed) for name, seed in (("seeded", 7), ("unseeded", None))}


CHECKPOINTED = _of(checkpointed)
BACKED_UP = _of(backed_up)
