"""A bare session with tf.compat.v1.train.Saver: the data begins at the step that was saved, or anew."""

from __future__ import annotations

import proof
import tensorflow as tf

v1 = tf.compat.v1
STEPS = 30


def main() -> None:
    model_dir, how = proof.arguments("skip", "anew", "never_restores")
    with tf.Graph().as_default(), v1.Session() as session:
        begin = v1.placeholder(tf.int64, [])
        iterator = v1.data.make_initializable_iterator(v1.data.Dataset.range(STEPS).skip(begin))
        element = iterator.get_next()
        seen = v1.get_variable("seen", [STEPS], tf.int32, v1.zeros_initializer(), use_resource=True)
        step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([seen.scatter_nd_add([[element]], [1])]):
            train = step.assign_add(1)
        saver = v1.train.Saver(max_to_keep=2)
        session.run(v1.global_variables_initializer())
        latest = v1.train.latest_checkpoint(model_dir)
        if latest and how != "never_restores":
            saver.restore(session, latest)
        done = session.run(step)
        session.run(iterator.initializer, {begin: done if how == "skip" else 0})
        while done < STEPS:
            done = session.run(train)
            if done % 10 == 0:
                saver.save(session, f"{model_dir}/model.ckpt", global_step=done)
            proof.moment()
        proof.report(session.run(seen))


main()
