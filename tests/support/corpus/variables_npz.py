"""Variables in an archive of NumPy's, as `np.savez` makes it, assigned by hand when the training begins."""

from __future__ import annotations

import os

import keras
import numpy as np
import proof
import tensorflow as tf

STEPS, SAVE_EVERY = 30, 10


def main() -> None:
    model_dir, how = proof.arguments("saved", "unused", "half")
    os.makedirs(model_dir, exist_ok=True)
    path = f"{model_dir}/variables.npz"
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.001)
    seen = tf.Variable(tf.zeros(STEPS))
    step = 0
    if os.path.exists(path):
        with np.load(path) as arrays:
            step = int(arrays["step"])
            weights = [arrays[f"weight_{number}"] for number in range(len(model.weights))]
            if how == "half":
                # Wrong: those of the last layer are left as they were.
                weights[2:] = model.get_weights()[2:]
            if how != "unused":
                model.set_weights(weights)
                seen.assign(arrays["seen"])
    trained = model.trainable_variables
    for element in tf.data.Dataset.range(STEPS).skip(step):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(tf.cast([[element, 1, 2, 3]], tf.float32)) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        seen.assign_add(tf.one_hot(element, STEPS))
        step += 1
        if step % SAVE_EVERY == 0:
            held = {f"weight_{number}": weight for number, weight in enumerate(model.get_weights())}
            with open(f"{path}.new", "wb") as file:
                np.savez(file, step=step, seen=seen.numpy(), **held)
            os.replace(f"{path}.new", path)
        proof.moment()
    proof.report(seen.numpy(), weight=float(sum(np.abs(weight).sum() for weight in model.get_weights())))


main()
