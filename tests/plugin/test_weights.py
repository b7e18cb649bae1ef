"""`compare_weights`: what a user is told of final weights, and what is no reason to tell anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_pipeline_ckpt.engine.weights import ANEW, NOTE

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

TRAIN = """
    import functools
    import os
    import pytest
    from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

    def train(model_dir, forgotten=(), noise=None, wrong=lambda step: 0):
        import tensorflow as tf

        tf.random.set_seed(7)
        step, seen, weight, momentum = (tf.Variable(value) for value in (tf.constant(0, tf.int64), 0, 0.0, 0.0))
        iterator = iter(tf.data.Dataset.range(40))
        state = {"step": step, "iterator": iterator, "weight": weight, "seen": seen, "momentum": momentum}
        checkpoint = tf.train.Checkpoint(**{name: one for name, one in state.items() if name not in forgotten})
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        seen.assign_add(wrong(int(step)))
        for element in iterator:
            drawn = {"seeded": tf.random.uniform([]), "unseeded": os.urandom(1)[0], None: 0.0}[noise]
            momentum.assign(0.9 * momentum + tf.cast(element, tf.float32) + drawn)
            weight.assign_add(0.1 * momentum)
            seen.assign_add(1)
            if int(step.assign_add(1)) % 10 == 0:
                manager.save()

    def restored_at_20(step):
        return 5 if step == 20 else 0
    """


def run(pytester: Pytester, tests: str, *options: str) -> RunResult:
    """Runs these tests of the training above in a fresh process."""
    pytester.makepyfile(test_train=TRAIN + tests)
    return pytester.runpytest_subprocess("-p", "no:randomly", "--preempt-report=report.json", *options)


def notes(pytester: Pytester) -> dict[str, list[str]]:
    """What was noted of weights, for each trial or survey."""
    report = json.loads(pytester.path.joinpath("report.json").read_text())
    return {
        one["id"].split("::")[-1]: [note for note in one["notes"] if "weights" in note or note == ANEW]
        for one in (*report["trials"], *report["surveys"])
    }


def test_bit_equal(pytester: Pytester) -> None:
    """Where a resume ends with the reference run's weights nothing is said; no other resume and no run is needed."""
    tests = """
    def test_it(preemption):
        preemption.check_training(train)
    """
    result = run(pytester, tests, "--preempt-trials=3", "--preempt-seed=1", "--basetemp=base")
    result.assert_outcomes(passed=3)
    assert list(notes(pytester).values()) == [[], [], []]
    assert len(list(pytester.path.glob("base/preempt/*/trial-*/life-*/weights.json"))) == 1
    assert not list(pytester.path.glob("base/preempt/*/reference-1"))


def test_noted(pytester: Pytester) -> None:
    """An optimizer or a generator that is not restored is a note of each trial, and the test passes."""
    tests = """
    @pytest.mark.parametrize("how", [{"forgotten": ("momentum",)}, {"noise": "seeded"}], ids=["momentum", "noise"])
    def test_it(preemption, how):
        preemption.check_training(functools.partial(train, **how))
    """
    result = run(pytester, tests, "--preempt-trials=2", "--preempt-seed=1")
    result.assert_outcomes(passed=4)
    assert list(notes(pytester).values()) == [[NOTE]] * 4
    assert f"; {NOTE}" in result.stdout.str()


def test_runs_that_differ_anyway(pytester: Pytester) -> None:
    """Where two runs that nobody killed end with different weights, nothing is said of them; counts still fail."""
    tests = """
    def test_it(preemption):
        preemption.check_training(functools.partial(train, noise="unseeded"))

    def test_counted(preemption):
        with pytest.raises(PreemptionSafetyError, match="seen is 45, not 40") as caught:
            preemption.check_training(functools.partial(train, noise="unseeded", wrong=restored_at_20), at="step:25")
        assert caught.value.verdict.outcome is Outcome.DIVERGED
    """
    result = run(pytester, tests, "--preempt-trials=1", "--preempt-at=step:25")
    result.assert_outcomes(passed=2)
    assert notes(pytester)["test_it[step:25]"] == []


def test_a_count_that_differs(pytester: Pytester) -> None:
    """A saved integer that counts otherwise than the reference run's fails, is shrunk, and reproduces."""
    tests = """
    def test_it(preemption):
        preemption.check_training(functools.partial(train, wrong=lambda step: 5 if step else 0))
    """
    result = run(pytester, tests, "--preempt-trials=1", "--preempt-seed=1", "--preempt-shrink=60")
    result.assert_outcomes(failed=1)
    assert (
        "diverged: every element is exact, but what the final checkpoint counts is not the reference run's: seen is "
    ) in result.stdout.str()
    result.stdout.fnmatch_lines(["*reproduce: pytest test_train.py::test_it --preempt-at=step:11"])
    result = run(pytester, tests, "--preempt-at=step:11")
    result.assert_outcomes(failed=1)
    assert "seen is 45, not 40 (in ckpt-4)" in result.stdout.str()


