"""Judges a trial: pure functions of ledgers, which answer valid, invalid or unknown. No I/O, no TensorFlow, no pytest.

The law is `H == G`: what the final model has been trained on is what the run that nobody killed consumed (`survival`,
`findings`). Pipelines that differ from run to run and `order="any"` are judged by whole passes (`passes`). A
checker that fails says so (`UNKNOWN`), and never that something is exact.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import updates
from .cases import Case, Terms, traced
from .chosen import choice, is_silent, with_choice
from .findings import judge_lane
from .histories import study
from .idle_steps import without_idle_steps
from .indexed import UintArray, index
from .lifespans import lifespans
from .model import Ending, Kind, Life, Outcome, Scope, Verdict
from .passes import Differing, judge_any, judge_differing
from .remarks import differing_notes, exact_reason, landed, named, never_resumed, notes_on, scope_of, unfinished
from .survival import Finding, Piece, first_difference, joined, pieces_of
from .training import classify
from .wording import count, last_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DOUBTFUL = frozenset(
    {
        Outcome.LOST,
        Outcome.DUPLICATED,
        Outcome.REORDERED,
        Outcome.CHANGED,
        Outcome.MISALIGNED,
        Outcome.RESTARTED,
        Outcome.OVERRUN,
        Outcome.INCOMPLETE,
    }
)


_MOST_WAYS = 16
"""So many combinations of ways in which the models may have stood are judged."""


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """What the planner of kills must know of a reference run; numbers of training elements count from 1."""

    elements: int
    """Training elements in all, as a kill counts them: those of every stream that trains."""
    boundaries: tuple[int, ...] = ()
    """After how many elements a pass over the data ended, ascending, without the end of the run."""
    saves: tuple[int, ...] = ()
    """After how many elements a checkpoint was saved, ascending."""
    ignored: frozenset[str] = frozenset()
    """Keys of the streams that do not train; every other key does, in every life."""
    gang: tuple[ReferenceFacts, ...] = ()
    """Of a gang: those of each worker; the other fields are worker 0's."""

    @property
    def of_workers(self) -> tuple[ReferenceFacts, ...]:
        """Those of each worker; also of the only one."""
        return self.gang or (self,)


def judge(
    references: Sequence[Life],
    lives: Sequence[Life],
    *,
    order: Literal["exact", "any"] = "exact",
    elements_per_step: int | None = None,
    validation: Sequence[str] = (),
    never_resumes: Literal["fail", "allow"] = "fail",
    saved_by_others: Sequence[int] = (),
) -> Verdict:
    """Judges the lives of one trial.

    Args:
        references: one run that nobody killed; three when `needs_more_references` of a first verdict asked for them.
        lives: in order, over one checkpoint directory, all but the last of them killed.
        order: `any` compares whole passes as multisets of rows.
        elements_per_step: how many elements one step takes of a stream; None: measured in the reference run.
        validation: places of iterators that are for validation: `train.py:57`.
        never_resumes: whether lives that all begin anew, although complete checkpoints stood, are exact.
        saved_by_others: of a worker of a gang: how many checkpoints the other workers saved in each of its lives.

    Returns:
        The verdict; `UNKNOWN` when this function itself fails, whatever the reason.
    """
    try:
        terms = Terms(order, elements_per_step, tuple(validation), never_resumes, tuple(saved_by_others))
        right, mine = _with_their_steps(references, lives)
        return _judge(right, mine, terms)
    except Exception as error:  # whatever it is, the answer is "unknown"
        return Verdict(Outcome.UNKNOWN, f"the checker itself failed: {type(error).__name__}: {error}")


def needs_more_references(verdict: Verdict) -> bool:
    """Whether the verdict may be due to a pipeline that differs from run to run, which two more references can tell."""
    return verdict.outcome in _DOUBTFUL


def references_differ(references: Sequence[Life], *, elements_per_step: int | None = None) -> bool:
    """Whether a pipeline differs from run to run, as far as these reference runs tell."""
    references = _alone(references)
    first = index(references[0])
    known = study(first, elements_per_step)
    return known.reason is None and _differ(traced(first, references, [references[0]], known))


