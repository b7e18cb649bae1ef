"""What a recorded directory should be like after each operation: kinds and sizes, compared with what is really there.

An operation is written down before it happens. What the kernel refuses for reasons that the model knows (there is such
a name already) changes neither; what it refuses, or does in part, for any other reason (no space, no permission) is
found before the next operation.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .crash_states import Content, Directory, File
from .operations import Act

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .operations import Operation


class Shadow:
    """The model of a directory without contents.

    Args:
        root: the directory.
        before: operations that describe what is in it.
    """

    def __init__(self, root: str, before: Iterable[Operation]) -> None:
        self._root = root
        self._model = Directory()
        for operation in before:
            self.apply(operation)

    def apply(self, operation: Operation) -> None:
        """Carries an operation out."""
        if operation.act is not Act.WRITE:
            self._model.apply(operation)
            return
        file, size = self._model.opened(operation), 0 if operation.blob is None else operation.blob.size
        if file is not None and size:
            file.content = Content(max(file.content.size, operation.offset + size))

    def name_of(self, inode: int) -> str | None:
        """A name by which a file is there, whose name by which it was opened is gone."""
        return next((name for name in self._model.files if self._status(name, inode)), None)

    def as_asked(self, operation: Operation) -> bool:
        """Whether what an operation concerns is there as it should be; nothing else may concern it meanwhile."""
        names = [operation.path, operation.target if operation.act in (Act.RENAME, Act.LINK) else ""]
        return operation.act is Act.FSYNC or all(self._is_alike(name) for name in names if name)

    def _is_alike(self, name: str) -> bool:
        expected, found = self._model.at(name), self._status(name)
        if expected is None:
            return found is None
        if found is None:
            return False
        if isinstance(expected, File):
            return stat.S_ISREG(found.st_mode) and found.st_size == expected.content.size
        return stat.S_ISDIR(found.st_mode) if expected == "directory" else stat.S_ISLNK(found.st_mode)

    def _status(self, name: str, inode: int = 0) -> os.stat_result | None:
        try:
            found = os.lstat(os.path.join(self._root, name))
        except OSError:
            return None
        return found if found.st_ino == inode or not inode else None


__all__ = ["Shadow"]
