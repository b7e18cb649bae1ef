"""Child side: everything of TensorFlow and Keras that counts the model's steps, or may. Imports TensorFlow, not Keras.

A counter is the model's only if what holds it holds trained variables too: a Keras optimizer, an integer in a
`tf.train.Checkpoint` with weights. An integer that is saved with iterators only says where the *data* is. All are read
and written down (`evidence`), and the judging compares them; one of them is chosen for the ledger itself.

An optimizer is none before it has been applied, or shows that it was in an earlier life: GANs have one that `compile`
has made and nobody uses. It is read all the same from the beginning, and announced when it turns out to be one.
"""

from __future__ import annotations

import contextlib
import math
import re
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops.gen_resource_variable_ops import read_variable_op
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from . import keras_on_jax
from .contents import contents_of, is_optimizer, key_of, raw
from .evidence import Counter
from .model import UNKNOWN_STEP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contents import Contents
    from .evidence import EvidenceWriter, Role

STEP_NAMES = ("step", "global_step")
_RANKS: tuple[Role, ...] = ("model", "bare", "data")
_OWNERS: dict[Role, str] = {
    "model": "a tf.train.Checkpoint with the weights",
    "bare": "a tf.train.Checkpoint without weights",
    "data": "a tf.train.Checkpoint with iterators only",
}
_MOST_SCALARS = 16
_NUMBER = re.compile(r"(\d+)$")
_WRAPPERS = 4


@dataclass(frozen=True, slots=True)
class VariableStep:
    """The step is a variable."""

    variable: Any

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return id(self.variable)

    def value(self) -> int:
        """The step now; eager code only."""
        return read_eagerly(self.variable)

    def tensor(self) -> Any:
        """A read of the step in the graph that is being built, as an int64 scalar."""
        return tf.cast(tf.convert_to_tensor(self.variable), tf.int64)


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """The step is an optimizer's `iterations`, which it computes itself, or has not made yet."""

    optimizer: Any

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return id(self.optimizer)

    def value(self) -> int:
        """The step now; eager code only."""
        return read_eagerly(self.optimizer.iterations)

    def tensor(self) -> Any:
        """A read of the step in the graph that is being built, as an int64 scalar."""
        return tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64)


@dataclass(frozen=True, slots=True)
class JaxStep:
    """The step is a variable of Keras on its JAX backend."""

    variable: Any

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return id(self.variable)

    def value(self) -> int:
        """The step now."""
        return keras_on_jax.value_of(self.variable)

    def tensor(self) -> Any:
        """No graph of TensorFlow's trains such a model."""
        return tf.constant(UNKNOWN_STEP, tf.int64)


@dataclass(frozen=True, slots=True)
class ScaledStep:
    """The steps that an optimizer was asked for under loss scaling: those that it made, and those that were skipped.

    Each skipped one halves the scale. That good ones double it, after 2,000 of them unless the user says otherwise, is
    left out: the step is then less than it should be, and looks uneven.
    """

    made: VariableStep | OptimizerStep
    scale: Any
    initial: float

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return self.made.key

    def value(self) -> int:
        """The step now; eager code only."""
        return self.made.value() + max(0, round(math.log2(self.initial / float(_read(self.scale)))))

    def tensor(self) -> Any:
        """A read of the step in the graph that is being built, as an int64 scalar."""
        halved = tf.math.log(self.initial / tf.cast(tf.convert_to_tensor(self.scale), tf.float64)) / math.log(2)
        return self.made.tensor() + tf.maximum(tf.cast(tf.round(halved), tf.int64), 0)


StepSource = VariableStep | OptimizerStep | JaxStep | ScaledStep


def read_eagerly(variable: Any) -> int:
    """The value of an integer variable of TensorFlow or Keras, or of an eager tensor."""
    return int(_read(variable))


def _read(variable: Any) -> Any:
    if not isinstance(variable, BaseResourceVariable):
        variable = getattr(variable, "value", variable)  # Keras 3 has variables of its own
        variable = variable() if callable(variable) else variable  # those of a distribution strategy: on this replica
    if isinstance(variable, BaseResourceVariable):
        # `numpy()` runs two operations through the Python dispatcher; this is one, and half of the time.
        return read_variable_op(variable.handle, variable.dtype)._numpy()
    return variable.numpy() if hasattr(variable, "numpy") else variable


def innermost(optimizer: Any) -> Any:
    """The optimizer that counts: under loss scaling the inner one, whose steps are those that were not skipped."""
    for _ in range(_WRAPPERS):
        inner = getattr(optimizer, "inner_optimizer", None)
        if inner is None:
            break
        optimizer = inner
    return optimizer


