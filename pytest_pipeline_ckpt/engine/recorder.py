"""Child side: what the tap does with an element, whichever way it came: identity, fingerprint, records, gate."""

from __future__ import annotations

import functools
import os
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf
from tensorflow.python.util import tf_stack

from . import elements
from .fingerprint import fingerprint
from .hidden import is_installed
from .ledger import PREVIEW_LIMIT, LedgerWriter
from .model import Flag, Kind, Stream
from .pace import Pace
from .previews import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from .fingerprint import Component
    from .steps import Steps

STEPS_FIRST = 64
"""The first elements of a life each get a STEP record..."""
STEPS_EVERY = 32
"""...and of those after them every 32nd of each iterator, or each where steps take different numbers of elements."""
_FRAMES = 8
_NO_USER_FRAME = "the dataset"
_ROLES = {"evaluate": "evaluate", "predict": "predict", "_maybe_symbolic_build": "build", "_symbolic_build": "build"}
"""Functions of frameworks, and what the iterators are for that they make. Keras 3 looks at an element to build a model
that is made for a distribution strategy, and on JAX any."""
_NO_PIPELINE = "single_batch_iterator"
"""Keras 2 puts the arrays given to `train_on_batch` through a dataset of one element: no pipeline of the user's."""
_FRAMEWORK = tuple(
    os.path.join(os.path.dirname(path), "") for path in (os.__file__, tf.__file__, os.path.dirname(__file__))
)
_KERAS = tuple(f"{os.sep}{name}{os.sep}" for name in ("keras", "tf_keras"))
_FRAMEWORK_PACKAGES = (*_KERAS, *(f"{os.sep}{name}{os.sep}" for name in ("tensorflow_estimator", "wrapt")))
_BELOW_THE_USER = os.path.join(os.path.dirname(__file__), "worker.py")


class Gate(Protocol):
    """What may hold the training at an element."""

    asks: bool
    """Whether it may hold the training before its first element."""

    def asked(self, key: str) -> None:
        """Called while `asks`, when the stream of this key is asked for an element; may block, and ends `asks`."""

    def taken(self, stream: Stream) -> None:
        """Called once for each element when it has been recorded and before the trainer gets it; may block."""


@dataclass(frozen=False, slots=True)
class Source:
    """Code that makes iterators."""

    key: str
    label: str
    components: tuple[dict[str, Any], ...]
    opaque: str | None
    ignored: bool = False
    stream: Stream | None = None
    iterators: int = 0


@dataclass(frozen=False, slots=True)
class TappedIterator:
    """One iterator, or one pass of a v1 iterator that is initialised again and again."""

    source: Source
    leaves: Callable[[Any], Iterable[Any]] | None = None
    """Of `elements.dense_leaves`; one line of code may make iterators of several specs."""
    number: int | None = None
    """Among the iterators of the life; None: it was seen only when an element left it."""
    ordinal: int = -1
    """Among those of its source: given when it is made, or with its first record if that was not seen."""
    begun: bool = False
    """Whether it has a record: frameworks make iterators that nobody ever reads."""
    taken: int = 0
    ended: bool = False
    restores: int = -1
    """How many restores there had been at its last element."""
    pace: Pace = field(default_factory=Pace)

    def due(self, restores: int, in_life: int) -> bool:
        """Whether the next element gets a STEP."""
        regular = self.taken % STEPS_EVERY == 0 or in_life < STEPS_FIRST
        return regular or self.pace.uneven or self.restores != restores or self.ended


def where(frame: FrameType | None = None) -> tuple[str, str]:
    """Key and label of the code that is running: the user's frames, without frameworks and the standard library.

    Args:
        frame: the innermost that counts; None: the caller's.
    """
    frames: list[Any] = []
    installed: list[Any] = []
    role = ""
    frame = frame or sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _BELOW_THE_USER:
        code = frame.f_code
        place = (code.co_filename, frame.f_lineno, code.co_name)
        if is_generated(code.co_filename):
            place = _origin(place)
        if is_users(place[0]):
            (installed if is_installed(place[0]) else frames).append(place)
        elif code.co_name == _NO_PIPELINE:
            return _NO_PIPELINE, _NO_PIPELINE
        elif code.co_name in _ROLES and not role:
            # Keras and Estimator make training and validation iterators for one and the same user's line.
            role = _ROLES[code.co_name]
        frame = frame.f_back
    frames = (frames or installed)[:_FRAMES]  # a training that is installed has no frame outside site-packages
    if not frames:
        key = label = _NO_USER_FRAME
    else:
        key = " > ".join(f"{path}:{line}:{name}" for path, line, name in reversed(frames))
        path, line, name = frames[0]
        label = f"{os.path.basename(path)}:{line}, in {name}"
    return (f"{key} ({role})", f"{label} ({role})") if role else (key, label)


@functools.lru_cache(maxsize=4096)  # asked of each frame at an element
def is_users(path: str) -> bool:
    """Whether a code's file is the user's, or of a package that is neither a framework nor the standard library."""
    if path.startswith("<frozen ") or path.startswith(_FRAMEWORK) or any(map(path.__contains__, _FRAMEWORK_PACKAGES)):
        return False
    return not is_generated(path)


def is_of_keras(path: str) -> bool:
    """Whether a code's file is one of Keras, as a package of its own."""
    return any(map(path.__contains__, _KERAS))


def is_generated(path: str) -> bool:
    """Whether AutoGraph has made a code of the user's."""
    return os.path.basename(path).startswith("__autograph_generated_file")


def _origin(place: tuple[str, int, str]) -> tuple[str, int, str]:
    """File, line and name in the user's code of a place in the code that AutoGraph has made of it; else as it is."""
    mapper = tf_stack._source_mapper_stacks[threading.get_ident()][-1]
    found: tuple[str, int, str] = mapper.get_effective_source_map().get(place[:2], place)
    return found


