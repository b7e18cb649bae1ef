"""Child side: what `tf.train.Checkpoint`s and Savers are told to save and restore. Imports TensorFlow."""

from __future__ import annotations

import functools
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as checkpoint_lib
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.training import saver as saver_lib

from .contents import is_variable, is_weight, key_of, name_of
from .lineage import quietly
from .model import Kind
from .sessions import global_step_of, raw_session, read_in_session

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .patches import Patches
    from .steps import Steps

_BACKGROUND = "tensorflow.python.checkpoint.async_checkpoint_helper"
_OF_OPTIMIZERS = ({"_iterations", "_learning_rate"}, {"iter", "learning_rate", "decay"})
"""What an optimizer of Keras has, and one of its legacy, by the names in a checkpoint."""
_TRAINED = "_trainable_variables"
"""Under this name optimizers have what is not theirs."""


class CheckpointCalls:
    """Wraps them. Each wrap calls the original and lets its result and its exceptions through."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def install(self, patches: Patches) -> None:
        """Wraps what constructs, saves and restores."""
        for owner in (checkpoint_lib.Checkpoint, checkpoint_lib.CheckpointV1):
            patches.wrap(owner, "__init__", self._constructs)
            for name in ("save", "write", "_write"):
                patches.wrap(owner, name, self._saves)
            for name in ("restore", "read"):
                if hasattr(owner, name):
                    patches.wrap(owner, name, self._restores)
        patches.wrap(saver_lib.Saver, "save", self._saver_saves)
        patches.wrap(saver_lib.Saver, "restore", self._saver_restores)

    def _constructs(self, original: Any) -> Any:
        def __init__(checkpoint: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            original(checkpoint, *args, **kwargs)
            self._steps.note_constructed(checkpoint)

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

            if _caller() == _BACKGROUND:
                return self._steps.restoring(writes)  # of a save that was noted when it was asked for
            result = self._steps.saving(writes)
            if self._steps.outermost():
                self._steps.note_used(saved)
                self._steps.event(Kind.SAVED, session=_graph_session())
            return result

        return save

    @quietly
    def _note_writing(self, checkpoint: Any, path: object) -> None:
        held = self._steps.counters.used(checkpoint)
        if held is not None:
            self._steps.lineage.writing(path, weights=held.weights, data=held.data)

    @quietly
    def _note_asynchronous(self, checkpoint: Any, path: object) -> None:
        """An asynchronous save was asked for: its state has been taken, a thread writes it."""
        self._note_writing(checkpoint, path)
        self._steps.lineage.completes_elsewhere()

    def _restores(self, original: Any) -> Any:
        def restore(restored: Any, *args: Any, **kwargs: Any) -> Any:
            path = _first(args, kwargs)

            def reads() -> Any:
                status = original(restored, *args, **kwargs)
                if path is not None:
                    self._note_restored(restored, path, status)
                return status

            result = self._steps.restoring(reads, path)
            if self._steps.outermost() and path is not None:
                self._steps.note_used(restored)
                self._steps.event(Kind.RESTORED, session=_graph_session())
            return result

        return restore

    @quietly
    def _note_restored(self, checkpoint: Any, path: object, status: Any) -> None:
        held = self._steps.counters.used(checkpoint)
        if held is None:
            return
        self._steps.lineage.trained(held.weights)
        coordinator: Any = getattr(status, "_checkpoint", None)
        weights = bool(held.weights)
        if hasattr(coordinator, "object_graph_proto"):
            models = _of_models(coordinator.object_graph_proto)
            self._steps.lineage.came_from(path, functools.partial(_put_by, coordinator.object_by_proto_id, models))
            weights = weights or _has_weights(coordinator, models)
        else:  # by the names of variables
            self._steps.lineage.came_from(path, lambda: held.weights)
        self._steps.lineage.restored(path, weights=weights, data=held.data)

    def _saver_saves(self, original: Any) -> Any:
        def save(saver: Any, sess: Any, save_path: Any, *args: Any, **kwargs: Any) -> Any:
            session = raw_session(sess)
            models = _saves_the_model(saver, sess)
            self._note_what_is_saved(saver, session)

            def writes() -> Any:
                self._note_saver(saver, session, save_path, _first(args, kwargs, "global_step"))
                return original(saver, sess, save_path, *args, **kwargs)

            result = self._steps.saving(writes, session=session if models else None)
            if self._steps.outermost() and models:
                self._steps.event(Kind.SAVED, session=session)
            return result

        return save

    @quietly
    def _note_what_is_saved(self, saver: Any, session: Any) -> None:
        listed = _listed(saver, session.graph)
        self._steps.lineage.in_graphs.update(one.name for one in listed if is_variable(one))

    @quietly
    def _note_saver(self, saver: Any, session: Any, path: Any, step: Any) -> None:
        if step is not None:
            number = step if isinstance(step, (int, np.integer)) else read_in_session(session, step)
            path = f"{os.fspath(path)}-{number}"
        weights, data = _saved_by(saver, session.graph)
        self._steps.lineage.writing(path, weights=weights, data=data)

    def _saver_restores(self, original: Any) -> Any:
        def restore(saver: Any, sess: Any, save_path: Any) -> Any:
            result = self._steps.restoring(lambda: original(saver, sess, save_path), save_path)
            session = raw_session(sess)
            self._note_saver_restored(saver, session, save_path)
            if self._steps.outermost() and _saves_the_model(saver, sess):
                self._steps.event(Kind.RESTORED, session=session)
            return result

        return restore

    @quietly
    def _note_saver_restored(self, saver: Any, session: Any, path: Any) -> None:
        weights, data = _saved_by(saver, session.graph)
        self._steps.lineage.trained(weights)
        self._steps.lineage.came_from(path, lambda: weights)
        self._steps.lineage.restored(path, weights=bool(weights), data=data)


def _caller() -> str:
    """The module that has called what is wrapped, maybe more than once."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


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


