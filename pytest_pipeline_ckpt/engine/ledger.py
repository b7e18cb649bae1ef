"""The ledger: one append-only file of fixed-size records for each life.

A record is written with one `os.write`, so what was written survives SIGKILL, and the file can be read while it
grows; a last record that is torn (the disk was full) is dropped by the reader. Five files in a life's directory:

- `ledger.bin`: records of dtype `RECORD`, nothing else;
- `streams.jsonl`: one JSON object for each stream, written before its first record;
- `previews.bin`: `PREVIEW_BYTES` for each of the first `PREVIEW_LIMIT` elements, a summary that tells elements apart:
  small ones as they are, of larger ones shape and mean. `previews` describes the rule, and packs and reads them.
- `saves.bin`: what each save cost, records of dtype `SAVE`;
- `evidence.jsonl`: where the model is, see `evidence`.

The writer runs in training processes and knows nothing of TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from . import evidence, previews
from .model import Flag, Kind, Ledger, Stream
from .previews import PREVIEW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("stream", "<u2"),
        ("iterator", "<u4"),  # ordinal of the iterator within its stream, from 0
        ("value", "<u8"),
        ("rows_digest", "<u8"),  # sum of the row digests modulo 2**64: equal for equal multisets of rows
        ("rows", "<u4"),  # of an END: `idle`
        ("ms", "<u4"),  # milliseconds since the life began
    ]
)
SAVE = np.dtype([("ms", "<u4"), ("us", "<u8"), ("bytes", "<u8")])
"""A save: when it began (milliseconds since the life did), how long it took, and how many bytes it left."""
PREVIEW_LIMIT = 100_000
_COLLECTED = 64
LEDGER, STREAMS, PREVIEWS, OPAQUE = "ledger.bin", "streams.jsonl", "previews.bin", "opaque.txt"
SAVES = "saves.bin"
_PACK = struct.Struct("<BBHIQQII").pack
_PACK_SAVE = struct.Struct("<IQQ").pack
_UINT64 = (1 << 64) - 1


class LedgerWriter:
    """Appends records, each by one `os.write`; safe to call from any thread, and without effect in forked processes.

    Previews are collected: a life that is killed where it was not held lacks those of its last elements.
    """

    def __init__(self, directory: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.directory = directory
        self._records = os.open(directory / LEDGER, flags, 0o644)
        self._streams = os.open(directory / STREAMS, flags, 0o644)
        self._previews = os.open(directory / PREVIEWS, flags, 0o644)
        self._saves = os.open(directory / SAVES, flags, 0o644)
        self._previews_left = PREVIEW_LIMIT
        self._collected: list[bytes] = []
        self._lock = threading.RLock()  # a signal handler may interrupt either
        self._in_child = False
        os.register_at_fork(after_in_child=self._forked)
        self._start = time.monotonic()
        self.records = 0
        """How many it has written."""

    def _forked(self) -> None:
        """What was collected is the parent's to write, and whoever held the lock there is not here."""
        self._in_child = True
        self._collected.clear()
        self._lock = threading.RLock()

    def stream(self, stream: Stream) -> None:
        """Announces a stream; must come before its first record."""
        os.write(self._streams, json.dumps(dataclasses.asdict(stream)).encode() + b"\n")

    def opaque(self, component: str) -> None:
        """Names the component of an element that cannot be fingerprinted."""
        (self.directory / OPAQUE).write_text(component)

    def element(
        self, stream: int, iterator: int, value: int, *, rows_digest: int, rows: int, preview: bytes, flags: int = 0
    ) -> None:
        """Appends an element; `preview` is what `previews.pack` makes of it."""
        if self._previews_left > 0:
            self._previews_left -= 1
            with self._lock:
                self._collected.append(preview.ljust(PREVIEW_BYTES, b"\0"))
            if len(self._collected) >= _COLLECTED:
                self.flush()
        self._append(Kind.ELEMENT, flags, stream, iterator, value, rows_digest, rows)

    def event(self, kind: Kind, value: int = 0, *, stream: int = 0, iterator: int = 0, idle: int = 0) -> None:
        """Appends any other record.

        Args:
            kind: not ELEMENT.
            value: a step; may be negative (`UNKNOWN_STEP`).
            stream: of a STEP or END.
            iterator: of a STEP or END.
            idle: of an END: steps that the model counted while it found no element; `value` is its step after them.
        """
        if kind is not Kind.STEP:
            self.flush()
        self._append(kind, 0, stream, iterator, value & _UINT64, 0, idle)

    def event_as_of_now(self, kind: Kind, read: Callable[[], int]) -> None:
        """Appends a record whose value is what `read` returns, and no other record between the two.

        A thread that saves beside the training would else write a step after those that followed it, and the model
        would seem to have gone back.
        """
        with self._lock:
            self.event(kind, read())

    def together(self) -> AbstractContextManager[Any]:
        """Within it, no other thread appends a record."""
        return self._lock

    def save(self, *, began: float, seconds: float, size: int) -> None:
        """Appends what a save cost; `began` is of `time.monotonic()`."""
        if self._in_child:
            return
        ms = max(0, int((began - self._start) * 1000)) & 0xFFFFFFFF
        os.write(self._saves, _PACK_SAVE(ms, int(seconds * 1e6), size))

    def flush(self) -> None:
        """Writes the previews that were collected."""
        with self._lock:
            if self._collected:
                os.write(self._previews, b"".join(self._collected))
                self._collected.clear()

    def _append(self, kind: int, flags: int, stream: int, iterator: int, value: int, digest: int, rows: int) -> None:
        if self._in_child:
            return
        with self._lock:
            ms = int((time.monotonic() - self._start) * 1000) & 0xFFFFFFFF
            os.write(self._records, _PACK(kind, flags, stream, iterator, value, digest, rows, ms))
            self.records += 1


