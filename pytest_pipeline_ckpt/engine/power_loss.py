"""Log -> directory states: what a power loss leaves behind after each operation of a recorded run. Pure.

A kill loses nothing; a power loss loses what was written and not fsynced. The names are those that a kill would leave,
because journals keep changes of names in their order; what is in the files is not. Disk images of ext4, xfs and btrfs
have shown:

- files of no bytes: their blocks are allocated long after their names are written;
- the same, but files that were renamed over others are whole: ext4 allocates and writes those with the rename
  (`auto_da_alloc` in ext4(5));
- of the file that was written or renamed last: only zeros, no bytes, or a part of it that ends at a page.

Only the last file is damaged alone: with every file, or every set of them, the states would not be linear in the log.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .crash_states import PAGE, Content, CrashState, Directory, File, may_be_read
from .operations import Act, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class _Disk:
    """A directory, and what was in its files when they were last written to the disk."""

    def __init__(self) -> None:
        self.directory = Directory()
        self._synced: dict[File, Content] = {}
        self._renamed_over: dict[File, Content] = {}

    def apply(self, operation: Operation) -> File | None:
        """Carries an operation out; the file that it wrote or gave a name."""
        if operation.act in (Act.RENAME, Act.LINK):
            return self._name(operation)
        if operation.act is Act.FSYNC:
            self._sync(operation)
        self.directory.apply(operation)
        return self.directory.opened(operation) if operation.act in (Act.WRITE, Act.TRUNCATE) else None

    def sync_all(self) -> None:
        """Makes everything durable."""
        self._synced.update((file, file.content) for file in self.directory.files.values())

    def losses(self, last: File | None) -> Iterator[tuple[str, Mapping[File, Content]]]:
        """What may happen to the files, in words, and what is in those that it happens to; `last` was touched last."""
        files = self.directory.files
        volatile = {file for file in files.values() if file.content is not self._synced.get(file)}
        not_renamed = {file for file in volatile if file.content is not self._renamed_over.get(file)}
        yield "zero length", dict.fromkeys(volatile, Content())
        yield "zero length but for renames over", dict.fromkeys(not_renamed, Content())
        # Only where it can be seen: tearing a file takes as long as it has pieces, and that after each of its writes.
        if last in volatile and any(may_be_read(name) for name, file in files.items() if file is last):
            size = last.content.size
            yield "NULs", {last: Content(size)}
            yield "zero length", {last: Content()}
            if size > PAGE:
                yield "torn", {last: last.content.truncated(max(PAGE, size // 2 // PAGE * PAGE))}

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


def power_states(operations: Iterable[Operation], *, before: int = 0) -> Iterator[CrashState]:
    """Every state that a power loss can leave and a kill cannot, in their order, those that are alike included.

    Args:
        operations: of the log.
        before: how many of them only describe what was there when the run began (`operations.snapshot`): it is durable.
    """
    disk = _Disk()
    for number, operation in enumerate(operations, 1):
        last = disk.apply(operation)
        if number == before:
            disk.sync_all()
        if number <= before:
            continue
        killed = disk.directory.state(number, operation.elements)
        for loss, contents in disk.losses(last):
            state = _lost(killed, disk.directory.files, loss, contents)
            if state.damaged:
                yield state


def _lost(killed: CrashState, names: Mapping[str, File], loss: str, contents: Mapping[File, Content]) -> CrashState:
    files = {name: contents.get(file, file.content) for name, file in names.items()}
    damaged = [name for name, content in files.items() if may_be_read(name) and content != killed.files[name]]
    return replace(killed, files=files, loss=loss, damaged=tuple(sorted(damaged)))


__all__ = ["power_states"]
