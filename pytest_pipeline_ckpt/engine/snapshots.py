"""Where file operations cannot be recorded: what the directory is like at each element, in the same log.

The life waits at each training element, its whole tree is stopped, and what has changed since the last element is
copied. So the states between elements are exact, and the inside of a save that ends before the next element is not
seen; whoever reports this says so.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .operations import Act, LogWriter, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READ = 1 << 20  # bytes at once

_Seen = tuple[int, int, int]
"""Inode, size and time of the last change: what differs after any write (`stat(2)`)."""


class Snapshots:
    """Writes the changes of a directory into a log.

    Args:
        root: the directory.
        log: of the life.
    """

    def __init__(self, root: Path, log: Path) -> None:
        self.boundaries: list[int] = []
        """After how many operations of the log the directory was as it was at an element."""
        self._root = root
        self._log = LogWriter(log)
        self._files: dict[str, _Seen] = {}
        self._links: dict[str, str] = {}
        self._directories: set[str] = set()
        self.take(0)

    def take(self, records: int) -> None:
        """Looks at the directory; nothing may write to it meanwhile.

        Args:
            records: how many the ledger has.
        """
        append = self._log.append
        files, links, directories = self._look()
        gone = [name for name, seen in self._files.items() if files.get(name) != seen]
        gone += [name for name, target in self._links.items() if links.get(name) != target]
        for name in gone:
            append(Operation(Act.UNLINK, name, elements=records))
        for name in sorted(self._directories - directories, reverse=True):
            append(Operation(Act.RMDIR, name, elements=records))
        for name in sorted(directories - self._directories):
            append(Operation(Act.MKDIR, name, elements=records))
        for name, target in links.items():
            if self._links.get(name) != target:
                append(Operation(Act.SYMLINK, name, target=target, elements=records))
        for name, seen in files.items():
            if self._files.get(name) != seen:
                append(Operation(Act.CREATE, name, creates=True, elements=records))
                blob = self._log.blob(_contents(self._root / name))
                append(Operation(Act.WRITE, name, blob=blob, elements=records))
        self._files, self._links, self._directories = files, links, directories
        if not self.boundaries or self._log.operations > self.boundaries[-1]:
            self.boundaries.append(self._log.operations)

    def close(self) -> None:
        """Completes the log."""
        self._log.close()

    def _look(self) -> tuple[dict[str, _Seen], dict[str, str], set[str]]:
        files: dict[str, _Seen] = {}
        links: dict[str, str] = {}
        directories: set[str] = set()
        for here, below, names in os.walk(self._root):
            for name in (*below, *names):
                full = os.path.join(here, name)
                path = os.path.relpath(full, self._root)
                status = os.lstat(full)
                if os.path.islink(full):
                    links[path] = os.readlink(full)
                elif name in below:
                    directories.add(path)
                elif stat.S_ISREG(status.st_mode):
                    files[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return files, links, directories


def _contents(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_READ), b"")


__all__ = ["Snapshots"]
