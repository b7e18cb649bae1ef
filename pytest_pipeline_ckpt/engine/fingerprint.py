"""Child side: 64-bit fingerprints of elements. Knows numpy and xxhash, nothing of TensorFlow.

An element is a sequence of components (`Component`), in the order of TensorFlow's flatten. Its fingerprint depends
on the dtype, the shape and the bytes of each: bytes decide, so -0.0 is not 0.0, and NaNs differ by their payload.

*Rows.* Where all components share a leading dimension, row i is the i-th part of each of them. The digest of a row
depends on dtypes, row shapes and bytes, never on how many rows there are, so equal multisets of rows give equal
sums, however they were batched. Small rows are mixed by vectorised numpy, large and ragged ones are hashed one by
one: which of the two depends on dtypes and row shapes alone.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import xxhash
from xxhash import xxh3_64_intdigest as _hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]

SMALL_ROW_BYTES = 128
"""Rows whose components have no more bytes than this are mixed; measured: there the two ways cost the same."""
LARGE_ROW_BYTES = 8192
"""Rows of more bytes than this are hashed where they are; smaller ones are copied, which is faster (measured)."""
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
_Signature = Union[tuple["np.dtype[Any]", tuple[Any, ...]], None]  # noqa: UP007 - the names are strings
_RAGGED = "ragged"


class Digest(NamedTuple):
    """What a record says of an element; the digests are in [0, 2**64)."""

    value: int
    """Of the whole element: dtypes, shapes, bytes, order of rows."""
    rows_digest: int
    """Sum of the row digests modulo 2**64; `value` where there are no rows."""
    rows: int
    """Number of rows; 1 where the components share no leading dimension."""


class _Plan(NamedTuple):
    """How elements of certain dtypes and shapes are digested."""

    rows: int
    headers: int
    """A hash of all dtypes and row shapes."""
    splits: tuple[Callable[[Any], Iterable[Any]] | None, ...]
    """For each component what takes its rows apart; None for one without bytes."""
    mixed: bool
    """Whether the rows are mixed, not hashed."""


def fingerprint(components: Sequence[Component]) -> Digest:
    """The fingerprint of one element; string components are object arrays of bytes."""
    plan = _plan(tuple([_signature(component) for component in components]))
    if plan is None:
        value = _whole(components)
        return Digest(value, value, 1)
    rows, headers, splits, mixed = plan
    if mixed:
        words = _mixed_rows([_data(part) for part, split in zip(components, splits, strict=True) if split], plan)
        return Digest(_hash(words.data, headers ^ rows), int(np.add.reduce(words)), rows)
    # The hashes of a row's components, each seeded with the one before. Nothing but C runs for a row: this is most of
    # what the tap costs.
    digests: Iterable[int] = repeat(headers)
    for component, split in zip(components, splits, strict=True):
        if split is not None:
            digests = map(_hash, split(_data(component)), digests)
    digests = list(digests)
    return Digest(_hash(struct.pack(f"<{rows}Q", *digests), headers ^ rows), sum(digests) & _MASK, rows)


def _signature(component: Component) -> _Signature:
    """Dtype and shape, for a ragged component with the shape of its rows; None for one without rows."""
    if isinstance(component, np.ndarray):
        return component.dtype, component.shape
    if isinstance(component, Ragged):
        values, splits = component
        return values.dtype, (len(splits[0]) - 1, _RAGGED, len(splits), *values.shape[1:])
    return None


@lru_cache(maxsize=4096)
def _plan(signatures: tuple[_Signature, ...]) -> _Plan | None:
    """How elements of these dtypes and shapes are digested; None: as a whole, they have no rows in common."""
    common = {None if signature is None or not signature[1] else signature[1][0] for signature in signatures}
    rows = common.pop() if len(common) == 1 else None
    if rows is None:
        return None
    headers, mixed, splits = 0, True, []
    for dtype, (_, *shape) in filter(None, signatures):
        headers = (headers * _GOLDEN + _header(dtype, tuple(shape))) & _MASK
        ragged = shape[:1] == [_RAGGED]
        size = 8 if ragged else math.prod(shape) * (8 if dtype.hasobject else dtype.itemsize)
        # Ragged rows are always hashed, whatever their lengths: those differ from batch to batch.
        mixed = mixed and size <= SMALL_ROW_BYTES and not ragged
        splits.append(_splitter(rows, size) if rows and size else None)
    return _Plan(rows, headers, tuple(splits), mixed or not any(splits))


def _splitter(rows: int, size: int) -> Callable[[Any], Iterable[Any]]:
    """What gives the rows of a contiguous array; small ones as bytes, which hash faster, large ones without a copy."""
    if size > LARGE_ROW_BYTES:
        return lambda data: data.reshape(rows, -1)
    return struct.Struct(f"{size}s" * rows).unpack


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


def _data(component: Component) -> npt.NDArray[Any]:
    """The contents of a component that has rows: contiguous, of a dtype that has a buffer, each row of one size."""
    if isinstance(component, Ragged):
        return _ragged_rows(component)
    assert isinstance(component, np.ndarray)
    dtype = component.dtype
    if dtype.hasobject:
        return _digested_strings(component)
    if not component.flags.c_contiguous:
        component = np.ascontiguousarray(component)
    return component if dtype.isbuiltin else component.reshape(len(component), -1).view(np.uint8)


def _mixed_rows(data: Sequence[npt.NDArray[Any]], plan: _Plan) -> Words:
    """The digest of each row: the sum of its words, each mixed with its position, mixed once more.

    The last mix is what ties the components of a row together: without it, swapping the labels of two rows would
    not change the sum over the rows.
    """
    rows = plan.rows
    columns = [_words(part.reshape(rows, -1).view(np.uint8)) for part in data] or [np.empty((rows, 0), np.uint64)]
    words = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
    width = words.shape[1]
    salt = _salt(width)
    out = np.empty(rows, np.uint64)
    block = max(1, _BLOCK_WORDS // max(1, width))
    for start in range(0, rows, block):
        piece = slice(start, start + block)
        np.add.reduce(_mix(words[piece] + salt), axis=1, out=out[piece])
    out += np.uint64(plan.headers)
    return _mix(out)


def _words(data: npt.NDArray[np.uint8]) -> Words:
    """Rows of bytes as rows of 64-bit words, filled up with zeros."""
    rows, size = data.shape
    if size % 8:
        padded = np.zeros((rows, -(-size // 8) * 8), np.uint8)
        padded[:, :size] = data
        data = padded
    return data.view(np.uint64)


def _ragged_rows(component: Ragged) -> Words:
    """A digest of each row's lengths and values."""
    values, splits = component
    header = _header(values.dtype, (_RAGGED, len(splits), *values.shape[1:]))
    if values.dtype.hasobject:
        values = _digested_strings(values)
    flat = np.ascontiguousarray(values).reshape(-1)
    data = flat.view(np.uint8) if flat.size else np.empty(0, np.uint8)
    size = data.size // max(1, len(values))
    bounds = [np.asarray(split, np.int64) for split in splits]
    rows = len(bounds[0]) - 1
    digests = np.empty(rows, np.uint64)
    for row in range(rows):
        start, stop = int(bounds[0][row]), int(bounds[0][row + 1])
        digest = stop - start
        for inner in bounds[1:]:
            lengths = np.diff(inner[start : stop + 1])
            digest = _hash(lengths.data, seed=digest & _MASK)
            start, stop = int(inner[start]), int(inner[stop])
        digests[row] = _hash(data[start * size : stop * size].data, seed=(digest ^ header) & _MASK)
    return digests


def _digested_strings(strings: npt.NDArray[Any]) -> Words:
    digests = map(_hash, map(_as_bytes, strings.ravel().tolist()))
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
    return int(_hash(f"{dtype.str} {dtype.name} {shape}".encode()))


__all__ = ["Absent", "Component", "Digest", "Ragged", "Sparse", "fingerprint"]
