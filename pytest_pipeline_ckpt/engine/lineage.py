"""Child side: which files a life writes and reads, and from which of them its trained weights come. No TensorFlow.

A save is noted with the state of its beginning; where that is known only in the middle of the call (a Checkpoint gives
its files a number), when it is. What is nested in a save or restore of somebody's is part of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from .evidence import EvidenceWriter

ORIGINS_AT = (2, 9)
"""Elements of a life before which it is written down where the weights come from: the second, by when the first step
has made what is made late, and one behind the first that are looked at closely."""
_NAMES = 4
_INDEX = ".index"
"""Of the files that TensorFlow writes with one prefix, the one that makes the others a checkpoint."""
_OFTEN = 64
"""So many times it is asked at each element whether a file is complete, then at every second, and so on."""


Group = tuple["str | None", int, tuple[str, ...], "bool | None"]
"""A path, how many trained weights come from it, the names of a few, and whether any was seen to change; None: they
are no variables that could be looked at."""


@dataclass(frozen=True, slots=True)
class _Status:
    """A restore of TensorFlow's: what it has put where is known later, because variables may be made later."""

    path: str
    found: Callable[[], Mapping[Any, str]]
    """The names of the variables that have been restored by now, by their keys."""


@dataclass(frozen=False, slots=True)
class _Call:
    """The outermost save or restore in a thread."""

    path: str | None = None
    """Where it is known by its arguments."""
    at: int | None = None
    """Of which moment the state is that it saves, in records of the ledger; None: of that of each file."""
    began: list[str] = field(default_factory=list)
    """Paths that this call has begun to write."""
    restored: list[str] = field(default_factory=list)
    later: bool = False
    """Whether what it has begun is complete only some time after it has returned."""


@dataclass(frozen=False, slots=True)
class _Pending:
    """A file that is complete some time after the call that writes it."""

    path: str
    complete: Callable[[], bool]
    look: Callable[[str], bool] | None
    """Tells whether weights are in it, where that is not known."""
    then: Callable[[str], None] | None = None
    """Called with the path when it is complete."""
    asked: int = 0
    due: int = 0
    """Before which element it is asked again."""


