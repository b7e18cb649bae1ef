"""Child side: the tap on iterators of `tf.distribute`. Imports TensorFlow.

A distributed iterator has an iterator for each device, and gives an element of each at a time. That is one element
here, whatever number of replicas it feeds: their components are put together again, as rows of one batch. So a step's
elements do not depend on the machine, and what is compared is the batch that the user's pipeline has made. It is
recorded where the user's code takes it, behind the prefetching to the devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.distribute import input_lib
from tensorflow.python.eager import context

from . import elements

if TYPE_CHECKING:
    from .patches import Patches
    from .tap import Tap


class DistributedTap:
    """Wraps the points where elements leave distributed iterators."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def install(self, patches: Patches) -> None:
        """Wraps what makes and reads them."""
        for dataset in (input_lib.DistributedDataset, input_lib.DistributedDatasetsFromFunction):
            patches.wrap(dataset, "__iter__", self._makes)
        patches.wrap(input_lib.DistributedIteratorBase, "get_next", self._gets)
        patches.wrap(input_lib.DistributedIteratorBase, "get_next_as_optional", self._gets_optional)

    def _makes(self, original: Any) -> Any:
        def __iter__(dataset: Any) -> Any:  # noqa: N807 - it replaces one
            with self._tap.parts():
                iterator = original(dataset)
            self._tap.made(iterator, _resource(iterator), _of_the_user(dataset), saveable=False)
            return iterator

        return __iter__

    def _gets(self, original: Any) -> Any:
        def get_next(iterator: Any, name: Any = None) -> Any:
            if self._tap.distributing():
                return original(iterator, name)
            self._tap.recorder.asked(iterator)
            try:
                with self._tap.parts():
                    element = original(iterator, name)
            except tf.errors.OutOfRangeError:
                if context.executing_eagerly():
                    self._tap.recorder.end(iterator._preempt_iterator)
                raise
            return self._seen(iterator, element)

        return get_next

    def _gets_optional(self, original: Any) -> Any:
        def get_next_as_optional(iterator: Any) -> Any:
            self._tap.recorder.asked(iterator)
            with self._tap.parts():
                optional = original(iterator)
            if not context.executing_eagerly():
                return self._seen(iterator, optional)
            if optional.has_value():
                self._seen(iterator, optional.get_value())
            else:
                self._tap.recorder.end(iterator._preempt_iterator)
            return optional

        return get_next_as_optional

    def _seen(self, iterator: Any, element: Any) -> Any:
        if context.executing_eagerly():
            known, steps = iterator._preempt_iterator, self._tap.steps
            self._tap.recorder.taken(known, elements.components(element, known.leaves), steps.eager, steps.values)
            return element
        source = getattr(iterator, "_preempt_source", None) or self._tap.recorder.source(iterator.element_spec)
        return self._tap.by_handle(source, _resource(iterator), element)


def _resource(iterator: Any) -> Any:
    """The resource of the first device's iterator."""
    one = iterator._iterators[0]._iterator
    return getattr(one, "_device_iterators", [one])[0]._iterator_resource


def _of_the_user(dataset: Any) -> Any:
    """The dataset that was distributed, if any is known; that of the first worker, where a function makes them."""
    return getattr(dataset, "_original_dataset", None) or next(iter(getattr(dataset, "_datasets", ())), None)


__all__ = ["DistributedTap"]
