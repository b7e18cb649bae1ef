"""What a user sees of trials: items, lines, seeds, other plugins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

GOOD = """
    def make_dataset():
        import tensorflow as tf

        return tf.data.Dataset.range(60).shuffle(10, seed=1).batch(2)

    def test_good(preemption):
        preemption.check_dataset(make_dataset, save_every=5)
    """
BROKEN = """
    import pytest

    def train(model_dir):
        import tensorflow as tf

        step = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(step=step)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        iterator = iter(tf.data.Dataset.range(100))
        while step < 30:
            next(iterator)
            if int(step.assign_add(1)) % 10 == 0:
                manager.save()

    @pytest.mark.preempt(at="step:15")
    def test_broken(preemption):
        preemption.check_training(train)
    """
LINE = re.compile(r"^(exact|restarted) +(\S.*?): killed at element (.*?);", re.MULTILINE)


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs pytest in a fresh process, the tests in their order."""
    return pytester.runpytest_subprocess("-p", "no:randomly", *options)


def trials(result: RunResult) -> dict[str, tuple[str, str]]:
    """By test id: the verdict and where it was killed."""
    return {node: (verdict, killed) for verdict, node, killed in LINE.findall(result.stdout.str())}


def test_one_item_and_one_line_for_each_trial(pytester: Pytester) -> None:
    """Each trial is an item of its own, and ends in a line that says where it was killed and what came of it."""
    pytester.makepyfile(GOOD)
    result = run(pytester, "--preempt-trials=3", "--preempt-seed=5")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "preempt: random, --preempt-seed=5",
            "*= preemption =*",
            "exact *test_good[[]random-0[]]: killed at element *",
        ]
    )
    assert len(trials(result)) == 3
    assert all(verdict == "exact" for verdict, _ in trials(result).values())


def test_same_kills_and_verdicts_however_many_processes(pytester: Pytester) -> None:
    """One seed gives the same ids, kill points and verdicts with and without xdist."""
    pytester.makepyfile(test_good=GOOD, test_broken=BROKEN)
    alone, spread = (trials(run(pytester, "--preempt-trials=4", "--preempt-seed=11", f"-n{n}")) for n in (0, 2))
    assert len(alone) == 5
    assert alone == spread


def test_failure_says_what_happened_and_how_to_see_it_again(pytester: Pytester) -> None:
    """A failed check prints its verdict and a line that reproduces it; the line does."""
    pytester.makepyfile(test_broken=BROKEN)
    result = run(pytester)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "restarted: " in text
    reproduce = re.search(r"reproduce: pytest (.*)", text)
    assert reproduce is not None
    assert reproduce[1] == "test_broken.py::test_broken --preempt-at=step:15"
    assert trials(run(pytester, *reproduce[1].split())) == trials(result)


