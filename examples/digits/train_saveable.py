"""The other documented way: the input pipeline inside the model's checkpoint, as one of the `SAVEABLE_OBJECTS`.

    python train_saveable.py --model_dir=/tmp/digits-saveable

Model and input cannot come apart, and the checkpoints have the size of the buffers. The iterator must be initialised
before the restore, so this is a plain `Session`: a `MonitoredTrainingSession` restores first. The validation restores
the same checkpoints in a graph of its own, to which no saveable is added: else it would get the training's position,
and validate on training elements.
"""

from __future__ import annotations

import argparse
from typing import Any

import tensorflow as tf
from data import DEFAULT
from input import make_dataset
from pipeline_ckpt import make_saveable_from_iterator

v1 = tf.compat.v1


def train(model_dir: str, *, data_dir: str = DEFAULT, steps: int = 60, save_steps: int = 10) -> None:
    """Trains to step `steps`, from where the newest checkpoint in `model_dir` stands."""
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(make_dataset(data_dir))
        v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, make_saveable_from_iterator(iterator))
        global_step = v1.train.get_or_create_global_step()
        train_op = v1.train.GradientDescentOptimizer(0.05).minimize(_loss(iterator.get_next()), global_step=global_step)
        saver = v1.train.Saver()
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), iterator.initializer])
            latest = tf.train.latest_checkpoint(model_dir)
            if latest is not None:
                saver.restore(session, latest)
            while (step := int(session.run(global_step))) < steps:
                session.run(train_op)
                if (step + 1) % save_steps == 0:
                    saver.save(session, f"{model_dir}/model", global_step=step + 1, write_meta_graph=False)


def validate(model_dir: str, *, data_dir: str = DEFAULT) -> float:
    """The mean loss of the newest checkpoint over one pass of the data, from its first batch on."""
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(make_dataset(data_dir, epochs=1))
        loss_op = _loss(iterator.get_next())
        v1.train.get_or_create_global_step()
        with v1.Session() as session:
            v1.train.Saver().restore(session, tf.train.latest_checkpoint(model_dir))  # knows of no iterator
            session.run(iterator.initializer)
            losses = []
            while True:
                try:
                    losses.append(float(session.run(loss_op)))
                except tf.errors.OutOfRangeError:
                    return sum(losses) / len(losses)


def _loss(batch: dict[str, Any]) -> Any:
    weights = v1.get_variable("weights", [64, 10], initializer=v1.glorot_uniform_initializer(seed=3))
    logits = tf.reshape(batch["image"], [-1, 64]) @ weights
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=logits))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--data_dir", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    train(arguments.model_dir, data_dir=arguments.data_dir, steps=arguments.steps)
    print(f"mean loss of a pass: {validate(arguments.model_dir, data_dir=arguments.data_dir):.4f}")
