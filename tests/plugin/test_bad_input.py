"""Wrong input: a clear sentence, no traceback of ours, exit code 4 or a failed test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest.pytester import Pytester, RunResult

OURS = "pytest_pipeline_ckpt"


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs pytest in a fresh process, on files that are there already."""
    return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *options)


def assert_says(result: RunResult, sentences: Iterable[str]) -> None:
    """Each sentence is there, and no traceback of ours."""
    text = result.stdout.str() + result.stderr.str()
    for sentence in sentences:
        assert sentence in text
    assert f"{OURS}/fixtures.py" not in text
    assert "INTERNALERROR" not in text


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--preempt-at=sometimes", "--preempt-at: 'sometimes' is not a kill schedule"),
        ("--preempt-at=step:3/op:0", "--preempt-at: '3/op:0' in 'step:3/op:0': file operations are counted from 1"),
        ("--preempt-at=every:0", "--preempt-at: '0' in 'every:0' is not a stride"),
        ("--preempt-seed=today", "--preempt-seed: 'today' is not a whole number"),
        ("--preempt-trials=0", "--preempt-trials: '0' is less than 1"),
        ("--preempt-signal=SIGFOO", "--preempt-signal: 'SIGFOO' is not a signal"),
        ("--preempt-dataset=nowhere", "--preempt-dataset: 'nowhere' does not name a function"),
        ("--preempt-script=train.py", "has no {model_dir}"),
        ("--preempt-script=train.py --to={model_dir}", "there is no script 'train.py'"),
    ],
)
def test_options_are_refused_before_anything_runs(pytester: Pytester, option: str, sentence: str) -> None:
    """An option that can't be used ends the run with exit code 4 and one sentence."""
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert_says(result, [sentence])


