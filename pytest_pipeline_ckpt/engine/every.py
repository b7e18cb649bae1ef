"""Every instant: one recorded run, each state that a kill can leave of it resumed and judged. Imports no pytest.

The recorded run's own tail is the truth: a life that resumes from a state must go on as the run did that was not killed
there. So a pipeline that differs from run to run is judged as exactly as any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import random
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from . import crash_states, further_kills, power_loss, relocation, runs, store
from .model import KillSchedule, Outcome, Scope, Verdict
from .resuming import Resumer
from .runner import Check, Lived, tails
from .wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from . import recording
    from .instants import Instant, Timeline
    from .model import Life, LifeSpan
    from .runs import Run

_ANEW = "a complete checkpoint stood, and the life began anew, with a new model"
FOLLOWED = 8
"""So many resumed lives, spread evenly over the run, are watched to their end; the others for a while."""


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
    lives: tuple[Lived, ...] = ()
    """The killed ones as they would have been, and the last one; none where it is exact."""

    @property
    def words(self) -> str:
        """Where the kills land: `after element 20, then before the first element`."""
        return ", then ".join(instant.words for instant in self.instants)

    @property
    def schedule(self) -> KillSchedule | None:
        """What repeats these kills live; None: nothing does."""
        kills = [instant.kill for instant in self.instants]
        return KillSchedule(tuple(kill for kill in kills if kill)) if all(kills) else None


@dataclass(frozen=True, slots=True)
class Mapped:
    """What came of one state, for a map of the run."""

    number: int
    """Among the states of the run, from 0."""
    element: int
    """Training elements taken before."""
    outcome: Outcome
    """Of a state whose resumed life was killed at several instants: the first that is not exact."""
    loss: bool
    """A power loss leaves it."""


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
    sequences: int = 0
    """Of kills that were judged: more than states where resumed lives were killed again."""
    failures: tuple[Judged, ...] = ()
    directory: Path = Path()
    tails: tuple[str, ...] = ()
    states_judged: tuple[Mapped, ...] = ()
    saves: tuple[int, ...] = ()
    """Training elements taken before each save of the recorded run."""
    run: Life | None = None
    """The recorded run."""
    spans: tuple[LifeSpan, ...] = ()
    """Where it trained."""
    power: bool = False
    """States that a power loss leaves are among them."""


@dataclass(frozen=True, slots=True)
class _State:
    """One state that this item judges."""

    number: int
    """Among the states of the run, from 0."""
    instant: Instant
    position: int
    """Among those of this item, from 0."""
    followed: bool
    """Watched to the end, and killed again at each instant of its resume."""


@dataclass(frozen=False, slots=True)
class _Found:
    """What has been judged so far."""

    judged: int = 0
    """States."""
    sequences: int = 0
    """Of kills: a state has several when its resumed life was killed at several instants."""
    scope: Scope = field(default_factory=Scope)
    failures: list[Judged] = field(default_factory=list)
    mapped: list[Mapped] = field(default_factory=list)

    def add(self, of_a_state: Sequence[Judged]) -> None:
        self.judged += bool(of_a_state)
        self.sequences += len(of_a_state)
        for one in of_a_state:
            ours, its = self.scope, one.verdict.scope
            self.scope = Scope(
                *(ours.kills_landed + len(one.instants), ours.saves_crossed + its.saves_crossed),
                *(ours.elements_compared + its.elements_compared, ours.elements_replayed + its.elements_replayed),
                *(ours.began_anew + its.began_anew, ours.resumed + its.resumed),
            )
        bad = [one for one in of_a_state if not one.verdict.exact]
        self.failures += bad
        for one in (bad or of_a_state)[:1]:
            first = one.instants[0]
            self.mapped.append(Mapped(one.number, first.element, one.verdict.outcome, bool(first.state.loss)))


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
        self._place_matters = check.directory / "place-matters"
        """There if lives that resume elsewhere fail, where those at the recorded place do not; for all items."""
        self._confirmed: set[tuple[Outcome, str]] = set()
        """Kinds of failure that lives at the recorded place have too."""

    def survey(self) -> Survey:
        """Records the run, unless another item has, and judges this item's states.

        Raises:
            WorkerError: the machinery failed.
        """
        life, lived = runs.first_run(self._check)
        alone = self._check.judge_alone(life)
        directory = self._check.directory
        if alone.exact:
            alone = self._check.ensure_saved(alone, life, runs.left(self._check))
        if not alone.exact:
            return Survey(
                alone, directory=directory, tails=tails([("the recorded run", life)]), run=life, spans=alone.lives
            )
        ignored = runs.ignored_streams(self._check, life)
        self._run = runs.run_of(life, lived, ignored)
        elsewhere = self._run.saved_elsewhere()
        unknown = _blind(self._run.meta) if self._run.meta.blind else elsewhere and _elsewhere(elsewhere)
        if unknown:
            return Survey(Verdict(Outcome.UNKNOWN, unknown), directory=directory)
        self._resumer = Resumer(self._check, self._run, ignored)
        instants = self._instants()
        numbered = instants[:: self._extent.stride]
        mine = numbered[self._extent.shard :: self._extent.shards]
        followed = {numbered[len(numbered) * part // FOLLOWED][0] for part in range(FOLLOWED)}
        found = self._judge_all([_State(*one, position, one[0] in followed) for position, one in enumerate(mine)])
        return self._concluded(found, alone, instants, len(mine))

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
            states = crash_states.distinct(states, may_be_read=timeline.names.may_be_read)
        return list(enumerate(map(timeline.instant, states)))

    def _judge_all(self, mine: Sequence[_State]) -> _Found:
        """Judges the states of this item: each life at a place of its own, if that changes nothing."""
        if relocation.movable(self._run.log, self._run.timeline.operations, self._run.root):
            found = self._judge_at_places(mine, movable=True)
            if not self._place_matters.exists():
                return found
        return self._judge_at_places(mine, movable=False)

    def _judge_at_places(self, mine: Sequence[_State], *, movable: bool) -> _Found:
        """Judges the states of this item, several at a time."""
        places: queue.SimpleQueue[Path] = queue.SimpleQueue()
        parallel = self._extent.parallel if movable else 1
        for number in range(parallel):
            slot = self._check.directory / f"slot-{self._extent.shard}-{number}" / store.RUN
            places.put(slot if movable else self._run.root)
        found = _Found()
        self._progress(0, len(mine), 0)
        with ThreadPoolExecutor(parallel) as pool:
            waiting = {pool.submit(self._judge, state, places, movable=movable) for state in mine}
            try:
                for done in as_completed(waiting):
                    found.add(done.result())
                    self._progress(found.judged, len(mine), len(found.failures))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._check.engine.close()  # ends the lives that the other threads wait for
                raise
        found.failures.sort(key=lambda one: one.number)
        found.mapped.sort(key=lambda one: one.number)
        return found

    def _judge(self, state: _State, places: queue.SimpleQueue[Path], *, movable: bool) -> list[Judged]:
        """What came of one state, with all its further kills; empty when the time is up."""
        late = self._extent.deadline is not None and time.monotonic() > self._extent.deadline
        if late or (movable and self._place_matters.exists()):
            return []
        place = places.get()
        try:
            with contextlib.nullcontext() if movable else self._recorded_place():
                directory = store.fresh(self._check.directory / f"state-{state.number}")
                judged = self._first_kill(state, directory, place)
            if movable and not self._place_matters.exists():
                self._look_whether_place_matters(state, judged)
            if all(one.verdict.exact for one in judged):
                shutil.rmtree(directory, ignore_errors=True)
            return judged
        finally:
            places.put(place)

    @contextlib.contextmanager
    def _recorded_place(self) -> Iterator[None]:
        """Where the run was recorded, for one life at a time; whoever resumes elsewhere finds nothing there."""
        with store.locked(self._run.directory.with_suffix(".place")):
            try:
                yield
            finally:
                shutil.rmtree(self._run.root, ignore_errors=True)

    def _look_whether_place_matters(self, state: _State, judged: Sequence[Judged]) -> None:
        """Resumes at the recorded place too, once for each kind of failure: its path may be where nobody looks.

        A path that is compressed, for example, or pickled in parts: then a life that resumes elsewhere fails, and one
        that resumes at the recorded place does not.
        """
        failed = [one.verdict for one in judged if not one.verdict.exact]
        kinds = {(verdict.outcome, re.sub(r"[0-9]+", "0", verdict.reason)) for verdict in failed}
        if kinds <= self._confirmed:
            return
        with self._recorded_place():
            directory = store.fresh(self._check.directory / f"again-{state.number}")
            again = self._first_kill(state, directory, self._run.root)
        shutil.rmtree(directory)
        if all(one.verdict.exact for one in again):
            self._place_matters.touch()
        self._confirmed |= kinds

    def _first_kill(self, state: _State, directory: Path, place: Path) -> list[Judged]:
        """Resumes from a state; where the resumed life is to be killed again, from states of that, and so on."""
        again = self._extent.times > 1
        killed, lived = [Lived(self._run.killed_at(state.instant), self._run.directory)], directory / "life-2"
        verdict, life = self._resumer.resume(
            self._run, state.instant, _lives(killed), lived, place, to_end=state.followed, record=again
        )
        following = []
        if again and verdict.exact:
            run = self._resumer.run_of(life, lived, place)
            following = self._further(run, state) if state.followed else self._drawn(run, state, 1)
        if not following:
            return [self._judged(state, (state.instant,), verdict, directory, [*killed, Lived(life, lived)])]
        chains = ((instant, directory / f"again-{number}") for number, instant in enumerate(following))
        return [self._further_kills(state, run, killed, instant, where, place) for instant, where in chains]

    def _further_kills(
        self, state: _State, run: Run, killed: Sequence[Lived], instant: Instant, directory: Path, place: Path
    ) -> Judged:
        chosen, lives = [state.instant, instant], [*killed, Lived(run.killed_at(instant), run.directory)]
        while True:
            last, lived = len(chosen) == self._extent.times, directory / f"life-{len(lives) + 1}"
            verdict, life = self._resumer.resume(
                run, chosen[-1], _lives(lives), lived, place, to_end=False, record=not last
            )
            if last or not verdict.exact:
                break
            run = self._resumer.run_of(life, lived, place)
            following = self._drawn(run, state, len(chosen))
            if not following:
                break
            chosen += following
            lives.append(Lived(run.killed_at(chosen[-1]), run.directory))
        return self._judged(state, tuple(chosen), verdict, directory, [*lives, Lived(life, lived)])

    def _further(self, run: Run, state: _State) -> list[Instant]:
        """Each instant of a resume and its first save; a drawn one where it has none."""
        return further_kills.each(run) or self._drawn(run, state, 1)

    def _drawn(self, run: Run, state: _State, kills: int) -> list[Instant]:
        drawn = further_kills.draw(run, random.Random(f"{self._extent.seed}:{state.number}:{kills}"))
        return [] if drawn is None else [drawn]

    @staticmethod
    def _judged(
        state: _State, chosen: tuple[Instant, ...], verdict: Verdict, directory: Path, lives: Sequence[Lived]
    ) -> Judged:
        if verdict.exact:
            return Judged(state.number, state.position, chosen, verdict, directory)
        printed = tails([(f"life {len(chosen) + 1}", lives[-1].life)])
        return Judged(state.number, state.position, chosen, verdict, directory, printed, tuple(lives))

    def _concluded(self, found: _Found, alone: Verdict, instants: Sequence[tuple[int, Instant]], mine: int) -> Survey:
        run = self._run
        known = None if run.meta.refused is not None else len(run.timeline.operations) - run.timeline.before
        notes = [*alone.notes]
        if found.scope.began_anew and found.scope.resumed:
            notes.append(f"{found.scope.began_anew} of {count(found.judged, 'state')} lose all progress: {_ANEW}")
        if run.meta.threads > 1:
            notes.append(
                f"{run.meta.threads} threads wrote checkpoints: every instant of the recorded run is covered, "
                "other interleavings are not"
            )
        if run.meta.refused is not None:
            what = "the inside of saves and power losses were" if self._extent.power else "the inside of saves was"
            notes.append(f"{what} not covered, only the states between elements: {run.meta.refused}")
        notes += sorted(set(self._resumer.noted))
        notes += _durability(run.timeline, [instant.state for _, instant in instants if instant.state.loss])
        return Survey(
            *(self._verdict(found, notes), len(run.timeline.elements), known, len(instants), mine),
            *(self._extent.times, found.judged, found.sequences, tuple(found.failures), self._check.directory),
            states_judged=tuple(found.mapped),
            saves=tuple(run.timeline.taken(record) for record in run.saves),
            run=run.life,
            spans=alone.lives,
            power=self._extent.power,
        )

    def _verdict(self, found: _Found, notes: Sequence[str]) -> Verdict:
        power = self._extent.power
        if found.failures:
            first = found.failures[0]
            bad = len({one.number for one in found.failures})
            reason = f"{said(bad, found.judged, power=power)}; the first, {first.words}: {first.verdict.reason}"
            return dataclasses.replace(first.verdict, reason=reason, scope=found.scope, notes=tuple(notes))
        anew = found.scope.began_anew
        if anew and not found.scope.resumed and self._check.conditions.never_resumes == "fail":
            reason = (
                f"none of {count(found.judged, 'state')} was resumed, although a complete checkpoint stood in {anew} "
                f"of them: {_ANEW}"
            )
            return Verdict(Outcome.NEVER_RESUMED, reason, 2, scope=found.scope, notes=tuple(notes))
        return Verdict(Outcome.EXACT, said(0, found.judged, power=power), scope=found.scope, notes=tuple(notes))


def _lives(lived: Sequence[Lived]) -> list[Life]:
    return [one.life for one in lived]


def said(bad: int, judged: int, *, power: bool) -> str:
    """How many states do not resume exactly, of how many."""
    what = "a kill or a power loss" if power else "a kill"
    if not bad:
        return f"each of {count(judged, 'state')} that {what} can leave resumes exactly"
    return f"{bad} of {count(judged, 'state')} that {what} can leave do not resume exactly"


def _durability(timeline: Timeline, states: Sequence[crash_states.CrashState]) -> list[str]:
    """Which files a power loss takes, which it may, and which it never does: fsynced, as their directories are."""
    if not states:
        return []
    lost = {_pattern(name) for state in states for name in state.damaged}
    whole = {name for state in states for name in state.files if timeline.names.may_be_read(name)}
    unsettled = power_loss.unsettled(timeline.operations, before=timeline.before)
    adrift = {_pattern(name) for name in whole if unsettled & {name, *map(str, PurePath(name).parents)}} - lost
    kept = {_pattern(name) for name in whole} - lost - adrift
    notes = [("a power loss takes what is not yet fsynced of", lost)]
    notes += [("their directories are not fsynced, so on some file systems it takes their names", adrift)]
    notes += [("it never takes", kept)]
    return [f"{what}: {', '.join(sorted(names))}" for what, names in notes if names]


def _pattern(name: str) -> str:
    return re.sub(r"[0-9]+", "N", name.removeprefix("model/"))


def _elsewhere(where: str) -> str:
    return (
        f"checkpoints were saved that are not below the checkpoint directory ({where}): a resumed life finds there "
        "what the recorded run has left at its end, and not what a kill leaves: let the training save below "
        "{model_dir}, without anything before it"
    )


def _blind(meta: recording.Recorded) -> str:
    return (
        f"the recorded run did what cannot be recorded: {'; '.join(meta.blind)}; so the states that a kill can leave "
        "are not known: use --preempt-at=random"
    )


__all__ = ["FOLLOWED", "EveryInstant", "Extent", "Judged", "Mapped", "Survey", "said"]
