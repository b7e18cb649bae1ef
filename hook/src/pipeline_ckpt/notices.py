"""Notices of preemption that are no signals: a file, a URL, or whatever a callable asks."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import HookUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("pipeline_ckpt")

Notice: TypeAlias = signal.Signals | Callable[[], bool]
"""A signal, or a callable that is asked after each step whether the notice has come; it must be quick."""

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
    """A notice that has come when a URL answers with status 200 and a body other than empty, FALSE or NONE.

    The URL is asked by another thread, which begins with the first call. A server that cannot be reached, or whose
    answer is broken or not complete in time, is no notice; that is logged once, and it is asked again.

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
    opener = urllib.request.build_opener(_HttpInTime, _HttpsInTime)
    warned = False
    while not done.is_set():
        begun = time.monotonic()
        try:
            with opener.open(request, timeout=every) as answer:
                said = answer.read().decode(errors="replace").strip().lower()
            if time.monotonic() - begun >= every:
                raise TimeoutError("the answer was not complete in time")
            if said not in _NO_NOTICE:
                come.set()
                return
        except urllib.error.HTTPError as error:
            error.close()  # the server answers, and there is no notice: AWS says 404
        except Exception as error:  # many kinds say that an answer is broken; none may end this
            if not warned:
                logger.warning(
                    "%s cannot be asked for a notice of preemption: %s: %s; it is asked again every %g s",
                    *(request.full_url, type(error).__name__, error, every),
                )
            warned = True
        done.wait(every)


class _Hurry:
    """A connection that is cut when its time is over: a socket's timeout is one for each byte."""

    def connect(self) -> None:
        """Connects, and lets the time run."""
        super().connect()  # type: ignore[misc]  # of the class that it is mixed into
        connected = weakref.ref(self.sock)  # type: ignore[attr-defined]
        timer = threading.Timer(self.timeout, _cut, [connected])  # type: ignore[attr-defined]
        timer.daemon = True
        timer.start()


def _cut(connected: Callable[[], socket.socket | None]) -> None:
    """Ends what may still wait for bytes of a connection."""
    if (waiting := connected()) is not None:
        try:
            waiting.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself


class _HttpConnection(_Hurry, http.client.HTTPConnection):
    """Over http."""


class _HttpsConnection(_Hurry, http.client.HTTPSConnection):
    """Over https."""


class _HttpInTime(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        """As the handler that it takes the place of."""
        return self.do_open(_HttpConnection, req)


class _HttpsInTime(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        """As the handler that it takes the place of."""
        return self.do_open(_HttpsConnection, req)


__all__ = ["FileNotice", "Notice", "UrlNotice"]
