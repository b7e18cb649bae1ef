"""Two writers of one directory, in threads that can be stopped before each operation on its files."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from pipeline_ckpt import SupersededError
from pipeline_ckpt.incarnations import number_of
from pipeline_ckpt.marks import PARTS, Mark
from pipeline_ckpt.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import Callable

_IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_here = threading.local()
_link = os.link
_clock = itertools.count()


def _stop_before() -> None:
    paced = getattr(_here, "paced", None)
    if paced is not None:
        paced.wait()


def pace() -> None:
    """From now on each operation on files may be waited before; TensorFlow's are Python's, which are faster."""

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            _stop_before()
            return function(*args, **kwargs)

        return call

    def unlink(path: str, *, dir_fd: int | None = None, function: Any = os.unlink) -> None:
        if dir_fd is None and os.path.lexists(path):
            _stop_before()
        function(path, dir_fd=dir_fd)

    def rmtree(path: str, function: Callable[[str], None] = shutil.rmtree) -> None:
        _stop_before()
        function(path)

    def opened(path: str, mode: str) -> Any:
        if mode == "r":  # what is written has a name that nobody looks for
            _stop_before()
        return _found(open, path, mode)

    def stat(path: str) -> Any:
        found = _found(os.stat, path)
        return SimpleNamespace(length=found.st_size, mtime_nsec=found.st_mtime_ns)

    def rename(source: str, target: str, overwrite: bool) -> None:
        assert overwrite, "there are links here"
        _stop_before()
        _found(os.rename, source, target)

    gfile: Any = tf.io.gfile
    gfile.GFile, gfile.stat, gfile.rename, gfile.exists = opened, stat, rename, os.path.exists
    gfile.makedirs = lambda path: os.makedirs(path, exist_ok=True)
    for name, function in (("listdir", before(os.listdir)), ("link", before(os.link)), ("unlink", unlink)):
        setattr(os, name, function)
    shutil.rmtree = rmtree  # type: ignore[assignment]


def _found(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except FileNotFoundError as error:
        raise tf.errors.NotFoundError(None, None, str(error)) from error


class Paced:
    """A function in a thread, which runs so many operations on files at a time.

    Args:
        run: what it runs.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._left = 0.0
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = False
        self.result: Any = None
        self._thread = threading.Thread(target=self._all, daemon=True)
        self._thread.start()

    def go(self, count: float) -> None:
        """Runs up to so many operations, and waits until they are done."""
        if not self.ended:
            self._left = count
            self._go.release()
            self._halted.acquire()

    def wait(self) -> None:
        """Called before each operation."""
        while self._left < 1:
            self._halted.release()
            self._go.acquire()
        self._left -= 1

    def _all(self) -> None:
        self._go.acquire()
        _here.paced = self
        try:
            self.result = self._run()
        except Exception as error:
            self.result = error
        self.ended = True
        self._halted.release()