def rows_differ(references: Sequence[Life]) -> bool:
    """Whether reference runs have taken other rows, not only in another order: none tells what is right then."""
    taken = set()
    for life in references:
        records = life.ledger.records
        of_elements = records[records["kind"] == Kind.ELEMENT]
        taken.add((int(of_elements["rows_digest"].sum(dtype=np.uint64)), int(of_elements["rows"].sum(dtype=np.int64))))
    return len(taken) > 1


def survived(
    reference: Life, lives: Sequence[Life], *, elements_per_step: int | None = None
) -> tuple[UintArray, UintArray] | None:
    """Fingerprints of what a reference run trained on, and of what the final model has been; None: not known."""
    right, mine = _with_their_steps([reference], lives)
    first = index(right[0])
    known = study(first, elements_per_step)
    if known.reason is not None:
        return None
    case = traced(first, [first.life], mine, known)
    made = [
        pieces_of(lane, [tracks[number] for tracks in case.tracks], len(lives))
        for number, lane in enumerate(known.lanes)
    ]
    due = [lane.track.values(0, len(lane.track)) for lane in known.lanes]
    found = [joined(pieces) for pieces in made if not isinstance(pieces, Finding)]
    return (np.concatenate(due), np.concatenate(found)) if len(found) == len(right) else None


def training_streams(
    reference: Life, *, elements_per_step: int | None = None, validation: Sequence[str] = ()
) -> frozenset[str]:
    """Keys of the streams with which the model advances; empty where that cannot be told."""
    classes = classify(index(_alone([reference])[0]), elements_per_step, validation)
    return frozenset(classes.rates) | frozenset(classes.occasional)


def reference_facts(
    reference: Life, *, elements_per_step: int | None = None, validation: Sequence[str] = ()
) -> ReferenceFacts:
    """Where in a reference run a kill can land."""
    if reference.gang:
        of_workers = tuple(
            reference_facts(life, elements_per_step=elements_per_step, validation=validation)
            for life in reference.gang
            if life is not None
        )
        return replace(of_workers[0], gang=of_workers)
    run = index(_alone([reference])[0])
    classes = classify(run, elements_per_step, validation)
    names = np.array([name in classes.rates for name in run.keys], np.bool_)
    rows = np.flatnonzero(names[run.iterators.key]) if len(names) else np.empty(0, np.int64)
    at = run.elements_of(rows)
    events = run.events
    saves = np.searchsorted(at, events.at[events.kind == Kind.SAVED])
    lanes = [lane for lane in study(run, elements_per_step, validation).lanes if set(lane.keys) & set(classes.rates)]
    found = [np.searchsorted(at, lane.track.at[lane.track.ends - 1], "right") for lane in lanes]
    ends = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
    return ReferenceFacts(
        elements=len(at),
        boundaries=tuple(ends[(ends > 0) & (ends < len(at))].tolist()),
        saves=tuple(np.unique(saves[saves > 0]).tolist()),
        ignored=classes.others | frozenset(classes.occasional) if classes.rates else frozenset(),
    )


def _alone(references: Sequence[Life]) -> list[Life]:
    """Reference runs, each by itself, with what tells the step, and without steps that stand for no element."""
    return _with_their_steps(references, ())[0]


def _with_their_steps(references: Sequence[Life], lives: Sequence[Life]) -> tuple[list[Life], list[Life]]:
    """Reference runs, each by itself, and the lives of a trial; likewise."""
    if references and is_silent(references[0]) and choice(references, lives) is None:
        references, lives = updates.counted(references, lives) or (references, lives)
    chosen = choice(references, lives)
    right = [without_idle_steps([with_choice(life, chosen)])[0] for life in references]
    return right, without_idle_steps([with_choice(life, chosen) for life in lives])


