"""Child side: which checkpoints of two directories are of the same moment, and how these differ.

Compared are those of the same name but for the numbers in it, the newest that are of equal steps. That they are is
shown by what the lives wrote down of their saves, else by the steps that are saved in them; where these are silent, by
the names.

Integers are told apart, because a count that differs says that the model was trained on something else, while other
values also differ where a random generator went on elsewhere. Counts are signed integers: scalars, and histograms,
whose sum is a multiple of the training's elements or steps. What counts something else is left out: saves, lives,
seconds.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .weight_files import saved_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from .weight_files import Array, Saved, Tensor

Moment = Literal["same", "perhaps", "other"]
_LOOKED_AT = 5
"""Of each name so many checkpoints, the newest."""
_STEP = re.compile(r"(^|[/_])(step|global_step|iter|iterations?|count)$|(^|/)optimizer/vars/0$")
_OPTIMIZER = re.compile(r"optimizer|opt_state|(^|[/.])opt[/.]|(^|/)_?iterations?$")
_NOT_OF_TRAINING = re.compile(
    r"(^|[/_])saves?(_count(er)?)?$|(^|/)ckpt_saved_|(^|[/_])(key|time|timestamp|pid)s?$"
    r"|seed|rng|random|prng|generator|state_?var"
)
"""How often was saved, where a `BackupAndRestore` is, and what random generators keep."""
_ABSURD = 1_000_000_000
"""No count of a test gets there: a time, a seed, a hash."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that two checkpoints of the same moment do not have alike."""

    file: str
    """The checkpoint's name, of the directory that is right."""
    tensor: str
    largest: float | None = None
    """Of floating point numbers and of integers that are no counts; None: shapes or only bits differ."""
    counts: tuple[int, int] | None = None
    """Of a count what it is and what it should be; of a histogram the first of its numbers that differ."""
    at: str = ""
    """Where in a histogram that is: `[50]`."""
    anew: bool = False
    """A count of an optimizer that has gone less far: it began anew."""

    @property
    def more(self) -> int | None:
        """By how much a count is more than it should be; None: it is no count."""
        return None if self.counts is None else self.counts[0] - self.counts[1]

    @property
    def of_optimizer(self) -> bool:
        """Whether it is one of an optimizer's, by its name."""
        return _OPTIMIZER.search(self.tensor) is not None

    @property
    def key(self) -> str:
        """The same in every comparison."""
        return f"{pattern(self.file)} {self.tensor}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of two directories."""

    tensors: int
    """That were compared."""
    missing: tuple[str, ...]
    """Directories without any checkpoint that could be read."""
    differences: tuple[Difference, ...]

    @classmethod
    def from_json(cls, text: str) -> Compared:
        """What `compare` wrote."""
        found = json.loads(text)
        differences = (
            Difference(**{**one, "counts": None if one["counts"] is None else tuple(one["counts"])})
            for one in found["differences"]
        )
        return cls(found["tensors"], tuple(found["missing"]), tuple(differences))


def compare(
    model_dir: str,
    other_dir: str,
    result: str,
    *,
    since: int | None = None,
    moments: Sequence[Mapping[str, int]] = ({}, {}),
    elements: int = 0,
    kills: int = 0,
    notices: bool = False,
) -> None:
    """Writes to the file `result`, as JSON, what came of two directories.

    Args:
        model_dir: that is looked at.
        other_dir: the one that is right.
        result: the file.
        since: only what was written there later than this, in nanoseconds; None: everything.
        moments: for each directory, of some checkpoints by their names, how many training elements were still to come.
        elements: training elements of the whole run; 0: not known.
        kills: lives before the one that ended.
        notices: lives were told that they end, so that they may have saved more often.
    """
    ours, theirs = saved_in(Path(model_dir)), saved_in(Path(other_dir))
    missing = [path for path, saved in ((model_dir, ours), (other_dir, theirs)) if not saved]
    written = [one for one in ours if since is None or one.modified > since]
    tensors, differences = 0, []
    for left, right in _pairs(written, theirs, moments, strangers=notices):
        mine, its = left.tensors(), right.tensors()
        units = {elements, *(value for name, value in _steps(its).items() if _STEP.search(name))}
        for name in sorted(mine.keys() & its.keys()):
            if (mine[name].floating or its[name].floating) or not _NOT_OF_TRAINING.search(name.lower()):
                tensors += 1
                differences += _difference(right.name, name, mine[name], its[name], units, kills)
    found = Compared(tensors, tuple(missing), tuple(differences))
    Path(result).write_text(json.dumps(asdict(found)))


