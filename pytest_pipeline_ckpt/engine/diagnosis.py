"""Where a training that does not resume exactly goes wrong: a stage of its pipeline, or the code around it.

Two more lives read the pipeline's stages one by one (`stage_walk`): the first stage that does not resume alone is the
guilty one. Whether the training code restores the iterator that it trains on is known from the lives that were judged
(`handling`). Imports no pytest.
"""

from __future__ import annotations

import dataclasses
import linecache
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import causes, checker, handling, stage_results, store
from .causes import Cause
from .gang import Gang, held_ports
from .model import Ending, Kind, Outcome, Verdict
from .runner import live
from .wording import count, last_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .handling import Handling, IteratorUse
    from .runner import Check, Lived
    from .stage_results import PipelineResult, StageResult
    from .watching import Conditions

STUCK = 20.0
"""Seconds without any output after which a life that reads stages is stuck: it ends by itself before."""
LARGE_MB = 16
"""A buffer is mentioned when it can make a checkpoint so much larger."""
_WALK = "stages"
_DONE = "done"
_TORN = "the training code restores a model whose parts are of different moments"
_FOR_LONGER = "the training code goes on for longer than was left"
_OF_THE_INPUT = frozenset(
    {
        Outcome.LOST,
        Outcome.DUPLICATED,
        Outcome.REORDERED,
        Outcome.CHANGED,
        Outcome.MISALIGNED,
        Outcome.RESTARTED,
        Outcome.INCOMPLETE,
        Outcome.CRASHED,
        Outcome.HUNG,
        Outcome.FLAKY,
    }
)
"""The outcomes that a pipeline, or what is done with its iterator, may bring about."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a failure beyond its verdict."""

    where: str
    """`stage 3 of 7: Dataset.shuffle (input.py:42, in make_dataset) is the first that does not resume exactly: ...`"""
    cause: Cause | None = None
    reason: str = ""
    remedy: str = ""
    stage: str | None = None
    """The name of the guilty one; None: it is none."""
    looks: tuple[str, ...] = ()
    """What a look at the pipeline shows besides."""

    def lines(self) -> list[str]:
        """In the form of a failure's message."""
        return [f"  {f'{name}:':<10} {text}" for name, text in self._told()]

    def sentences(self) -> list[str]:
        """The same for a report: `where: stage 3 of 7: ...`."""
        return [f"{name}: {text}" for name, text in self._told()]

    def _told(self) -> list[tuple[str, str]]:
        told = [("where", self.where), ("why", self.reason), ("remedy", self.remedy)]
        return [(name, text) for name, text in (*told, *(("pipeline", look) for look in self.looks)) if text]


