"""Child side: files that training code writes and reads by hand: `np.savez`, `pickle`, msgpack, a step in JSON.

Python tells of each `open` and rename (`sys.addaudithook`), TensorFlow's file functions are called through one module.
Below the run's directory, what is opened for writing is saved, and what is opened for reading before the first element
is restored. Whether weights are in a file, and a step, shows when it is complete (`file_states`); else whether there
are weights shows in its beginning, because all formats name the dtype of an array.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import re
import sys
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import wrapt

from .file_states import held_in, opened, state_in
from .lineage import path_of, quietly
from .model import Kind
from .trees import arrays_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .lineage import Lineage
    from .patches import Patches
    from .trees import Tree

_HEAD = 1 << 16
_FLOATS = re.compile(rb"b?float(16|32|64)|[<>=|]f[248]|\x8c\x02f[248]|\x02f[248]|U\x02f[248]")
_MEMBERS = 64
_WRITES = os.O_WRONLY | os.O_RDWR
_NOT_SAVED = re.compile(r"\.(log|py|pyc|lock)$|events\.out\.|/(checkpoint|graph\.pbtxt)(\.tmp\w*)?$")
"""Logs, code, graphs; and where TensorFlow has the names of checkpoints, which is read without reading any of them."""
_LISTENING: list[Files] = []
"""The one that is told now; a hook of Python's can never be taken away."""
_HOOKED: list[bool] = []


