"""Judges a trial of a gang: each worker's ledgers against the same worker's of the reference run, and the union. Pure.

Each worker is judged as a training of its own. Where all are exact, so is the union of what they took. Where one is
not, the union tells whether what it lost was trained by another.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import checker
from .model import Ending, Kind, Outcome, Scope, Verdict
from .wording import count, last_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .indexed import IntArray, UintArray
    from .model import Life

_PEER_GONE = re.compile(
    r"(Unavailable|Aborted|Cancelled)Error|Collective ops is aborted|failed to connect|Socket closed"
)
"""What a worker says whose peer has failed: not where it began."""


def judge(
    references: Sequence[Life],
    lives: Sequence[Life],
    *,
    order: Literal["exact", "any"] = "exact",
    elements_per_step: int | None = None,
    validation: Sequence[str] = (),
    apart: bool = False,
) -> Verdict:
    """Judges the incarnations of one trial.

    Args:
        references: one run of the gang that nobody killed, or three; see `checker.judge`.
        lives: its incarnations, in order.
        order: as for `checker.judge`.
        elements_per_step, validation: likewise, of each worker.
        apart: workers were started again one by one, while the others went on.

    Returns:
        The verdict on the worker that first went wrong, which it names; its positions are that worker's.
    """
    try:
        return _judge(references, lives, order, elements_per_step, tuple(validation), apart)
    except Exception as error:  # whatever it is, the answer is "unknown"
        return Verdict(Outcome.UNKNOWN, f"the checker itself failed: {type(error).__name__}: {error}")


def _judge(
    references: Sequence[Life],
    lives: Sequence[Life],
    order: Literal["exact", "any"],
    elements_per_step: int | None,
    validation: tuple[str, ...],
    apart: bool,
) -> Verdict:
    workers = range(len(references[0].gang))
    right = [[run.gang[worker] for run in references] for worker in workers]
    mine = [[life.gang[worker] if apart else _knowing_others(life, worker) for life in lives] for worker in workers]
    known = [[life for life in of_worker if life is not None] for of_worker in right]
    lived = [[life for life in of_worker if life is not None] for of_worker in mine]
    verdicts = [
        checker.judge(
            known[worker],
            lived[worker],
            order=order,
            elements_per_step=elements_per_step,
            validation=validation,
            saved_by_others=_saved_by_others(lives, worker),
        )
        for worker in workers
    ]
    whole = _together(verdicts, lived, apart=apart)
    first = [runs[0] for runs in known]
    union = _union(first, lived, elements_per_step) if checker.needs_more_references(whole) else None
    told = (union, _overlap(first, elements_per_step))
    return replace(whole, notes=(*whole.notes, *(note for note in told if note is not None)))


def _knowing_others(incarnation: Life, worker: int) -> Life | None:
    """A worker's life that also has the files of the others: often one, the chief, writes what all read.

    The workers make each step together, so this one's model was where it has taken as many elements as the one that
    saved.
    """
    mine = incarnation.gang[worker]
    others = [life for index, life in enumerate(incarnation.gang) if index != worker and life is not None]
    if mine is None or not any(life.ledger.evidence.saved for life in others):
        return mine
    places = [*_elements(mine).tolist(), len(mine.ledger.records)]
    saved = []
    for life in others:
        elements = _elements(life)
        for one in life.ledger.evidence.saved:
            taken = int(np.searchsorted(elements, one.began))
            saved.append(replace(one, began=places[min(taken, len(places) - 1)]))
    evidence = replace(mine.ledger.evidence, of_others=tuple(saved))
    return replace(mine, ledger=replace(mine.ledger, evidence=evidence))


def _elements(life: Life) -> IntArray:
    return np.flatnonzero(life.ledger.records["kind"] == Kind.ELEMENT)


def _saved_by_others(lives: Sequence[Life], worker: int) -> list[int]:
    return [
        sum(_saves(other) for index, other in enumerate(life.gang) if index != worker and other is not None)
        for life in lives
        if life.gang[worker] is not None
    ]


def _saves(life: Life) -> int:
    return int(np.count_nonzero(life.ledger.records["kind"] == Kind.SAVED))


def _together(verdicts: Sequence[Verdict], lived: Sequence[Sequence[Life]], *, apart: bool) -> Verdict:
    landed = [sum(life.ending is Ending.KILLED for life in lives) for lives in lived]
    scope = Scope(
        kills_landed=sum(landed) if apart else max(landed),
        saves_crossed=sum(verdict.scope.saves_crossed for verdict in verdicts),
        elements_compared=sum(verdict.scope.elements_compared for verdict in verdicts),
        elements_replayed=sum(verdict.scope.elements_replayed for verdict in verdicts),
    )
    spans = tuple(replace(span, worker=worker) for worker, verdict in enumerate(verdicts) for span in verdict.lives)
    notes, placed = _notes(verdicts, apart=apart), tuple(sorted(spans, key=lambda span: span.life))
    wrong = [worker for worker, verdict in enumerate(verdicts) if not verdict.exact]
    if not wrong:
        compared, kills = count(scope.elements_compared, "element"), count(scope.kills_landed, "kill")
        how = verdicts[0].reason.partition("; ")[0].removeprefix("the final model has been trained on ")
        reason = f"each of the {len(verdicts)} workers has trained on {how}; {compared} compared after {kills}"
        return replace(verdicts[0], reason=reason, scope=scope, notes=notes, lives=placed)
    worst = min(wrong, key=lambda worker: _rank(verdicts[worker], lived[worker], worker))
    reason = f"worker {worst}: {verdicts[worst].reason}"
    notes += tuple(f"worker {each} too: {verdicts[each].outcome.value}" for each in wrong if each != worst)
    return replace(verdicts[worst], reason=reason, worker=worst, scope=scope, notes=notes, lives=placed)


def _rank(verdict: Verdict, lives: Sequence[Life], worker: int) -> tuple[int, int, bool, int]:
    """What went wrong first, in the first life; a worker that failed because another one had is told last."""
    told = last_line(lives[verdict.life - 1].stderr_tail) if verdict.life else ""
    derived = verdict.outcome is Outcome.CRASHED and bool(_PEER_GONE.search(told))
    return verdict.life or len(lives) + 1, checker.RANK[verdict.outcome], derived, worker


def _notes(verdicts: Sequence[Verdict], *, apart: bool) -> tuple[str, ...]:
    """Those of all workers; what each has is said once."""
    notes: list[str] = []
    for worker, verdict in enumerate(verdicts):
        for note in verdict.notes:
            everywhere = all(note in other.notes for other in verdicts)
            said = f"each worker: {note}" if everywhere else f"worker {worker}: {note}"
            if said not in notes:
                notes.append(said)
    again = max(verdict.scope.elements_replayed for verdict in verdicts)
    if apart and again:
        notes.append(
            "the others went on while a worker was started again, so a model that they share was not rolled back: at "
            f"most {count(again, 'element')} of a worker, those after its last save, count twice in it"
        )
    return tuple(notes)


def _union(references: Sequence[Life], lived: Sequence[Sequence[Life]], elements_per_step: int | None) -> str | None:
    """What became of the elements over all workers."""
    both = [
        checker.survived(reference, lives, elements_per_step=elements_per_step)
        for reference, lives in zip(references, lived, strict=True)
    ]
    known = [one for one in both if one is not None]
    if len(known) < len(both):
        return None
    right, found = [one[0] for one in known], [one[1] for one in known]
    lost, twice = _surplus(right, found), _surplus(found, right)
    if not lost and not twice:
        return "over all workers the reference run's elements were trained: workers took each other's"
    return (
        f"over all workers {count(lost, 'element')} of the reference run {'was' if lost == 1 else 'were'} trained by "
        f"nobody, and {twice} more often than in it"
    )


def _overlap(references: Sequence[Life], elements_per_step: int | None) -> str | None:
    """Whether workers share some of their elements, though not all, before anything is killed."""
    runs = [checker.survived(run, [run], elements_per_step=elements_per_step) for run in references]
    taken = [np.unique(run[0]) for run in runs if run is not None]
    values, times = np.unique(np.concatenate([*taken, np.empty(0, np.uint64)]), return_counts=True)
    common = int(np.count_nonzero(times > 1))
    if len(taken) < len(runs) or not 0 < common < len(values):
        return None
    return (
        f"in the reference run, which nobody killed, {common} of {len(values)} different elements were taken by more "
        "than one worker: unless the data has equal ones, shard before you shuffle, or seed the shuffle"
    )


def _surplus(ours: Sequence[UintArray], theirs: Sequence[UintArray]) -> int:
    """How many elements of one multiset another one lacks."""
    mine, other = np.concatenate(ours), np.concatenate(theirs)
    values, code = np.unique(np.concatenate((mine, other)), return_inverse=True)
    code = code.reshape(-1)
    have = np.bincount(code[: len(mine)], minlength=len(values))
    need = np.bincount(code[len(mine) :], minlength=len(values))
    return int(np.maximum(0, have - need).sum())


__all__ = ["judge"]
