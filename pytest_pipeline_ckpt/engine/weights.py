"""The second net: whether a resume whose elements are exact also ended with the weights of the run that nobody killed.

Compared are the checkpoints; where none can be read, what was seen of the weights' values (`final_values`).

With `compare_weights=True` any difference fails. With `"auto"` the first resume of a test that ran to its end is looked
at, and of those after it, where it is bit-equal, only those with weights that came from no file. If it differs, a
second reference run shows what differs anyway, and the next resumes are looked at too. A difference fails only where it
cannot be a random generator that went on elsewhere: a count differs, or another resume of the test ended bit-equal, so
this one lacks something that can be restored, or the life had some weights from no file. All else is a note. What the
trials of a test know of each other is a file in the check's directory, for all xdist workers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import WorkerError
from . import checker, final_values, store, worker
from .idle_steps import idle_steps
from .model import Ending, Kind, Outcome, Verdict
from .watching import live
from .weight_differences import Compared, Difference
from .wording import COPIED_ANEW, NOT_RESTORED, NOT_WITH_THE_REST, OF_ANOTHER_MOMENT, OTHER_THAN_SAVED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from .model import Life
    from .runner import Check

NOTE = "final weights differ; elements are exact: a random generator or optimizer is not restored"
ANEW = (
    "the optimizer began anew: in the final checkpoint it has made fewer steps than the reference run's; elements are "
    "exact"
)
_Means = Literal["files", "values", "both"]
"""What is compared: checkpoints; the values that were seen of weights; or both, and of all that may be weights."""
_KNOWN = "weights.json"
_ATTEMPTS = 3
"""After so many resumes of which nothing could be compared no other is tried."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The resume that is looked at: lives over one checkpoint directory, the last of which ran to its end."""

    lives: Sequence[Life]
    last: Path
    """Directory of the last life."""
    model_dir: Path
    right: Path
    """What the reference run has left."""
    reference: Life
    killed: str
    """Where the lives were killed, in words."""


@dataclass(frozen=False, slots=True)
class _Known:
    """What the trials of a test have found so far."""

    settled: bool = False
    """Nothing can be found."""
    attempts: int = 0
    equal: dict[str, str] = field(default_factory=dict)
    """By the means: where the lives of a resume were killed that ended bit-equal."""
    differing: dict[str, str] = field(default_factory=dict)
    """Those of the first one that did not."""
    anyway: bool = False
    """It is settled because the weights of two runs differ that nobody killed."""
    varying: dict[str, list[str]] = field(default_factory=dict)
    """By the number of a further run that nobody killed, and the means: what it does not have like the first."""
    format: int = store.FORMAT

    @classmethod
    def read(cls, path: Path) -> _Known:
        stored = json.loads(path.read_text()) if path.exists() else {}
        return cls(**stored) if stored.get("format") == store.FORMAT else cls()

    @property
    def clean(self) -> bool:
        """Whether all that was looked at ended bit-equal."""
        return bool(self.equal) and not self.differing

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))


def judged(check: Check, verdict: Verdict, ended: Ended) -> Verdict:
    """A verdict with the final weights looked at, as far as the check asks for that.

    Raises:
        WorkerError: comparing them failed, and the check insists on it.
    """
    if not verdict.exact or not check.workload.compare_weights or ended.lives[-1].ending is not Ending.FINISHED:
        return verdict
    if check.workload.compare_weights != "auto":
        return _insisted(check, verdict, ended)
    if not _resumed(verdict, len(ended.lives)):
        return verdict
    path = check.directory / _KNOWN
    with store.locked(path.with_suffix(".lock")):
        known = _Known.read(path)
        if known.settled or (known.clean and _fresh(verdict) is None):
            return _undecided(verdict, ended, known)
        try:
            return _looked_at(check, verdict, ended, known)
        except WorkerError as error:
            known.settled = True  # the elements are exact, and that is what was asked for
            return _noted(verdict, f"final weights could not be compared: {str(error).strip().splitlines()[-1]}")
        finally:
            known.write(path)


