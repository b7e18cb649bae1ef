"""What the kernel tells of a thread that is stopped in a system call: memory, descriptors, and where paths lead.

Sources: proc(5), path_resolution(7), open(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BYTES = 0x7FFFF000
"""The kernel writes no more at a time: write(2)."""
MOST_VECTORS = 1024
"""IOV_MAX."""
AT_FDCWD = -100
PATH_MAX = 4096
_NAME_MAX, _MOST_LINKS = 255, 40
_READ_AT_ONCE = 1 << 20
_DELETED = " (deleted)"
_NEVER_NAMED = re.compile(r"/#[0-9]+ \(deleted\)$")
"""How the kernel shows a file that was opened with O_TMPFILE, for good."""
_MAGIC = re.compile(r"/proc/[0-9]+/(task/[0-9]+/)?(fd/[0-9]+|cwd|root|exe)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A stopped system call."""

    thread: int
    name: str
    arguments: Sequence[int]

    def descriptor(self, index: int) -> int:
        """An argument as the kernel reads a descriptor: the low word, signed."""
        return ctypes.c_int(self.arguments[index] & 0xFFFFFFFF).value

    def signed(self, index: int) -> int:
        """An argument as an offset or a size."""
        return ctypes.c_int64(self.arguments[index]).value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path or a descriptor leads."""

    path: str
    """Absolute; what is no file of a directory has something else, `pipe:[7]`."""
    inode: int = 0
    """Of a file that is not to be found there, because its name is gone or it never had one; else 0."""
    unnamed: bool = False
    """It never had a name (O_TMPFILE)."""
    links: int = 0
    """Names that such a file has by now."""


def opened(thread: int, descriptor: int) -> Place:
    """Where an open file is.

    Raises:
        OSError: it is none, or the thread is gone.
    """
    return _found(f"/proc/{thread}/fd/{descriptor}")


def _found(magic: str) -> Place:
    """Where one of the kernel's own links leads, whose text is not always a path."""
    path = os.readlink(magic)
    if not path.endswith(_DELETED):
        return Place(path)
    status = os.stat(magic)
    try:
        there = os.lstat(path)
        if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
            return Place(path)  # it really has such a name
    except OSError:
        pass
    unnamed = _NEVER_NAMED.search(path) is not None
    return Place(path.removesuffix(_DELETED), status.st_ino, unnamed=unnamed, links=status.st_nlink)


def place(call: Call, directory: int | None, text: str, *, follows: bool) -> Place:
    """Where a path leads that a call gives, as the kernel would go.

    Args:
        call: of whose process.
        directory: the argument with the descriptor from which it leads; None: the working directory.
        text: of the path.
        follows: whether its last part may be a symbolic link that is followed.

    Raises:
        OSError: it leads nowhere.
    """
    if len(os.fsencode(text)) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if not text:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    base = "/"
    if not text.startswith("/"):
        descriptor = AT_FDCWD if directory is None else call.descriptor(directory)
        base = os.readlink(f"/proc/{call.thread}/{'cwd' if descriptor == AT_FDCWD else f'fd/{descriptor}'}")
    return _walked(call.thread, base, text, follows=follows)


def _walked(thread: int, base: str, text: str, *, follows: bool) -> Place:
    here, left, links = base, text.split("/")[::-1], 0
    while left:
        name = left.pop()
        if name in ("", "."):
            if name and not os.path.isdir(here):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            continue
        if name == "..":
            if not os.path.isdir(here):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            here = os.path.dirname(here)
            continue
        if len(os.fsencode(name)) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        here = os.path.join(here, name)
        last = not any(left)
        target = None if last and not follows else _link(thread, here)
        if target is None:
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if isinstance(target, Place):
            if last:
                return target
            here = target.path
        else:
            here = "/" if target.startswith("/") else os.path.dirname(here)
            left += target.split("/")[::-1]
    return Place(here)


def _link(thread: int, path: str) -> str | Place | None:
    """Where a symbolic link leads; None if it is none."""
    if path in ("/proc/self", "/proc/thread-self"):
        group = _group(thread)
        return str(group) if path == "/proc/self" else f"{group}/task/{thread}"
    if _MAGIC.match(path):
        return _found(path)
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTDIR):
            return None
        raise


def _group(thread: int) -> int:
    """The process of a thread."""
    with open(f"/proc/{thread}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Tgid:"))


def descriptor_state(thread: int, descriptor: int) -> tuple[int, int]:
    """Position and flags."""
    found = {}
    with open(f"/proc/{thread}/fdinfo/{descriptor}") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            found[name] = value.strip()
    return int(found["pos"]), int(found["flags"], 8)


def largest_file(thread: int) -> int | None:
    """How large its files may become (RLIMIT_FSIZE); None: as large as they like."""
    limit, _ = resource.prlimit(thread, resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit


def has_returned(thread: int, number: int) -> bool:
    """Whether a thread is certainly no longer in the system call of this number."""
    try:
        with open(f"/proc/{thread}/syscall") as file:
            found = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except PermissionError:  # it has become another user's
        return False
    return found[0] != "running" and int(found[0]) != number


def written(call: Call, most: int) -> Iterator[bytes]:
    """The bytes that a write will write, at most so many, in pieces; they end where the memory ends, as it does."""
    address, amount = call.arguments[1], call.arguments[2]
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as memory:
        spans = [(address, amount)]
        if "writev" in call.name:
            spans = list(struct.iter_unpack("=QQ", os.pread(memory.fileno(), 16 * amount, address)))
        for begin, size in spans:
            at, end = 0, min(size, most)
            while at < end:
                piece = _piece(memory.fileno(), min(_READ_AT_ONCE, end - at), begin + at)
                yield piece
                at += len(piece)
                if not piece:
                    return
            most -= end


def _piece(memory: int, size: int, address: int) -> bytes:
    try:
        return os.pread(memory, size, address)
    except OSError as error:
        if error.errno in (errno.EIO, errno.EFAULT):
            return b""
        raise


def memory(call: Call, address: int, size: int) -> bytes:
    """Bytes of the process's memory."""
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as file:
        return os.pread(file.fileno(), size, address)


def string(call: Call, address: int) -> str:
    """A string in the process's memory."""
    found = b""
    with open(f"/proc/{call.thread}/mem", "rb", buffering=0) as file:
        while b"\0" not in found:
            # Not beyond the page: the next one may not be there.
            more = os.pread(file.fileno(), 4096 - (address + len(found)) % 4096, address + len(found))
            if not more:
                raise ProcessLookupError(errno.ESRCH, "it was killed: nothing of its memory is left")
            found += more
            if len(found) > 2 * PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return os.fsdecode(found[: found.index(b"\0")])


__all__ = [
    "AT_FDCWD",
    "MOST_BYTES",
    "MOST_VECTORS",
    "PATH_MAX",
    "Call",
    "Place",
    "descriptor_state",
    "has_returned",
    "largest_file",
    "memory",
    "opened",
    "place",
    "string",
    "written",
]
