"""optax.MultiSteps adds up the gradients of four elements, and saves fall between: are the sums saved too?"""

from __future__ import annotations

import os
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import optax
import proof
import tensorflow as tf

STEPS, GROUP = 40, 4


def main() -> None:
    model_dir, how = proof.arguments("saved", "lost", "whole_groups")
    os.makedirs(model_dir, exist_ok=True)
    path = f"{model_dir}/state.pkl"
    optimizer = optax.MultiSteps(optax.sgd(1.0), GROUP, use_grad_mean=False)
    params: Any = {"w": jnp.zeros(STEPS)}
    opt_state: Any = optimizer.init(params)
    step = 0
    if os.path.exists(path):
        with open(path, "rb") as file:
            state = pickle.load(file)
        params, step = state["params"], state["step"]
        opt_state = state.get("opt_state", opt_state)

    @jax.jit  # type: ignore[untyped-decorator]
    def train_step(params: Any, opt_state: Any, element: Any) -> Any:
        updates, opt_state = optimizer.update({"w": -jax.nn.one_hot(element, STEPS)}, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for element in tf.data.Dataset.range(STEPS).skip(step).as_numpy_iterator():
        params, opt_state = train_step(params, opt_state, element)
        step += 1
        if step % (12 if how == "whole_groups" else 10) == 0:
            state = {"params": params, "step": step, **({"opt_state": opt_state} if how == "saved" else {})}
            with open(path + ".new", "wb") as new:
                pickle.dump(jax.device_get(state), new)
            os.replace(path + ".new", path)
        proof.moment()
    proof.report(params["w"])


main()
