from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_pipeline_ckpt.engine.fingerprint import (
    LARGE_ROW_BYTES,
    SMALL_ROW_BYTES,
    Absent,
    Ragged,
    Sparse,
    fingerprint,
)

DTYPES = st.sampled_from(["u1", "i4", "i8", "f4", "f8", "?", "f2", "c8"])
WIDTHS = st.sampled_from([(), (1,), (3,), (8,), (7, 5), (SMALL_ROW_BYTES + 3,), (LARGE_ROW_BYTES + 3,)])
"""Row shapes on all sides of the borders between mixed, packed and large rows."""


@st.composite
def batches(draw: st.DrawFn, *, least: int = 1) -> list[Any]:
    """One to three components with a common leading dimension, strings among them."""
    rows = draw(st.integers(least, 6))
    components: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            shape = (rows, *draw(WIDTHS))
            seed = draw(st.integers(0, 2**32 - 1))
            dtype = np.dtype(draw(DTYPES))
            raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
            components.append(np.frombuffer(raw, dtype).reshape(shape))
        else:
            strings = draw(st.lists(st.binary(max_size=12), min_size=rows, max_size=rows))
            components.append(objects(strings))
    return components


def objects(strings: list[bytes]) -> Any:
    """A numpy array of strings as TensorFlow gives them."""
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def equal(one: Any, two: Any) -> bool:
    """Whether two arrays have the same contents, bit by bit."""
    same: bool = one.tolist() == two.tolist() if one.dtype == object else one.tobytes() == two.tobytes()
    return same


def ragged(rows: list[list[int]]) -> Ragged:
    """A ragged component of one ragged dimension."""
    values = np.array([value for row in rows for value in row], np.int64)
    return Ragged(values, (np.cumsum([0, *map(len, rows)]),))


