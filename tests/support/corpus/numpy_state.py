"""Weights as NumPy arrays in a file of one's own (npz, pickle, h5), over as_numpy_iterator, as after tfds.as_numpy."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import h5py
import numpy as np
import proof
import tensorflow as tf

STEPS = 30
State = dict[str, Any]


def write(path: str, state: State) -> None:
    """Whole or not at all."""
    new = path + ".new"
    if path.endswith(".npz"):
        with open(new, "wb") as file:
            np.savez(file, **state)
    elif path.endswith(".pkl"):
        with open(new, "wb") as file:
            pickle.dump(state, file)
    else:
        with h5py.File(new, "w") as group:
            for name, array in state.items():
                group[name] = array
    os.replace(new, path)


def read(path: str) -> State:
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            return dict(arrays)
    if path.endswith(".pkl"):
        with open(path, "rb") as file:
            return dict(pickle.load(file))
    with h5py.File(path) as group:
        return {name: group[name][()] for name in group}


def main() -> None:
    whole = ("npz", "pickle", "h5")
    model_dir, how = proof.arguments(
        *whole, *(f"{one}_anew" for one in whole), "npz_unused", "json", "json_first", "json_anew", "never_reads"
    )
    os.makedirs(model_dir, exist_ok=True)
    ending = {"pickle": "pkl", "h5": "h5"}.get(how.split("_")[0], "npz")
    path, steps_path = f"{model_dir}/weights.{ending}", f"{model_dir}/step.json"
    state: State = {"weight": np.float64(0), "seen": np.zeros(STEPS, np.int64), "step": 0}
    step = 0
    if os.path.exists(path) and how != "never_reads":
        restored = read(path)
        step = int(restored["step"])
        # Wrong where `unused`: it goes on at the right step, with new weights.
        state = state if how == "npz_unused" else restored
    if how.startswith("json") and os.path.exists(steps_path):
        with open(steps_path) as file:
            step = int(json.load(file)["step"])
    begin = 0 if how.endswith("_anew") or how == "never_reads" else step
    for element in tf.data.Dataset.range(STEPS).skip(begin).as_numpy_iterator():
        if step >= STEPS:
            break
        state["weight"] = state["weight"] + element
        state["seen"][element] += 1
        step += 1
        if step % 10 == 0:
            if how == "json_first":
                # Wrong: a kill between the two leaves weights of another step.
                write_step(steps_path, step)
                proof.moment("between")
            write(path, {**state, "step": step})
            if how == "json_anew":
                write_step(steps_path, step)
        proof.moment()
    proof.report(state["seen"], weight=state["weight"])


def write_step(path: str, step: int) -> None:
    with open(path + ".new", "w") as file:
        json.dump({"step": step}, file)
    os.replace(path + ".new", path)


main()
