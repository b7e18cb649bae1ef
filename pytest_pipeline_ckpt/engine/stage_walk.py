"""Child side: reads each prefix of a pipeline alone, saves it, and in another process restores it. Imports TensorFlow.

The first life (`record`) reads every prefix from its beginning and saves its iterator at a few places on the way. The
second (`resume`), another process as after a real restart, builds the pipeline anew, restores each of these and reads
on. What they have read is compared elsewhere (`stage_results`). Both live in the user's training code, up to the line
that makes the iterator: so the pipeline is the user's, with the files, the randomness and the options it has there.

In the directory: `recorded.jsonl` and `resumed.jsonl`, a line a stage, written when the stage is done; `<stage>.npy`,
the fingerprints from the beginning, `<stage>-fresh.npy` those of the second process without a restore, and
`<stage>-from-<place>.npy` those behind a restore.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops.iterator_ops import _IteratorSaveable
from tensorflow.python.eager import context

from . import elements
from .fingerprint import fingerprint
from .stage_results import PIPELINE, PLACES, RECORDED, RESUMED
from .stages import facts, stages_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fingerprint import Component
    from .stages import Stage

MOST, LEAST = 4000, 60
"""Elements of a stage that are read at most; and at least, however long that takes."""
SECONDS, SECONDS_IN_ALL = 0.4, 15.0
"""So long a stage is read at most, once it has given the least; and so long a life goes on: then it has seen enough."""
_FRESH = 200


class Reader(Protocol):
    """An iterator over a prefix."""

    def take(self) -> list[Component] | None:
        """The components of the next element; None: there is none."""

    def save(self, prefix: str) -> None:
        """Saves the iterator as the training's own checkpoint would."""

    def restore(self, prefix: str) -> None:
        """Brings the iterator to where it was saved."""


class EagerReader:
    """An iterator in a `tf.train.Checkpoint`."""

    def __init__(self, dataset: Any) -> None:
        self._iterator = iter(dataset)
        self._checkpoint = tf.train.Checkpoint(iterator=self._iterator)

    def take(self) -> list[Component] | None:
        """See `Reader`."""
        try:
            return elements.components(next(self._iterator))
        except StopIteration:
            return None

    def save(self, prefix: str) -> None:
        """See `Reader`."""
        self._checkpoint.write(prefix)

    def restore(self, prefix: str) -> None:
        """See `Reader`."""
        self._checkpoint.read(prefix).assert_consumed()


class SessionReader:
    """An iterator in a `Saver`, as `make_saveable_from_iterator` has it, but under a name that is always the same."""

    def __init__(self, dataset: Any) -> None:
        v1 = tf.compat.v1
        iterator = v1.data.make_initializable_iterator(dataset)
        self._inputs: list[Any] = []
        self._regroup = elements.regrouping(elements.flatten_in_graph(iterator.get_next(), self._inputs))
        policy = dataset.options().experimental_external_state_policy or tf.data.experimental.ExternalStatePolicy.FAIL
        self._saver = v1.train.Saver([_IteratorSaveable(iterator._iterator_resource, "iterator", policy)])
        self._session = v1.Session()
        initialisers = [v1.global_variables_initializer(), v1.local_variables_initializer(), v1.tables_initializer()]
        self._session.run([*initialisers, iterator.initializer])

    def take(self) -> list[Component] | None:
        """See `Reader`."""
        try:
            return self._regroup(self._session.run(self._inputs))
        except tf.errors.OutOfRangeError:
            return None

    def save(self, prefix: str) -> None:
        """See `Reader`."""
        self._saver.save(self._session, prefix, write_meta_graph=False, write_state=False)

    def restore(self, prefix: str) -> None:
        """See `Reader`."""
        self._saver.restore(self._session, prefix)


class FileCaches:
    """The files of `cache(filename)`: those that a prefix made are put away, so that the next begins as this one did.

    Args:
        paths: where the pipeline caches.
    """

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._before = set(self._files())

    def put_away(self, directory: Path) -> None:
        """Moves what has come since into a directory, with a list of where it was."""
        directory.mkdir(parents=True, exist_ok=True)
        moved = {}
        for number, path in enumerate(sorted(set(self._files()) - self._before)):
            moved[str(number)] = str(path)
            shutil.move(path, directory / str(number))
        (directory / "moved.json").write_text(json.dumps(moved))

    def bring_back(self, directory: Path) -> None:
        """Copies what was put away to where it was."""
        for number, path in json.loads((directory / "moved.json").read_text()).items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(directory / number, path)

    def _files(self) -> Iterator[Path]:
        for path in map(Path, self._paths):
            yield from path.parent.glob(f"{path.name}*")


