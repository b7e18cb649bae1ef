"""A Flax TrainState as msgpack in a file called `checkpoint`, as T5X and flax.training wrote it."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax
import proof
import tensorflow as tf
from flax import serialization
from flax.training import train_state

STEPS = 30


class TrainState(train_state.TrainState):  # type: ignore[misc]  # untyped base
    """With what it was trained on."""

    seen: Any


@jax.jit  # type: ignore[untyped-decorator]
def train_step(state: Any, element: Any) -> Any:
    gradients = jax.grad(lambda params: jnp.sum(params["w"] * element.astype(jnp.float32)))(state.params)
    return state.apply_gradients(grads=gradients, seen=state.seen.at[element].add(1))


def main() -> None:
    model_dir, how = proof.arguments("skip", "anew", "unused", "never_reads")
    os.makedirs(model_dir, exist_ok=True)
    path = f"{model_dir}/checkpoint"
    seen = jnp.zeros(STEPS, jnp.int32)
    state: Any = TrainState.create(apply_fn=None, params={"w": jnp.zeros(())}, tx=optax.adam(0.1), seen=seen)
    begin = 0
    if os.path.exists(path) and how != "never_reads":
        with open(path, "rb") as file:
            restored = serialization.from_bytes(state, file.read())
        begin = int(restored.step)
        # Wrong where `unused`: it returns a new state, and the old one is trained.
        state = state if how == "unused" else restored
    dataset = tf.data.Dataset.range(STEPS)
    for element in dataset.skip(begin if how in ("skip", "unused") else 0).as_numpy_iterator():
        if int(state.step) == STEPS:
            break
        state = train_step(state, jnp.int32(element))
        if int(state.step) % 10 == 0:
            with open(path + ".new", "wb") as file:
                file.write(serialization.to_bytes(state))
            os.replace(path + ".new", path)
        proof.moment()
    proof.report(state.seen)


main()