def _insisted(check: Check, verdict: Verdict, ended: Ended) -> Verdict:
    found = _compared(check, ended, since=False)
    if found.missing:
        return _worse(verdict, Outcome.UNKNOWN, _no_checkpoint(found.missing))
    if not found.tensors:
        reason = "compare_weights=True, but no two checkpoints of the same step have a variable in common"
        return _worse(verdict, Outcome.UNKNOWN, reason)
    if not found.differences:
        return verdict
    if _varying(check, ended, _Known(), "files", 1):
        reason = (
            "every element is exact, but the final weights cannot be compared: two runs that nobody killed end "
            "with different weights; seed the initial weights (tf.keras.utils.set_random_seed)"
        )
        return _worse(verdict, Outcome.FLAKY, reason)
    counts = _counts(found.differences)
    if counts:
        return _worse(verdict, Outcome.DIVERGED, _miscounted(counts))
    reason = f"every element is exact, but {_unlike(found.differences, found.tensors)}: something besides the input "
    return _worse(verdict, Outcome.DIVERGED, f"{reason}is not restored, often the optimizer")


def _looked_at(check: Check, verdict: Verdict, ended: Ended, known: _Known) -> Verdict:
    found = _compared(check, ended, since=True)
    means: _Means = "both" if _of_another_moment(verdict) else "files" if found.tensors else "values"
    found = _with_values(check, ended, found, means)
    if not found.tensors:
        known.attempts += 1
        known.settled = bool(found.missing) or known.attempts >= _ATTEMPTS
        return verdict
    if not found.differences:
        known.equal.setdefault(means, ended.killed)
        return verdict if means not in known.differing else _noted(verdict, _only_here(known.differing[means]))
    vary = functools.partial(_vary, check, ended, known, means)
    anyway = _varying(check, ended, known, means, 1)
    differences = [one for one in found.differences if one.key not in anyway]
    # Where the weights differ anyway, so may the gradients that loss scaling finds too large: those steps are skipped.
    counts = [one for one in _counts(differences) if not (anyway and one.of_optimizer)]
    if counts and not vary(counts):
        known.differing.setdefault(means, ended.killed)
        return _worse(verdict, Outcome.DIVERGED, _miscounted(counts))
    anew = any(one.anew for one in differences)
    if not differences or (anyway and not anew):
        known.settled, known.anyway = True, bool(anyway)  # weights that differ anyway tell nothing
        return _undecided(verdict, ended, known)
    known.differing.setdefault(means, ended.killed)
    if means in known.equal and not anyway and not vary(differences):
        return _worse(verdict, Outcome.DIVERGED, _lacks(differences, found.tensors, known.equal[means]))
    fresh = _fresh(verdict)
    tells = fresh is not None and (fresh.endswith(OTHER_THAN_SAVED) or _others_differ(check, ended, fresh))
    if fresh is not None and tells and not anyway and not vary(differences):
        return _anew(verdict, differences, found.tensors, fresh)
    return _noted(verdict, ANEW if anew else NOTE)


def _others_differ(check: Check, ended: Ended, fresh: str) -> bool:
    """Whether weights differ that were restored: what began anew may be a log, and then it alone does."""
    ignored, _ = _streams(check, ended.reference)
    seen = final_values.compared(ended.lives[-1], ended.reference, ignored, unknown=False)
    named = set(re.split(r"[\s;:]+", fresh))
    return not seen.tensors or any(one.tensor not in named for one in seen.differences)


def _undecided(verdict: Verdict, ended: Ended, known: _Known) -> Verdict:
    """The verdict where the weights of two runs differ anyway: nothing tells what a stray that began anew has lost."""
    fresh = _fresh(verdict)
    origins = [one for life in ended.lives[1:] for one in life.ledger.evidence.origins]
    if not known.anyway or fresh is None:
        return verdict
    if not fresh.endswith((NOT_WITH_THE_REST, COPIED_ANEW, OF_ANOTHER_MOMENT, OTHER_THAN_SAVED)) and not any(
        one.path is None and one.changed for one in origins
    ):
        return verdict
    life, _, weights = fresh.partition(": ")
    reason = (
        f"every element is exact, but in {life} {weights}, and the training changes them: whether what they held when "
        "the model was saved is lost is not known, because the weights of two runs that nobody killed differ anyway. "
        "Save them with the model, or seed the initial weights (tf.keras.utils.set_random_seed)"
    )
    return _worse(verdict, Outcome.UNKNOWN, reason)


