"""Child side: finds the model's step in training code that knows nothing of us, and reads it.

Sources, the first that exists wins:

1. the `step` callable given to the check;
2. the `global_step` of the session's graph, read by a run of its own *before* the user's run: in the same run it races;
3. `optimizer.iterations` of the Keras model that was trained last, else of the one whose weights were loaded last;
4. an integer scalar variable called `step` or `global_step` in the object of the last `tf.train.Checkpoint` that
   saved or restored, else of the last constructed one;
5. `optimizer.iterations` reachable from that Checkpoint;
6. `optimizer.iterations` of the Keras model that was compiled last.

Saves and restores are seen here too. Keras is never imported by us: its classes are wrapped when the user's import of
it is done.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import wrapt
from tensorflow.python.checkpoint import checkpoint as checkpoint_lib
from tensorflow.python.client import session as session_lib
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.ops.gen_resource_variable_ops import read_variable_op
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable
from tensorflow.python.training import saver as saver_lib
from tensorflow.python.training import training_util

from .model import UNKNOWN_STEP, Kind
from .saving import SaveCosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .ledger import LedgerWriter
    from .patches import Patches

KERAS_MODELS = ("keras.src.models.model", "keras.src.engine.training", "tf_keras.src.engine.training")
"""Where `Model` is defined: Keras 3, Keras 2 (`tf.keras` of TF 2.15), and Keras 2 beside a newer TensorFlow."""
_NAMES = ("step", "global_step")
_DEPTH = 3
_CANDIDATES = 16


def _read_eagerly(variable: Any) -> int:
    """The value of a variable of TensorFlow or Keras, or of an eager tensor."""
    if not isinstance(variable, BaseResourceVariable):
        variable = getattr(variable, "value", variable)  # Keras 3 has variables of its own
        variable = variable() if callable(variable) else variable  # those of a distribution strategy: on this replica
    if isinstance(variable, BaseResourceVariable):
        # `numpy()` runs two operations through the Python dispatcher; this is one, and half of the time.
        return int(read_variable_op(variable.handle, variable.dtype)._numpy())
    return int(variable.numpy())


def _read_in_session(session: Any, variable: Any) -> int:
    """The value of a graph's variable, as `Session.make_callable` runs it: half of the time of `Session.run`.

    The fetch is the tensor that the variable has for being fetched, so no op is added. Our own runs do not go through
    the wrapped `run`, and so are not seen by the tap.
    """
    tensor = session.graph.as_graph_element(variable)
    session._extend_graph()
    return int(session._call_tf_sessionrun(None, {}, [tensor._as_tf_output()], [], None)[0])


@dataclass(frozen=True, slots=True)
class VariableStep:
    """The step is a variable."""

    variable: Any

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return id(self.variable)

    def value(self) -> int:
        """The step now; eager code only."""
        return _read_eagerly(self.variable)

    def tensor(self) -> Any:
        """A read of the step in the graph that is being built, as an int64 scalar."""
        return tf.cast(tf.convert_to_tensor(self.variable), tf.int64)


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """The step is a Keras optimizer's `iterations`: a variable, or computed when gradients are accumulated."""

    optimizer: Any

    @property
    def key(self) -> int:
        """Equal for equal sources."""
        return id(self.optimizer)

    def value(self) -> int:
        """The step now; eager code only."""
        return _read_eagerly(self.optimizer.iterations)

    def tensor(self) -> Any:
        """A read of the step in the graph that is being built, as an int64 scalar."""
        return tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64)


StepSource = VariableStep | OptimizerStep


