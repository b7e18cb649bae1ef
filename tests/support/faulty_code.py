"""Trainings whose fault is in the code around the pipeline, not in it. TensorFlow is imported where it runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import planted

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 200


def rows() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(ROWS).shuffle(8, seed=3)


def trained(model_dir: str, make: Callable[[], Any]) -> None:
    """A custom loop that resumes rightly, if the dataset does."""
    iterator = iter(make())
    model = planted.Model(model_dir, iterator=iterator)
    for _ in iterator:
        model.train()
        if model.at == planted.STEPS:
            return


def file_cache(model_dir: str) -> None:
    """Its cache is being filled when it is killed, before it was saved."""
    trained(model_dir, lambda: rows().cache(str(Path(model_dir, "cache"))))


def loop_over_the_dataset(model_dir: str) -> None:
    """The iterator is saved and restored, and the loop is over the dataset."""
    dataset = rows()
    model = planted.Model(model_dir, iterator=iter(dataset))
    for _ in dataset:
        model.train()
        if model.at >= planted.STEPS:
            return


def epochs_over_the_dataset(model_dir: str) -> None:
    """The same, an epoch after the other."""
    dataset = rows().take(30)
    model = planted.Model(model_dir, iterator=iter(dataset))
    while model.at < 2 * planted.STEPS:
        for _ in dataset:
            model.train()


def another_iterator(model_dir: str) -> None:
    """An iterator is made anew after the restore."""
    dataset = rows()
    iterator = iter(dataset)
    model = planted.Model(model_dir, iterator=iterator)
    iterator = iter(dataset)
    while model.at < planted.STEPS:
        next(iterator)
        model.train()


def held_by_a_loader(model_dir: str) -> None:
    """A loader takes two elements ahead; the iterator is saved, what the loader holds is not."""
    iterator = iter(rows())
    model = planted.Model(model_dir, iterator=iterator)
    held = [next(iterator), next(iterator)]
    while held:
        held += list(itertools.islice(iterator, 1))
        held.pop(0)
        model.train()


def dataset_tracked(model_dir: str) -> None:
    """The checkpoint has the dataset."""
    dataset = rows()
    model = planted.Model(model_dir, dataset=dataset)
    iterator = iter(dataset)
    while model.at < planted.STEPS:
        next(iterator)
        model.train()


def saved_and_not_restored(model_dir: str) -> None:
    """The iterator is saved; what restores is another checkpoint object, without it."""
    import tensorflow as tf

    model = planted.Model(model_dir)
    iterator = iter(rows())
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    while model.at < planted.STEPS:
        next(iterator)
        if model.train():
            checkpoint.write(str(Path(model_dir, f"input-{model.at}")))


def halves_saved_apart(model_dir: str) -> None:
    """Of two weights that are trained with each step one is saved less often, in a checkpoint of its own."""
    import tensorflow as tf

    iterator, weight, other = iter(rows()), tf.Variable([0.0, 1.0]), tf.Variable([0.0, 1.0])
    model = planted.Model(model_dir, iterator=iterator, weight=weight)
    rarely = tf.train.CheckpointManager(tf.train.Checkpoint(other=other), f"{model_dir}/other", max_to_keep=1)
    rarely.restore_or_initialize()
    while model.at < planted.STEPS:
        next(iterator)
        weight.assign_add([1.0, 1.0])
        other.assign_add([1.0, 1.0])
        model.train()
        if model.at % 15 == 0:
            rarely.save()


def session(model_dir: str, make: Callable[[], Any], *, saveable: bool) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        iterator = v1.data.make_initializable_iterator(make())
        if saveable:
            saved = tf.data.experimental.make_saveable_from_iterator(iterator, external_state_policy="ignore")
            v1.add_to_collection(v1.GraphKeys.SAVEABLE_OBJECTS, saved)
        step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([iterator.get_next()]):
            train = v1.assign_add(step, 1)
        saver = v1.train.Saver()
        session.run([v1.global_variables_initializer(), iterator.initializer])
        latest = tf.train.latest_checkpoint(model_dir)
        if latest:
            saver.restore(session, latest)
        while (at := int(session.run(step))) < planted.STEPS:
            session.run(train)
            if (at + 1) % planted.SAVE_EVERY == 0:
                saver.save(session, str(Path(model_dir, "model")), global_step=at + 1)


def monitored_without_hook(model_dir: str) -> None:
    """`MonitoredTrainingSession` saves the model, and nobody the input."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(rows())
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        global_step = v1.train.get_or_create_global_step()
        with tf.control_dependencies([iterator.get_next()]):
            train = v1.assign_add(global_step, 1)
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir, save_checkpoint_steps=10, save_summaries_steps=None
        ) as training:
            step = training.run(global_step)
            while step < planted.STEPS:
                step = training.run(train)