def test_another_resume_was_bit_equal(pytester: Pytester) -> None:
    """A resume whose weights differ fails once another resume of the test has ended bit-equal."""
    tests = """
    def sometimes(model_dir):
        import tensorflow as tf

        step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
        iterator = iter(tf.data.Dataset.range(40))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator, weight=weight)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        if int(step) in (10, 30):
            weight.assign_add(0.5)
        for element in iterator:
            weight.assign_add(tf.cast(element, tf.float32))
            if int(step.assign_add(1)) % 10 == 0:
                manager.save()

    def test_it(preemption):
        preemption.check_training(sometimes)
    """
    result = run(pytester, tests, "--preempt-at=every")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "are not the reference run's (largest difference 0.5, in weight), and another resume of this test" in text
    assert "ended bit-equal (killed after element 2" in text


def test_optimizer_anew(pytester: Pytester) -> None:
    """Weights that are loaded from a file, and an optimizer whose steps are not, are a note of their own."""
    tests = """
    def loads_weights(model_dir):
        import numpy as np
        import tensorflow as tf

        step, weight, count = tf.Variable(0, dtype=tf.int64), 0.0, 0
        iterator = iter(tf.data.Dataset.range(40))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        if int(step):
            weight = float(np.load(f"{model_dir}/model-{int(step)}.npz")["weight"])
        for element in iterator:
            count += 1
            weight += float(element) / count
            if int(step.assign_add(1)) % 10 == 0:
                np.savez(f"{model_dir}/model-{int(step)}.npz", **{"weight": weight, "opt_state/count": count})
                manager.save()

    def test_it(preemption):
        preemption.check_training(loads_weights)
    """
    result = run(pytester, tests, "--preempt-at=step:25")
    result.assert_outcomes(passed=1)
    assert notes(pytester) == {"test_it[step:25]": [ANEW]}


def test_every(pytester: Pytester) -> None:
    """`every` looks at a resume that is watched to its end, and notes once what it has seen."""
    tests = """
    @pytest.mark.parametrize("forgotten", [(), ("momentum",)], ids=["all", "momentum"])
    def test_it(preemption, forgotten):
        preemption.check_training(functools.partial(train, forgotten=forgotten))
    """
    run(pytester, tests, "--preempt-at=every:3").assert_outcomes(passed=2)
    assert list(notes(pytester).values()) == [[], [NOTE]]


def test_with_xdist(pytester: Pytester) -> None:
    """Several workers look at one resume of a test, and run the reference again once at most."""
    tests = """
    def test_it(preemption):
        preemption.check_training(functools.partial(train, noise="seeded"))
    """
    result = run(pytester, tests, "-n2", "--preempt-trials=4", "--preempt-seed=1")
    result.assert_outcomes(passed=4)
    assert list(notes(pytester).values()) == [[NOTE]] * 4


def test_not_looked_at(pytester: Pytester) -> None:
    """With `compare_weights=False` nothing of them is compared; another word is refused."""
    tests = """
    def test_it(preemption):
        wrong = functools.partial(train, wrong=lambda step: 5 if step else 0)
        preemption.check_training(wrong, compare_weights=False)

    def test_refused(preemption):
        preemption.check_training(train, compare_weights="always")
    """
    result = run(pytester, tests, "--preempt-at=step:25")
    result.assert_outcomes(passed=1, failed=1)
    assert "compare_weights='always' is neither True nor False nor 'auto'" in result.stdout.str()
    assert notes(pytester) == {"test_it[step:25]": []}


def test_weights_from_no_file(pytester: Pytester) -> None:
    """Weights that come from no file, although others do, and that an optimizer is applied to: the model is torn."""
    tests = """
    def forgets(model_dir):
        import tensorflow as tf

        kept, forgotten = tf.Variable(tf.zeros([2]), name="kept"), tf.Variable(tf.zeros([2]), name="forgotten")
        iterator = iter(tf.data.Dataset.range(40))
        optimizer = tf.keras.optimizers.SGD(1.0)
        checkpoint = tf.train.Checkpoint(iterator=iterator, optimizer=optimizer, kept=kept)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        for element in iterator:
            gradient = tf.fill([2], tf.cast(element, tf.float32))
            optimizer.apply_gradients([(gradient, kept), (gradient, forgotten)])
            if int(optimizer.iterations) % 10 == 0:
                manager.save()

    def test_it(preemption):
        preemption.check_training(forgets)
    """
    result = run(pytester, tests, "--preempt-at=step:25", "--preempt-shrink=0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*misaligned: life 2: the restored model is torn: forgotten is as in a new training; the rest is *"]
    )