def test_rerun_does_not_turn_a_failure_green(pytester: Pytester) -> None:
    """A rerun plugin runs the test again; the trial fails with the verdict that it had, also when it now resumes."""
    repaired = """
    attempts = []

    def test_repaired(preemption):
        attempts.append(1)
        preemption.check_training(train if len(attempts) == 1 else good, at="step:15")

    def good(model_dir):
        import tensorflow as tf

        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(30))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        for _ in iterator:
            step.assign_add(1)
            manager.save()
    """
    pytester.makepyfile(test_repaired=BROKEN[: BROKEN.index("    @pytest")] + repaired)
    result = run(pytester, "--reruns=2", "--preempt-trials=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert "2 rerun" in text
    assert "this trial failed before; a rerun cannot undo that" in text


def test_beside_other_plugins(pytester: Pytester) -> None:
    """pytest-timeout, pytest-cov and pytest-randomly neither break a trial nor are broken by it."""
    pytester.makepyfile(test_good=GOOD)
    result = pytester.runpytest_subprocess("--timeout=200", "--cov=.", "--preempt-trials=2", "-p", "randomly")
    result.assert_outcomes(passed=2)


def test_exitfirst_and_pdb(pytester: Pytester) -> None:
    """`-x` stops behind the first trial that fails; `--pdb` opens at it."""
    pytester.makepyfile(test_broken=BROKEN, test_good=GOOD)
    result = run(pytester, "-x", "--pdb", "test_broken.py", "test_good.py")
    result.stdout.fnmatch_lines(["*PreemptionSafetyError*restarted*", "*entering PDB*"])
    assert result.ret != 0
    assert "test_good" not in "".join(trials(result))


def test_timeout_of_another_plugin_leaves_nothing_running(pytester: Pytester) -> None:
    """When pytest-timeout ends a trial, the training is ended with it."""
    pytester.makepyfile(
        """
        def test_slow(preemption):
            def train(model_dir):
                import pathlib, os, time
                pathlib.Path("pid").write_text(str(os.getpid()))
                while True:
                    time.sleep(0.1)
            preemption.check_training(train)
        """
    )
    result = run(pytester, "--preempt-trials=1", "--timeout=30")
    result.assert_outcomes(failed=1)
    assert not Path("/proc", pytester.path.joinpath("pid").read_text()).exists()


def test_never_skips(pytester: Pytester) -> None:
    """`--preempt-at=never` skips the tests, and says so."""
    pytester.makepyfile(test_good=GOOD, test_broken=BROKEN)
    result = run(pytester, "--preempt-at=never", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*--preempt-at says never*"])


def test_script_needs_no_test_code(pytester: Pytester) -> None:
    """A script on the command line is run, killed and judged; nothing else is collected."""
    pytester.makepyfile(
        train="""
            import sys
            import tensorflow as tf

            step = tf.Variable(0, dtype=tf.int64)
            iterator = iter(tf.data.Dataset.range(30))
            checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
            manager = tf.train.CheckpointManager(checkpoint, sys.argv[1].split("=")[1], max_to_keep=2)
            checkpoint.restore(manager.latest_checkpoint)
            for _ in iterator:
                if int(step.assign_add(1)) % 10 == 0:
                    manager.save()
            """,
        test_other="def test_other():\n    raise AssertionError",
    )
    result = run(pytester, "--preempt-script=train.py --to={model_dir}", "--preempt-at=step:15,8")
    result.assert_outcomes(passed=1)
    assert list(trials(result).values()) == [("exact", "15, then 8")]


SEARCH = """
import sys

import keras
import tensorflow as tf

directory = sys.argv[1]
for rate in (0.1, 0.03, 0.01):
    weight, optimizer = tf.Variable([0.0, 0.0]), keras.optimizers.SGD(rate)
    for element in tf.data.Dataset.range(16):
        optimizer.apply_gradients([(tf.fill([2], tf.cast(element, tf.float32)), weight)])
    tf.train.Checkpoint(weight=weight).write(f"{directory}/{rate}")
"""


def test_several_models_one_after_the_other(pytester: Pytester) -> None:
    """Where the steps begin anew with each model of a search, nothing is claimed, and it is said why."""
    pytester.makepyfile(search=SEARCH)
    result = pytester.runpytest_subprocess(
        *("-p", "no:randomly"), "--preempt-script=search.py {model_dir}", "--preempt-at=step:20"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["unknown: the model's step begins anew within the reference run (several models *"])


def test_scenario_by_hand(pytester: Pytester) -> None:
    """Lives that are started by hand stop at exactly the element that was asked for, and can be judged."""
    pytester.makepyfile(
        """
        from pytest_pipeline_ckpt import assert_resumes_exactly

        def train(model_dir):
            import tensorflow as tf

            step = tf.Variable(0, dtype=tf.int64)
            iterator = iter(tf.data.Dataset.range(40))
            checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
            manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
            checkpoint.restore(manager.latest_checkpoint)
            for _ in iterator:
                if int(step.assign_add(1)) % 10 == 0:
                    manager.save()
            print("trained to its end")

        def test_by_hand(training_process, tmp_path):
            reference = training_process(train, tmp_path / "reference").wait()
            assert reference.returncode == 0
            assert "trained to its end" in reference.stdout
            first = training_process(train, tmp_path / "model")
            first.wait_for(elements=13).wait_for(elements=25)
            assert first.elements == 25
            assert first.returncode is None
            first.kill()
            assert first.returncode == -9
            second = training_process(train, tmp_path / "model").wait_for(elements=5).terminate(grace=10)
            assert second.returncode == -15
            third = training_process(train, tmp_path / "model").wait()
            verdict = assert_resumes_exactly(reference, [first, second, third])
            assert verdict.scope.kills_landed == 2
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_weights_are_compared_on_request(pytester: Pytester) -> None:
    """With `compare_weights=True` an optimizer that is not restored is found although every element is exact."""
    pytester.makepyfile(
        """
        import functools
        import pytest
        from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

        def train(model_dir, momentum_is_saved):
            import tensorflow as tf

            step = tf.Variable(0, dtype=tf.int64)
            weight, momentum = tf.Variable(0.0), tf.Variable(0.0)
            iterator = iter(tf.data.Dataset.range(40))
            tracked = {"momentum": momentum} if momentum_is_saved else {}
            checkpoint = tf.train.Checkpoint(step=step, iterator=iterator, weight=weight, **tracked)
            manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
            checkpoint.restore(manager.latest_checkpoint)
            for element in iterator:
                momentum.assign(0.9 * momentum + tf.cast(element, tf.float32))
                weight.assign_add(0.1 * momentum)
                if int(step.assign_add(1)) % 10 == 0:
                    manager.save()

        @pytest.mark.preempt(at="step:25")
        def test_restored(preemption):
            preemption.check_training(functools.partial(train, momentum_is_saved=True), compare_weights=True)

        @pytest.mark.preempt(at="step:25")
        def test_forgotten(preemption):
            with pytest.raises(PreemptionSafetyError, match="the final variables? .*|weight") as caught:
                preemption.check_training(functools.partial(train, momentum_is_saved=False), compare_weights=True)
            assert caught.value.verdict.outcome is Outcome.DIVERGED
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_reports_are_json(pytester: Pytester) -> None:
    """What crosses from an xdist worker is a JSON string on the report."""
    pytester.makepyfile(GOOD)
    pytester.makeconftest(
        """
        import pathlib

        def pytest_runtest_logreport(report):
            if hasattr(report, "preempt"):
                pathlib.Path("carried.json").write_text(report.preempt)
        """
    )
    run(pytester, "-n2", "--preempt-trials=1").assert_outcomes(passed=1)
    carried = json.loads(pytester.path.joinpath("carried.json").read_text())
    assert carried["rows"][0]["outcome"] == "exact"
