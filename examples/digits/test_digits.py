"""The digits' trainings and their input pipeline, killed for real: `pytest --preempt-at=random examples/digits`.

None of the tested files knows of the plugin. TensorFlow is imported in the training processes only.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.fixtures import Preemption

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the first training process writes the data: one directory for all trials and all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    # A worker of xdist has its own base directory inside the common one.
    return str((base.parent if base.name.startswith("popen-") else base) / "digits-tfrecords")


def test_session(preemption: Preemption, data_dir: str) -> None:
    """MonitoredTrainingSession with the hook of pipeline-ckpt resumes exactly."""
    preemption.check_script(
        [str(HERE / "train_session.py"), "--model_dir={model_dir}", f"--data_dir={data_dir}"], compare_weights=True
    )


def test_saveable(preemption: Preemption, data_dir: str) -> None:
    """The input inside the model's checkpoint resumes exactly, and its validation is not taken for training."""
    preemption.check_script(
        [str(HERE / "train_saveable.py"), "--model_dir={model_dir}", f"--data_dir={data_dir}"], compare_weights=True
    )


def test_loop(preemption: Preemption, data_dir: str) -> None:
    """A custom loop with one checkpoint for model, step and iterator resumes exactly."""
    here = str(HERE)

    def train(model_dir: str) -> None:
        sys.path.insert(0, here)
        from train_loop import train

        train(model_dir, data_dir=data_dir)

    preemption.check_training(train, compare_weights=True)


@pytest.mark.preempt(trials=2)
def test_keras(preemption: Preemption, data_dir: str) -> None:
    """Keras fit with CheckpointInputPipeline resumes exactly, in the middle of an epoch."""
    preemption.check_script(
        [str(HERE / "train_keras.py"), "--model_dir={model_dir}", f"--data_dir={data_dir}"], compare_weights=True
    )


@pytest.mark.skipif(find_spec("orbax") is None, reason="the environment py311-jax has Orbax")
def test_jax(preemption: Preemption, data_dir: str) -> None:
    """A loop in JAX, with model and data in Orbax' asynchronous checkpoints, resumes exactly."""
    preemption.check_script(
        [str(HERE / "train_jax.py"), "--model_dir={model_dir}", f"--data_dir={data_dir}"], compare_weights=True
    )


@pytest.mark.preempt(workers=2, trials=2)
def test_multiworker(preemption: Preemption, data_dir: str) -> None:
    """Two workers that train one model together resume exactly, each in its own half of the data."""
    preemption.check_script([str(HERE / "train_multiworker.py"), "--model_dir={model_dir}", f"--data_dir={data_dir}"])


def test_input(preemption: Preemption, data_dir: str) -> None:
    """The input pipeline alone, over more than two epochs, resumes exactly from a checkpoint of its iterator."""
    here = str(HERE)

    def make_dataset() -> Any:
        sys.path.insert(0, here)
        from input import make_dataset

        return make_dataset(data_dir)

    preemption.check_dataset(make_dataset, steps=150, save_every=10)
