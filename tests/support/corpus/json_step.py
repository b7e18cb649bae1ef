"""The step in a JSON file that names the weights which belong to it: it is replaced when they are complete."""

from __future__ import annotations

import json
import os

import keras
import proof
import tensorflow as tf
from counting import counted_model, numbers, report

STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("last", "best_only", "anew")
    os.makedirs(model_dir, exist_ok=True)
    latest = f"{model_dir}/latest.json"
    model, step = counted_model(STEPS), 0
    optimizer = keras.optimizers.SGD(1e-3)
    if os.path.exists(latest):
        with open(latest) as file:
            found = json.load(file)
        model.load_weights(os.path.join(model_dir, found["weights"]))
        step = found["step"]
    best, name = float("inf"), ""
    for inputs, targets in numbers(STEPS).skip(0 if how == "anew" else step):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        step += 1
        if step % 10 == 0:
            # Wrong where `best_only`: the step goes on, the weights stay those of the best one.
            if how != "best_only" or float(loss) < best or not name:
                name, best = f"{step}.weights.h5", float(loss)
                model.save_weights(os.path.join(model_dir, name))
            with open(latest + ".new", "w") as file:
                json.dump({"step": step, "weights": name}, file)
            os.replace(latest + ".new", latest)
        proof.moment()
    report(model)


main()