def optimizer_step(optimizer: Any) -> StepSource | None:
    """What counts an optimizer's steps: its raw variable, which counts micro-batches when gradients are accumulated.

    None: it has not begun to count. The `iterations` of a legacy optimizer of Keras 2 makes the variable when it is
    read: that is the user's to do.
    """
    optimizer = innermost(optimizer)
    if not is_optimizer(optimizer):
        return None
    if hasattr(optimizer, "_iterations"):
        counts = optimizer._iterations
        if counts is None:
            return None
        return JaxStep(counts) if keras_on_jax.is_of_jax(counts) else VariableStep(counts)
    return OptimizerStep(optimizer) if hasattr(type(optimizer), "iterations") else None


def asked_step(optimizer: Any) -> StepSource | None:
    """What counts the steps that an optimizer is asked for; None: it has not begun to count."""
    made = optimizer_step(optimizer)
    scale = getattr(optimizer, "dynamic_scale", None)  # Keras 3, once it is built; Keras 2 counts what it skips
    initial = getattr(optimizer, "initial_scale", None)
    if scale is None or not initial or not isinstance(made, VariableStep | OptimizerStep):
        return made
    return ScaledStep(made, scale, float(initial))


@dataclass(frozen=False, slots=True)
class Found:
    """A counter, announced or not."""

    number: int
    source: StepSource
    base: str
    """Its name without the ordinal: `Adam.iterations`, `step`."""
    role: Role
    owner: str
    made: int
    """Grows in the order in which the variables were made: the same order in every life, as far as code allows."""
    optimizer: bool = False
    applied: bool = False
    group: int = 1
    """Micro-batches whose gradients are added up."""
    announced: Counter | None = None

    @property
    def counts(self) -> bool:
        """Whether it is known to be a counter."""
        return self.announced is not None or not self.optimizer or self.applied


