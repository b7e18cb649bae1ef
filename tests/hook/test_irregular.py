"""Trainings that do what they should not: the hook is exact, or says that it cannot be; it never guesses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.hook.conftest import Life, Training

pytestmark = pytest.mark.tensorflow

UNKNOWN = "FastForwardError: How many elements a step takes of the iterators IteratorV2:0 is not known, and "


def _same(expected: dict[int, int], *lives: Life) -> None:
    """Each step of the lives was trained on the element of the reference."""
    for life in lives:
        assert life.elements, life.log
        assert life.elements == {step: expected[step] for step in life.elements}


@pytest.mark.parametrize(
    "job",
    [{"increment": 2}, {"peek": 4}, {"pipeline": "feedable"}, {"pipeline": "branch"}],
    ids=["steps of two", "elements without a step", "fed by a handle", "in a branch"],
)
def test_what_a_step_takes_is_not_guessed(training: Training, job: dict[str, Any]) -> None:
    """Where steps do not take a constant number of elements that can be counted, a fast-forward is refused."""
    hook = {"save_steps": 15, "iterators": ["IteratorV2:0"]}
    assert training.live(kill="after:26" if job.get("increment") else "after:25", hook=hook, **job).status == -9
    life = training.live(hook=hook, **job)
    assert life.elements == {}
    assert life.error.startswith(UNKNOWN)


def test_a_position_that_cannot_be_counted(training: Training) -> None:
    """It is refused before anything is trained, not at the first resume."""
    job: dict[str, Any] = {"pipeline": "branch", "hook": {"save_steps": 10, "state": "position"}}
    life = training.live(**job)
    assert (life.elements, life.error) == (
        {},
        "FastForwardError: The position of the iterators IteratorV2:0 is not known, because nothing says how many "
        "elements a step takes of them. Pass elements_per_step= with one number for each of them (0: not used in "
        "training).",
    )
    job["hook"]["elements_per_step"] = 1
    training.live(kill="after:15", **job)
    assert min(training.live(**job).elements) == 11


def test_without_a_fast_forward_nothing_must_be_known(training: Training, reference: Training) -> None:
    """A checkpoint of the model's very step serves, whatever a step takes."""
    job: dict[str, Any] = {"pipeline": "feedable", "listener": True}
    expected = reference.live(hook=None).elements
    _same(expected, *(training.live(kill=kill, **job) for kill in ("after:25", "between:30", "")))


def test_model_that_goes_back(training: Training) -> None:
    """A model that is restored within the session is noticed at the next step, and nothing is saved of the two."""
    life = training.live(rewind=26, hook={"save_steps": 10})
    assert re.fullmatch(
        r"HookUsageError: The model's step went back from 2[56] to 2[01], and the data has not: start the process "
        r"again, and let the session restore it\.",
        life.error,
    )  # the step is read within the run, before it is counted or behind that
    assert min(training.live().elements) == 21


def test_data_that_is_initialised_again(training: Training, reference: Training) -> None:
    """The run that meets the end of the data takes nothing: what a step takes is known in the pass behind it too."""
    job: dict[str, Any] = {"pipeline": "finite", "again": True, "steps": 80}
    expected = reference.live(hook=None, **job).elements
    lives = [training.live(kill=kill, hook={"save_steps": 7}, **job) for kill in ("before:50", "before:80", "")]
    assert [life.status for life in lives] == [-9, -9, 0], lives[-1].log
    _same(expected, *lives)
    assert [min(life.elements) for life in lives] == [1, 41, 71]


@pytest.mark.parametrize("listener", [True, False])
def test_steps_of_two_runs(training: Training, reference: Training, listener: bool) -> None:
    """Between the run that takes the element and the one that trains on it nothing is saved."""
    expected = reference.live(hook=None).elements
    job: dict[str, Any] = {
        "apart": 12,
        "save_model": 12,
        "listener": listener,
        "hook": {"save_steps": None, "save_secs": 0.5},
    }
    first = training.live(kill="before:24", **job)
    assert first.status == -9, first.log
    second = training.live(**job)
    _same(expected, first, second)
    assert (max(first.elements), min(second.elements), max(second.elements)) == (24, 13, 40)


def test_a_run_that_fails_without_an_error(training: Training, reference: Training) -> None:
    """An element that was taken by a run that ended in StopIteration is not taken for trained."""
    expected = reference.live(hook=None).elements
    first = training.live(accident=24)
    second = training.live(kill="after:33")
    _same(expected, first, second)
    assert (max(first.elements), min(second.elements)) == (24, 25)