class Diagnostician:
    """Finds out about the failures of one check.

    Args:
        check: what is trained.
        reference: the run that nobody killed.
        worker: of a gang: whose life that is, and whose failures are looked at.
    """

    def __init__(self, check: Check, reference: Lived, *, worker: int = 0) -> None:
        self._check = check
        self._reference = reference
        self._worker = worker
        self._directory = check.directory / (_WALK if check.workers == 1 else f"{_WALK}-worker-{worker}")
        self._streams = checker.training_streams(
            reference.life,
            elements_per_step=check.workload.elements_per_step,
            validation=check.conditions.validation,
        )

    def diagnose(self, verdict: Verdict, lives: Sequence[Lived]) -> Diagnosis | None:
        """Where the failure comes from; None: nothing more is known than the verdict says.

        Args:
            verdict: on the lives.
            lives: in their order; none where the reference run itself failed.

        Raises:
            WorkerError: the machinery failed.
        """
        if verdict.outcome is Outcome.NEVER_RESUMED:
            return self._told(
                "not in the pipeline: the training code restores nothing", Cause.NEVER_RESTORED, None, None
            )
        if verdict.outcome is Outcome.OVERRUN and verdict.life > 1:
            return self._told(f"not in the pipeline: {_FOR_LONGER}", Cause.COUNTED_ANEW, None, None)
        if verdict.outcome not in _OF_THE_INPUT:
            return None
        pipeline = self.walked()
        if failed := self._failed():
            return Diagnosis(f"not known: looking at the stages of the pipeline failed: {failed}")
        if verdict.outcome in (Outcome.CRASHED, Outcome.HUNG):
            return None if pipeline is None else self._of_crash(verdict, lives, pipeline) or self._of_stage(pipeline)
        if verdict.outcome is Outcome.FLAKY:
            if pipeline is None:
                return None
            return self._of_stage(pipeline) or self._of_order(pipeline) or self._of_draw(pipeline)
        of_code = self._of_code(verdict, lives, pipeline)
        of_stage = None if pipeline is None else self._of_stage(pipeline)
        if of_code is not None and not (of_code.cause is Cause.OWN_POSITION and of_stage is not None):
            also = () if of_stage is None else (of_stage.where,)
            return dataclasses.replace(of_code, looks=(*also, *of_code.looks))
        if pipeline is None or of_stage is not None or verdict.outcome is Outcome.INCOMPLETE:
            return of_stage  # a training that ends too early has seldom looked at its pipeline at all
        return self._of_order(pipeline) or _unknown(pipeline)

    def walked(self) -> PipelineResult | None:
        """What the walk through the stages found; made once, whoever asks first. None: no pipeline was seen."""
        if self._check.workers > 1 and _handling(self._reference).in_graph:
            return None  # the ops of a gang's graph are placed on its servers, and a stage alone has no such server
        directory = self._directory
        with store.locked(directory.with_suffix(".lock")):
            if not (directory / _DONE).exists():
                store.fresh(directory)
                for slot, mode in enumerate(("record", "resume")):
                    self._walk(directory, mode, slot)
                (directory / _DONE).touch()
        return stage_results.read(directory)

    def _walk(self, directory: Path, mode: str, slot: int) -> None:
        """A life, in another server than its neighbour, that goes to the line where the iterator is made."""
        if mode == "resume" and not (directory / stage_results.RECORDED).exists():
            return
        run = store.fresh(directory / store.RUN)  # the same path for both: what caches there finds it again
        stages = {
            "mode": mode,
            "directory": str(directory),
            "streams": sorted(self._streams),
            "lenient": self._reference.life.ending is not Ending.CRASHED,
        }
        conditions = self._check.conditions
        conditions = dataclasses.replace(conditions, timeout=min(STUCK, conditions.timeout))
        if self._check.workers > 1:
            ended = self._walk_in_gang(directory / mode, run, conditions, slot, stages)
        else:
            process = self._check.engine.start(
                self._check.workload,
                directory / mode,
                store.model_directory(run),
                slot=slot,
                until=1,
                stages=stages,
            )
            ended = live(process, conditions, watch=lambda _: None).ending is not Ending.HUNG
        if not ended and mode == "resume":
            (directory / stage_results.HUNG).write_text(f"{conditions.timeout:g} s")

    def _walk_in_gang(
        self, directory: Path, run: Path, conditions: Conditions, slot: int, stages: dict[str, Any]
    ) -> bool:
        """The same of one worker, while the others train, because it may wait for them; False: it hung."""
        with held_ports(self._check.workers) as ports:
            gang = Gang(
                [
                    self._check.engine.start(
                        self._check.workload,
                        store.worker_directory(directory, worker),
                        store.model_directory(run),
                        slot=(slot + worker) % 2,
                        until=1 if worker == self._worker else None,
                        stages=stages if worker == self._worker else None,
                        worker_index=worker,
                        environ=ports.environ(worker),
                    )
                    for worker in range(self._check.workers)
                ]
            )
            try:
                for worker, event in gang.events(timeout=conditions.timeout, stop=conditions.deadline):
                    if event == "hung" or (worker == self._worker and event in ("held", "ended")):
                        return event != "hung"
            finally:
                gang.kill()
        return True

    def _of_crash(self, verdict: Verdict, lives: Sequence[Lived], pipeline: PipelineResult) -> Diagnosis | None:
        """A cache that was being filled when the life before was killed."""
        printed = lives[verdict.life - 1].life.stderr_tail if 1 <= verdict.life <= len(lives) else ""
        if not causes.CACHE_LEFT.search(printed):
            return None
        for number, stage in enumerate(pipeline.stages):
            if stage.keeps not in (None, "memory"):
                where = f"{_numbered(pipeline, number)} finds what a killed life left in {stage.keeps}"
                return self._told(where, Cause.FILE_CACHE, pipeline, stage)
        return None

    def _failed(self) -> str | None:
        """What went wrong with looking itself: a bug of ours, or a dataset of a kind that we do not know."""
        path = self._directory / stage_results.FAILED
        return last_line(path.read_text()) if path.exists() else None

    def _of_stage(self, pipeline: PipelineResult) -> Diagnosis | None:
        number = pipeline.guilty
        if number is None:
            return None
        stage = pipeline.stages[number]
        assert stage.fault is not None
        first = f"{_numbered(pipeline, number)} is the first that does not resume exactly: {stage.fault.words}"
        return self._told(first, causes.of_stage(stage, pipeline), pipeline, stage)

    def _of_order(self, pipeline: PipelineResult) -> Diagnosis | None:
        """A stage that need not keep its order, although it did when it was read alone."""
        for number, stage in enumerate(pipeline.stages):
            if stage.unordered:
                where = (
                    f"{_numbered(pipeline, number)} need not keep its order; it did in the "
                    f"{count(stage.read, 'element')} that were read of it alone"
                )
                return self._told(where, Cause.UNORDERED, pipeline, stage)
        return None

    def _of_draw(self, pipeline: PipelineResult) -> Diagnosis | None:
        """A stage that resumes exactly, and yields something else in each run that begins anew."""
        for number, stage in enumerate(pipeline.stages):
            if stage.differs:
                where = f"{_numbered(pipeline, number)} is the first that differs from run to run"
                return self._told(where, Cause.UNSEEDED, pipeline, stage)
        return None

    def _of_code(self, verdict: Verdict, lives: Sequence[Lived], pipeline: PipelineResult | None) -> Diagnosis | None:
        if not 2 <= verdict.life <= len(lives) or self._check.workload.task == "dataset":
            return None
        seen = [_handling(lived) for lived in lives[: verdict.life]]
        used = causes.trained_on(seen[-1], self._streams, verdict.lane)
        told = (verdict.outcome, _handling(self._reference), seen, self._streams, _source_line(used))
        cause = Cause.TORN if verdict.torn else causes.of_code(*told, lane=verdict.lane, held=verdict.held)
        if cause is None:
            return None
        does = "does not restore the iterator that it trains on"
        if cause is Cause.SAVED_APART:
            does = "restores an iterator of another moment than the model"
        if cause is Cause.TORN:
            return self._told(f"not in the pipeline: {_TORN}", cause, pipeline, None)
        if cause is Cause.IN_FLIGHT:
            does = "takes elements ahead of the model, and does not restore them"
        label = "" if used is None else f" ({used.label})"
        where = f"not in the pipeline: the training code {does}{label}"
        if pipeline is not None and pipeline.guilty is None and pipeline.finished:
            where += f"; {_alone(pipeline)}"
        return self._told(where, cause, pipeline, None)

    def _told(
        self, where: str, cause: Cause | None, pipeline: PipelineResult | None, stage: StageResult | None
    ) -> Diagnosis:
        looks = () if pipeline is None else tuple(looks_of(pipeline, without=stage))
        name = None if stage is None else stage.name
        if cause is None:
            return Diagnosis(where, stage=name, looks=looks)
        policy = "" if pipeline is None else f"external_state_policy={pipeline.policy}"
        ops = "" if stage is None else ", ".join(op for kind in stage.ops.values() for op in kind)
        reason = cause.advice.reason.format(ops=ops, policy=policy)
        apart = self._reference.life.ledger.evidence.apart
        remedy = (apart and cause.advice.apart) or cause.advice.remedy
        return Diagnosis(where, cause, reason, remedy, name, looks)


