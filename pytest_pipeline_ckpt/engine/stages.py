"""Child side: the stages of a tf.data pipeline, from its source to its end, and what is in each. Imports TensorFlow.

A stage is one call of the user's: `Dataset.shuffle(...)` in one line of code, however many datasets TensorFlow makes
of it. Which call made a dataset is known only while it is made: `remember_calls` keeps it.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops, structured_function
from tensorflow.python.framework import op_def_registry, tensor_util
from tensorflow.python.util import nest

from .recorder import is_users, where

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .patches import Patches

_MADE_BY = "_preempt_made_by"
_RANDOM = re.compile(r"Random|Uniform|Normal|Multinomial|Gamma|Poisson|Binomial|BoundingBox|^Rng")
_VARIABLE = re.compile(r"Variable|^Assign|^Resource(Gather|Scatter)")
_PLUMBING = re.compile(
    r"(?<!Generator)Dataset(V\d+)?$|^(Anonymous|Dummy|Delete)|Iterator|Lookup|^Assert|PartitionedCall|While$"
)
"""Ops that are stateful by their definition, and whose state the pipeline does not depend on."""
_ORDERED = ("deterministic", "sloppy")
_VERSION = re.compile(r"_?[vV][12]$")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the user's that made datasets."""

    name: str
    """`Dataset.shuffle`, `TFRecordDataset`"""
    label: str
    """The user's line: `input.py:42, in make_dataset`."""
    unordered: bool
    """Whether it was told that the order need not be kept."""
    frame: FrameType
    """Of the framework's function, by which two calls of one line are told apart; held, so that it stays unique."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a pipeline."""

    call: Call
    dataset: Any
    """What the pipeline yields up to this stage."""
    parts: tuple[Any, ...]
    """The datasets that the call has made."""


def remember_calls(patches: Patches) -> None:
    """From now on each dataset knows the call that made it."""

    def remembering(original: Any) -> Any:
        def __init__(dataset: Any, variant_tensor: Any) -> None:  # noqa: N807 - it replaces one
            original(dataset, variant_tensor)
            setattr(dataset, _MADE_BY, _calling(sys._getframe(1)))

        return __init__

    patches.wrap(dataset_ops.DatasetV2, "__init__", remembering)


def _calling(frame: FrameType | None) -> Call | None:
    """The framework's function that the user's code has called, directly or through a decorator."""
    found: FrameType | None = None
    while frame is not None and not is_users(frame.f_code.co_filename):
        if frame.f_code.co_name not in _DECORATORS:
            found = frame
        frame = frame.f_back
    if frame is None or found is None:
        return None
    given = [found.f_locals.get(name) for name in _ORDERED]
    return Call(_name(found), where(frame)[1], given[0] is False or given[1] is True, found)


_DECORATORS = ("wrapper", "new_func", "error_handler", "binding_wrapper", "op_dispatch_handler")


def _name(frame: FrameType) -> str:
    code = frame.f_code
    if code.co_name == "__init__":
        return _VERSION.sub("", type(frame.f_locals["self"]).__name__)
    name = _VERSION.sub("", code.co_name)
    return f"Dataset.{name}" if code.co_filename == dataset_ops.__file__ else name


def stages_of(dataset: Any) -> list[Stage]:
    """The stages of a pipeline, each after those that it reads from. Options are none: they are about the whole."""
    found: dict[int, list[Any]] = {}
    calls: dict[int, Call] = {}
    for part in _upstream_first(dataset):
        call: Call | None = getattr(part, _MADE_BY, None)
        if call is None or isinstance(part, dataset_ops._OptionsDataset):
            continue
        found.setdefault(id(call.frame), []).append(part)
        calls[id(call.frame)] = call
    # A call may make datasets that stand beside its input (the counter of `enumerate`): its last one says where it is.
    order = {id(part): number for number, part in enumerate(_upstream_first(dataset))}
    made = sorted(found.items(), key=lambda item: order[id(item[1][-1])])
    return [Stage(calls[call], parts[-1], tuple(parts)) for call, parts in made]


def _upstream_first(dataset: Any) -> Iterator[Any]:
    """Every dataset of a pipeline once, its inputs before it."""
    seen: set[int] = set()
    pending = [(_unwrapped(dataset), False)]
    while pending:
        part, inputs_are_done = pending.pop()
        if inputs_are_done:
            yield part
        elif id(part) not in seen:
            seen.add(id(part))
            pending.append((part, True))
            pending += [(_unwrapped(each), False) for each in reversed(part._inputs())]


