"""Child side: sees every element that leaves an iterator, without touching the user's code. Imports TensorFlow.

Self-contained: numpy, xxhash, TensorFlow, wrapt (which TensorFlow needs) and our records, nothing of pytest.

Eagerly, an element is recorded when `OwnedIterator` has returned it, and the user gets the very same object. In a
graph, an element's flat components go to a Python call (the op of `tf.numpy_function`), and the element that the
user's code continues with depends on it: so an element is recorded exactly when it is consumed, once, after any
prefetching. Nothing is ever added to the *dataset's* graph: that would make it stateful, and a stateful pipeline cannot
be checkpointed. Sessions, distributed iterators and loops without an iterator have modules of their own (`tap_*`).

Which iterator a `tf.function` is running over is known at run time only: the Python object in it is made from a spec.
`IteratorToStringHandle` gives a name that is unique in the process, eagerly at the creation and again in the graph.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops
from tensorflow.python.distribute import input_lib
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import polymorphic_function
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_dataset_ops

from . import elements
from .graphs import recording
from .model import UNKNOWN_STEP, Kind
from .patches import Patches
from .recorder import Gate, Recorder, Source, TappedIterator
from .steps import ELEMENTS_READ, Steps
from .tap_distributed import DistributedTap
from .tap_loops import LoopTap
from .tap_sessions import SessionTap
from .witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from .fingerprint import Component
    from .ledger import LedgerWriter

_GET_NEXT = re.compile(r"\{\{node [^}]*IteratorGetNext")
_ITERATORS = (iterator_ops.OwnedIterator, input_lib.DistributedIteratorBase)


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
        self.steps.files.elements = lambda: self.recorder.in_life
        self.recorder.begins = self.witness.began
        self.witness.on_restored = self.steps.note_restored
        self.witness.elements = lambda: self.recorder.in_life
        self._call_step: int | None = None
        self._call_values: Mapping[int, int] = {}
        """What all counters said before the call of the function that is running: for the first element in it, only."""
        self._took: TappedIterator | None = None
        """What the function that is running has read last."""
        self._reads_before_calls = step is not None
        self._distributing: set[int] = set()
        """The threads that are inside of a distributed iterator."""

    def finish(self, stood: Callable[[], int] = lambda: UNKNOWN_STEP) -> None:
        """Writes DONE: the training code has returned by itself.

        Args:
            stood: tells the step of what it may have restored, for code that took no element and shows no step.
        """
        step = self.steps.final()
        if step == UNKNOWN_STEP and not self.recorder.in_life:
            step = stood()
        self.steps.lineage.look_for_commits()
        self.steps.read_all("end")
        self._writer.event(Kind.DONE, step)

    def uninstall(self) -> None:
        """Takes every wrap away; graphs that were built meanwhile keep their taps."""
        self._patches.undo()

    def install(self) -> None:
        """Wraps the points where elements leave iterators."""
        owned = iterator_ops.OwnedIterator
        self.steps.install(self._patches)
        self.witness.install(self._patches)
        self._patches.wrap(owned, "__init__", self._owned_init)
        self._patches.wrap(owned, "_next_internal", self._owned_next)
        self._patches.wrap(owned, "get_next_as_optional", self._owned_optional)
        self._patches.wrap(polymorphic_function.Function, "__call__", self._function_call)
        for part in (SessionTap(self), DistributedTap(self), LoopTap(self)):
            part.install(self._patches)

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

    def made(self, iterator: Any, resource: Any, dataset: Any, *, saveable: bool = True) -> None:
        """Notes an iterator that is not a session's.

        Args:
            iterator: the object that the user has.
            resource: by the name of which it will be known in functions.
            dataset: over which it goes.
            saveable: whether a checkpoint can hold it.
        """
        source = iterator._preempt_source = self.recorder.source(iterator.element_spec)
        if not context.executing_eagerly():
            return
        known = TappedIterator(source, elements.dense_leaves(iterator.element_spec))
        self.recorder.made(known)
        handle = gen_dataset_ops.iterator_to_string_handle(resource).numpy()
        self.handles[handle] = iterator._preempt_iterator = known
        weakref.finalize(iterator, self.handles.pop, handle, None).atexit = False
        self.witness.made(known, source, dataset, saveable=saveable)

    def _owned_next(self, original: Any) -> Any:
        def _next_internal(iterator: Any) -> Any:
            if self._distributing and self.distributing():
                return original(iterator)
            self.recorder.asked(iterator)
            if not context.executing_eagerly():
                return self.in_function(iterator, original(iterator))
            try:
                element = original(iterator)
            except tf.errors.OutOfRangeError:
                self.recorder.end(self._known(iterator))
                raise
            known = self._known(iterator)
            parts = elements.components(element, known.leaves)
            self.recorder.taken(known, parts, self.steps.eager, self.steps.values)
            return element

        return _next_internal

    def _owned_optional(self, original: Any) -> Any:
        def get_next_as_optional(iterator: Any) -> Any:
            if self._distributing and self.distributing():
                return original(iterator)
            self.recorder.asked(iterator)
            optional = original(iterator)
            if not context.executing_eagerly():
                return self.in_function(iterator, optional)
            if optional.has_value():
                parts = elements.components(optional.get_value())
                self.recorder.taken(self._known(iterator), parts, self.steps.eager, self.steps.values)
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

    def in_function(self, iterator: Any, element: Any) -> Any:
        """The same symbolic element of an iterator, recorded when it is there; for graphs run by a tf.function."""
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
            parts = regroup(arrays[begin - 1 :])
            self.record(known, optional, parts, lambda: self._step_in_function(int(step), key), self._before_call)
            return ()

        return elements.after(element, recording(record, inputs))

    def _step_in_function(self, step: int, key: int | None) -> int:
        source = self.steps.source()
        if key is not None and source is not None and source.key == key:
            return step
        # The function was traced before its step's variable was known: from now on it is read before each call.
        self._reads_before_calls = self._reads_before_calls or source is not None
        return self.steps.eager() if self._call_step is None else self._call_step

    def _before_call(self) -> Mapping[int, int]:
        """What the counters said before the running call; nothing of it holds for a second element within it."""
        values, self._call_values = self._call_values, {}
        return values

    def _wants_values(self, iterator: TappedIterator | None) -> bool:
        """Whether all counters are to be read before a call of a function that may take an element."""
        if not self.steps.wants_values(self.recorder.in_life):
            return False
        return self.recorder.in_life < ELEMENTS_READ if iterator is None else self.recorder.due(iterator)

    def _function_call(self, original: Any) -> Any:
        def __call__(function: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it replaces one
            if not context.executing_eagerly():
                return original(function, *args, **kwargs)
            iterator = self._iterator_of(function, args)
            self._call_values = self.steps.values() if self._wants_values(iterator) else {}
            if not self._reads_before_calls and iterator is None:
                self._call_step = None
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

    def record(
        self,
        known: TappedIterator,
        optional: bool,
        parts: list[Component],
        step: Callable[[], int | None],
        values: Callable[[], Mapping[int, int]],
    ) -> None:
        """Records an element, or the end, by the values of a graph.

        Args:
            known: its iterator.
            optional: whether the first of `parts` says if there is an element.
            parts: its components.
            step: tells the model's step before it.
            values: tells what all counters say before it.
        """
        if optional:
            if not parts[0]:
                self.recorder.end(known)
                return
            del parts[0]
        self.recorder.taken(known, parts, step, values)


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


__all__ = ["Gate", "Tap", "install"]