def looks_of(pipeline: PipelineResult, *, without: StageResult | None = None) -> list[str]:
    """What a look at a pipeline shows that may harm a resume, or makes checkpoints large; one line each."""
    found = []
    for number, stage in enumerate(pipeline.stages):
        if stage is without:
            continue
        words = remarks(stage, pipeline)
        if words:
            found.append(f"{_numbered(pipeline, number)}: {'; '.join(words)}")
    return found


def remarks(stage: StageResult, pipeline: PipelineResult) -> list[str]:
    """What is worth knowing of a stage before anything is killed."""
    found = []
    if {"generator"} & set(stage.ops):
        found.append("TensorFlow cannot save a generator's position")
    elif stage.ops:
        ops = ", ".join(op for kind in stage.ops.values() for op in kind)
        if pipeline.symbolic:
            found.append(f"the state of {ops} is not saved, and experimental_symbolic_checkpoint hides that")
        elif pipeline.policy in ("WARN", "IGNORE"):
            found.append(f"the state of {ops} is not saved (external_state_policy={pipeline.policy})")
        elif set(stage.ops) != {"stateless python"}:
            found.append(f"TensorFlow refuses to save an iterator over {ops}")
        else:
            found.append("a Python function that is declared to have no state (stateful=False)")
    if stage.unordered:
        found.append("need not keep its order (deterministic=False)")
    if stage.keeps not in (None, "memory"):
        found.append(f"caches in {stage.keeps}, where a kill leaves incomplete files")
    size = buffer_mb(stage)
    if size is not None and size >= LARGE_MB:
        what = "a cache" if stage.keeps == "memory" else "a buffer"
        found.append(f"{what} of {stage.buffer:,} elements: up to {size:,.0f} MB in each checkpoint")
    return found


