"""MonitoredTrainingSession: the model is saved by itself, the data by the production hook, or not at all."""

from __future__ import annotations

import proof
import tensorflow as tf

v1 = tf.compat.v1
STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("hook", "none")
    hooks = [v1.train.StopAtStepHook(last_step=STEPS)]
    if how == "hook":
        from pipeline_ckpt import CheckpointInputPipelineHook

        hooks.append(CheckpointInputPipelineHook(checkpoint_dir=model_dir, save_steps=10))
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(v1.data.Dataset.range(STEPS).shuffle(STEPS, seed=2))
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        element = iterator.get_next()
        seen = v1.get_variable("seen", [STEPS], tf.int32, v1.zeros_initializer(), use_resource=True)
        step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([seen.scatter_nd_add([[element]], [1])]):
            train = step.assign_add(1)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, save_checkpoint_steps=10, hooks=hooks, log_step_count_steps=None
        ) as session:
            times = session.run_step_fn(lambda step_context: step_context.session.run(seen))
            while not session.should_stop():
                session.run(train)
                # Read with the session's own hooks left out: they count each run as a step.
                times = session.run_step_fn(lambda step_context: step_context.session.run(seen))
                proof.moment()
    proof.report(times)


main()
