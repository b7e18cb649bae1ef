"""What the hook says when it cannot keep its promise: the whole text, with value, limit and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from forked import without_incarnations

if TYPE_CHECKING:
    from tests.hook.conftest import Training

pytestmark = pytest.mark.tensorflow

BAD_ARGUMENTS = [
    (
        {"save_secs": 5},
        "Exactly one of save_steps and save_secs must be given, got save_steps=10 and save_secs=5: pass the "
        "one and leave out the other.",
    ),
    (
        {"save_steps": None},
        "Exactly one of save_steps and save_secs must be given, got save_steps=None and save_secs=None: "
        "pass the one and leave out the other.",
    ),
    ({"save_steps": 0}, "save_steps=0 is not an integer of at least 1: pass one."),
    ({"save_steps": True}, "save_steps=True is not an integer of at least 1: pass one."),
    ({"save_steps": 2.5}, "save_steps=2.5 is not an integer of at least 1: pass one."),
    (
        {"save_steps": None, "save_secs": 0},
        "save_secs=0 is not a number above 0: pass one, in seconds.",
    ),
    ({"max_to_keep": 0}, "max_to_keep=0 is not an integer of at least 1: pass one, or None to keep all."),
    ({"elements_per_step": -1}, "elements_per_step=-1 is not an integer of at least 0: pass one."),
    ({"elements_per_step": [1, "2"]}, "elements_per_step='2' is not an integer of at least 0: pass one."),
    (
        {"external_state_policy": "warning"},
        "external_state_policy='warning' is unknown: pass 'warn' or 'ignore' or 'fail'.",
    ),
    ({"state": "none"}, "state='none' is unknown: pass 'iterator' or 'position'."),
    ({"at_end": "again"}, "at_end='again' is unknown: pass 'restart' or 'stop'."),
    ({"on_nondeterminism": "ignore"}, "on_nondeterminism='ignore' is unknown: pass 'error' or 'warn'."),
    ({"on_missing": "restart"}, "on_missing='restart' is unknown: pass 'error' or 'replay'."),
]


@pytest.mark.parametrize(("hook", "message"), BAD_ARGUMENTS)
def test_bad_arguments(training: Training, hook: dict[str, Any], message: str) -> None:
    """A value that is out of range is refused by the constructor."""
    life = training.live(hook=hook)
    assert (life.status, life.error) == (1, f"HookUsageError: {message}")


def test_durable_needs_a_local_directory(training: Training) -> None:
    """What cannot be fsynced is not promised."""
    assert training.live(checkpoint_dir="gs://bucket/run", hook={"durable": True}).error == (
        "HookUsageError: durable=True needs a local directory, and gs://bucket/run is none: pass durable=False."
    )


def test_unwritable_directory(training: Training) -> None:
    """Where no checkpoint can be written, nothing is trained."""
    blocked = training.model_dir.with_name("a file")
    blocked.touch()
    life = training.live(checkpoint_dir=f"{blocked}/input")
    assert (life.elements, life.error) == (
        {},
        f"StorageError: No input checkpoint can be written to {blocked}/input: {blocked} is not a directory. Nothing "
        "was trained; make room or the directory writable, or pass another checkpoint_dir.",
    )


def test_unknown_iterator(training: Training) -> None:
    """A name that is none of the graph's is refused, with those that are."""
    assert training.live(hook={"iterators": ["Iterator"]}).error == (
        "HookUsageError: iterators: the graph has no 'Iterator'; its iterators are IteratorV2:0: pass some of these "
        "names, or leave iterators= out for all of them."
    )


@pytest.mark.parametrize(
    ("estimator", "checkpoint_dir", "message"),
    [
        (None, None, "got estimator=None and checkpoint_dir=None"),
        (7, "dir", "got estimator=7 and checkpoint_dir='dir'"),
    ],
)
def test_one_of_estimator_and_directory(training: Training, estimator: Any, checkpoint_dir: Any, message: str) -> None:
    """Exactly one says where the checkpoints are."""
    life = training.live(construct={"estimator": estimator, "checkpoint_dir": checkpoint_dir, "save_steps": 1})
    assert life.error == (
        f"HookUsageError: Exactly one of estimator and checkpoint_dir must be given, {message}: pass the one and leave "
        "out the other."
    )


def test_not_an_estimator(training: Training) -> None:
    """What is no Estimator is named."""
    assert training.live(construct={"estimator": "model"}).error == (
        "HookUsageError: estimator='model' is not a tf.estimator.Estimator: pass one, or the model's directory as "
        "checkpoint_dir=."
    )


def test_no_global_step(training: Training) -> None:
    """A graph without a global step is refused."""
    assert training.live(pipeline="no step").error == (
        "HookUsageError: The graph has no global_step, by which CheckpointInputPipelineHook knows the "
        "model's step: call tf.compat.v1.train.get_or_create_global_step() before the session is made."
    )


def test_no_iterator(training: Training) -> None:
    """A graph without an iterator is refused."""
    assert training.live(pipeline="no iterator").error == (
        'HookUsageError: The graph has 0 iterators in its collection "iterators", '
        "CheckpointInputPipelineHook needs at least 1: make the iterator with "
        "tf.compat.v1.data.make_initializable_iterator(dataset) before the session."
    )


