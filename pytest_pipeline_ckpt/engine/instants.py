"""Log and ledger of a recorded run -> the instants at which a kill can land, each with its name. Pure.

A kill lands between two events: an element that is taken, a file operation. What it leaves is the directory; so of all
instants at which the directory is the same to a resume, the first stands for all.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .model import Kill, Kind
from .names import Names, visible
from .operations import Act

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .crash_states import CrashState
    from .model import Ledger
    from .operations import Operation

_DONE = {
    Act.CREATE: "made {path}",
    Act.WRITE: "written to {path}",
    Act.TRUNCATE: "cut {path}",
    Act.RENAME: "renamed {path} to {target}",
    Act.LINK: "linked {path} to {target}",
    Act.SYMLINK: "made the link {path}",
    Act.UNLINK: "deleted {path}",
    Act.MKDIR: "made {path}/",
    Act.RMDIR: "removed {path}/",
    Act.FSYNC: "fsynced {path}",
}


_DRAWN = re.compile(r"(?<=\.tmp)[0-9a-f]{32}|(?<=\.tempstate)[0-9]+")
_PARTS = re.compile(r"\.(index|data-[0-9]{5}-of-[0-9]{5})$")
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Instant:
    """Where a kill lands in a recorded run, and what it leaves."""

    state: CrashState
    element: int
    """Training elements taken before."""
    kill: Kill | None
    """What lands there in a live run; None: nothing does, because it is at the end of the run or within a write."""
    words: str
    """`after element 20, when it had renamed checkpoint.tmp to checkpoint`"""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A recorded life's events, as its instants are named by them."""

    operations: Sequence[Operation]
    before: int
    """So many of the operations only describe what was there when the life began."""
    elements: Sequence[int]
    """Of each training element, its place among the ledger's records, ascending."""
    names: Names = field(init=False, compare=False)
    """Which names a resume may read."""

    def __post_init__(self) -> None:
        """Looks through the log."""
        object.__setattr__(self, "names", Names(self.operations))

    def taken(self, records: int) -> int:
        """How many training elements are among the ledger's first `records`."""
        return bisect_left(self.elements, records)

    def instant(self, state: CrashState) -> Instant:
        """Names the instant after the state's last operation."""
        taken = self.taken(state.elements)
        where = f"after element {taken}" if taken else "before the first element"
        if state.torn:
            written = self.operations[state.operation]
            return Instant(state, taken, None, f"{where}, in the middle of a write to {_short(written.path)}")
        if state.operation > self.before:
            where = f"{where}, when it had {done(self.operations[state.operation - 1])}"
        if state.loss:
            return Instant(state, taken, None, f"{where}, by a power loss ({state.loss}: {_listed(state.damaged)})")
        return Instant(state, taken, self._kill(state, taken), where)

    def _kill(self, state: CrashState, taken: int) -> Kill | None:
        """The live kill that finds the directory in this state."""
        number = self._upcoming(state.operation)
        upcoming = None if number is None else self.operations[number]
        passed_over = self.operations[state.operation : number]
        if any(self.names.tells(op) and self.taken(op.elements) == taken for op in passed_over):
            return None  # a live kill counts by names alone, and so lands behind that
        if (len(self.elements) if upcoming is None else self.taken(upcoming.elements)) > taken:
            return Kill(taken + 1)  # nothing happens until then
        if upcoming is None:
            return None
        since = 0
        for earlier in range(state.operation - 1, self.before - 1, -1):
            if self.taken(self.operations[earlier].elements) < taken:
                break
            since += visible(self.operations[earlier])
        return Kill(taken, op=since + 1)

    def _upcoming(self, number: int) -> int | None:
        """The next operation before which a life can be held."""
        following = range(number, len(self.operations))
        return next((later for later in following if visible(self.operations[later])), None)


def element_records(ledger: Ledger, ignored: frozenset[str]) -> list[int]:
    """Of each training element its place among the ledger's records, ascending; counted as the gate counts them.

    Args:
        ledger: of a life.
        ignored: keys of the streams that do not train.
    """
    passed_over = [stream.index for stream in ledger.streams if stream.key in ignored]
    records = ledger.records
    kept = (records["kind"] == Kind.ELEMENT) & ~np.isin(records["stream"], passed_over)
    found: list[int] = np.flatnonzero(kept).tolist()
    return found


def done(operation: Operation) -> str:
    """What has been done: `renamed checkpoint.tmp to checkpoint`."""
    return _DONE[operation.act].format(path=_short(operation.path), target=_short(operation.target))


def _short(path: str) -> str:
    """Below the checkpoint directory, where most paths are, and without what is drawn for temporary names."""
    return _DRAWN.sub("...", path.removeprefix("model/")) or "the directory"


def _listed(paths: Sequence[str]) -> str:
    """`checkpoint, ckpt-10.*, ckpt-20.* and 3 more`."""
    names = list(dict.fromkeys(_PARTS.sub(".*", _short(path)) for path in paths))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


__all__ = ["Instant", "Timeline", "done", "element_records"]
