"""Training in JAX: Flax, Optax, and Orbax' asynchronous checkpoints, which hold the input pipeline too.

    python train_jax.py --model_dir=/tmp/digits

Kill it at any moment and start it again: it goes on with the batch after the last one that the model has seen, those
that were on their way to the device included.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import optax
import orbax.checkpoint as ocp
import pipeline_ckpt.orbax
from data import DEFAULT
from flax import linen as nn
from flax.training.train_state import TrainState
from input import make_dataset


class Classifier(nn.Module):  # type: ignore[misc]  # untyped base
    """An MLP for images of 8 x 8 pixels."""

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, image: Any) -> Any:
        """The logits, float32[batch, 10]."""
        hidden = nn.relu(nn.Dense(32)(image.reshape((image.shape[0], -1))))
        return nn.Dense(10)(hidden)


def new_state() -> TrainState:
    """The model and its optimizer before the first step."""
    model = Classifier()
    params = model.init(jax.random.key(1), jax.numpy.zeros((1, 8, 8, 1)))
    return TrainState.create(apply_fn=model.apply, params=params, tx=optax.sgd(0.05, momentum=0.9))


@jax.jit  # type: ignore[untyped-decorator]
def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
    """One step of SGD with momentum, and the loss before it."""

    def loss_of(params: Any) -> Any:
        logits = state.apply_fn(params, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 150, save_steps: int = 10) -> None:
    """Trains to step `steps`, from where the newest checkpoint in `model_dir` stands."""
    state, loss = new_state(), None
    data = pipeline_ckpt.InputPipelineCheckpoint(make_dataset(data_dir))
    manager = ocp.CheckpointManager(model_dir, options=ocp.CheckpointManagerOptions(max_to_keep=3))
    if manager.latest_step() is not None:
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(state), data=pipeline_ckpt.orbax.Restore(data))
        state = manager.restore(manager.latest_step(), args=wanted).state
    data.restore()  # in a new training too
    batches = data.prefetch_to_device(2)
    while int(state.step) < steps:
        state, loss = train_step(state, next(batches))
        step = int(state.step)
        if step % save_steps == 0 or step == steps:
            # Both are taken before `save` returns; Orbax writes them while the training goes on.
            saved = ocp.args.Composite(state=ocp.args.StandardSave(state), data=pipeline_ckpt.orbax.Save(data))
            manager.save(step, args=saved)
    manager.wait_until_finished()
    print(f"step {int(state.step)}, loss {loss}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save_steps", type=int, default=10)
    train(**vars(parser.parse_args()))