@given(npst.arrays(DTYPES, st.sampled_from([(4,), (2, 3), (2, SMALL_ROW_BYTES), (2, LARGE_ROW_BYTES)])), st.data())
def test_one_changed_byte_changes_the_digest(array: Any, data: st.DataObject) -> None:
    """Two arrays that differ in any single byte have different fingerprints and different sums of rows."""
    raw = bytearray(array.tobytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    other = np.frombuffer(bytes(raw), "u1").view(array.dtype).reshape(array.shape)
    one, two = fingerprint([array]), fingerprint([other])
    assert one.value != two.value
    assert one.rows_digest != two.rows_digest


@given(batches(least=2), st.data())
def test_permuted_rows_keep_the_sum(components: list[Any], data: st.DataObject) -> None:
    """A permutation of the rows keeps the sum of the row digests, and changes the fingerprint if it changes a byte."""
    rows = len(components[0])
    order = data.draw(st.permutations(range(rows)))
    permuted = [component[order] for component in components]
    one, two = fingerprint(components), fingerprint(permuted)
    assert (one.rows_digest, one.rows) == (two.rows_digest, rows)
    same = all(map(equal, components, permuted))
    assert (one.value == two.value) == same


@given(batches(), st.data())
def test_split_batches_have_the_same_sum(components: list[Any], data: st.DataObject) -> None:
    """A batch that is split anywhere, empty parts included, keeps its sum modulo 2**64 and its number of rows."""
    rows = len(components[0])
    at = data.draw(st.integers(0, rows))
    whole = fingerprint(components)
    parts = [fingerprint([part[piece] for part in components]) for piece in (slice(at), slice(at, None))]
    assert sum(part.rows for part in parts) == whole.rows == rows
    assert sum(part.rows_digest for part in parts) % 2**64 == whole.rows_digest


@pytest.mark.parametrize("rows", [3, 20_000])
@pytest.mark.parametrize("width", [1, 7, SMALL_ROW_BYTES // 4 + 1, LARGE_ROW_BYTES // 4 + 1])
def test_block_borders_do_not_matter(rows: int, width: int) -> None:
    """Batches of more than one block of words sum up to their rows."""
    array = np.random.default_rng(rows).random((min(rows, 2_000_000 // width), width)).astype(np.float32)
    single = sum(fingerprint([array[i : i + 1]]).rows_digest for i in range(len(array)))
    assert fingerprint([array]).rows_digest == single % 2**64


@pytest.mark.parametrize("width", [2, 31, 64, LARGE_ROW_BYTES])
def test_sign_flips_do_not_cancel(width: int) -> None:
    """No two different sets of sign flips of a float32 row collide, by pairs of positions and of values."""
    row = np.random.default_rng(3).random(width).astype(np.float32)
    digests = {fingerprint([row[np.newaxis]]).rows_digest}
    flips = [(i, j) for i in range(min(width, 40)) for j in range(i, min(width, 40))]
    for i, j in flips:
        flipped = row.copy()
        flipped[[i, j]] *= -1
        digests.add(fingerprint([flipped[np.newaxis]]).rows_digest)
    assert len(digests) == len(flips) + 1


@pytest.mark.parametrize("width", [1, SMALL_ROW_BYTES, LARGE_ROW_BYTES])
def test_swapped_labels_are_seen(width: int) -> None:
    """Swapping the labels of two rows changes the sum of the rows: components of a row belong together."""
    images = np.arange(2 * width, dtype=np.float64).reshape(2, width)
    labels = np.array([3, 4])
    assert fingerprint([images, labels]).rows_digest != fingerprint([images, labels[::-1]]).rows_digest


def test_components_are_in_order() -> None:
    """Two components of one dtype cannot swap their contents."""
    one, two = np.array([1, 2]), np.array([3, 4])
    assert fingerprint([one, two]).rows_digest != fingerprint([two, one]).rows_digest


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (np.zeros(4, "i4"), np.zeros(4, "f4")),
        (np.zeros(4, ">i4"), np.zeros(4, "<i4")),
        (np.zeros((4, 2)), np.zeros((4, 1, 2))),
        (np.zeros((4, 2)), np.zeros((2, 4))),
        (np.zeros((0, 3)), np.zeros((0, 4))),
        (np.zeros((0, 3)), np.zeros((0, 3), "i8")),
        (np.zeros((3, 0)), np.zeros((2, 0))),
        (np.array(0.0), np.array(-0.0)),
        (np.array([0.0]), np.array([-0.0])),
        (np.array(7, "u8"), np.array([7], "u8")),
        (np.frombuffer(b"\1\0\xc0\x7f", "f4"), np.frombuffer(b"\2\0\xc0\x7f", "f4")),
    ],
    ids=str,
)
def test_dtype_shape_and_bytes_matter(one: Any, two: Any) -> None:
    """Dtype, byte order, shape, signs of zero and payloads of NaN change a fingerprint."""
    assert fingerprint([one]).value != fingerprint([two]).value


STRINGS = [[b""], [b"\0"], [b"\0\0"], [b"a"], [b"a\0"], [b"a\0b"], [b"a", b""], [b"", b"a"], [b"ab"], [b"a", b"b"]]


def test_strings_are_not_joined() -> None:
    """Strings with NULs, of other lengths and at other borders all differ, batched or alone."""
    batched = {fingerprint([objects(strings)]).value for strings in STRINGS}
    alone = {fingerprint([objects(strings), np.array(0)]).value for strings in STRINGS}
    assert len(batched) == len(alone) == len(STRINGS)


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=5), st.data())
def test_ragged_rows(rows: list[list[int]], data: st.DataObject) -> None:
    """A ragged batch has its outer rows: order does not change their sum, a value that moves to another row does."""
    digest = fingerprint([ragged(rows)])
    assert digest.rows == len(rows)
    order = data.draw(st.permutations(range(len(rows))))
    assert fingerprint([ragged([rows[i] for i in order])]).rows_digest == digest.rows_digest
    flat = [[value for row in rows for value in row], *([] for _ in rows[1:])]
    moved = sorted(flat) != sorted(rows)
    assert (fingerprint([ragged(flat)]).rows_digest != digest.rows_digest) == moved


def test_nested_ragged_rows() -> None:
    """Inner row lengths count: [[[1], [2]]] is not [[[1, 2], []]], and rows sum up over batches."""
    values = np.array([1, 2, 3])
    outer = np.array([0, 2, 3])
    one = fingerprint([Ragged(values, (outer, np.array([0, 1, 2, 3])))])
    two = fingerprint([Ragged(values, (outer, np.array([0, 2, 2, 3])))])
    assert one.rows == two.rows == 2
    assert one.rows_digest != two.rows_digest
    first = fingerprint([Ragged(values[:2], (np.array([0, 2]), np.array([0, 1, 2])))])
    second = fingerprint([Ragged(values[2:], (np.array([0, 1]), np.array([0, 1])))])
    assert (first.rows_digest + second.rows_digest) % 2**64 == one.rows_digest


def test_elements_without_rows() -> None:
    """Scalars, unequal leading dimensions, sparse and absent components make one row of the whole element."""
    sparse = Sparse(np.zeros((1, 2), np.int64), np.array([5.0]), np.array([2, 3]))
    elements: list[list[Any]] = [
        [np.array(3)],
        [np.zeros(2), np.array(3)],
        [np.zeros(2), np.zeros(3)],
        [sparse],
        [np.zeros(2), Absent("no value")],
        [],
    ]
    for components in elements:
        digest = fingerprint(components)
        assert (digest.rows, digest.rows_digest) == (1, digest.value)
    other = sparse._replace(dense_shape=np.array([3, 3]))
    assert fingerprint([sparse]).value != fingerprint([other]).value
    assert fingerprint([Absent("none")]).value != fingerprint([Absent("no value")]).value


def test_layout_in_memory_does_not_matter() -> None:
    """A transposed or strided view has the fingerprint of its copy."""
    array = np.arange(24, dtype=np.int32).reshape(4, 6)
    for view in (array.T, array[::2], array[:, 1:]):
        assert fingerprint([view]) == fingerprint([view.copy()])
        assert fingerprint([view, np.array(0)]) == fingerprint([view.copy(), np.array(0)])


STABLE = [14689755919156078518, 14614937851621319818, 8837766747715132525, 17173490861200053168, 917962064052925741]


def test_fingerprints_are_stable() -> None:
    """Fingerprints are the same in every process and every version: lives of different interpreters are compared."""
    images = np.arange(12, dtype=np.uint8).reshape(3, 4)
    small = fingerprint([images, objects([b"a", b"b", b"c"])])
    large = fingerprint([np.zeros((2, LARGE_ROW_BYTES + 1), np.uint8)])
    middle = fingerprint([np.zeros((2, SMALL_ROW_BYTES + 1), np.uint8), np.arange(2, dtype="<i8")])
    scalar = fingerprint([np.array(1.5, np.float32)])
    assert [small.value, small.rows_digest, middle.rows_digest, large.rows_digest, scalar.value] == STABLE


def test_tensorflow_is_not_imported() -> None:
    """Importing the fingerprint imports no TensorFlow."""
    code = "import sys, pytest_pipeline_ckpt.engine.fingerprint; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
