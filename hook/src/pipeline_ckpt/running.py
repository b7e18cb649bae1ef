"""The `fit` that is running, read from its frame: what it has made of its arguments, and whether it still runs."""

from __future__ import annotations

import dataclasses
import logging
import sys
import weakref
from typing import TYPE_CHECKING, Any

from .errors import HookUsageError

if TYPE_CHECKING:
    from types import FrameType

    from .policy import Policy

logger = logging.getLogger("pipeline_ckpt")

_IN_MEMORY = ("Array", "TensorLike", "GenericArrayLike", "ListsOfScalars")
_BY_NUMBER = ("PyDataset", "KerasSequence")
_STREAMS = ("TFDataset", "Dataset", "Generator", "CompositeTensor")


class RunningFit:
    """The `fit` that has called a callback's `on_train_begin`; without one, nothing is known.

    Nothing is held: a `fit` that ends in an error tells no callback.
    """

    def __init__(self) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not _is_fit(frame):
            frame = frame.f_back
        found = {} if frame is None else frame.f_locals
        # Keras 3 and Keras 2 have another name for the same thing.
        handler = found.get("epoch_iterator", found.get("data_handler"))
        adapter = getattr(handler, "data_adapter", getattr(handler, "_adapter", None))
        self._id, self._code = id(frame), None if frame is None else frame.f_code
        self._inferred = "_num_batches" if hasattr(handler, "_num_batches") else "_inferred_steps"
        self._callbacks = _weak(found.get("callbacks"))
        self._handler = _weak(handler)
        self._kind = type(adapter).__name__.replace("DataAdapter", "").replace("Adapter", "")
        self._shuffle = found.get("shuffle", False)
        self.type_of_input = type(found.get("x")).__name__
        at_epoch_end = getattr(type(found.get("x")), "on_epoch_end", None)
        own = at_epoch_end is not None and not at_epoch_end.__module__.startswith("keras.")
        self.changes_at_epoch_end = own and self._kind in _BY_NUMBER
        """Whether it is a `PyDataset` (`Sequence`) that does something between two epochs."""
        self.new_iterator_each_epoch = adapter is not None and found.get("steps_per_epoch") is None
        """Whether each epoch surely begins the data anew."""
        length = getattr(adapter, "num_batches", None)  # Keras 3's
        self._length = length if self.new_iterator_each_epoch else None

    @property
    def runs(self) -> bool:
        """Whether this thread is still inside of it."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if id(frame) == self._id and frame.f_code is self._code:
                return True
            frame = frame.f_back
        return False

    @property
    def callbacks(self) -> Any:
        """Its `CallbackList`; None where there is none."""
        return self._callbacks()

    @property
    def unsupported(self) -> bool:
        """Whether its input is none that a position or a state can be told of."""
        return bool(self._kind) and self._kind != "NoneType" and self._kind not in _IN_MEMORY + _BY_NUMBER + _STREAMS

    @property
    def shuffles(self) -> str:
        """What it shuffles in an order that no checkpoint holds; empty for nothing."""
        if not self._shuffle:
            return ""
        return "arrays" if self._kind in _IN_MEMORY else f"a {self.type_of_input}" if self._kind in _BY_NUMBER else ""

    @property
    def shuffle(self) -> Any:
        """The argument."""
        return self._shuffle

    @property
    def inferred(self) -> int | None:
        """How many batches an epoch has, by the epochs before."""
        return getattr(self._handler(), self._inferred, None)

    def infer(self, batches: int | None) -> None:
        """Lets `fit` know what it has inferred in an earlier life."""
        handler = self._handler()
        if handler is not None and self.inferred is None:
            setattr(handler, self._inferred, batches)

    def done(self, batch: int) -> int:
        """How many batches of the epoch are done after one; Keras 3 counts an execution that is cut short as whole."""
        return batch + 1 if self._length is None else min(batch + 1, self._length)

    def has_taken(self, batches: int) -> None:
        """Lets Keras 3 know of the batches that its iterator had yielded in earlier epochs.

        It compares them with the length of the data, to know when a new iterator is due.
        """
        handler = self._handler()
        if hasattr(handler, "_steps_seen"):
            handler._steps_seen += batches


def supported(running: RunningFit, policy: Policy, *, epochs: int) -> Policy:
    """What is saved of the input of a `fit`, as far as the policy allows.

    Raises:
        HookUsageError: it cannot be resumed.
    """
    if running.unsupported:
        raise HookUsageError(
            f"fit trains on a {running.type_of_input}, whose position cannot be saved: pass a tf.data.Dataset, "
            "arrays, or a PyDataset (Sequence)."
        )
    if running.shuffles:
        sentence = (
            f"fit(shuffle={running.shuffle!r}) draws the order of {running.shuffles} anew in each process, and a "
            "resume would go on in another one"
        )
        remedy = "pass shuffle=False, or a tf.data.Dataset with its own shuffle()"
    elif running.changes_at_epoch_end and epochs > 1:
        sentence = (
            f"{running.type_of_input}.on_epoch_end may draw another order for each epoch, and a new process begins "
            "with the first one's"
        )
        remedy = "keep one order, or pass a tf.data.Dataset with its own shuffle()"
    else:
        return policy
    if policy.on_nondeterminism == "error":
        raise HookUsageError(
            f'{sentence}: {remedy}, or on_nondeterminism="warn" if repeated and lost elements do not matter.'
        )
    logger.warning("%s: elements may be repeated or lost", sentence)
    return dataclasses.replace(policy, state="position")


def _is_fit(frame: FrameType) -> bool:
    return frame.f_code.co_name == "fit" and not {"epoch_iterator", "data_handler"}.isdisjoint(frame.f_locals)


def _weak(one: Any) -> Any:
    return (lambda: None) if one is None else weakref.ref(one)


__all__ = ["RunningFit", "supported"]
