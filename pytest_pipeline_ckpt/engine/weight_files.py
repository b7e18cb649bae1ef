"""Child side: what checkpoints hold, whatever wrote them, and how those of two directories differ.

Read are TensorFlow's checkpoints, Keras' `.weights.h5`, `.h5` and `.keras`, NumPy's `.npz` and `.npy`, Orbax'
directories and Flax' msgpack, each by the library that its writer needs too: where that is missing, or a file is
something else than its name says, there is nothing to compare. That is never an error: the directory is the user's.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Array = np.ndarray[Any, np.dtype[Any]]

_H5 = (".h5", ".hdf5")
_FLAX = re.compile(r"(\.msgpack|\.flax|(^|/)checkpoint_\d+)$")
_UNFINISHED = re.compile(r"(_temp|\.tmp|\.orbax-checkpoint-tmp[^/]*)(/|$)")
_ARRAYS = {"/.zarray": "zarr", "/zarr.json": "zarr3"}
"""Of TensorStore: what an array's directory has, and the driver that reads it."""
_ATTRIBUTE = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint, read when it is asked for."""

    floating: bool
    """False: integers. Others (strings, what an iterator keeps) are no tensors here."""
    unsigned: bool
    shape: tuple[int, ...]
    load: Callable[[], Array]


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint."""

    name: str
    """Its path below the directory: of TensorFlow's the prefix, of Orbax' the directory."""
    modified: int
    """When it was last written, in nanoseconds."""
    read: Callable[[], dict[str, Tensor]]

    def tensors(self) -> dict[str, Tensor]:
        """By their names; none where it cannot be read: torn by a kill, a library missing, or something else."""
        with contextlib.suppress(Exception):
            return self.read()
        return {}


def saved_in(directory: Path) -> list[Saved]:
    """Every checkpoint in a directory and below it, the newest first."""
    found = []
    for path in _walk(directory):
        name = path.relative_to(directory).as_posix()
        read = None if _UNFINISHED.search(name) else _reader(path, name)
        if read is not None:
            with contextlib.suppress(OSError):  # somebody tidies up
                kept = name.removesuffix(".index")
                found.append(Saved(kept, path.stat().st_mtime_ns, read))
    return sorted(found, key=lambda one: (-one.modified, one.name))


def _walk(directory: Path) -> Iterator[Path]:
    for at, below, names in os.walk(directory):
        here = Path(at)
        if "_METADATA" in names or "manifest.ocdbt" in names:
            below.clear()  # its parts are no checkpoints of their own
            yield here
        else:
            yield from (here / name for name in names)


def _reader(path: Path, name: str) -> Callable[[], dict[str, Tensor]] | None:
    readers: dict[str, Callable[[Path], dict[str, Tensor]]] = {
        ".index": _tensorflow,
        ".npz": _npz,
        ".npy": _npy,
        ".keras": _keras,
        **dict.fromkeys(_H5, _h5),
    }
    if path.is_dir():
        return functools.partial(_orbax, path)
    if _FLAX.search(name):
        return functools.partial(_flax, path)
    reader = readers.get(path.suffix)
    return None if reader is None else functools.partial(reader, path)


def _tensorflow(index: Path) -> dict[str, Tensor]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(index.with_suffix("")))
    shapes = reader.get_variable_to_shape_map()
    return {
        name.removesuffix(_ATTRIBUTE): Tensor(
            dtype.is_floating or dtype.is_complex,
            dtype.is_unsigned,
            tuple(shapes[name]),
            functools.partial(reader.get_tensor, name),
        )
        for name, dtype in reader.get_variable_to_dtype_map().items()
        if dtype.is_floating or dtype.is_complex or dtype.is_integer
    }


def _h5(path: Path | io.BytesIO) -> dict[str, Tensor]:
    import h5py

    found: dict[str, Tensor] = {}
    file = h5py.File(path, "r")  # open for as long as its tensors are

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            _add(found, name, node.dtype, node.shape, lambda: np.asarray(node[()]))

    file.visititems(take)
    return found


def _keras(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        return _h5(io.BytesIO(archive.read("model.weights.h5")))


def _npz(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            with contextlib.suppress(ValueError):  # pickled objects
                _add_array(found, name, archive[name])
    return found


def _npy(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    _add_array(found, path.stem, np.load(path, allow_pickle=False))
    return found


def _orbax(directory: Path) -> dict[str, Tensor]:
    """By TensorStore, which Orbax needs: so no JAX backend is started, and no tree must be known."""
    import tensorstore

    place: dict[str, Any] = {"driver": "file", "path": f"{directory}/"}
    if (directory / "manifest.ocdbt").exists():
        place = {"driver": "ocdbt", "base": f"file://{directory}/"}
    keys = [key.decode() for key in tensorstore.KvStore.open(place).result().list().result()]
    found: dict[str, Tensor] = {}
    for key, end in ((key, end) for key in keys for end in _ARRAYS if key.endswith(end)):
        name = key.removesuffix(end)
        where = {**place, "path": f"{place.get('path', '')}{name}/"}
        array = tensorstore.open({"driver": _ARRAYS[end], "kvstore": where}, open=True).result()
        load = functools.partial(_loaded, array)
        _add(found, name.replace(".", "/"), array.dtype.numpy_dtype, tuple(array.shape), load)
    return found


def _loaded(array: Any) -> Array:
    return np.asarray(array.read().result())


def _flax(path: Path) -> dict[str, Tensor]:
    """As `flax.serialization` writes it, without an import of JAX; numbers of Python are integers or floats too."""
    import msgpack

    found: dict[str, Tensor] = {}

    def take(name: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():  # arrays beyond 2 GiB come in chunks, each under a name of its own
                take(f"{name}/{key}" if name else str(key), value)
        elif isinstance(node, np.ndarray | int | float) and not isinstance(node, bool):
            _add_array(found, name, np.asarray(node))

    tree = msgpack.unpackb(path.read_bytes(), ext_hook=_flax_array, raw=False, strict_map_key=False)
    take("", tree)
    return found


def _flax_array(code: int, data: bytes) -> Any:
    import msgpack

    if code not in (1, 3):  # an array, or a scalar of NumPy's
        return None
    shape, dtype, buffer = msgpack.unpackb(data, raw=False)
    if dtype == "bfloat16":
        return (np.frombuffer(buffer, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return np.frombuffer(buffer, np.dtype(dtype)).reshape(shape)


def _add_array(found: dict[str, Tensor], name: str, array: Array) -> None:
    _add(found, name, array.dtype, array.shape, lambda: array)


def _add(
    found: dict[str, Tensor], name: str, dtype: np.dtype[Any], shape: tuple[int, ...], load: Callable[[], Array]
) -> None:
    floating = dtype.kind in "fc" or dtype.name.startswith(("bfloat", "float"))  # those of ml_dtypes are void to NumPy
    if floating or dtype.kind in "iu":
        found[name] = Tensor(floating, dtype.kind == "u", tuple(shape), load)


__all__ = ["Saved", "Tensor", "saved_in"]
