"""What an `InputPipelineCheckpoint` hands out: elements as they are, as NumPy arrays, as arrays on a device of JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import HookUsageError
from .settings import check_least

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .checkpointer import InputCheckpointer
    from .eager import LoopPipelines
    from .model_step import ModelStep


class Elements:
    """An iterable over the passes of a dataset, which knows what the training was given."""

    passes: int
    """How many passes over the data have come to their end."""
    _dataset: Any
    _iterator: Any
    _pipelines: LoopPipelines
    _checkpointer: InputCheckpointer
    _inside: bool
    _ended: bool
    _in_step: int
    _step: ModelStep

    if TYPE_CHECKING:  # what the training's own part does

        def _at(self) -> int: ...
        def _extra(self) -> Mapping[str, Any]: ...
        def _need_restored(self) -> None: ...
        def _renew(self) -> list[Any]: ...

    @property
    def iterator(self) -> Any:
        """The iterator, for a `tf.function` that takes its elements; after the end of a pass that of the next one.

        What is taken of it is not counted: see `elements_per_step`.
        """
        self._need_restored()
        if self._pipelines.ahead:
            raise HookUsageError(
                f"{len(self._pipelines.ahead)} elements were on their way to the device when the checkpoint was saved, "
                "and data.iterator does not have them: take them by `for batch in data`, or by prefetch_to_device."
            )
        self._pipelines.countable = False
        self._begin_pass_if_ended()
        return self._iterator

    def end_pass(self) -> None:
        """A `tf.function` has raised `tf.errors.OutOfRangeError`: the pass over the data has come to its end."""
        if not self._ended:
            if not self._inside:
                self._checkpointer.observe(self._at(), extra=self._extra())
            self._ended = True
            self.passes += 1

    def __iter__(self) -> Iterator[Any]:
        """The elements up to the end of the pass; a new pass if the last one has come to its end."""
        self._need_restored()
        self._begin_pass_if_ended()
        return self

    def __next__(self) -> Any:
        """The next element of the pass."""
        self._need_restored()
        ahead = self._pipelines.ahead
        if not ahead and not self._take_ahead():
            self.end_pass()
            raise StopIteration
        return self._hand_out().element

    def as_numpy_iterator(self) -> Iterator[Any]:
        """As `iter`, with NumPy arrays for tensors, as `tf.data.Dataset.as_numpy_iterator` has them.

        No element is taken before it is asked for.
        """
        return NumpyElements(self)

    def prefetch_to_device(self, size: int, device: Any = None) -> Iterator[Any]:
        """As `iter`, with elements on a device of JAX, to which up to `size` further ones are on their way.

        Checkpoints hold those that are on their way, so none is lost at a resume, which hands them out first. (What
        `flax.jax_utils.prefetch_to_device` has taken is lost.)

        Args:
            size: How many, from 1.
            device: A `jax.Device` or `jax.sharding.Sharding`, for `jax.device_put`; default: JAX' default device.

        Raises:
            HookUsageError: `size` is no such number; or the iterator is a strategy's.
        """
        check_least("size", size, least=1)
        if not isinstance(self._dataset, tf.data.Dataset):
            raise HookUsageError(
                f"prefetch_to_device is for a tf.data.Dataset; a {type(self._dataset).__name__} brings its elements to "
                "its devices itself."
            )
        return DeviceElements(self, size, device)

    def _take_ahead(self, place: Any = None) -> bool:
        """Takes an element of the iterator, to be handed out; whether there was one."""
        try:
            element = self._pipelines.fetch()
        except StopIteration:
            return False
        self._pipelines.ahead.add(element, None if place is None else place(element))
        return True

    def _hand_out(self) -> Any:
        """The oldest element that was taken, which the training has from now on."""
        taken = self._pipelines.ahead.take()
        self._pipelines.took(1)
        self._in_step = self._at()
        self._step.handed_out()
        return taken

    def _begin_pass_if_ended(self) -> None:
        if self._ended:
            self._ended = False
            self._pipelines.use(self._renew())
            self._checkpointer.begin_pass(self._at())


class NumpyElements:
    """An iterator over elements of NumPy arrays.

    Args:
        data: what takes them.
    """

    def __init__(self, data: Elements) -> None:
        self._data = data

    def __iter__(self) -> NumpyElements:
        iter(self._data)
        return self

    def __next__(self) -> Any:
        return as_numpy(next(self._data))


class DeviceElements:
    """An iterator over elements on a device, to which further ones are on their way.

    Args:
        data: what takes them.
        size: how many further ones, at most.
        device: for `jax.device_put`.
    """

    def __init__(self, data: Elements, size: int, device: Any) -> None:
        self._data = data
        self._size = size
        self._device = device
        self._looked = False
        """Whether what was on its way before is on its way to this device."""

    def __iter__(self) -> DeviceElements:
        iter(self._data)
        return self

    def __next__(self) -> Any:
        data, ahead = self._data, self._data._pipelines.ahead
        data._need_restored()
        if not self._looked:
            ahead.place(self._place)
            self._looked = True
        while len(ahead) <= self._size and data._take_ahead(self._place):
            pass
        if not ahead:
            data.end_pass()
            raise StopIteration
        return data._hand_out().placed

    def _place(self, element: Any) -> Any:
        import jax

        return jax.device_put(as_numpy(element), self._device)


def as_numpy(element: Any) -> Any:
    """An element of a dataset as NumPy arrays, as `tf.data.Dataset.as_numpy_iterator` has it."""
    return tf.nest.map_structure(_array_of, element)


def _array_of(part: Any) -> Any:
    if isinstance(part, tf.SparseTensor):
        return tf.compat.v1.SparseTensorValue(part.indices.numpy(), part.values.numpy(), part.dense_shape.numpy())
    return part.numpy()


__all__ = ["DeviceElements", "NumpyElements", "as_numpy"]