def _fresh(verdict: Verdict) -> str | None:
    """What was said of weights that a life did not begin with as they were saved."""
    endings = (NOT_RESTORED, NOT_WITH_THE_REST, COPIED_ANEW, OF_ANOTHER_MOMENT, OTHER_THAN_SAVED)
    return next((note for note in verdict.notes if note.endswith(endings)), None)


def _of_another_moment(verdict: Verdict) -> bool:
    """Whether something that may be a weight was restored by itself, or is not what was saved."""
    return any(note.endswith((OF_ANOTHER_MOMENT, OTHER_THAN_SAVED)) for note in verdict.notes)


def _resumed(verdict: Verdict, life: int) -> bool:
    """Whether the last life went on with a model of an earlier one, and trained it: else all is equal anyway."""
    return any(span.life == life and span.start > 0 and span.taken > 0 for span in verdict.lives)


def _varying(check: Check, ended: Ended, known: _Known, means: _Means, number: int) -> list[str]:
    """What the `number`-th run that nobody killed does not have like the one that counts."""
    key = f"{number} by {means}"
    if key in known.varying:
        return known.varying[key]
    life, _ = check.reference(number)
    if life.ending is not Ending.FINISHED:
        raise WorkerError(f"the reference run was repeated, and failed ({life.status})")
    again = dataclasses.replace(
        ended, lives=[life], last=check.reference_directory(number), model_dir=check.reference_model_dir(number)
    )
    found = _with_values(check, again, _compared(check, again, since=False), means)
    known.varying[key] = sorted({one.key for one in found.differences})
    return known.varying[key]


def _vary(check: Check, ended: Ended, known: _Known, means: _Means, differences: Collection[Difference]) -> bool:
    """Whether a third run shows that what differs is no matter of resuming: threads, a clock."""
    return not {one.key for one in differences}.isdisjoint(_varying(check, ended, known, means, 2))


def _with_values(check: Check, ended: Ended, found: Compared, means: _Means) -> Compared:
    """What came of the checkpoints, with what the values that were seen tell, by these means."""
    if means == "files":
        return found
    ignored, _ = _streams(check, ended.reference)
    seen = final_values.compared(ended.lives[-1], ended.reference, ignored, unknown=means == "both")
    return Compared(found.tensors + seen.tensors, found.missing, (*found.differences, *seen.differences))


def _streams(check: Check, reference: Life) -> tuple[frozenset[str], int]:
    """The keys of the streams that do not train, and how many elements there are of the others; 0: not known."""
    if reference.gang:
        return frozenset(), 0
    facts = checker.reference_facts(reference, elements_per_step=check.workload.elements_per_step)
    return facts.ignored, facts.elements


def _compared(check: Check, ended: Ended, *, since: bool) -> Compared:
    """What came of the two directories; `since`: only what the last life has written counts."""
    directory = ended.last / "weights"
    result = ended.last / "weights.json"
    result.unlink(missing_ok=True)
    ignored, elements = _streams(check, ended.reference)
    arguments = {
        "model_dir": str(ended.model_dir),
        "other_dir": str(ended.right),
        "result": str(result),
        "since": _started(ended.last) if since else None,
        "moments": [_moments(life, ignored) for life in (ended.lives[-1], ended.reference)],
        "elements": elements,
        "kills": len(ended.lives) - 1,
        "notices": any(life.noticed is not None for life in ended.lives),
    }
    workload = dataclasses.replace(check.workload, task="weights", arguments=arguments)
    life = live(check.engine.start(workload, directory, ended.model_dir, slot=0), check.conditions)
    if life.ending is not Ending.FINISHED:
        raise WorkerError(f"comparing the weights failed ({life.status}):\n{life.stderr_tail}")
    found = Compared.from_json(result.read_text())
    return dataclasses.replace(found, differences=_without_idle(found.differences, ended))


def _without_idle(differences: Sequence[Difference], ended: Ended) -> tuple[Difference, ...]:
    """The differences less those of counts that steps without an element account for: each life counts its own."""
    if ended.reference.gang:
        return tuple(differences)
    right, ours = idle_steps(ended.reference), sum(map(idle_steps, ended.lives))
    if not right and not ours:
        return tuple(differences)
    return tuple(one for one in differences if one.more is None or not -right <= one.more <= ours - right)


