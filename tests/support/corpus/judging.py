"""Verdicts of the plugin against proofs: right, a contradiction, or unknown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from truth import wrong

if TYPE_CHECKING:
    from registry import Training

Word = Literal["right", "contradiction", "unknown"]
UNDECIDED = frozenset({"unknown", "flaky"})
FAILED = frozenset({"crashed", "hung"})
"""What no training of the corpus does by itself, unless the registry says so."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One row of the report, or all of a training's: what the plugin said, and how that stands to the truth."""

    word: Word
    outcomes: tuple[str, ...]
    detail: str
    """For a contradiction or an unknown: what was said, and what the proof has."""


def judge(training: Training, rows: list[dict[str, Any]], proofs: list[dict[str, Any]]) -> Judged:
    """What the report's rows about a training are worth; `proofs` are what its lives wrote, the reference's first."""
    if not rows:
        return Judged("unknown", (), "no verdict at all")
    outcomes = tuple(row["outcome"] for row in rows)
    if not training.resumes:
        return _judge_never(training, rows, outcomes)
    notes = " ".join(note for row in rows for note in row["notes"])
    noted = bool(training.noted) and training.noted in notes
    judged = [_judge_row(training, row, proofs, noted=noted) for row in rows]
    for word in ("contradiction", "unknown"):
        for one in judged:
            if one.word == word:
                return Judged(one.word, outcomes, one.detail)
    other = sorted({said for said in outcomes if said != "exact" and said not in training.unsafe})
    return Judged("right", outcomes, f"another word: {', '.join(other)}" if other else "")


def _judge_never(training: Training, rows: list[dict[str, Any]], outcomes: tuple[str, ...]) -> Judged:
    """Each proof is as it should be; what counts is whether anybody was told."""
    if any(said in training.unsafe or said not in UNDECIDED | {"exact"} for said in outcomes):
        return Judged("right", outcomes, "")
    word: Word = "unknown" if set(outcomes) & UNDECIDED else "contradiction"
    return Judged(word, outcomes, f"{rows[0]['outcome']}: {rows[0]['reason']}")


def _judge_row(training: Training, row: dict[str, Any], proofs: list[dict[str, Any]], *, noted: bool) -> Judged:
    """A trial against the proof of its own last life where there is one, a survey against the registry."""
    said, outcomes = row["outcome"], (row["outcome"],)
    detail = f"{row.get('schedule') or ''} {said}: {row['reason']}".strip()
    if said in UNDECIDED:
        return Judged("unknown", outcomes, detail)
    if said == "crashed" and training.in_place and row["kind"] == "survey":
        return Judged("right", outcomes, "")
    if said in FAILED - training.unsafe:
        return Judged("contradiction", outcomes, detail)
    files = row["measured"]["files"]
    own = [proof for proof in proofs if row["kind"] == "trial" and any(f"{files}/" in word for word in proof["argv"])]
    if own:
        found = wrong(proofs[0], own[-1])
        safe, detail = not found, f"{detail} [proof: {found or 'as uninterrupted'}]"
    else:
        safe = training.safe
    return Judged(
        "right" if safe == (said == "exact") or (noted and said == "exact") else "contradiction", outcomes, detail
    )