def read(directory: Path) -> Ledger:
    """Reads a life's ledger, finished or still growing; a life that never wrote gives an empty one.

    A torn last record or a torn last line of `streams.jsonl` is dropped.
    """
    opaque = directory / OPAQUE
    return Ledger(
        records=_read_array(directory / LEDGER, RECORD),
        streams=_read_streams(directory / STREAMS),
        previews=_read_array(directory / PREVIEWS, np.dtype((np.void, PREVIEW_BYTES))),
        opaque=opaque.read_text() if opaque.exists() else None,
        saves=_read_array(directory / SAVES, SAVE),
        evidence=evidence.read(directory),
    )


def _read_array(path: Path, dtype: np.dtype[Any]) -> Any:
    size = path.stat().st_size if path.exists() else 0
    if size < dtype.itemsize:
        return np.empty(0, dtype)
    return np.fromfile(path, dtype, count=size // dtype.itemsize)


def _read_streams(path: Path) -> tuple[Stream, ...]:
    if not path.exists():
        return ()
    lines = path.read_bytes().split(b"\n")[:-1]
    return tuple(Stream(**{**row, "components": tuple(row["components"])}) for row in map(json.loads, lines))


def preview(ledger: Ledger, element: int) -> str | None:
    """The `element`-th ELEMENT record of the ledger in a few characters: `{'image': uint8[8,8] mean 4.9, 'label': 3}`.

    None when no preview was kept (only the first `PREVIEW_LIMIT` have one).
    """
    if ledger.previews is None or element >= len(ledger.previews):
        return None
    elements = np.flatnonzero(ledger.records["kind"] == Kind.ELEMENT)
    if element >= len(elements):
        return None
    record = ledger.records[elements[element]]
    components = ledger.streams[int(record["stream"])].components
    return previews.text(ledger.previews[element].tobytes(), components)


__all__ = [
    "PREVIEW_BYTES",
    "PREVIEW_LIMIT",
    "RECORD",
    "SAVE",
    "Flag",
    "LedgerWriter",
    "preview",
    "read",
]
