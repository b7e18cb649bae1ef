"""Watches for notices of preemption: they are acted on between two steps, and what was there before is brought back."""

from __future__ import annotations

import logging
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import HookUsageError, Preempted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from .notices import Notice

logger = logging.getLogger("pipeline_ckpt")

_OTHER_CODE = 42
"""Of notices that are no signal: the code with which `tf.distribute`'s `PreemptionCheckpointHandler` leaves."""
_watchers: weakref.WeakSet[NoticeWatcher] = weakref.WeakSet()
"""Whose handlers a child that is forked from this process inherits."""


def _nobody() -> bool:
    """No training is alive that would look at a flag."""
    return False


class _Forking(threading.local):
    """The signals that a thread blocked before it began to fork.

    In a child the handlers are to be as if we had never been there: one that waits for the end of a step would let the
    child ignore the signal. One that comes before they are put back must wait until then, because CPython forgets what
    came directly after a fork.
    """

    blocked: set[int] | None = None

    def begins(self) -> None:
        """Before the fork."""
        watched = {number for watcher in list(_watchers) for number in watcher.handled}
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, watched) if watched else None

    def ends(self) -> None:
        """In the parent."""
        if self.blocked is not None:
            blocked, self.blocked = self.blocked, None
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def ends_in_child(self) -> None:
        """In the child."""
        for watcher in list(_watchers):
            watcher.forget()
        self.ends()


_forking = _Forking()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking.begins, after_in_parent=_forking.ends, after_in_child=_forking.ends_in_child)


class NoticeWatcher:
    """Knows whether a notice has come, and how to leave then.

    The handler of a signal only sets a flag. The handlers that were there before are brought back by `restore`, or when
    a signal comes for a training that is not alive any more; a signal that nobody has acted on is then delivered again.

    Args:
        notices: what is watched.
        exit_code: with which `leave` leaves; None: 128 + the signal's number, as shells, Kubernetes and SLURM
            report a process that a signal has ended, and 42 for other notices.

    Raises:
        HookUsageError: one is neither a signal nor a callable; a code that is none.
    """

    def __init__(self, notices: Sequence[Notice], *, exit_code: int | None = None) -> None:
        for one in notices:
            if not isinstance(one, signal.Signals) and not callable(one):
                raise HookUsageError(
                    f"notices: {one!r} is neither a signal (signal.SIGTERM) nor a callable that says whether the "
                    "notice has come: pass some of these."
                )
        if exit_code is not None and not 0 <= exit_code <= 255:
            raise HookUsageError(f"exit_code={exit_code!r} is not an integer from 0 to 255: pass one.")
        self._signals = [one for one in notices if isinstance(one, signal.Signals)]
        self._callables = [one for one in notices if not isinstance(one, signal.Signals)]
        self._exit_code = exit_code
        self._originals: dict[signal.Signals, Any] = {}
        self._number: signal.Signals | None = None
        self._alive: Callable[[], bool] = _nobody
        self._process = os.getpid()
        self._broken: set[int] = set()
        """The places of the callables that have raised something, which is said once."""
        _watchers.add(self)

    def watch(self, alive: Callable[[], bool]) -> None:
        """Installs the handlers; those that are there already stay.

        Args:
            alive: whether the training still goes on, so that somebody will look at the flag.
        """
        self._alive, self._process = alive, os.getpid()
        if self._signals and threading.current_thread() is not threading.main_thread():
            logger.warning(
                "%s will not be noticed: only a process's main thread may handle signals, and the training runs in "
                "another one",
                ", ".join(one.name for one in self._signals),
            )
            return
        for number in self._signals:
            original = signal.getsignal(number)
            # Who ignores a signal has said that it is no notice; a handler that is not Python's could not be restored.
            if original not in (signal.SIG_IGN, None, self._handle):
                self._originals[number] = original
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        notice = signal.Signals(number)
        if os.getpid() != self._process:  # it came before a forked child could forget
            self.forget()
            signal.raise_signal(notice)
        elif self._alive():
            self._number = notice
        elif signal.getsignal(notice) == self._handle:
            self._number = notice
            self.restore()
        elif callable(original := self._originals.get(notice)):
            original(number, frame)  # who came after us has called us, and would again

    @property
    def received(self) -> str:
        """What has come: a signal's name, or the callable in words; empty for nothing."""
        if self._number is not None:
            return self._number.name
        for place, one in enumerate(self._callables):
            if self._asked(place, one):
                return repr(one)
        return ""

    def _asked(self, place: int, one: Callable[[], bool]) -> bool:
        """What a callable says; one that raises says nothing, because a training must not end unsaved by it."""
        try:
            return bool(one())
        except Exception as error:
            if place not in self._broken:
                logger.warning(
                    "the notice %r raises %s: %s; the training goes on, and asks it again after each step",
                    *(one, type(error).__name__, error),
                )
            self._broken.add(place)
            return False

    @property
    def handled(self) -> list[signal.Signals]:
        """The signals whose handlers it has taken the place of."""
        return list(self._originals)

    def forget(self) -> None:
        """In a forked child: the handlers are those that were there before, and what has come was the parent's."""
        self._process = os.getpid()
        self._put_back()

    def restore(self) -> None:
        """Brings the handlers back that were there before, and delivers again a signal that nobody has acted on."""
        number = self._number
        self._put_back()
        if number is not None:
            signal.raise_signal(number)

    def leave(self, notice: str, *, saved: bool = True) -> NoReturn:
        """Leaves after the training was saved; a signal's own handler, if there was one, comes first.

        Args:
            notice: what has come.
            saved: whether it really was.

        Raises:
            Preempted: always, unless that handler raises something else.
        """
        number = self._number
        original = None if number is None else self._originals.get(number)
        self._put_back()
        code = self._exit_code
        if code is None:
            code = _OTHER_CODE if number is None else 128 + number
        how = "saved" if saved else "NOT saved, see above"
        logger.warning("%s: %s, and leaving with exit code %d", notice, how, code)
        if number is not None and callable(original):
            signal.raise_signal(number)
        raise Preempted(code, notice)

    def _put_back(self) -> None:
        self._number, self._alive = None, _nobody
        if threading.current_thread() is not threading.main_thread():
            return
        for number, original in list(self._originals.items()):
            if signal.getsignal(number) == self._handle:  # else somebody has come after us, and may call us
                signal.signal(number, original)
                del self._originals[number]


__all__ = ["NoticeWatcher"]