def test_elements_per_step_cannot_be_counted(training: Training) -> None:
    """An iterator that a branch or a loop takes from is not fast-forwarded by a guess."""
    job: dict[str, Any] = {"pipeline": "branch", "hook": {"save_steps": 15}}
    training.live(kill="after:25", **job)
    life = training.live(**job)
    assert (life.elements, life.error) == (
        {},
        "FastForwardError: How many elements a step takes of the iterators IteratorV2:0 is not known, and the pipeline "
        "must be brought from step 15 to the model's step 20. Pass elements_per_step= with one number for each of them "
        "(0: not used in training).",
    )
    job["hook"]["elements_per_step"] = 1
    assert min(training.live(**job).elements) == 21


def test_elements_per_step_for_another_number_of_iterators(training: Training) -> None:
    """One number for each iterator is needed."""
    assert training.live(pipeline="two", hook={"elements_per_step": [1]}).error == (
        "HookUsageError: elements_per_step=(1,) is for 1 iterators, the graph has 2: give one number for "
        "each of IteratorV2:0, IteratorV2_1:0."
    )


def test_external_state(training: Training) -> None:
    """A stateful op is refused at the first step, unless the policy allows it."""
    life = training.live(pipeline="stateful")
    assert (life.elements, life.error) == (
        {},
        "NotSerializableError: The state of the iterators IteratorV2:0 cannot be saved: RandomUniformInt is "
        'stateful. Use stateless ops (tf.random.stateless_uniform), or state="position" if the pipeline yields the '
        'same elements in each run, or external_state_policy="warn" or "ignore" if that state may be lost in a '
        "preemption.",
    )
    assert training.live(pipeline="stateful", hook={"external_state_policy": "ignore"}).status == 0


def _lose_all(training: Training) -> None:
    for path in training.model_dir.glob("input*"):
        path.unlink()


def test_nothing_usable_is_an_error(training: Training) -> None:
    """A model that goes on with no input checkpoint at all is never started again from element 0."""
    training.live(kill="after:25")
    _lose_all(training)
    life = training.live()
    assert (life.status, life.elements) == (1, {})
    assert life.error == (
        f"NoUsableCheckpointError: The model in {training.model_dir} is at global_step 20, and no input "
        "checkpoint input.ckpt-N with N <= 20 is usable (none found). Restore the files, or pass "
        'on_missing="replay" if the pipeline yields the same elements in each run.'
    )


def test_nothing_usable_names_what_was_tried(training: Training) -> None:
    """The message says of each input checkpoint why it is not usable, and nothing was changed."""
    training.live(kill="after:11")
    training.path("input.ckpt-10.index").write_bytes(b"")
    mark = training.path("input.ckpt-0.commit")
    mark.write_text(mark.read_text()[:9])
    before = training.files()
    size = training.path("input.ckpt-0.index").stat().st_size
    assert size > 0
    assert without_incarnations(training.live().error) == (
        f"NoUsableCheckpointError: The model in {training.model_dir} is at global_step 10, and no input "
        "checkpoint input.ckpt-N with N <= 10 is usable (input.ckpt-10: input.ckpt-10.index has 0 bytes "
        "instead of 151; input.ckpt-0: Expecting ':' delimiter: line 1 column 10 (char 9)). Restore the "
        'files, or pass on_missing="replay" if the pipeline yields the same elements in each run.'
    ).replace("151", str(size))
    assert training.files() == before


def test_a_newer_version(training: Training) -> None:
    """What it has written is refused, and left as it is: neither skipped for an older checkpoint, nor retired."""
    training.live(kill="after:21")
    mark = training.path("input.ckpt-20.commit")
    mark.write_text(mark.read_text().replace('"format": 2', '"format": 3'))
    before = training.files()
    assert training.live().error == (
        f"NoUsableCheckpointError: {training.model_dir}/input.ckpt-20 has format 3, and this version of pipeline-ckpt "
        "reads up to format 2: a newer version has written it. Install that one (pip install -U pipeline-ckpt), or "
        "train in another directory."
    )
    assert training.files() == before


def test_replay(training: Training, reference: Training) -> None:
    """on_missing="replay" reads and drops the elements of all steps, and saves where it arrives."""
    expected = reference.live(hook=None).elements
    training.live(kill="after:25")
    _lose_all(training)
    life = training.live(hook={"on_missing": "replay"}, kill="after:21")
    assert life.elements == {21: expected[21]}
    assert training.committed() == [20]


def test_another_pipeline(training: Training) -> None:
    """The checkpoint of a pipeline with other iterators is named, and kept."""
    training.live(kill="after:11", hook={"elements_per_step": 1}, pipeline="two")
    life = training.live()
    assert life.error == (
        f"NoUsableCheckpointError: The model in {training.model_dir} is at global_step 10, and no input "
        "checkpoint input.ckpt-N with N <= 10 is usable (input.ckpt-10: holds IteratorV2:0, IteratorV2_1:0, "
        "the graph has IteratorV2:0; input.ckpt-0: holds IteratorV2:0, IteratorV2_1:0, the graph has "
        'IteratorV2:0). Restore the files, or pass on_missing="replay" if the pipeline yields the same '
        "elements in each run."
    )
    assert training.committed() == [0, 10]


def test_data_has_become_shorter(training: Training) -> None:
    """A fast-forward that reaches the end of the data is an error, not the end of a successful training."""
    training.live(kill="after:35", hook=None)
    life = training.live(pipeline="finite-short", hook={"on_missing": "replay"})
    assert (life.status, life.elements) == (1, {})
    assert life.error == (
        "FastForwardError: The iterator IteratorV2:0 ended at step 12, 12 of the 30 steps from step 0 to the model's "
        "step 30 (elements_per_step=1): the data has become shorter, or elements_per_step is another number."
    )
