"""Records what a process and its descendants do to one directory, in one global order, without privileges.

The child installs a seccomp filter (`install`) that stops each system call which may change files until a supervisor
has answered; it needs no privilege but `no_new_privs`, and a container whose profile allows `seccomp(2)`, as Docker's
does. The supervisor (`OperationRecorder`) sees a call *before* it happens, writes it down and lets it happen.
Sources: seccomp(2), seccomp_unotify(2), include/uapi/linux/{seccomp,filter,audit}.h. Linux >= 5.5.

What cannot be seen this way is found out and said, never passed over (`OperationRecorder.blind`): files of the
directory that are mapped shared and writable, io_uring, exchanging renames, copies inside the kernel, calls of another
architecture. A file system that is not the kernel's (an object store) makes no system calls on files at all: its log
stays empty.

Numbers of system calls: `TABLES`. The one of aarch64 is checked against the kernel's headers by a test, and untested
otherwise.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .operations import Act, LogWriter, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

X86_64 = {
    "write": 1, "open": 2, "mmap": 9, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "sync": 162, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "splice": 275, "fallocate": 285, "pwritev": 296, "syncfs": 306, "renameat2": 316,
    "copy_file_range": 326, "pwritev2": 328, "io_uring_setup": 425, "openat2": 437,
}  # fmt: skip
AARCH64 = {
    "symlinkat": 36, "mkdirat": 34, "unlinkat": 35, "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46,
    "fallocate": 47, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "sendfile": 71,
    "splice": 76, "sync": 81, "fsync": 82, "fdatasync": 83, "mmap": 222, "syncfs": 267, "renameat2": 276,
    "copy_file_range": 285, "pwritev2": 287, "io_uring_setup": 425, "openat2": 437,
}  # fmt: skip
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|..., BPF_RET|K
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 38, 1, 1 << 3, 1 << 5
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1
_AT_FDCWD, _AT_REMOVEDIR = -100, 0x200
_RENAME_NOREPLACE = 1
_MAP_SHARED = 1
_FALLOC_FL_KEEP_SIZE = 1
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_READ_AT_ONCE = 1 << 20
_DELETED = " (deleted)"

_WILL_FAIL = (errno.ENOENT, errno.ESRCH, errno.EIO, errno.EFAULT, errno.ENOTDIR)
"""It was killed meanwhile, or gave a descriptor or an address that is none: the call changes nothing."""
_CURRENT_POSITION = 2**64 - 1  # of pwritev2: -1

_Path = tuple[int | None, int]
"""Which arguments are a path: the directory's descriptor, None for the working directory, and the string."""
_NAMED: dict[str, tuple[Act, _Path, _Path | None]] = {
    "open": (Act.CREATE, (None, 0), None),
    "creat": (Act.CREATE, (None, 0), None),
    "openat": (Act.CREATE, (0, 1), None),
    "truncate": (Act.TRUNCATE, (None, 0), None),
    "rename": (Act.RENAME, (None, 0), (None, 1)),
    "renameat": (Act.RENAME, (0, 1), (2, 3)),
    "renameat2": (Act.RENAME, (0, 1), (2, 3)),
    "link": (Act.LINK, (None, 0), (None, 1)),
    "linkat": (Act.LINK, (0, 1), (2, 3)),
    "symlink": (Act.SYMLINK, (None, 1), None),
    "symlinkat": (Act.SYMLINK, (1, 2), None),
    "unlink": (Act.UNLINK, (None, 0), None),
    "unlinkat": (Act.UNLINK, (0, 1), None),
    "mkdir": (Act.MKDIR, (None, 0), None),
    "mkdirat": (Act.MKDIR, (0, 1), None),
    "rmdir": (Act.RMDIR, (None, 0), None),
}
_FLAGS = {"open": 1, "openat": 2}
_WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
_ON_OPEN_FILES = (*_WRITES, "ftruncate", "fallocate", "fsync", "fdatasync")
_COPIES = {"sendfile": 0, "splice": 2, "copy_file_range": 2}
"""Which argument is the descriptor that is written to."""
_OF_EVERYTHING = ("sync", "syncfs")


