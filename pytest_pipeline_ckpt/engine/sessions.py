"""Child side: reads variables in the user's sessions, unseen. Imports TensorFlow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.training import training_util

from .evidence import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .values import Held


def read_in_session(session: Any, variable: Any) -> int:
    """The value of a graph's integer variable."""
    return int(_fetched(session, variable))


def weights_in(session: Any) -> Iterator[Held]:
    """The arrays of floats in a session's graph that may be weights, as far as they are initialised.

    They are the same in each of the graphs that a training makes one after the other: their names are their keys.
    """
    keys = tf.compat.v1.GraphKeys
    trained = {one.name for one in session.graph.get_collection(keys.TRAINABLE_VARIABLES)}
    saved = {one.name: one for one in session.graph.get_collection(keys.GLOBAL_VARIABLES)}
    local = {one.name: one for one in session.graph.get_collection(keys.LOCAL_VARIABLES)}
    for name, variable in {**local, **saved}.items():
        shape = variable.shape
        if not tf.as_dtype(variable.dtype).is_floating or not shape.rank or shape.num_elements() == 1:
            continue
        with contextlib.suppress(Exception):  # not initialised: it has no value
            weight = Weight(
                variable.op.name, tuple(shape), known=name in saved, applied=name in trained, users=name in local
            )
            yield ("of a session", name), weight, _fetched(session, variable)


def _fetched(session: Any, variable: Any) -> Any:
    """A graph's variable, as `Session.make_callable` runs it: half of the time of `Session.run`.

    The fetch is the tensor that the variable has for being fetched, so no op is added. Our own runs do not go through
    the wrapped `run`, and so are not seen by the tap.
    """
    tensor = session.graph.as_graph_element(variable)
    session._extend_graph()
    return session._call_tf_sessionrun(None, {}, [tensor._as_tf_output()], [], None)[0]


def global_step_of(graph: Any) -> Any:
    """The variable that counts a graph's steps, if it has one."""
    try:
        return training_util.get_global_step(graph)
    except (TypeError, RuntimeError):  # something else has that name, or there are several
        return None


def raw_session(session: Any) -> Any:
    """The session under MonitoredSession's wrappers."""
    while session is not None and not isinstance(session, session_lib.BaseSession):
        session = getattr(session, "_sess", None)
    return session


__all__ = ["global_step_of", "raw_session", "read_in_session", "weights_in"]
