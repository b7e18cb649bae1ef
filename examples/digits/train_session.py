"""Training with MonitoredTrainingSession: the session saves the model, our hook saves the input pipeline.

    python train_session.py --model_dir=/tmp/digits

Kill it at any moment and start it again: it goes on with the batch after the last one that the model has seen.
"""

from __future__ import annotations

import argparse
from typing import Any

import tensorflow as tf
from data import DEFAULT
from input import make_dataset
from pipeline_ckpt import CheckpointInputPipelineHook

v1 = tf.compat.v1


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 150, save_steps: int = 10) -> None:
    """Trains to step `steps`, from where the newest checkpoint in `model_dir` stands."""
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(make_dataset(data_dir))
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        step_op, loss_op = _train_ops(iterator.get_next())
        hook = CheckpointInputPipelineHook(checkpoint_dir=model_dir, save_steps=save_steps)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, hooks=[hook], save_checkpoint_steps=save_steps, save_summaries_steps=0
        ) as session:
            step, loss = session.run(v1.train.get_global_step()), None
            while step < steps and not session.should_stop():
                step, loss = session.run([step_op, loss_op])
    print(f"step {step}, loss {loss}")


def _train_ops(batch: dict[str, Any]) -> tuple[Any, Any]:
    hidden = tf.nn.relu(_dense(tf.reshape(batch["image"], [-1, 64]), 32, "hidden"))
    logits = _dense(hidden, 10, "logits")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=logits))
    global_step = v1.train.get_or_create_global_step()
    train_op = v1.train.MomentumOptimizer(0.05, 0.9).minimize(loss, global_step=global_step)
    with tf.control_dependencies([train_op]):  # read in the same run without it, it may be the step before
        return global_step.read_value(), loss


def _dense(inputs: Any, units: int, name: str) -> Any:
    with v1.variable_scope(name):
        initializer = v1.glorot_uniform_initializer(seed=3)
        weights = v1.get_variable("weights", [inputs.shape[-1], units], initializer=initializer)
        bias = v1.get_variable("bias", [units], initializer=v1.zeros_initializer())
    return inputs @ weights + bias


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--save_steps", type=int, default=10)
    train(**vars(parser.parse_args()))
