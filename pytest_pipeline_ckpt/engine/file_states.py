"""Child side: what is in a file that training code has written by hand: arrays, and integers that count. No TensorFlow.

The file itself is read, by what stands at its beginning, so nothing of NumPy, pickle, JSON or h5py is wrapped. Of an
archive or HDF5 only what is small is read; of a pickle no class and no function is made or called but NumPy's.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import re
import sys
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .trees import Tree, counting, look_into

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_TEXT = 1 << 20
_LARGEST_PICKLE = 1 << 27
"""Bytes. Reading more at each save would be felt."""
_MOST_MEMBERS = 4096
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
"""By a file's beginning the module that reads it."""
_NUMPYS = ("_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype")
_NUMBER = re.compile(rb"\s*\d+\s*")


def state_in(path: str) -> Tree | None:
    """What a file holds, with only those integers that count; None: no format that is known, or too large."""
    with contextlib.suppress(Exception):
        held = held_in(path)
        if held is not None:
            found = look_into(held)
            return Tree(tuple(counting(found.integers)), found.arrays)
    return None


def held_in(path: str, *, whole: bool = False) -> Any:
    """What a file holds, as a tree; None: no format that is known, or too large.

    Args:
        path: of the file.
        whole: reads large arrays too; else they are empty ones of their dtypes, where they need not be read.

    Raises:
        Exception: of any kind: it is not what it seems to be.
    """
    with opened(path) as file:
        head = file.read(8)
        small = file.seek(0, os.SEEK_END) <= _LARGEST_PICKLE
        file.seek(0)
        whole = whole and small
        if head.startswith(b"PK"):
            return _archive(file, whole=whole)
        if head.startswith(b"\x93NUMPY"):
            return dict([_member(_stem(path), file, whole=whole)])
        if head.startswith(b"\x89HDF"):
            return _hdf5(path, whole=whole)
        if head[:1] == b"\x80" and head[1] <= pickle.HIGHEST_PROTOCOL:
            return _Unpickler(file).load() if small else None
        return _text(_stem(path), file.read(_LARGEST_TEXT))


def opened(path: str) -> IO[bytes]:
    """A file as it was before it was compressed by gzip, bzip2 or xz, if it was."""
    with open(path, "rb") as file:
        head = file.read(6)
    module = next((module for magic, module in _COMPRESSED.items() if head.startswith(magic)), None)
    if module is None:
        return open(path, "rb")
    with importlib.import_module(module).open(path) as file:
        return io.BytesIO(file.read(_LARGEST_PICKLE + 1))  # once: whoever reads it goes back and forth


def _stem(path: str) -> str:
    """A file's name without its endings, which may be those of a temporary name."""
    return os.path.basename(path).lstrip(".").partition(".")[0]


def _archive(file: Any, *, whole: bool) -> dict[str, Any] | None:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")][:_MOST_MEMBERS]
        held: dict[str, Any] = {}
        for name in names:
            with archive.open(name) as member:
                held.update([_member(name.removesuffix(".npy"), member, whole=whole)])
    return held if names else None


def _member(name: str, file: Any, *, whole: bool) -> tuple[str, Any]:
    """An array in NumPy's format: a scalar as it is, of a larger one only the dtype, unless it is wanted whole."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:  # a dictionary that was given to `np.save`
        held = _Unpickler(file).load()
        return name, held.item() if held.size == 1 else list(held.flat)
    if not shape:
        return name, np.frombuffer(file.read(dtype.itemsize), dtype)[0]
    if not whole:
        return name, np.empty((0, 0), dtype)
    flat = np.frombuffer(file.read(), dtype)
    return name, flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _hdf5(path: str, *, whole: bool) -> dict[str, Any] | None:
    h5py: Any = sys.modules.get("h5py")  # who has written it has imported it
    if h5py is None:
        return None
    held: dict[str, Any] = {}

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            name = name if whole else name.rpartition("/")[2]
            held[name] = one[()] if whole or one.shape == () else np.empty((0, 0), one.dtype)

    with h5py.File(path, "r") as file:
        held.update({name: value for name, value in file.attrs.items() if np.ndim(value) == 0})
        file.visititems(visit)
    return held


def _text(name: str, text: bytes) -> Any:
    if _NUMBER.fullmatch(text):
        return {name: int(text)}
    if not text.lstrip().startswith(b"{"):
        return None
    held = json.loads(text)
    # Results, a configuration: what says where a training is has no fractions in it.
    return None if any(isinstance(value, float) for value in _values(held)) else held


def _values(held: Any) -> Iterator[Any]:
    if isinstance(held, (dict, list)):
        for one in held.values() if isinstance(held, dict) else held:
            yield from _values(one)
    else:
        yield held


class _Held(dict[str, Any]):
    """Stands for an object of any class: holds what it was made of, and its attributes."""

    fields: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        names = cls.fields or tuple(map(str, range(len(args))))
        dict.update(made, {**dict(zip(names, args, strict=False)), **kwargs})
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        for one in state if isinstance(state, tuple) else (state,):
            if isinstance(one, dict):
                self.update(one)

    def append(self, value: Any) -> None:
        """Of a subclass of list."""
        self[str(len(self))] = value

    def extend(self, values: Any) -> None:
        """Of a subclass of list."""
        for value in values:
            self.append(value)


class _Unpickler(pickle.Unpickler):
    """Reads a pickle without any code of the user's."""

    def find_class(self, module: str, name: str) -> Any:
        """NumPy's own; of others a stand-in, with the names of a named tuple's fields."""
        package = module.partition(".")[0]
        if (package == "numpy" and name in _NUMPYS) or package == "ml_dtypes":
            return super().find_class(module, name)
        if package == "jax" and name == "_reconstruct_array":
            return _array_of_jax
        fields = getattr(getattr(sys.modules.get(module), name, None), "_fields", ())
        return type(name, (_Held,), {"fields": tuple(fields)})


def _array_of_jax(make: Any, args: Any, state: Any, *_: Any) -> Any:
    array = make(*args)
    array.__setstate__(state)
    return array


__all__ = ["opened", "state_in"]
