"""Runs lives of Keras trainings for the tests of the callback: a fork server that has imported Keras and run no op.

Jobs come by stdin, see `Job` and `forking.serve`. What is trained is in `fit_models.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from dataclasses import dataclass, field, replace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pipeline_ckpt
import pipeline_ckpt.keras
import tensorflow as tf
from fit_models import DATA, MODELS, OPTIMIZERS, Seen, pair
from forking import serve

keras: Any = tf.keras
EPOCHS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One life."""

    model_dir: str
    log: str
    """Gets a line for each call that Keras makes of a callback, so before any save after it."""
    result: str
    """Gets the outcome as JSON: the error that ended the life, or the weights, the history and more."""
    model: str = "plain"
    data: str = "seeded"
    epochs: int = EPOCHS
    compile: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "adam"
    fit: dict[str, Any] = field(default_factory=dict)
    """Keywords of `fit`."""
    validation: bool = False
    callback: dict[str, Any] | None = field(default_factory=dict)
    """Keywords of ours besides the directory; None: `fit` without it."""
    others: list[str] = field(default_factory=list)
    """Other callbacks, before ours."""
    event: str = ""
    """`kill:batch:N` (SIGKILL after N batches of this life, before a save of it), `kill:saved:N` (after it),
    `kill:val:N`, `term:batch:N`, `touch:batch:N`, ...: what, at the N-th call of which kind."""
    notices: str = ""
    """`file` or `url:PORT` besides the signal."""
    scenario: str = "fit"
    mutate: str = ""
    """A change of the code since the life before."""


def _data(name: str) -> tuple[Any, ...]:
    made = DATA[name]()
    return made if isinstance(made, tuple) else (made,)


def _model(job: Job) -> Any:
    keras.utils.set_random_seed(1)
    model = MODELS[job.model]()
    loss: Any = "mse"
    metrics: Any = ["mae"]
    if job.data == "labels":
        loss, metrics = keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    if job.data.endswith("ids"):
        metrics = [Seen()]
    if job.model == "two optimizers":
        loss, metrics = None, None
    model.compile(OPTIMIZERS[job.optimizer](), loss, metrics=metrics, **job.compile)
    return model


# What happens to it.


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """Writes down each call of Keras, with the logs as they are, to the last bit."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._epoch = 0

    def _write(self, *words: Any, logs: Any = None) -> None:
        exact = {name: float(value).hex() for name, value in (logs or {}).items() if not name.startswith("_")}
        os.write(self._log, f"{json.dumps([*words, exact])}\n".encode())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._write("epoch begin", epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._write("batch begin", self._epoch, int(batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._write("batch", self._epoch, int(batch), logs=logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._write("epoch end", epoch, logs=logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._write("validation", self._epoch, int(batch), logs=logs)


class Event(keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """Does something at the N-th call of a kind."""

    def __init__(self, job: Job, *, behind: bool) -> None:
        super().__init__()
        self._job = job
        what, self._where, number = job.event.split(":") if job.event else ("", "", "0")
        self._what, self._left = what, int(number)
        self._behind = behind

    def _came(self, where: str) -> None:
        if where == self._where:
            self._left -= 1
            if self._left == 0:
                EVENTS[self._what](self._job)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._came("begin")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._came("saved" if self._behind else "batch")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._behind:
            self._came("val")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._behind:
            self._came("epoch")


def _in_a_save(job: Job) -> None:
    """The signal comes while the next save is about to put its files in place."""
    rename = tf.io.gfile.rename

    def call(*args: Any, **kwargs: Any) -> None:
        tf.io.gfile.rename = rename
        os.kill(os.getpid(), signal.SIGTERM)
        rename(*args, **kwargs)

    tf.io.gfile.rename = call


def _fail(_: Job) -> None:
    raise RuntimeError("an accident")


def _twice(_: Job) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


EVENTS: dict[str, Any] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "twice": _twice,
    "touch": lambda job: open(f"{job.result}.notice", "w").close(),
    "fail": _fail,
    "term in a save": _in_a_save,
}


def _own(job: Job, directory: str) -> list[Any]:
    if job.callback is None:
        return []
    keywords = {"save_steps": 3, **job.callback}
    notices: list[Any] = [signal.SIGTERM]
    if job.notices == "file":
        notices = [pipeline_ckpt.FileNotice(f"{job.result}.notice")]
    elif job.notices.startswith("url:"):
        notices = [pipeline_ckpt.UrlNotice(job.notices[4:], every=0.05)]
    return [pipeline_ckpt.keras.CheckpointInputPipeline(directory, notices=notices, **keywords)]


class Asking(keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """A step goes on until a thread that asks has had its answer."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for thread in threading.enumerate():
            if thread.name == "pipeline_ckpt_notice":
                thread.join(20)