class Recorder:
    """Writes the ledger: one lock for record and gate, so records are in the order in which elements got through."""

    def __init__(self, writer: LedgerWriter, gate: Gate, steps: Steps) -> None:
        self.steps = steps
        self.in_life = 0
        self.begins: Callable[[TappedIterator], None] = lambda _: None
        """Called when the first element is taken of an iterator."""
        self._writer = writer
        self._gate = gate
        self._in_child = False
        os.register_at_fork(after_in_child=self._forked)
        # Reentrant: a signal handler may save, or take an element, while the gate holds the main thread.
        self._lock = threading.RLock()
        self._sources: dict[str, Source] = {}
        self._streams = 0
        self._opaque_named = False

    def source(self, element_spec: Any) -> Source:
        """The source for the user code that is running."""
        key, label = where()
        with self._lock:
            known = self._sources.get(key)
            if known is None:
                ignored = key == _NO_PIPELINE
                known = Source(key, label, *elements.describe(element_spec), ignored=ignored)
                self._sources[key] = known
            return known

    def asked(self, iterator: Any) -> None:
        """Tells the gate that user code asks for an element, or builds the graph that will."""
        if self._gate.asks and not self._in_child:
            source: Source = getattr(iterator, "_preempt_source", None) or self.source(iterator.element_spec)
            with self._lock:
                self._gate.asked(source.key)

    def due(self, iterator: TappedIterator) -> bool:
        """Whether the next element of an iterator gets a STEP."""
        return iterator.due(self.steps.restores, self.in_life)

    def taken(
        self,
        iterator: TappedIterator,
        parts: Sequence[Component],
        step: Callable[[], int | None],
        values: Callable[[], Mapping[int, int]],
    ) -> None:
        """Records an element; returns when the trainer may have it.

        Args:
            iterator: that has given it.
            parts: its components.
            step: tells the model's step before it.
            values: tells what all counters say before it, by their ids.
        """
        if self._skips(iterator):
            return
        digest = fingerprint(parts)
        flags = int(Flag.OPAQUE) if iterator.leaves is None and elements.has_opaque(parts) else 0
        preview = pack(parts) if self.in_life < PREVIEW_LIMIT else b""
        with self._lock:
            if iterator.ended:
                self._forget(iterator)
            stream = self._begun(iterator)
            self.steps.before_element(self.in_life + 1)
            if self.due(iterator):
                self._step(iterator, stream, step, values)
            if flags and not self._opaque_named:
                self._opaque_named = True
                self._writer.opaque(iterator.source.opaque or "an element")
            self._writer.element(
                stream.index,
                iterator.ordinal,
                digest.value,
                rows_digest=digest.rows_digest,
                rows=digest.rows,
                preview=preview,
                flags=flags,
            )
            iterator.taken += 1
            self.in_life += 1
            self._gate.taken(stream)

    def _step(
        self,
        iterator: TappedIterator,
        stream: Stream,
        step: Callable[[], int | None],
        values: Callable[[], Mapping[int, int]],
    ) -> None:
        """Writes the STEP of the next element, and directly before it all counters, where they are wanted."""
        value = step()
        if value is None:
            return
        read = values() if self.steps.wants_values(self.in_life) else {}
        with self._writer.together():
            if read:
                self.steps.evidence.read("element", read)
            self._writer.event(Kind.STEP, value, stream=stream.index, iterator=iterator.ordinal)
        iterator.restores = self.steps.restores
        if value >= 0:
            iterator.pace.sees(iterator.taken, value)

    def end(self, iterator: TappedIterator, *, step: int = 0, idle: int = 0) -> None:
        """Records that an iterator is exhausted, once, or whenever the model counts a step all the same.

        Args:
            iterator: that has no further element.
            step: the model's step now, where `idle` is not 0.
            idle: steps that the model counted although there was no element for them.
        """
        with self._lock:
            if self._skips(iterator) or (iterator.ended and not idle):
                return
            stream = self._begun(iterator)
            iterator.ended = True
            self._writer.event(Kind.END, step, stream=stream.index, iterator=iterator.ordinal, idle=idle)

    def _skips(self, iterator: TappedIterator) -> bool:
        # A process that the user's code forked takes elements that are not this life's.
        return iterator.source.ignored or self._in_child

    def _forked(self) -> None:
        self._in_child = True

    def restart(self, iterator: TappedIterator) -> None:
        """Notes that a v1 iterator is initialised: what it yields next is another pass."""
        with self._lock:
            self._forget(iterator)

    @staticmethod
    def _forget(iterator: TappedIterator) -> None:
        iterator.ordinal, iterator.begun = -1, False
        iterator.taken, iterator.ended, iterator.pace = 0, False, Pace()

    def _begun(self, iterator: TappedIterator) -> Stream:
        """The stream of an iterator that is about to get a record."""
        source = iterator.source
        if source.stream is None:
            source.stream = Stream(self._streams, source.key, source.label, source.components)
            self._streams += 1
            self._writer.stream(source.stream)
        if not iterator.begun:
            self.made(iterator)
            iterator.begun = True
            self.begins(iterator)
        return source.stream

    def made(self, iterator: TappedIterator) -> None:
        """Gives an iterator its number: of several that one line makes, which is read first differs between lives."""
        with self._lock:
            if iterator.ordinal < 0:
                iterator.ordinal = iterator.source.iterators
                iterator.source.iterators += 1


__all__ = ["Gate", "Recorder", "Source", "TappedIterator", "is_generated", "is_of_keras", "is_users", "where"]
