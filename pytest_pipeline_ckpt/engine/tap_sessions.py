"""Child side: the tap on v1 iterators and on sessions. Imports TensorFlow."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.framework import resource_handle_pb2
from tensorflow.python.client import session as session_lib
from tensorflow.python.data.ops import dataset_ops, iterator_ops
from tensorflow.python.framework import ops
from tensorflow.python.util import nest

from . import elements
from .graphs import Graph, Plan, in_session, known_of, outermost, recording
from .recorder import Source, TappedIterator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .patches import Patches
    from .tap import Tap

_NODE = re.compile(r"\{\{node ([^}]+?)\}\}")
_COUNTER = re.compile(r"^_\d+_")
_CALLS = frozenset(
    ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf", "Case")
)
_PASSED_THROUGH = frozenset(("Enter", "RefEnter", "Identity", "Switch", "RefSwitch"))  # v1 control flow


class SessionTap:
    """Wraps the points where elements leave v1 iterators, and the runs of sessions."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._session_step: int | None = None
        self._initialised_over: Any = None
        """The dataset over which a v1 iterator is just being made."""

    def install(self, patches: Patches) -> None:
        """Wraps them."""
        v1 = iterator_ops.Iterator
        patches.wrap(dataset_ops.DatasetV1, "_make_initializable_iterator", self._initializable)
        patches.wrap(v1, "__init__", self._v1_init)
        patches.wrap(v1, "get_next", self._v1_next)
        patches.wrap(v1, "get_next_as_optional", self._v1_next)
        patches.wrap(session_lib.BaseSession, "run", self._session_run)

    def _initializable(self, original: Any) -> Any:
        def _make_initializable_iterator(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            self._initialised_over = dataset
            try:
                return original(dataset, *args, **kwargs)
            finally:
                self._initialised_over = None

        return _make_initializable_iterator

    def _v1_init(self, original: Any) -> Any:
        def __init__(iterator: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            original(iterator, *args, **kwargs)
            source = iterator._preempt_source = self._tap.recorder.source(iterator.element_spec)
            resource = iterator._iterator_resource
            if not in_session() or "FromStringHandle" in resource.op.type:
                return
            known = TappedIterator(source, elements.dense_leaves(iterator.element_spec))
            self._tap.witness.made(known, source, self._initialised_over)
            iterator._preempt_iterator = known
            graph = known_of(resource.graph)
            graph.iterators[resource.name] = known
            try:
                shared_name = resource.op.get_attr("shared_name").decode()
            except ValueError:
                shared_name = ""
            graph.names[shared_name or resource.op.name] = known

        return __init__

    def _v1_next(self, original: Any) -> Any:
        def get_next(iterator: Any, *args: Any, **kwargs: Any) -> Any:
            self._tap.recorder.asked(iterator)
            element = original(iterator, *args, **kwargs)
            return self._in_session(iterator, element) if in_session() else self._tap.in_function(iterator, element)

        return get_next

    def _in_session(self, iterator: Any, element: Any) -> Any:
        resource = iterator._iterator_resource
        root = outermost(ops.get_default_graph())
        graph = known_of(root)
        known: TappedIterator | None = getattr(iterator, "_preempt_iterator", None)
        inputs: list[Any] = [] if known is not None else [iterator._string_handle]
        regroup = elements.regrouping(elements.flatten_in_graph(element, inputs))
        optional = isinstance(element, tf.experimental.Optional)
        source = iterator._preempt_source

        def step() -> int | None:
            return self._session_step

        def record(*arrays: Any) -> Any:
            taken = known
            if taken is None:
                taken = graph.last_fed[resource.name] = self._fed(graph, arrays[0], source)
                arrays = arrays[1:]
            self._tap.record(taken, optional, regroup(arrays), step, self._tap.steps.session_values)
            return ()

        done = recording(record, inputs)
        # The tap of a function's body is None too: which calls run it is not worth knowing.
        graph.taps[done.name if done.graph is root else ""] = known if done.graph is root else None
        return elements.after(element, done)

    def _fed(self, graph: Graph, handle: bytes, source: Source) -> TappedIterator:
        """The iterator whose handle was fed to a feedable one."""
        # Without a shared name it is the op's name behind a counter: `_1_IteratorV2`.
        name = _COUNTER.sub("", resource_handle_pb2.ResourceHandleProto.FromString(handle).name)
        known = graph.names.get(name)
        if known is None:
            known = graph.names[name] = TappedIterator(source)
        return known

    def _session_run(self, original: Any) -> Any:
        def run(session: Any, fetches: Any, *args: Any, **kwargs: Any) -> Any:
            graph = getattr(session.graph, "_preempt_graph", None)
            if graph is None:
                return original(session, fetches, *args, **kwargs)
            plan = _plan(session.graph, graph, fetches)
            for iterator in plan.initialised:
                self._tap.recorder.restart(iterator)
            if plan.taps:
                due = any(iterator is None or self._tap.recorder.due(iterator) for iterator in plan.taps)
                self._session_step = self._tap.steps.of_session(session) if due else None
            try:
                with self._tap.steps.run(session) if plan.taps else contextlib.nullcontext():
                    return original(session, fetches, *args, **kwargs)
            except tf.errors.OutOfRangeError as error:
                ended = _ended(session.graph, graph, error)
                if ended is not None:
                    self._tap.recorder.end(ended)
                raise

        return run


def _plan(graph: Any, known: Graph, fetches: Any) -> Plan:
    leaves = tuple(_leaves(fetches)) if isinstance(fetches, (dict, list, tuple)) else (fetches,)
    key = tuple([leaf if isinstance(leaf, (str, bytes)) else id(leaf) for leaf in leaves])
    plan = known.plans.get(key)
    if plan is None:
        plan = known.plans[key] = _make_plan(graph, known, leaves)
    return plan


def _leaves(fetches: Any) -> Iterator[Any]:
    """The leaves of a fetch; not TensorFlow's flatten, which sorts keys: MonitoredSession has hooks as keys."""
    if isinstance(fetches, dict):
        for value in fetches.values():
            yield from _leaves(value)
    elif isinstance(fetches, (list, tuple)):
        for value in fetches:
            yield from _leaves(value)
    else:
        yield fetches


def _make_plan(graph: Any, known: Graph, leaves: tuple[Any, ...]) -> Plan:
    taps: list[TappedIterator | None] = []
    initialised: list[TappedIterator] = []
    pending = [op for leaf in leaves for op in _ops(graph, leaf)]
    seen = set()
    while pending:
        op = pending.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.name in known.taps:
            taps.append(known.taps[op.name])
        elif op.type in _CALLS and "" in known.taps:
            taps.append(None)
        elif op.type == "MakeIterator" and op.inputs[1].name in known.iterators:
            initialised.append(known.iterators[op.inputs[1].name])
        pending.extend(tensor.op for tensor in op.inputs)
        pending.extend(op.control_inputs)
    return Plan(tuple(taps), tuple(initialised), leaves)


def _ops(graph: Any, leaf: Any) -> Iterator[Any]:
    for part in nest.flatten(leaf, expand_composites=True):
        try:
            element = graph.as_graph_element(part, allow_tensor=True, allow_operation=True)
        except (TypeError, ValueError, KeyError):
            continue  # not ours to judge: the run itself says what is wrong with it
        yield getattr(element, "op", element)


def _ended(graph: Any, known: Graph, error: Any) -> TappedIterator | None:
    """The iterator whose get_next failed with OutOfRangeError; None: something else ran out, say a queue."""
    op = error.op
    if op is None:
        named = _NODE.search(str(error))
        try:
            op = graph.get_operation_by_name(named.group(1)) if named is not None else None
        except (KeyError, ValueError):
            op = None
    if op is None or not op.type.startswith("IteratorGetNext"):
        return None
    resource = op.inputs[0]
    while resource.op.type in _PASSED_THROUGH:
        resource = resource.op.inputs[0]
    return known.iterators.get(resource.name) or known.last_fed.get(resource.name)


__all__ = ["SessionTap"]
