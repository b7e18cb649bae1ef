"""Keras `fit`, in the ways in which people save it, load it, and do not."""

from __future__ import annotations

import os

import keras
import proof
from counting import Seen, counted_model, numbers, report, steps

ELEMENTS, EPOCHS = 12, 3


def main() -> None:
    model_dir, how = proof.arguments(
        *("ours", "none", "checkpoint", "backup", "backup_epochs", "weights", "weights_skip"),
        *("model_epochs", "model_forgets_epoch", "weights_epochs"),
    )
    os.makedirs(model_dir, exist_ok=True)
    weights, whole = f"{model_dir}/last.weights.h5", f"{model_dir}/last.keras"
    by_epochs = how.endswith(("_epochs", "_epoch"))
    elements, epochs = (ELEMENTS, EPOCHS) if by_epochs or how == "ours" else (ELEMENTS * EPOCHS, 1)
    dataset, begin = numbers(elements), 0
    load_model = how.startswith("model") and os.path.exists(whole)
    model = keras.models.load_model(whole) if load_model else counted_model(elements)
    if how.startswith("weights") and os.path.exists(weights):
        model.load_weights(weights)
        trained = int(keras.ops.sum(model.layers[0].times))
        if how == "weights_skip":
            dataset = dataset.skip(trained)
        if by_epochs:
            begin = trained // elements
    if not load_model:
        model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    if how == "model_epochs" and load_model:
        begin = int(model.optimizer.iterations) // elements
    if how == "ours":
        from pipeline_ckpt.keras import CheckpointInputPipeline

        callbacks = [CheckpointInputPipeline(model_dir, save_steps=10)]
    elif how.startswith("backup"):
        save_freq = "epoch" if by_epochs else 10
        callbacks = [keras.callbacks.BackupAndRestore(model_dir, save_freq=save_freq, delete_checkpoint=False)]
    elif how == "none":
        callbacks = []
    else:
        save_freq = "epoch" if by_epochs else 10
        path = whole if how.startswith("model") else weights
        callbacks = [keras.callbacks.ModelCheckpoint(path, save_weights_only=path == weights, save_freq=save_freq)]
    model.fit(dataset, epochs=epochs, initial_epoch=begin, verbose=0, callbacks=[*callbacks, steps()])
    assert isinstance(model.layers[0], Seen)
    report(model, epochs)


main()
