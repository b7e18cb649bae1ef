"""After CLU's synopsis: clu.checkpoint.Checkpoint holds a Flax dataclass, and the data's iterator if it is given it."""

from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import proof
import tensorflow as tf
from clu import checkpoint

STEPS = 30


@flax.struct.dataclass
class TrainState:
    """Weights, what they were trained on, and the step."""

    w: Any
    seen: Any
    step: Any


@jax.jit  # type: ignore[untyped-decorator]
def train_step(state: Any, element: Any) -> Any:
    seen = state.seen.at[element].add(1)
    return state.replace(w=state.w + element, seen=seen, step=state.step + 1)


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten")
    iterator = iter(tf.data.Dataset.range(STEPS).shuffle(STEPS))
    saved = {"iterator": iterator} if how == "saved" else {}
    manager = checkpoint.Checkpoint(model_dir, saved, max_to_keep=2)
    state = TrainState(w=jnp.zeros(()), seen=jnp.zeros(STEPS, jnp.int32), step=0)  # type: ignore[call-arg]
    state = manager.restore_or_initialize(state)
    for step in range(int(state.step) + 1, STEPS + 1):
        state = train_step(state, np.int32(next(iterator).numpy()))
        if step % 10 == 0:
            manager.save(state)
        proof.moment()
    proof.report(state.seen, weight=state.w)


main()
