"""A student learns from a teacher whose weights are loaded at each start; the teacher's optimizer is not used."""

from __future__ import annotations

import os
import tempfile

import keras
import proof
import tensorflow as tf
from counting import counted_model, numbers, report

STEPS = 30


def make_teacher() -> keras.Model:
    """Compiled, as it was when it was trained, and loaded from where it was left."""
    keras.utils.set_random_seed(7)
    teacher = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    teacher.compile("adam", "mse")
    teacher.optimizer.build(teacher.trainable_variables)
    path = os.path.join(tempfile.gettempdir(), f"corpus-teacher-{os.getuid()}.weights.h5")
    if not os.path.exists(path):
        own = path.replace(".weights.h5", f"-{os.getpid()}.weights.h5")
        teacher.save_weights(own)
        os.replace(own, path)
    teacher.load_weights(path)
    return teacher


def main() -> None:
    model_dir, how = proof.arguments("saved", "forgotten", "student_lost")
    teacher, student = make_teacher(), counted_model(STEPS)
    optimizer, step = keras.optimizers.SGD(0.1), tf.Variable(0, dtype=tf.int64)
    optimizer.build(student.trainable_variables)
    iterator = iter(numbers(STEPS))
    tracked = {"step": step}
    if how != "student_lost":
        tracked |= {"student": student, "optimizer": optimizer}
    if how != "forgotten":
        tracked["iterator"] = iterator
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**tracked), model_dir, max_to_keep=2)
    manager.restore_or_initialize()
    while int(step) < STEPS:
        inputs, _ = next(iterator)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((student(inputs, training=True) - teacher(inputs[:, 1:])) ** 2)
        optimizer.apply(tape.gradient(loss, student.trainable_variables), student.trainable_variables)
        if int(step.assign_add(1)) % 10 == 0:
            manager.save(int(step))
        proof.moment()
    report(student, iterations=optimizer.iterations.numpy())


main()
