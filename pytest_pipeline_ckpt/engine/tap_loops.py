"""Child side: the tap on loops over datasets within one operation, which have no iterator. Imports TensorFlow.

AutoGraph makes of `for x in dataset` in a tf.function, and `dataset.reduce` is, an operation that runs the loop's body
for each element. The element is recorded where the body begins. The body is part of a dataset that lives as long as
the operation does and that nobody can save, so the tap does no harm in it. In the functions of the user's own pipeline
it would, and there it is not.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api as autograph
from tensorflow.python.autograph.operators import control_flow
from tensorflow.python.data.ops import dataset_ops, structured_function
from tensorflow.python.framework import ops

from . import elements
from .graphs import recording
from .recorder import TappedIterator

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches
    from .tap import Tap


class LoopTap:
    """Wraps what makes such loops."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._inside = threading.local()
        """`depth`: of functions of datasets, and of loops, that this thread is building."""

    def install(self, patches: Patches) -> None:
        """Wraps what makes them."""
        patches.wrap_item(control_flow.for_loop_registry._registry, dataset_ops.DatasetV2, self._loops)
        patches.wrap(dataset_ops.DatasetV2, "reduce", self._reduces)
        patches.wrap(structured_function.StructuredFunctionWrapper, "__init__", self._builds)

    def _builds(self, original: Any) -> Any:
        def __init__(function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            with _Deeper(self._inside):
                original(function, *args, **kwargs)

        return __init__

    def _loops(self, original: Any) -> Any:
        def for_stmt(dataset: Any, extra_test: Any, body: Any, *rest: Any) -> None:
            if self._passes(dataset):
                original(dataset, extra_test, body, *rest)
                return
            loop = _Loop(self._tap, dataset)

            def tapped(element: Any) -> None:
                body(loop.seen(element))

            with tf.control_dependencies([loop.begin()]), _Deeper(self._inside):
                original(dataset, extra_test, tapped, *rest)
            # A loop that was left by `break` has not come to the end of its data.
            loop.end(tf.constant(True) if extra_test is None else extra_test())

        return for_stmt

    def _reduces(self, original: Any) -> Any:
        def reduce(dataset: Any, initial_state: Any, reduce_func: Callable[..., Any], name: Any = None) -> Any:
            if self._passes(dataset):
                return original(dataset, initial_state, reduce_func, name)
            loop = _Loop(self._tap, dataset)
            # As TensorFlow converts it: our own function is not to be converted.
            body = autograph.tf_convert(reduce_func, ag_ctx.control_status_ctx())

            @autograph.do_not_convert  # type: ignore[untyped-decorator]
            def tapped(state: Any, element: Any) -> Any:
                return body(state, loop.seen(element))

            with tf.control_dependencies([loop.begin()]), _Deeper(self._inside):
                result = original(dataset, initial_state, tapped, name)
            loop.end(tf.constant(True))
            return result

        return reduce

    def _passes(self, dataset: Any) -> bool:
        """Whether a loop is not over the user's pipeline: within it, within a step, or over a part of an element."""
        return getattr(self._inside, "depth", 0) > 0 or elements.of_an_element(dataset)


class _Deeper:
    """Within it, a thread builds functions of datasets."""

    def __init__(self, inside: threading.local) -> None:
        self._inside = inside

    def __enter__(self) -> None:
        self._inside.depth = getattr(self._inside, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        self._inside.depth -= 1


class _Loop:
    """One loop of the user's code, with an iterator of ours for each time that it runs."""

    def __init__(self, tap: Tap, dataset: Any) -> None:
        self._tap = tap
        self._source = self._preempt_source = tap.recorder.source(dataset.element_spec)
        self._current = TappedIterator(self._source)
        self._graph = ops.get_default_graph()
        self._before = len(self._graph.get_operations())
        tap.recorder.asked(self)

    def begin(self) -> Any:
        """The operation that comes before the loop."""

        def begin() -> Any:
            self._current = TappedIterator(self._source)
            self._tap.witness.made(self._current, self._source, None, saveable=False)
            return ()

        return recording(begin, [])

    def seen(self, element: Any) -> Any:
        """An element at the beginning of the loop's body."""
        return self._tap.recorded(element, lambda: self._current)

    def end(self, exhausted: Any) -> Any:
        """The operation that comes behind the loop."""

        def end(exhausted: Any) -> Any:
            if exhausted:
                self._tap.recorder.end(self._current)
            return ()

        made = self._graph.get_operations()[self._before :]
        with tf.control_dependencies([op for op in made if op.type == "ReduceDataset"]):
            return recording(end, [tf.convert_to_tensor(exhausted)])


__all__ = ["LoopTap"]
