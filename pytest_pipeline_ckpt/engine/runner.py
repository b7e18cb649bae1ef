"""Reference -> killed -> resumed: carries a trial out and hands its ledgers to the checker. Imports no pytest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import checker, gang, gang_verdict, standing, store, weights, worker
from .model import Ending, KillSchedule, Life, Outcome, Verdict
from .process import TrainingProcess
from .servers import Servers
from .watching import Conditions, live
from .wording import STEPS_BEGIN_ANEW

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from .model import Kill
    from .variables import Values

_NOTHING_TO_RESUME = (
    "the reference run {}, so a life that is started again can only begin anew, and there is nothing to judge: save "
    "checkpoints below {{model_dir}} while it trains, or, if the training is meant to begin anew, pass "
    'never_resumes="allow"'
)
_SAVED_NOTHING = _NOTHING_TO_RESUME.format("saved nothing: no checkpoint, and no file below {model_dir}")
_SAVED_TOO_LATE = _NOTHING_TO_RESUME.format("saved only after it had taken its last element, as an export is")


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, however often it is started."""

    task: Literal["training", "dataset", "script", "weights"]
    payload: bytes
    """Pickled `{"function": ..., "step": ...}`."""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the task; strings in `argv` may hold `{model_dir}`, `{scratch_dir}` and `{worker}`."""
    elements_per_step: int | None = None
    compare_weights: bool | Literal["auto"] = False
    """See `weights`."""
    model_step: str | None = None
    """What tells the model's step; see `worker.Spec`."""


