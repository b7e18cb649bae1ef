"""Child side: sees every element that leaves an iterator, without touching the user's code. Imports TensorFlow.

Self-contained: numpy, xxhash, TensorFlow, wrapt (which TensorFlow needs) and our records, nothing of pytest.

Eagerly, an element is recorded when `OwnedIterator` has returned it, and the user gets the very same object. In a
graph, an element's flat components go to a Python call (the op of `tf.numpy_function`), and the element that the
user's code continues with depends on it: so an element is recorded exactly when it is consumed, once, after any
prefetching. Nothing is ever added to the *dataset's* graph: that would make it stateful, and a stateful pipeline cannot
be checkpointed.

Which iterator a `tf.function` is running over is known at run time only: the Python object in it is made from a spec.
`IteratorToStringHandle` gives a name that is unique in the process, eagerly at the creation and again in the graph.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.framework import resource_handle_pb2
from tensorflow.python.client import session as session_lib
from tensorflow.python.data.ops import dataset_ops, iterator_ops
from tensorflow.python.distribute import input_lib
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import polymorphic_function
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_dataset_ops, gen_script_ops, script_ops
from tensorflow.python.util import nest

from . import elements
from .model import UNKNOWN_STEP, Kind
from .recorder import Gate, Recorder, Source, TappedIterator
from .steps import Patches, Steps
from .tap_distributed import DistributedTap
from .witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .fingerprint import Component
    from .ledger import LedgerWriter

_GET_NEXT = re.compile(r"\{\{node [^}]*IteratorGetNext")
_NODE = re.compile(r"\{\{node ([^}]+?)\}\}")
_COUNTER = re.compile(r"^_\d+_")
_ITERATORS = (iterator_ops.OwnedIterator, input_lib.DistributedIteratorBase)
_CALLS = frozenset(
    ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf", "Case")
)
_PASSED_THROUGH = frozenset(("Enter", "RefEnter", "Identity", "Switch", "RefSwitch"))  # v1 control flow


@dataclass(frozen=False, slots=True)
class _Graph:
    """What the tap knows of one v1 graph."""

    iterators: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name of the resource tensor."""
    names: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name in the resource's handle, for feedable iterators."""
    taps: dict[str, TappedIterator | None] = field(default_factory=dict)
    """By the name of the op that records; None: known at run time only."""
    last_fed: dict[str, TappedIterator] = field(default_factory=dict)
    """By the name of a feedable iterator's resource tensor: what was fed last."""
    plans: dict[tuple[Any, ...], _Plan] = field(default_factory=dict)
    records: list[Callable[..., Any]] = field(default_factory=list)
    """What the taps call: TensorFlow's registry refers to them weakly."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a `session.run` of certain fetches executes."""

    taps: tuple[TappedIterator | None, ...]
    initialised: tuple[TappedIterator, ...]
    fetches: tuple[Any, ...]
    """Held, because they are known by their `id`."""


