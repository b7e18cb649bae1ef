"""A failing random trial as a user meets it: shrunk, remembered, replayed, forgotten."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pytest_pipeline_ckpt.memory import FORMAT, KEY, OUTDATED

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

TRAIN = """
    import os
    import pytest

    def train(model_dir):
        import tensorflow as tf

        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(1000))
        tracked = {"iterator": iterator} if os.environ.get("REPAIRED") else {}
        checkpoint = tf.train.Checkpoint(step=step, **tracked)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        while step < int(os.environ.get("STEPS", 40)):
            next(iterator)
            if int(step.assign_add(1)) % 10 == 0:
                manager.save()
    """
TEST = """
    def test_it(preemption):
        preemption.check_training(train)
    """
SEED = "--preempt-seed=1"
"""Its random trials of this test fail."""
FIRST = "test_train.py::test_it"
AGAIN = f"note: {FIRST}: replayed step:11, which failed before: it fails again (restarted)"
FIXED = f"note: {FIRST}: replayed step:11, which failed before: exact now, so it is forgotten"


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs pytest in a fresh process, the tests in their order; enough time to shrink, also on a slow machine."""
    return pytester.runpytest_subprocess("-p", "no:randomly", "--preempt-shrink=100", *options)


def remembered(pytester: Pytester) -> object:
    """What pytest's cache has."""
    path = pytester.path.joinpath(".pytest_cache/v", KEY)
    return json.loads(path.read_text())["failures"] if path.exists() else None


def remember(pytester: Pytester, at: str, *, smallest: bool = True) -> None:
    """As if an earlier run had failed."""
    path = pytester.path.joinpath(".pytest_cache/v", KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": FORMAT, "failures": {FIRST: {"at": at, "smallest": smallest}}}))


def test_from_a_failure_to_its_repair(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is shrunk, the printed line shows it, it is tried first until it is exact, and then it is forgotten."""
    pytester.makepyfile(test_train=TRAIN + TEST)
    result = run(pytester, "--preempt-trials=1", "--preempt-seed=4")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "killed:    element 20, then 14\n" in text
    assert "smallest:  killed at element 11 (of 3 schedules tried in " in text
    reproduce = re.search(r"reproduce: pytest (.*)", text)
    assert reproduce is not None
    assert reproduce[1] == f"{FIRST} --preempt-at=step:11"
    assert remembered(pytester) == {FIRST: {"at": "step:11", "smallest": True}}

    result = run(pytester, *reproduce[1].split())
    result.assert_outcomes(failed=1)
    assert "replayed" not in result.stdout.str()
    assert "smallest:" not in result.stdout.str()

    result = run(pytester, "--preempt-trials=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*killed:    element 11",
            "*note:      an earlier run failed with this schedule, so it was tried first",
            f"*reproduce: pytest {FIRST} --preempt-at=step:11",
            AGAIN,
        ]
    )
    assert "smallest:" not in result.stdout.str()
    assert remembered(pytester) == {FIRST: {"at": "step:11", "smallest": True}}

    monkeypatch.setenv("REPAIRED", "1")
    result = run(pytester, "--preempt-trials=2", "--preempt-seed=4")
    result.assert_outcomes(passed=2)
    rows = [line for line in result.outlines if line.startswith(f"exact  {FIRST}[random-")]
    assert len(rows) == 2
    assert "killed at element 20, then 14; resumed exactly" in rows[0]
    assert result.outlines.count(FIXED) == 1
    assert remembered(pytester) == {}


def test_with_xdist_and_last_failed(pytester: Pytester) -> None:
    """Workers are told and tell what failed; one trial replays it, the first of those that `--last-failed` selects."""
    pytester.makepyfile(test_train=TRAIN + TEST)
    result = run(pytester, "-n2", "--preempt-trials=2", SEED)
    result.assert_outcomes(failed=2)
    assert remembered(pytester) == {FIRST: {"at": "step:11", "smallest": True}}
    result = run(pytester, "-n2", "--preempt-trials=2", "--preempt-seed=2", f"{FIRST}[random-1]")
    result.assert_outcomes(failed=1)
    assert result.outlines.count(AGAIN) == 1
    result = run(pytester, "-n2", "--preempt-trials=2", "--preempt-shrink=0", "--lf")
    assert result.outlines.count(AGAIN) == 1


def test_not_shrunk_and_not_remembered(pytester: Pytester) -> None:
    """A schedule that somebody named, and a failure that the test expects, are neither remembered nor shrunk."""
    expected = """
    @pytest.mark.preempt(at="step:25")
    def test_named(preemption):
        preemption.check_training(train)

    def test_expected(preemption):
        with pytest.raises(AssertionError, match="restarted"):
            preemption.check_training(train)
    """
    pytester.makepyfile(test_train=TRAIN + expected)
    result = run(pytester, "--preempt-trials=1", SEED)
    result.assert_outcomes(failed=1, passed=1)
    assert "smallest:" not in result.stdout.str()
    assert remembered(pytester) is None


def test_without_shrinking(pytester: Pytester) -> None:
    """`--preempt-shrink=0` leaves the failure as it is; the next run replays that and shrinks it further."""
    pytester.makepyfile(test_train=TRAIN + TEST)
    result = run(pytester, "--preempt-trials=1", "--preempt-times=1", "--preempt-shrink=0", SEED)
    result.assert_outcomes(failed=1)
    assert "smallest:" not in result.stdout.str()
    stored = remembered(pytester)
    assert isinstance(stored, dict)
    assert not stored[FIRST]["smallest"]
    result = run(pytester, "--preempt-trials=1")
    result.stdout.fnmatch_lines(["*smallest:  *", f"note: {FIRST}: replayed {stored[FIRST]['at']}, which failed *"])
    assert remembered(pytester) == {FIRST: {"at": "step:11", "smallest": True}}


def test_a_schedule_that_cannot_be_reached(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot land any more, because the run is shorter or ends early, is forgotten, and that is said."""
    monkeypatch.setenv("REPAIRED", "1")
    pytester.makepyfile(test_train=TRAIN + TEST)
    remember(pytester, "step:41")
    result = run(pytester, "--preempt-trials=1", SEED)
    result.assert_outcomes(passed=1)
    assert (
        f"note: {FIRST}: step:41 failed before; now it lies beyond the end of the run, which takes 40 training "
        "elements, so it is forgotten"
    ) in result.outlines
    assert remembered(pytester) == {}
    remember(pytester, "step:11,40")
    result = run(pytester, "--preempt-trials=1", SEED)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"note: {FIRST}: replayed step:11,40, which failed before: *, so it is forgotten"])
    assert remembered(pytester) == {}


