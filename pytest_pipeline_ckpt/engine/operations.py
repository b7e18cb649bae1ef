"""What a recorded run did to its checkpoint directory: one operation after the other, contents on disk.

A log is a directory of two files: `operations.jsonl`, one JSON array a line, and `contents.bin`, the bytes of all
writes one behind the other. So the log of a run that writes gigabytes fits into memory: an operation only says where
its bytes are. Knows neither seccomp nor TensorFlow.
"""

from __future__ import annotations

import enum
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OPERATIONS, CONTENTS = "operations.jsonl", "contents.bin"
_READ = 1 << 20  # bytes at once


class Act(enum.Enum):
    """What an operation does; the values are those in the log."""

    CREATE = "create"
    """Opens for writing: `creates`, `exclusive` and `truncates` say how."""
    WRITE = "write"
    TRUNCATE = "truncate"
    """To `offset` bytes, longer or shorter."""
    RENAME = "rename"
    LINK = "link"
    SYMLINK = "symlink"
    """`target` is what the link holds, not a path below the directory."""
    UNLINK = "unlink"
    MKDIR = "mkdir"
    RMDIR = "rmdir"
    FSYNC = "fsync"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in `contents.bin`."""

    start: int
    size: int
    digest: int
    """64 bits of their contents."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One mutating file operation, as it was asked for; it may have failed, as `mkdir` of what exists does."""

    act: Act
    path: str
    """Relative to the directory; `.` is the directory itself. Empty is a file that is known by its inode: its name is
    gone, or it never had one and gets its first by a link."""
    target: str = ""
    offset: int = 0
    """Of a write in its file, in bytes."""
    blob: Blob | None = None
    creates: bool = False
    exclusive: bool = False
    """Fails where the path, of a rename or a link the target, exists."""
    truncates: bool = False
    elements: int = 0
    """Records that were in the ledger before it."""
    thread: int = 0
    inode: int = 0
    """Of what is done to an open file: the file's, whatever its names are by now."""


class LogWriter:
    """Writes a log; one process, one thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.operations = 0
        """How many it holds."""
        self._operations = (directory / OPERATIONS).open("w")
        self._contents = (directory / CONTENTS).open("wb")
        self._end = 0

    def blob(self, pieces: Iterable[bytes]) -> Blob:
        """Keeps bytes."""
        start, state = self._end, xxhash.xxh3_64()
        for piece in pieces:
            self._contents.write(piece)
            state.update(piece)
            self._end += len(piece)
        return Blob(start, self._end - start, state.intdigest())

    def append(self, operation: Operation) -> None:
        """Adds an operation."""
        json.dump(_row(operation), self._operations, separators=(",", ":"))
        self._operations.write("\n")
        self.operations += 1

    def close(self) -> None:
        """Writes what is still in memory."""
        self._operations.close()
        self._contents.close()


def _row(operation: Operation) -> list[object]:
    blob = operation.blob
    bits = operation.creates | operation.exclusive << 1 | operation.truncates << 2
    return [
        *(operation.act.value, operation.path, operation.target, operation.offset, bits),
        *(operation.elements, operation.thread, operation.inode),
        None if blob is None else [blob.start, blob.size, blob.digest],
    ]


def read(directory: Path) -> Iterator[Operation]:
    """The operations of a log."""
    with (directory / OPERATIONS).open() as lines:
        for line in lines:
            act, path, target, offset, bits, elements, thread, inode, blob = json.loads(line)
            yield Operation(
                *(Act(act), path, target, offset, None if blob is None else Blob(*blob)),
                *(bool(bits & 1), bool(bits & 2), bool(bits & 4), elements, thread, inode),
            )


def snapshot(root: Path, log: LogWriter) -> list[Operation]:
    """Adds the operations that would make the directory as it is now, and returns them: what is oldest comes first."""
    made: list[Operation] = []
    files: list[tuple[int, str]] = []
    for directory, names, found in os.walk(root):
        for name in sorted((*names, *found)):
            full = os.path.join(directory, name)
            status = os.lstat(full)
            path = os.path.relpath(full, root)
            if stat.S_ISLNK(status.st_mode):
                made.append(Operation(Act.SYMLINK, path, target=os.readlink(full)))
            elif name in names:
                made.append(Operation(Act.MKDIR, path))
            elif stat.S_ISREG(status.st_mode):  # a FIFO or a socket holds nothing, and reading it would wait for ever
                files.append((status.st_mtime_ns, path))
    known: dict[int, str] = {}
    for _, path in sorted(files):
        full = os.path.join(root, path)
        inode = os.lstat(full).st_ino
        if inode in known:
            made.append(Operation(Act.LINK, known[inode], target=path))
        else:
            known[inode] = path
            made += _copied(full, path, log)
    for operation in made:
        log.append(operation)
    return made


def _copied(full: str, path: str, log: LogWriter) -> list[Operation]:
    with open(full, "rb") as file:
        blob = log.blob(iter(lambda: file.read(_READ), b""))
    return [
        Operation(Act.CREATE, path, creates=True),
        Operation(Act.WRITE, path, blob=blob, inode=os.stat(full).st_ino),
    ]


__all__ = ["CONTENTS", "OPERATIONS", "Act", "Blob", "LogWriter", "Operation", "read", "snapshot"]