def buffer_mb(stage: StageResult) -> float | None:
    """What the elements in a stage's buffer can add to a checkpoint, in MB; None: it has none, or that is not known."""
    if stage.buffer is None or stage.row is None:
        return None
    return stage.buffer * stage.row / 1e6


def explained(pipeline: PipelineResult) -> list[str]:
    """Every stage of a pipeline with what is worth knowing of it, one line each."""
    lines = []
    for number, stage in enumerate(pipeline.stages, 1):
        words = remarks(stage, pipeline)
        lines.append(f"  {number:2d}  {stage.where}{': ' if words else ''}{'; '.join(words)}")
    return lines


def _numbered(pipeline: PipelineResult, number: int) -> str:
    return f"stage {number + 1} of {len(pipeline.stages)}: {pipeline.stages[number].where}"


def _unknown(pipeline: PipelineResult) -> Diagnosis | None:
    if not pipeline.finished:
        return None
    read = max((stage.read for stage in pipeline.stages), default=0)
    return Diagnosis(
        f"not found: {_alone(pipeline)}, in the first {count(read, 'element')}",
        looks=tuple(looks_of(pipeline)),
    )


def _alone(pipeline: PipelineResult) -> str:
    stages = len(pipeline.stages)
    each = "the pipeline's only stage" if stages == 1 else f"each of the pipeline's {count(stages, 'stage')}"
    return f"{each} resumes exactly alone"


def _handling(lived: Lived) -> Handling:
    taken = int(np.count_nonzero(lived.life.ledger.records["kind"] == Kind.ELEMENT))
    return handling.read(lived.directory, upto=taken if lived.life.ending is Ending.KILLED else None)


def _source_line(used: IteratorUse | None) -> str:
    """The source of the line that made an iterator; empty where it cannot be read."""
    if used is None:
        return ""
    path, _, rest = used.key.rpartition(" > ")[2].partition(".py:")
    number = rest.partition(":")[0]
    return linecache.getline(f"{path}.py", int(number)) if number.isdigit() else ""


__all__ = ["Diagnosis", "Diagnostician", "buffer_mb", "explained", "looks_of", "remarks"]
