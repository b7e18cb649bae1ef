"""What a life showed of where its model is: counters, and the files that it wrote and read. Both sides; no TensorFlow.

A sidecar of the ledger, `evidence.jsonl`, a JSON object a line. Each line has `at`, the number of records that the
ledger had: so it is known which elements had been taken. What a line `is`:

- `counter`: something that counts the model's steps, or may: `id` (in this life), `name`, `role`, `owner` in words,
  and how many of its steps make a `group`; a
  line more when one of these has changed. An `id` that is read and never announced has turned out to count nothing;
- `read`: `values` of each counter that could be read then, by its id; `why` is `save`, `restore`, `element` or `end`;
- `writing`, `wrote`: a save to `path` began, and was complete (an asynchronous one: committed). The state is that of
  the beginning. `weights`, `data`: whether trained variables, whether the position of an iterator, were in it. Of a
  file that is written by hand it is known only in the end whether weights are in it, and nothing of iterators;
- `moved`: `path` became `to`;
- `restored`: `path` was read, with `weights` and `data` as above;
- `origins`: when training had begun, for each file (`path`, null: none) how many of the trained weights come from it
  (`variables`), and the `names` of a few;
- `weight`: an array that may be trained: `id` (in this life), `name`, `shape`, in which `function` of the user's it is,
  if it is no variable of TensorFlow's, the `ordinal` among those of the same name and shape, whether it is `known` to
  be a part of the state, an optimizer is `applied` to it, and the `users` code has made it;
- `values`: of all these arrays by their ids a hash each of those that are not what they were in the line before; null:
  it cannot be had; `why` is `element`, `save`, or `apply`: an optimizer is about to be applied for the first time;
  `rounded` lists those among them, if any, that have only numbers that a narrower type has.

Paths below the run's directory are relative to it, because lives may resume at another place; others are absolute.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

FILE = "evidence.jsonl"
Role = Literal["model", "bare", "data"]
"""Whose counter it is: of something that holds trained variables; of something that holds neither these nor an
iterator, so that nothing contradicts it; of something that holds iterators only, which says where the *data* is."""
Why = Literal["save", "restore", "element", "end", "apply"]


JAX_STATE = "a JAX state with the weights"
"""The owner of a counter that is a JAX training's."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that may count the model's steps."""

    name: str
    """The same for the same counter in every life, as far as code allows: `Adam.iterations`, `step`."""
    role: Role
    owner: str = ""
    """In words, for messages: `the optimizer of Sequential`."""
    group: int = 1
    """So many of its steps are added up before the weights change: what is between two is in no weights."""

    @property
    def of_saves(self) -> bool:
        """Whether it counts saves, and so tells nothing of how far anything is."""
        return self.name.partition("#")[0] == "save_counter"


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment; one that could not be read is absent."""

    at: int
    why: Why
    values: Mapping[str, int]
    """By the counter's name."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A file, or what stands for a checkpoint of several (a prefix, a directory)."""

    path: str
    began: int
    """Records in the ledger when the state was taken."""
    done: int | None = None
    """Records in the ledger when it was complete; None: it was not, in this life."""
    weights: bool = True
    data: bool = False
    moves: int = field(default=0, compare=False)
    """How many renames the life had made before, which puts both into one order."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A file that was read."""

    at: int
    path: str
    weights: bool = True
    data: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Trained weights that come from one file; or from none, if the path is None: they are new in this life."""

    at: int
    path: str | None
    variables: int
    names: tuple[str, ...] = ()
    changed: bool | None = False
    """Whether any of them was seen to change from one element to another; only looked at where there are others, and of
    new ones where no optimizer has them. None: they are no variables that could be looked at."""


@dataclass(frozen=True, slots=True)
class Weight:
    """An array that may be trained."""

    name: str
    shape: tuple[int, ...]
    ordinal: int = 1
    """Among those of the same name and shape."""
    function: str = ""
    """In which of the user's functions it is a variable; empty: it is one of TensorFlow's."""
    known: bool = False
    """Whether it is known to be a weight, or a part of the state: it is saved, or an optimizer is applied to it."""
    applied: bool = False
    """Whether an optimizer is applied to it; of an array outside of TensorFlow, whether a library saves it as state."""
    users: bool = False
    """Whether the user's code has made it, or a layer that trains it, if it is one of TensorFlow's."""

    @property
    def tree(self) -> tuple[str, str] | None:
        """The function and the name of the variable in which it lies with others; None: it lies in none."""
        root, inner, _ = self.name.partition("/")
        return (self.function, root) if self.function and inner else None

    def numbered(self, ordinal: int) -> Weight:
        """The same with another ordinal."""
        return replace(self, ordinal=ordinal)

    @property
    def identity(self) -> tuple[str, str, tuple[int, ...], int]:
        """The same for the same array in every life, as far as code allows."""
        return self.function, self.name, self.shape, self.ordinal


@dataclass(frozen=True, slots=True)
class Look:
    """What all weights were at one moment."""

    at: int
    why: Why
    values: Mapping[int, int]
    """Hashes by the weights' places in `Evidence.weights`; of those that could be had."""
    rounded: frozenset[int] = frozenset()
    """The places of those that have changed since the last look and have only numbers that a narrower type has."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one life showed, each in its order."""

    counters: tuple[Counter, ...] = ()
    readings: tuple[Reading, ...] = ()
    saved: tuple[Saved, ...] = ()
    moved: tuple[tuple[int, str, str], ...] = ()
    """Records in the ledger, from where, to where."""
    restored: tuple[Restored, ...] = ()
    origins: tuple[Origin, ...] = ()
    """As the last line says."""
    weights: tuple[Weight, ...] = ()
    looks: tuple[Look, ...] = ()
    of_others: tuple[Saved, ...] = ()
    """Of a gang's worker: what the others saved meanwhile, by the records of this life."""

    @property
    def apart(self) -> bool:
        """Whether no checkpoint of TensorFlow's can hold the model: it is JAX's, or in arrays of the user's code."""
        in_jax = any(one.owner == JAX_STATE for one in self.counters)
        return in_jax or (bool(self.weights) and all(one.function for one in self.weights))

    def upto(self, records: int, *, saving: bool = False) -> Evidence:
        """What had been shown when the ledger had so many records: of a life that was killed then.

        `saving`: within a save, so what was complete with the last of these records was not yet.
        """
        last = records - saving
        saved = tuple(
            replace(one, done=None if one.done is None or one.done > last else one.done)
            for one in self.saved
            if one.began <= records
        )
        return Evidence(
            self.counters,
            tuple(one for one in self.readings if one.at <= records),
            saved,
            tuple(one for one in self.moved if one[0] <= records),
            tuple(one for one in self.restored if one.at <= records),
            tuple(one for one in self.origins if one.at <= records),
            self.weights,
            tuple(one for one in self.looks if one.at <= records),
            tuple(one for one in self.of_others if one.began <= records),
        )