def _others(job: Job) -> list[Any]:
    checkpoint = f"{job.result}.best.weights.h5"
    made: dict[str, Any] = {
        "early": lambda: keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1),
        "scheduler": lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        "plateau": lambda: keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, min_delta=100, patience=0, min_lr=0),
        "checkpoint": lambda: keras.callbacks.ModelCheckpoint(checkpoint, save_weights_only=True, save_freq=2),
        "asking": Asking,
    }
    return [made[name]() for name in job.others]


def _validation() -> Any:
    return tf.data.Dataset.range(100, 106).map(pair).batch(2)


def _fit(job: Job, model: Any, directory: str) -> Any:
    callbacks = [
        Recorder(job.log),
        *_others(job),
        Event(job, behind=False),
        *_own(job, directory),
        Event(job, behind=True),
    ]
    keywords = dict(job.fit)
    if "class_weight" in keywords:
        keywords["class_weight"] = {int(name): value for name, value in keywords["class_weight"].items()}
    if job.validation:
        keywords["validation_data"] = _validation()
    return model.fit(*_data(job.data), epochs=job.epochs, verbose=0, callbacks=callbacks, **keywords)


def _digest(model: Any) -> str:
    values = [np.asarray(one) for one in model.get_weights()]
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    for one in (optimizer, inner):
        if one is not None:
            variables = one.variables() if callable(one.variables) else one.variables
            values += [np.asarray(variable) for variable in variables]
    return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()[:16]


def _outcome(model: Any, history: Any) -> dict[str, Any]:
    return {
        "weights": _digest(model),
        "epochs": list(history.epoch),
        "history": {name: [float(value).hex() for value in values] for name, values in history.history.items()},
    }


# Scenarios: what the code around `fit` is.


def fit_once(job: Job) -> dict[str, Any]:
    """One `fit`."""
    model = _model(job)
    return _outcome(model, _fit(job, model, job.model_dir))


def fit_twice(job: Job) -> dict[str, Any]:
    """Two `fit`s of one model, each with its own directory."""
    model = _model(job)
    first = _fit(job, model, f"{job.model_dir}/1")
    second = _fit(job, model, f"{job.model_dir}/2")
    return {**_outcome(model, second), "first": _outcome(model, first)["history"]}


def fit_in_a_loop(job: Job) -> dict[str, Any]:
    """Three `fit`s of an epoch each, with one directory, and a new callback each."""
    model = _model(job)
    histories = [_fit(replace(job, epochs=1), model, job.model_dir) for _ in range(3)]
    losses = [float(value).hex() for history in histories for value in history.history.get("loss", ())]
    return {"weights": _digest(model), "losses": losses}


def fit_in_a_thread(job: Job) -> dict[str, Any]:
    """`fit` in another thread than the main one."""
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(fit_once(job)))
    thread.start()
    thread.join()
    return outcome


def term_after_fit(job: Job) -> dict[str, Any]:
    """A SIGTERM after `fit` has returned."""
    fit_once(job)
    os.kill(os.getpid(), signal.SIGTERM)
    return {"survived": "a SIGTERM after fit"}


def term_after_failure(job: Job) -> dict[str, Any]:
    """A SIGTERM after `fit` has raised an error that somebody keeps."""
    kept = []
    model = _model(job)
    try:
        _fit(job, model, job.model_dir)
    except RuntimeError as error:
        kept.append(error)
    os.kill(os.getpid(), signal.SIGTERM)
    return {"survived": f"a SIGTERM after {kept}"}


def fit_after_failure(job: Job) -> dict[str, Any]:
    """`fit` again, with and without the callback, after it has raised an error."""
    kept = []
    model = _model(job)
    try:
        _fit(job, model, job.model_dir)
    except RuntimeError as error:
        kept.append(error)
    job = replace(job, event="")
    if job.mutate == "without":
        _fit(replace(job, callback=None, epochs=1), model, job.model_dir)
    return _outcome(model, _fit(job, model, job.model_dir))


def handler_of_the_user(job: Job) -> dict[str, Any]:
    """The user has a handler of SIGTERM, which notes that the checkpoint is there."""

    def handler(number: int, frame: Any) -> None:
        with open(job.log, "a") as log:
            log.write(json.dumps(["handler", sorted(os.listdir(job.model_dir)), {}]) + "\n")

    signal.signal(signal.SIGTERM, handler)
    return fit_once(job)


def ignored(job: Job) -> dict[str, Any]:
    """The user ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return fit_once(job)


def construct(job: Job) -> dict[str, Any]:
    """Makes a callback only."""
    _own(job, job.model_dir)
    return {}


SCENARIOS: dict[str, Any] = {
    "fit": fit_once,
    "twice": fit_twice,
    "loop": fit_in_a_loop,
    "thread": fit_in_a_thread,
    "term after": term_after_fit,
    "term after failure": term_after_failure,
    "again after failure": fit_after_failure,
    "handler": handler_of_the_user,
    "ignored": ignored,
    "construct": construct,
}


if __name__ == "__main__":
    serve(Job, lambda job: SCENARIOS[job.scenario](job))
