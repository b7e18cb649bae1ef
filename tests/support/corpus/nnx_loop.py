"""Flax NNX: module and nnx.Optimizer, their state in Orbax' StandardCheckpointer under the step's number."""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import proof
import tensorflow as tf
from flax import nnx

STEPS = 30


class Net(nnx.Module):  # type: ignore[misc]  # untyped base
    """One weight, and what it was trained on."""

    def __init__(self) -> None:
        self.w = nnx.Param(jnp.zeros(()))
        self.seen = nnx.Variable(jnp.zeros(STEPS, jnp.int32))


@nnx.jit  # type: ignore[untyped-decorator]
def train_step(net: Any, optimizer: Any, element: Any) -> None:
    gradients = nnx.grad(lambda net: net.w[...] * element.astype(jnp.float32))(net)
    optimizer.update(net, gradients)
    net.seen[...] = net.seen[...].at[element].add(1)


def main() -> None:
    model_dir, how = proof.arguments("skip", "anew")
    root = os.path.abspath(model_dir)
    os.makedirs(root, exist_ok=True)
    net = Net()
    optimizer = nnx.Optimizer(net, optax.adam(0.1), wrt=nnx.Param)
    checkpointer = ocp.StandardCheckpointer()
    complete = [int(name) for name in os.listdir(root) if name.isdigit()]
    if complete:
        target = {"net": nnx.to_pure_dict(nnx.state(net)), "optimizer": nnx.to_pure_dict(nnx.state(optimizer))}
        found = checkpointer.restore(f"{root}/{max(complete)}", target)
        for part, pure in ((net, found["net"]), (optimizer, found["optimizer"])):
            state = nnx.state(part)
            nnx.replace_by_pure_dict(state, pure)
            nnx.update(part, state)
    step = int(optimizer.step[...])
    for element in tf.data.Dataset.range(STEPS).skip(step if how == "skip" else 0).as_numpy_iterator():
        if step == STEPS:
            break
        train_step(net, optimizer, jnp.int32(element))
        step += 1
        if step % 10 == 0:
            state = {"net": nnx.to_pure_dict(nnx.state(net)), "optimizer": nnx.to_pure_dict(nnx.state(optimizer))}
            checkpointer.save(f"{root}/{step}", state)
        proof.moment()
    checkpointer.wait_until_finished()
    proof.report(net.seen[...], weight=net.w[...])


main()
