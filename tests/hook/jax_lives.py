"""Runs loops in JAX for the tests of `InputPipelineCheckpoint`: a fork server like `loop_lives.py`.

Jobs come by stdin, see `Job` and `forking.serve`. JAX is imported before the fork, and begins to run after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pipeline_ckpt
import pipeline_ckpt.orbax
import tensorflow as tf
from forking import serve
from orbax.checkpoint import v1

PER_PASS = 24


@dataclass(frozen=True, slots=True)
class Job:
    """One life."""

    model_dir: str
    log: str
    """Gets a line `step element` for each step."""
    result: str
    """Gets the outcome: what the model is at the end."""
    saved: str = "asynchronous"
    """Where model and data are saved: Orbax' `asynchronous` or `synchronous` manager, its `v1` API, `beside`: the model
    in NumPy's files, the data in a directory of its own, or `inside`: the same, the data in a `tf.train.Checkpoint`."""
    form: str = "numpy"
    """Of the elements: `numpy`, `device` (two are on their way), or `tensor`."""
    pipeline: str = "seeded"
    passes: int = 2
    save: int = 5
    save_model: int = 7
    """`beside`: how often the model is saved."""
    data: dict[str, Any] = field(default_factory=dict)
    """Keywords of `InputPipelineCheckpoint`."""
    kill: int = 0
    """After this step, before anything is saved."""
    signal: int = 9
    told: int = 0
    """Less than the step is told."""
    by_iterator: bool = False
    """One element is taken of the iterator itself, and the life ends."""
    prefetch: int = 2


def _ragged(number: Any) -> Any:
    return number, tf.RaggedTensor.from_row_lengths(tf.range(3), [1, 2]), tf.sparse.from_dense([number])


PIPELINES: dict[str, Any] = {
    "seeded": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, seed=3).map(lambda x: x * 3).prefetch(2),
    "batched": lambda: tf.data.Dataset.range(PER_PASS * 2).shuffle(48, seed=3).batch(2).map(lambda x: x[0]),
    "repeated": lambda: tf.data.Dataset.range(PER_PASS).shuffle(PER_PASS, seed=3).repeat(2),
    "plain": lambda: tf.data.Dataset.range(PER_PASS),
    "other": lambda: tf.data.Dataset.range(PER_PASS).map(lambda x: tf.cast(x, tf.float32)),
    "ragged": lambda: tf.data.Dataset.range(PER_PASS).map(_ragged),
}


class _Training:
    """Model, step, and the data."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.dataset = PIPELINES[job.pipeline]()
        self.state = {"weight": jnp.zeros((), jnp.float32), "step": jnp.zeros((), jnp.int32)}
        self._saving: Any = None
        self._log = os.open(job.log, os.O_WRONLY | os.O_APPEND)
        if job.saved in ("asynchronous", "synchronous"):
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=job.saved == "asynchronous"
            )
            self.manager: Any = ocp.CheckpointManager(job.model_dir, options=options)
        elif job.saved == "v1":
            self.manager = v1.training.Checkpointer(job.model_dir)

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def restore(self) -> None:
        """Brings back model and data."""
        if self.job.saved in ("beside", "inside"):
            models = sorted(Path(self.job.model_dir).glob("model-*.npz"), key=lambda path: int(path.stem[6:]))
            if models:
                self.state = {name: jnp.asarray(value) for name, value in np.load(models[-1]).items()}
            directory = [self.job.model_dir] if self.job.saved == "beside" else []
            keywords = {"save_steps": self.job.save, **self.job.data}
            step = self.state["step"] if self.job.form == "numpy" else self.step
            self.data = pipeline_ckpt.InputPipelineCheckpoint(self.dataset, step, *directory, **keywords)
            self.data.restore(*([] if directory else [self._data_manager()]))
            return
        self.data = pipeline_ckpt.InputPipelineCheckpoint(self.dataset, **self.job.data)
        if self.job.saved == "v1":
            if self.manager.latest is not None:
                wanted = {"state": self.state, "data": pipeline_ckpt.orbax.Stateful(self.data)}
                self.state = self.manager.load_checkpointables(None, wanted)["state"]
        elif self.manager.latest_step() is not None:
            restore, data = ocp.args.StandardRestore(self.state), pipeline_ckpt.orbax.Restore(self.data)
            args = ocp.args.Composite(state=restore, data=data)
            self.state = self.manager.restore(self.manager.latest_step(), args=args)["state"]
        self.data.restore()

    def _data_manager(self) -> Any:
        checkpoint = tf.train.Checkpoint(data=self.data)
        return tf.train.CheckpointManager(checkpoint, f"{self.job.model_dir}/data", max_to_keep=3)

    def elements(self) -> Any:
        """Of a pass."""
        if self.job.form == "device":
            return self.data.prefetch_to_device(self.job.prefetch)
        return self.data.as_numpy_iterator() if self.job.form == "numpy" else self.data

    def train(self, element: Any) -> None:
        """One step, and what a loop does after it."""
        element = int(jax.tree.leaves(element)[0])
        self.state = {"weight": self.state["weight"] * 1.01 + element, "step": self.state["step"] + 1}
        os.write(self._log, f"{self.step} {element}\n".encode())
        if self.step == self.job.kill:
            os.kill(os.getpid(), self.job.signal)
        if self.job.saved in ("beside", "inside"):
            if self.job.saved == "inside" and self.step % self.job.save == 0:
                self._save_model()
            self.data.after_step(self.step - self.job.told)
            if self.job.saved == "beside" and self.step % self.job.save_model == 0:
                self._save_model()
        elif self.step % self.job.save == 0:
            self._save()

    def _save(self) -> None:
        if self.job.saved == "v1":
            if self._saving is not None:
                self._saving.result()
            saved = {"state": self.state, "data": pipeline_ckpt.orbax.Stateful(self.data)}
            self._saving = self.manager.save_checkpointables_async(self.step, saved)
            return
        save, data = ocp.args.StandardSave(self.state), pipeline_ckpt.orbax.Save(self.data)
        self.manager.save(self.step, args=ocp.args.Composite(state=save, data=data))

    def _save_model(self) -> None:
        path = Path(self.job.model_dir, f"model-{self.step}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{path}.tmp", "wb") as file:
            np.savez(file, **self.state)
        os.replace(f"{path}.tmp", path)

    def close(self) -> None:
        """Waits for what is being written."""
        if self.job.saved == "v1":
            self.manager.close()
        elif self.job.saved not in ("beside", "inside"):
            self.manager.wait_until_finished()
        self.data.close()


def live(job: Job) -> dict[str, Any]:
    """Lives a job; what it says of itself when it ends."""
    training = _Training(job)
    training.restore()
    if job.by_iterator:
        return {"element": int(next(training.data.iterator))}
    while training.data.passes < job.passes:
        for element in training.elements():
            training.train(element)
    training.close()
    restored = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    return {"weight": float(training.state["weight"]), "passes": training.data.passes, "restored": restored}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(Job, live)
