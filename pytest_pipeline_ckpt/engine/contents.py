"""Child side: what a `tf.train.Checkpoint` or a Keras model holds: weights, integers, optimizers, iterators.

Imports TensorFlow; Keras' objects are known by what they can do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.checkpoint.trackable_view import TrackableView
from tensorflow.python.data.ops import iterator_ops
from tensorflow.python.distribute import input_lib

from .keras_on_jax import is_of_jax

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .evidence import Role

_ITERATORS = (iterator_ops.IteratorBase, iterator_ops.Iterator, input_lib.DistributedIteratorBase)
_OURS = "pipeline_ckpt"
"""The package that saves the state of iterators as objects of its own."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What something holds that can be saved."""

    weights: dict[int | str, str] = field(default_factory=dict)
    """Names of floating point variables by their keys; not those of optimizers and metrics."""
    scalars: tuple[tuple[str, Any], ...] = ()
    """Integer scalars by the names under which they are held, the shallowest first."""
    optimizers: tuple[Any, ...] = ()
    data: bool = False
    """Whether the position of an iterator is in it."""
    save_counter: Any = None

    @property
    def role(self) -> Role:
        """Whose an integer is that is saved with the rest."""
        if self.weights or self.optimizers:
            return "model"
        return "data" if self.data else "bare"


def raw(variable: Any) -> Any:
    """TensorFlow's variable behind one of Keras; that one itself where it has an array, another one at each step."""
    if is_of_jax(variable):
        return variable
    if isinstance(variable, tf.Variable) and not hasattr(variable, "_variable"):
        return variable
    for name in ("_value", "_variable"):  # Keras 3; Keras 2 with mixed precision
        inner = getattr(variable, name, None)
        if inner is not None:
            return inner
    return variable


def key_of(variable: Any) -> Any:
    """What identifies a variable for as long as the process lives: ids are given again, TensorFlow's are not."""
    variable = raw(variable)
    return getattr(variable, "_unique_id", None) or id(variable)


def is_optimizer(candidate: Any) -> bool:
    """Whether something is a Keras optimizer, or as good as one."""
    if not (hasattr(candidate, "apply_gradients") or hasattr(candidate, "apply")):
        return False
    return hasattr(candidate, "_iterations") or hasattr(type(candidate), "iterations")


def is_metric(candidate: Any) -> bool:
    """Whether something is a Keras metric."""
    return hasattr(candidate, "update_state") and hasattr(candidate, "result")


def is_variable(candidate: Any) -> bool:
    """Whether something is a variable of TensorFlow or Keras."""
    if isinstance(candidate, tf.Variable):
        return True
    module = type(candidate).__module__
    return module.startswith(("keras.", "tf_keras.")) and hasattr(candidate, "assign") and hasattr(candidate, "dtype")


def is_weight(variable: Any) -> bool:
    """Whether a variable may be trained: moving averages are, a learning rate or the best loss so far is not."""
    if not tf.as_dtype(variable.dtype).is_floating:
        return False
    return bool(getattr(variable, "trainable", True)) or len(variable.shape) > 0


def name_of(variable: Any) -> str:
    """For messages."""
    return str(getattr(variable, "path", None) or getattr(variable, "name", "a variable"))


def weights_of(variables: Iterable[Any]) -> dict[Any, str]:
    """The weights among some variables."""
    return {key_of(one): name_of(one) for one in variables if is_variable(one) and is_weight(one)}


def contents_of(checkpoint: Any) -> Contents:
    """What a Checkpoint holds; its objects are gone through as TensorFlow does when it saves."""
    weights: dict[Any, str] = {}
    scalars: list[tuple[str, Any]] = []
    optimizers: list[Any] = []
    data = False
    for name, child in _descendants(checkpoint):
        if isinstance(child, _ITERATORS) or type(child).__module__.startswith(_OURS):
            data = True
        elif is_variable(child):
            if is_weight(child):
                weights[key_of(child)] = name_of(child)
            elif tf.as_dtype(child.dtype).is_integer and len(child.shape) == 0 and name != "save_counter":
                scalars.append((name, child))
        elif is_optimizer(child):
            optimizers.append(child)
    counter = getattr(checkpoint, "_save_counter", None)
    return Contents(weights, tuple(scalars), tuple(optimizers), data, counter)


def _descendants(root: Any) -> Iterator[tuple[str, Any]]:
    """Everything below, breadth first; not what is in optimizers and metrics."""
    seen = {id(root)}
    pending = deque([root])
    held = []  # an id is another object's when its own has gone
    while pending:
        for name, child in TrackableView.children(pending.popleft()).items():
            if id(child) in seen:
                continue
            seen.add(id(child))
            held.append(child)
            yield name, child
            if not (is_variable(child) or is_optimizer(child) or is_metric(child)):
                pending.append(child)


__all__ = [
    "Contents",
    "contents_of",
    "is_metric",
    "is_optimizer",
    "is_variable",
    "is_weight",
    "key_of",
    "name_of",
    "raw",
    "weights_of",
]
