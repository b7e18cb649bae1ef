"""What can be told of an input pipeline from its graph: its elements, its fingerprint, what it cannot repeat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_UNSTABLE = frozenset(("_class", "_output_shapes", "experimental_debug_info", "metadata", "shared_name", "token"))
"""Attributes that differ between two processes that build the same pipeline, or say nothing of it."""
_INTEGERS = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)
_REPEATS = ("RepeatDataset", "ShuffleAndRepeatDataset")
_SAVES_WHAT_HAS_ENDED = ("MapDataset", "ParallelMapDataset", "PrefetchDataset", "OptionsDataset")
_BEGIN_LATER = ("Concatenate", "Shuffle", "Cache")
"""A shuffle fills its buffer at the first element; a cache that is full never begins what is below it again."""
_YIELD_DATASETS = ("FlatMap", "Interleave", "ParallelInterleave", "LegacyParallelInterleave")
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
                node.input[:] = [f"{number}/{name}" for name in _inputs(node)]
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
        repeats = any(node.op.startswith(_REPEATS) for node in self._nodes.values())
        return repeats and any("Shuffle" in name for name in self.unreproducible)

    @property
    def differs_by_pass(self) -> bool:
        """Whether a second iterator over the same dataset begins with another order than the first."""
        shuffles = [node for node in self._nodes.values() if node.op.startswith("Shuffle")]
        reshuffles = any(node.attr["reshuffle_each_iteration"].b for node in shuffles)
        return reshuffles or any(map(_draws_numbers_anew, self._nodes.values()))

    @property
    def unknown(self) -> str:
        """Why the datasets cannot be looked into; empty if they can."""
        return self._unknown

    @property
    def draws_once(self) -> bool:
        """Whether each iterator draws one order when it begins, and the next one over the same dataset another."""
        repeats = any(node.op.startswith(_REPEATS) for node in self._nodes.values())
        return self.differs_by_pass and not repeats and not self.loses_draws(passes=True)

    def loses_draws(self, *, passes: bool) -> str:
        """The op by which TensorFlow loses how often a seeded shuffle has drawn; empty for none.

        Most ops do not save what is below them when it has come to its end, and some do not save what they have not
        come to. If a repeat is above, or another pass begins, the shuffle then begins again with an order that depends
        on how often it has drawn in this process; so does a random dataset.

        Args:
            passes: whether there may be several passes over the data in a process.
        """
        repeats = [node for node in self._nodes.values() if node.op.startswith(_REPEATS)]
        found = [self._below(_inputs(node), "") for node in repeats]
        if passes:
            found += [self._below(_begun_later(node), node.op) for node in self._nodes.values()]
            found += [node.op for node in self._nodes.values() if _draws_numbers_anew(node)]
        return next(filter(None, found), "")

    def _below(self, names: Sequence[str], lost: str) -> str:
        """An op that does not save how often a seeded shuffle has drawn, from nodes down to one that draws again."""
        for name in names:
            node = self._nodes.get(name)
            if node is None:
                continue
            draws = node.op.startswith("Shuffle") and node.attr["reshuffle_each_iteration"].b
            if lost and draws and not _has_no_seed(node, self._nodes):
                return lost
            saves = node.op.startswith((*_SAVES_WHAT_HAS_ENDED, *_REPEATS, "Shuffle")) or not _is_dataset(node)
            found = self._below(_inputs(node), lost if saves else node.op)
            if found:
                return found
        return ""

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
            inputs = [digests.get(name, "") for name in _inputs(node)]
            digests[node.name] = _digest([node.op, self._attributes(node, functions), inputs])
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


def _begun_later(node: Any) -> list[str]:
    """The inputs of a dataset that it does not begin with: their shuffles have not drawn when a pass begins."""
    if node.op.startswith(_BEGIN_LATER):
        return _inputs(node)
    # Datasets that a function has captured, which yields them.
    return _inputs(node)[1:] if node.op.startswith(_YIELD_DATASETS) else []


def _draws_numbers_anew(node: Any) -> bool:
    """Whether it is a dataset of random numbers that are others in each pass, as `sample_from_datasets` may have."""
    return node.op.startswith("RandomDataset") and bool(node.attr["rerandomize_each_iteration"].b)


def _is_dataset(node: Any) -> bool:
    return "Dataset" in node.op


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
            pending.extend(_inputs(nodes[name]))
    return seen


def _inputs(node: Any) -> list[str]:
    """The names of the nodes whose tensors a node takes."""
    return [name.split(":")[0] for name in node.input if not name.startswith("^")]


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
        by_input = node.op.startswith(_SEEDED_DATASETS) and _has_no_seed(node, nodes)
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


def _has_no_seed(node: Any, nodes: Mapping[str, Any]) -> bool:
    """Whether the two seeds of a dataset op are constants of 0, by which TensorFlow means: draw one."""
    inputs = [nodes.get(name.lstrip("^").split(":")[0]) for name in node.input]
    constants = [one for one in inputs if one is not None and one.op == "Const" and one.attr["dtype"].type in _INTEGERS]
    # The buffer's size comes before the seeds, and is never 0; the count of a repeat comes behind them.
    zeros = [one for one in constants if tf.make_ndarray(one.attr["value"].tensor).tolist() == 0]
    return len(zeros) >= 2
