"""What the callback must know of Keras' inside, which differs between Keras 3 and the Keras 2 of TensorFlow 2.15."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from .errors import HookUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .running import RunningFit


@dataclass(frozen=True, slots=True)
class _Counters:
    """What the `fit` of Keras 2 asks for where it begins (`Model._maybe_load_initial_counters_from_ckpt`)."""

    epoch: int

    def maybe_load_initial_counters_from_ckpt(self, *_: Any, **__: Any) -> tuple[int, int]:
        """Epoch and step."""
        return self.epoch, 0


class _Epoch(int):
    """The number of an epoch that is true even if it is 0: Keras 3 says `self._initial_epoch or initial_epoch`."""

    def __bool__(self) -> bool:
        return True


class KerasModel:
    """A model in `fit`: its variables, and where `fit` begins.

    Args:
        model: it is compiled, and maybe not built.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._is_keras_3 = hasattr(model, "_symbolic_build")

    # Where `fit` begins.

    def begin_with(self, epoch: int) -> None:
        """Lets the `fit` that calls its `on_train_begin` just now begin with an epoch, whatever its caller says."""
        if self._is_keras_3:
            self._model._initial_epoch = _Epoch(epoch)
        else:
            self._model._training_state = _Counters(epoch)

    def has_begun(self) -> None:
        """Forgets what `begin_with` has said: the next `fit` begins where its caller says."""
        if self._is_keras_3:
            self._model._initial_epoch = None
        else:
            self._model._training_state = None

    # Variables.

    @property
    def has_built_optimizer(self) -> bool:
        """Whether the optimizer of `compile` has its variables: a `train_step` of the user's may use others."""
        optimizer = self._model.optimizer
        if not hasattr(optimizer, "build"):  # a legacy one of Keras 2 makes them at the first step
            return True
        return bool(getattr(optimizer, "built", getattr(optimizer, "_built", False)))

    def build_what_is_known(self, *, optimizer: bool) -> bool:
        """Builds the optimizer of a built model; whether model and optimizer are built now.

        Args:
            optimizer: whether it is used: what a checkpoint is read into must have what was saved, and nothing else.
        """
        model = self._model
        if not model.built or not _weights(model):
            return False
        if model.optimizer is None or not optimizer:
            return True
        if not hasattr(model.optimizer, "build"):
            return False
        if not self.has_built_optimizer:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        return True

    def build(self, function: Any, iterator: Any, *, optimizer: bool) -> None:
        """Builds model, optimizers and metrics for the elements of an iterator, without a step.

        Args:
            function: the model's train function.
            iterator: what it will be called with.
            optimizer: whether that of `compile` is used.

        Raises:
            HookUsageError: it runs eagerly, and cannot be traced.
        """
        inner = _traceable(function) if self._is_keras_3 else function
        if inner is not None:
            # As the first step would: a training step of the user's may have variables that Keras does not know.
            traced = inner if hasattr(inner, "get_concrete_function") else tf.function(inner)
            try:
                traced.get_concrete_function(iterator)
            except Exception as error:
                if traced is inner:
                    raise
                raise HookUsageError(
                    f"The training step of this model, which is compiled with run_eagerly=True, cannot be traced "
                    f"({str(error).strip().splitlines()[0]}), and a resume builds optimizer and metrics by that: "
                    "compile with run_eagerly=False."
                ) from error
        else:
            with self._model.distribute_strategy.scope():
                self._model._symbolic_build(data_batch=iterator.element_spec)
        self.build_what_is_known(optimizer=optimizer)

    def batches_at_once(self) -> int:
        """`steps_per_execution`."""
        if self._is_keras_3:
            return int(self._model.steps_per_execution)
        return int(self._model._steps_per_execution.numpy())  # a variable; a strategy's is no number itself

    def size(self) -> tuple[int, int]:
        """The number of the model's weights, and of the values in them."""
        shapes = [tf.TensorShape(weight.shape) for weight in self._model.weights]
        return len(shapes), sum(shape.num_elements() for shape in shapes)

    def model_only(self) -> dict[str, Any]:
        """The trackables of weights and optimizer: a model of Keras 3 has its seeds in no object-based checkpoint."""
        model = self._model
        found = {"model": model, "weights": list(_weights(model))}
        return found if model.optimizer is None else {**found, "optimizer": model.optimizer}

    def trackables(self) -> dict[str, Any]:
        """All trackables of a checkpoint: `model_only`, the epoch's metrics, and what each replica has of its own."""
        return {**self.model_only(), "metrics": self._metric_variables(), **self._replicas()}

    def restore_metrics(self, prefix: str) -> None:
        """Reads what `model_only` does not cover from a checkpoint."""
        self.restore(prefix, {"metrics": self._metric_variables()})
        replicas = self._replicas()
        saved = {name.partition("/")[0] for name, _ in tf.train.list_variables(prefix)}
        if replicas.keys() <= saved:  # else it was saved by another number of replicas
            self.restore(prefix, replicas)

    def _replicas(self) -> dict[str, Any]:
        """What each replica adds up for itself: from the sum of all it would not come back to the bit."""
        parts = [part for one in (*_weights(self._model), *self._metric_variables()) for part in _parts(one)]
        return {f"parts_of_{len(parts)}": parts} if parts else {}

    def restore(self, prefix: str, trackables: Mapping[str, Any]) -> None:
        """Reads trackables from a checkpoint.

        Raises:
            AssertionError: the checkpoint does not have all of them.
            ValueError: a shape differs.
        """
        tf.train.Checkpoint(**trackables).read(prefix).expect_partial().assert_existing_objects_matched()

    def metrics(self) -> list[Any]:
        """The values of the metrics' variables, in each replica."""
        return [part.numpy() for part in self._metric_parts()]

    def set_metrics(self, values: Sequence[Any]) -> None:
        """Brings the metrics back to what `metrics` has told."""
        for part, value in zip(self._metric_parts(), values, strict=True):
            part.assign(value)

    def _metric_parts(self) -> list[Any]:
        return [part for one in self._metric_variables() for part in _parts(one) or (one,)]

    def _metric_variables(self) -> list[Any]:
        return [variable for metric in self._model.metrics for variable in metric.variables]

    # The history.

    def history(self, *, before: int) -> tuple[list[int], dict[str, list[float]]]:
        """The epochs before one, and for each log its values in them; JSON."""
        history = getattr(self._model, "history", None)
        epochs = [int(epoch) for epoch in getattr(history, "epoch", None) or ()]
        count = sum(epoch < before for epoch in epochs)
        logs = {} if history is None else history.history
        return epochs[:count], {name: [float(value) for value in values[:count]] for name, values in logs.items()}

    def bring_history_back(self, epochs: Sequence[int], logs: Mapping[str, Sequence[float]], *, before: int) -> None:
        """Puts the epochs of earlier lives before those of this one; the one that is trained on is not among them."""
        history = self._model.history
        count = sum(epoch < before for epoch in epochs)
        history.epoch[:0] = epochs[:count]
        for name, values in logs.items():
            history.history.setdefault(name, [])[:0] = values[:count]


