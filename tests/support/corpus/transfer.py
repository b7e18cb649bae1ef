"""Transfer learning as in Keras' guide: fit the head, unfreeze, compile again, fit again."""

from __future__ import annotations

import os
from typing import Any

import keras
import proof
from counting import counted_model, numbers, report, steps

ELEMENTS = 20


def main() -> None:
    model_dir, how = proof.arguments("ours", "weights", "backup")
    os.makedirs(model_dir, exist_ok=True)
    model = counted_model(ELEMENTS)
    path = f"{model_dir}/last.weights.h5"
    if how == "weights" and os.path.exists(path):
        model.load_weights(path)

    def callbacks(phase: str) -> list[Any]:
        if how == "ours":
            from pipeline_ckpt.keras import CheckpointInputPipeline

            return [CheckpointInputPipeline(f"{model_dir}/{phase}", save_steps=8), steps()]
        if how == "weights":
            # Wrong: both fits are done from the beginning, with weights that have been through them already.
            return [keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=8), steps()]
        backup = keras.callbacks.BackupAndRestore(f"{model_dir}/{phase}", save_freq=8, delete_checkpoint=False)
        return [backup, steps()]

    model.layers[1].trainable = False
    model.compile(keras.optimizers.SGD(1e-1), "mse", jit_compile=False)
    model.fit(numbers(ELEMENTS), verbose=0, callbacks=callbacks("head"))
    model.layers[1].trainable = True
    model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=False)
    model.fit(numbers(ELEMENTS), verbose=0, callbacks=callbacks("all"))
    report(model, 2)


main()
