"""Child side: what each save costs the training: how long it waits, how many bytes it leaves.

It is measured around the save calls that `steps` wraps, so nothing is added where elements are taken.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from .names import may_be_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .ledger import LedgerWriter

T = TypeVar("T")


class SaveCosts:
    """Writes down what each save costs.

    Args:
        writer: of the life's ledger.
        model_dir: where the training keeps its checkpoints; None: the bytes are not known.
    """

    def __init__(self, writer: LedgerWriter, model_dir: Path | None) -> None:
        self._writer = writer
        self._model_dir = model_dir
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, ...]] = {}
        self._new_bytes()  # what an earlier life left is not this one's

    def timed(self, save: Callable[[], T]) -> T:
        """Makes a save, and writes down its cost, also if it fails."""
        began = time.monotonic()
        try:
            return save()
        finally:
            seconds = time.monotonic() - began
            self._writer.save(began=began, seconds=seconds, size=self._new_bytes())

    def _new_bytes(self) -> int:
        """The sizes of the files that are new, or have changed, since it was last asked."""
        if self._model_dir is None:
            return 0
        with self._lock:
            found = dict(_files(str(self._model_dir)))
            new = sum(seen[0] for path, seen in found.items() if self._known.get(path) != seen)
            self._known = found
        return new


def _files(directory: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """For each file that a restore may read its size, and what changes with its contents."""
    # What another thread deletes meanwhile, because it is old, is no file of this save.
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if not may_be_read(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
                continue
            with contextlib.suppress(FileNotFoundError):
                seen = entry.stat(follow_symlinks=False)
                yield entry.path, (seen.st_size, seen.st_mtime_ns, seen.st_ino)


__all__ = ["SaveCosts"]
