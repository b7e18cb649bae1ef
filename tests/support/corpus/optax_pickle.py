"""JAX without Flax: parameters and optax' state in one pickle; the step is in the optimizer's state."""

from __future__ import annotations

import os
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import proof
import tensorflow as tf

STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("skip", "anew")
    os.makedirs(model_dir, exist_ok=True)
    path, optimizer = f"{model_dir}/state.pkl", optax.adam(0.1)
    params: Any = {"w": jnp.zeros(())}
    seen: Any = jnp.zeros(STEPS, jnp.int32)
    opt_state = optimizer.init(params)
    if os.path.exists(path):
        with open(path, "rb") as file:
            params, opt_state, seen = pickle.load(file)

    @jax.jit  # type: ignore[untyped-decorator]
    def train_step(params: Any, opt_state: Any, element: Any) -> Any:
        gradients = {"w": params["w"] * 0 + element}
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state

    count = int(opt_state[0].count)
    for element in tf.data.Dataset.range(STEPS).skip(count if how == "skip" else 0).as_numpy_iterator():
        if count == STEPS:
            break
        params, opt_state = train_step(params, opt_state, np.float32(element))
        seen = jnp.asarray(seen).at[int(element)].add(1)
        count += 1
        if count % 10 == 0:
            with open(path + ".new", "wb") as new:
                pickle.dump(jax.device_get((params, opt_state, seen)), new)
            os.replace(path + ".new", path)
        proof.moment()
    proof.report(seen, weight=params["w"])


main()