class Files:
    """Notes the files of one life that no library of checkpoints has written or read.

    Args:
        lineage: is told.
        root: below which files count; None: those only that are known to be of a state.
        ours: the life's own directory.
    """

    def __init__(self, lineage: Lineage, root: Path | None, ours: Path) -> None:
        self.elements: Callable[[], int] = lambda: 0
        """How many elements the life has taken."""
        self.saves = 0
        """How many saves of states outside of TensorFlow have begun, as far as that is seen."""
        self.shown: Callable[[Kind, Tree | None], None] = lambda *_: None
        """Is told what is in a file that has been saved or restored; None: that is known already."""
        self.contents: Callable[[Iterable[Any], str], None] = lambda _arrays, _place: None
        """Is told the arrays in a file that has been saved."""
        self._lineage = lineage
        self._root = None if root is None else os.path.realpath(root)
        self._ours = os.path.realpath(ours)
        self._local = threading.local()
        self._restored: set[str] = set()
        self._known: set[str] = set()
        """What is being written, and is known to have a state whose counters have been read."""

    def install(self, patches: Patches) -> None:
        """Listens to Python, and wraps what TensorFlow's file functions call."""
        from tensorflow.python.lib.io import file_io

        tensorflow = file_io._pywrap_file_io
        patches.wrap(tensorflow, "WritableFile", self._tensorflow_writes)
        patches.wrap(tensorflow, "BufferedInputStream", self._tensorflow_reads)
        patches.wrap(tensorflow, "RenameFile", self._tensorflow_renames)
        _LISTENING[:] = [self]
        patches.at_undo(_LISTENING.clear)
        if not _HOOKED:
            _HOOKED.append(True)
            sys.addaudithook(_heard)
        wrapt.when_imported("h5py._hl.files")(functools.partial(self._hdf5, patches))

    def _hdf5(self, patches: Patches, module: Any) -> None:
        """Wraps what opens the files of h5py, which Python does not tell of."""
        if patches.active:
            patches.wrap(module.File, "__init__", self._hdf5_opens)

    def expect(self, *, weights: bool) -> None:
        """A state goes into a file of this thread's: one that it has opened, or the next one."""
        written = getattr(self._local, "written", "")
        if self._lineage.is_incomplete(written):
            self._known.add(written)
        else:
            self._local.expected = weights

    def gave(self, arrays: tuple[str, ...]) -> bool:
        """The file that this thread has read last gave these arrays; returns whether there is one."""
        path = getattr(self._local, "read", None)
        if path is not None:
            if path not in self._restored:
                self._lineage.restored(path, weights=bool(arrays), data=False)
            self._lineage.group(path, len(arrays), arrays)
        return path is not None

    @quietly
    def opened(self, path: Any, *, writes: bool, appends: bool = False) -> None:
        """A file is about to be opened."""
        if self._lineage.inside() or getattr(self._local, "busy", False):
            return
        place = path_of(path)
        if place is None or place.startswith(("/proc/", "/dev/", "/sys/")) or self._lineage.inside(place):
            return
        self._local.busy = True
        try:
            if writes:
                self._writes(place, appends=appends)
            else:
                self._reads(place)
        finally:
            self._local.busy = False

    @quietly
    def renamed(self, path: Any, to: Any) -> None:
        """Something is about to have another name."""
        place, target = path_of(path), path_of(to)
        if place is None or target is None or self._lineage.inside():
            return
        self._local.busy = True
        try:
            self._lineage.moved(place, target)
        finally:
            self._local.busy = False

    def _counts(self, place: str) -> bool:
        if self._root is None or "://" in place or _NOT_SAVED.search(place):
            return False
        real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
        return real.startswith(f"{self._root}{os.sep}") and not real.startswith(f"{self._ours}{os.sep}")

    def _writes(self, place: str, *, appends: bool) -> None:
        expected: bool | None = getattr(self._local, "expected", None)
        self._local.expected = None
        if expected is None and not self._counts(place):
            return
        self._local.written = place
        self.saves += not appends
        then = None if appends else functools.partial(self._written, expected, self.elements())
        with self._lineage.call():
            self._lineage.writing(place, weights=bool(expected), data=False)
            self._lineage.completes_later(lambda: not _is_open(place), known=expected, look=self._has_floats, then=then)

    @quietly
    def _written(self, expected: bool | None, elements: int, place: str) -> None:
        """A file is complete. If elements have been taken since it was opened, it is a log, or of a moment unknown."""
        known = expected is not None or place in self._known
        self._known.discard(place)
        if self.elements() != elements:
            return
        if known:
            self.shown(Kind.SAVED, None)
            return
        self.contents(self._arrays_in(place), place)
        state = self._looked_into(place)
        if state is not None and (state.arrays or elements):  # without arrays: what is written at first is a setting
            self.shown(Kind.SAVED, state)

    def _reads(self, place: str) -> None:
        self._local.read = place
        if self._lineage.is_incomplete(place):
            self._lineage.look_for_commits()
        if self.elements() or not self._counts(place) or not os.path.isfile(place) or self._lineage.is_ours(place):
            return
        weights = self._has_floats(place)
        state = None if place in self._restored else self._looked_into(place)
        self._restored.add(place)
        self._lineage.restored(place, weights=weights, data=False)
        if weights:
            self._lineage.loose(place)
        if state is not None:
            self.shown(Kind.RESTORED, state)

    def _has_floats(self, place: str) -> bool:
        state = self._looked_into(place)
        return has_floats(place) if state is None else bool(state.arrays)

    def _looked_into(self, place: str) -> Tree | None:
        busy, self._local.busy = getattr(self._local, "busy", False), True
        try:
            return state_in(place)
        finally:
            self._local.busy = busy

    def _arrays_in(self, place: str) -> Iterator[Any]:
        busy, self._local.busy = getattr(self._local, "busy", False), True
        try:
            yield from (array for _, array in arrays_in(held_in(place, whole=True)))
        finally:
            self._local.busy = busy

    def _hdf5_opens(self, original: Any) -> Any:
        def __init__(file: Any, name: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces one
            self.opened(name, writes=mode != "r")
            original(file, name, mode, *args, **kwargs)

        return __init__

    def _tensorflow_writes(self, original: Any) -> Any:
        def opens(name: Any, *args: Any, **kwargs: Any) -> Any:
            self.opened(name, writes=True)
            return original(name, *args, **kwargs)

        return opens

    def _tensorflow_reads(self, original: Any) -> Any:
        def opens(name: Any, *args: Any, **kwargs: Any) -> Any:
            self.opened(name, writes=False)
            return original(name, *args, **kwargs)

        return opens

    def _tensorflow_renames(self, original: Any) -> Any:
        def rename(path: Any, to: Any, *args: Any, **kwargs: Any) -> Any:
            self.renamed(path, to)
            return original(path, to, *args, **kwargs)

        return rename


def _heard(event: str, args: tuple[Any, ...]) -> None:
    """Python's hook: for each event, so the ones that are none of ours are out of here at once."""
    if event == "open":
        if _LISTENING and not isinstance(args[0], int):
            mode, flags = args[1], args[2]
            modes = set(mode or "")
            appends = bool(flags & os.O_APPEND) or "a" in modes
            _LISTENING[0].opened(args[0], writes=bool(flags & _WRITES) or bool(modes & set("wax+")), appends=appends)
    elif event == "os.rename" and _LISTENING:
        _LISTENING[0].renamed(args[0], args[1])


def _is_open(path: str) -> bool:
    """Whether this process has a file open."""
    with contextlib.suppress(OSError):
        seen = os.stat(path)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                one = os.stat(f"/proc/self/fd/{name}")
                if (one.st_dev, one.st_ino) == (seen.st_dev, seen.st_ino):
                    return True
    return False


def _is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text: one that only speaks of dtypes."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def has_floats(path: str) -> bool:
    """Whether a file has floating point arrays, by what stands at its beginning; of an archive, in its members."""
    with contextlib.suppress(Exception), opened(path) as file:
        head = file.read(_HEAD)
        if _is_text(head):
            return False
        if not head.startswith(b"PK"):
            return _FLOATS.search(head) is not None
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist()[:_MEMBERS]:
                with archive.open(name) as member:
                    if _FLOATS.search(member.read(256)):
                        return True
    return False


__all__ = ["Files", "has_floats"]
