"""Records what a process and its descendants do to one directory, in one global order.

The supervisor's side of `syscalls`: it sees a call before it happens, writes it down and lets it happen. What cannot be
seen this way is found out and said, never passed over (`OperationRecorder.blind`): files of the directory that are
mapped shared and writable, io_uring, exchanging renames, copies inside the kernel, calls of another architecture, and
what did otherwise than it was asked to.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import tracee
from .decoding import Decoded, Decoder
from .operations import Act, LogWriter, Operation
from .shadow import Shadow
from .syscalls import ARCHITECTURES, NOTIFICATION, RECEIVE, RESPONSE, SEND, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_CONTINUE = 1
_MOST_ELSEWHERE = 100
_PATIENCE, _LOOK_EVERY = 2.0, 0.0001  # seconds; a large write takes its time, and may be blocked for ever


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A stopped call."""

    identity: int
    thread: int
    number: int
    decoded: Decoded


@dataclass(frozen=False, slots=True)
class _Underway:
    """The last operation of a thread, which may still be at it."""

    number: int
    """Of the system call."""
    operation: Operation
    slow: bool = False
    """It has been waited for, and is not waited for again."""


class OperationRecorder:
    """Answers the stopped calls of one child, and writes down those that concern a directory.

    Args:
        listener: the descriptor of `syscalls.install`; it becomes readable when a call is stopped, and hangs up when
            none of the processes is left.
        root: the directory.
        log: gets the operations.
        before: operations that describe what is in the directory.
        is_element: told the path of every other file that is written to: whether that is one more element.
        holds: told an operation before it happens: whether the process is kept from it (`held`), until
            it is killed or `release` lets it go on.
    """

    def __init__(
        self,
        listener: int,
        root: Path,
        log: LogWriter,
        *,
        before: Iterable[Operation] = (),
        is_element: Callable[[str], bool] = lambda _: False,
        holds: Callable[[Operation], bool] = lambda _: False,
    ) -> None:
        self.listener = listener
        self.elements = 0
        self.threads: set[int] = set()
        """Those that have changed the directory: with more than one another interleaving is possible."""
        self.blind: list[str] = []
        """What has happened that cannot be recorded; if there is anything, the log is worth nothing."""
        self._log = log
        self._holds = holds
        self._held: _Stopped | None = None
        self._shadow = Shadow(os.path.realpath(root), before)
        self._decoder = Decoder(os.path.realpath(root), log, self._shadow, is_element)
        self._underway: dict[int, _Underway] = {}
        self._elsewhere: dict[str, str] = {}
        self._names = {number: name for name, number in TABLES[platform.machine()].items()}
        self._architecture = ARCHITECTURES[platform.machine()]

    def answer(self) -> bool:
        """Lets one stopped call happen; False when there was none any more, or it is held."""
        call = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, RECEIVE, call)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # it was killed, or a signal handler ran
                return False
            raise
        identity, thread, _, number, architecture, _, *arguments = NOTIFICATION.unpack(call)
        self._settle(thread)
        decoded = Decoded(unseen="a system call of another architecture")
        if architecture == self._architecture and number in self._names:
            decoded = self._decoder.decode(tracee.Call(thread, self._names[number], arguments))
        if decoded.operation is not None:
            operation = dataclasses.replace(decoded.operation, elements=self.elements, thread=thread)
            decoded = dataclasses.replace(decoded, operation=operation)
        stopped = _Stopped(identity, thread, number, decoded)
        if decoded.operation is not None and self._holds(decoded.operation):
            self._held = stopped
            return False
        return self._go_on(stopped)

    @property
    def held(self) -> Operation | None:
        """What a thread is kept from doing."""
        return None if self._held is None else self._held.decoded.operation

    def release(self) -> bool:
        """Lets what is held happen; False when its process has been killed."""
        assert self._held is not None, "nothing is held"
        stopped, self._held = self._held, None
        return self._go_on(stopped)

    def elsewhere(self) -> tuple[str, ...]:
        """Files outside of the directory with names of checkpoints that are there, one for each directory."""
        return tuple(path for path in self._elsewhere.values() if os.path.exists(path))

    def _go_on(self, stopped: _Stopped) -> bool:
        """Lets a call happen and writes it down; False when there is nobody any more to do it."""
        if not self._let(stopped.identity):
            return False
        decoded = stopped.decoded
        if decoded.unseen is not None:
            self._say(decoded.unseen)
        if decoded.outside is not None and len(self._elsewhere) < _MOST_ELSEWHERE:
            self._elsewhere[os.path.dirname(decoded.outside)] = decoded.outside
        self.elements += decoded.is_element
        if decoded.operation is not None:
            self._write_down(decoded.operation, decoded)
            self._underway[stopped.thread] = _Underway(stopped.number, decoded.operation)
        return True

    def _write_down(self, operation: Operation, decoded: Decoded) -> None:
        self.threads.add(operation.thread)
        several = [operation]
        if decoded.before is not None:
            begins = dataclasses.replace(decoded.before, elements=operation.elements, thread=operation.thread)
            several.insert(0, begins)
        if decoded.durable:
            several.append(dataclasses.replace(operation, act=Act.FSYNC, offset=0, blob=None))
        for one in several:
            self._log.append(one)
            self._shadow.apply(one)

    def _let(self, identity: int) -> bool:
        try:
            fcntl.ioctl(self.listener, SEND, RESPONSE.pack(identity, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def _settle(self, thread: int) -> None:
        """Sees that what was let happen has happened, before anything else does: so there is one order of everything.

        A thread that makes a call has ended its last one; of the others it is seen by what they do, or by their next
        call. What has not been done as it was asked for is named.
        """
        for other, its in list(self._underway.items()):
            if other != thread and not self._has_ended(other, its):
                continue
            del self._underway[other]
            if not self._shadow.as_asked(its.operation):
                path = its.operation.target if its.operation.act is Act.RENAME else its.operation.path
                name = path.removeprefix("model/")
                self._say(f"{self._names[its.number]} of {name}, which failed or was not done to its end")

    def _has_ended(self, thread: int, its: _Underway) -> bool:
        stop = time.monotonic() + _PATIENCE
        while not (self._shadow.as_asked(its.operation) or tracee.has_returned(thread, its.number)):
            if its.slow or time.monotonic() > stop:
                its.slow = True
                return False
            time.sleep(_LOOK_EVERY)
        return True

    def _say(self, what: str) -> None:
        if what not in self.blind:
            self.blind.append(what)


__all__ = ["OperationRecorder"]
