"""What a preview tells of an element, packed and read again."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pytest_pipeline_ckpt.engine.fingerprint import Absent, Component, Ragged, Sparse
from pytest_pipeline_ckpt.engine.previews import MOST_AVERAGED, MOST_VALUES, PREVIEW_BYTES, pack, text


def shown(*components: Component, names: bool = True) -> str:
    """The preview of an element whose components are called a, b, c."""
    described = [
        {"name": chr(ord("a") + number) if names else "", "dtype": _dtype(component)}
        for number, component in enumerate(components)
    ]
    packed = pack(components)
    assert len(packed) <= PREVIEW_BYTES
    return text(packed.ljust(PREVIEW_BYTES, b"\0"), described)


def _dtype(component: Component) -> str:
    if isinstance(component, Absent):
        return "int64"
    dtype = component.dtype if isinstance(component, np.ndarray) else component.values.dtype
    return "string" if dtype.hasobject else dtype.name


def strings(*values: bytes) -> Any:
    """A vector of strings as TensorFlow gives them."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def scalar(value: bytes) -> Any:
    """A string as TensorFlow gives it."""
    return np.asarray(value, object)


PATH = b"/data/imagenet/train/n02085620/" + b"x" * 60 + b"/n02085620_10074.JPEG"
NO_VALUES = Sparse(np.empty((0, 1)), np.empty(0, np.float32), np.array([3]))
IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
EXAMPLES = {
    "a scalar is its value": ([np.array(3)], "{'a': 3}"),
    "few values are shown": ([np.array([[16, 39]])], "{'a': int64[1,2] 16 39}"),
    "more have a mean": ([IMAGE, np.array(3)], "{'a': uint8[8,8] mean 31.5, 'b': 3}"),
    "a few integers have a mean": ([np.arange(5)], "{'a': int64[5] mean 2}"),
    "a large one has the mean of a sample": ([np.full((32, 256, 3), 7, np.uint8)], "{'a': uint8[32,256,3] mean ~7}"),
    "floats": ([np.array(0.1, np.float32), np.full(9, 1 / 3)], "{'a': 0.1, 'b': float64[9] mean 0.333333}"),
    "large numbers": (
        [np.array(1700000012.25), np.arange(8) + 1700000000],
        "{'a': 1700000012.2, 'b': int64[8] mean 1700000003.5}",
    ),
    "half precision": ([np.full(100, 60000, np.float16)], "{'a': float16[100] mean 60000}"),
    "sums beyond the dtype": (
        [np.full(8, 3e38, np.float32), np.full(8, 2**63, np.uint64)],
        "{'a': float32[8] mean 3e+38, 'b': uint64[8] mean 9.22337e+18}",
    ),
    "infinities": ([np.array([np.inf, -np.inf, 1, 1, 1], np.float32)], "{'a': float32[5] mean nan}"),
    "booleans": ([np.array(True), np.array([True, False] * 3)], "{'a': True, 'b': bool[6] mean 0.5}"),
    "complex": ([np.array(1 + 2j), np.full(8, 1j, np.complex64)], "{'a': 1+2j, 'b': complex64[8] mean 0+1j}"),
    "empty": ([np.empty((0, 3), np.float32)], "{'a': float32[0,3]}"),
    "transposed": ([np.arange(4).reshape(2, 2).T], "{'a': int64[2,2] 0 2 1 3}"),
    "strings": (
        [scalar(b"n7"), strings(b"a", b"\0'", b"", b"d", b"e")],
        "{'a': b'n7', 'b': string[5] b'a' b\"\\x00'\" b'' b'd' …}",
    ),
    "of a long string beginning and end": (
        [scalar(PATH)],
        "{'a': b'/data/imagenet/train/n02085620/x…xxxxxxxxxxx/n02085620_10074.JPEG'}",
    ),
    "ragged": (
        [Ragged(np.arange(7), (np.array([0, 3, 7]),)), Ragged(np.array([5]), (np.array([0, 1]), np.array([0, 1])))],
        "{'a': ragged int64[2,?] 7 values, mean 3, 'b': ragged int64[1,?,?] 1 value: 5}",
    ),
    "ragged strings": (
        [Ragged(strings(b"x", b"y"), (np.array([0, 0, 2]),))],
        "{'a': ragged string[2,?] 2 values: b'x' b'y'}",
    ),
    "sparse": (
        [Sparse(np.array([[1, 2]]), np.array([5.0]), np.array([3, 4])), NO_VALUES],
        "{'a': sparse float64[3,4] 1 value: 5, 'b': sparse float32[3] 0 values}",
    ),
    "optional": ([np.array(False), Absent("no value")], "{'a': False, 'b': no value}"),
    "a dtype without numbers": ([np.zeros(3, [("qint8", "i1")])], "{'a': void8[3]}"),
    "too many to be shown": ([np.array(7)] * 12, f"{{{', '.join(f'{name!r}: 7' for name in 'abcdefghij')}, …}}"),
}