class EvidenceWriter:
    """Appends lines, each by one `os.write`, so they survive SIGKILL; safe to call from any thread.

    What processes show that the user's code forks is not this life's: they write none.

    Args:
        directory: of the life.
        root: of the run: what is below it is named relative to it.
        records: tells how many records the ledger has.
    """

    def __init__(self, directory: Path, root: Path | None, records: Callable[[], int]) -> None:
        self._file = os.open(directory / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._root = None if root is None else os.path.realpath(root)
        self._records = records
        self._lock = threading.RLock()  # a signal handler may interrupt
        self._counters = 0
        self._in_child = False
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Whoever held the lock in the parent is not here."""
        self._in_child = True
        self._lock = threading.RLock()

    def number(self) -> int:
        """A new id, for something that may turn out to be a counter; it can be read before it is announced."""
        with self._lock:
            number, self._counters = self._counters, self._counters + 1
        return number

    def counter(self, counter: Counter, *, number: int | None = None) -> int:
        """Announces a counter, or what is now known of one; returns the id that its readings carry."""
        number = self.number() if number is None else number
        said = {"name": counter.name, "role": counter.role, "owner": counter.owner, "group": counter.group}
        self._append("counter", id=number, **said)
        return number

    def now(self) -> int:
        """This moment: how many records the ledger has."""
        return self._records()

    def read(self, why: Why, values: Mapping[int, int], *, at: int | None = None) -> None:
        """The values of all counters that can be read now, by their ids; `at`: of which moment, else of now."""
        self._append("read", at, why=why, values={str(number): value for number, value in values.items()})

    def writing(self, path: str, *, weights: bool, data: bool, at: int | None = None) -> None:
        """A save begins; `at`: of which moment its state is, else of now."""
        self._append("writing", at, path=self.place(path), weights=weights, data=data)

    def wrote(self, path: str, *, weights: bool | None = None) -> None:
        """The save to this path is complete; with `weights`, where that was not known before."""
        self._append("wrote", path=self.place(path), **({} if weights is None else {"weights": weights}))

    def moved(self, path: str, to: str) -> None:
        """What was at one path is at another."""
        self._append("moved", path=self.place(path), to=self.place(to))

    def restored(self, path: str, *, weights: bool, data: bool) -> None:
        """A file was read."""
        self._append("restored", path=self.place(path), weights=weights, data=data)

    def origins(self, groups: Iterable[tuple[str | None, int, tuple[str, ...], bool | None]]) -> None:
        """From which file how many of the trained weights come, the names of a few, and whether any has changed."""
        named = [
            {
                "path": None if path is None else self.place(path),
                "variables": number,
                "names": list(names),
                "changed": changed,
            }
            for path, number, names, changed in groups
        ]
        self._append("origins", groups=named)

    def weight(self, weight: Weight, *, number: int) -> None:
        """Announces a weight, or what is now known of one, under an id of its own."""
        self._append("weight", id=number, **asdict(weight))

    def values(self, why: Why, changed: Mapping[int, int | None], rounded: Collection[int] = ()) -> None:
        """The values of all weights are those of the last time but for these, by their ids; None: not to be had.

        `rounded`: the ids of those that have only numbers that a narrower type has.
        """
        values = {str(number): value for number, value in changed.items()}
        self._append("values", why=why, values=values, **({"rounded": sorted(rounded)} if rounded else {}))

    def place(self, path: str) -> str:
        """A path as lives at different places name it alike."""
        if "://" in path:
            return path
        path = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
        if self._root is not None and path.startswith(f"{self._root}/"):
            return os.path.relpath(path, self._root)
        return path

    def _append(self, what: str, at: int | None = None, /, **more: Any) -> None:
        if self._in_child:
            return
        line = json.dumps({"at": self._records() if at is None else at, "is": what, **more}, separators=(",", ":"))
        os.write(self._file, line.encode("utf-8", "surrogateescape") + b"\n")


def read(directory: Path) -> Evidence:
    """What the life in a directory showed; a torn last line is dropped."""
    path = directory / FILE
    if not path.exists():
        return Evidence()
    return parse(map(json.loads, path.read_bytes().split(b"\n")[:-1]))


@dataclass(frozen=False, slots=True)
class _Parsed:
    """What has been read so far."""

    counters: dict[str, Counter] = field(default_factory=dict)
    readings: list[tuple[int, Why, Mapping[str, int]]] = field(default_factory=list)
    """With the values by the counters' ids."""
    saved: list[Saved] = field(default_factory=list)
    moved: list[tuple[int, str, str]] = field(default_factory=list)
    restored: list[Restored] = field(default_factory=list)
    origins: tuple[Origin, ...] = ()
    weights: dict[int, Weight] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)


