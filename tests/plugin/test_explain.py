"""`--preempt-explain`, and what a failure says of where it comes from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

PIPELINES = """
    import pytest


    def large():
        import tensorflow as tf

        rows = tf.data.Dataset.range(2000).map(lambda n: tf.zeros([10_000]) + tf.cast(n, tf.float32))
        return rows.shuffle(1000, seed=1).take(60)


    def drawn():
        import tensorflow as tf

        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        return tf.data.Dataset.range(30).map(lambda n: (n, tf.random.uniform([], seed=5))).with_options(options)


    def test_large(preemption):
        preemption.check_dataset(large)


    def test_drawn(preemption):
        preemption.check_dataset(drawn)
    """


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs both tests in a fresh process."""
    pytester.makepyfile(test_input=PIPELINES)
    return pytester.runpytest_subprocess("-p", "no:randomly", "--preempt-seed=1", *options)


def test_explained_before_anything_is_killed(pytester: Pytester) -> None:
    """Each check says once what its pipeline is made of, at the end too, however many processes there are."""
    result = run(pytester, "--preempt-explain", "--preempt-trials=2", "-n2", "-k", "large")
    result.assert_outcomes(passed=2)
    lines = result.stdout.str().splitlines()
    at = [number for number, line in enumerate(lines) if "the pipeline has" in line]
    assert len(at) == 1
    assert lines[at[0] : at[0] + 5] == [
        "note: test_input.py::test_large: the pipeline has 4 stages",
        "   1  Dataset.range (test_input.py:7, in large)",
        "   2  Dataset.map (test_input.py:7, in large)",
        "   3  Dataset.shuffle (test_input.py:8, in large): a buffer of 1,000 elements: up to 40 MB in each checkpoint",
        "   4  Dataset.take (test_input.py:8, in large)",
    ]


@pytest.mark.parametrize("at", ["step:25", "every:4"])
def test_failure_says_where_it_comes_from(pytester: Pytester, at: str) -> None:
    """A failure names the stage, the reason and the remedy: of a live kill, and of a state of `every`."""
    result = run(pytester, f"--preempt-at={at}", "-k", "drawn")
    result.assert_outcomes(failed=1)
    told = dict(re.findall(r"^E +(where|why|remedy): +(.*)$", result.stdout.str(), re.MULTILINE))
    stage = "stage 2 of 2: Dataset.map (test_input.py:16, in drawn) is the first that does not resume exactly: "
    assert told["where"].startswith(stage)
    assert told["why"].startswith("its function draws random numbers from a generator (RandomUniform)")
    assert told["remedy"].startswith("use tf.random.stateless_*")


def test_what_may_matter_is_said_with_a_failure(pytester: Pytester) -> None:
    """What makes checkpoints large is said of a pipeline that fails, and nothing of one that does not."""
    shown = PIPELINES.replace("shuffle(1000, seed=1)", "shuffle(1000, seed=1).map(lambda n: n + tf.random.normal([]))")
    pytester.makepyfile(test_input=shown)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--preempt-at=step:25", "-k", "large")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*where:*stage 4 of 5: Dataset.map *: TensorFlow refuses to save its iterator: RandomStandardNormal is *",
            "*pipeline:*stage 3 of 5: Dataset.shuffle *: a buffer of 1,000 elements: up to 40 MB in each checkpoint",
        ]
    )
    good = run(pytester, "--preempt-at=step:25", "-k", "large")
    good.assert_outcomes(passed=1)
    good.stdout.no_fnmatch_line("*a buffer of*")
