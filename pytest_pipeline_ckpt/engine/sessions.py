"""Child side: reads variables in the user's sessions, unseen. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

from tensorflow.python.client import session as session_lib
from tensorflow.python.training import training_util


def read_in_session(session: Any, variable: Any) -> int:
    """The value of a graph's variable, as `Session.make_callable` runs it: half of the time of `Session.run`.

    The fetch is the tensor that the variable has for being fetched, so no op is added. Our own runs do not go through
    the wrapped `run`, and so are not seen by the tap.
    """
    tensor = session.graph.as_graph_element(variable)
    session._extend_graph()
    return int(session._call_tf_sessionrun(None, {}, [tensor._as_tf_output()], [], None)[0])


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


__all__ = ["global_step_of", "raw_session", "read_in_session"]
