"""Child side: takes the elements of tf.data apart into components for `fingerprint`, eagerly and in graphs.

One component for each leaf of an element's structure, in the order of `tf.nest.flatten`; an optional has one that
says whether it has a value, followed by those of the value. `describe` names the same components in the same order.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.values import PerReplica, PerReplicaSpec
from tensorflow.python.framework import ops
from tensorflow.python.framework.composite_tensor import CompositeTensor
from tensorflow.python.util import nest

from .fingerprint import Absent, Component, Ragged, Sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

OPAQUE = Absent("opaque")
"""A component that cannot be fingerprinted: a dataset, a TensorArray, any other variant or resource."""
NONE = Absent("none")
NO_VALUE = Absent("no value")
_UNREADABLE = (tf.variant, tf.resource)
_UNREADABLE_ENUMS = (tf.variant.as_datatype_enum, tf.resource.as_datatype_enum)
_EagerTensor = ops.EagerTensor  # for each element: attributes of modules are slow look-ups
_EMPTY = ("none", "opaque", "resource", "variant")  # dtypes in `describe` that bring no tensor

Layout = list[Any]
"""How `regrouping` makes components of a graph's flat arrays: for each leaf `dense`, `opaque`, `none`, `sparse`,
`(ragged, number of splits)`, `(optional, layout of the value)` or `(replicas, a layout for each)`."""


def has_opaque(components: Sequence[Component]) -> bool:
    """Whether a component could not be fingerprinted."""
    return any(component is OPAQUE for component in components)  # `in` would compare arrays


def describe(spec: Any) -> tuple[tuple[dict[str, Any], ...], str | None]:
    """Name, dtype and shape of each component, and the name of one that cannot be fingerprinted, if any."""
    rows: list[dict[str, Any]] = []
    opaque: list[str] = []
    for name, leaf in nest.flatten_with_joined_string_paths(spec, separator="."):
        _describe(name, leaf, rows, opaque)
    return tuple(rows), opaque[0] if opaque else None


def _describe(name: str, spec: Any, rows: list[dict[str, Any]], opaque: list[str]) -> None:
    if isinstance(spec, tf.OptionalSpec):
        rows.append({"name": f"{name}.has_value".lstrip("."), "dtype": "bool", "shape": []})
        for inner, leaf in nest.flatten_with_joined_string_paths(spec._element_spec, separator="."):
            _describe(f"{name}.{inner}".strip("."), leaf, rows, opaque)
    elif isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)):
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        rows.append({"name": name, "dtype": spec.dtype.name, "shape": shape})
        if spec.dtype in _UNREADABLE:
            opaque.append(f"{name or 'element'} ({spec})")
    elif spec is None or type(spec).__name__ == "NoneTensorSpec":
        rows.append({"name": name, "dtype": "none", "shape": []})
    elif isinstance(spec, PerReplicaSpec):
        parts: list[dict[str, Any]] = []
        for part in spec._value_specs:
            _describe(name, part, parts, opaque)
        rows.extend([{**parts[0], "shape": [None, *parts[0]["shape"][1:]]}] if _rows_of_one_batch(spec) else parts)
    elif _is_opaque_spec(spec):
        rows.append({"name": name, "dtype": "opaque", "shape": None})
        opaque.append(f"{name or 'element'} ({spec})")
    else:
        for part in nest.flatten(spec, expand_composites=True):
            _describe(name, part, rows, opaque)


def _rows_of_one_batch(spec: Any) -> bool:
    """Whether what the replicas get are tensors that make one."""
    parts = spec._value_specs
    return all(isinstance(part, tf.TensorSpec) and part.shape.rank for part in parts)


def _is_opaque_spec(spec: Any) -> bool:
    return isinstance(spec, (tf.data.DatasetSpec, tf.TensorArraySpec, tf.data.IteratorSpec))


def dense_leaves(spec: Any) -> Callable[[Any], Iterable[Any]] | None:
    """What gives the tensors of an element, in the order of flatten; None if not all of them are tensors with bytes."""
    if not all(isinstance(leaf, tf.TensorSpec) and leaf.dtype not in _UNREADABLE for leaf in nest.flatten(spec)):
        return None
    # TensorFlow's flatten is half of the time for what most elements are.
    if isinstance(spec, tf.TensorSpec):
        return lambda element: (element,)
    if type(spec) is tuple and all(isinstance(leaf, tf.TensorSpec) for leaf in spec):
        return tuple
    if type(spec) is dict and len(spec) > 1 and all(isinstance(leaf, tf.TensorSpec) for leaf in spec.values()):
        return operator.itemgetter(*sorted(spec))
    flatten: Callable[[Any], Iterable[Any]] = nest.flatten
    return flatten


def components(element: Any, leaves: Callable[[Any], Iterable[Any]] | None = None) -> list[Component]:
    """The components of an eager element; arrays share memory with its tensors where that is possible.

    Args:
        leaves: What `dense_leaves` says of its spec.
    """
    if leaves is not None:
        return _arrays([leaf._numpy() for leaf in leaves(element)])
    out: list[Component] = []
    for leaf in nest.flatten(element):
        _add_leaf(leaf, out)
    return out


def _add_leaf(leaf: Any, out: list[Component]) -> None:
    if isinstance(leaf, _EagerTensor):
        out.append(OPAQUE if leaf._datatype_enum() in _UNREADABLE_ENUMS else _array(leaf._numpy()))
    elif isinstance(leaf, PerReplica):
        out.extend(_together([components(value) for value in leaf.values]))
    elif isinstance(leaf, tf.RaggedTensor):
        splits = tuple(split._numpy() for split in leaf.nested_row_splits)
        out.append(Ragged(_array(leaf.flat_values._numpy()), splits))
    elif isinstance(leaf, tf.SparseTensor):
        out.append(Sparse(*(_array(part._numpy()) for part in (leaf.indices, leaf.values, leaf.dense_shape))))
    elif isinstance(leaf, tf.experimental.Optional):
        has_value = bool(leaf.has_value())
        out.append(np.array(has_value))
        if has_value:
            out.extend(components(leaf.get_value()))
        else:
            out.extend([NO_VALUE] * len(describe(leaf.element_spec)[0]))
    elif leaf is None:
        out.append(NONE)
    elif isinstance(leaf, CompositeTensor) and not isinstance(leaf, (tf.data.Dataset, tf.data.Iterator)):
        for part in nest.flatten(leaf, expand_composites=True):
            _add_leaf(part, out)
    else:
        _mark(leaf)
        out.append(OPAQUE)


def _together(replicas: Sequence[Sequence[Component]]) -> Sequence[Component]:
    """The components of what each replica gets of one leaf: as rows of one batch, where they can be."""
    parts = [part for one in replicas for part in one]
    shapes = {part.shape[1:] if isinstance(part, np.ndarray) and part.ndim else None for part in parts}
    if len(parts) == len(replicas) and len(shapes) == 1 and None not in shapes:
        return [np.concatenate(parts)]
    return parts


def _arrays(values: Sequence[Any]) -> list[Component]:
    return [value if type(value) is np.ndarray else _array(value) for value in values]


def _array(value: Any) -> Any:
    """Scalars of strings arrive as bytes, those of numbers as numpy scalars."""
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, dtype=object if isinstance(value, (bytes, str)) else None)


def flatten_in_graph(element: Any, tensors: list[Any]) -> Layout:
    """Appends the tensors of a symbolic element to `tensors`; returns how to make components of their values."""
    return [_flatten_leaf(leaf, tensors) for leaf in _leaves(element)]


def _leaves(element: Any) -> Iterator[Any]:
    for leaf in nest.flatten(element):
        plain = isinstance(leaf, (tf.Tensor, tf.RaggedTensor, tf.SparseTensor, tf.experimental.Optional, PerReplica))
        closed = isinstance(leaf, (tf.data.Dataset, tf.data.Iterator))
        if isinstance(leaf, CompositeTensor) and not plain and not closed:
            yield from nest.flatten(leaf, expand_composites=True)
        else:
            yield leaf


def _flatten_leaf(leaf: Any, tensors: list[Any]) -> Any:
    if leaf is None:
        return "none"
    if isinstance(leaf, tf.Tensor) and leaf.dtype not in _UNREADABLE:
        tensors.append(leaf)
        return "dense"
    if isinstance(leaf, PerReplica):
        return ("replicas", [flatten_in_graph(value, tensors) for value in leaf.values])
    if isinstance(leaf, tf.RaggedTensor):
        splits = leaf.nested_row_splits
        tensors.extend((leaf.flat_values, *splits))
        return ("ragged", len(splits))
    if isinstance(leaf, tf.SparseTensor):
        tensors.extend((leaf.indices, leaf.values, leaf.dense_shape))
        return "sparse"
    if isinstance(leaf, tf.experimental.Optional):
        has_value = leaf.has_value()
        tensors.append(has_value)
        return ("optional", _flatten_optional(leaf, has_value, tensors))
    return "opaque"


def _flatten_optional(optional: Any, has_value: Any, tensors: list[Any]) -> Layout:
    layout: Layout = []
    dtypes: list[Any] = []

    def value() -> list[Any]:
        inside: list[Any] = []
        layout[:] = flatten_in_graph(optional.get_value(), inside)
        dtypes[:] = [tensor.dtype for tensor in inside]
        return [tf.identity(tensor) for tensor in inside]

    def nothing() -> list[Any]:
        return [tf.zeros([0], dtype) for dtype in dtypes]

    if any(row["dtype"] not in _EMPTY for row in describe(optional.element_spec)[0]):
        tensors.extend(tf.cond(has_value, value, nothing))
    else:
        layout.extend("none" if row["dtype"] == "none" else "opaque" for row in describe(optional.element_spec)[0])
    return layout


def regrouping(layout: Layout) -> Callable[[Sequence[Any]], list[Component]]:
    """What makes the components of an element from the values of its tensors."""
    if all(entry == "dense" for entry in layout):
        return _arrays  # what most elements are: this runs for each

    def regroup(arrays: Sequence[Any]) -> list[Component]:
        out: list[Component] = []
        _regroup(layout, iter(arrays), out, present=True)
        return out

    return regroup


def _regroup(layout: Layout, arrays: Iterator[Any], out: list[Component], *, present: bool) -> None:
    for entry in layout:
        made: Component
        if entry == "dense":
            made = _array(next(arrays))
        elif entry == "sparse":
            made = Sparse(*(_array(next(arrays)) for _ in range(3)))
        elif entry == "opaque":
            made = OPAQUE
        elif entry == "none":
            made = NONE
        elif entry[0] == "replicas":
            replicas: list[list[Component]] = [[] for _ in entry[1]]
            for inside, theirs in zip(entry[1], replicas, strict=True):
                _regroup(inside, arrays, theirs, present=present)
            out.extend(_together(replicas) if present else replicas[0])
            continue
        elif entry[0] == "ragged":
            values = _array(next(arrays))
            made = Ragged(values, tuple(_array(next(arrays)) for _ in range(entry[1])))
        else:
            made = _array(next(arrays))
            out.append(made if present else NO_VALUE)
            _regroup(entry[1], arrays, out, present=present and bool(made))
            continue
        out.append(made if present else NO_VALUE)


def after(element: Any, done: Any) -> Any:
    """The same symbolic element, available only when `done` has been computed."""
    with tf.control_dependencies([done]):
        return nest.map_structure(_identity, element)


def _identity(leaf: Any) -> Any:
    if leaf is None:
        return None
    if isinstance(leaf, tf.TensorArray):
        return leaf.identity()
    if isinstance(leaf, tf.Tensor):
        return tf.identity(leaf)
    same = nest.map_structure(tf.identity, leaf, expand_composites=True)
    _mark(same)
    return same


def _mark(leaf: Any) -> None:
    """Notes that a dataset is part of an element."""
    if isinstance(leaf, tf.data.Dataset):
        leaf._preempt_part = True


def of_an_element(dataset: Any) -> bool:
    """Whether a dataset is part of an element that was seen, as a window is, or is made of one."""
    return getattr(dataset, "_preempt_part", False) or any(map(of_an_element, dataset._inputs()))


__all__ = [
    "OPAQUE",
    "Layout",
    "after",
    "components",
    "dense_leaves",
    "describe",
    "flatten_in_graph",
    "of_an_element",
    "regrouping",
]