class Steps:
    """Knows the model's step; writes SAVED and RESTORED."""

    def __init__(self, writer: LedgerWriter, step: Callable[[], int] | None, model_dir: Path | None = None) -> None:
        self.given = step
        self.restores = 0
        """Counts restores: the first element of an iterator after one gets a STEP."""
        self.version = 0
        """Changes whenever another source may have become the first."""
        self._writer = writer
        self._found: StepSource | None = None
        self._found_version = -1
        self._trained: Any = None
        self._loaded: Any = None
        self._compiled: weakref.ref[Any] | None = None
        self._constructed: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._used: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._of_checkpoint: StepSource | None = None
        self._session: Any = None
        self._session_step = UNKNOWN_STEP
        self._nesting = threading.local()
        self._costs = SaveCosts(writer, model_dir)

    def install(self, patches: Patches) -> None:
        """Wraps what constructs, saves and restores models."""
        for owner in (checkpoint_lib.Checkpoint, checkpoint_lib.CheckpointV1):
            patches.wrap(owner, "__init__", self._constructs)
            for name in ("save", "write", "_write"):
                patches.wrap(owner, name, functools.partial(self._saves, note=self._note_used))
            for name in ("restore", "read"):
                if hasattr(owner, name):
                    patches.wrap(owner, name, functools.partial(self._restores, note=self._note_used))
        patches.wrap(saver_lib.Saver, "save", self._saver_saves)
        patches.wrap(saver_lib.Saver, "restore", self._saver_restores)
        patches.wrap(session_lib.BaseSession, "close", self._session_closes)
        for name in KERAS_MODELS:
            wrapt.when_imported(name)(functools.partial(self._keras_imported, patches))

    def note_restored(self) -> None:
        """An iterator was restored, by itself or with a checkpoint: its next element gets a STEP."""
        self.restores += 1

    # Reading.

    def source(self) -> StepSource | None:
        """The variable that counts the model's steps, by what has been seen so far; never a session's."""
        if self._found is None or self._found_version != self.version:
            self._found_version = self.version
            self._found = self._find()
        return self._found

    def eager(self) -> int:
        """The step as eager code sees it now; `UNKNOWN_STEP` when nothing tells it."""
        if self.given is not None:
            return self._read(self.given)
        source = self.source()
        if source is None or not context.executing_eagerly():
            return UNKNOWN_STEP
        return self._read(source.value)

    def of_session(self, session: Any) -> int:
        """The step of a session's graph, before its next run. Adds no op: the graph may be finalized."""
        if self.given is not None:
            return self._read(self.given)
        variable = _global_step(session.graph)
        if variable is None:
            # An object-based variable of this graph, if a Checkpoint has one.
            source = self.source()
            variable = source.variable if isinstance(source, VariableStep) else None
            if variable is None or getattr(variable, "graph", None) is not session.graph:
                return UNKNOWN_STEP
        step = self._read(lambda: _read_in_session(session, variable))
        if step != UNKNOWN_STEP:
            self._session, self._session_step = session, step
        return step

    def final(self) -> int:
        """The step when the training code has returned."""
        if self.given is None and self._session is not None:
            self.of_session(self._session)
        if self.given is None and self._session_step != UNKNOWN_STEP:
            return self._session_step
        return self.eager()

    @staticmethod
    def _read(read: Callable[[], int]) -> int:
        """Not initialised, not built, deleted, a callable that is not ready: none may end the user's training."""
        try:
            return int(read())
        except Exception:
            return UNKNOWN_STEP

    def _find(self) -> StepSource | None:
        for model in (self._trained, self._loaded):
            optimizer = _optimizer(model)
            if optimizer is not None:
                return OptimizerStep(optimizer)
        for reference in (*reversed(self._used), *reversed(self._constructed)):
            checkpoint = reference()
            found = None if checkpoint is None else _step_of(checkpoint)
            if found is not None:
                # Held: a function that has returned has dropped its Checkpoint, and the last step is still to be read.
                self._of_checkpoint = found
                break
        if self._of_checkpoint is not None:
            return self._of_checkpoint
        optimizer = _optimizer(self._compiled() if self._compiled is not None else None)
        return None if optimizer is None else OptimizerStep(optimizer)

    # Noting.

    def _note_constructed(self, checkpoint: Any) -> None:
        self._constructed.append(weakref.ref(checkpoint))
        self.version += 1

    def _note_used(self, checkpoint: Any) -> None:
        """Makes a Checkpoint the last one that saved or restored."""
        if self._used and self._used[-1]() is checkpoint and self._of_checkpoint is not None:
            return
        self._used.append(weakref.ref(checkpoint))
        self.version += 1

    def _note_model(self, role: str, model: Any) -> None:
        if role == "compiled":
            # Whoever compiles another model is about to train that one.
            self._trained = self._trained if self._trained is model else None
            self._loaded = self._loaded if self._loaded is model else None
            self._compiled = weakref.ref(model)
        elif getattr(self, f"_{role}") is model:
            return
        else:
            setattr(self, f"_{role}", model)
        self.version += 1

    def _outermost(self) -> bool:
        return getattr(self._nesting, "depth", 0) == 0

    def _event(self, kind: Kind, *, session: Any = None) -> None:
        if session is None and self.given is None:
            self._writer.event_as_of_now(kind, self.eager)
        else:  # a run of a session, or the user's code, may wait for a thread that waits for us
            self._writer.event(kind, self.eager() if session is None else self.of_session(session))
        if kind is Kind.RESTORED:
            self.restores += 1

    def _nested(self, call: Callable[[], Any]) -> Any:
        self._nesting.depth = getattr(self._nesting, "depth", 0) + 1
        try:
            return call()
        finally:
            self._nesting.depth -= 1

    def _saving(self, save: Callable[[], Any]) -> Any:
        """What `_nested` does; of the outermost save the cost is written down."""
        return self._nested(functools.partial(self._costs.timed, save) if self._outermost() else save)

    # Wraps. Each calls the original and lets its result and its exceptions through.

    def _constructs(self, original: Any) -> Any:
        def __init__(checkpoint: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            original(checkpoint, *args, **kwargs)
            self._note_constructed(checkpoint)

        return __init__

    def _saves(self, original: Any, *, note: Callable[[Any], None]) -> Any:
        def save(saved: Any, *args: Any, **kwargs: Any) -> Any:
            result = self._saving(lambda: original(saved, *args, **kwargs))
            if self._outermost():
                note(saved)
                self._event(Kind.SAVED, session=_graph_session())
            return result

        return save

    def _restores(self, original: Any, *, note: Callable[[Any], None]) -> Any:
        def restore(restored: Any, *args: Any, **kwargs: Any) -> Any:
            result = self._nested(lambda: original(restored, *args, **kwargs))
            path = args[0] if args else next(iter(kwargs.values()), None)
            if self._outermost() and path is not None:
                note(restored)
                self._event(Kind.RESTORED, session=_graph_session())
            return result

        return restore

    def _saver_saves(self, original: Any) -> Any:
        def save(saver: Any, sess: Any, *args: Any, **kwargs: Any) -> Any:
            result = self._saving(lambda: original(saver, sess, *args, **kwargs))
            if self._outermost() and _saves_the_model(saver, sess):
                self._event(Kind.SAVED, session=_raw(sess))
            return result

        return save

    def _saver_restores(self, original: Any) -> Any:
        def restore(saver: Any, sess: Any, save_path: Any) -> Any:
            result = self._nested(lambda: original(saver, sess, save_path))
            if self._outermost() and _saves_the_model(saver, sess):
                self._event(Kind.RESTORED, session=_raw(sess))
            return result

        return restore

    def _session_closes(self, original: Any) -> Any:
        def close(session: Any, *args: Any, **kwargs: Any) -> Any:
            if not getattr(session, "_closed", True):
                self.of_session(session)
            if self._session is session:
                self._session = None
            return original(session, *args, **kwargs)

        return close

    def _keras_imported(self, patches: Patches, module: Any) -> None:
        if not patches.active:
            return
        model = module.Model
        note = functools.partial(self._note_model, "loaded")
        for name in ("fit", "train_on_batch", "compile"):
            patches.wrap(model, name, self._keras_trains)
        for name in ("save_weights", "save"):
            patches.wrap(model, name, functools.partial(self._saves, note=lambda _: None))
        patches.wrap(model, "load_weights", functools.partial(self._restores, note=note))

    def _keras_trains(self, original: Any) -> Any:
        role = "compiled" if original.__name__ == "compile" else "trained"

        def train(model: Any, *args: Any, **kwargs: Any) -> Any:
            if role == "trained":
                self._note_model(role, model)
            result = original(model, *args, **kwargs)
            # A model that is compiled anew has another optimizer; a lazily built one has one only now.
            self._note_model(role, model)
            self.version += role == "compiled"
            return result

        return train


def _optimizer(model: Any) -> Any:
    """The optimizer of a compiled Keras model, if it counts steps already."""
    optimizer: Any = getattr(model, "optimizer", None)
    return optimizer if optimizer is not None and _counts_steps(optimizer) else None


def _step_of(checkpoint: Any) -> StepSource | None:
    """A step variable in a Checkpoint's object graph, else an optimizer: breadth first, so the shallowest wins."""
    optimizer: StepSource | None = None
    seen = {id(checkpoint)}
    level = [checkpoint]
    for _ in range(_DEPTH):
        below = []
        for name, child in _children(level):
            if id(child) in seen:
                continue
            seen.add(id(child))
            if name in _NAMES and isinstance(child, tf.Variable) and child.dtype.is_integer and child.shape.rank == 0:
                return VariableStep(child)
            if optimizer is None and not isinstance(child, tf.Variable) and _counts_steps(child):
                optimizer = OptimizerStep(child)
            below.append(child)
        level = below
    return optimizer


def _children(parents: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for parent in parents:
        try:
            yield from parent._trackable_children().items()
        except Exception:  # an object that cannot be saved says so at the save, not here
            continue


def _counts_steps(candidate: Any) -> bool:
    if not (hasattr(candidate, "apply_gradients") or hasattr(candidate, "apply")):
        return False
    # The `iterations` of a legacy optimizer of Keras 2 creates the variable when it is read: that is the user's to do.
    if hasattr(candidate, "_iterations"):
        return candidate._iterations is not None
    return hasattr(type(candidate), "iterations")


def _saves_the_model(saver: Any, session: Any) -> bool:
    """Whether a Saver has the global step, where there is one: input pipelines and backbones are not the model."""
    raw = _raw(session)
    variable = None if raw is None else _global_step(raw.graph)
    listed = saver._var_list
    if variable is None or listed is None:
        return True
    saved = listed.values() if isinstance(listed, dict) else listed
    name = variable.name
    return any(getattr(one, "name", None) == name for one in saved)


def _global_step(graph: Any) -> Any:
    try:
        return training_util.get_global_step(graph)
    except (TypeError, RuntimeError):  # something else has that name, or there are several
        return None


def _raw(session: Any) -> Any:
    """The session under MonitoredSession's wrappers."""
    while session is not None and not isinstance(session, session_lib.BaseSession):
        session = getattr(session, "_sess", None)
    return session


def _graph_session() -> Any:
    """The session that an object-based save in a v1 graph runs in; None in eager code."""
    return None if context.executing_eagerly() else _raw(ops.get_default_session())


__all__ = ["KERAS_MODELS", "OptimizerStep", "StepSource", "Steps", "VariableStep"]
