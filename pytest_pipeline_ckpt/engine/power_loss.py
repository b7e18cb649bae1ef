"""Log -> directory states: what a power loss leaves behind after each operation of a recorded run. Pure.

A kill loses nothing; a power loss loses what was written and not fsynced. The names are those that a kill would leave,
because journals keep changes of names in their order; what is in the files is not. Disk images of ext4, xfs and btrfs
have shown:

- files of no bytes: their blocks are allocated long after their names are written;
- the same, but files that were renamed over others are whole: ext4 allocates and writes those with the rename
  (`auto_da_alloc` in ext4(5));
- of the file that was written or renamed last: only zeros, no bytes, or a part of it that ends at a page.

What was fsynced stays, whatever is written to the file later: of an append the addition is lost, of bytes that were
overwritten the new ones. Cutting a file is a change of names, not of contents, and is not lost.

Only the last file is damaged alone: with every file, or every set of them, the states would not be linear in the log.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from .crash_states import PAGE, Content, CrashState, Directory, File
from .names import Names
from .operations import Act, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


_EMPTY = Content()


class _Disk:
    """A directory, and what was in its files when they were last written to the disk."""

    def __init__(self) -> None:
        self.directory = Directory()
        self._synced: dict[File, Content] = {}
        """What a power loss leaves at least: what was fsynced, cut where the file was cut since."""
        self._renamed_over: dict[File, Content] = {}

    def apply(self, operation: Operation) -> File | None:
        """Carries an operation out; the file that it wrote or gave a name."""
        if operation.act in (Act.RENAME, Act.LINK):
            return self._name(operation)
        if operation.act is Act.FSYNC:
            self._sync(operation)
        self.directory.apply(operation)
        if operation.act in (Act.CREATE, Act.TRUNCATE):
            self._cut(operation)
        return self.directory.opened(operation) if operation.act in (Act.WRITE, Act.TRUNCATE) else None

    def sync_all(self) -> None:
        """Makes everything durable."""
        self._synced.update((file, file.content) for file in self.directory.files.values())

    def losses(self, last: File | None) -> Iterator[tuple[str, Mapping[File, Content]]]:
        """What may happen to the files, in words, and what is in those that it happens to; `last` was touched last."""
        written = [file for file in self.directory.files.values() if file.content is not self._kept(file)]
        volatile = {file: self._kept(file) for file in written if file.content != self._kept(file)}
        renamed = {file for file in volatile if file.content is self._renamed_over.get(file)}
        yield _what_is_left(volatile.values()), volatile
        others = {file: kept for file, kept in volatile.items() if file not in renamed}
        yield f"{_what_is_left(others.values())} but for renames over", others
        if last in volatile:
            kept, whole = volatile[last], last.content
            if kept.size < whole.size:
                yield "NULs", {last: kept.truncated(whole.size)}
            yield _what_is_left([kept]), {last: kept}
            cut = max(PAGE, (kept.size + whole.size) // 2 // PAGE * PAGE)
            if kept.size < cut < whole.size:
                yield "torn", {last: whole.truncated(cut)}

    def _kept(self, file: File) -> Content:
        return self._synced.get(file, _EMPTY)

    def _cut(self, operation: Operation) -> None:
        file = self.directory.opened(operation)
        if file is not None and file.content.size < self._kept(file).size:
            self._synced[file] = self._kept(file).truncated(file.content.size)

    def _name(self, operation: Operation) -> File | None:
        files, target = self.directory.files, operation.target
        file, old, over = files.get(operation.path), files.get(target), self.directory.exists(target)
        self.directory.apply(operation)
        if file is None or file is old or files.get(target) is not file:
            return None
        if over:
            self._renamed_over[file] = file.content
        return file

    def _sync(self, operation: Operation) -> None:
        if operation.path == "." and not operation.inode:
            self.sync_all()
        elif (file := self.directory.opened(operation)) is not None:
            self._synced[file] = file.content


def power_states(operations: Sequence[Operation], *, before: int = 0) -> Iterator[CrashState]:
    """Every state that a power loss can leave and a kill cannot, in their order, those that are alike included.

    Args:
        operations: of the log.
        before: how many of them only describe what was there when the run began (`operations.snapshot`): it is durable.
    """
    disk, reads = _Disk(), Names(operations).may_be_read
    for number, operation in enumerate(operations, 1):
        last = disk.apply(operation)
        if number == before:
            disk.sync_all()
        if number <= before:
            continue
        files = disk.directory.files
        if not any(reads(name) for name, file in files.items() if file is last):
            last = None  # only where it can be seen: tearing a file takes as long as it has pieces
        killed = disk.directory.state(number, operation.elements)
        for loss, contents in disk.losses(last):
            state = _lost(killed, files, loss, contents, reads)
            if state.damaged:
                yield state


def _lost(
    killed: CrashState,
    names: Mapping[str, File],
    loss: str,
    contents: Mapping[File, Content],
    reads: Callable[[str], bool],
) -> CrashState:
    files = {name: contents.get(file, file.content) for name, file in names.items()}
    damaged = [name for name, content in files.items() if reads(name) and content != killed.files[name]]
    return replace(killed, files=files, loss=loss, damaged=tuple(sorted(damaged)))


def _what_is_left(kept: Iterable[Content]) -> str:
    return "as last fsynced" if any(content.size for content in kept) else "zero length"


def unsettled(operations: Sequence[Operation], *, before: int = 0) -> frozenset[str]:
    """Names of files and directories that came into being, or to another file, without an fsync of their directory.

    fsync(2): that a file was fsynced does not say that its name is on the disk. The states of this module take names
    for durable, as journals keep them in their order; other file systems need not. The directories of the run itself
    are whoever's that started it.
    """
    directory, waiting, found = Directory(), set[str](), set[str]()
    for number, operation in enumerate(operations):
        names = [name for name in (operation.path, operation.target) if name]
        old = [directory.at(name) for name in names]
        directory.apply(operation)
        if operation.act is Act.FSYNC:
            waiting = {name for name in waiting if not _settles(operation, name)}
        for name, was in zip(names, old, strict=True):
            now = directory.at(name)
            if now is None:
                waiting.discard(name)
            elif now != was and number >= before and (now != "directory" or "/" in name):
                found |= {name} & waiting
                waiting.add(name)
    return frozenset(found | waiting)


def _settles(operation: Operation, name: str) -> bool:
    everything = operation.path == "." and not operation.inode
    return everything or operation.path == (os.path.dirname(name) or ".")


__all__ = ["power_states", "unsettled"]
