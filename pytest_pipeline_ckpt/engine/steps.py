"""Child side: knows the model's step in training code that knows nothing of us, and sees what it saves and restores.

All counters are read and written down (`counters`, `evidence`). The ledger itself has one, the first that exists:

1. the `step` callable given to the check;
2. the `global_step` of the session's graph, read by a run of its own *before* the user's run: in the same run it races;
3. the optimizer of the Keras model that was trained last, if it is applied or may be; of the one whose weights were
   loaded last, if it is applied;
4. in the object of the last `tf.train.Checkpoint` that saved or restored, else of the last constructed one, that holds
   weights: an integer scalar called `step` or `global_step`, else an optimizer, else its only integer scalar;
5. the optimizer that was applied last, since a model was compiled or trained;
6. optimizers that have not been applied: of the trained, the loaded, or the compiled model;
7. as 4, of a Checkpoint that holds neither weights nor iterators; then of one that holds iterators only.

Saves and restores are seen here too (`lineage`). Keras is never imported by us: its classes are wrapped when the user's
import of it is done (`keras_calls`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as checkpoint_lib
from tensorflow.python.client import session as session_lib
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.training import saver as saver_lib
from tensorflow.python.training import training_util

from .contents import is_variable, is_weight, key_of, name_of, weights_of
from .counters import Counters, OptimizerStep, StepSource, VariableStep, optimizer_step
from .evidence import Counter, EvidenceWriter
from .keras_calls import KerasCalls
from .lineage import Lineage, quietly
from .model import UNKNOWN_STEP, Kind
from .saving import SaveCosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from .evidence import Role, Why
    from .ledger import LedgerWriter
    from .patches import Patches

_CANDIDATES = 16
_OF_OPTIMIZERS = ("optimizer", "/_variables/", "OPTIMIZER_SLOT")
"""In the keys of what checkpoints have of optimizers."""
_BACKGROUND = "tensorflow.python.checkpoint.async_checkpoint_helper"
ELEMENTS_READ = 8
"""Before each of so many elements of a life all counters are read; then, where there are several, with each STEP."""


def _read_in_session(session: Any, variable: Any) -> int:
    """The value of a graph's variable, as `Session.make_callable` runs it: half of the time of `Session.run`.

    The fetch is the tensor that the variable has for being fetched, so no op is added. Our own runs do not go through
    the wrapped `run`, and so are not seen by the tap.
    """
    tensor = session.graph.as_graph_element(variable)
    session._extend_graph()
    return int(session._call_tf_sessionrun(None, {}, [tensor._as_tf_output()], [], None)[0])


class Steps:
    """Knows the model's step; writes SAVED and RESTORED."""

    def __init__(self, writer: LedgerWriter, step: Callable[[], int] | None, model_dir: Path | None = None) -> None:
        self.given = step
        self.restores = 0
        """Counts restores: the first element of an iterator after one gets a STEP."""
        self.evidence = EvidenceWriter(
            writer.directory, None if model_dir is None else model_dir.parent, lambda: writer.records
        )
        self.counters = Counters(self.evidence)
        self.lineage = Lineage(self.evidence)
        self.lineage.more = self._weights_seen
        self._writer = writer
        self._version = 0
        self._found: StepSource | None = None
        self._found_version: tuple[int, int] | None = None
        self._trained: Any = None
        self._applications = 0
        """How many optimizers had been applied when a model was compiled, or began to be trained, last."""
        self._loaded: Any = None
        self._compiled: weakref.ref[Any] | None = None
        self._constructed: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._used: deque[weakref.ref[Any]] = deque(maxlen=_CANDIDATES)
        self._of_checkpoints: dict[Role, StepSource] = {}
        self._given_number: int | None = None
        self._session: Any = None
        self._session_step = UNKNOWN_STEP
        self._of_sessions: dict[Any, int] = {}
        """The ids of the counters in graphs, by the variables' keys."""
        self._session_values: dict[int, int] = {}
        self._nesting = threading.local()
        self._costs = SaveCosts(writer, model_dir)

    def install(self, patches: Patches) -> None:
        """Wraps what constructs, saves and restores models."""
        for owner in (checkpoint_lib.Checkpoint, checkpoint_lib.CheckpointV1):
            patches.wrap(owner, "__init__", self._constructs)
            for name in ("save", "write", "_write"):
                patches.wrap(owner, name, self._saves)
            for name in ("restore", "read"):
                if hasattr(owner, name):
                    patches.wrap(owner, name, self._restores)
        patches.wrap(saver_lib.Saver, "save", self._saver_saves)
        patches.wrap(saver_lib.Saver, "restore", self._saver_restores)
        patches.wrap(session_lib.BaseSession, "close", self._session_closes)
        KerasCalls(self).install(patches)

    def note_restored(self) -> None:
        """An iterator was restored, by itself or with a checkpoint: its next element gets a STEP."""
        self.restores += 1

    # Reading.

    def source(self) -> StepSource | None:
        """The variable that counts the model's steps, by what has been seen so far; never a session's."""
        version = (self._version, self.counters.version)
        if self._found is None or self._found_version != version:
            self._found_version = version
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
            self._session_values = {self._counter_of(session.graph, variable): step}
        return step

    def final(self) -> int:
        """The step when the training code has returned."""
        if self.given is None and self._session is not None:
            self.of_session(self._session)
        if self.given is None and self._session_step != UNKNOWN_STEP:
            return self._session_step
        return self.eager()

    def session_values(self) -> Mapping[int, int]:
        """What `of_session` has read last, by the counters' ids."""
        return self._session_values if self.given is None else self._given_value()

    def values(self) -> Mapping[int, int]:
        """The values of all counters now, by their ids; of a session's those that were read last."""
        if self.given is not None:
            return self._given_value()
        return self.counters.values() or self._session_values

    def _given_value(self) -> Mapping[int, int]:
        if self._given_number is None:
            self._given_number = self.evidence.counter(Counter("step=", "model", "the step callable"))
        value = self._read(self.given or (lambda: UNKNOWN_STEP))
        return {} if value == UNKNOWN_STEP else {self._given_number: value}

    def wants_values(self, in_life: int) -> bool:
        """Whether all counters are to be read before an element that gets a STEP."""
        return in_life < ELEMENTS_READ or self.counters.several

    @quietly
    def read_all(self, why: Why) -> None:
        """Writes down the values of all counters."""
        values = self.values()
        if values:
            self.evidence.read(why, values)

    @staticmethod
    def _read(read: Callable[[], int]) -> int:
        """Not initialised, not built, deleted, a callable that is not ready: none may end the user's training."""
        try:
            return int(read())
        except Exception:
            return UNKNOWN_STEP

    def _counter_of(self, graph: Any, variable: Any) -> int:
        """The id of a counter in a graph."""
        key = (id(graph), variable.name)
        number = self._of_sessions.get(key)
        if number is None:
            trained = graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
            iterators = graph.get_collection("iterators") or graph.get_collection("saveable_objects")
            role: Role = "model" if trained else "data" if iterators else "bare"
            owner = {"model": "a graph with trained variables", "data": "a graph with iterators only"}.get(
                role, "a graph"
            )
            number = self._of_sessions[key] = self.evidence.counter(Counter(variable.op.name, role, owner))
        return number

    def _find(self) -> StepSource | None:
        models = (self._trained, self._loaded, self._compiled and self._compiled())
        trained, *others = (getattr(model, "optimizer", None) for model in models)
        applied = filter(self.counters.is_applied, (trained, others[0]))
        # `fit` is about to apply it; if others have been applied since, it is one that nobody uses.
        since = self.counters.applications > self._applications
        self._look_at_checkpoints()
        found = (
            *map(optimizer_step, (*applied, None if since else trained)),
            self._of_checkpoints.get("model"),
            self.counters.last_applied() if since else None,
            *map(optimizer_step, (trained, *others)),
            self.counters.last_applied(),
            self._of_checkpoints.get("bare"),
            self._of_checkpoints.get("data"),
        )
        return next((one for one in found if one is not None), None)

    def _look_at_checkpoints(self) -> None:
        """Finds the step in the last Checkpoint of each role, and keeps it.

        A function that has returned has dropped its Checkpoint, and the last step is still to be read.
        """
        roles = set()
        for reference in (*reversed(self._used), *reversed(self._constructed)):
            checkpoint = reference()
            if checkpoint is None:
                continue
            found, role = self.counters.of_checkpoint(checkpoint)
            if found is not None and role not in roles:
                roles.add(role)
                self._of_checkpoints[role] = found

    def _weights_seen(self) -> Mapping[Any, str]:
        """The weights of what was saved, restored, or trained, as far as it has them by now."""
        found: dict[Any, str] = {}
        for reference in self._used:
            checkpoint = reference()
            held = None if checkpoint is None else self.counters.used(checkpoint)
            found.update({} if held is None else held.weights)
        for model in (self._trained, self._loaded):
            found.update(weights_of(getattr(model, "variables", ())))
        return found

    # Noting.

    def _note_used(self, checkpoint: Any) -> None:
        """Makes a Checkpoint the last one that saved or restored."""
        if not self._used or self._used[-1]() is not checkpoint:
            self._used.append(weakref.ref(checkpoint))
            self._version += 1

    def note_model(self, role: str, model: Any) -> None:
        """A Keras model was `compiled`, `trained` or `loaded`."""
        self.counters.model(model)
        if role == "compiled":
            # Whoever compiles another model is about to train that one.
            self._trained = self._trained if self._trained is model else None
            self._loaded = self._loaded if self._loaded is model else None
            self._compiled = weakref.ref(model)
        elif getattr(self, f"_{role}") is model:
            return
        else:
            setattr(self, f"_{role}", model)
        self._applications = self.counters.applications
        self._version += 1

    def outermost(self) -> bool:
        """Whether this thread is not within a save or restore."""
        return getattr(self._nesting, "depth", 0) == 0

    def event(self, kind: Kind, *, session: Any = None) -> None:
        """Writes a SAVED or RESTORED, and what all counters say after a restore."""
        if session is None and self.given is None:
            self._writer.event_as_of_now(kind, self.eager)
        else:  # a run of a session, or the user's code, may wait for a thread that waits for us
            self._writer.event(kind, self.eager() if session is None else self.of_session(session))
        if kind is Kind.RESTORED:
            self.restores += 1
            self.read_all("restore")

    @contextlib.contextmanager
    def _nested(self, path: object = None) -> Iterator[None]:
        self._nesting.depth = getattr(self._nesting, "depth", 0) + 1
        try:
            with self.lineage.call(path):
                yield
        finally:
            self._nesting.depth -= 1

    def saving(self, save: Callable[[], Any], *, session: Any = None, path: object = None) -> Any:
        """Makes a save; of the outermost one the counters at its beginning and its cost are written down."""
        if not self.outermost():
            with self._nested(path):
                return save()
        if session is not None:
            self.of_session(session)
        self.read_all("save")
        with self._nested(path):
            return self._costs.timed(save)

    def restoring(self, restore: Callable[[], Any], path: object = None) -> Any:
        """Makes a restore, or what is not to be noted by itself."""
        with self._nested(path):
            return restore()

    # Wraps. Each calls the original and lets its result and its exceptions through.

    def _constructs(self, original: Any) -> Any:
        def __init__(checkpoint: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            original(checkpoint, *args, **kwargs)
            self._constructed.append(weakref.ref(checkpoint))
            self.counters.constructed(checkpoint)

        return __init__

    def _saves(self, original: Any) -> Any:
        numbers = original.__name__ == "save"

        def save(saved: Any, *args: Any, **kwargs: Any) -> Any:
            def writes() -> Any:
                if not numbers:
                    self._note_writing(saved, _first(args, kwargs))
                result = original(saved, *args, **kwargs)
                if _asynchronous(args, kwargs):
                    self._note_asynchronous(saved, result)
                return result

            if sys._getframe(1).f_globals.get("__name__") == _BACKGROUND:
                return self.restoring(writes)  # of a save that was noted when it was asked for
            result = self.saving(writes)
            if self.outermost():
                self._note_used(saved)
                self.event(Kind.SAVED, session=_graph_session())
            return result

        return save

    @quietly
    def _note_writing(self, checkpoint: Any, path: object) -> None:
        held = self.counters.used(checkpoint)
        if held is not None:
            self.lineage.writing(path, weights=held.weights, data=held.data)

    @quietly
    def _note_asynchronous(self, checkpoint: Any, path: object) -> None:
        """An asynchronous save was asked for: its state has been taken, a thread writes it."""
        self._note_writing(checkpoint, path)
        self.lineage.completes_elsewhere()

    def _restores(self, original: Any) -> Any:
        def restore(restored: Any, *args: Any, **kwargs: Any) -> Any:
            path = _first(args, kwargs)

            def reads() -> Any:
                status = original(restored, *args, **kwargs)
                if path is not None:
                    self._note_restored(restored, path, status)
                return status

            result = self.restoring(reads, path)
            if self.outermost() and path is not None:
                self._note_used(restored)
                self.event(Kind.RESTORED, session=_graph_session())
            return result

        return restore

    @quietly
    def _note_restored(self, checkpoint: Any, path: object, status: Any) -> None:
        held = self.counters.used(checkpoint)
        if held is None:
            return
        self.lineage.trained(held.weights)
        coordinator: Any = getattr(status, "_checkpoint", None)
        weights = bool(held.weights)
        if hasattr(coordinator, "object_graph_proto"):
            put = functools.partial(_put_by, coordinator.object_by_proto_id, coordinator.object_graph_proto)
            self.lineage.came_from(path, put)
            weights = weights or _has_weights(coordinator)
        else:  # by the names of variables
            self.lineage.came_from(path, lambda: held.weights)
        self.lineage.restored(path, weights=weights, data=held.data)

    def _saver_saves(self, original: Any) -> Any:
        def save(saver: Any, sess: Any, save_path: Any, *args: Any, **kwargs: Any) -> Any:
            session = _raw(sess)
            models = _saves_the_model(saver, sess)

            def writes() -> Any:
                self._note_saver(saver, session, save_path, _first(args, kwargs, "global_step"))
                return original(saver, sess, save_path, *args, **kwargs)

            result = self.saving(writes, session=session if models else None)
            if self.outermost() and models:
                self.event(Kind.SAVED, session=session)
            return result

        return save

    @quietly
    def _note_saver(self, saver: Any, session: Any, path: Any, step: Any) -> None:
        if step is not None:
            number = step if isinstance(step, (int, np.integer)) else _read_in_session(session, step)
            path = f"{os.fspath(path)}-{number}"
        weights, data = _saved_by(saver, session.graph)
        self.lineage.writing(path, weights=weights, data=data)

    def _saver_restores(self, original: Any) -> Any:
        def restore(saver: Any, sess: Any, save_path: Any) -> Any:
            result = self.restoring(lambda: original(saver, sess, save_path), save_path)
            session = _raw(sess)
            self._note_saver_restored(saver, session, save_path)
            if self.outermost() and _saves_the_model(saver, sess):
                self.event(Kind.RESTORED, session=session)
            return result

        return restore

    @quietly
    def _note_saver_restored(self, saver: Any, session: Any, path: Any) -> None:
        weights, data = _saved_by(saver, session.graph)
        self.lineage.trained(weights)
        self.lineage.came_from(path, lambda: weights)
        self.lineage.restored(path, weights=bool(weights), data=data)

    def _session_closes(self, original: Any) -> Any:
        def close(session: Any, *args: Any, **kwargs: Any) -> Any:
            if not getattr(session, "_closed", True):
                self.of_session(session)
            if self._session is session:
                self._session = None
            return original(session, *args, **kwargs)

        return close


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str = "") -> Any:
    """The first argument of a call, or the one with a name."""
    if args:
        return args[0]
    return kwargs.get(name) if name else next(iter(kwargs.values()), None)


