"""What can be told of an input pipeline from its graph: its elements, its fingerprint, what it cannot repeat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2

from .draws import REPEATS, Draws, has_no_seed, inputs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_UNSTABLE = frozenset(("_class", "_output_shapes", "experimental_debug_info", "metadata", "shared_name", "token"))
"""Attributes that differ between two processes that build the same pipeline, or say nothing of it."""
_SEEDED_DATASETS = ("ShuffleDataset", "ShuffleAndRepeatDataset", "RandomDataset", "SamplingDataset")


@dataclass(frozen=True, slots=True)
class Signature:
    """By what two pipelines are told apart."""

    elements: tuple[str, ...]
    """For each iterator the dtypes and shapes of its components: `int64(?, 3), string()`."""
    fingerprint: str
    """Of the datasets' graphs: their ops, constants and functions; empty where they cannot be looked into."""


class PipelineGraph:
    """The datasets behind some iterators.

    Args:
        nodes: what the datasets are made of, and maybe more, inputs first.
        library: the functions that they may call, by name.
        roots: for each iterator the names of the nodes that yield its datasets.
        elements: for each iterator the dtypes and shapes of its components.
        unknown: why the datasets cannot be looked into, so that nothing may be promised of them; empty if they can.
    """

    def __init__(
        self,
        nodes: Mapping[str, Any],
        library: Mapping[str, Any],
        *,
        roots: Sequence[Sequence[str]],
        elements: tuple[str, ...],
        unknown: str = "",
    ) -> None:
        self._unknown = unknown
        self._library = library
        self._roots = roots
        self._elements = elements
        needed = _closure(nodes, [name for names in roots for name in names])
        self._nodes = {name: node for name, node in nodes.items() if name in needed}
        self.draws = Draws(self._nodes)

    @classmethod
    def of_resources(cls, resources: Sequence[Any]) -> PipelineGraph:
        """Of the iterators of a v1 graph, given by their resource tensors."""
        graph = resources[0].graph
        library = {one.signature.name: one for one in graph.as_graph_def().library.function}
        nodes = {op.name: op.node_def for op in graph.get_operations()}
        roots = [[op.inputs[0].op.name for op in initializers(one)] for one in resources]
        return cls(nodes, library, roots=roots, elements=tuple(_elements(one.op) for one in resources))

    @classmethod
    def of_datasets(cls, datasets: Sequence[Any], elements: tuple[str, ...]) -> PipelineGraph:
        """Of datasets of eager code."""
        nodes: dict[str, Any] = {}
        library: dict[str, Any] = {}
        roots = []
        for number, dataset in enumerate(datasets):
            graph = _serialised(dataset)
            library |= {one.signature.name: one for one in graph.library.function}
            for node in graph.node:
                node.name = f"{number}/{node.name}"
                node.input[:] = [f"{number}/{name}" for name in inputs(node)]
                nodes[node.name] = node
            roots.append([name for node in graph.node if node.op == "_Retval" for name in node.input])
        return cls(nodes, library, roots=roots, elements=elements)

    @property
    def signature(self) -> Signature:
        """By what another pipeline is recognised."""
        if self._unknown:
            return Signature(self._elements, "")
        digests = self._digests
        return Signature(self._elements, _digest([[digests[name] for name in names] for names in self._roots]))

    @cached_property
    def unreproducible(self) -> tuple[str, ...]:
        """The ops that yield something else, or in another order, each time the pipeline starts from its beginning."""
        found = [self._unknown] if self._unknown else list(_unreproducible(self._nodes))
        for function in self._functions.values():
            found += _unreproducible({node.name: node for node in function.node_def})
        return tuple(dict.fromkeys(found))

    def has_op(self, names: Collection[str]) -> str:
        """The first of these ops in the datasets or in the functions that they call; empty for none."""
        functions = [node for function in self._functions.values() for node in function.node_def]
        return next((node.op for node in (*self._nodes.values(), *functions) if node.op in names), "")

    @property
    def reshuffles(self) -> bool:
        """Whether there is an unseeded shuffle whose next epoch TensorFlow draws anew after a restore."""
        repeats = any(node.op.startswith(REPEATS) for node in self._nodes.values())
        return repeats and any("Shuffle" in name for name in self.unreproducible)

    @property
    def unknown(self) -> str:
        """Why the datasets cannot be looked into; empty if they can."""
        return self._unknown

    @cached_property
    def _functions(self) -> dict[str, Any]:
        """The functions that the datasets call, directly or not, by name."""
        pending = [name for node in self._nodes.values() for name in _called(node)]
        found: dict[str, Any] = {}
        while pending:
            name = pending.pop()
            if name in self._library and name not in found:
                found[name] = self._library[name]
                pending.extend(called for node in found[name].node_def for called in _called(node))
        return found

    @cached_property
    def _digests(self) -> dict[str, str]:
        functions: dict[str, str] = {}
        digests: dict[str, str] = {}
        for node in self._nodes.values():
            below = [digests.get(name, "") for name in inputs(node)]
            digests[node.name] = _digest([node.op, self._attributes(node, functions), below])
        return digests

    def _attributes(self, node: Any, functions: dict[str, str]) -> list[Any]:
        attributes = []
        # A constant resource is a handle, which names something of this process.
        unstable = _UNSTABLE | {"value"} if node.attr["dtype"].type == tf.resource.as_datatype_enum else _UNSTABLE
        for name in sorted(set(node.attr) - unstable):
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


def _serialised(dataset: Any) -> Any:
    # The policy is about what the dataset holds; it is looked at here, and not saved.
    ignore = 1
    graph = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset._variant_tensor, external_state_policy=ignore, strip_device_assignment=True
    )
    return tf.compat.v1.GraphDef.FromString(graph.numpy())


def _closure(nodes: Mapping[str, Any], roots: Sequence[str]) -> set[str]:
    """The names of everything that the roots are made of."""
    pending, seen = list(roots), set()
    while pending:
        name = pending.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            pending.extend(inputs(nodes[name]))
    return seen


def initializers(resource: Any) -> list[Any]:
    """The ops that give an iterator its dataset."""
    return [op for op in resource.consumers() if op.type == "MakeIterator"]


def element_words(dataset: Any) -> str:
    """The dtypes and shapes of the components of a dataset's or iterator's elements: `int64(?, 3), string()`."""
    specs = tf.nest.flatten(dataset.element_spec, expand_composites=True)
    known = [spec for spec in specs if hasattr(spec, "dtype")]  # a window's datasets have none
    return _components([spec.dtype for spec in known], [spec.shape for spec in known])


def _elements(op: Any) -> str:
    types, shapes = (op.get_attr(name) for name in ("output_types", "output_shapes"))
    return _components(types, shapes)


def _components(types: Sequence[Any], shapes: Sequence[Any]) -> str:
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
        by_input = node.op.startswith(_SEEDED_DATASETS) and has_no_seed(node, nodes)
        if seeds == [0, 0] or by_input:
            yield f"{node.op} without a seed"
        elif _says(attributes, "deterministic", "s", b"false") or _says(attributes, "sloppy", "b", True):
            yield f"{node.op} with deterministic=False"
        elif node.op.startswith("DataServiceDataset"):
            yield f"{node.op}, whose elements come as its workers have made them"
        elif node.op == "OptionsDataset":
            options = dataset_options_pb2.Options.FromString(attributes["serialized_options"].s)
            if options.WhichOneof("optional_deterministic") and not options.deterministic:
                yield "Options.deterministic=False"


def _says(attributes: Any, name: str, kind: str, value: object) -> bool:
    return name in attributes and getattr(attributes[name], kind) == value  # looking it up alone would add it