def _unwrapped(dataset: Any) -> Any:
    while isinstance(dataset, dataset_ops.DatasetV1Adapter):
        dataset = dataset._dataset
    return dataset


def facts(stage: Stage, options: Any) -> dict[str, Any]:
    """What can be said of a stage without running it; what JSON can hold.

    Returns:
        `name`, `label`; `source`: whether it reads from no other; `ops`: the kinds of stateful ops in its functions,
        each with the ops' names (`random`, `python`, `stateless python`, `generator`, `variable`, `other`);
        `unordered`: whether its order need not be kept; `buffer`: how many elements of its input it holds, None: none,
        or not known; `keeps`: `memory` or the path where it caches; `row`: the bytes of an element of its
        input, None: not known.
    """
    inputs = [each for part in stage.parts for each in part._inputs() if not any(each is own for own in stage.parts)]
    loose = options.deterministic is False and any("Parallel" in type(part).__name__ for part in stage.parts)
    return {
        "name": stage.call.name,
        "label": stage.call.label,
        "source": not inputs,
        "ops": _stateful_ops(stage),
        "unordered": stage.call.unordered or loose,
        "buffer": _held(stage, _cardinality(inputs[0]) if inputs else None),
        "keeps": _cache(stage),
        "row": element_bytes(inputs[0].element_spec) if inputs else None,
    }


def _stateful_ops(stage: Stage) -> dict[str, list[str]]:
    kinds: dict[str, set[str]] = {}
    for part in stage.parts:
        for value in list(vars(part).values()):
            if isinstance(value, structured_function.StructuredFunctionWrapper):
                for op in _ops_of(value.function.graph.as_graph_def()):
                    kind = _kind(op)
                    if kind is not None:
                        kinds.setdefault(kind, set()).add(op)
    return {kind: sorted(ops) for kind, ops in sorted(kinds.items())}


def _ops_of(graph: Any) -> set[str]:
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return {node.op for body in bodies for node in body}


def _kind(op: str) -> str | None:
    if op in ("PyFunc", "EagerPyFunc"):
        return "python"
    if op == "PyFuncStateless":
        return "stateless python"
    if op == "GeneratorDataset":
        return "generator"
    definition = op_def_registry.get(op)
    if definition is None or not definition.is_stateful or _PLUMBING.search(op):
        return None
    if _RANDOM.search(op):
        return "random"
    return "variable" if _VARIABLE.search(op) else "other"


def _held(stage: Stage, available: int | None) -> int | None:
    """Elements of its input that a shuffle, a prefetch or a cache in memory holds, and its checkpoint with it."""
    for part in stage.parts:
        if type(part).__name__ in ("_ShuffleDataset", "_PrefetchDataset"):
            size = tensor_util.constant_value(part._buffer_size)
            if size is not None and int(size) > 0:  # -1 is AUTOTUNE
                return int(size) if available is None else min(int(size), available)
    return available if _cache(stage) == "memory" else None


def _cardinality(dataset: Any) -> int | None:
    """How many elements a dataset has, where that is known without reading it."""
    number = tensor_util.constant_value(dataset.cardinality())
    return None if number is None or int(number) < 0 else int(number)


def _cache(stage: Stage) -> str | None:
    for part in stage.parts:
        if type(part).__name__ == "CacheDataset":
            path = tensor_util.constant_value(part._filename)
            name: bytes = path.item() if hasattr(path, "item") else path or b""  # bytes in eager code
            return name.decode() or "memory"
    return None


def element_bytes(spec: Any) -> int | None:
    """The bytes of an element of this spec, where all shapes and types are known."""
    total = 0
    for leaf in nest.flatten(spec):
        if (
            not isinstance(leaf, tf.TensorSpec)
            or not leaf.shape.is_fully_defined()
            or not leaf.dtype.is_numpy_compatible
        ):
            return None
        if leaf.dtype in (tf.string, tf.variant, tf.resource):
            return None
        total += leaf.dtype.size * math.prod(leaf.shape.as_list())
    return total


__all__ = ["Call", "Stage", "element_bytes", "facts", "remember_calls", "stages_of"]
