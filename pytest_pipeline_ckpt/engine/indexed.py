"""One life's ledger, indexed once: where its elements are, who took them, what was seen of the model's step.

Positions are record indexes; "taken" counts are numbers of elements before a record. Everything is a view or
one pass over the records in pieces of `CHUNK`, because a ledger may hold ten million of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .model import Flag, Kind, Life

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .evidence import Evidence

IntArray = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32]
"""Of indexes into the records or the elements: half the memory of int64, and a ledger is far below 2**31 records. What
is looked up in one by `np.searchsorted` must be one too, or NumPy copies the whole array first."""
UintArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

CHUNK = 1 << 20
STEPPED = (Kind.STEP, Kind.SAVED, Kind.RESTORED, Kind.DONE)
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Events:
    """The records that are not elements, in their order."""

    at: Positions
    kind: npt.NDArray[np.uint8]
    step: IntArray
    """The model's step; negative where it is not known, or where the kind has none."""
    owner: IntArray
    """For STEP and END the row of the iterator in `Iterators`, if it yielded any element; else -1."""
    progress: IntArray
    """Steps that the model was seen to make in this life up to here; what a restore changes does not count."""


@dataclass(frozen=True, slots=True)
class Iterators:
    """The iterators that elements were taken from, one row each."""

    first: Positions
    last: Positions
    count: IntArray
    ordinal: IntArray
    stream: IntArray
    key: IntArray
    """Index into `Indexed.keys`."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A life with its index."""

    life: Life
    elements: Positions
    """Record index of every element."""
    run_start: Positions
    """Elements that one iterator yielded without another between them are a run; this is the first of each, as an index
    into `elements`."""
    run_owner: Positions
    iterators: Iterators
    events: Events
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    """For each key the innermost user frame, for messages."""
    _found: dict[bytes, Positions] = field(default_factory=dict, repr=False, compare=False)
    """What `elements_of` has found; the tracks hold the same arrays."""

    @property
    def evidence(self) -> Evidence:
        """What it showed of where its model is."""
        return self.life.ledger.evidence

    def taken_before(self, record: int) -> int:
        """How many elements it had taken when its ledger had so many records."""
        return int(np.searchsorted(self.elements, record))

    def elements_of(self, rows: IntArray) -> Positions:
        """The record indexes of the elements of some iterators, ascending; no copy when those are all."""
        if len(rows) == len(self.iterators.first):
            return self.elements
        name = rows.tobytes() if len(rows) <= _REMEMBERED else None
        if name is not None and name in self._found:
            return self._found[name]
        wanted = np.zeros(len(self.iterators.first), np.bool_)
        wanted[rows] = True
        mine = wanted[self.run_owner]
        if len(mine) < len(self.elements):
            lengths = np.diff(self.run_start, append=self.run_start.dtype.type(len(self.elements)))
            mine = np.repeat(mine, lengths)
        found: Positions = self.elements[mine]
        if name is not None:
            self._found[name] = found
        return found

    def rows_of(self, key: int) -> IntArray:
        """The iterators of one key, in the order in which they were made."""
        rows = np.flatnonzero(self.iterators.key == key)
        return rows[np.argsort(self.iterators.ordinal[rows], kind="stable")]

    def values(self, at: Positions, field: str = "value") -> npt.NDArray[np.generic]:
        """One field of the records at `at` (a copy)."""
        return np.asarray(np.asarray(self.life.ledger.records)[field][at])

    def opaque(self, at: Positions) -> bool:
        """Whether any of these elements could not be fingerprinted."""
        flags = np.asarray(self.life.ledger.records)["flags"]
        return any(bool((flags[at[a:b]] & Flag.OPAQUE).any()) for a, b in chunks(len(at)))

    def end_step(self) -> int | None:
        """The step that the life reported at its natural end, if it did and knew it."""
        done = np.flatnonzero((self.events.kind == Kind.DONE) & (self.events.step >= 0))
        return int(self.events.step[done[-1]]) if len(done) else None


def chunks(size: int) -> Iterator[tuple[int, int]]:
    """The bounds of the pieces in which `size` items are handled."""
    return ((begin, min(size, begin + CHUNK)) for begin in range(0, size, CHUNK))