def _asynchronous(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the options of a save let a thread write it."""
    options = (*args[1:], kwargs.get("options"))
    return context.executing_eagerly() and any(
        getattr(one, "experimental_enable_async_checkpoint", False) for one in options
    )


def _put_by(objects: Mapping[int, Any], graph: Any) -> Mapping[Any, str]:
    """The weights that a restore of a `tf.train.Checkpoint` has put into place by now."""
    return {
        key_of(one): name_of(one)
        for number, one in list(objects.items())
        if is_variable(one) and is_weight(one) and graph.nodes[number].attributes
    }


def _has_weights(coordinator: Any) -> bool:
    """Whether a checkpoint of TensorFlow has weights, which may be of variables that are not made yet."""
    keys = [one.checkpoint_key for node in coordinator.object_graph_proto.nodes for one in node.attributes]
    return any(
        coordinator.dtype_map[key].is_floating
        for key in keys
        if key in coordinator.dtype_map and not any(part in key for part in _OF_OPTIMIZERS)
    )


def _saved_by(saver: Any, graph: Any) -> tuple[Mapping[Any, str], bool]:
    """What a Saver has: the weights, and whether iterators."""
    keys = tf.compat.v1.GraphKeys
    listed = saver._var_list
    if listed is None:
        listed = [*graph.get_collection(keys.GLOBAL_VARIABLES), *graph.get_collection(keys.SAVEABLE_OBJECTS)]
    saved = list(listed.values() if isinstance(listed, dict) else listed)
    trainable = {one.name for one in graph.get_collection(keys.TRAINABLE_VARIABLES)}
    weights = {
        key_of(one): name_of(one)
        for one in saved
        if is_variable(one) and is_weight(one) and (not trainable or one.name in trainable)
    }
    return weights, any("terator" in type(one).__name__ for one in saved)


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


__all__ = ["ELEMENTS_READ", "OptimizerStep", "StepSource", "Steps", "VariableStep"]
