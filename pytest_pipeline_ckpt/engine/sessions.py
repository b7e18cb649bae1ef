"""Child side: reads variables in the user's sessions, unseen. Imports TensorFlow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.training import training_util

from .evidence import Weight

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .values import Held


def read_in_session(session: Any, variable: Any) -> int:
    """The value of a graph's integer variable."""
    return int(_fetched(session, variable))


def weights_in(session: Any, saved: Collection[str]) -> Iterator[Held]:
    """The arrays of floats in a session's graph that may be weights, as far as they are initialised.

    They are the same in each of the graphs that a training makes one after the other: their names are their keys. Not
    an optimizer's slots, which are named below the weights, and no metrics.

    Args:
        session: is looked into.
        saved: names of the variables that a Saver has.
    """
    keys = tf.compat.v1.GraphKeys
    trained = {one.name: one for one in session.graph.get_collection(keys.TRAINABLE_VARIABLES)}
    metrics = {one.name for one in session.graph.get_collection(keys.METRIC_VARIABLES)}
    owners = tuple(f"{one.op.name}/" for one in trained.values())
    both = (*session.graph.get_collection(keys.LOCAL_VARIABLES), *session.graph.get_collection(keys.GLOBAL_VARIABLES))
    for name, variable in {one.name: one for one in both}.items():
        if name in metrics or name.startswith(owners) or not _is_looked_at(variable):
            continue
        known = name in trained or name in saved
        with contextlib.suppress(Exception):  # not initialised: it has no value
            weight = Weight(
                *(variable.op.name, tuple(variable.shape)), known=known, applied=name in trained, users=not known
            )
            yield ("of a session", name), weight, _fetched(session, variable)


def _is_looked_at(variable: Any) -> bool:
    shape = variable.shape
    return bool(tf.as_dtype(variable.dtype).is_floating and shape.rank and shape.num_elements() != 1)


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