def test_marker_is_refused(pytester: Pytester) -> None:
    """A marker that can't be used fails its own test with a sentence, and no other."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.preempt(at="step:40", times=2)
        def test_it(preemption):
            pass

        def test_other():
            pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(errors=1, passed=1)
    assert_says(result, ["@pytest.mark.preempt(times=...): 2 contradicts 'step:40' (@pytest.mark.preempt(at=...))"])


DATASETS = """
    import tensorflow as tf

    nothing = None

    def empty():
        return tf.data.Dataset.range(0)

    def a_list():
        return [1, 2, 3]

    def endless():
        return tf.data.Dataset.range(10).repeat()

    def raising():
        raise RuntimeError("the bucket is empty")
    """
DATASET_COMPLAINTS = {
    "missing_module:f": "there is no module 'missing_module' on the import path",
    "datasets:missing": "has no function 'missing'",
    "datasets:nothing": "has no function 'nothing'",
    "datasets:a_list": "the function must return a tf.data.Dataset, and returned builtins.list",
    "datasets:raising": "RuntimeError: the bucket is empty",
    "datasets:empty": "no element",
    "datasets:endless": "steps=",
    "broken_module:f": "ZeroDivisionError",
}


@pytest.mark.tensorflow
@pytest.mark.slow
def test_datasets_that_cannot_be_checked(pytester: Pytester) -> None:
    """Each function that gives no usable dataset fails its test with a sentence about it."""
    pytester.makepyfile(datasets=DATASETS, broken_module="1 / 0")
    options = [f"--preempt-dataset={reference}" for reference in DATASET_COMPLAINTS]
    result = run(pytester, "--preempt-trials=1", "--preempt-max-elements=500", *options)
    result.assert_outcomes(failed=len(DATASET_COMPLAINTS))
    assert_says(result, DATASET_COMPLAINTS.values())


SCRIPTS = {
    "fails": ("raise SystemExit(3)", "exit code 3"),
    "asks": ("name = input('model? ')", "EOFError"),
    "trains_nothing": ("pass", "no element"),
}


@pytest.mark.tensorflow
@pytest.mark.slow
def test_scripts_that_cannot_be_checked(pytester: Pytester) -> None:
    """A script that fails by itself, reads stdin or trains on nothing fails its test with a sentence about it."""
    pytester.makepyfile(**{name: source for name, (source, _) in SCRIPTS.items()})
    options = [f"--preempt-script={name}.py --model_dir={{model_dir}}" for name in SCRIPTS]
    result = run(pytester, "--preempt-trials=1", *options)
    result.assert_outcomes(failed=len(SCRIPTS))
    assert_says(result, [complaint for _, complaint in SCRIPTS.values()])


TESTS = """
    import threading
    import pytest

    def make_dataset():
        import tensorflow as tf

        return tf.data.Dataset.range(30)

    @pytest.mark.preempt(at="step:31")
    def test_beyond_the_end(preemption):
        preemption.check_dataset(make_dataset)

    @pytest.mark.preempt(trials=1)
    def test_not_picklable(preemption):
        lock = threading.Lock()
        preemption.check_training(lambda model_dir: lock.acquire())

    @pytest.mark.preempt(trials=1)
    def test_wrong_argument(preemption):
        preemption.check_dataset(make_dataset, save_every=0)

    @pytest.mark.preempt(trials=1)
    def test_wrong_schedule(preemption):
        preemption.check_dataset(make_dataset, at="step:")

    @pytest.mark.preempt(trials=1)
    def test_kills_its_supervisor(preemption):
        def train(model_dir):
            import os, signal, time
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        preemption.check_training(train)
    """


@pytest.mark.tensorflow
@pytest.mark.slow
def test_checks_that_cannot_be_carried_out(pytester: Pytester) -> None:
    """What can only be known in the test fails it with a sentence, and a worker that kills its own is ended."""
    pytester.makepyfile(TESTS)
    result = run(pytester)
    result.assert_outcomes(failed=5)
    assert_says(
        result,
        [
            "element 31 of 'step:31' is beyond the end of the run, which takes 30 training elements",
            "can't be sent to the training process",
            "save_every=0 is less than 1",
            "the argument at=: '' in 'step:' is not the number of an element",
            "it and its supervisor were killed, not by this plugin",
        ],
    )


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("raise ModuleNotFoundError(\"No module named 'tensorflow'\")", "TensorFlow is not installed for "),
        ("__version__ = '2.14.1'", "TensorFlow 2.14.1 is too old: 2.15 is the oldest"),
    ],
    ids=["missing", "old"],
)
def test_tensorflow_that_cannot_be_used(
    pytester: Pytester, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    """TensorFlow that is missing or too old fails the test with a sentence that says what to install."""
    pytester.mkpydir("tensorflow").joinpath("__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), os.environ.get("PYTHONPATH", "")]))
    pytester.makepyfile(inputs="def make():\n    pass")
    result = run(pytester, "--preempt-trials=1", "--preempt-dataset=inputs:make")
    result.assert_outcomes(failed=1)
    assert_says(result, [sentence])


@pytest.mark.tensorflow
@pytest.mark.slow
def test_ops_at_import_fall_back_to_fresh_interpreters(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the interpreter's start-up runs TensorFlow ops, lives are fresh interpreters, and that is said once."""
    pytester.makepyfile(
        sitecustomize="""
            import sys
            if sys.argv[0] == "-c":
                import tensorflow as tf
                tf.constant(1) + 1
            """,
        inputs="""
            def make():
                import tensorflow as tf
                return tf.data.Dataset.range(30)
            """,
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), os.environ.get("PYTHONPATH", "")]))
    result = run(pytester, "--preempt-at=step:15", "--preempt-trials=2", "--preempt-dataset=inputs:make")
    result.assert_outcomes(passed=2)
    said = [line for line in result.outlines if line.startswith("preempt: importing sitecustomize runs TensorFlow ops")]
    assert len(said) == 1


def test_temporary_directory_that_cannot_be_written(pytester: Pytester) -> None:
    """A temporary directory that can't be written fails the test with the directory and the remedy."""
    pytester.makepyfile(inputs="def make():\n    pass")
    pytester.path.joinpath("occupied").write_text("")
    result = run(pytester, "--preempt-trials=1", "--preempt-dataset=inputs:make", "--basetemp=occupied/below")
    result.assert_outcomes(failed=1)
    assert_says(result, ["can't be written", "point pytest elsewhere with --basetemp or TMPDIR"])
