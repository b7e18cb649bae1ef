"""Log -> directory states: what SIGKILL leaves behind after each operation of a recorded run. Pure but for `rebuild`.

A kill lands between two operations, or within a write: the kernel copies a page at a time and looks for signals between
pages, so a large write may be cut at a page's boundary (of all cuts the middle one is taken). What has been written
stays: SIGKILL loses nothing that is in the page cache.

States that a resume cannot tell apart are one: TensorFlow never reads its temporary names and its events (`names`).
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from .names import may_be_read
from .operations import CONTENTS, Act, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

PAGE = 4096
_COPIED = 1 << 20  # bytes at once
_APART = 10_000_000  # nanoseconds; coarser than the clock of any file system
_LINKS_FOLLOWED = 40  # as the kernel does


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file; where there are none it has zeros."""

    offset: int
    start: int
    """In the log's contents."""
    size: int
    digest: int
    """Of the whole write that it is of: with `size` it says what the bytes are."""

    def until(self, end: int) -> Piece:
        """What of it comes before an offset; itself if that is all, because there are many in many states."""
        if self.offset + self.size <= end:
            return self
        return Piece(self.offset, self.start, end - self.offset, self.digest)


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file."""

    size: int = 0
    pieces: tuple[Piece, ...] = ()
    """In the order in which they were written: later ones cover earlier ones."""
    key: int = 0
    """Equal for pieces that were written alike; with the size, for files."""

    def written(self, piece: Piece) -> Content:
        """With one more piece."""
        return Content(max(self.size, piece.offset + piece.size), (*self.pieces, piece), _with(self.key, piece))

    def truncated(self, size: int) -> Content:
        """With another size, smaller or larger."""
        pieces = tuple(piece.until(size) for piece in self.pieces if piece.offset < size)
        return Content(size, pieces, functools.reduce(_with, pieces, 0))


@dataclass(frozen=True, slots=True)
class CrashState:
    """The directory as a kill or a power loss leaves it."""

    operation: int
    """How many operations had been carried out."""
    elements: int
    """How many ledger records there were at the last of them."""
    torn: bool
    """Whether the operation after them had been half done."""
    files: Mapping[str, Content]
    links: Mapping[str, str]
    directories: frozenset[str]
    loss: str = ""
    """What a power loss did to the files; empty after a kill."""
    damaged: tuple[str, ...] = ()
    """The files that a restore may read and that are not what was written."""

    def key(self, *, may_be_read: Callable[[str], bool] = may_be_read) -> int:
        """Equal for states that a resume cannot tell apart: those with the same under each name that it may read."""
        state = xxhash.xxh3_64()
        seen = [f"d {name}" for name in self.directories if may_be_read(name)]
        seen += [f"f {name} {file.size} {file.key}" for name, file in self.files.items() if may_be_read(name)]
        seen += [f"l {name} {target}" for name, target in self.links.items() if may_be_read(name)]
        state.update("\0".join(sorted(seen)).encode("utf-8", "surrogateescape"))
        return int(state.intdigest())


@dataclass(frozen=False, slots=True, eq=False)
class File:
    """An inode: names come and go, and an open file goes on being written without any."""

    content: Content = field(default_factory=Content)


class Directory:
    """The model of a directory; operations that the kernel would refuse change nothing."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._links: dict[str, str] = {}
        self._directories: set[str] = set()
        self._inodes: dict[int, File] = {}

    @property
    def files(self) -> Mapping[str, File]:
        """What is behind each name of a file."""
        return self._files

    def apply(self, operation: Operation) -> None:
        """Carries an operation out."""
        carry_out = {
            Act.CREATE: self._create,
            Act.WRITE: self._write,
            Act.TRUNCATE: self._truncate,
            Act.RENAME: self._rename,
            Act.LINK: self._link,
            Act.SYMLINK: self._symlink,
            Act.UNLINK: self._unlink,
            Act.MKDIR: self._mkdir,
            Act.RMDIR: self._rmdir,
        }.get(operation.act)
        if carry_out is not None:
            carry_out(operation)

    def state(self, operation: int, elements: int, *, torn: bool = False) -> CrashState:
        """The directory as it is now."""
        files = {name: file.content for name, file in self._files.items()}
        return CrashState(operation, elements, torn, files, dict(self._links), frozenset(self._directories))

    def half_done(self, operation: Operation, number: int) -> CrashState:
        """The directory in the middle of a large write; the model stays as it was before it."""
        file = self.opened(operation)
        before = None if file is None else file.content
        self._write(operation, half=True)
        state = self.state(number, operation.elements, torn=True)
        if file is not None and before is not None:
            file.content = before
        return state

    def at(self, path: str) -> File | str | None:
        """What is at a name: a file, `directory`, an arrow and where a link leads, or nothing."""
        if path in self._links:
            return f"-> {self._links[path]}"
        return self._files.get(path) or ("directory" if self.exists(path) else None)

    def exists(self, path: str) -> bool:
        """Whether there is anything by this name."""
        return path == "." or path in self._files or path in self._links or path in self._directories

    def opened(self, operation: Operation) -> File | None:
        """The file of an operation: by its name, and if that is gone by the inode that was seen under it."""
        if not operation.path:
            return self._inodes.setdefault(operation.inode, File())
        file = self._files.get(self._followed(operation.path))
        if file is None:
            return self._inodes.get(operation.inode)
        if operation.inode:
            self._inodes[operation.inode] = file
        return file

    def _can_make(self, path: str) -> bool:
        parent = os.path.dirname(path)
        return not self.exists(path) and (not parent or parent in self._directories)

    def _below(self, path: str) -> list[str]:
        names = (*self._files, *self._links, *self._directories)
        return [name for name in names if name.startswith(f"{path}/")]

    def _create(self, operation: Operation) -> None:
        path = operation.path if operation.exclusive else self._followed(operation.path)
        file = self._files.get(path)
        if file is not None:
            if operation.truncates and not (operation.creates and operation.exclusive):
                file.content = Content()
        elif operation.creates and self._can_make(path):
            self._files[path] = File()

    def _followed(self, path: str) -> str:
        """Where a symbolic link leads."""
        for _ in range(_LINKS_FOLLOWED):
            if path not in self._links:
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), self._links[path]))
        return path

    def _link(self, operation: Operation) -> None:
        path, target = operation.path, operation.target
        if not self._can_make(target):
            return
        if not path:
            self._files[target] = self._inodes.setdefault(operation.inode, File())
        elif path in self._files:
            self._files[target] = self._files[path]
        elif path in self._links:
            self._links[target] = self._links[path]

    def _symlink(self, operation: Operation) -> None:
        if self._can_make(operation.path):
            self._links[operation.path] = operation.target

    def _unlink(self, operation: Operation) -> None:
        self._files.pop(operation.path, None)
        self._links.pop(operation.path, None)

    def _mkdir(self, operation: Operation) -> None:
        if self._can_make(operation.path):
            self._directories.add(operation.path)

    def _rmdir(self, operation: Operation) -> None:
        if not self._below(operation.path):
            self._directories.discard(operation.path)

    def _write(self, operation: Operation, *, half: bool = False) -> None:
        file, blob = self.opened(operation), operation.blob
        if file is None or blob is None:
            return  # it has been unlinked: nobody will ever see what is written
        size = _cut(operation) if half else blob.size
        if size > 0:
            file.content = file.content.written(Piece(operation.offset, blob.start, size, blob.digest))

    def _truncate(self, operation: Operation) -> None:
        file, size = self.opened(operation), operation.offset
        if file is not None and size != file.content.size:
            file.content = file.content.truncated(size)

    def _rename(self, operation: Operation) -> None:
        path, target = operation.path, operation.target
        parent = os.path.dirname(target)
        refused = parent and parent not in self._directories
        refused = refused or (operation.exclusive and self.exists(target)) or target.startswith(f"{path}/")
        if path == target or refused:
            return
        if path in self._directories:
            self._rename_directory(path, target)
        elif target not in self._directories:
            self._rename_file(path, target)

    def _rename_directory(self, path: str, target: str) -> None:
        if target in self._files or target in self._links or self._below(target):
            return
        for names in (self._files, self._links):
            _move(names, path, target)
        inside = {name for name in self._directories if name == path or name.startswith(f"{path}/")}
        self._directories -= inside
        self._directories |= {target + name[len(path) :] for name in inside}

    def _rename_file(self, path: str, target: str) -> None:
        if path in self._files and self._files[path] is not self._files.get(target):  # two links to a file: nothing
            self._links.pop(target, None)
            self._files[target] = self._files.pop(path)
        elif path in self._links:
            self._files.pop(target, None)
            self._links[target] = self._links.pop(path)