def test_what_another_version_remembers(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures in another format are not replayed but forgotten, once, and that is said."""
    monkeypatch.setenv("REPAIRED", "1")
    pytester.makepyfile(test_train=TRAIN + TEST)
    path = pytester.path.joinpath(".pytest_cache/v", KEY)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({FIRST: {"at": "step:11", "smallest": True}}))
    result = run(pytester, "--preempt-trials=1", SEED)
    result.assert_outcomes(passed=1)
    assert result.outlines.count(f"note: {OUTDATED}") == 1
    assert "replayed" not in result.stdout.str()
    assert remembered(pytester) == {}
    assert OUTDATED not in run(pytester, "--preempt-trials=1", SEED).stdout.str()


UNSEEDED = """
    import signal

    def train(model_dir):
        import tensorflow as tf

        told = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(1000).shuffle(500))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        while step < 40:
            next(iterator)
            step.assign_add(1)
            if told or int(step) % 10 == 0:
                manager.save()
            if told:
                return
    """


def test_a_replay_that_cannot_be_judged(pytester: Pytester) -> None:
    """A replay that is neither exact nor a failure is said, and stays remembered; the drawn schedule follows."""
    pytester.makepyfile(test_train=UNSEEDED + TEST)
    remember(pytester, "step:25@SIGTERM")
    result = run(pytester, "--preempt-trials=1", "--preempt-times=1", SEED)
    result.stdout.fnmatch_lines(
        [
            f"note: {FIRST}: replayed step:25@SIGTERM, which failed before: flaky now: *",
            f"*{FIRST}[[]random-0[]]: killed at element *",
        ]
    )
    assert remembered(pytester) == {FIRST: {"at": "step:25@SIGTERM", "smallest": True}}


def test_other_schedules_do_not_replay(pytester: Pytester) -> None:
    """What is remembered is for random trials only, and stays for them."""
    pytester.makepyfile(test_train=TRAIN + TEST)
    remember(pytester, "step:12")
    for at in ("step:25", "never", "every:100"):
        assert "replayed" not in run(pytester, f"--preempt-at={at}").stdout.str()
    assert remembered(pytester) == {FIRST: {"at": "step:12", "smallest": True}}


def test_without_pytests_cache(pytester: Pytester) -> None:
    """With `-p no:cacheprovider` a failure is shrunk and not remembered."""
    pytester.makepyfile(test_train=TRAIN + TEST)
    result = run(pytester, "--preempt-trials=1", SEED, "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*smallest:  killed at element 11*"])
    assert remembered(pytester) is None
