"""Loss scaling, and two batches whose gradients are not finite: the optimizer does not count those steps."""

from __future__ import annotations

import keras
import proof
import tensorflow as tf
from counting import counted_model, numbers, report, steps

ELEMENTS, BAD = 36, (7, 18)


def main() -> None:
    model_dir, how = proof.arguments("ours", "loop", "skip_iterations", "first_steps")
    model = counted_model(ELEMENTS)
    # A scale that is too large at first is the usual reason why the first steps are skipped.
    scale = 2.0**127 if how == "first_steps" else 256.0
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=scale)

    def spoil(inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        bad = tf.reduce_any(tf.cast(inputs[0, 0], tf.int32) == BAD)
        return inputs, tf.where(bad, float("inf"), targets)

    dataset = numbers(ELEMENTS).map(spoil)
    if how == "ours":
        from pipeline_ckpt.keras import CheckpointInputPipeline

        model.compile(optimizer, "mse", jit_compile=False)
        callbacks = [CheckpointInputPipeline(model_dir, save_steps=10), steps()]
        model.fit(dataset, verbose=0, callbacks=callbacks)
    else:
        loop(model, optimizer, dataset, model_dir, how)
    weights = sum(float(tf.reduce_sum(weight)) for weight in model.trainable_variables)
    report(model, weights=weights, iterations=optimizer.inner_optimizer.iterations.numpy())


def loop(model: keras.Model, optimizer: keras.optimizers.Optimizer, dataset: tf.data.Dataset, *where: str) -> None:
    model_dir, how = where
    optimizer.build(model.trainable_variables)
    iterator = iter(dataset)
    tracked = {"model": model, "optimizer": optimizer}
    if how != "skip_iterations":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    if how == "skip_iterations":
        iterator = iter(dataset.skip(int(optimizer.inner_optimizer.iterations)))
    for number, (inputs, targets) in enumerate(iterator, 1):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, model.trainable_variables), model.trainable_variables)
        if number % 10 == 0:
            manager.save()
        proof.moment()


main()