class Muted:
    """Lets `fit` call no other callback, as long as the batches that pass by are not trained on.

    Args:
        running: the `fit`; without a list of callbacks they are all called.
        heard: the callback that is called nevertheless.
    """

    def __init__(self, running: RunningFit, heard: Any) -> None:
        self._running = running
        self._heard = heard
        self._all: list[Any] | None = None

    def begin(self) -> None:
        """From the next batch on."""
        callbacks = self._running.callbacks
        if self._all is None and callbacks is not None:
            self._all, callbacks.callbacks = callbacks.callbacks, [self._heard]

    def end(self) -> None:
        """Until now."""
        callbacks = self._running.callbacks
        if self._all is not None and callbacks is not None:
            callbacks.callbacks = self._all
        self._all = None


def scalars(logs: Any) -> dict[str, float]:
    """The numbers in the logs of a batch; JSON."""
    return {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}


def _traceable(function: Any) -> Any:
    """The part of Keras 3's train function that a graph can be made of; None if there is none."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    return cells["multi_step_on_iterator"].cell_contents if "multi_step_on_iterator" in cells else None


def _parts(variable: Any) -> Sequence[Any]:
    """The variables of this process's replicas, where each has a value of its own."""
    inner = getattr(variable, "_value", variable)  # Keras 3 wraps TensorFlow's
    if getattr(inner, "synchronization", None) != tf.VariableSynchronization.ON_READ:
        return ()
    return tuple(getattr(inner, "values", ()))


def _weights(model: Any) -> Sequence[Any]:
    with contextlib.suppress(ValueError):  # Keras 2 says so of a model that is not built
        return list(model.variables)
    return []


__all__ = ["KerasModel", "Muted", "scalars"]
