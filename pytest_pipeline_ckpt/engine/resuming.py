"""Resumes a training from a state of its directory, watches it for long enough, and judges it."""

from __future__ import annotations

import dataclasses
import functools
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from . import checker, crash_states, ledger, relocation, runs, store, weights
from .instants import element_records
from .model import Ending, Kind, Life, Outcome, Verdict
from .runner import Check, live

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .instants import Instant
    from .runs import Run

_OTHER_ELEMENTS = (Outcome.REORDERED, Outcome.CHANGED, Outcome.LOST, Outcome.DUPLICATED)
"""What a pass that is drawn anew looks like, where its rows are drawn too."""
AT_LEAST, AFTER_SAVE = 16, 8
"""Training elements for which a resumed life is watched: in all, and behind its first save."""


class Resumer:
    """Resumes lives of one check.

    Args:
        check: what is trained.
        first: the recorded run, which is the truth for all of them.
        ignored: keys of the streams that do not train.
    """

    def __init__(self, check: Check, first: Run, ignored: frozenset[str]) -> None:
        self._check = check
        self._first = first
        self._ignored = ignored
        self._longest = _longest(first)
        self._lock = threading.Lock()
        self._differs: bool | None = None
        self.noted: list[str] = []
        """What the final weights of exact lives have shown."""

    def resume(
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
        """Resumes from what a kill of `run` left.

        Args:
            run: whose state it is.
            instant: of the kill.
            killed: the lives up to it.
            directory: of the new life.
            place: where it finds the state.
            to_end: watch it until it ends by itself.
            record: record it, so that it can be killed again.

        Returns:
            The verdict on the whole sequence, and the new life.
        """
        # Whether no state at all is resumed is seen when all of them are known.
        judge = functools.partial(self._check.judge, never_resumes="allow")
        start = functools.partial(self._life, run, instant, directory, place, record=record)
        to_end = to_end or self._check.conditions.order == "any"
        life = start(to_end=to_end)
        verdict = judge([self._first.life], [*killed, life])
        if checker.needs_more_references(verdict):
            references = [self._first.life, self._check.reference(1)[0], self._check.reference(2)[0]]
            if life.ending is Ending.STOPPED and self._references_differ(references):
                life = start(to_end=True)  # only whole passes tell whether anything is missing
            verdict = judge(references, [*killed, life])
            if verdict.outcome is Outcome.FLAKY or verdict.exact:
                # The killed life was not killed, so how it went on is known: that overlaps wherever the new one has
                # resumed, and what an earlier life did again says nothing of the last one.
                went_on = dataclasses.replace(run.life, ending=Ending.KILLED, kill=killed[-1].kill)
                verdict = judge(references, [*killed[:-1], went_on, life])
            if verdict.outcome in _OTHER_ELEMENTS and checker.rows_differ(references):
                verdict = dataclasses.replace(verdict, outcome=Outcome.FLAKY, reason=_undecided(verdict), spans=())
        looked_at = self._with_weights(verdict, [*killed, life], directory, place, f"killed {instant.words}")
        self.noted += looked_at.notes[len(verdict.notes) :]
        return looked_at, life

    def _with_weights(
        self, verdict: Verdict, lives: Sequence[Life], directory: Path, place: Path, killed: str
    ) -> Verdict:
        right = runs.final_model_dir(self._check)
        ended = weights.Ended(lives, directory, store.model_directory(place), right, self._first.life, killed)
        return weights.judged(self._check, verdict, ended)

    def run_of(self, life: Life, directory: Path, place: Path) -> Run:
        """The run of a life that was resumed with `record`."""
        if self._first.meta.refused is not None:
            runs.keep_end(life, directory, place, self._first.meta.refused)
        return runs.run_of(life, directory, self._ignored)

    def _life(self, run: Run, instant: Instant, directory: Path, place: Path, *, to_end: bool, record: bool) -> Life:
        crash_states.rebuild(instant.state, run.log, place)
        if run.root != place:
            relocation.move(place, run.root)
        process = self._check.engine.start(
            self._check.workload,
            directory,
            store.model_directory(place),
            slot=1,
            until=None if to_end else AT_LEAST,
            max_elements=self._check.conditions.max_elements,
            ignored=self._ignored,
            record=place if record and self._first.meta.refused is None else None,
        )
        return live(process, self._check.conditions, watch=None if to_end else self._watched_enough)

    def _watched_enough(self, directory: Path) -> int | None:
        """Until which element a life is watched further; None: that was enough."""
        seen = ledger.read(directory)
        taken = element_records(seen, self._ignored)
        further = len(taken) + max(2, len(taken) // 8)
        begun = training_began(seen.records)
        if begun is None:
            return further
        trained = len(taken) - bisect_left(taken, begun)
        saves = np.flatnonzero(seen.records["kind"] == Kind.SAVED)
        saves = saves[saves >= begun]
        behind = len(taken) - bisect_left(taken, int(saves[0])) if len(saves) else 0
        enough = trained >= AT_LEAST and (behind >= AFTER_SAVE or trained > 2 * self._longest)
        return None if enough else further

    def _references_differ(self, references: Sequence[Life]) -> bool:
        with self._lock:
            if self._differs is None:
                rate = self._check.workload.elements_per_step
                self._differs = checker.references_differ(references, elements_per_step=rate)
            return self._differs


def _undecided(verdict: Verdict) -> str:
    return (
        f"{verdict.reason}; but which rows a run takes is drawn in each run (drop_remainder behind an unseeded "
        "shuffle, random numbers), so whether this is a pass that was drawn anew, as it may be, cannot be told: seed it"
    )


def training_began(records: npt.NDArray[np.void]) -> int | None:
    """From which record on a life trains: what it takes before only leads to its place. None: it does not yet."""
    known = np.flatnonzero(np.isin(records["kind"], (Kind.STEP, Kind.SAVED)) & (records["value"].astype(np.int64) >= 0))
    if not len(known):
        return 0  # nothing is known of its steps: every element may count
    steps = records["value"][known].astype(np.int64)
    advanced = np.flatnonzero(steps > steps[0])
    return int(known[advanced[0]]) if len(advanced) else None


def _longest(run: Run) -> int:
    """The most training elements between two saves of a run, its beginning and its end included."""
    at = [run.timeline.taken(record) for record in run.saves]
    return int(np.diff([0, *at, len(run.timeline.elements)]).max())


__all__ = ["AFTER_SAVE", "AT_LEAST", "Resumer", "training_began"]
