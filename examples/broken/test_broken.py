"""Three trainings with real mistakes, and the verdict that each of them gets: what a failure looks like.

The kill is fixed by the marker: it lands when the training takes its 25th batch, so after 24 steps, and the newest
model checkpoint is that of step 20. A real test has neither the marker nor the `raises`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.fixtures import Preemption

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the first training process writes the data: one directory for all trials and all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    # A worker of xdist has its own base directory inside the common one.
    return str((base.parent if base.name.startswith("popen-") else base) / "digits-tfrecords")


def _training(module: str, data_dir: str) -> Callable[[str], None]:
    here = str(HERE)

    def train(model_dir: str) -> None:
        sys.path.insert(0, here)
        __import__(module).train(model_dir, data_dir=data_dir)

    return train


@pytest.mark.preempt(at="step:25")
def test_no_iterator(preemption: Preemption, data_dir: str) -> None:
    """An iterator that is in no checkpoint begins again with the first batch."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(_training("no_iterator", data_dir))
    assert caught.value.verdict.outcome is Outcome.RESTARTED


@pytest.mark.preempt(at="step:25")
def test_keras_backup(preemption: Preemption, data_dir: str) -> None:
    """Keras' BackupAndRestore brings back the weights, and begins the epoch's data again."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(_training("keras_backup", data_dir))
    assert caught.value.verdict.outcome is Outcome.RESTARTED


@pytest.mark.preempt(at="step:25")
def test_two_timers(preemption: Preemption, data_dir: str) -> None:
    """A model of step 20 with an input of step 15 trains five batches twice."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(_training("two_timers", data_dir))
    assert caught.value.verdict.outcome is Outcome.MISALIGNED
    assert "elements 15..19 were trained twice" in caught.value.verdict.reason
