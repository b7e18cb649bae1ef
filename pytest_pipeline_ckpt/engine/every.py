"""Every instant: one recorded run, each state that a kill can leave of it resumed and judged. Imports no pytest.

The recorded run's own tail is the truth: a life that resumes from a state must go on as the run did that was not killed
there. So a pipeline that differs from run to run is judged as exactly as any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import queue
import random
import re
import shutil
import threading
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RecordingRefusedError
from . import checker, crash_states, ledger, operations, power_loss, recording, relocation, store
from .instants import Instant, Timeline, element_records
from .model import Ending, Kill, KillSchedule, Kind, Life, Outcome, Scope, Verdict
from .operations import LogWriter, snapshot
from .runner import Check, live, tails
from .snapshots import Snapshots
from .wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from .process import TrainingProcess

FOLLOWED = 8
"""So many resumed lives, spread evenly over the run, are watched to their end; the others for a while."""
_AT_LEAST, _AFTER_SAVE = 16, 8
"""Training elements for which a resumed life is watched: in all, and behind its first save."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Which of the states one item judges, and how."""

    stride: int
    """Every so many-th of the states is judged."""
    all_states: bool
    """Also those that a resume cannot tell apart."""
    power: bool
    """Also those that a power loss leaves."""
    times: int
    """Kills in a row: 1 is the recorded run's, each further one is drawn from the seed for each state."""
    seed: str
    shard: int
    """From 0: of the states, those whose number leaves this remainder when divided by `shards`."""
    shards: int
    parallel: int
    """Lives at a time."""
    deadline: float | None = None
    """`time.monotonic()` after which no further state is looked at."""


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded life and its log."""

    life: Life
    directory: Path
    root: Path
    meta: recording.Recorded
    timeline: Timeline

    @property
    def log(self) -> Path:
        """The log's directory."""
        return self.directory / recording.LOG

    def killed_at(self, instant: Instant) -> Life:
        """The life as it would have been."""
        ledger = dataclasses.replace(self.life.ledger, records=self.life.ledger.records[: instant.state.elements])
        return Life(ledger, Ending.KILLED, kill=instant.kill or Kill(max(1, instant.element)))


@dataclass(frozen=True, slots=True)
class Judged:
    """One state and what came of it."""

    number: int
    """Among the states of the run, from 0."""
    position: int
    """Among those of this item, from 0."""
    instants: tuple[Instant, ...]
    """Of each kill."""
    verdict: Verdict
    directory: Path
    tails: tuple[str, ...] = ()

    @property
    def schedule(self) -> KillSchedule | None:
        """What repeats these kills live; None: nothing does."""
        kills = [instant.kill for instant in self.instants]
        return KillSchedule(tuple(kill for kill in kills if kill)) if all(kills) else None


@dataclass(frozen=True, slots=True)
class Survey:
    """What one item found."""

    verdict: Verdict
    elements: int = 0
    operations: int | None = None
    """None where they could not be recorded."""
    states: int = 0
    """Of the whole run."""
    mine: int = 0
    """Those of them that are this item's."""
    times: int = 1
    """Kills in a row."""
    judged: int = 0
    """Less than these when the time was up."""
    failures: tuple[Judged, ...] = ()
    directory: Path = Path()
    tails: tuple[str, ...] = ()


@dataclass(frozen=False, slots=True)
class _Found:
    """What has been judged so far."""

    judged: int = 0
    scope: Scope = field(default_factory=Scope)
    failures: list[Judged] = field(default_factory=list)

    def add(self, one: Judged) -> None:
        self.judged += 1
        ours, its = self.scope, one.verdict.scope
        self.scope = Scope(
            *(ours.kills_landed + len(one.instants), ours.saves_crossed + its.saves_crossed),
            *(ours.elements_compared + its.elements_compared, ours.elements_replayed + its.elements_replayed),
        )
        if not one.verdict.exact:
            self.failures.append(one)