def parse(lines: Iterable[Mapping[str, Any]]) -> Evidence:
    """The lines of a sidecar."""
    found = _Parsed()
    for line in lines:
        _take(found, line)
    readings = []
    for at, why, values in found.readings:
        known = {found.counters[number].name: value for number, value in values.items() if number in found.counters}
        if known:
            readings.append(Reading(at, why, known))
    return Evidence(
        tuple(found.counters.values()),
        *(tuple(readings), tuple(found.saved), tuple(found.moved), tuple(found.restored), found.origins),
        *(tuple(found.weights[number] for number in sorted(found.weights)), tuple(found.looks)),
    )


def _take(found: _Parsed, line: Mapping[str, Any]) -> None:
    at, what = line["at"], line["is"]
    if what == "counter":
        found.counters[str(line["id"])] = Counter(line["name"], line["role"], line["owner"], line["group"])
    elif what == "read":
        found.readings.append((at, line["why"], line["values"]))
    elif what == "writing":
        found.saved.append(Saved(line["path"], at, None, line["weights"], line["data"], len(found.moved)))
    elif what == "wrote":
        for number in range(len(found.saved) - 1, -1, -1):
            one = found.saved[number]
            if one.path == line["path"] and one.done is None:
                found.saved[number] = replace(one, done=at, weights=line.get("weights", one.weights))
                break
    elif what == "moved":
        found.moved.append((at, line["path"], line["to"]))
    elif what == "restored":
        found.restored.append(Restored(at, line["path"], line["weights"], line["data"]))
    elif what == "weight":
        told = {name: line[name] for name in ("name", "ordinal", "function", "known", "applied", "users")}
        found.weights[line["id"]] = Weight(shape=tuple(line["shape"]), **told)
    elif what == "values":
        values: dict[int, int | None] = dict(found.looks[-1].values) if found.looks else {}
        values.update({int(number): value for number, value in line["values"].items()})
        kept = {number: value for number, value in values.items() if value is not None}
        found.looks.append(Look(at, line["why"], kept, frozenset(line.get("rounded", ()))))
    elif what == "origins":
        found.origins = tuple(
            Origin(at, group["path"], group["variables"], tuple(group["names"]), group["changed"])
            for group in line["groups"]
        )


__all__ = [
    "FILE",
    "JAX_STATE",
    "Counter",
    "Evidence",
    "EvidenceWriter",
    "Look",
    "Origin",
    "Reading",
    "Restored",
    "Role",
    "Saved",
    "Weight",
    "Why",
    "parse",
    "read",
]
