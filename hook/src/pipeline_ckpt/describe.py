"""What can be told of an input pipeline from its v1 graph: its elements, its fingerprint, what it cannot repeat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_UNSTABLE = frozenset(("_class", "_output_shapes", "experimental_debug_info", "metadata", "shared_name", "token"))
"""Attributes that differ between two processes that build the same pipeline, or say nothing of it."""
_SEEDED_DATASETS = ("ShuffleDataset", "ShuffleAndRepeatDataset", "RandomDataset", "SamplingDataset")


@dataclass(frozen=True, slots=True)
class Signature:
    """By what two pipelines are told apart."""

    elements: tuple[str, ...]
    """For each iterator the dtypes and shapes of its components: `int64(?, 3), string()`."""
    fingerprint: str
    """Of the datasets' graphs: their ops, constants and functions."""


class PipelineGraph:
    """The datasets behind some iterators of a v1 graph.

    Args:
        resources: the iterators' resource tensors.
    """

    def __init__(self, resources: Iterable[Any]) -> None:
        self._resources = list(resources)
        self._graph = self._resources[0].graph

    @property
    def signature(self) -> Signature:
        """By what another pipeline is recognised."""
        digests = self._digests
        of_iterators = [[digests[op.inputs[0].op.name] for op in initializers(one)] for one in self._resources]
        return Signature(tuple(_elements(one) for one in self._resources), _digest(of_iterators))

    @cached_property
    def unreproducible(self) -> tuple[str, ...]:
        """The ops that yield something else, or in another order, each time the pipeline starts from its beginning."""
        nodes = {op.name: op.node_def for op in self._ops}
        found = list(_unreproducible(nodes))
        for function in self._functions.values():
            found += _unreproducible({node.name: node for node in function.node_def})
        return tuple(dict.fromkeys(found))

    @cached_property
    def reshuffles(self) -> bool:
        """Whether there is an unseeded shuffle whose next epoch TensorFlow draws anew after a restore."""
        repeats = any(op.type.startswith(("RepeatDataset", "ShuffleAndRepeatDataset")) for op in self._ops)
        return repeats and any("Shuffle" in name for name in self.unreproducible)

    @cached_property
    def _ops(self) -> list[Any]:
        """Everything that the datasets are made of, inputs first."""
        pending = [op.inputs[0].op for resource in self._resources for op in initializers(resource)]
        seen = set()
        while pending:
            op = pending.pop()
            if op.name not in seen:
                seen.add(op.name)
                pending.extend(tensor.op for tensor in op.inputs)
        return [op for op in self._graph.get_operations() if op.name in seen]

    @cached_property
    def _functions(self) -> dict[str, Any]:
        """The functions that the datasets call, directly or not, by name."""
        library = {one.signature.name: one for one in self._graph.as_graph_def().library.function}
        pending = [name for op in self._ops for name in _called(op.node_def)]
        found: dict[str, Any] = {}
        while pending:
            name = pending.pop()
            if name in library and name not in found:
                found[name] = library[name]
                pending.extend(called for node in library[name].node_def for called in _called(node))
        return found

    @cached_property
    def _digests(self) -> dict[str, str]:
        functions: dict[str, str] = {}
        digests: dict[str, str] = {}
        for op in self._ops:
            inputs = [digests.get(tensor.op.name, "") for tensor in op.inputs]
            digests[op.name] = _digest([op.type, self._attributes(op.node_def, functions), inputs])
        return digests

    def _attributes(self, node: Any, functions: dict[str, str]) -> list[Any]:
        attributes = []
        for name in sorted(set(node.attr) - _UNSTABLE):
            value = node.attr[name]
            called = list(_names(value))
            # The names of functions count up in a process: their contents stand for them.
            known = [self._function(one, functions) for one in called]
            attributes.append([name, known or value.SerializeToString(deterministic=True).hex()])
        return attributes

    def _function(self, name: str, functions: dict[str, str]) -> str:
        if name not in functions:
            functions[name] = ""  # a function that calls itself
            body = self._functions[name].node_def if name in self._functions else ()
            nodes = [[node.op, list(node.input), self._attributes(node, functions)] for node in body]
            functions[name] = _digest(nodes)
        return functions[name]


def initializers(resource: Any) -> list[Any]:
    """The ops that give an iterator its dataset."""
    return [op for op in resource.consumers() if op.type == "MakeIterator"]


def _elements(resource: Any) -> str:
    types, shapes = (resource.op.get_attr(name) for name in ("output_types", "output_shapes"))
    shown = []
    for dtype, shape in zip(types, shapes, strict=True):
        known = tf.TensorShape(shape)
        sizes = "..." if known.rank is None else ", ".join("?" if n is None else str(n) for n in known.as_list())
        shown.append(f"{tf.as_dtype(dtype).name}({sizes})")
    return ", ".join(shown)


def _digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield from _names(value)


def _names(value: Any) -> Iterator[str]:
    """The functions in an attribute."""
    if value.HasField("func"):
        yield value.func.name
    for function in value.list.func:
        yield function.name


def _unreproducible(nodes: Mapping[str, Any]) -> Iterator[str]:
    for node in nodes.values():
        attributes = node.attr
        seeds = [attributes[name].i for name in ("seed", "seed2") if name in attributes]
        by_input = node.op.startswith(_SEEDED_DATASETS) and _has_no_seed(node, nodes)
        if seeds == [0, 0] or by_input:
            yield f"{node.op} without a seed"
        elif _says(attributes, "deterministic", "s", b"false") or _says(attributes, "sloppy", "b", True):
            yield f"{node.op} with deterministic=False"
        elif node.op == "OptionsDataset":
            options = dataset_options_pb2.Options.FromString(attributes["serialized_options"].s)
            if options.WhichOneof("optional_deterministic") and not options.deterministic:
                yield "Options.deterministic=False"


def _says(attributes: Any, name: str, kind: str, value: object) -> bool:
    return name in attributes and getattr(attributes[name], kind) == value  # looking it up alone would add it


def _has_no_seed(node: Any, nodes: Mapping[str, Any]) -> bool:
    """Whether the two seeds of a dataset op are constants of 0, by which TensorFlow means: draw one."""
    inputs = [nodes.get(name.lstrip("^").split(":")[0]) for name in node.input]
    constants = [one for one in inputs if one is not None and one.op == "Const"]
    # The buffer's size comes before the seeds, and is never 0; the count of a repeat comes behind them.
    zeros = [one for one in constants if tf.make_ndarray(one.attr["value"].tensor).tolist() == 0]
    return len(zeros) >= 2