def index(life: Life) -> Indexed:
    """Indexes a life's ledger."""
    records = np.ascontiguousarray(life.ledger.records)
    heads = (
        records.view(np.uint64).reshape(-1, records.dtype.itemsize // 8)[:, 0] if len(records) else np.empty(0, "u8")
    )
    kinds = records["kind"]
    elements = _where(kinds, Kind.ELEMENT)
    run_start, run_id = _runs(heads, elements)
    identities = np.unique(run_id)
    owner = np.searchsorted(identities, run_id).astype(np.int32)
    del run_id
    labels = {stream.index: (stream.key, stream.label) for stream in life.ledger.streams}
    streams = (identities & np.uint64(0xFFFF)).astype(np.int64)
    named = {int(s): labels.get(int(s), (f"stream {s}", f"stream {s}")) for s in np.unique(streams)}
    keys = tuple(dict.fromkeys(key for key, _ in named.values()))
    code = np.zeros(0x10000, np.int64)
    for stream, (key, _) in named.items():
        code[stream] = keys.index(key)
    by_key = dict(reversed(list(named.values())))
    return Indexed(
        life=life,
        elements=elements,
        run_start=run_start,
        run_owner=owner,
        iterators=_iterators(elements, run_start, owner, identities, streams, code[streams]),
        events=_events(records, heads, identities),
        keys=keys,
        labels=tuple(by_key[key] for key in keys),
    )


def _where(kinds: npt.NDArray[np.uint8], kind: Kind) -> Positions:
    found = [(np.flatnonzero(kinds[a:b] == kind) + a).astype(np.int32) for a, b in chunks(len(kinds))]
    return np.concatenate(found) if found else np.empty(0, np.int32)


def _runs(heads: UintArray, elements: Positions) -> tuple[Positions, UintArray]:
    """Where the iterator changes, and the identity (`iterator << 16 | stream`) of each run."""
    starts, found = [np.empty(0, np.int32)], [np.empty(0, np.uint64)]
    previous: np.uint64 | None = None
    for a, b in chunks(len(elements)):
        ids = heads[elements[a:b]] >> np.uint64(16)
        new = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        if previous is None or ids[0] != previous:
            new = np.concatenate(([0], new))
        starts.append((new + a).astype(np.int32))
        found.append(ids[new])
        previous = ids[-1]
    return np.concatenate(starts), np.concatenate(found)


def _iterators(
    elements: Positions,
    run_start: Positions,
    owner: Positions,
    identities: UintArray,
    streams: IntArray,
    key: IntArray,
) -> Iterators:
    size = len(identities)
    first, last = np.zeros(size, np.int32), np.zeros(size, np.int32)
    count = np.zeros(size, np.int64)
    run_end = np.append(run_start[1:], np.int32(len(elements)))[: len(run_start)]
    # Of an index that occurs twice the last assignment stays (NumPy user guide, "Assigning values to indexed
    # arrays"), so the pieces go forward for the last element and backward for the first.
    for a, b in chunks(len(owner)):
        last[owner[a:b]] = elements[run_end[a:b] - 1]
        count += np.bincount(owner[a:b], run_end[a:b] - run_start[a:b], minlength=size).astype(np.int64)
    for a, b in reversed(list(chunks(len(owner)))):
        first[owner[a:b][::-1]] = elements[run_start[a:b][::-1]]
    return Iterators(first, last, count, (identities >> np.uint64(16)).astype(np.int64), streams, key)


def _events(records: npt.NDArray[np.void], heads: UintArray, identities: UintArray) -> Events:
    at = np.flatnonzero(records["kind"] != Kind.ELEMENT).astype(np.int32)
    kind = records["kind"][at]
    step = records["value"][at].view(np.int64)
    step[~np.isin(kind, STEPPED) | (step < 0)] = -1
    owner = np.full(len(at), -1, np.int64)
    if len(identities):
        ids = heads[at] >> np.uint64(16)
        row = np.minimum(np.searchsorted(identities, ids), len(identities) - 1)
        mine = np.isin(kind, (Kind.STEP, Kind.END)) & (identities[row] == ids)
        owner[mine] = row[mine]
    return Events(at, kind, step, owner, _progress(kind, step))


def _progress(kind: npt.NDArray[np.uint8], step: IntArray) -> IntArray:
    gain = np.zeros(len(kind), np.int64)
    known = np.flatnonzero(step >= 0)
    restores = np.cumsum(kind == Kind.RESTORED)[known]
    if len(known) > 1:
        gained = np.maximum(np.diff(step[known]), 0)
        gained[restores[1:] != restores[:-1]] = 0
        gain[known[1:]] = gained
    total: IntArray = np.cumsum(gain)
    return total