def _move(names: dict[str, File] | dict[str, str], path: str, target: str) -> None:
    for name in [name for name in names if name.startswith(f"{path}/")]:
        names[target + name[len(path) :]] = names.pop(name)  # type: ignore[assignment]


def _with(key: int, piece: Piece) -> int:
    numbers = (key, piece.offset, piece.size, piece.digest)
    return int(xxhash.xxh3_64_intdigest(" ".join(map(str, numbers)).encode()))


def _cut(operation: Operation) -> int:
    """Where a large write is torn: at the boundary of the page in its middle, as an amount of bytes."""
    assert operation.blob is not None
    boundary = (operation.offset + operation.blob.size // 2) // PAGE * PAGE
    return max(0, boundary - operation.offset)


def crash_states(operations: Iterable[Operation], *, before: int = 0) -> Iterator[CrashState]:
    """Every state that SIGKILL can leave, in their order, those that are alike included.

    Args:
        operations: of the log.
        before: how many of them only describe what was there when the run began (`operations.snapshot`).
    """
    directory = Directory()
    if before == 0:
        yield directory.state(0, 0)
    for number, operation in enumerate(operations, 1):
        if number > before and operation.act is Act.WRITE and _cut(operation) > 0:
            yield directory.half_done(operation, number - 1)
        directory.apply(operation)
        if number >= before:
            yield directory.state(number, operation.elements)


def distinct(states: Iterable[CrashState], *, may_be_read: Callable[[str], bool] = may_be_read) -> Iterator[CrashState]:
    """The first of each kind that a resume can tell apart, which reads names that `may_be_read`."""
    seen: set[int] = set()
    for state in states:
        key = state.key(may_be_read=may_be_read)
        if key not in seen:
            seen.add(key)
            yield state


def rebuild(state: CrashState, log: Path, directory: Path) -> None:
    """Makes `directory` what the state says; whatever was there is gone. Hard links become files of their own."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name in sorted(state.directories):
        (directory / name).mkdir()
    for name, target in state.links.items():
        (directory / name).symlink_to(target)
    with (log / CONTENTS).open("rb") as contents:
        for name, content in state.files.items():
            with (directory / name).open("wb") as file:
                for piece in content.pieces:
                    contents.seek(piece.start)
                    file.seek(piece.offset)
                    for begin in range(0, piece.size, _COPIED):
                        file.write(contents.read(min(_COPIED, piece.size - begin)))
                file.truncate(content.size)
    _set_times(state, directory)


def _set_times(state: CrashState, directory: Path) -> None:
    """Gives files and directories the order of their last writes: many trainings resume from what is newest."""
    written = {
        name: max((piece.start for piece in content.pieces), default=-1) for name, content in state.files.items()
    }
    ascending = sorted(written, key=lambda name: written[name])
    now = time.time_ns()
    times = {name: now - _APART * (len(ascending) - number) for number, name in enumerate(ascending)}
    for name in sorted(state.directories, key=lambda name: -name.count("/")):
        below = [at for path, at in times.items() if os.path.dirname(path) == name]
        times[name] = max(below, default=now - _APART * (len(ascending) + 1))
    for name, at in times.items():
        os.utime(directory / name, ns=(at, at))


__all__ = [
    "PAGE",
    "Content",
    "CrashState",
    "Directory",
    "File",
    "Piece",
    "crash_states",
    "distinct",
    "rebuild",
]
