"""What the walk through a pipeline's stages has found -> which does not resume exactly. Pure but for the reading.

The files are those of `stage_walk.py`. The first life's own reading is the truth for each place at which it saved: the
second one, restored there, must read the same to the end of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .wording import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Values = npt.NDArray[np.uint64]

PIPELINE, RECORDED, RESUMED = "pipeline.jsonl", "recorded.jsonl", "resumed.jsonl"
FAILED, HUNG = "failed.txt", "hung.txt"
PLACES = (3, 17, 90, 450)
"""After so many elements of a stage its iterator is saved, where it has so many: most faults show at the first."""
_SHORT = 160


@dataclass(frozen=True, slots=True)
class Fault:
    """How a stage does not resume."""

    when: str
    """`save`, `restore`, `read`: TensorFlow failed; `elements`: they are not the same."""
    words: str
    message: str = ""
    """TensorFlow's."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage."""

    name: str
    """`Dataset.shuffle`"""
    label: str
    """`input.py:42, in make_dataset`"""
    source: bool
    """Reads from no other stage."""
    ops: Mapping[str, Sequence[str]]
    """Stateful ops in its functions, by kind: see `stages.facts`."""
    unordered: bool
    keeps: str | None
    buffer: int | None
    """Elements of its input that it holds."""
    row: int | None
    """Bytes of one of them."""
    read: int = 0
    """Elements that were read of it, alone."""
    compared: bool = False
    """Whether it was restored, and what followed was compared."""
    differs: bool = False
    """Whether another process reads other elements from the beginning."""
    fault: Fault | None = None

    @property
    def where(self) -> str:
        """Name and line: `Dataset.shuffle (input.py:42, in make_dataset)`."""
        return f"{self.name} ({self.label})"


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """All stages, each behind those that it reads from."""

    stages: tuple[StageResult, ...]
    symbolic: bool = False
    """`experimental_symbolic_checkpoint`"""
    policy: str | None = None
    """`experimental_external_state_policy`: `WARN`, `IGNORE`, `FAIL`; None: not set, so FAIL."""
    finished: bool = True
    """Whether every stage was gone through: TensorFlow may have died in one, or the time was up."""

    @property
    def guilty(self) -> int | None:
        """The first stage that does not resume exactly, from 0."""
        return next((number for number, stage in enumerate(self.stages) if stage.fault is not None), None)


def read(directory: Path) -> PipelineResult | None:
    """What was found; None: the walk never began, because no iterator was made that it could see."""
    looked = _rows(directory / PIPELINE)
    if not looked:
        return None
    recorded = {row["number"]: row for row in _rows(directory / RECORDED)}
    resumed = {row["number"]: row for row in _rows(directory / RESUMED)}
    known = looked[0]["stages"]
    unreadable = _unreadable_to_the_end(recorded, len(known))
    stages = []
    for number, facts in enumerate(known):
        first, second = recorded.get(number), resumed.get(number)
        row = facts.pop("row")
        found: dict[str, Any] = {"row": row}
        if first is not None:
            found = {"row": row, "read": first["read"], **_compared(directory, number, first, second)}
            if first["error"] is not None and (first["error"]["when"] == "save" or number in unreadable):
                found["fault"] = _failed(first["error"], first["read"])
        if number == len(resumed) and (directory / HUNG).exists():
            found["fault"] = Fault("read", f"restored in a new process, it is stuck: {_nothing(directory)}")
        stages.append(StageResult(**facts, **_sized(found, number, recorded, known)))
    options = looked[0]["options"]
    finished = len(resumed) == len(known)
    return PipelineResult(tuple(stages), options["symbolic"], options["policy"], finished)


def _nothing(directory: Path) -> str:
    return f"no element and no end for {(directory / HUNG).read_text()}"


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _unreadable_to_the_end(recorded: Mapping[int, Mapping[str, Any]], stages: int) -> set[int]:
    """The stages from which on nothing can be read: an error that a later stage catches is none."""
    found: set[int] = set()
    for number in reversed(range(stages)):
        row = recorded.get(number)
        if row is None or row["error"] is None or row["error"]["when"] != "read":
            break
        found.add(number)
    return found


def _compared(
    directory: Path, number: int, first: Mapping[str, Any], second: Mapping[str, Any] | None
) -> dict[str, Any]:
    if second is None or first["opaque"] or not first["read"]:
        return {}
    whole: Values = np.load(directory / f"{number}.npy")
    fresh: Values = np.load(directory / f"{number}-fresh.npy")
    common = min(len(whole), len(fresh))
    differs = not np.array_equal(whole[:common], fresh[:common])
    for place in first["saved"]:
        got: Values = np.load(directory / f"{number}-from-{place}.npy")
        error = second["errors"].get(str(place))
        fault = difference(whole[place:], got, place, ended=first["ended"], error=error)
        if fault is not None:
            return {"compared": True, "differs": differs, "fault": fault}
    if not first["saved"] and differs:  # it has too few elements to be saved among them
        fault = Fault("elements", "another process reads other elements from it")
        return {"compared": True, "differs": True, "fault": fault}
    return {"compared": bool(first["saved"]), "differs": differs}


def difference(
    right: Values, got: Values, place: int, *, ended: bool, error: Mapping[str, str] | None = None
) -> Fault | None:
    """How what was read behind a restore is not what was read without it; None: it is.

    Args:
        right: what follows the place where the stage was saved.
        got: what was read after the restore there, one element more at most.
        place: the number of elements before it.
        ended: whether the stage ends behind `right`.
        error: what ended the reading.
    """
    common = min(len(right), len(got))
    wrong = np.flatnonzero(right[:common] != got[:common])
    saved = f"saved after {count(place, 'element')} and restored in a new process"
    if len(wrong):
        if np.array_equal(np.sort(right), np.sort(got[: len(right)])):
            how = f"it yields the rest in another order, from element {place + wrong[0]} on"
        else:
            more = f", and {count(len(wrong) - 1, 'later one')}" if len(wrong) > 1 else ""
            how = f"it yields other elements than without the restart: element {place + wrong[0]}{more}"
        return Fault("elements", f"{saved}, {how}")
    if error is not None:
        return _failed(error, place + common)
    if len(got) < len(right):
        return Fault("elements", f"{saved}, it ends before element {place + len(got)}")
    if ended and len(got) > len(right):
        return Fault("elements", f"{saved}, it yields more than without the restart")
    return None


def _failed(error: Mapping[str, str], at: int) -> Fault:
    message = short(error["message"])
    words = {
        "save": f"TensorFlow refuses to save its iterator: {message}",
        "restore": f"TensorFlow cannot restore its iterator in a new process: {message}",
        "read": f"in a new process it fails at element {at}: {message}",
    }
    return Fault(error["when"], words[error["when"]], error["message"])


def short(message: str) -> str:
    """TensorFlow's message on one line, without its names of nodes."""
    text = " ".join(message.split())
    while text.startswith("{{"):
        text = text.partition("}} ")[2]
    text = text.partition(" [Op:")[0]
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def _sized(
    found: dict[str, Any], number: int, recorded: Mapping[int, Mapping[str, Any]], known: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """With the bytes of an element of the input measured, where its spec does not tell them."""
    if found["row"] is None and number and number - 1 in recorded and not known[number]["source"]:
        found["row"] = recorded[number - 1]["bytes"] or None
    return found


__all__ = [
    "FAILED",
    "HUNG",
    "PIPELINE",
    "PLACES",
    "RECORDED",
    "RESUMED",
    "Fault",
    "PipelineResult",
    "StageResult",
    "difference",
    "read",
    "short",
]
