"""flax.jax_utils.prefetch_to_device(iterator, 2): two elements are in flight at each save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import proof
import tensorflow as tf
from flax import jax_utils, serialization

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 30


@jax.jit  # type: ignore[untyped-decorator]
def train_step(state: Any, element: Any) -> Any:
    return {
        "w": state["w"] + element,
        "seen": state["seen"].at[element].add(1),
        "step": state["step"] + 1,
    }


def rows(iterator: Any) -> Iterator[Any]:
    """With the axis of devices that prefetch_to_device shares them out along."""
    for element in iterator:
        yield element._numpy().astype("int32")[None]


def main() -> None:
    model_dir, how = proof.arguments("skip", "in_flight")
    state: Any = {"w": jnp.int32(0), "seen": jnp.zeros(STEPS, jnp.int32), "step": jnp.int32(0)}
    dataset = tf.data.Dataset.range(STEPS)
    iterator = iter(dataset)
    packed = tf.Variable(b"", shape=[])
    tracked = {"state": packed} if how == "skip" else {"state": packed, "iterator": iterator}
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    if manager.restore_or_initialize():
        state = serialization.from_bytes(state, packed.numpy())
    if how == "skip":
        iterator = iter(dataset.skip(int(state["step"])))
    for element in jax_utils.prefetch_to_device(rows(iterator), 2, devices=jax.local_devices()[:1]):
        state = train_step(state, element[0])
        if int(state["step"]) % 10 == 0:
            packed.assign(serialization.to_bytes(state))
            manager.save()
        proof.moment()
    proof.report(state["seen"], weight=state["w"])


main()