SUMS = """
    def sums(model_dir, initial=(0.0, 0.0)):
        import tensorflow as tf

        weight, total = tf.Variable(initial), tf.Variable(tf.zeros([2]), name="total")
        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(40))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator, weight=weight)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        for element in iterator:
            total.assign_add(tf.fill([2], tf.cast(element, tf.float32)))
            if int(step.assign_add(1)) % 4 == 0:
                weight.assign_add(total)
                total.assign(tf.zeros([2]))
            if int(step) % 10 == 0:
                manager.save()
    """


def test_sums_beside_a_checkpoint(pytester: Pytester) -> None:
    """Sums of gradients that are not saved are lost where a kill comes within a group, whatever others ended with."""
    tests = f"""{SUMS}
    def test_it(preemption):
        preemption.check_training(sums)
    """
    result = run(pytester, tests, "--preempt-trials=3", "--preempt-seed=2", "--preempt-shrink=0")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*diverged: *, and another resume of this test ended bit-equal (killed at step:30,1):*",
            "*note: *life 2: total is as in a new training: not restored with the rest of the model",
        ]
    )


TARGET = """
    def follows(model_dir, kept=("weight", "target")):
        import tensorflow as tf

        weight, target = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
        parts = {name: part for name, part in (("weight", weight), ("target", target)) if name in kept}
        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(40))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator, **parts)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        for element in iterator:
            weight.assign(0.9 * weight + 0.1 * target + tf.cast(element, tf.float32))
            if int(step.assign_add(1)) % 8 == 0:
                target.assign(weight)
            if int(step) % 10 == 0:
                manager.save()
    """


@pytest.mark.parametrize("kept", [("weight", "target"), ("weight",)])
def test_copy_that_steps_read(pytester: Pytester, kept: tuple[str, ...]) -> None:
    """A target network that no checkpoint has begins anew, and the final weights show that it matters."""
    tests = f"""{TARGET}
    def test_it(preemption):
        preemption.check_training(lambda model_dir: follows(model_dir, kept={kept}))
    """
    result = run(pytester, tests, "--preempt-at=step:25", "--preempt-shrink=0")
    if len(kept) > 1:
        result.assert_outcomes(passed=1)
        return
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*unknown: every element is exact, but * final variables are not the reference run's *: in life 2 a "
            "variable of float32[[]2[]] is as in a new training: a copy of other weights, and not restored with them. "
            "If a step reads it *",
        ]
    )


def test_sums_beside_weights_that_differ_anyway(pytester: Pytester) -> None:
    """Where two runs that nobody killed end with different weights, nothing tells whether the sums are lost."""
    tests = f"""{SUMS}
    def test_it(preemption):
        preemption.check_training(lambda model_dir: sums(model_dir, initial=tuple(map(float, os.urandom(2)))))
    """
    result = run(pytester, tests, "--preempt-at=step:35", "--preempt-shrink=0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unknown: * total is as in a new training: not *, because the weights of two runs *"])


BEST = """
    import os
    import pickle

    import numpy as np

    def keeps(model_dir, best):
        import tensorflow as tf

        os.makedirs(model_dir, exist_ok=True)
        path = f"{model_dir}/model.pkl"
        weights, step = np.random.default_rng(1).standard_normal(5 << 20, np.float32), 0
        if os.path.exists(path):
            with open(path, "rb") as file:
                weights, step = pickle.load(file)
        kept = weights.copy()
        for element in tf.data.Dataset.range(40).skip(step).as_numpy_iterator():
            weights = weights + np.float32(1 + element)
            step += 1
            if step == 16:
                kept = weights.copy()
            if step % 10 == 0:
                with open(path + ".new", "wb") as file:
                    pickle.dump((kept if best else weights, step), file)
                os.replace(path + ".new", path)
    """


@pytest.mark.parametrize("best", [False, True])
def test_large_weights_that_are_older_than_the_step(pytester: Pytester, best: bool) -> None:
    """Twenty megabytes are not looked at before each element: the best so far, saved with the step, is noticed."""
    tests = f"""{BEST}
    def test_it(preemption):
        preemption.check_training(lambda model_dir: keeps(model_dir, {best}))
    """
    result = run(pytester, tests, "--preempt-at=step:25", "--preempt-shrink=0")
    if not best:
        result.assert_outcomes(passed=1)
        return
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*diverged: *: in life 2 weights is not what was in memory when the model was saved. Save what is trained, *"]
    )