def _judge(
    references: Sequence[Life],
    lives: Sequence[Life],
    terms: Terms,
) -> Verdict:
    if not references or not lives:
        return Verdict(
            Outcome.UNKNOWN, f"{'no life' if references else 'no reference run'} was given: nothing to judge"
        )
    failed = _failed_reference(references)
    if failed is not None:
        return failed
    first = index(references[0])
    known = study(first, terms.elements_per_step, terms.validation)
    if known.reason is not None:
        failures = [finding for number, life in enumerate(lives, 1) if (finding := _failed_life(number, life))]
        if failures:
            return _verdict(failures[0], Scope(kills_landed=landed(lives)), ())
        return Verdict(Outcome.UNKNOWN, known.reason, scope=Scope(kills_landed=landed(lives)))
    retrace = functools.partial(traced, first, references, lives, known)
    case = retrace()
    opaque = _opaque(case)
    if opaque is not None:
        return opaque
    return _judge_open(case, retrace, functools.partial(_judge_case, lives=lives, terms=terms))


def _judge_open(
    case: Case, retrace: Callable[[Mapping[int, int]], Case], judge_one: Callable[[Case], Verdict]
) -> Verdict:
    """Judges a trial in each of the ways in which its models may have stood; only what they agree on is said."""
    verdict = judge_one(case)
    ways = itertools.product(*(range(number) for number in case.choices))
    for way in itertools.islice(ways, 1, _MOST_WAYS):
        other = judge_one(retrace(dict(enumerate(way))))
        if other.outcome is not verdict.outcome:
            number = next(n for n, choice in enumerate(way) if choice)
            places = "; or ".join(place.words for place in case.stands[number].places)
            reason = (
                f"life {number + 1} may have resumed a model that was saved {places}: what it shows of its step fits "
                "each of them, and the verdict depends on it: pass step=, a function whose steps differ between them"
            )
            return replace(verdict, outcome=Outcome.UNKNOWN, reason=reason, life=number + 1, spans=())
    return verdict


def _judge_case(case: Case, lives: Sequence[Life], terms: Terms) -> Verdict:
    order = terms.order
    final = len(lives) if lives[-1].ending is Ending.FINISHED else 0
    lanes = [
        pieces_of(lane, [tracks[number] for tracks in case.tracks], final)
        for number, lane in enumerate(case.known.lanes)
    ]
    scope = scope_of(case, lives, [[] if isinstance(lane, Finding) else lane for lane in lanes])
    notes = notes_on(case, lives, scope, terms.saved_by_others or [0] * len(lives))
    found: list[Finding] = [f for number, life in enumerate(lives, 1) if (f := _failed_life(number, life))]
    found += _strangers(case)
    stood = _of_stands(case)
    found += stood
    lost = min((one.life for one in stood if one.outcome is Outcome.UNKNOWN), default=len(lives) + 1)
    differ = _differ(case)
    judged = [
        Differing(lane) if isinstance(lane, Finding) else _judge_lane(case, number, lane, order, final, differ)
        for number, lane in enumerate(lanes)
    ]
    told = [named(one.finding, case, number) for number, one in enumerate(judged) if one.finding is not None]
    found += [finding for finding in told if finding.life < lost]  # from there on nobody knows what is right
    if differ and order == "exact":
        notes += differing_notes(sum(one.overlap for one in judged), any(one.redrawn for one in judged))
    missed = unfinished(case, lives)
    if found:
        worst = min(found, key=lambda finding: (finding.life or len(lives) + 1, RANK[finding.outcome]))
        verdict = _verdict(worst, scope, notes)
    elif missed is not None:
        verdict = Verdict(Outcome.UNKNOWN, missed[1], missed[0], scope=scope, notes=notes)
    elif scope.began_anew and not scope.resumed and terms.never_resumes == "fail":
        verdict = never_resumed(case, lives, lanes, scope, notes)
    else:
        verdict = Verdict(Outcome.EXACT, exact_reason(scope, order, differ), scope=scope, notes=notes)
    in_order = order == "exact" and not differ
    shown = lifespans(case.known.lanes, lanes, [one.finding for one in judged], in_order=in_order)
    return replace(verdict, lives=shown)


def _of_stands(case: Case) -> list[Finding]:
    """What is wrong with the models that lives began with, or not known of them."""
    found = []
    for number, stand in enumerate(case.stands, 1):
        for outcome, why in (
            (Outcome.MISALIGNED, stand.torn),
            (Outcome.LOST, stand.lost),
            (Outcome.UNKNOWN, stand.unknown),
        ):
            if why is not None:
                reason = f"life {number}: {why}"
                held, torn = outcome is Outcome.LOST, outcome is Outcome.MISALIGNED
                found.append(Finding(outcome, number, reason, held=held, torn=torn))
    return found