def _started(life: Path) -> int:
    """When a life, or the first one of a gang's incarnation, was started."""
    specs = [*life.glob(worker.SPEC), *life.glob(f"*/{worker.SPEC}")]
    return min((spec.stat().st_mtime_ns for spec in specs), default=0)


def _moments(life: Life, ignored: Collection[str]) -> dict[str, int]:
    """How many training elements were still to come at each save whose path the life wrote down.

    Lives whose elements are exact end alike, so the same number is the same moment of the training.
    """
    if life.gang:
        return {}
    records = life.ledger.records
    trains = [stream.index for stream in life.ledger.streams if stream.key not in ignored]
    at = np.flatnonzero((records["kind"] == Kind.ELEMENT) & np.isin(records["stream"], trains))
    return {
        saved.path.removeprefix("model/"): len(at) - int(np.searchsorted(at, saved.began))
        for saved in life.ledger.evidence.saved
        if saved.done is not None
    }


def _counts(differences: Sequence[Difference]) -> list[Difference]:
    """Those that say that the model was trained on something else; what never began to count says nothing."""
    return [one for one in differences if one.counts is not None and one.counts[1] and not one.anew]


def _unlike(differences: Sequence[Difference], compared: int) -> str:
    worst = max(differences, key=lambda one: one.largest or 0)
    size = "" if worst.largest is None else f"largest difference {worst.largest:.3g}, "
    return f"{len(differences)} of {compared} final variables are not the reference run's ({size}in {worst.tensor})"


def _miscounted(counts: Sequence[Difference]) -> str:
    first = counts[0]
    assert first.counts is not None
    ours, theirs = first.counts
    more = f", and {len(counts) - 1} more" if len(counts) > 1 else ""
    return (
        "every element is exact, but what the final checkpoint counts is not the reference run's: "
        f"{first.tensor}{first.at} is {ours}, not {theirs} (in {first.file}{more}): a part of the model was restored "
        "from another moment, or not at all"
    )


def _lacks(differences: Sequence[Difference], compared: int, equal: str) -> str:
    return (
        f"every element is exact, but {_unlike(differences, compared)}, and another resume of this test ended "
        f"bit-equal ({equal}): what this one restored lacks something; compare_weights=True judges each trial by its "
        "weights"
    )


def _anew(verdict: Verdict, differences: Sequence[Difference], compared: int, note: str) -> Verdict:
    """The verdict where weights differ, and a note names what a life did not begin with as it was saved."""
    life, _, weights = note.partition(": ")
    reason = f"every element is exact, but {_unlike(differences, compared)}: in {life} {weights}"
    if note.endswith(OTHER_THAN_SAVED):
        reason += (
            ". Save what is trained, as it is then: not the best so far in its place, no copy of before the update, "
            "no other form of it"
        )
    if not note.endswith(COPIED_ANEW):
        return _worse(verdict, Outcome.DIVERGED, reason)
    reason += (
        ". If a step reads it (a target network, a teacher), that is why: save it with the model. If none does (the "
        "best weights so far), something else is not restored, often a random generator"
    )
    return _worse(verdict, Outcome.UNKNOWN, reason)


def _only_here(differing: str) -> str:
    return (
        f"final weights are the reference run's here, but another resume of this test ended with others ({differing}): "
        "not every checkpoint holds all that a step reads"
    )


def _no_checkpoint(missing: Sequence[str]) -> str:
    return (
        f"compare_weights=True, but there is no checkpoint in {' and '.join(missing)} that can be compared "
        "(TensorFlow, Keras, NumPy, Orbax, Flax)"
    )


def _noted(verdict: Verdict, note: str) -> Verdict:
    return dataclasses.replace(verdict, notes=(*verdict.notes, note))


def _worse(verdict: Verdict, outcome: Outcome, reason: str) -> Verdict:
    return dataclasses.replace(verdict, outcome=outcome, reason=reason)


__all__ = ["ANEW", "NOTE", "Ended", "judged"]