@pytest.mark.parametrize(("components", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples(components: list[Component], expected: str) -> None:
    """Each kind of component is shown so that two of them can be told apart."""
    assert shown(*components) == expected


def test_an_element_of_one_component_has_no_name() -> None:
    """What is not a structure is shown without braces."""
    assert shown(np.array([1, 2]), names=False) == "int64[2] 1 2"


NUMBERS = npst.arrays(
    st.sampled_from(["u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", "?"]),
    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
)


@given(NUMBERS)
def test_numbers(array: Any) -> None:
    """The shape is the element's own, few values are exactly those, and the mean of more is numpy's."""
    seen = shown(array, names=False)
    if array.ndim:
        head = f"{array.dtype.name}[{','.join(map(str, array.shape))}]"
        assert seen.startswith(head)
        seen = seen.removeprefix(head)
    if not array.size:
        assert seen == ""
    elif array.size <= MOST_VALUES:
        read = [float({"True": 1, "False": 0}.get(word, word)) for word in seen.split()]
        np.testing.assert_allclose(read, array.reshape(-1).astype("f8"), rtol=1e-5, equal_nan=True)
    elif array.size <= MOST_AVERAGED:
        with np.errstate(all="ignore"):
            mean, spread = array.mean(dtype="f8"), np.abs(array.astype("f8")).mean()
        if math.isfinite(spread):
            assert abs(float(seen.removeprefix(" mean ")) - mean) <= 1e-5 * spread


@given(st.integers(MOST_AVERAGED + 1, 40_000), st.integers(1, 4), st.data())
@settings(deadline=None)
def test_a_sample_is_spread_over_the_whole(rows: int, width: int, data: st.DataObject) -> None:
    """The sample's mean is close to the mean of all, whichever row or column the values depend on."""
    column = data.draw(st.integers(0, width - 1))
    array = np.zeros((rows, width))
    array[:, column] = np.linspace(0, 1, rows)
    seen = re.fullmatch(rf"float64\[{rows},{width}\] mean ~(\S+)", shown(array, names=False))
    assert seen is not None
    assert abs(float(seen[1]) - array.mean()) < 0.01


@given(st.lists(st.one_of(NUMBERS, st.binary(max_size=300).map(scalar), st.just(Absent("no value"))), max_size=30))
def test_any_element_can_be_shown(components: list[Component]) -> None:
    """Whatever an element holds it is packed and read without an error or a warning; what is not shown is said."""
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        packed = pack(components)
    assert len(packed) <= PREVIEW_BYTES
    described = [{"name": f"name{number:02}", "dtype": _dtype(part)} for number, part in enumerate(components)]
    seen = text(packed.ljust(PREVIEW_BYTES, b"\0"), described)
    if "…}" not in seen:
        assert [row["name"] for row in described if row["name"] in seen] == [row["name"] for row in described]


@given(st.binary(max_size=90), st.binary(max_size=90))
def test_strings_that_differ_at_an_end_look_different(one: bytes, two: bytes) -> None:
    """Two strings look alike only if they begin and end alike."""
    if one[:32] != two[:32] or one[-32:] != two[-32:]:
        assert shown(scalar(one)) != shown(scalar(two))
