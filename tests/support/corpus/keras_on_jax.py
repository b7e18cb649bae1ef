"""Keras on the JAX backend, which the script asks for before its imports; the data is tf.data."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import proof
from counting import counted_model, numbers, report, steps

ELEMENTS = 30


def main() -> None:
    model_dir, how = proof.arguments("weights_skip", "weights", "backup")
    assert keras.backend.backend() == "jax"
    os.makedirs(model_dir, exist_ok=True)
    path = f"{model_dir}/last.weights.h5"
    model, dataset = counted_model(ELEMENTS), numbers(ELEMENTS)
    if how == "backup":
        saving = keras.callbacks.BackupAndRestore(model_dir, save_freq=10, delete_checkpoint=False)
    else:
        saving = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=10)
        if os.path.exists(path):
            model.load_weights(path)
    if how == "weights_skip":
        dataset = dataset.skip(int(keras.ops.sum(model.layers[0].times)))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.fit(dataset, verbose=0, callbacks=[saving, steps()])
    report(model)


main()
