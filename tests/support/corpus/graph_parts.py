"""A graph in MonitoredTrainingSession: a backbone that was trained before, and gradients that are added up over groups.

The checkpoint has the global variables and the data's iterator. A hook may put the backbone into place once more after
the checkpoint was restored, and the sums may be a local variable, which no checkpoint has.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import proof
import tensorflow as tf

v1 = tf.compat.v1
STEPS, GROUP = 40, 4


class Backbone(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow is untyped
    """Puts the backbone into place when a session begins: in a new training only, or always."""

    def __init__(self, backbone: tf.Variable, model_dir: str, *, always: bool) -> None:
        self._saver = v1.train.Saver([backbone])
        self._backbone = backbone
        self._directory = f"{model_dir}-pretrained"
        self._new = always or v1.train.latest_checkpoint(model_dir) is None

    def after_create_session(self, session: Any, coord: object) -> None:
        if not os.path.exists(f"{self._directory}/backbone.index"):
            os.makedirs(self._directory, exist_ok=True)
            self._saver.save(session, f"{self._directory}/backbone", write_meta_graph=False)
        if self._new:
            self._saver.restore(session, f"{self._directory}/backbone")


def main() -> None:
    model_dir, how = proof.arguments("whole", "backbone_again", "sums_saved", "sums_local")
    hooks = [v1.train.StopAtStepHook(last_step=STEPS)]
    with tf.Graph().as_default():
        iterator = v1.data.make_one_shot_iterator(v1.data.Dataset.range(STEPS))
        v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, tf.data.experimental.make_saveable_from_iterator(iterator))
        gradient = tf.one_hot(iterator.get_next(), STEPS)
        backbone, head = (
            v1.get_variable(name, [STEPS], initializer=v1.zeros_initializer()) for name in ("back", "head")
        )
        collections = [v1.GraphKeys.LOCAL_VARIABLES] if how == "sums_local" else None
        sums = v1.get_variable("sums", [STEPS], None, v1.zeros_initializer(), trainable=False, collections=collections)
        step = v1.train.get_or_create_global_step()
        group = GROUP if how.startswith("sums") else 1
        with tf.control_dependencies([sums.assign_add(gradient)]):
            counted = step.assign_add(1)

        def apply() -> tf.Operation:
            with tf.control_dependencies([backbone.assign_add(sums), head.assign_add(sums)]):
                return sums.assign(tf.zeros([STEPS])).op

        with tf.control_dependencies([counted]):
            train = tf.cond(tf.equal(counted % group, 0), lambda: tf.group(apply()), tf.no_op)
        if how in ("whole", "backbone_again"):
            hooks.append(Backbone(backbone, model_dir, always=how == "backbone_again"))
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, save_checkpoint_steps=10, hooks=hooks, log_step_count_steps=None
        ) as session:
            # Read with the session's own hooks left out: they count each run as a step.
            trained = session.run_step_fn(lambda step_context: step_context.session.run([backbone, head]))
            while not session.should_stop():
                session.run(train)
                trained = session.run_step_fn(lambda step_context: step_context.session.run([backbone, head]))
                proof.moment()
    proof.report(np.minimum(*trained), most=np.maximum(*trained).max())


main()
