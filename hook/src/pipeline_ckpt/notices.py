"""Notices of preemption: a signal, a file, an URL, or whatever a callable asks. They are acted on between two steps."""

from __future__ import annotations

import logging
import os
import signal
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from .errors import HookUsageError, Preempted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

logger = logging.getLogger("pipeline_ckpt")

Notice: TypeAlias = signal.Signals | Callable[[], bool]
"""A signal, or a callable that is asked after each step whether the notice has come; it must be quick."""

_OTHER_CODE = 42
"""Of notices that are no signal: the code with which `tf.distribute`'s `PreemptionCheckpointHandler` leaves."""
_NO_NOTICE = ("", "false", "none")
"""What metadata servers answer while there is none."""


class FileNotice:
    """A notice that has come when a file exists.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __call__(self) -> bool:
        """Whether the file exists."""
        return os.path.exists(self._path)

    def __repr__(self) -> str:
        """As it is made."""
        return f"FileNotice({self._path!r})"


class UrlNotice:
    """A notice that has come when an URL answers with status 200 and with something else than nothing, FALSE or NONE.

    The URL is asked by another thread, which begins with the first call. A server that cannot be reached is no
    notice; that is logged once.

        UrlNotice("http://metadata.google.internal/computeMetadata/v1/instance/preempted",
                  headers={"Metadata-Flavor": "Google"})

    Args:
        url: what is asked: the cloud's metadata.
        headers: of the request.
        every: seconds between two requests, and after which one is given up.

    Raises:
        HookUsageError: `every` is not above 0, or the URL is not one of http or https.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, every: float = 5.0) -> None:
        if not every > 0:
            raise HookUsageError(f"every={every!r} is not a number above 0: pass one, in seconds.")
        if not url.startswith(("http://", "https://")):
            raise HookUsageError(f"url={url!r} begins with neither http:// nor https://: pass one that does.")
        self._url = url
        self._come = threading.Event()
        done = threading.Event()
        weakref.finalize(self, done.set)
        request = urllib.request.Request(url, headers=dict(headers or {}))
        arguments = (request, every, self._come, done)
        self._thread = threading.Thread(target=_ask, args=arguments, name="pipeline_ckpt_notice", daemon=True)

    def __call__(self) -> bool:
        """Whether the notice has come."""
        if self._thread.ident is None:
            self._thread.start()
        return self._come.is_set()

    def __repr__(self) -> str:
        """As it is made."""
        return f"UrlNotice({self._url!r})"


def _ask(request: urllib.request.Request, every: float, come: threading.Event, done: threading.Event) -> None:
    """Asks until the notice has come, or nobody wants to know any more."""
    said = False
    while not done.is_set():
        try:
            with urllib.request.urlopen(request, timeout=every) as answer:
                if answer.read().decode(errors="replace").strip().lower() not in _NO_NOTICE:
                    come.set()
                    return
        except urllib.error.HTTPError as error:
            error.close()  # the server answers, and there is no notice: AWS says 404
        except OSError as error:
            if not said:
                logger.warning("%s cannot be asked for a notice of preemption: %s", request.full_url, error)
            said = True
        done.wait(every)


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
        self._alive: Callable[[], bool] = lambda: True

    def watch(self, alive: Callable[[], bool]) -> None:
        """Installs the handlers; those that are there already stay.

        Args:
            alive: whether the training still goes on, so that somebody will look at the flag.
        """
        self._alive = alive
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
            if number not in self._originals and original not in (signal.SIG_IGN, None):
                self._originals[number] = original
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        notice = signal.Signals(number)
        if self._alive():
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
        for one in self._callables:
            if one():
                return repr(one)
        return ""

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
        self._number = None
        if threading.current_thread() is not threading.main_thread():
            return
        while self._originals:
            number, original = self._originals.popitem()
            if signal.getsignal(number) == self._handle:  # else somebody has come after us, and has the say
                signal.signal(number, original)


__all__ = ["FileNotice", "Notice", "NoticeWatcher", "UrlNotice"]
