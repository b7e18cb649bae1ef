"""Child side: what the tap puts into graphs, and what it keeps of them. Imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_script_ops, script_ops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .recorder import TappedIterator


@dataclass(frozen=False, slots=True)
class Graph:
    """What the tap knows of one v1 graph."""

    iterators: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name of the resource tensor."""
    names: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name in the resource's handle, for feedable iterators."""
    taps: dict[str, TappedIterator | None] = field(default_factory=dict)
    """By the name of the op that records; None: known at run time only."""
    last_fed: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name of a feedable iterator's resource tensor: what was fed last."""
    plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)
    records: list[Callable[..., Any]] = field(default_factory=list)
    """What the taps call: TensorFlow's registry refers to them weakly."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a `session.run` of certain fetches executes."""

    taps: tuple[TappedIterator | None, ...]
    initialised: tuple[TappedIterator, ...]
    fetches: tuple[Any, ...]
    """Held, because they are known by their `id`."""


def recording(record: Callable[..., Any], inputs: Sequence[Any]) -> Any:
    """The op that calls `record` with the values of `inputs`.

    It is what `tf.numpy_function` makes, without the AutoGraph context around each call and without a result: these
    were more than half of what the tap cost in a session (measured).
    """
    known_of(outermost(ops.get_default_graph())).records.append(record)
    token = script_ops._py_funcs.insert(record)
    with tf.device("/device:CPU:0"):
        return gen_script_ops.py_func(input=inputs, token=token, Tout=[])


def in_session() -> bool:
    """Whether the graph that is being built is run by a session; else by a tf.function."""
    return not ops.executing_eagerly_outside_functions()


def known_of(graph: Any) -> Graph:
    """What the tap knows of a graph: kept in the graph, because it refers to it and is to live no longer."""
    known: Graph | None = getattr(graph, "_preempt_graph", None)
    if known is None:
        known = graph._preempt_graph = Graph()
    return known


def outermost(graph: Any) -> Any:
    """The graph around all the functions in which a graph is."""
    while getattr(graph, "outer_graph", None) is not None:
        graph = graph.outer_graph
    return graph


__all__ = ["Graph", "Plan", "in_session", "known_of", "outermost", "recording"]