RANK = {
    outcome: rank
    for rank, outcome in enumerate(
        (
            Outcome.CRASHED,
            Outcome.HUNG,
            Outcome.RESTARTED,
            Outcome.MISALIGNED,
            Outcome.LOST,
            Outcome.DUPLICATED,
            Outcome.CHANGED,
            Outcome.REORDERED,
            Outcome.INCOMPLETE,
            Outcome.OVERRUN,
            Outcome.NEVER_RESUMED,
            Outcome.DIVERGED,
            Outcome.UNKNOWN,
            Outcome.FLAKY,
            Outcome.EXACT,
        )
    )
}


def _judge_lane(case: Case, number: int, pieces: Sequence[Piece], order: str, final: int, differ: bool) -> Differing:
    right = [tracks[number] for tracks in case.right]
    unsteady = any(track.off is not None for track in right[1:])
    plain = judge_lane(case.known.lanes[number], pieces, references=len(right), ended=bool(final), unsteady=unsteady)
    if plain is None:
        return Differing(None, sum(piece.kept for piece in pieces[1:]))
    if not final and (order == "any" or differ):
        return Differing(None)  # without an end there is nothing to compare by, and the last life's failure is told
    if order == "any":
        return Differing(judge_any(right, pieces))
    return judge_differing(case.known.lanes[number], right, pieces) if differ else Differing(plain)


def _differ(case: Case) -> bool:
    """Whether the reference runs differ among themselves, in any lane."""
    return any(
        len(track) != len(first) or first_difference(first, 0, track, len(first)) is not None
        for tracks in case.right[1:]
        for first, track in zip(case.right[0], tracks, strict=True)
    )


def _failed_reference(references: Sequence[Life]) -> Verdict | None:
    for life in references:
        if life.ending is Ending.ENDLESS:
            taken = count(int(np.count_nonzero(life.ledger.records["kind"] == Kind.ELEMENT)), "element")
            reason = f"the reference run, which nobody killed, had not ended after {taken}: pass steps="
            return Verdict(Outcome.UNKNOWN, reason)
        failed = _failed_life(0, life)
        if failed is not None:
            return Verdict(failed.outcome, failed.reason)
    return None


def _failed_life(number: int, life: Life) -> Finding | None:
    name = f"life {number}" if number else "the reference run, which nobody killed,"
    status = f" ({life.status})" if life.status else ""
    line = last_line(life.stderr_tail)
    words = f"{status}: {line}" if line else status
    if life.ending is Ending.CRASHED:
        return Finding(Outcome.CRASHED, number, f"{name} crashed{words}")
    if life.ending is Ending.HUNG:
        return Finding(Outcome.HUNG, number, f"{name} hung{words}")
    return None


def _opaque(case: Case) -> Verdict | None:
    runs = [(tracks, run) for tracks, run in zip(case.right, case.references, strict=True)]
    runs += [(tracks, run) for tracks, run in zip(case.tracks, case.lives, strict=True)]
    for tracks, run in runs:
        if any(run.opaque(track.at) for track in tracks):
            name = run.life.ledger.opaque or "a component"
            reason = (
                "training elements have a component that cannot be fingerprinted, so they cannot be "
                f"compared: {name}; flatten it "
                "before the iterator, for example with flat_map(lambda window: window.batch(n))"
            )
            return Verdict(Outcome.UNKNOWN, reason)
    return None


def _strangers(case: Case) -> list[Finding]:
    """Elements from more iterators at a time than the reference run used."""
    return [
        Finding(
            Outcome.CHANGED,
            life,
            f"life {life} took {count(extra, 'training element')} from an iterator that the reference "
            "run does not have",
        )
        for life, extra in enumerate(case.extra, 1)
        if extra
    ]


def _verdict(finding: Finding, scope: Scope, notes: tuple[str, ...]) -> Verdict:
    told = (finding.outcome, finding.reason, finding.life, finding.spans, scope, notes)
    return Verdict(*told, lane=finding.lane, held=finding.held, torn=finding.torn)
