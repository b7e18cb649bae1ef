"""`every` as a user runs it: items, xdist, progress, what cannot be recorded, Ctrl-C's neighbours."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

GOOD = """
    def make_dataset():
        import tensorflow as tf

        return tf.data.Dataset.range(40).shuffle(10, seed=1).batch(2)

    def test_good(preemption):
        preemption.check_dataset(make_dataset, save_every=5)
    """
UNSEEN = """
    import mmap, threading

    def train(model_dir):
        import tensorflow as tf

        step = tf.Variable(0, dtype=tf.int64)
        iterator = iter(tf.data.Dataset.range(20))
        checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        DOES
        for _ in iterator:
            if int(step.assign_add(1)) % 5 == 0:
                manager.save()

    def test_unseen(preemption):
        preemption.check_training(train)
    """
MAPPED = """
        with open(model_dir + "/mapped", "w+b") as file:
            file.truncate(4096)
            with mmap.mmap(file.fileno(), 4096) as memory:
                memory[:4] = b"seen"
"""
MADE = """
        with open("ASK", "w") as ask:
            ask.write(model_dir)
        open("ANSWER").close()
"""
SOMEBODY_ELSE = """
    def serve():
        with open("ASK") as ask:
            directory = ask.read()
        open(directory + "/made", "w").close()
        open("ANSWER", "w").close()

    def test_unseen(preemption):
        threading.Thread(target=serve, daemon=True).start()
"""
STATES = re.compile(r"20 elements and [0-9]+ file operations leave ([0-9]+) states(?:, ([0-9]+) of them judged)?;")


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs pytest in a fresh process, the tests in their order."""
    return pytester.runpytest_subprocess("-p", "no:randomly", *options)


def judged(result: RunResult) -> tuple[int, list[int]]:
    """How many states there are, and how many each item judged."""
    found = [(int(states), int(here or states)) for states, here in STATES.findall(result.stdout.str())]
    assert len({states for states, _ in found}) == 1, result.stdout.str()
    return found[0][0], [here for _, here in found]


def test_the_states_are_shared_among_workers(pytester: Pytester) -> None:
    """One item alone, or one for each process: together they judge each state once."""
    pytester.makepyfile(GOOD)
    alone = run(pytester, "--preempt-at=every:2")
    alone.assert_outcomes(passed=1)
    states, here = judged(alone)
    assert here == [(states + 1) // 2]
    shared = run(pytester, "--preempt-at=every:2", "-n2")
    shared.assert_outcomes(passed=2)
    shared.stdout.fnmatch_lines_random(
        ["exact  *test_good[[]every:2-1of2[]]: *", "exact  *test_good[[]every:2-2of2[]]: *"]
    )
    states, each = judged(shared)
    assert sum(each) == (states + 1) // 2
    assert max(each) - min(each) <= 1


def test_all_states(pytester: Pytester) -> None:
    """Without telling apart what a resume cannot there are more of them."""
    pytester.makepyfile(GOOD)
    distinct, _ = judged(run(pytester, "--preempt-at=every:100"))
    everything, _ = judged(run(pytester, "--preempt-at=every:100", "--preempt-states=all"))
    assert everything > 3 * distinct


def test_a_budget_that_is_used_up(pytester: Pytester) -> None:
    """What was judged was exact, but that is not every instant: skipped, and said."""
    pytester.makepyfile(GOOD)
    result = run(pytester, "--preempt-at=every", "--preempt-budget=0.001", "-rs")
    assert re.search(r"SKIPPED .*--preempt-budget: 0.001 s are used up", result.stdout.str())


def test_a_run_that_saves_nothing(pytester: Pytester) -> None:
    """Nothing is there to judge, unless beginning anew is meant."""
    pytester.makepyfile(GOOD.replace("save_every=5", "save_every=1000"))
    result = run(pytester, "--preempt-at=every")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*unknown: the reference run saved nothing: no checkpoint, and no file below *")
    result = run(pytester, "--preempt-at=every", "--preempt-never-resumes=allow")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("exact *leave 1 state; each resumed exactly: 20 elements compared*")


def test_what_cannot_be_recorded_is_unknown(pytester: Pytester) -> None:
    """A shared mapping changes files without a system call: nothing is claimed."""
    pytester.makepyfile(UNSEEN.replace("        DOES\n", MAPPED))
    result = run(pytester, "--preempt-at=every")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        "*unknown: the recorded run did what cannot be recorded: a shared mapping of a file; so the states that a kill "
        "can leave are not known: use --preempt-at=random"
    )


def test_a_way_to_write_that_nobody_has_thought_of_is_unknown(pytester: Pytester) -> None:
    """Another process has made a file: what is left is not what was recorded, so nothing is claimed."""
    test = UNSEEN.replace("        DOES\n", MADE)
    test = test.replace("\n    def test_unseen(preemption):\n", SOMEBODY_ELSE)
    for name in ("ASK", "ANSWER"):
        os.mkfifo(pytester.path / name)
        test = test.replace(f'"{name}"', f'"{pytester.path / name}"')
    pytester.makepyfile(test)
    result = run(pytester, "--preempt-at=every")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        "*unknown: the recorded run did what cannot be recorded: made: not as the recorded operations leave them, so "
        "something else wrote there; *"
    )


def test_another_signal_does_not_apply(pytester: Pytester) -> None:
    """`every` is about SIGKILL; a signal that is set for other tests is passed over, and that is said."""
    pytester.makepyfile(GOOD)
    result = run(pytester, "--preempt-at=every:100", "--preempt-signal=SIGTERM")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        "note: every looks at what SIGKILL leaves: --preempt-signal (SIGTERM) does not apply to it"
    )


def test_progress_of_workers(pytester: Pytester) -> None:
    """The controller sums up what its workers have judged; in a log once a minute, here each second."""
    pytester.makepyfile(GOOD)
    pytester.makeconftest("from pytest_pipeline_ckpt import progress; progress._LOG_EVERY = 0.5")
    result = run(pytester, "--preempt-at=every", "-n2")
    result.assert_outcomes(passed=2)
    assert re.search(r"preempt: every [0-9]+/[0-9]+ states, 0 not exact", result.stdout.str())
