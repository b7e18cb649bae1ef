"""Child side: the user's functions that are running, and their variables."""

from __future__ import annotations

import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any

from .hidden import is_installed
from .recorder import is_generated, is_of_keras, is_users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def users_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the user's functions, the innermost first; of another thread also those of the main one.

    A thread that takes elements for the training has no state of its own.

    Args:
        frame: the innermost one of this thread.
    """
    main = threading.main_thread().ident
    threads = [frame]
    if main is not None and threading.get_ident() != main:
        threads.append(sys._current_frames().get(main))
    for innermost in threads:
        frame = innermost
        while frame is not None:
            if _is_of_the_user(frame):
                yield frame
            frame = frame.f_back


def calls_the_user(frame: FrameType | None) -> bool:
    """Whether a thread runs a function of the user's.

    Args:
        frame: the innermost one.
    """
    while frame is not None:
        if _is_of_the_user(frame):
            return True
        frame = frame.f_back
    return False


def _is_of_the_user(frame: FrameType) -> bool:
    return is_users(frame.f_code.co_filename) and not is_installed(frame.f_code.co_filename)


def called_by_the_user(frame: FrameType | None) -> bool:
    """Whether TensorFlow was called by the user's code, or code made of it, and not by Keras.

    Args:
        frame: the innermost one.
    """
    while frame is not None:
        path = frame.f_code.co_filename
        if is_users(path) or is_generated(path):
            return True
        if is_of_keras(path):
            return False
        frame = frame.f_back
    return False


def variables(frame: FrameType) -> list[tuple[str, Any]]:
    """Names and values of a function's variables."""
    names = frame.f_locals
    values = list(names.items())
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED and type(names) is dict:
        # Until Python 3.12 it is a copy that the frame keeps: it would hold what the user has given away.
        names.clear()
    return values


__all__ = ["called_by_the_user", "calls_the_user", "users_frames", "variables"]