class Walk:
    """Goes through the stages of one pipeline.

    Args:
        dataset: the pipeline as the training has it.
        directory: for what is found.
        lenient: what saves it in a session has a policy of its own, which does not refuse stateful ops.
    """

    def __init__(self, dataset: Any, directory: Path, *, lenient: bool) -> None:
        self._options = dataset.options()
        in_session = not context.executing_eagerly()
        if in_session and lenient and self._options.experimental_external_state_policy is None:
            ignoring = tf.data.Options()
            ignoring.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
            self._options = self._options.merge(ignoring)
        self._stages = stages_of(dataset)
        self._facts = [facts(stage, self._options) for stage in self._stages]
        self._directory = directory
        self._until = time.monotonic() + SECONDS_IN_ALL
        self._caches = FileCaches([fact["keeps"] for fact in self._facts if fact["keeps"] not in (None, "memory")])
        self._reader: type[EagerReader | SessionReader] = SessionReader if in_session else EagerReader

    def _look(self) -> None:
        """Writes down what can be said without reading anything: where TensorFlow itself dies, this much is known."""
        about = {
            "symbolic": bool(self._options.experimental_symbolic_checkpoint),
            "policy": getattr(self._options.experimental_external_state_policy, "name", None),
        }
        _append(self._directory / PIPELINE, {"options": about, "stages": self._facts})

    def record(self) -> None:
        """The first life."""
        self._look()
        for number, stage in enumerate(self._stages):
            found = self._recorded(number, stage)
            if self._late:
                return
            _append(self._directory / RECORDED, {"number": number, **found})
            self._caches.put_away(self._directory / f"{number}-cache")

    def resume(self) -> None:
        """The second life."""
        recorded = [json.loads(line) for line in (self._directory / RECORDED).read_text().splitlines()]
        for stage, known in zip(self._stages, recorded, strict=False):
            number, errors = known["number"], {}
            if known["read"] and not known["opaque"]:
                self._caches.bring_back(self._directory / f"{number}-cache")
                self._read(self._open(stage), min(known["read"], _FRESH)).save(self._path(number, "-fresh"))
                self._caches.put_away(self._directory / f"{number}-fresh-cache")
            for place in [] if known["opaque"] else known["saved"]:
                self._caches.bring_back(self._directory / f"{number}-cache")
                read = self._resumed(number, stage, place, known["read"] - place + known["ended"])
                read.save(self._path(number, f"-from-{place}"))
                if read.error is not None:
                    errors[str(place)] = read.error
                self._caches.put_away(self._directory / f"{number}-from-{place}-cache")
            if self._late:
                return
            _append(self._directory / RESUMED, {"number": number, "errors": errors})

    @property
    def _late(self) -> bool:
        """Whether the time is up: a stage that was not read as far as it should is not told of."""
        return time.monotonic() > self._until

    def _path(self, number: int, what: str = "") -> Path:
        return self._directory / f"{number}{what}.npy"

    def _prefix(self, number: int, place: int) -> str:
        return str(self._directory / f"{number}-at-{place}" / "iterator")

    def _open(self, stage: Stage) -> Reader:
        return self._reader(stage.dataset.with_options(self._options))

    def _recorded(self, number: int, stage: Stage) -> dict[str, Any]:
        read, saved = _Read(), []
        try:
            reader = self._open(stage)
        except Exception as error:  # whatever it is: it is what the stage does
            return {"read": 0, "ended": False, "opaque": False, "saved": [], "bytes": 0, "error": _told(error, "read")}
        until: float | None = None
        while len(read.values) < MOST and (len(read.values) < LEAST or until is None or time.monotonic() < until):
            if self._late or not read.take(reader):
                break
            until = until or time.monotonic() + SECONDS  # the first element may take a while, which says nothing
            if len(read.values) in PLACES:
                try:
                    reader.save(self._prefix(number, len(read.values)))
                except Exception as error:
                    read.error = _told(error, "save")
                    break
                saved.append(len(read.values))
        read.save(self._path(number))
        size = read.size // max(1, len(read.values))
        known = {"read": len(read.values), "ended": read.ended, "opaque": read.opaque, "bytes": size}
        return {**known, "saved": saved, "error": read.error}

    def _resumed(self, number: int, stage: Stage, place: int, most: int) -> _Read:
        try:
            reader = self._open(stage)
            reader.restore(self._prefix(number, place))
        except Exception as error:
            return _Read(_told(error, "restore"))
        return self._read(reader, most)

    def _read(self, reader: Reader, most: int) -> _Read:
        read = _Read()
        while len(read.values) < most and not self._late and read.take(reader):
            pass
        return read


class _Read:
    """What has been read of a prefix."""

    def __init__(self, error: dict[str, str] | None = None) -> None:
        self.values: list[int] = []
        self.ended = False
        self.opaque = False
        self.error = error
        self.size = 0

    def take(self, reader: Reader) -> bool:
        """Reads one element; False: there is none, or it could not be read."""
        try:
            parts = reader.take()
        except Exception as error:
            self.error = _told(error, "read")
            return False
        if parts is None:
            self.ended = True
            return False
        self.opaque = self.opaque or elements.has_opaque(parts)
        self.values.append(fingerprint(parts).value)
        self.size += sum(getattr(part, "nbytes", 0) for part in parts)
        return True

    def save(self, path: Path) -> None:
        """Writes the fingerprints."""
        np.save(path, np.array(self.values, np.uint64))


def _told(error: Exception, when: str) -> dict[str, str]:
    message = getattr(error, "message", None) or str(error)
    return {"when": when, "type": type(error).__name__, "message": str(message)}


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


__all__ = ["LEAST", "MOST", "Walk"]