def pattern(name: str) -> str:
    """A checkpoint's name without the numbers in it: the same for all that one line of code saves."""
    return re.sub(r"\d+", "N", name)


def _pairs(
    ours: Sequence[Saved], theirs: Sequence[Saved], moments: Sequence[Mapping[str, int]], *, strangers: bool
) -> Iterator[tuple[Saved, Saved]]:
    for name in sorted({pattern(one.name) for one in ours} & {pattern(one.name) for one in theirs}):
        left, right = ([one for one in saved if pattern(one.name) == name][:_LOOKED_AT] for saved in (ours, theirs))
        tried = sorted(((i, j) for i in range(len(left)) for j in range(len(right))), key=lambda at: (sum(at), at))
        for i, j in tried:
            moment = _moment(left[i], right[j], moments, strangers=strangers)
            if moment == "same" or (moment == "perhaps" and (i, j) == (0, 0)):
                yield left[i], right[j]
                break


def _moment(ours: Saved, theirs: Saved, moments: Sequence[Mapping[str, int]], *, strangers: bool) -> Moment:
    """Whether two checkpoints are of equal steps."""
    known = [_known(saved.name, of_life) for saved, of_life in zip((ours, theirs), moments, strict=True)]
    if None not in known:
        return "same" if known[0] == known[1] else "other"
    mine, its = _steps(ours.tensors()), _steps(theirs.tensors())
    both = mine.keys() & its.keys()
    if any(mine[name] == its[name] > 0 for name in both if _STEP.search(name)):
        return "same"
    if ours.name != theirs.name:
        return "other"
    numbers = re.findall(r"\d+", ours.name)
    if numbers and int(numbers[-1]) in its.values():
        return "same"  # the name has the step
    apart = any(mine[name] != its[name] and not _anew(name, mine[name], its[name]) for name in both)
    return "other" if apart or (strangers and numbers) else "perhaps"


def _known(name: str, moments: Mapping[str, int]) -> int | None:
    """That of a checkpoint, or of the directory that it is a part of."""
    parts = name.split("/")
    whole = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((moments[part] for part in whole if part in moments), None)


def _steps(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The integers of a checkpoint that may tell its moment."""
    return {
        name: int(tensor.load())
        for name, tensor in tensors.items()
        if not tensor.floating and not tensor.shape and not _NOT_OF_TRAINING.search(name.lower())
    }


def _anew(name: str, ours: int, theirs: int) -> bool:
    return bool(_OPTIMIZER.search(name)) and 0 <= ours < theirs


def _difference(
    file: str, name: str, ours: Tensor, theirs: Tensor, units: Collection[int], kills: int
) -> list[Difference]:
    left, right = ours.load(), theirs.load()
    if left.shape != right.shape or left.dtype != right.dtype:
        return [Difference(file, name)]
    if left.tobytes() == right.tobytes():
        return []
    if ours.floating:
        return [Difference(file, name, largest=_largest(left, right))]
    at = np.unravel_index(np.flatnonzero(left != right)[0], left.shape) if left.shape else ()
    pair = int(left[at]), int(right[at])
    if _counts_lives(left.shape, *pair, kills):
        return []
    if not left.shape and _anew(name, *pair):
        return [Difference(file, name, counts=pair, anew=True)]
    if _is_count(theirs, right, units) and max(pair) < _ABSURD:
        where = f"[{', '.join(map(str, at))}]" if at else ""
        return [Difference(file, name, counts=pair, at=where)]
    return [Difference(file, name, largest=_largest(left, right))]


def _largest(left: Array, right: Array) -> float | None:
    difference = np.abs(left.astype(np.complex128) - right.astype(np.complex128))
    known = difference[np.isfinite(difference)]
    return float(known.max()) if known.size and known.max() > 0 else None


def _counts_lives(shape: tuple[int, ...], ours: int, theirs: int, kills: int) -> bool:
    """Whether a scalar may say how often the training was started."""
    return not shape and 0 <= theirs <= 1 and 0 < ours - theirs <= kills


def _is_count(tensor: Tensor, values: Any, units: Collection[int]) -> bool:
    if not tensor.shape:
        return True
    total = int(values.sum())
    counted = total > 0 and values.min() >= 0 and any(unit > 1 and total % unit == 0 for unit in units)
    return counted and not tensor.unsigned


__all__ = ["Compared", "Difference", "compare", "pattern"]