def test_two_sessions_with_one_hook(training: Training, reference: Training) -> None:
    """A session that has not been resumed has nothing to save: the listener leaves the good checkpoint alone."""
    expected = reference.live(hook=None).elements
    life = training.live(sessions=2, listener=True)
    assert life.error == ""
    _same(expected, life)
    assert len(life.elements) == 40


def test_recovered_session_with_a_listener(training: Training, reference: Training) -> None:
    """Nor does it in a session that replaces a broken one, before that is resumed."""
    expected = reference.live(hook=None).elements
    job: dict[str, Any] = {"listener": True, "hook": {"save_steps": 3}}
    lives = [training.live(interrupt=25, kill="after:28", **job), training.live(**job)]
    _same(expected, *lives)


def test_initialised_by_the_first_run(training: Training, reference: Training) -> None:
    """An iterator that the training initialises itself is resumed after that, not before."""
    expected = reference.live(hook=None).elements
    lives = [training.live(initialise=True, kill=kill) for kill in ("after:25", "after:33", "")]
    _same(expected, *lives)
    assert [min(life.elements) for life in lives] == [1, 21, 31]


def test_a_damaged_checkpoint_stands_for_none(training: Training, reference: Training) -> None:
    """One that cannot be read does not count among those that are kept."""
    expected = reference.live(hook=None).elements
    job: dict[str, Any] = {"save_model": 20, "hook": {"save_steps": 10, "max_to_keep": 2}}
    training.live(kill="after:25", **job)
    index = training.path("input.ckpt-20.index")
    index.write_bytes(index.read_bytes()[:20])
    lives = [training.live(kill="after:31", **job), training.live(**job)]
    _same(expected, *lives)
    assert "resumed input.ckpt-10, and 10 steps forward to global_step 20" in lives[1].log


def test_changed_pipeline_is_not_read_on(training: Training) -> None:
    """The elements of a changed pipeline are not dropped in place of the old one's."""
    training.live(kill="after:17", hook={"save_steps": 10, "state": "position"})
    life = training.live(pipeline="other function", hook={"save_steps": 10, "state": "position"})
    assert (life.elements, life.error) == (
        {},
        "FastForwardError: The pipeline must be brought from step 0 to the model's step 10, and is not the one that "
        'wrote input.ckpt-10. Go back to that one, or pass on_nondeterminism="warn" if repeated and lost elements do '
        "not matter.",
    )


@pytest.mark.parametrize("operation", [1, 2])
def test_killed_while_taking_over(training: Training, reference: Training, operation: int) -> None:
    """A kill while TensorFlow's own checkpoint becomes one of ours leaves it whole."""
    shutil.copytree(Path(__file__).with_name("tf215"), training.model_dir)
    expected = reference.live(hook=None).elements
    assert training.live(kill_resume=operation).status == -9
    _same(expected, training.live())
    assert (training.model_dir / "input.ckpt-20.index").exists()


def test_what_varied_once_is_not_trusted_later(training: Training) -> None:
    """A life that begins regularly does not make up for one that was not."""
    job: dict[str, Any] = {"peek": 4, "save_model": 5, "hook": {"save_steps": 15}}
    training.live(kill="after:16", **job)
    assert min(training.live(kill="after:22", **job).elements) == 16
    life = training.live(**job)
    assert (life.elements, life.error[: len(UNKNOWN)]) == ({}, UNKNOWN)


def test_another_number_of_elements_a_step(training: Training, reference: Training) -> None:
    """Steps are counted as they were trained: a life that takes two elements a step follows one that took one."""
    expected = list(reference.live(hook=None, steps=80).elements.values())
    job: dict[str, Any] = {"save_model": 5, "hook": {"save_steps": 15}}
    training.live(kill="after:21", **job)
    second = training.live(kill="after:27", pipeline="pairs", **job)
    third = training.live(pipeline="pairs", **job)
    taken = [value for life in (second, third) for value in life.elements.values()]
    assert min(second.elements) == 21
    assert min(third.elements) == 26
    pairs = [1000 * one + other for one, other in zip(expected[20::2], expected[21::2], strict=False)]
    assert taken == [*pairs[:7], *pairs[5 : 5 + len(third.elements)]]
