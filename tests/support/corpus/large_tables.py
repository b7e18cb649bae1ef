"""Matrix factorisation in NumPy: two tables of 19 MB, of which a step changes a few rows, and the best ones so far."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import proof
import tensorflow as tf

STEPS, ROWS, FACTORS = 40, 150_000, 32
BEST_AT = 16
"""After so many steps they are the best: held-out ratings that say so are not what this is about."""


def new() -> dict[str, Any]:
    """The tables, and how often each element was trained on."""
    users, items = np.random.default_rng(1).standard_normal((2, ROWS, FACTORS), np.float32) * np.float32(0.1)
    return {"users": users, "items": items, "seen": np.zeros(STEPS, np.int64)}


def trained(tables: dict[str, Any], element: np.int64) -> None:
    """One step, in place."""
    users, items, row = tables["users"], tables["items"], int(element) * 1000
    error = np.float32(1 + element % 5) - users[row] @ items[row + 1]
    users[row] += np.float32(0.05) * error * items[row + 1]
    items[row + 1] += np.float32(0.05) * error * users[row]
    users[:64] *= np.float32(0.99)  # what all ratings have in common
    items[:64] *= np.float32(0.99)
    tables["seen"][element] += 1


def main() -> None:
    model_dir, how = proof.arguments("saved", "best")
    os.makedirs(model_dir, exist_ok=True)
    path = f"{model_dir}/tables.pkl"
    tables, step = new(), 0
    if os.path.exists(path):
        with open(path, "rb") as file:
            restored = pickle.load(file)
        tables, step = restored["tables"], restored["step"]
    best = {name: table.copy() for name, table in tables.items()}
    for element in tf.data.Dataset.range(STEPS).skip(step).as_numpy_iterator():
        trained(tables, element)
        step += 1
        if step % 4 == 0 and step <= BEST_AT:
            best = {name: table.copy() for name, table in tables.items()}
        if step % 10 == 0:
            # Wrong where `best`: they are older than the step that is saved with them.
            with open(path + ".new", "wb") as file:
                pickle.dump({"tables": best if how == "best" else tables, "step": step}, file)
            os.replace(path + ".new", path)
        proof.moment()
    proof.report(tables["seen"], weight=float(tables["users"].sum(dtype=np.float64)))


main()
