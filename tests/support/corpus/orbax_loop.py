"""Flax TrainState in an Orbax CheckpointManager (asynchronous): where does the data go on?"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import proof
import tensorflow as tf
from flax.training import train_state

STEPS, SAVE_EVERY = 30, 10


class TrainState(train_state.TrainState):  # type: ignore[misc]  # untyped base
    """With what it was trained on."""

    seen: Any


@jax.jit  # type: ignore[untyped-decorator]
def train_step(state: Any, element: Any) -> Any:
    gradients = jax.grad(lambda params: jnp.sum(params["w"] * element.astype(jnp.float32)))(state.params)
    return state.apply_gradients(grads=gradients, seen=state.seen.at[element].add(1))


def main() -> None:
    model_dir, how = proof.arguments("skip", "beside", "package", "anew", "label_off", "params_lost", "never_restores")
    params = {"w": jnp.zeros(2)}
    state: Any = TrainState.create(
        apply_fn=None, params=params, tx=optax.sgd(1.0, momentum=0.5), seen=jnp.zeros(STEPS, jnp.int32)
    )
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    manager = ocp.CheckpointManager(os.path.abspath(model_dir) + "/model", options=options)
    newest = None if how == "never_restores" else manager.latest_step()
    if newest is not None:
        restored = manager.restore(newest, args=ocp.args.StandardRestore(state))
        # Wrong where `params_lost`: all but what is trained.
        state = restored.replace(params=state.params) if how == "params_lost" else restored
    begin = int(state.step)
    dataset = tf.data.Dataset.range(STEPS).shuffle(STEPS, seed=3, reshuffle_each_iteration=False)
    step = tf.Variable(begin, dtype=tf.int64)
    if how in ("skip", "label_off", "params_lost"):
        # Wrong where `label_off`: the label counts from 0, and is not the number of steps.
        dataset = dataset.skip(begin - int(how == "label_off" and begin > 0))
    iterator: Any = iter(dataset)
    position = tf.train.Checkpoint(iterator=iterator)
    if how == "package":
        from pipeline_ckpt import InputPipelineCheckpoint

        data = InputPipelineCheckpoint(dataset, step, model_dir + "/data", save_steps=5)
        data.restore()
        iterator = data
    if how == "beside" and newest is not None:
        position.read(f"{model_dir}/data/{newest}").assert_consumed()
    for _, element in zip(range(begin, STEPS), iterator, strict=False):
        state = train_step(state, np.int32(element.numpy()))
        now = int(step.assign_add(1))
        if how == "package":
            data.after_step()
        if now % SAVE_EVERY == 0:
            if how == "beside":
                position.write(f"{model_dir}/data/{now}")
            manager.save(now, args=ocp.args.StandardSave(state))
        proof.moment()
    manager.wait_until_finished()
    manager.close()
    proof.report(state.seen, weight=state.params["w"][0])


main()
