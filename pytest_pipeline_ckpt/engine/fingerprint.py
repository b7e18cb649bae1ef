"""Child side: 64-bit fingerprints of elements. Knows numpy and xxhash, nothing of TensorFlow.

An element is a sequence of components (`Component`), in the order of TensorFlow's flatten. Its fingerprint depends
on the dtype, the shape and the bytes of each: bytes decide, so -0.0 is not 0.0, and NaNs differ by their payload.

*Rows.* Where all components share a leading dimension, row i is the i-th part of each of them. The digest of a row
depends on dtypes, row shapes and bytes, never on how many rows there are, so equal multisets of rows give equal
sums, however they were batched. Small rows are mixed by vectorised numpy, large and ragged ones are hashed one by
one: which of the two depends on dtypes and row shapes alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]

LARGE_ROW_BYTES = 512
"""A row with more bytes than this is hashed by itself; measured: there the two ways cost the same."""
_BLOCK_WORDS = 16_384  # 128 KiB: the temporaries of a block stay in the L2 cache
_MASK = (1 << 64) - 1
# Constants and shifts of splitmix64's finaliser (Steele, Lea, Flood, 2014), and the golden-ratio increment.
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_U_MIX_1, _U_MIX_2, _U_GOLDEN = np.uint64(_MIX_1), np.uint64(_MIX_2), np.uint64(_GOLDEN)
_SHIFT_30, _SHIFT_27, _SHIFT_31 = np.uint64(30), np.uint64(27), np.uint64(31)


class Ragged(NamedTuple):
    """A ragged component: flat values and the row splits of each ragged dimension, outermost first."""

    values: npt.NDArray[Any]
    splits: tuple[npt.NDArray[Any], ...]


class Sparse(NamedTuple):
    """A sparse component; it has no rows."""

    indices: npt.NDArray[Any]
    values: npt.NDArray[Any]
    dense_shape: npt.NDArray[Any]


class Absent(NamedTuple):
    """Stands for a component without content: an empty optional, or something that cannot be fingerprinted."""

    why: str


Component = Union["npt.NDArray[Any]", Ragged, Sparse, Absent]


class Digest(NamedTuple):
    """What a record says of an element; the digests are in [0, 2**64)."""

    value: int
    """Of the whole element: dtypes, shapes, bytes, order of rows."""
    rows_digest: int
    """Sum of the row digests modulo 2**64; `value` where there are no rows."""
    rows: int
    """Number of rows; 1 where the components share no leading dimension."""


def fingerprint(components: Sequence[Component]) -> Digest:
    """The fingerprint of one element; string components are object arrays of bytes."""
    rows = _common_rows(components)
    if rows is None:
        value = _whole(components)
        return Digest(value, value, 1)
    headers = 0
    hashed = False
    rows_of = []
    for component in components:
        header, data, by_hash = _rows(component, rows)
        headers = (headers * _GOLDEN + header) & _MASK
        hashed = hashed or by_hash
        rows_of.append(data)
    digests = _hashed_rows(rows_of, rows, headers) if hashed else _mixed_rows(rows_of, headers)
    value = xxhash.xxh3_64_intdigest(digests.data, seed=headers ^ rows)
    return Digest(value, int(np.add.reduce(digests)), rows)


def beginning(component: Component, size: int) -> bytes:
    """The first `size` bytes of a component's values, for previews; strings are separated by spaces."""
    if isinstance(component, Absent):
        return b""
    values = component if isinstance(component, np.ndarray) else component.values
    if values.dtype.hasobject:
        return b" ".join(map(_as_bytes, values.ravel()[:4].tolist()))[:size]
    if values.ndim == 0:
        return values.tobytes()[:size]
    first = values.ravel() if values.flags.c_contiguous else values.flat
    return np.asarray(first[: -(-size // max(1, values.dtype.itemsize))]).tobytes()[:size]


def _common_rows(components: Sequence[Component]) -> int | None:
    common: int | None = None
    for component in components:
        if isinstance(component, np.ndarray):
            if component.ndim == 0:
                return None
            rows = component.shape[0]
        elif isinstance(component, Ragged):
            rows = len(component.splits[0]) - 1
        else:
            return None
        if common is not None and rows != common:
            return None
        common = rows
    return common


def _whole(components: Sequence[Component]) -> int:
    state = xxhash.xxh3_64()
    for component in components:
        if isinstance(component, Absent):
            state.update(b"absent " + component.why.encode() + b"\0")
            continue
        parts: tuple[Any, ...] = (component,)
        if isinstance(component, Ragged):
            parts = (component.values, *component.splits)
        elif isinstance(component, Sparse):
            parts = tuple(component)
        state.update(bytes((len(parts),)))
        for part in parts:
            array = _digested_strings(part) if part.dtype.hasobject else np.ascontiguousarray(part)
            state.update(_header(part.dtype, part.shape).to_bytes(8, "little"))
            # A 0-d array and most extension dtypes have no buffer that xxhash takes: bytes have.
            state.update(array.reshape(-1).view(np.uint8).data if array.size and array.ndim else array.tobytes())
    return int(state.intdigest())


def _rows(component: Component, rows: int) -> tuple[int, npt.NDArray[Any], bool]:
    """The header of a component's rows, their contents `[rows, size]`, and whether they are to be hashed, not mixed."""
    if isinstance(component, Ragged):
        return _ragged_rows(component, rows)
    assert isinstance(component, np.ndarray)
    header = _header(component.dtype, component.shape[1:])
    if component.dtype.hasobject:
        component = _digested_strings(component)
    size = component.size // rows * component.dtype.itemsize if rows else 0
    if size == 0:
        return header, np.empty((rows, 0), np.uint8), False
    data = np.ascontiguousarray(component).reshape(rows, -1).view(np.uint8)
    return header, data, size > LARGE_ROW_BYTES


def _hashed_rows(rows_of: Sequence[npt.NDArray[Any]], rows: int, headers: int) -> Words:
    """The digest of each row: the hashes of its components, each seeded with the one before."""
    digests = [headers] * rows
    for data in rows_of:
        digests = list(map(xxhash.xxh3_64_intdigest, data, digests))
    return np.array(digests, np.uint64)


def _mixed_rows(rows_of: Sequence[npt.NDArray[np.uint8]], headers: int) -> Words:
    """The digest of each row: the sum of its words, each mixed with its position, mixed once more.

    The last mix is what ties the components of a row together: without it, swapping the labels of two rows would
    not change the sum over the rows.
    """
    columns = [_words(data) for data in rows_of]
    words = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
    rows, width = words.shape
    salt = _salt(width)
    out = np.empty(rows, np.uint64)
    block = max(1, _BLOCK_WORDS // max(1, width))
    for start in range(0, rows, block):
        piece = slice(start, start + block)
        np.add.reduce(_mix(words[piece] + salt), axis=1, out=out[piece])
    out += np.uint64(headers)
    return _mix(out)


def _words(data: npt.NDArray[np.uint8]) -> Words:
    """Rows of bytes as rows of 64-bit words, filled up with zeros."""
    rows, size = data.shape
    if size % 8:
        padded = np.zeros((rows, -(-size // 8) * 8), np.uint8)
        padded[:, :size] = data
        data = padded
    return data.view(np.uint64) if size else np.empty((rows, 0), np.uint64)


def _ragged_rows(component: Ragged, rows: int) -> tuple[int, npt.NDArray[Any], bool]:
    values, splits = component
    header = _header(values.dtype, ("ragged", len(splits), *values.shape[1:]))
    if values.dtype.hasobject:
        values = _digested_strings(values)
    flat = np.ascontiguousarray(values).reshape(-1)
    data = flat.view(np.uint8) if flat.size else np.empty(0, np.uint8)
    size = data.size // max(1, len(values))
    digests = np.empty(rows, np.uint64)
    bounds = [np.asarray(split, np.int64) for split in splits]
    for row in range(rows):
        start, stop = int(bounds[0][row]), int(bounds[0][row + 1])
        digest = stop - start
        for inner in bounds[1:]:
            lengths = np.diff(inner[start : stop + 1])
            digest = xxhash.xxh3_64_intdigest(lengths.data, seed=digest & _MASK)
            start, stop = int(inner[start]), int(inner[stop])
        digests[row] = xxhash.xxh3_64_intdigest(data[start * size : stop * size].data, seed=(digest ^ header) & _MASK)
    return header, digests[:, np.newaxis], True


def _digested_strings(strings: npt.NDArray[Any]) -> Words:
    digests = map(xxhash.xxh3_64_intdigest, map(_as_bytes, strings.ravel().tolist()))
    return np.fromiter(digests, np.uint64, strings.size).reshape(strings.shape)


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _mix(words: Words) -> Words:
    """splitmix64's finaliser, in place: a bijection of each word, so no two values of one word collide."""
    shifted = words >> _SHIFT_30
    words ^= shifted
    words *= _U_MIX_1
    np.right_shift(words, _SHIFT_27, out=shifted)
    words ^= shifted
    words *= _U_MIX_2
    np.right_shift(words, _SHIFT_31, out=shifted)
    words ^= shifted
    return words


@lru_cache(maxsize=1024)
def _salt(width: int) -> Words:
    salt = np.arange(1, width + 1, dtype=np.uint64) * _U_GOLDEN
    return _mix(salt)


@lru_cache(maxsize=4096)
def _header(dtype: np.dtype[Any], shape: tuple[Any, ...]) -> int:
    # `str` alone is `<V2` for bfloat16, `name` alone says nothing of the byte order.
    return int(xxhash.xxh3_64_intdigest(f"{dtype.str} {dtype.name} {shape}".encode()))


__all__ = ["Absent", "Component", "Digest", "Ragged", "Sparse", "beginning", "fingerprint"]
