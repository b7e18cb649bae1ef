"""With `tf.estimator`, which TensorFlow has until 2.15: the loop that TensorFlow's own hook documented."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hook.conftest import Life, Training

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_estimator") is None,
        reason="only TensorFlow 2.15 and older have tf.estimator",
    ),
]

EPOCH = 12
"""Elements of the pipeline "epoch"."""


def _same(expected: dict[int, int], lives: list[Life]) -> None:
    for life in lives:
        assert life.elements == {step: expected[step] for step in life.elements}, life.log
    assert set().union(*(life.elements for life in lives)) == set(expected)


@pytest.mark.parametrize("kills", [["before:20"], ["between:20", "between:30"], ["after:25", "after:31"]])
def test_resumes_exactly(training: Training, reference: Training, kills: list[str]) -> None:
    """An Estimator's training goes on exactly, whichever of the two saves the kill comes before."""
    expected = reference.live(hook=None).elements
    lives = [training.live(train="estimator", kill=kill) for kill in (*kills, "")]
    _same(expected, lives)
    assert min(lives[1].elements) == {"before:20": 11}.get(kills[0], 21)


@pytest.mark.parametrize("train", ["estimator", "estimators"])
def test_one_train_call_after_the_other(training: Training, reference: Training, train: str) -> None:
    """The documented loop over endless data goes on where the last call ended, with one hook or with many."""
    expected = reference.live(hook=None).elements
    lives = [training.live(train=train, call=7, kill=kill) for kill in ("after:17", "")]
    _same(expected, lives)
    assert min(lives[1].elements) == 15  # a call saves when it ends


@pytest.mark.parametrize("train", ["estimator", "estimators"])
def test_one_train_call_an_epoch(training: Training, train: str) -> None:
    """Finite data begins anew with each call, and a killed call goes on in its epoch."""
    lives = [training.live(train=train, pipeline="epoch", kill=kill) for kill in ("after:23", "after:30", "")]
    assert [(min(life.elements), max(life.elements)) for life in lives] == [(1, 23), (23, 30), (25, 40)]
    order = [lives[0].elements[step] for step in range(1, EPOCH + 1)]
    _same({step: order[(step - 1) % EPOCH] for step in range(1, 41)}, lives)


def test_calls_that_end_with_the_data(training: Training) -> None:
    """A call whose steps end exactly where the data ends is followed by a new epoch, not by 0 steps."""
    life = training.live(train="estimator", pipeline="epoch", call=EPOCH // 2)
    assert life.error == ""
    assert [life.elements[step] for step in range(13, 25)] == [life.elements[step] for step in range(1, 13)]


def test_lost_checkpoints_of_a_later_epoch(training: Training) -> None:
    """on_missing="replay" reads through the epochs that there were, as the calls did."""
    first = training.live(train="estimator", pipeline="epoch", kill="after:23")
    for path in training.model_dir.glob("input*"):
        path.unlink()
    life = training.live(train="estimator", pipeline="epoch", hook={"on_missing": "replay"})
    assert first.elements[23] == life.elements[23]
    assert life.elements[25] == first.elements[1]


def test_mirrored_strategy(training: Training, reference: Training) -> None:
    """Under a `MirroredStrategy`, whose iterators TensorFlow cannot save, the position is."""
    expected = reference.live(hook=None).elements
    kills = ("after:17", "after:25", "")
    lives = [training.live(train="estimator", strategy="mirrored", kill=kill) for kill in kills]
    _same(expected, lives)
    assert "a pipeline with GeneratorDataset: its position is saved instead" in lives[0].log


def test_listener(training: Training, reference: Training) -> None:
    """`saving_listeners=` saves the input before the model."""
    expected = reference.live(hook=None).elements
    _same(expected, [training.live(train="estimator", listener=True, kill=kill) for kill in ("between:20", "")])
    assert training.committed() == [0, 10, 20, 30, 40]


def test_evaluate(training: Training) -> None:
    """A hook that is passed to `evaluate` says so."""
    assert training.live(train="estimator", evaluate_with_hook=True).error == (
        "HookUsageError: CheckpointInputPipelineHook was passed to evaluate: it would restore the training's position "
        "into the evaluation's input. Pass it to train only."
    )


@pytest.mark.parametrize("kill", ["after:25", "before:20"])
def test_takes_over_from_tensorflows_hook(training: Training, reference: Training, kill: str) -> None:
    """What TensorFlow's own hook has written is where ours goes on, and becomes one of ours."""
    expected = reference.live(hook=None).elements
    theirs = training.live(train="estimator", theirs=True, kill=kill)
    ours = [training.live(train="estimator", kill=later) for later in ("after:28", "")]
    _same(expected, [theirs, *ours])
    at = 20 if kill == "after:25" else 10
    assert f"took over input.ckpt-{at}, which TensorFlow's own hook has written" in ours[0].log
    mark = json.loads(training.path(f"input.ckpt-{at}.commit").read_text())
    assert mark["signature"] is None
    assert training.committed()[-1] == 40


def test_takes_over_an_older_one(training: Training, reference: Training) -> None:
    """A torn checkpoint of TensorFlow's own hook is skipped; the one before it and reading on are as exact."""
    expected = reference.live(hook=None).elements
    theirs = training.live(train="estimator", theirs=True, kill="after:25")
    data = training.model_dir / "input.ckpt-20.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:20])
    ours = training.live(train="estimator")
    _same(expected, [theirs, ours])
    assert "resumed input.ckpt-10, and 10 steps forward to global_step 20" in ours.log


def test_keeps_what_the_estimator_keeps(training: Training) -> None:
    """`keep_checkpoint_max` counts for the input as for the model."""
    assert training.live(train="estimator", keep_model=2).status == 0
    assert training.committed() == [30, 40]
