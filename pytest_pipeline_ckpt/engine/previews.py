"""What a message shows of an element: a summary of fixed size, made in the training process and read by pytest.

`{'image': uint8[8,8] mean 4.9, 'label': 3}`. The rule for each component:

- numbers, at most `MOST_VALUES` of them: all of them, behind dtype and shape; a scalar alone;
- more numbers: the element's own shape, and the mean. Of more than `MOST_AVERAGED` values it is the mean of a sample,
  spread evenly, and written `mean ~4.9`: so it costs a few microseconds, whatever the size;
- strings: the first `MOST_VALUES`; of one that is too long the beginning and the end, which is what differs in paths;
- ragged and sparse components: their shape, the number of values, and the values or their mean;
- what has no content says so: `no value` for an empty optional, `opaque` for a nested dataset.

Packed, each component is a length byte and a piece: its kind, its shape, its content. Components that do not fit into
`PREVIEW_BYTES` are not shown. Two elements may look the same; the fingerprint tells them apart (`wording`).
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .fingerprint import Absent, Ragged, Sparse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from .fingerprint import Component

PREVIEW_BYTES = 128
MOST_VALUES = 4
"""Components of no more values than this are shown as they are."""
MOST_AVERAGED = 4096
"""Components of no more values than this are averaged as a whole."""
MOST_CHARACTERS = 64
"""Of a string."""
_MOST_SUMMED = 32
"""So many integers are summed faster by Python than by numpy, with what that costs before it begins (measured)."""
_VALUES, _MEAN, _SAMPLED, _STRINGS, _SHAPE, _RAGGED, _SPARSE, _ABSENT = range(1, 9)
_LENGTHS = tuple(bytes((length,)) for length in range(256))
_ONES = np.ones(MOST_AVERAGED, np.float32)
_DOUBLE = struct.Struct("<d").pack
_CUT = 0x80
"""Added to the length byte of a string of which the middle is left out."""


class _Summary(NamedTuple):
    """How components of one dtype and shape are packed."""

    kind: int
    head: bytes
    """Kind, shape, and for numbers the dtype of those that follow."""
    follows: np.dtype[Any] | None
    """The dtype to which they must be converted; None: there is a shorter way."""
    step: int
    """Every so many values one counts for the mean; no row or channel is left out of the sample."""
    counted: int


def pack(components: Sequence[Component]) -> bytes:
    """The preview of an element, `PREVIEW_BYTES` at most."""
    share = max(16, PREVIEW_BYTES // max(1, len(components)) - 1)
    pieces = [_piece(component, share) for component in components]
    return b"".join([_LENGTHS[len(piece)] + piece for piece in pieces])[:PREVIEW_BYTES]


def _piece(component: Component, share: int) -> bytes:
    # This runs for each element that a training takes, so every call counts (`benchmarks/tap.py`).
    if not isinstance(component, np.ndarray):
        return _composite(component, share)
    kind, head, follows, step, counted = _summary(component.dtype, component.shape)
    if kind == _VALUES:
        return head + (component if follows is None else _converted(component, follows)).tobytes()
    if kind == _SHAPE:
        return head
    if kind == _STRINGS:
        return head + _packed_strings(component, share - len(head))
    values = component.reshape(-1)
    if step > 1:
        values = values[::step]
    if follows is None:
        if component.dtype.kind != "f":
            return head + _DOUBLE(sum(values.tolist()) / counted)
        # `vdot` is the one reduction that neither warns of infinities nor raises where the training has numpy do so.
        total = float(np.vdot(_ONES[:counted], values))
        if math.isfinite(total):
            return head + _DOUBLE(total / counted)
        follows = np.dtype(np.float64)
    values = _converted(values, follows)
    return head + (np.vdot(np.ones(counted, follows), values) / counted).tobytes()


def _converted(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):  # signalling NaNs
        return array.astype(dtype, copy=False)


def _composite(component: Ragged | Sparse | Absent, share: int) -> bytes:
    if isinstance(component, Absent):
        return bytes((_ABSENT,)) + component.why.encode()
    if isinstance(component, Sparse):
        head = bytes((_SPARSE,)) + _packed_shape(tuple(component.dense_shape.tolist()))
    else:
        rows = len(component.splits[0]) - 1
        head = bytes((_RAGGED,)) + _packed_shape((rows, *[-1] * len(component.splits), *component.values.shape[1:]))
    return head + _piece(component.values, share - len(head))


@lru_cache(maxsize=4096)
def _summary(dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Summary:
    size = math.prod(shape)
    step = -(-size // MOST_AVERAGED) or 1
    while step > 1 and math.gcd(step, size) != 1:
        step += 1
    counted = -(-size // step)
    head = _packed_shape(shape)
    if dtype.hasobject:
        return _Summary(_STRINGS, bytes((_STRINGS,)) + head, None, step, counted)
    if dtype.kind not in "biufc" and dtype.isbuiltin != 2:  # 2: bfloat16 and other numbers that numpy lacks
        return _Summary(_SHAPE, bytes((_SHAPE,)) + head, None, step, counted)
    follows: np.dtype[Any] | None
    if size <= MOST_VALUES:
        kind, follows = _VALUES, None if dtype.isbuiltin == 1 else np.dtype(np.float32)
        code = (follows or dtype).char
    else:
        kind, code = _MEAN if step == 1 else _SAMPLED, "D" if dtype.kind == "c" else "d"
        fast = dtype == np.float32 or (dtype.kind in "biu" and counted <= _MOST_SUMMED)
        follows = None if fast else np.dtype(code)
    return _Summary(kind, bytes((kind,)) + head + code.encode(), follows, step, counted)


def _packed_shape(shape: tuple[int, ...]) -> bytes:
    """The rank, then each dimension plus 1 in groups of 7 bits, the last one marked; 0 is a ragged dimension."""
    out = bytearray((len(shape),))
    for dimension in shape:
        rest = dimension + 1
        while rest >= 128:
            out.append(rest & 127)
            rest >>= 7
        out.append(rest | 128)
    return bytes(out)


def _packed_strings(strings: npt.NDArray[Any], room: int) -> bytes:
    first = strings.reshape(-1)[:MOST_VALUES].tolist()
    most = min(MOST_CHARACTERS, max(2, room // max(1, len(first)) - 1))
    return b"".join(_packed_string(_as_bytes(value), most) for value in first)


def _packed_string(value: bytes, most: int) -> bytes:
    if len(value) <= most:
        return _LENGTHS[len(value)] + value
    half = most // 2
    return _LENGTHS[_CUT | 2 * half] + value[:half] + value[-half:]


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def text(raw: bytes, components: Sequence[Mapping[str, Any]]) -> str:
    """A preview in words.

    Args:
        raw: what `pack` made, filled up with zeros.
        components: name and dtype of each component, as in `Stream.components`.
    """
    texts = []
    for component in components:
        size = raw[0] if raw else 0
        piece, raw = raw[1 : size + 1], raw[size + 1 :]
        if not size or len(piece) < size:
            texts.append("…")
            break
        shown = _Reader(piece).component(component["dtype"])
        texts.append(f"{component['name']!r}: {shown}" if component["name"] else shown)
    return texts[0] if len(components) == 1 and not components[0]["name"] else "{" + ", ".join(texts) + "}"


class _Reader:
    """Reads one piece from its beginning to its end."""

    def __init__(self, piece: bytes) -> None:
        self._rest = piece

    def component(self, dtype: str) -> str:
        """The component in words; `dtype` is its name in TensorFlow."""
        kind = self._byte()
        if kind == _ABSENT:
            return self._rest.decode()
        shape = self._shape()
        size = f"[{','.join('?' if dimension < 0 else str(dimension) for dimension in shape)}]"
        if kind in (_RAGGED, _SPARSE):
            word = "ragged" if kind == _RAGGED else "sparse"
            inner = self._byte()
            flat = self._shape()
            return f"{word} {dtype}{size} {_number_of_values(math.prod(flat))}{self._content(inner, flat, ': ', ', ')}"
        shown = self._content(kind, shape, "" if not shape else " ", " ")
        return f"{dtype}{size}{shown}" if shape or kind == _SHAPE else shown

    def _content(self, kind: int, shape: tuple[int, ...], before_values: str, before_mean: str) -> str:
        if kind == _STRINGS:
            shown = self._strings(math.prod(shape))
            return before_values + shown if shown else ""
        if kind == _SHAPE or not math.prod(shape):
            return ""
        numbers = np.frombuffer(self._rest[1:], chr(self._byte())).tolist()
        shown = " ".join(map(_number, numbers))
        if kind == _VALUES:
            return before_values + shown
        return f"{before_mean}mean {'~' if kind == _SAMPLED else ''}{shown}"

    def _strings(self, number: int) -> str:
        shown = [self._string() for _ in range(min(number, MOST_VALUES))]
        return " ".join(shown + ["…"] * (number > MOST_VALUES))

    def _string(self) -> str:
        mark = self._byte()
        size = mark & ~_CUT
        value, self._rest = self._rest[:size], self._rest[size:]
        if not mark & _CUT:
            return repr(value)
        return f"b'{repr(value[: size // 2])[2:-1]}…{repr(value[size // 2 :])[2:-1]}'"

    def _shape(self) -> tuple[int, ...]:
        return tuple(self._dimension() for _ in range(self._byte()))

    def _dimension(self) -> int:
        value = shift = 0
        while True:
            group = self._byte()
            value |= (group & 127) << shift
            shift += 7
            if group & 128:
                return value - 1

    def _byte(self) -> int:
        first, self._rest = self._rest[0], self._rest[1:]
        return first


def _number_of_values(number: int) -> str:
    return f"{number} value{'' if number == 1 else 's'}"


def _number(value: complex) -> str:
    """Six digits, but large numbers to a tenth: those of a range often differ in their last digits only."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


__all__ = ["MOST_AVERAGED", "MOST_CHARACTERS", "MOST_VALUES", "PREVIEW_BYTES", "pack", "text"]
