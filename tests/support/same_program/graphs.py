"""A session with its Saver, as scripts for TensorFlow 1 have them."""

import os
import sys

import tensorflow as tf

v1 = tf.compat.v1
v1.disable_eager_execution()
v1.set_random_seed(3)
iterator = v1.data.make_initializable_iterator(tf.data.Dataset.range(12).shuffle(4, seed=1))
element = iterator.get_next()
step = v1.train.get_or_create_global_step()
train = v1.assign_add(step, 1)
saver = v1.train.Saver()
with v1.Session() as session:
    session.run([v1.global_variables_initializer(), iterator.initializer])
    for _ in range(10):
        print(session.run([element, train]))
    print(os.path.basename(saver.save(session, os.path.join(sys.argv[1], "model"), global_step=step)))
    saver.restore(session, tf.train.latest_checkpoint(sys.argv[1]))
    try:
        while True:
            session.run(element)
    except tf.errors.OutOfRangeError as error:
        print(type(error).__name__, error.message.splitlines()[0], step.name, train.name)
print(sorted(os.listdir(sys.argv[1])))