class Counters:
    """Finds the counters of one life, announces and reads them."""

    def __init__(self, evidence: EvidenceWriter) -> None:
        self.version = 0
        """Changes whenever there may be another one, or another that is to be chosen."""
        self._evidence = evidence
        self._found: dict[int, Found] = {}
        self._checkpoints: list[weakref.ref[Any]] = []
        self._contents: dict[int, Contents] = {}
        self._applied: list[weakref.ref[Any]] = []
        self._models: list[weakref.ref[Any]] = []
        self._looked = -1

    # Noting.

    def constructed(self, checkpoint: Any) -> None:
        """A Checkpoint was made."""
        self._checkpoints.append(weakref.ref(checkpoint))
        self.version += 1

    def used(self, checkpoint: Any) -> Contents | None:
        """A Checkpoint saves or has restored: what it holds may have grown. Returns that, if it can be told."""
        if all(one() is not checkpoint for one in self._checkpoints):
            self._checkpoints.append(weakref.ref(checkpoint))
        self.version += 1
        return self._look_into(checkpoint)

    def weights(self) -> set[Any]:
        """Keys of the weights in all Checkpoints, as they were when these were looked at last."""
        return {key for held in list(self._contents.values()) for key in held.weights}

    def applied(self, optimizer: Any) -> bool:
        """An optimizer is applied; returns whether it is for the first time."""
        if self.is_applied(optimizer):
            return False
        self._applied.append(weakref.ref(optimizer))
        self.version += 1
        return True

    def model(self, model: Any) -> None:
        """A Keras model was compiled, trained or restored."""
        if all(one() is not model for one in self._models):
            self._models.append(weakref.ref(model))
        self.version += 1

    @property
    def applications(self) -> int:
        """How many optimizers have been applied."""
        return len(self._applied)

    def is_applied(self, optimizer: Any) -> bool:
        """Whether an optimizer has been applied; None has not."""
        optimizer = innermost(optimizer)
        return optimizer is not None and any(innermost(one()) is optimizer for one in self._applied)

    # Reading.

    @property
    def several(self) -> bool:
        """Whether more than one is known."""
        return sum(found.announced is not None for found in self._found.values()) > 1

    @property
    def grown(self) -> bool:
        """Whether there may be another one since all were read last."""
        return self._looked != self.version

    def values(self) -> dict[int, int]:
        """The values of all that can be read now; eager code only."""
        if not context.executing_eagerly():
            return {}
        self._look()
        values = {}
        grown = False
        for found in self._found.values():
            try:
                values[found.number] = value = found.source.value()
            except Exception:  # not initialised, deleted, in a graph: it is absent
                continue
            grown = grown or (found.announced is None and (found.counts or value > 0))
            found.applied = found.applied or value > 0
        if grown:
            self._announce()
        return values

    def of_checkpoint(self, checkpoint: Any) -> tuple[StepSource | None, Role]:
        """The step in what a Checkpoint holds, and whose it is."""
        held = self._contents.get(id(checkpoint)) or self._look_into(checkpoint)
        if held is None:
            return None, "bare"
        named = [variable for name, variable in held.scalars if name in STEP_NAMES]
        if named:
            return VariableStep(named[0]), self._role(named[0], held.role)
        found = [optimizer for optimizer in held.optimizers if optimizer_step(optimizer) is not None]
        found.sort(key=lambda optimizer: not self.is_applied(optimizer))
        if found:
            return asked_step(found[0]), "model"
        if len(held.scalars) == 1:
            return VariableStep(held.scalars[0][1]), self._role(held.scalars[0][1], held.role)
        return None, held.role

    def last_applied(self) -> StepSource | None:
        """The step of the optimizer that was the last to be applied for the first time."""
        for reference in reversed(self._applied):
            optimizer = reference()
            found = None if optimizer is None else asked_step(optimizer)
            if found is not None:
                return found
        return None

    # Finding.

    def _look_into(self, checkpoint: Any) -> Contents | None:
        try:
            held = contents_of(checkpoint)
        except Exception:  # an object that cannot be saved says so at the save, not here
            return None
        self._contents[id(checkpoint)] = held
        weakref.finalize(checkpoint, self._contents.pop, id(checkpoint), None).atexit = False
        return held

    def _look(self) -> None:
        """Brings the list of counters up to date."""
        if self._looked == self.version:
            return
        self._looked = self.version
        for checkpoint in _alive(self._checkpoints):
            held = self._contents.get(id(checkpoint)) or self._look_into(checkpoint)
            if held is not None:
                self._take_in(held)
        for model in _alive(self._models):
            if getattr(model, "optimizer", None) is not None:
                self._optimizer(model.optimizer, f"the optimizer of {type(model).__name__}")
        for optimizer in _alive(self._applied):
            self._optimizer(optimizer, f"the optimizer {type(optimizer).__name__}")

    def _take_in(self, held: Contents) -> None:
        for optimizer in held.optimizers:
            self._optimizer(optimizer, f"the optimizer {type(innermost(optimizer)).__name__} of a tf.train.Checkpoint")
        for name, variable in held.scalars[:_MOST_SCALARS]:
            self._scalar(name, variable, held.role, _OWNERS[held.role])
        if held.save_counter is not None:
            self._scalar("save_counter", held.save_counter, "data", "the number of saves of a tf.train.Checkpoint")

    def _optimizer(self, optimizer: Any, owner: str) -> None:
        source = optimizer_step(optimizer)
        if source is None:
            return
        base = f"{type(innermost(optimizer)).__name__}.iterations"
        found = self._add(source, base, "model", owner, optimizer=True)
        found.applied = found.applied or self.is_applied(optimizer)
        found.group = int(getattr(innermost(optimizer), "gradient_accumulation_steps", None) or 1)

    def _scalar(self, name: str, variable: Any, role: Role, owner: str) -> None:
        source = VariableStep(variable)
        found = self._add(source, name, role, owner)
        if _RANKS.index(role) < _RANKS.index(found.role):
            found.role, found.owner = role, owner
            if found.announced is not None:
                self._announce()

    def _role(self, variable: Any, role: Role) -> Role:
        found = self._found.get(key_of(variable))
        return role if found is None or _RANKS.index(role) < _RANKS.index(found.role) else found.role

    def _add(self, source: StepSource, base: str, role: Role, owner: str, *, optimizer: bool = False) -> Found:
        key = key_of(source.variable) if isinstance(source, VariableStep) else source.key
        found = self._found.get(key)
        if found is None:
            number = self._evidence.number()
            made = _made(source.variable) if isinstance(source, VariableStep) else number
            found = self._found[key] = Found(number, source, base, role, owner, made, optimizer=optimizer)
        return found

    def _announce(self) -> None:
        """Announces those that are new, and those whose name or role has changed: an ordinal is in order of making."""
        ordinals: dict[str, int] = {}
        for found in sorted(self._found.values(), key=lambda found: (found.made, found.number)):
            if not found.counts:
                continue
            ordinal = ordinals[found.base] = ordinals.get(found.base, 0) + 1
            name = found.base if ordinal == 1 else f"{found.base}#{ordinal}"
            counter = Counter(name, found.role, found.owner, found.group)
            if counter != found.announced:
                found.announced = counter
                self._evidence.counter(counter, number=found.number)


def _alive(references: list[weakref.ref[Any]]) -> Iterator[Any]:
    for reference in references:
        alive = reference()
        if alive is not None:
            yield alive


def _made(variable: Any) -> int:
    """The number that TensorFlow has given to a variable when it was made."""
    with contextlib.suppress(Exception):
        inner = raw(variable)
        inner = getattr(inner, "_values", [inner])[0]
        number = _NUMBER.search(inner._unique_id)
        return int(number.group(1)) if number else 0
    return 0


__all__ = [
    "STEP_NAMES",
    "Counters",
    "Found",
    "JaxStep",
    "OptimizerStep",
    "ScaledStep",
    "StepSource",
    "VariableStep",
    "asked_step",
    "innermost",
    "optimizer_step",
    "read_eagerly",
]
