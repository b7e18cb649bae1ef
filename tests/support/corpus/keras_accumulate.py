"""Keras accumulates gradients over four micro batches in its optimizer, and saves fall between."""

from __future__ import annotations

import keras
import proof
import tensorflow as tf
from counting import counted_model, numbers, report, steps

ELEMENTS = 36


def main() -> None:
    model_dir, how = proof.arguments("ours", "loop", "optimizer_lost", "skip_iterations")
    model = counted_model(ELEMENTS)
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    if how == "ours":
        from pipeline_ckpt.keras import CheckpointInputPipeline

        model.compile(optimizer, "mse", jit_compile=False)
        callbacks = [CheckpointInputPipeline(model_dir, save_steps=10), steps()]
        model.fit(numbers(ELEMENTS), verbose=0, callbacks=callbacks)
    else:
        loop(model, optimizer, model_dir, how)
    report(model, weights=sum(float(tf.reduce_sum(weight)) for weight in model.trainable_variables))


def loop(model: keras.Model, optimizer: keras.optimizers.Optimizer, model_dir: str, how: str) -> None:
    optimizer.build(model.trainable_variables)
    dataset, micro = numbers(ELEMENTS), tf.Variable(0, dtype=tf.int64)
    iterator = iter(dataset)
    tracked = {"model": model, "micro": micro}
    if how != "skip_iterations":
        tracked["iterator"] = iterator
    if how != "optimizer_lost":
        tracked["optimizer"] = optimizer
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    if how == "skip_iterations":
        # Wrong: they count updates, each of four micro batches, and what is between two is lost.
        iterator = iter(dataset.skip(4 * int(optimizer.iterations)))
    for inputs, targets in iterator:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        if int(micro.assign_add(1)) % 10 == 0:
            manager.save(int(micro))
        proof.moment()


main()