class RecordingUnavailableError(OSError):
    """The kernel, or the container's profile, does not let a process be recorded."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def _ioctl(number: int, size: int, direction: int) -> int:
    return direction << 30 | size << 16 | ord("!") << 8 | number


_RECEIVE = _ioctl(0, _NOTIFICATION.size, 3)
_SEND = _ioctl(1, _RESPONSE.size, 3)


def _argument(index: int) -> int:
    return _ARGUMENTS + 8 * index  # the low word: both architectures are little-endian


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter: which calls are stopped. What does not concern files is let through at once."""
    stop, let = (_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)
    lines = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), stop, (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), stop]
    for name, number in TABLES[machine].items():
        if name in _FLAGS:
            body = [(_LOAD, 0, 0, _argument(_FLAGS[name])), (_ANY_BIT, 0, 1, _WRITING), stop, let]
        elif name == "mmap":
            body = [
                *((_LOAD, 0, 0, _argument(3)), (_ANY_BIT, 0, 3, _MAP_SHARED)),
                *((_LOAD, 0, 0, _argument(4)), (_EQUAL, 1, 0, 0xFFFFFFFF), stop, let),
            ]
        else:
            body = [stop]
        lines += [(_EQUAL, 0, len(body), number), *body]
    return [*lines, let]


def install() -> int:
    """Stops the file operations of this process and of all that it will start; returns the supervisor's descriptor.

    Call it in the child, before it has threads, and hand the descriptor to another process: calls of this one that the
    filter stops would wait for ever.

    Raises:
        RecordingUnavailableError: the kernel or the container refuses, or the machine is not known.
    """
    machine = platform.machine()
    if machine not in TABLES:
        raise RecordingUnavailableError(errno.ENOSYS, f"file operations cannot be recorded on {machine!r}: {_known()}")
    lines = _program(machine)
    array = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    program = _Program(len(lines), array)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _refused("no_new_privs")
    # Without _WAIT_KILLABLE (Linux 5.19) a signal handler may interrupt a call that was stopped: it is stopped again.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        descriptor = libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, flags, ctypes.byref(program))
        if descriptor >= 0:
            return int(descriptor)
        if ctypes.get_errno() != errno.EINVAL:
            break
    raise _refused("seccomp")


def _known() -> str:
    return f"the tables are those of {' and '.join(TABLES)}"


