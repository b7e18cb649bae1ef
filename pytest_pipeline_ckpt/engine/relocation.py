"""Moves a recorded directory: TensorFlow's checkpoint state files may hold its absolute path.

A graph-mode `Saver` writes absolute paths (`save_relative_paths=False`), so a rebuilt directory works at its own place
only, and one life at a time. Where its path is in nothing but such state files, which are text, it can be moved.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, BinaryIO

from .names import LOGS
from .operations import CONTENTS, Act

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .operations import Blob, Operation

_STATE_FILE = b"model_checkpoint_path: "
"""How the text form of TensorFlow's `CheckpointState` begins."""
_AT_ONCE = 1 << 20  # bytes; mapped as a whole, a log would be resident as a whole


def movable(log: Path, operations: Sequence[Operation], root: Path) -> bool:
    """Whether the path of the recorded directory is in nothing that a restore reads but checkpoint state files.

    Its last name is looked for, because a relative path leads to it too; state files must have it in absolute paths.
    """
    if any(operation.act is Act.SYMLINK and root.name in operation.target for operation in operations):
        return False
    path, name = os.fsencode(root), os.fsencode(root.name)
    blobs = [op.blob for op in operations if op.blob is not None and op.blob.size]
    unread = {op.blob.start for op in operations if op.blob is not None and re.search(LOGS, op.path)}
    starts = [blob.start for blob in blobs]
    with (log / CONTENTS).open("rb") as contents:
        naming = {bisect_right(starts, at) - 1 for at in _occurrences(contents, name)}
        texts = (_read(contents, blobs[number]) for number in naming if starts[number] not in unread)
        return all(text.startswith(_STATE_FILE) and text.count(path) == text.count(name) for text in texts)


def _occurrences(contents: BinaryIO, path: bytes) -> list[int]:
    """Where a path begins in a large file, which is read in pieces that overlap."""
    found: list[int] = []
    begin, kept = 0, b""
    while piece := contents.read(_AT_ONCE):
        text = kept + piece
        found += [begin + match.start() for match in re.finditer(re.escape(path), text)]
        kept = text[1 - len(path) :]
        begin += len(text) - len(kept)
    return found


def _read(contents: BinaryIO, blob: Blob) -> bytes:
    """Of a blob at most so much as state files have."""
    contents.seek(blob.start)
    return contents.read(min(blob.size, _AT_ONCE))


def move(directory: Path, from_: Path) -> None:
    """Makes the state files in `directory`, which was rebuilt from what was at `from_`, name its own place."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(_STATE_FILE)) != _STATE_FILE:
                    continue
            status = path.stat()
            path.write_bytes(path.read_bytes().replace(os.fsencode(from_), os.fsencode(directory)))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


__all__ = ["movable", "move"]