@dataclass(frozen=True, slots=True)
class Lived:
    """A life that was judged, and its directory."""

    life: Life
    directory: Path


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that was carried out."""

    verdict: Verdict
    schedule: KillSchedule | None
    """None when the reference run already decided."""
    directory: Path
    tails: tuple[str, ...] = ()
    """For each life that did not end as planned: its number, status and last output."""
    lives: tuple[Life, ...] = ()
    reference: Life | None = None
    """The run that nobody killed, which they were compared with."""


class Engine:
    """Owns the fork servers of this pytest process; starts lives.

    Args:
        directory: for the servers' logs.
        seed, isolation, say: see `Servers`.
    """

    def __init__(
        self, directory: Path, *, seed: int, isolation: Literal["fork", "spawn"], say: Callable[[str], None]
    ) -> None:
        self.say = say
        self._servers = Servers(directory, seed=seed, isolation=isolation, say=say)

    def start(
        self,
        workload: Workload,
        directory: Path,
        model_dir: Path,
        *,
        slot: int,
        until: int | None = None,
        max_elements: int | None = None,
        ignored: frozenset[str] = frozenset(),
        record: Path | None = None,
        op: int | None = None,
        stages: Mapping[str, Any] | None = None,
        worker_index: int = 0,
        environ: Mapping[str, str] | None = None,
    ) -> TrainingProcess:
        """Starts one life, in the server of `slot`: lives that must differ like real restarts get different slots.

        `environ`: what its environment has besides pytest's own, as a launcher gives it to the worker.
        """
        model_dir.mkdir(parents=True, exist_ok=True)
        spec = worker.Spec(
            directory=str(directory),
            model_dir=str(model_dir),
            cwd=os.getcwd(),
            sys_path=list(sys.path),
            environ={**os.environ, **(environ or {})},
            until=until,
            max_elements=max_elements,
            ignored=sorted(ignored),
            record=None if record is None else str(record),
            op=op,
            stages=None if stages is None else dict(stages),
            model_step=workload.model_step,
            task=workload.task,
            arguments=_filled(workload.arguments, model_dir, worker_index),
        )
        return TrainingProcess(directory, _Launch(self._servers, workload, spec, slot))

    def warm_up(self) -> None:
        """Starts the servers, so that their imports overlap with whatever comes before the first life."""
        self._servers.warm_up()

    def close(self) -> None:
        """Ends all servers and what they still run."""
        self._servers.close()


class _Launch:
    """Starts a life, and starts it again if it turns out to want another server."""

    def __init__(self, servers: Servers, workload: Workload, spec: worker.Spec, slot: int) -> None:
        self._servers = servers
        self._spec = spec
        self._payload = workload.payload
        self._slot = slot
        self._training = f"{workload.task} {workload.arguments} {hashlib.sha256(workload.payload).hexdigest()}"
        model_dir = Path(spec.model_dir)
        self._empty = [each for each in (model_dir, store.scratch_directory(model_dir)) if _is_empty(each)]

    def __call__(self) -> tuple[socket.socket, Callable[[], None]]:
        """Starts it: its control connection, and what is to be done when it has ended."""
        server, alone = self._servers.of(self._training, self._slot, self._spec.environ)
        store.fresh(Path(self._spec.directory))
        return server.start(self._spec, self._payload), server.close if alone else lambda: None

    def again(self, values: Values) -> tuple[socket.socket, Callable[[], None]]:
        """Starts it with other variables; what it has written before its imports is taken away as far as we know it."""
        self._servers.learn(self._training, values)
        for directory in self._empty:
            store.fresh(directory)
        return self()


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _filled(arguments: Mapping[str, Any], model_dir: Path, worker_index: int) -> dict[str, Any]:
    filled = dict(arguments)
    if "argv" in filled:
        scratch = store.scratch_directory(model_dir)
        places = {"{model_dir}": str(model_dir), "{scratch_dir}": str(scratch), "{worker}": str(worker_index)}
        filled["argv"] = [_replaced(word, places) for word in filled["argv"]]
        scratch.mkdir(exist_ok=True)
    return filled


def _replaced(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(name, value)
    return word


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a test: what is trained, under which conditions, and where its files are."""

    engine: Engine
    workload: Workload
    conditions: Conditions
    directory: Path
    workers: int = 1
    """Processes of the training: with more than one each life is an incarnation of a gang (`Life.gang`)."""
    restart: Literal["gang", "worker"] = "gang"
    """Who of a gang is started again when one worker was killed: all, or that one while the others go on."""

    def reference(self, number: int = 0) -> tuple[Life, float]:
        """The `number`-th reference run and its duration in seconds; shared between trials and workers."""

        def run(directory: Path) -> tuple[Life, float]:
            store.fresh(_reference_run(directory))
            if self.workers > 1:
                return self._gang_reference(directory, number)
            process = self._start(directory, _reference_run(directory), slot=number)
            start = time.monotonic()  # not before: the server may have had to import TensorFlow first
            return live(process, self.conditions), time.monotonic() - start

        return store.shared_life(self.reference_directory(number), run, self.engine.say)

    def _gang_reference(self, directory: Path, number: int) -> tuple[Life, float]:
        run = _reference_run(directory)
        with gang.held_ports(self.workers) as ports:
            processes = [
                self._start(store.worker_directory(directory, index), run, slot=number, place=(index, ports))
                for index in range(self.workers)
            ]
            start = time.monotonic()
            return gang.live_together(processes, self.conditions), time.monotonic() - start

    def _start(
        self,
        directory: Path,
        run: Path,
        *,
        slot: int,
        kill: Kill | None = None,
        until: int | None = None,
        ignored: frozenset[str] = frozenset(),
        place: tuple[int, gang.Ports] | None = None,
    ) -> TrainingProcess:
        """Starts a life that `kill` will end, or that waits at its `until`-th training element.

        `place`: in a gang, whose members differ like machines do, so that neighbours get different servers.
        """
        of_the_life = kill is not None and kill.element == 0 and kill.op is not None
        index = 0 if place is None else place[0]
        return self.engine.start(
            self.workload,
            directory,
            store.model_directory(run),
            slot=(slot + index) % 2,
            until=until if kill is None else None if of_the_life else kill.element,
            max_elements=self.conditions.max_elements,
            ignored=ignored,
            record=run if kill is not None and (kill.op or kill.again) else None,
            op=kill.op if kill is not None and of_the_life else None,
            worker_index=index,
            environ=None if place is None else place[1].environ(index),
        )

    def reference_directory(self, number: int = 0) -> Path:
        """Where the `number`-th reference run is."""
        return self.directory / f"reference-{number}"

    def trial(self, name: str, schedule: Callable[[checker.ReferenceFacts], KillSchedule]) -> Trial:
        """Runs the lives that `schedule` asks for, and judges them.

        Args:
            name: of the trial's directory.
            schedule: called with what the planner must know of the reference run.

        Raises:
            WorkerError: the machinery failed (no TensorFlow, no space, ...).
        """
        reference, _ = self.reference()
        directory = store.fresh(self.directory / name)
        alone = self.judge_alone(reference)
        if not alone.exact:
            return Trial(alone, None, directory, tails([("the reference run", reference)]), reference=reference)
        facts = self.facts(reference)
        planned = schedule(facts)
        if not any(kill.signal is not signal.SIGKILL for kill in planned.kills):
            alone = self.ensure_saved(alone, reference, _reference_run(self.reference_directory()))
        if not alone.exact:  # what is saved on notice only may be judged where there is one
            return Trial(alone, None, directory, reference=reference)
        lives = self._lives(directory, planned, facts, reference)
        verdict = self.judge([reference], lives)
        if checker.needs_more_references(verdict):
            verdict = self.judge([reference, self.reference(1)[0], self.reference(2)[0]], lives)
        if verdict.exact:
            last = life_directory(directory, len(lives))
            model_dir, right = store.model_directory(directory / store.RUN), self.reference_model_dir(0)
            ended = weights.Ended(lives, last, model_dir, right, reference, f"killed at {planned}")
            verdict = weights.judged(self, verdict, ended)
        if verdict.exact:
            shutil.rmtree(directory / store.RUN, ignore_errors=True)
        named = [(f"life {number}", life) for number, life in enumerate(lives, 1)]
        printed = () if verdict.exact else tails(named)
        return Trial(verdict, planned, directory, printed, lives=tuple(lives), reference=reference)

    def _lives(
        self, directory: Path, schedule: KillSchedule, facts: checker.ReferenceFacts, reference: Life
    ) -> list[Life]:
        if self.workers > 1:
            with gang.held_ports(self.workers) as ports:
                if self.restart == "worker":
                    return self._lives_apart(directory, schedule, facts, ports)
                return self._lives_together(directory, schedule, facts, ports)
        lives: list[Life] = []
        for number, kill in enumerate((*schedule.kills, None)):
            at = life_directory(directory, number + 1)
            process = self._start(at, directory / store.RUN, slot=number, kill=kill, ignored=facts.ignored)
            lives.append(live(process, self.conditions, kill=kill))
            names = standing.names_below(directory / store.RUN)
            lives[-1] = dataclasses.replace(lives[-1], standing=standing.standing(lives, names, reference.ledger))
            if lives[-1].ending is not Ending.KILLED:
                break
        return lives

    def _lives_together(
        self, directory: Path, schedule: KillSchedule, facts: checker.ReferenceFacts, ports: gang.Ports
    ) -> list[Life]:
        elements = [one.elements for one in facts.of_workers]
        lives: list[Life] = []
        for number, kill in enumerate((*schedule.kills, None)):
            leash = [None] * self.workers if kill is None else gang.leash(kill, elements)
            processes = [
                self._start(
                    life_directory(directory, number + 1, index),
                    directory / store.RUN,
                    slot=number,
                    kill=kill if kill is not None and index == kill.counts else None,
                    until=leash[index],
                    ignored=facts.of_workers[index].ignored,
                    place=(index, ports),
                )
                for index in range(self.workers)
            ]
            lives.append(gang.live_together(processes, self.conditions, kill=kill))
            if lives[-1].ending is not Ending.KILLED:
                break
        return lives

    def _lives_apart(
        self, directory: Path, schedule: KillSchedule, facts: checker.ReferenceFacts, ports: gang.Ports
    ) -> list[Life]:
        def start(index: int, number: int, kill: Kill | None) -> TrainingProcess:
            return self._start(
                life_directory(directory, number, index),
                directory / store.RUN,
                slot=number - 1,
                kill=kill,
                ignored=facts.of_workers[index].ignored,
                place=(index, ports),
            )

        kills = [[kill for kill in schedule.kills if kill.counts == index] for index in range(self.workers)]
        return gang.live_apart(start, kills, self.conditions)

    def facts(self, reference: Life) -> checker.ReferenceFacts:
        """What a reference run tells of where kills can land, and which streams do not train."""
        return checker.reference_facts(
            reference, elements_per_step=self.workload.elements_per_step, validation=self.conditions.validation
        )

    def ensure_saved(self, alone: Verdict, reference: Life, run: Path) -> Verdict:
        """The verdict on a run that nobody killed, or that nothing can be judged because nothing could be resumed.

        Args:
            alone: the verdict.
            reference: the run.
            run: where its checkpoints are.
        """
        names = standing.names_below(run)
        ignored = frozenset[str]() if reference.gang else self.facts(reference).ignored
        allowed = self.conditions.never_resumes == "allow"
        if allowed or standing.saves_while_training(reference, names, ignored):
            return alone
        reason = _SAVED_TOO_LATE if standing.saves(reference, names) else _SAVED_NOTHING
        return dataclasses.replace(alone, outcome=Outcome.UNKNOWN, reason=reason)

    def judge(
        self, references: list[Life], lives: list[Life], *, never_resumes: Literal["fail", "allow"] | None = None
    ) -> Verdict:
        """Judges lives as this check's settings want it; `never_resumes` None: as they say in that too."""
        if self.workers > 1:
            return gang_verdict.judge(
                references,
                lives,
                order=self.conditions.order,
                elements_per_step=self.workload.elements_per_step,
                validation=self.conditions.validation,
                apart=self.restart == "worker",
            )
        return checker.judge(
            references,
            lives,
            order=self.conditions.order,
            elements_per_step=self.workload.elements_per_step,
            validation=self.conditions.validation,
            never_resumes=never_resumes or self.conditions.never_resumes,
        )

    def judge_alone(self, reference: Life) -> Verdict:
        """Judges the reference run by itself: where that is not exact, nothing else can be told by it."""
        alone = self.judge([reference], [reference])
        if reference.ending is not Ending.FINISHED or not checker.needs_more_references(alone):
            return alone
        return Verdict(Outcome.UNKNOWN, STEPS_BEGIN_ANEW, scope=alone.scope)

    def reference_model_dir(self, number: int) -> Path:
        """Where the `number`-th reference run left its checkpoints."""
        self.reference(number)
        return store.model_directory(_reference_run(self.reference_directory(number)))


def life_directory(trial: Path, number: int, worker_index: int | None = None) -> Path:
    """Where the `number`-th life of a trial is, counted from 1; of a gang that of one worker."""
    directory = trial / f"life-{number}"
    return directory if worker_index is None else store.worker_directory(directory, worker_index)


def _reference_run(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-{store.RUN}")


def tails(lives: list[tuple[str, Life]]) -> tuple[str, ...]:
    """What the lives that ended badly printed last."""
    single = [
        (name if whole is life else f"worker {index}, {name}", life)
        for name, whole in lives
        for index, life in enumerate(whole.gang or (whole,))
        if life is not None
    ]
    return tuple(
        f"{name} ({life.status}), end of its output:\n{life.stderr_tail}"
        for name, life in single
        if life.ending in (Ending.CRASHED, Ending.HUNG) and life.stderr_tail
    )


__all__ = ["Check", "Conditions", "Engine", "Lived", "Trial", "Workload", "live", "tails"]