def _refused(what: str) -> RecordingUnavailableError:
    code = ctypes.get_errno()
    return RecordingUnavailableError(
        code,
        f"{what} was refused ({os.strerror(code)}): recording needs Linux >= 5.5, a container profile that allows "
        "seccomp, and a process that is not recorded already",
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """A stopped system call."""

    thread: int
    name: str
    arguments: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Stopped:
    """What a stopped call is about to do."""

    identity: int
    operation: Operation | None
    is_element: bool = False
    unseen: str | None = None
    durable: bool = False
    """Whether what it writes is on the disk when it returns."""


class OperationRecorder:
    """Answers the stopped calls of one child, and writes down those that concern a directory.

    Args:
        listener: the descriptor of `install`; it becomes readable when a call is stopped, and hangs up when none of the
            processes is left.
        root: the directory.
        log: gets the operations.
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
        is_element: Callable[[str], bool] = lambda _: False,
        holds: Callable[[Operation], bool] = lambda _: False,
    ) -> None:
        self.listener = listener
        self.elements = 0
        self.threads: set[int] = set()
        """Those that have changed the directory: with more than one another interleaving is possible."""
        self.blind: list[str] = []
        """What has happened that cannot be recorded; if there is anything, the log is worth nothing."""
        self._root = os.path.realpath(root)
        self._log = log
        self._is_element = is_element
        self._holds = holds
        self._held: _Stopped | None = None
        self._names = {number: name for name, number in TABLES[platform.machine()].items()}
        self._architecture = _ARCHITECTURES[platform.machine()]

    def answer(self) -> bool:
        """Lets one stopped call happen; False when there was none any more, or it is held."""
        call = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, call)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # it was killed, or a signal handler ran
                return False
            raise
        identity, thread, _, number, architecture, _, *arguments = _NOTIFICATION.unpack(call)
        stopped = self._stopped(identity, thread, number, architecture, arguments)
        if stopped.operation is not None and self._holds(stopped.operation):
            self._held = stopped
            return False
        return self._go_on(stopped)

    @property
    def held(self) -> Operation | None:
        """What a thread is kept from doing."""
        return None if self._held is None else self._held.operation

    def release(self) -> bool:
        """Lets what is held happen; False when its process has been killed."""
        assert self._held is not None, "nothing is held"
        stopped, self._held = self._held, None
        return self._go_on(stopped)

    def _stopped(
        self, identity: int, thread: int, number: int, architecture: int, arguments: Sequence[int]
    ) -> _Stopped:
        if architecture != self._architecture or number not in self._names:
            return _Stopped(identity, None, unseen="a system call of another architecture")
        try:
            call = _Call(thread, self._names[number], arguments)
            found = self._decode(call)
            durable = found[0] is not None and found[0].act is Act.WRITE and _is_synchronous(call)
        except PermissionError:
            return _Stopped(identity, None, unseen="a process whose memory may not be read")
        except OSError as error:
            if error.errno not in _WILL_FAIL:
                raise
            return _Stopped(identity, None)
        return _Stopped(identity, *found, durable)

    def _go_on(self, stopped: _Stopped) -> bool:
        """Lets a call happen and writes it down; False when there is nobody any more to do it."""
        if not self._let(stopped.identity):
            return False
        if stopped.unseen is not None and stopped.unseen not in self.blind:
            self.blind.append(stopped.unseen)
        self.elements += stopped.is_element
        if stopped.operation is not None:
            self.threads.add(stopped.operation.thread)
            self._log.append(stopped.operation)
            if stopped.durable:
                self._log.append(dataclasses.replace(stopped.operation, act=Act.FSYNC, offset=0, blob=None))
        return True

    def _let(self, identity: int) -> bool:
        try:
            fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(identity, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def _decode(self, call: _Call) -> tuple[Operation | None, bool, str | None]:
        """The operation, whether it is an element, and what cannot be recorded of it."""
        if call.name in _NAMED:
            return self._named(call)
        if call.name in _ON_OPEN_FILES:
            path = _descriptor_path(call.thread, call.arguments[0])
            inside = self._inside(path)
            if inside is None:
                return None, call.name in _WRITES and self._is_element(path), None
            if call.name == "fallocate" and call.arguments[1] & ~_FALLOC_FL_KEEP_SIZE:
                return None, False, "a hole punched into a file (fallocate)"
            return self._on_open_file(call, inside), False, None
        if call.name in _OF_EVERYTHING:
            return self._synced(call), False, None
        return None, False, self._mapped(call) if call.name == "mmap" else self._unseen(call)

    def _named(self, call: _Call) -> tuple[Operation | None, bool, str | None]:
        """A call that gives paths."""
        act, first, second = _NAMED[call.name]
        path, flags, text = _path(call, *first), 0, ""
        here, there = self._inside(path), None
        if call.name == "renameat2":
            if call.arguments[4] & ~_RENAME_NOREPLACE:
                return None, False, "an exchanging rename (renameat2)"
            flags = os.O_EXCL * (call.arguments[4] & _RENAME_NOREPLACE)
        elif act is Act.SYMLINK:
            text = _string(call, call.arguments[0])
        elif act is Act.CREATE:
            flags = os.O_CREAT | os.O_TRUNC if call.name == "creat" else call.arguments[_FLAGS[call.name]]
        elif call.name == "unlinkat" and call.arguments[2] & _AT_REMOVEDIR:
            act = Act.RMDIR
        if second is not None:
            other = _path(call, *second)
            there = self._inside(other)
            if (here is None) != (there is None):
                # Something comes into the directory whose contents were not seen, or goes where it is not followed.
                outside = path if here is None else other
                return None, False, f"a {call.name} between the checkpoint directory and {outside}"
        if here is None:
            return None, False, None
        offset = call.arguments[1] if act is Act.TRUNCATE else 0
        return self._operation(call, act, here, target=there or text, offset=offset, flags=flags), False, None

    def _operation(
        self, call: _Call, act: Act, path: str, *, target: str = "", offset: int = 0, flags: int = 0, inode: int = 0
    ) -> Operation:
        return Operation(
            *(act, path, target, offset),
            creates=bool(flags & os.O_CREAT),
            exclusive=bool(flags & os.O_EXCL),
            truncates=bool(flags & os.O_TRUNC),
            elements=self.elements,
            thread=call.thread,
            inode=inode,
        )

    def _on_open_file(self, call: _Call, path: str) -> Operation:
        descriptor = call.arguments[0]
        status = os.stat(f"/proc/{call.thread}/fd/{_int(descriptor)}")
        if call.name in ("fsync", "fdatasync"):
            return self._operation(call, Act.FSYNC, path, inode=status.st_ino)
        if call.name in ("ftruncate", "fallocate"):
            size = call.arguments[1]
            if call.name == "fallocate":
                keeps = call.arguments[1] & _FALLOC_FL_KEEP_SIZE
                size = status.st_size if keeps else max(status.st_size, call.arguments[2] + call.arguments[3])
            return self._operation(call, Act.TRUNCATE, path, offset=size, inode=status.st_ino)
        blob = self._log.blob(_memory(call, call.arguments[1], call.arguments[2]))
        offset, flags = _descriptor_state(call.thread, descriptor)
        if flags & os.O_APPEND:
            offset = status.st_size
        elif call.name.startswith("p") and call.arguments[3] != _CURRENT_POSITION:
            offset = call.arguments[3]
        written = self._operation(call, Act.WRITE, path, offset=offset, inode=status.st_ino)
        return dataclasses.replace(written, blob=blob)

    def _synced(self, call: _Call) -> Operation | None:
        """An fsync of the directory without an inode is one of everything below it."""
        if call.name == "syncfs":
            descriptor = f"/proc/{call.thread}/fd/{_int(call.arguments[0])}"
            if os.stat(descriptor).st_dev != os.stat(self._root).st_dev:
                return None
        return self._operation(call, Act.FSYNC, ".")

    def _unseen(self, call: _Call) -> str | None:
        if call.name not in _COPIES:
            return call.name  # openat2, io_uring_setup
        inside = self._inside(_descriptor_path(call.thread, call.arguments[_COPIES[call.name]]))
        return None if inside is None else f"a copy inside the kernel ({call.name})"

    def _mapped(self, call: _Call) -> str | None:
        path = _descriptor_path(call.thread, call.arguments[4])
        if self._inside(path) is None:
            return None
        _, flags = _descriptor_state(call.thread, call.arguments[4])
        return "a shared mapping of a file" if flags & os.O_ACCMODE != os.O_RDONLY else None

    def _inside(self, path: str) -> str | None:
        """The path relative to the directory, empty if it is a name that is gone; None if it is elsewhere."""
        if not path.startswith("/"):
            return None  # a pipe, a socket
        if path.endswith(_DELETED):
            return "" if path.startswith(f"{self._root}/") else None
        if path == self._root:
            return "."
        return path[len(self._root) + 1 :] if path.startswith(f"{self._root}/") else None


def _int(argument: int) -> int:
    """A descriptor as the kernel reads it: the low word, signed."""
    return ctypes.c_int(argument & 0xFFFFFFFF).value


def _descriptor_path(thread: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{thread}/fd/{_int(descriptor)}")
    except FileNotFoundError:
        return ""  # the call will fail


def _path(call: _Call, directory: int | None, address: int) -> str:
    """The absolute path that a call gives; only its last part may be a symbolic link."""
    path = _string(call, call.arguments[address])
    if not path.startswith("/"):
        number = _AT_FDCWD if directory is None else _int(call.arguments[directory])
        base = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        path = os.path.join(os.readlink(f"/proc/{call.thread}/{base}"), path)
    parent, name = os.path.split(path.rstrip("/") or "/")
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(parent), name)  # `link/..` is where the link leads to, not where it is


def _descriptor_state(thread: int, descriptor: int) -> tuple[int, int]:
    """Position and flags."""
    found = {}
    with open(f"/proc/{thread}/fdinfo/{_int(descriptor)}") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            found[name] = value.strip()
    return int(found["pos"]), int(found["flags"], 8)


def _is_synchronous(call: _Call) -> bool:
    """Whether the descriptor that is written to was opened with O_DSYNC, which is a part of O_SYNC."""
    _, flags = _descriptor_state(call.thread, call.arguments[0])
    return bool(flags & os.O_DSYNC)


def _memory(call: _Call, address: int, amount: int) -> Iterator[bytes]:
    """The bytes that a write will write, in pieces."""
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as memory:
        spans = [(address, amount)]
        if "writev" in call.name:
            vectors = os.pread(memory.fileno(), 16 * amount, address)
            spans = list(struct.iter_unpack("=QQ", vectors))
        for begin, size in spans:
            for at in range(0, size, _READ_AT_ONCE):
                yield os.pread(memory.fileno(), min(_READ_AT_ONCE, size - at), begin + at)


def _string(call: _Call, address: int) -> str:
    found = b""
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found:
            # Not beyond the page: the next one may not be there.
            more = os.pread(memory.fileno(), 4096 - (address + len(found)) % 4096, address + len(found))
            if not more:
                raise ProcessLookupError(errno.ESRCH, "it was killed: nothing of its memory is left")
            found += more
    return os.fsdecode(found[: found.index(b"\0")])


__all__ = ["AARCH64", "TABLES", "X86_64", "OperationRecorder", "RecordingUnavailableError", "install"]