class Lineage:
    """Writes down what is saved and restored in one life.

    Nothing here raises into the user's program: what cannot be told is not told.
    """

    def __init__(self, evidence: EvidenceWriter) -> None:
        self._evidence = evidence
        self._calls = threading.local()
        self._trained: dict[Any, str] = {}
        self.applied: set[Any] = set()
        """Keys of the weights that an optimizer is applied to."""
        self.in_graphs: set[str] = set()
        """Names of the variables in graphs that a Saver has."""
        self._active: list[str] = []
        """The paths of the calls that are running."""
        self._open: dict[str, _Call] = {}
        """Which call has begun to write a path that is not complete."""
        self._restores: list[_Status] = []
        self._groups: list[tuple[str, int, tuple[str, ...]]] = []
        """Of restores whose weights are known by nothing else: path, how many, some names."""
        self._loose: str | None = None
        """The last file with numbers in it that was read by hand."""
        self.more: Callable[[Collection[Any]], Mapping[Any, str]] = lambda _: {}
        """Tells what else are trained weights by now, beside those of some keys."""
        self.changed: Callable[[Collection[Any]], Collection[Any]] = lambda _: ()
        """Tells which of some weights are not what they were when it was asked before."""
        self.strays: Collection[Any] = ()
        """Keys of those that are in no file and no optimizer, and change all the same."""
        self.saving: Callable[[], None] = lambda: None
        """Called when something is about to be saved."""
        self._lock = threading.RLock()
        self._pending: list[_Pending] = []
        self._known: set[str] = set()
        """Paths that this life has written."""

    # Calls.

    @contextlib.contextmanager
    def call(self, path: object = None, *, at: int | None = None) -> Iterator[_Call]:
        """Around a save or restore; within it, others belong to it. `at`: of which moment its state is."""
        outer: _Call | None = getattr(self._calls, "now", None)
        if outer is not None:
            yield outer
            return
        now = self._calls.now = _Call(path_of(path), at)
        if now.path is not None:
            self._active.append(now.path)
        complete = False
        try:
            yield now
            complete = not now.later
        finally:
            self._calls.now = None
            if now.path is not None:
                self._active.remove(now.path)
            for one in now.began:
                if complete:
                    self._evidence.wrote(one)
                if not now.later:
                    self._open.pop(one, None)

    def inside(self, path: str | None = None) -> bool:
        """Whether this thread is within a save or restore that is noted by itself.

        Args:
            path: asks also whether that is a part of what any thread is saving or restoring; temporary names begin as
                the final ones do.
        """
        if getattr(self._calls, "now", None) is not None:
            return True
        return path is not None and any(path.startswith(one) for one in (*self._active, *self._open) if one != path)

    def writing(self, path: object, *, weights: Mapping[Any, str] | bool, data: bool) -> None:
        """The state that goes to a path is that of now; within `call`.

        Args:
            path: where it goes.
            weights: the names of the weights in it by their keys, or whether there are some.
            data: whether the position of an iterator is in it.
        """
        now: _Call = self._calls.now
        place = now.path or path_of(path)
        if place is None or place in now.began:
            return
        now.began.append(place)
        self._known.add(place)
        if not isinstance(weights, bool):
            self.trained(weights)
        self.saving()
        # Else another thread writes it for the call that has begun.
        if self._open.setdefault(place, now) is now:
            self._evidence.writing(place, weights=bool(weights), data=data, at=now.at)

    def completes_elsewhere(self) -> None:
        """What the call has begun is completed by another thread, which calls the same."""
        now: _Call = self._calls.now
        now.later = True

    def restored(self, path: object, *, weights: bool, data: bool) -> None:
        """A path was read; within `call`, or by itself."""
        now: _Call | None = getattr(self._calls, "now", None)
        place = (now and now.path) or path_of(path)
        if place is None or (now is not None and place in now.restored):
            return
        if now is not None:
            now.restored.append(place)
        self._evidence.restored(place, weights=weights, data=data)

    # Whose weights come from where.

    def trained(self, weights: Mapping[Any, str]) -> None:
        """These are weights that are trained: a save has them, or an optimizer is applied to them."""
        with self._lock:
            self._trained.update(weights)

    def known(self) -> set[Any]:
        """Keys of the weights that are trained, or that were restored from a path, as far as that is known by now."""
        with self._lock:
            return {*self._trained, *(key for status in self._restores for key in status.found())}

    def came_from(self, path: object, found: Callable[[], Mapping[Any, str]]) -> None:
        """Some weights come from a path; `found` tells now and later which."""
        now: _Call | None = getattr(self._calls, "now", None)
        place = (now and now.path) or path_of(path)
        if place is not None:
            self._restores.append(_Status(place, found))

    def group(self, path: object, count: int, names: tuple[str, ...]) -> None:
        """A restore from a path gave so many arrays of weights, which nothing else knows."""
        place = path_of(path)
        if place is not None and count:
            self._groups = [one for one in self._groups if one[0] != place]
            self._groups.append((place, count, names[:_NAMES]))

    def loose(self, path: str) -> None:
        """A file with numbers in it was read by hand: weights that nobody has restored may come from it."""
        self._loose = path

    def element(self, number: int) -> None:
        """The life's `number`-th element is about to be recorded, from 1."""
        if self._pending:
            self.look_for_commits(element=number)
        if number in ORIGINS_AT:
            self.write_origins()

    def write_origins(self) -> None:
        """Writes down from which files the trained weights come, if anything is known of them."""
        with contextlib.suppress(Exception):
            groups = self._origins()
            if groups:
                self._evidence.origins(groups)

    def _origins(self) -> list[Group]:
        with self._lock:
            trained = dict(self._trained)
            origin: dict[Any, str] = {}
            for status in self._restores:
                found = status.found()
                origin.update(dict.fromkeys(found, status.path))
                trained = {**found, **trained}
        trained.update(self.more(trained.keys()))
        files: dict[str | None, list[Any]] = {}
        for key in trained:
            files.setdefault(origin.get(key, self._loose), []).append(key)
        read = [key for path, keys in files.items() for key in keys if path is not None]
        changed = set(self.changed(read)) if len(files.keys() - {None}) > 1 else set()
        groups: list[Group] = []
        for path, keys in files.items():
            names = tuple(trained[key] for key in keys[:_NAMES])
            moves = not changed.isdisjoint(keys) or (path is None and not set(self.strays).isdisjoint(keys))
            groups.append((path, len(keys), names, moves))
        if self._loose is not None and self._loose not in files and not self._groups:
            groups.append((self._loose, 1, (), None))
        return [*groups, *((*group, None) for group in self._groups)]

    # Files that are complete some time after the call, and those that are given another name.

    def completes_later(
        self,
        complete: Callable[[], bool],
        *,
        known: bool | None = True,
        look: Callable[[str], bool] = bool,
        then: Callable[[str], None] | None = None,
    ) -> None:
        """What the call has begun is complete as soon as `complete` says so; it is asked again and again.

        Args:
            complete: tells it.
            known: whether weights are in it; None: `look` tells by the path, when it is complete.
            look: see `known`.
            then: is called with the path when it is complete.
        """
        now: _Call = self._calls.now
        now.later = True
        with self._lock:
            self._pending += [_Pending(path, complete, look if known is None else None, then) for path in now.began]

    def look_for_commits(self, *, element: int | None = None) -> None:
        """Notes which of the pending files are complete; of those that are long in coming it is asked more rarely."""
        with self._lock:
            pending, self._pending = self._pending, []
            for one in pending:
                if element is not None and element < one.due:
                    self._pending.append(one)
                elif self._is_complete(one):
                    weights = None if one.look is None else one.look(one.path)
                    self._evidence.wrote(one.path, weights=weights)
                    self._open.pop(one.path, None)
                    if one.then is not None:
                        one.then(one.path)
                else:
                    one.asked += 1
                    one.due = (element or 0) + 1 + one.asked // _OFTEN
                    self._pending.append(one)

    @staticmethod
    def _is_complete(one: _Pending) -> bool:
        try:
            return one.complete()
        except Exception:  # it cannot be looked at
            return False

    def is_incomplete(self, path: str) -> bool:
        """Whether a path is being written by hand."""
        return any(one.path == path for one in self._pending)

    def is_ours(self, path: str) -> bool:
        """Whether this life has written a path, or the prefix of TensorFlow's that it belongs to."""
        return path in self._known or os.path.splitext(path)[0] in self._known

    def moved(self, path: str, to: str) -> None:
        """A path is about to have another name: noted if this life has written it, or something in it."""
        if path.endswith(_INDEX) and to.endswith(_INDEX):
            path, to = path.removesuffix(_INDEX), to.removesuffix(_INDEX)
        inside = f"{path}{os.sep}"
        if path not in self._known and not any(one.startswith(inside) for one in self._known):
            return
        self.look_for_commits()
        self._evidence.moved(path, to)
        self._known |= {to + one[len(path) :] for one in self._known if one == path or one.startswith(inside)}


def path_of(given: object) -> str | None:
    """A path that was given to a save or restore, if it is one."""
    if isinstance(given, bytes):
        given = os.fsdecode(given)
    if not isinstance(given, (str, os.PathLike)):
        return None
    path = os.fspath(given)
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    return path if "://" in path else os.path.abspath(path)


def quietly(note: Callable[..., None]) -> Callable[..., None]:
    """What notes something, and keeps its own mistakes from the user's program."""

    @functools.wraps(note)
    def noted(*args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(Exception):
            note(*args, **kwargs)

    return noted


__all__ = ["ORIGINS_AT", "Lineage", "path_of", "quietly"]
