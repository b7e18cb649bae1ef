"""Ledgers made by hand, and a simulated trainer that makes them, for the tests of the checker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pytest_pipeline_ckpt.engine import evidence, ledger, previews
from pytest_pipeline_ckpt.engine.model import UNKNOWN_STEP, Ending, Flag, Kill, Kind, Ledger, Life, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

UINT64 = (1 << 64) - 1
TRAIN, VALID = "train.py:42:main", "train.py:50:main"


def label_of(key: str) -> str:
    """`train.py:42:main` -> `train.py:42, in main`."""
    file, line, function = key.rsplit(":", 2)
    return f"{file}:{line}, in {function}"


@dataclass(frozen=False, slots=True)
class Book:
    """Appends records; fluent, so that a history reads as a sentence."""

    rows: list[tuple[int, int, int, int, int, int, int, int]] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the evidence."""

    def counts(self, name: str, *, role: str = "model", group: int = 1) -> Book:
        """There is a counter; readings carry its name as its id."""
        return self._show("counter", id=name, name=name, role=role, owner="", group=group)

    def read(self, why: str, **values: int) -> Book:
        """Counters are read."""
        return self._show("read", why=why, values=values)

    def wrote(self, path: str, *, weights: bool = True, data: bool = False) -> Book:
        """A save begins, and is complete."""
        self._show("writing", path=path, weights=weights, data=data)
        return self._show("wrote", path=path)

    def moves(self, path: str, to: str) -> Book:
        """A file gets another name."""
        return self._show("moved", path=path, to=to)

    def reads(self, path: str, *, weights: bool = True, data: bool = False) -> Book:
        """A file is read, and all weights come from it."""
        self._show("restored", path=path, weights=weights, data=data)
        return self.come_from({path: ()}) if weights else self

    def come_from(
        self, files: Mapping[str | None, tuple[str, ...]], *, changed: Mapping[str, bool | None] | None = None
    ) -> Book:
        """Weights, a few of them named, come from files; from None: they are new. Some change, or cannot be seen to."""
        seen = changed or {}
        groups = [
            {"path": path, "variables": len(names) or 1, "names": list(names), "changed": seen.get(path or "", False)}
            for path, names in files.items()
        ]
        return self._show("origins", groups=groups)

    def weighs(
        self,
        *names: str,
        known: bool = True,
        applied: bool = True,
        users: bool = False,
        function: str = "",
        shape: tuple[int, ...] = (2,),
    ) -> Book:
        """There are weights; looks carry their names as their ids."""
        for name in names:
            number = sum(line["is"] == "weight" for line in self.shown)
            more = {"ordinal": 1, "function": function, "known": known, "applied": applied, "users": users}
            self._show("weight", id=number, name=name, shape=list(shape), **more)
        return self

    def looks(self, why: str, **values: int | None) -> Book:
        """The weights are looked at: what they are, of those that are not what they were before."""
        ids = {line["name"]: str(line["id"]) for line in self.shown if line["is"] == "weight"}
        return self._show("values", why=why, values={ids[name]: value for name, value in values.items()})

    def rounded(self, *names: str) -> Book:
        """Of what the last look has found, these have only numbers that a narrower type has."""
        self.shown[-1]["rounded"] = [
            line["id"] for line in self.shown if line["is"] == "weight" and line["name"] in names
        ]
        return self

    def element(self, value: int, *, key: str = TRAIN, iterator: int = 0, flags: int = 0, rows: int = 1) -> Book:
        """An element; its rows' digest is its value, so that a batch is the sum of its rows."""
        self._append(Kind.ELEMENT, value, key, iterator, flags=flags, digest=value, rows=rows)
        self.previews.append(previews.pack([np.asarray(value & 0xFFFF, np.int64)]).ljust(ledger.PREVIEW_BYTES, b"\0"))
        return self

    def step(self, value: int, *, key: str = TRAIN, iterator: int = 0) -> Book:
        """The step that is seen before the next element of an iterator."""
        return self._append(Kind.STEP, value, key, iterator)

    def end(self, *, key: str = TRAIN, iterator: int = 0, step: int = 0, idle: int = 0) -> Book:
        """An iterator is exhausted; the model counted `idle` steps there, and is at `step` now."""
        return self._append(Kind.END, step, key, iterator, rows=idle)

    def saved(self, step: int) -> Book:
        """A checkpoint was saved."""
        return self._append(Kind.SAVED, step, None, 0)

    def restored(self, step: int) -> Book:
        """A checkpoint was restored."""
        return self._append(Kind.RESTORED, step, None, 0)

    def done(self, step: int) -> Book:
        """The training code returned."""
        return self._append(Kind.DONE, step, None, 0)

    def train(
        self, values: range | list[int], *, step: int, rate: int = 1, key: str = TRAIN, iterator: int = 0
    ) -> Book:
        """Elements with the step seen before each, from `step` on."""
        for number, value in enumerate(values):
            self.step(step + number // rate, key=key, iterator=iterator)
            self.element(value, key=key, iterator=iterator)
        return self

    def ledger(self, *, opaque: str | None = None) -> Ledger:
        """What was written so far."""
        components = ({"name": "", "dtype": "int64", "shape": []},)
        streams = tuple(Stream(n, key, label_of(key), components) for n, key in enumerate(self.streams))
        previews = np.frombuffer(b"".join(self.previews), np.dtype((np.void, ledger.PREVIEW_BYTES)))
        shown = evidence.parse(self.shown)
        return Ledger(np.array(self.rows, ledger.RECORD), streams, previews, opaque, evidence=shown)

    def finished(self, *, kill: Kill | None = None, opaque: str | None = None) -> Life:
        """A life that ended by itself."""
        return Life(self.ledger(opaque=opaque), Ending.FINISHED, kill, "exit code 0")

    def killed(self, *, standing: tuple[str, ...] = ()) -> Life:
        """A life that was killed where it was to be, when these checkpoints stood."""
        kill = Kill(max(1, len(self.previews)))
        return Life(self.ledger(), Ending.KILLED, kill, "killed by SIGKILL", standing=standing)

    def _show(self, what: str, **more: Any) -> Book:
        self.shown.append({"at": len(self.rows), "is": what, **more})
        return self

    def _append(
        self, kind: Kind, value: int, key: str | None, iterator: int, *, flags: int = 0, digest: int = 0, rows: int = 0
    ) -> Book:
        if key is not None and key not in self.streams:
            self.streams.append(key)
        stream = 0 if key is None else self.streams.index(key)
        self.rows.append((kind, flags, stream, iterator, value & UINT64, digest & UINT64, rows, 0))
        return self


OPAQUE = int(Flag.OPAQUE)

Style = Literal["iterator", "skip", "peek"]
Fault = Literal["behind", "ahead", "restart", "lose", "repeat", "swap", "foreign", "stop", "overrun", "no_model"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a simulated trainer does: `epochs` passes over `size` elements, `rate` of them a step."""

    size: int = 10
    epochs: int = 2
    rate: int = 1
    save_every: int = 3
    validation: int = 0
    """Elements of validation after each epoch."""
    validate_every: int = 0
    """Steps after which one element of an iterator that lasts is taken for validation."""
    style: Style = "iterator"
    lanes: int = 1
    persistent: bool = False
    """One iterator for all epochs (`repeat`) instead of one for each."""
    mixed: bool = False
    """Validation iterators are made by the same code as the training ones (Keras `fit`)."""
    observe_all: int = 64
    observe_every: int = 16
    unobserved: bool = False

    @property
    def total(self) -> int:
        """Training elements a lane in whole steps."""
        return self.size * self.epochs // self.rate * self.rate


@dataclass(frozen=False, slots=True)
class Disk:
    """The newest checkpoint."""

    step: int = 0
    position: int = 0
    exists: bool = False


class Preempted(Exception):  # noqa: N818 - not an error
    """The simulated life was killed."""


@dataclass(frozen=False, slots=True)
class Trainer:
    """One life of a simulated trainer; writes what the tap would."""

    plan: Plan
    disk: Disk
    kill: int | None = None
    fault: Fault | None = None
    amount: int = 1
    swapped: bool = False
    """Two iterators of one step are recorded in the other order."""
    book: Book = field(default_factory=Book)
    _count: int = 0
    _seen: int = 0
    _fresh: bool = False
    _iterators: dict[tuple[str, int], bool] = field(default_factory=dict)
    _step: int = 0
    _resumed: bool = False

    def live(self) -> Life:
        """Lives until its end or its kill."""
        try:
            self._run()
        except Preempted:
            life = self.book.killed()
            return replace(life, kill=Kill(self.kill or 1))
        self.book.done(self._visible())
        return self.book.finished(kill=None if self.kill is None else Kill(self.kill))

    def _run(self) -> None:
        plan = self.plan
        position = self._resume()
        end = plan.total
        if self.fault == "stop" and self._resumed:
            end = max(position, end - plan.rate * self.amount)
        if self.fault == "overrun" and self._resumed:
            end += plan.rate * self.amount
        while self._step * plan.rate < end:
            for offset in range(plan.rate):
                self._take_all(position + offset)
            position += plan.rate
            self._step += 1
            if self._step % plan.save_every == 0:
                self.disk.step, self.disk.position, self.disk.exists = self._step, position, True
                self.book.saved(self._visible())
            self._validate(position)

    def _resume(self) -> int:
        plan = self.plan
        if plan.style == "peek":
            self._take("peek.py:1:main", 0, 10**6)
        position = 0
        if self.disk.exists:
            self._resumed = True
            self._step = self.disk.step
            self.book.restored(self._visible())
            self._fresh = True
            position = self.disk.position
            if self.fault == "behind":
                position = max(0, position - self.amount)
            if self.fault == "ahead":
                position += self.amount
            if self.fault == "restart":
                position = 0
            if self.fault == "no_model":
                self._step = 0
                self.book.restored(self._visible())
            if plan.style == "skip":
                for skipped in range(position):
                    self._take_all(skipped)
        return position

    def _take_all(self, position: int) -> None:
        value = position
        if self._resumed:
            value = self._faulty(position)
        lanes = range(self.plan.lanes)
        for lane in reversed(lanes) if self.swapped else lanes:
            key = TRAIN if lane == 0 else f"train.py:{42 + lane}:main"
            iterator = 0 if self.plan.persistent else 2 * (position // self.plan.size)
            self._take(key, iterator, value + 1000 * (lane + 1))

    def _faulty(self, position: int) -> int:
        if self.fault == "lose":
            return position + 1
        if self.fault == "repeat":
            return position - 1
        if self.fault == "swap":
            return position ^ 1
        if self.fault == "foreign":
            return position + 500
        return position

    def _validate(self, position: int) -> None:
        plan = self.plan
        if plan.validate_every and self._step % plan.validate_every == 0:
            self._take("every.py:7:main", 0, 7 * 10**6 + self._step, counted=False)
        if plan.validation and position // plan.size > (position - plan.rate) // plan.size:
            iterator = 2 * (position // plan.size) - 1
            key = TRAIN if plan.mixed else VALID
            for number in range(plan.validation):
                self._take(key, iterator, 9 * 10**6 + number, counted=plan.mixed)

    def _take(self, key: str, iterator: int, value: int, *, counted: bool = True) -> None:
        plan = self.plan
        first = (key, iterator) not in self._iterators
        self._iterators[key, iterator] = True
        if self._seen < plan.observe_all or self._seen % plan.observe_every == 0 or first or self._fresh:
            self.book.step(self._visible(), key=key, iterator=iterator)
        self._seen += 1
        self._fresh = False
        self.book.element(value, key=key, iterator=iterator)
        if counted and not key.startswith("peek"):
            self._count += 1
            if self.kill is not None and self._count >= self.kill:
                raise Preempted

    def _visible(self) -> int:
        return UNKNOWN_STEP if self.plan.unobserved else self._step


def reference(plan: Plan) -> Life:
    """The run of a right trainer that nobody kills."""
    return Trainer(plan, Disk()).live()


def trial(
    plan: Plan, kills: list[int], *, fault: Fault | None = None, amount: int = 1, swapped: bool = False
) -> list[Life]:
    """The lives of a trainer that is killed at the `kills[i]`-th element of life i + 1; the last is not killed."""
    disk, lives = Disk(), []
    for kill in (*kills, None):
        life = Trainer(plan, disk, kill, fault, amount, swapped).live()
        lives.append(replace(life, kill=None) if kill is None else life)
        if life.ending is not Ending.KILLED:
            break
    return lives
