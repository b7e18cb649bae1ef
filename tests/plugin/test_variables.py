"""What a training sets before its imports counts, and what tells its step is asked until its end."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
TRAIN = """
    import os, sys
    os.environ["TF_TEST_OF_PREEMPT"] = {value}
    import tensorflow as tf

    step = tf.Variable(0, dtype=tf.int64)
    iterator = iter(tf.data.Dataset.range(30))
    checkpoint = tf.train.Checkpoint(step=step, iterator=iterator)
    manager = tf.train.CheckpointManager(checkpoint, sys.argv[1], max_to_keep=2)
    manager.restore_or_initialize()
    for _ in iterator:
        if int(step.assign_add(1)) % 10 == 0:
            manager.save()
    """
COUNTED = """
    import os, sys
    import tensorflow as tf

    STEP, path = 0, os.path.join(sys.argv[1], "step.txt")
    if os.path.exists(path):
        with open(path) as file:
            STEP = int(file.read())
    for _ in tf.data.Dataset.range(30).skip(STEP):
        STEP += 1
        if STEP % 10 == 0:
            with open(path + ".new", "w") as file:
                file.write(str(STEP))
            os.replace(path + ".new", path)
    """


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('"1"', "sets TF_TEST_OF_PREEMPT before its imports: its lives are forks of a process that was started with"),
        ("str(os.getpid())", "sets TF_TEST_OF_PREEMPT differently from life to life before its imports: each life"),
    ],
    ids=["one value", "another one in each life"],
)
def test_variables_that_a_script_sets_are_seen(pytester: pytest.Pytester, value: str, sentence: str) -> None:
    """Its lives come from a process that had them at its imports, and that is said once."""
    pytester.makepyfile(train=TRAIN.replace("{value}", value))
    result = pytester.runpytest_subprocess(
        "-p", "no:randomly", "--preempt-script=train.py {model_dir}", "--preempt-at=step:15"
    )
    result.assert_outcomes(passed=1)
    assert len([line for line in result.outlines if line.startswith("note:") and sentence in line]) == 1


def test_an_integer_of_the_script_tells_the_step(pytester: pytest.Pytester) -> None:
    """`__main__:STEP` is read after the script's last line too; without it the step is not known."""
    pytester.makepyfile(train=COUNTED)
    command = ("-p", "no:randomly", "--preempt-script=train.py {model_dir}", "--preempt-at=step:25")
    pytester.runpytest_subprocess(*command, "--preempt-model-step=__main__:STEP").assert_outcomes(passed=1)
    without = pytester.runpytest_subprocess(*command)
    without.assert_outcomes(failed=1)
    without.stdout.fnmatch_lines(["unknown*"])


def test_the_line_that_reproduces_a_failure_has_the_option(pytester: pytest.Pytester) -> None:
    """A script that resumes nothing of its data fails in the same way when the line is pasted."""
    pytester.makepyfile(train=COUNTED.replace(".skip(STEP)", ""))
    result = pytester.runpytest_subprocess(
        *("-p", "no:randomly", "--preempt-script=train.py {model_dir}", "--preempt-at=step:25"),
        "--preempt-model-step=__main__:STEP",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*reproduce: *--preempt-model-step=__main__:STEP*"])