def _of_models(graph: Any) -> frozenset[int]:
    """The numbers of the objects in a checkpoint that have values and are not an optimizer's.

    What an optimizer trains is named below it too, and has its name from there where that is the shorter way.
    """
    found, pending = {0}, deque([0])
    while pending:
        node = graph.nodes[pending.popleft()]
        names = {child.local_name for child in node.children}
        is_optimizer = any(names >= some for some in _OF_OPTIMIZERS)
        for child in node.children:
            if child.node_id not in found and (child.local_name == _TRAINED or not is_optimizer):
                found.add(child.node_id)
                pending.append(child.node_id)
    return frozenset(number for number in found if graph.nodes[number].attributes)


def _put_by(objects: Mapping[int, Any], models: Collection[int]) -> Mapping[Any, str]:
    """The weights that a restore of a `tf.train.Checkpoint` has put into place by now."""
    return {
        key_of(one): name_of(one)
        for number, one in list(objects.items())
        if number in models and is_variable(one) and is_weight(one)
    }


def _has_weights(coordinator: Any, models: Collection[int]) -> bool:
    """Whether a checkpoint of TensorFlow has weights, which may be of variables that are not made yet."""
    nodes = (coordinator.object_graph_proto.nodes[number] for number in models)
    dtypes = [coordinator.dtype_map.get(one.checkpoint_key) for node in nodes for one in node.attributes]
    return any(dtype is not None and dtype.is_floating for dtype in dtypes)


def _saved_by(saver: Any, graph: Any) -> tuple[Mapping[Any, str], bool]:
    """What a Saver has: the weights, and whether iterators."""
    keys = tf.compat.v1.GraphKeys
    saved = _listed(saver, graph)
    trainable = {one.name for one in graph.get_collection(keys.TRAINABLE_VARIABLES)}
    weights = {
        key_of(one): name_of(one)
        for one in saved
        if is_variable(one) and (one.name in trainable and _is_array(one) if trainable else is_weight(one))
    }
    return weights, any("terator" in type(one).__name__ for one in saved)


def _listed(saver: Any, graph: Any) -> list[Any]:
    """What a Saver has."""
    keys = tf.compat.v1.GraphKeys
    listed = saver._var_list
    if listed is None:
        listed = [*graph.get_collection(keys.GLOBAL_VARIABLES), *graph.get_collection(keys.SAVEABLE_OBJECTS)]
    return list(listed.values() if isinstance(listed, dict) else listed)


def _is_array(variable: Any) -> bool:
    """Whether a trained variable is a weight: of floats, or more than one number; a counter is neither."""
    return is_weight(variable) or variable.shape.rank != 0


def _saves_the_model(saver: Any, session: Any) -> bool:
    """Whether a Saver has the global step, where there is one: input pipelines and backbones are not the model."""
    raw = raw_session(session)
    variable = None if raw is None else global_step_of(raw.graph)
    listed = saver._var_list
    if variable is None or listed is None:
        return True
    saved = listed.values() if isinstance(listed, dict) else listed
    name = variable.name
    return any(getattr(one, "name", None) == name for one in saved)


def _graph_session() -> Any:
    """The session that an object-based save in a v1 graph runs in; None in eager code."""
    return None if context.executing_eagerly() else raw_session(ops.get_default_session())


__all__ = ["CheckpointCalls"]