class Writer:
    """A process that goes on from the newest checkpoint and saves twice; each checkpoint holds its whole history.

    Args:
        directory: where.
        name: its own.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._store = store(directory)
        self._name = name
        self.history: list[str] = []
        """What its newest checkpoint holds."""
        self.looked = self.takes = self.took = -1
        """When it had looked for what to go on from, when it began to take the directory, and when it had taken it."""
        self.saves: list[int] = []
        """When it began those that have succeeded."""

    @property
    def number(self) -> int:
        """Of what it writes as."""
        return number_of(self._store.incarnation)

    def __call__(self) -> None:
        """Runs."""
        self._store.open()
        with self._store.holding():
            held = self._hold()
            if held is not None:
                self._restore(held)
            self.takes = next(_clock)
            self._store.take()
        self.took = next(_clock)
        assert _unpaced(found, self._directory) or not self.history, "nothing counts"
        begins = 0 if held is None else held.step
        self._save(begins + 10)
        self._store.prune()
        self._save(begins + 20)

    def _restore(self, held: Mark) -> None:
        try:
            self.history = content(self._store, held)
        except FileNotFoundError:
            self._store.check_unchanged()  # as those do that read models
            raise

    def _hold(self) -> Mark | None:
        while True:
            marks = self._store.committed()[0]
            self.looked = next(_clock)
            if not marks:
                return None
            if held := self._store.hold(marks[0]):
                return held

    def _save(self, step: int) -> None:
        began = next(_clock)
        history = [*self.history, f"{self._name}:{step}"]
        try:
            prefix = self._store.begin_save(step)
            for part in PARTS:
                Path(prefix + part).write_text(json.dumps(history))
            self._store.commit(Mark(step, ()))
        except (OSError, tf.errors.OpError):
            self._store.check()  # as `InputCheckpointer` does
            raise
        self.history = history
        self.saves.append(began)


def _unpaced(function: Callable[[str], Any], argument: str) -> Any:
    """Calls a function without a stop."""
    paced, _here.paced = _here.paced, None
    try:
        return function(argument)
    finally:
        _here.paced = paced


def store(directory: str) -> CheckpointStore:
    """One that keeps as little as possible."""
    return CheckpointStore(directory, "ckpt", max_to_keep=1, durable=False)


def content(where: CheckpointStore, mark: Mark) -> list[str]:
    """The history that a checkpoint holds."""
    parts = [Path(where.prefix(mark) + part).read_text() for part in PARTS]
    assert parts[0] == parts[1], f"of two writers: {parts}"
    history: list[str] = json.loads(parts[0])
    assert history[-1].endswith(f":{mark.step}"), (mark, history)
    return history


def found(directory: str) -> list[str]:
    """What a process would go on from that begins now; empty for nothing."""
    reader = store(directory)
    marks = reader.committed()[0]
    return content(reader, marks[0]) if marks else []


def interleave(*, earlier: int) -> int:
    """Every way to stop two writers once each; how many there are.

    A runs some operations and is stopped, then so does B; the one runs to its end, and then the other.

    Args:
        earlier: how many others have written before, one after the other.
    """
    count = 0
    template = tempfile.mkdtemp(dir=_IN_MEMORY)
    for number in range(earlier):
        Paced(Writer(template, f"before{number}")).go(float("inf"))
    begins = found(template)
    for b_ends_first in (False, True):
        first = 0
        while not _column(template, first, begins, b_ends_first=b_ends_first):
            first += 1
            count += 1
    shutil.rmtree(template)
    return count


def _column(template: str, first: int, begins: list[str], *, b_ends_first: bool) -> bool:
    """Stops A before its operation `first`, and B before each of its own; whether A has ended before."""
    second = 0
    while True:
        directory = shutil.copytree(template, tempfile.mkdtemp(dir=_IN_MEMORY), dirs_exist_ok=True, copy_function=_link)
        try:
            ended = _once(directory, first, second, begins, b_ends_first=b_ends_first)
        except AssertionError as error:
            raise AssertionError(f"A stopped before {first}, B before {second}, {b_ends_first=}: {error}") from error
        finally:
            shutil.rmtree(directory)
        if ended[0] or ended[1]:
            return ended[0]
        second += 1


def _once(directory: str, first: int, second: int, begins: list[str], *, b_ends_first: bool) -> tuple[bool, bool]:
    """One way; whether A and B have ended before they were stopped."""
    writers = Writer(directory, "A"), Writer(directory, "B")
    a, b = map(Paced, writers)
    a.go(first)
    b.go(second)
    between = found(directory)
    assert between[: len(begins)] == begins, f"{between} was found when both were stopped"
    ended = a.ended, b.ended
    for one in (b, a) if b_ends_first else (a, b):
        one.go(float("inf"))
    results = a.result, b.result
    assert all(one is None or isinstance(one, SupersededError) for one in results), results
    assert None in results, "both were superseded"
    for later, earlier in (writers, writers[::-1]):
        if later.number > earlier.number > 0:
            assert later.looked > earlier.takes, "it did not know of the one whose place it took"
            assert later.took > max(earlier.saves, default=-1), "one that is superseded has saved"
    numbers = [one.number for one in writers if one.took >= 0]
    assert len(set(numbers)) == len(numbers), "both have taken the directory as the same one"
    last = found(directory)
    heads = [one for one, result in zip(writers, results, strict=True) if result is None and one.history == last]
    assert heads, f"{last} was found, and {[one.history for one in writers]} were saved; {results}"
    return ended