class Tap:
    """The installed tap of one process."""

    def __init__(
        self,
        writer: LedgerWriter,
        gate: Gate,
        *,
        step: Callable[[], int] | None = None,
        model_dir: Path | None = None,
    ) -> None:
        self._writer = writer
        self.steps = Steps(writer, step, model_dir)
        self.recorder = Recorder(writer, gate, self.steps)
        self._patches = Patches()
        self.handles: dict[bytes, TappedIterator] = {}
        self.witness = Witness(writer.directory, self.handles)
        self.recorder.begins = self.witness.began
        self.witness.elements = lambda: self.recorder.in_life
        self._session_step: int | None = None
        self._call_step: int | None = None
        self._took: TappedIterator | None = None
        """What the function that is running has read last."""
        self._reads_before_calls = step is not None
        self._distributing: set[int] = set()
        """The threads that are inside of a distributed iterator."""
        self._initialised_over: Any = None
        """The dataset over which a v1 iterator is just being made."""

    def finish(self, stood: Callable[[], int] = lambda: UNKNOWN_STEP) -> None:
        """Writes DONE: the training code has returned by itself.

        Args:
            stood: tells the step of what it may have restored, for code that took no element and shows no step.
        """
        step = self.steps.final()
        if step == UNKNOWN_STEP and not self.recorder.in_life:
            step = stood()
        self._writer.event(Kind.DONE, step)

    def uninstall(self) -> None:
        """Takes every wrap away; graphs that were built meanwhile keep their taps."""
        self._patches.undo()

    def install(self) -> None:
        """Wraps the points where elements leave iterators."""
        owned, v1 = iterator_ops.OwnedIterator, iterator_ops.Iterator
        self.steps.install(self._patches)
        self.witness.install(self._patches)
        self._patches.wrap(owned, "__init__", self._owned_init)
        self._patches.wrap(owned, "_next_internal", self._owned_next)
        self._patches.wrap(owned, "get_next_as_optional", self._owned_optional)
        self._patches.wrap(dataset_ops.DatasetV1, "_make_initializable_iterator", self._initializable)
        self._patches.wrap(v1, "__init__", self._v1_init)
        self._patches.wrap(v1, "get_next", self._v1_next)
        self._patches.wrap(v1, "get_next_as_optional", self._v1_next)
        self._patches.wrap(session_lib.BaseSession, "run", self._session_run)
        self._patches.wrap(polymorphic_function.Function, "__call__", self._function_call)
        DistributedTap(self).install(self._patches)

    def distributing(self) -> bool:
        """Whether this thread is inside of a distributed iterator, of which each device's iterator gives a part."""
        return threading.get_ident() in self._distributing

    @contextlib.contextmanager
    def parts(self) -> Iterator[None]:
        """Within it, what this thread makes and takes are parts of a distributed iterator's elements."""
        me = threading.get_ident()
        outer = me in self._distributing
        self._distributing.add(me)
        try:
            yield
        finally:
            if not outer:
                self._distributing.discard(me)

    # Eager iterators, and those in tf.function.

    def _owned_init(self, original: Any) -> Any:
        def __init__(  # noqa: N807 - it replaces one
            iterator: Any, dataset: Any = None, components: Any = None, element_spec: Any = None
        ) -> None:
            original(iterator, dataset, components, element_spec)
            if dataset is not None and not self.distributing():
                self.made(iterator, iterator._iterator_resource, dataset)

        return __init__

    def made(self, iterator: Any, resource: Any, dataset: Any) -> None:
        """Notes an iterator that is not a session's.

        Args:
            iterator: the object that the user has.
            resource: by the name of which it will be known in functions.
            dataset: over which it goes.
        """
        source = iterator._preempt_source = self.recorder.source(iterator.element_spec)
        if not context.executing_eagerly():
            return
        known = TappedIterator(source, elements.dense_leaves(iterator.element_spec))
        handle = gen_dataset_ops.iterator_to_string_handle(resource).numpy()
        self.handles[handle] = iterator._preempt_iterator = known
        weakref.finalize(iterator, self.handles.pop, handle, None).atexit = False
        self.witness.made(known, source, dataset)

    def _owned_next(self, original: Any) -> Any:
        def _next_internal(iterator: Any) -> Any:
            if self._distributing and self.distributing():
                return original(iterator)
            self.recorder.asked(iterator)
            if not context.executing_eagerly():
                return self._in_function(iterator, original(iterator))
            try:
                element = original(iterator)
            except tf.errors.OutOfRangeError:
                self.recorder.end(self._known(iterator))
                raise
            known = self._known(iterator)
            self.recorder.taken(known, elements.components(element, known.leaves), self.steps.eager)
            return element

        return _next_internal

    def _owned_optional(self, original: Any) -> Any:
        def get_next_as_optional(iterator: Any) -> Any:
            if self._distributing and self.distributing():
                return original(iterator)
            self.recorder.asked(iterator)
            optional = original(iterator)
            if not context.executing_eagerly():
                return self._in_function(iterator, optional)
            if optional.has_value():
                parts = elements.components(optional.get_value())
                self.recorder.taken(self._known(iterator), parts, self.steps.eager)
            else:
                self.recorder.end(self._known(iterator))
            return optional

        return get_next_as_optional

    def _known(self, iterator: Any) -> TappedIterator:
        known: TappedIterator | None = getattr(iterator, "_preempt_iterator", None)
        if known is None:  # made from the components of another Python object
            handle = gen_dataset_ops.iterator_to_string_handle(iterator._iterator_resource).numpy()
            known = self.handles.get(handle)
            if known is None:
                leaves = elements.dense_leaves(iterator.element_spec)
                known = TappedIterator(self.recorder.source(iterator.element_spec), leaves)
                self.handles[handle] = known
            iterator._preempt_iterator = known
        return known

    def _in_function(self, iterator: Any, element: Any) -> Any:
        source = getattr(iterator, "_preempt_source", None) or self.recorder.source(iterator.element_spec)
        return self.by_handle(source, iterator._iterator_resource, element)

    def by_handle(self, source: Source, resource: Any, element: Any) -> Any:
        """The same symbolic element, recorded when it is there; which iterator it is of is known by a resource's name.

        Args:
            source: of the iterator, if the name is not known: it is made within the function, for each call anew.
            resource: an iterator's.
            element: of a graph that is run by a tf.function.
        """

        def which(handle: bytes) -> TappedIterator:
            known = self.handles.get(handle)
            if known is None:
                known = self.handles[handle] = TappedIterator(source)
            return known

        with ops.colocate_with(resource):
            handle = gen_dataset_ops.iterator_to_string_handle(resource)
        return self.recorded(element, which, [handle])

    def recorded(self, element: Any, which: Callable[..., TappedIterator], asked: Sequence[Any] = ()) -> Any:
        """The same symbolic element, recorded when it is there.

        Args:
            element: of a graph that is run by a tf.function.
            which: tells the iterator by the values of `asked`.
            asked: symbolic tensors.
        """
        step_source = None if self.steps.given is not None else self.steps.source()
        key = None if step_source is None else step_source.key
        # Read in the graph, it is ordered before what the step of training does to it; read by us, it would race.
        step = tf.constant(UNKNOWN_STEP, tf.int64) if step_source is None else step_source.tensor()
        inputs: list[Any] = [step, *asked]
        begin = len(inputs)
        regroup = elements.regrouping(elements.flatten_in_graph(element, inputs))
        optional = isinstance(element, tf.experimental.Optional)

        def record(step: Any, *arrays: Any) -> Any:
            known = self._took = which(*arrays[: begin - 1])
            self._record(known, optional, regroup(arrays[begin - 1 :]), lambda: self._step_in_function(int(step), key))
            return ()

        return elements.after(element, _recording(record, inputs))

    def _step_in_function(self, step: int, key: int | None) -> int:
        source = self.steps.source()
        if key is not None and source is not None and source.key == key:
            return step
        # The function was traced before its step's variable was known: from now on it is read before each call.
        self._reads_before_calls = self._reads_before_calls or source is not None
        return self.steps.eager() if self._call_step is None else self._call_step

    def _function_call(self, original: Any) -> Any:
        def __call__(function: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it replaces one
            if not context.executing_eagerly():
                return original(function, *args, **kwargs)
            iterator = self._iterator_of(function, args)
            if not self._reads_before_calls and iterator is None:
                result = original(function, *args, **kwargs)
            else:
                before = self._call_step = self.steps.eager()
                taken = 0 if iterator is None else iterator.taken
                try:
                    result = original(function, *args, **kwargs)
                except tf.errors.OutOfRangeError as error:
                    if iterator is not None and _GET_NEXT.search(str(error)):
                        self._ran_out(iterator, before, iterator.taken - taken)
                    raise
            if self._took is not None:
                function._preempt_took, self._took = self._took, None
            return result

        return __call__

    def _iterator_of(self, function: Any, args: tuple[Any, ...]) -> TappedIterator | None:
        """The iterator that a call of a function will read: its only argument of that kind, else what it read last."""
        found = [arg for arg in args if isinstance(arg, _ITERATORS)]
        if found:
            only: TappedIterator | None = getattr(found[0], "_preempt_iterator", None) if len(found) == 1 else None
            return only
        last: TappedIterator | None = getattr(function, "_preempt_took", None)
        return last

    def _ran_out(self, iterator: TappedIterator, before: int, taken: int) -> None:
        """A function asked an exhausted iterator, when the model was at step `before`.

        What of the function does not depend on the element has run all the same. So Keras counts a step there: when
        the dataset's cardinality is unknown, `fit` asks for an element more than there are.
        """
        step = self.steps.eager()
        idle = step - before if not taken and UNKNOWN_STEP not in (step, before) else 0
        self.recorder.end(iterator, step=step if idle > 0 else 0, idle=max(0, idle))

    def _record(
        self, known: TappedIterator, optional: bool, parts: list[Component], step: Callable[[], int | None]
    ) -> None:
        if optional:
            if not parts[0]:
                self.recorder.end(known)
                return
            del parts[0]
        self.recorder.taken(known, parts, step)

    # v1 iterators and sessions.

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
            source = iterator._preempt_source = self.recorder.source(iterator.element_spec)
            resource = iterator._iterator_resource
            if not _in_session() or "FromStringHandle" in resource.op.type:
                return
            known = TappedIterator(source, elements.dense_leaves(iterator.element_spec))
            self.witness.made(known, source, self._initialised_over)
            iterator._preempt_iterator = known
            graph = _known_of(resource.graph)
            graph.iterators[resource.name] = known
            try:
                shared_name = resource.op.get_attr("shared_name").decode()
            except ValueError:
                shared_name = ""
            graph.names[shared_name or resource.op.name] = known

        return __init__

    def _v1_next(self, original: Any) -> Any:
        def get_next(iterator: Any, *args: Any, **kwargs: Any) -> Any:
            self.recorder.asked(iterator)
            element = original(iterator, *args, **kwargs)
            return self._in_session(iterator, element) if _in_session() else self._in_function(iterator, element)

        return get_next

    def _in_session(self, iterator: Any, element: Any) -> Any:
        resource = iterator._iterator_resource
        root = _outermost(ops.get_default_graph())
        graph = _known_of(root)
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
            self._record(taken, optional, regroup(arrays), step)
            return ()

        done = _recording(record, inputs)
        # The tap of a function's body is None too: which calls run it is not worth knowing.
        graph.taps[done.name if done.graph is root else ""] = known if done.graph is root else None
        return elements.after(element, done)

    def _fed(self, graph: _Graph, handle: bytes, source: Source) -> TappedIterator:
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
                self.recorder.restart(iterator)
            if plan.taps:
                due = any(iterator is None or self.recorder.due(iterator) for iterator in plan.taps)
                self._session_step = self.steps.of_session(session) if due else None
            try:
                return original(session, fetches, *args, **kwargs)
            except tf.errors.OutOfRangeError as error:
                ended = _ended(session.graph, graph, error)
                if ended is not None:
                    self.recorder.end(ended)
                raise

        return run


def install(
    writer: LedgerWriter, gate: Gate, *, step: Callable[[], int] | None = None, model_dir: Path | None = None
) -> Tap:
    """Wraps TensorFlow's iterators, sessions and savers, and Keras's models, in this process.

    Args:
        writer: Gets the records.
        gate: May hold the training at each element.
        step: Tells the model's step, where nothing in the training code does; eager code only.
        model_dir: Where the training keeps its checkpoints; None: what its saves write is not measured.
    """
    tap = Tap(writer, gate, step=step, model_dir=model_dir)
    tap.install()
    return tap


def _recording(record: Callable[..., Any], inputs: Sequence[Any]) -> Any:
    """The op that calls `record` with the values of `inputs`.

    It is what `tf.numpy_function` makes, without the AutoGraph context around each call and without a result: these
    were more than half of what the tap cost in a session (measured).
    """
    _known_of(_outermost(ops.get_default_graph())).records.append(record)
    token = script_ops._py_funcs.insert(record)
    with tf.device("/device:CPU:0"):
        return gen_script_ops.py_func(input=inputs, token=token, Tout=[])


def _in_session() -> bool:
    """Whether the graph that is being built is run by a session; else by a tf.function."""
    return not ops.executing_eagerly_outside_functions()


def _known_of(graph: Any) -> _Graph:
    """What the tap knows of a graph: kept in the graph, because it refers to it and is to live no longer."""
    known: _Graph | None = getattr(graph, "_preempt_graph", None)
    if known is None:
        known = graph._preempt_graph = _Graph()
    return known


def _outermost(graph: Any) -> Any:
    while getattr(graph, "outer_graph", None) is not None:
        graph = graph.outer_graph
    return graph


def _plan(graph: Any, known: _Graph, fetches: Any) -> _Plan:
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


def _make_plan(graph: Any, known: _Graph, leaves: tuple[Any, ...]) -> _Plan:
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
    return _Plan(tuple(taps), tuple(initialised), leaves)


def _ops(graph: Any, leaf: Any) -> Iterator[Any]:
    for part in nest.flatten(leaf, expand_composites=True):
        try:
            element = graph.as_graph_element(part, allow_tensor=True, allow_operation=True)
        except (TypeError, ValueError, KeyError):
            continue  # not ours to judge: the run itself says what is wrong with it
        yield getattr(element, "op", element)


def _ended(graph: Any, known: _Graph, error: Any) -> TappedIterator | None:
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


__all__ = ["Gate", "Tap", "install"]