class EveryInstant:
    """Judges the states of one item.

    Args:
        check: what is trained.
        extent: which states.
        progress: told how many have been judged, of how many, and how many of them are not exact.
    """

    def __init__(self, check: Check, extent: Extent, progress: Callable[[int, int, int], None]) -> None:
        self._check = check
        self._extent = extent
        self._progress = progress
        self._lock = threading.Lock()
        self._differs: bool | None = None

    def survey(self) -> Survey:
        """Records the run, unless another item has, and judges this item's states.

        Raises:
            WorkerError: the machinery failed.
        """
        life, meta = self._recorded()
        alone = self._check.judge([life], [life])
        directory = self._check.directory
        if not alone.exact:
            return Survey(alone, directory=directory, tails=tails([("the recorded run", life)]))
        if meta.blind:
            return Survey(Verdict(Outcome.UNKNOWN, _blind(meta)), directory=directory)
        facts = checker.reference_facts(life, elements_per_step=self._check.workload.elements_per_step)
        self._ignored = facts.ignored
        self._run = self._run_of(life, directory / "recorded", meta)
        self._longest = _longest(self._run)
        instants = self._instants()
        numbered = instants[:: self._extent.stride]
        mine = numbered[self._extent.shard :: self._extent.shards]
        followed = {numbered[len(numbered) * part // FOLLOWED][0] for part in range(FOLLOWED)}
        found = self._judge_all(mine, followed)
        return self._concluded(found, alone, instants, len(mine))

    def _recorded(self) -> tuple[Life, recording.Recorded]:
        root = self._check.directory / "recorded-run"

        def run(directory: Path) -> tuple[Life, float]:
            start = time.monotonic()
            try:
                life = live(self._first(directory, root, record=root), self._check.conditions)
            except RecordingRefusedError as error:
                life = self._looked_at(store.fresh(directory), root, str(error))
            return life, time.monotonic() - start

        directory = self._check.directory / "recorded"
        life, _ = store.shared_life(directory, run)
        return life, recording.read(directory)

    def _first(self, directory: Path, root: Path, *, record: Path | None, until: int | None = None) -> TrainingProcess:
        """Starts a life that has nothing to resume from."""
        return self._check.engine.start(
            self._check.workload,
            directory,
            store.model_directory(store.fresh(root)),
            slot=0,
            until=until,
            max_elements=self._check.conditions.max_elements,
            record=record,
        )

    def _looked_at(self, directory: Path, root: Path, refused: str) -> Life:
        """The life whose directory is looked at while it waits at each element, in place of a recorded one."""
        process = self._first(directory, root, record=None, until=1)
        snapshots = Snapshots(root, directory / recording.LOG)
        numbers = itertools.count(2)

        def look(directory: Path) -> int:
            with process.stopped():
                snapshots.take(len(ledger.read(directory).records))
            return next(numbers)

        life = live(process, self._check.conditions, watch=look)
        snapshots.take(len(life.ledger.records))
        snapshots.close()
        first, *others = snapshots.boundaries
        meta = recording.Recorded(str(root), first, 1, (), refused, (first, *others))
        recording.write(directory, meta)
        return life

    def _run_of(self, life: Life, directory: Path, meta: recording.Recorded) -> Run:
        known = list(operations.read(directory / recording.LOG))
        timeline = Timeline(known, meta.before, element_records(life.ledger, self._ignored))
        return Run(life, directory, Path(meta.root), meta, timeline)

    def _instants(self) -> list[tuple[int, Instant]]:
        timeline = self._run.timeline
        states: Iterator[crash_states.CrashState]
        states = crash_states.crash_states(timeline.operations, before=timeline.before)
        if self._run.meta.refused is not None:
            states = (state for state in states if state.operation in self._run.meta.boundaries and not state.torn)
        elif self._extent.power:
            lost = power_loss.power_states(timeline.operations, before=timeline.before)
            states = itertools.chain(states, lost)
        if not self._extent.all_states:
            states = crash_states.distinct(states)
        return list(enumerate(map(timeline.instant, states)))

    def _judge_all(self, mine: Sequence[tuple[int, Instant]], followed: set[int]) -> _Found:
        """Judges the states of this item, several at a time, each life at a place of its own."""
        movable = relocation.movable(self._run.log, self._run.timeline.operations, self._run.root)
        places: queue.SimpleQueue[Path] = queue.SimpleQueue()
        parallel = self._extent.parallel if movable else 1
        for number in range(parallel):
            slot = self._check.directory / f"slot-{self._extent.shard}-{number}" / store.RUN
            places.put(slot if movable else self._run.root)
        found = _Found()
        self._progress(0, len(mine), 0)
        with ThreadPoolExecutor(parallel) as pool:
            waiting = {
                pool.submit(self._judge, position, *numbered, places, movable=movable, to_end=numbered[0] in followed)
                for position, numbered in enumerate(mine)
            }
            try:
                for done in as_completed(waiting):
                    one = done.result()
                    if one is not None:
                        found.add(one)
                        self._progress(found.judged, len(mine), len(found.failures))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._check.engine.close()  # ends the lives that the other threads wait for
                raise
        found.failures.sort(key=lambda one: one.number)
        return found

    def _judge(
        self,
        position: int,
        number: int,
        instant: Instant,
        places: queue.SimpleQueue[Path],
        *,
        movable: bool,
        to_end: bool,
    ) -> Judged | None:
        if self._extent.deadline is not None and time.monotonic() > self._extent.deadline:
            return None
        place = places.get()
        try:
            with contextlib.nullcontext() if movable else store.locked(self._run.directory.with_suffix(".place")):
                directory = store.fresh(self._check.directory / f"state-{number}")
                judged = self._lives(position, number, instant, directory, place, to_end=to_end)
            if judged.verdict.exact:
                shutil.rmtree(directory, ignore_errors=True)
            return judged
        finally:
            places.put(place)

    def _lives(
        self, position: int, number: int, instant: Instant, directory: Path, place: Path, *, to_end: bool
    ) -> Judged:
        """Resumes from a state; for a further kill from a state that the resumed life goes through, and so on."""
        run, killed, chosen = self._run, [self._run.killed_at(instant)], [instant]
        while True:
            last = len(chosen) == self._extent.times
            verdict, life = self._resume(run, chosen[-1], killed, directory, place, to_end=to_end, record=not last)
            if last or not verdict.exact:
                break
            lived = directory / f"life-{len(killed) + 1}"
            if self._run.meta.refused is not None:
                _keep(place, lived, life)
            run = self._run_of(life, lived, recording.read(lived))
            following = draw(run, random.Random(f"{self._extent.seed}:{number}:{len(chosen)}"))
            if following is None:
                break
            chosen.append(following)
            killed.append(run.killed_at(following))
        named = [(f"life {len(killed) + 1}", life)]
        return Judged(number, position, tuple(chosen), verdict, directory, () if verdict.exact else tails(named))

    def _resume(
        self,
        run: Run,
        instant: Instant,
        killed: Sequence[Life],
        directory: Path,
        place: Path,
        *,
        to_end: bool,
        record: bool,
    ) -> tuple[Verdict, Life]:
        """The verdict on the life that resumes from a state of `run`, and that life."""
        start = functools.partial(self._life, run, instant, directory / f"life-{len(killed) + 1}", place, record=record)
        to_end = to_end or self._check.conditions.order == "any"
        life = start(to_end=to_end)
        verdict = self._check.judge([self._run.life], [*killed, life])
        if not checker.needs_more_references(verdict):
            return verdict, life
        references = [self._run.life, self._check.reference(1)[0], self._check.reference(2)[0]]
        if life.ending is Ending.STOPPED and self._references_differ(references):
            life = start(to_end=True)  # only whole passes tell whether anything is missing
        return self._check.judge(references, [*killed, life]), life

    def _life(self, run: Run, instant: Instant, directory: Path, place: Path, *, to_end: bool, record: bool) -> Life:
        crash_states.rebuild(instant.state, run.log, place)
        if run.root != place:
            relocation.move(place, run.root)
        process = self._check.engine.start(
            self._check.workload,
            directory,
            store.model_directory(place),
            slot=1,
            until=None if to_end else _AT_LEAST,
            max_elements=self._check.conditions.max_elements,
            ignored=self._ignored,
            record=place if record and self._run.meta.refused is None else None,
        )
        return live(process, self._check.conditions, watch=None if to_end else self._watched_enough)

    def _watched_enough(self, directory: Path) -> int | None:
        """Until which element a life is watched further; None: that was enough."""
        seen = ledger.read(directory)
        taken = element_records(seen, self._ignored)
        further = len(taken) + max(2, len(taken) // 8)
        begun = _training_began(seen.records)
        if begun is None:
            return further
        trained = len(taken) - bisect_left(taken, begun)
        saves = np.flatnonzero(seen.records["kind"] == Kind.SAVED)
        saves = saves[saves >= begun]
        behind = len(taken) - bisect_left(taken, int(saves[0])) if len(saves) else 0
        enough = trained >= _AT_LEAST and (behind >= _AFTER_SAVE or trained > 2 * self._longest)
        return None if enough else further

    def _references_differ(self, references: Sequence[Life]) -> bool:
        with self._lock:
            if self._differs is None:
                rate = self._check.workload.elements_per_step
                self._differs = checker.references_differ(references, elements_per_step=rate)
            return self._differs

    def _concluded(self, found: _Found, alone: Verdict, instants: Sequence[tuple[int, Instant]], mine: int) -> Survey:
        run = self._run
        known = None if run.meta.refused is not None else len(run.timeline.operations) - run.timeline.before
        notes = [*alone.notes]
        if run.meta.threads > 1:
            notes.append(
                f"{run.meta.threads} threads wrote checkpoints: every instant of the recorded run is covered, "
                "other interleavings are not"
            )
        if run.meta.refused is not None:
            what = "the inside of saves and power losses were" if self._extent.power else "the inside of saves was"
            notes.append(f"{what} not covered, only the states between elements: {run.meta.refused}")
        notes += _durability([instant.state for _, instant in instants if instant.state.loss])
        return Survey(
            *(_verdict(found, notes, power=self._extent.power), len(run.timeline.elements), known, len(instants), mine),
            *(self._extent.times, found.judged, tuple(found.failures), self._check.directory),
        )


def _verdict(found: _Found, notes: Sequence[str], *, power: bool) -> Verdict:
    what = "a kill or a power loss" if power else "a kill"
    if not found.failures:
        reason = f"each of {count(found.judged, 'state')} that {what} can leave resumes exactly"
        return Verdict(Outcome.EXACT, reason, scope=found.scope, notes=tuple(notes))
    first = found.failures[0]
    reason = (
        f"{len(found.failures)} of {count(found.judged, 'state')} that {what} can leave do not resume exactly; the "
        f"first, {', then '.join(instant.words for instant in first.instants)}: {first.verdict.reason}"
    )
    return dataclasses.replace(first.verdict, reason=reason, scope=found.scope, notes=tuple(notes))


def _durability(states: Sequence[crash_states.CrashState]) -> list[str]:
    """Which files a power loss takes, and which it never does: what was fsynced, as a durable save does."""
    if not states:
        return []
    lost = {_pattern(name) for state in states for name in state.damaged}
    kept = {_pattern(name) for state in states for name in state.files if crash_states.may_be_read(name)} - lost
    note = f"a power loss takes, because they are not fsynced: {', '.join(sorted(lost))}"
    return [note, *([f"it never takes: {', '.join(sorted(kept))}"] if kept else [])]


def _pattern(name: str) -> str:
    return re.sub(r"[0-9]+", "N", name.removeprefix("model/"))


def _blind(meta: recording.Recorded) -> str:
    return (
        f"the recorded run did what cannot be recorded: {'; '.join(meta.blind)}; so the states that a kill can leave "
        "are not known: use --preempt-at=random"
    )


def _training_began(records: npt.NDArray[np.void]) -> int | None:
    """From which record on a life trains: what it takes before only leads to its place. None: it does not yet."""
    known = np.flatnonzero(np.isin(records["kind"], (Kind.STEP, Kind.SAVED)) & (records["value"].astype(np.int64) >= 0))
    if not len(known):
        return 0  # nothing is known of its steps: every element may count
    steps = records["value"][known].astype(np.int64)
    advanced = np.flatnonzero(steps > steps[0])
    return int(known[advanced[0]]) if len(advanced) else None


def _longest(run: Run) -> int:
    """The most training elements between two saves of a run, its beginning and its end included."""
    saves = np.flatnonzero(run.life.ledger.records["kind"] == Kind.SAVED)
    at = np.searchsorted(run.timeline.elements, saves)
    return int(np.diff([0, *at, len(run.timeline.elements)]).max())


def draw(run: Run, dice: random.Random) -> Instant | None:
    """An instant of a resumed life; None: it has none, because it took no element and changed nothing.

    One of the resume itself, one of its first save, or any: most faults of a resume need a kill there.
    """
    timeline = run.timeline
    if run.meta.refused is not None:
        return _end_of(run)
    states = list(crash_states.crash_states(timeline.operations, before=timeline.before))
    saved = np.flatnonzero(run.life.ledger.records["kind"] == Kind.SAVED)
    first_saved = next((int(at) for at in saved if timeline.taken(int(at))), 0)
    resuming = [state for state in states[1:] if not timeline.taken(state.elements)]
    saving = [state for state in states[1:] if timeline.taken(state.elements) and state.elements <= first_saved]
    taking = [_at_element(states, record) for record in timeline.elements]
    groups = [group for group in (resuming, saving, taking) if group]
    if not groups:
        return None
    group = groups[int(dice.random() * len(groups))]
    state = group[int(dice.random() * len(group))]
    if group is taking:
        taken = timeline.taken(state.elements)
        return Instant(state, taken, Kill(taken), f"after element {taken}")
    return timeline.instant(state)


def _end_of(run: Run) -> Instant | None:
    """Where a life was stopped that was not recorded: what it left is known for this instant only."""
    if run.life.ending is not Ending.STOPPED:
        return None
    taken = len(run.timeline.elements)
    *_, left = crash_states.crash_states(run.timeline.operations, before=run.timeline.before)
    state = dataclasses.replace(left, elements=len(run.life.ledger.records))
    return Instant(state, taken, Kill(taken), f"after element {taken}")


def _keep(place: Path, directory: Path, life: Life) -> None:
    """Keeps what a life that was not recorded left: the one state of it that is known."""
    log = LogWriter(directory / recording.LOG)
    snapshot(place, log)
    log.close()
    why = f"only what {len(life.ledger.records)} records left is known"
    recording.write(directory, recording.Recorded(str(place), log.operations, 1, (), why))


def _at_element(states: Sequence[crash_states.CrashState], record: int) -> crash_states.CrashState:
    """The state when a life has taken the element of a ledger record."""
    whole = [state for state in states if not state.torn and state.elements <= record]
    return dataclasses.replace(whole[-1], elements=record + 1)


__all__ = ["FOLLOWED", "EveryInstant", "Extent", "Judged", "Run", "Survey", "draw"]
