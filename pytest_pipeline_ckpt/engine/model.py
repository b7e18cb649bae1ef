"""The records that the parts of the engine hand to each other. No behaviour, no I/O, no TensorFlow.

Vocabulary: a *life* (incarnation) is one training process from its start to its end. A *trial* is a sequence of
lives over one checkpoint directory, all but the last of them killed. The *reference run* is a life that nobody kills.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

UNKNOWN_STEP = -1
"""The value of a STEP, SAVED, RESTORED or DONE record whose step could not be observed."""


class Kind(enum.IntEnum):
    """What one ledger record says."""

    ELEMENT = 1
    """An element left an iterator; `value` is its fingerprint, `rows_digest` and `rows` describe its rows."""
    END = 2
    """The iterator was exhausted."""
    STEP = 3
    """The model's step as the trainer sees it while the element that follows this record is taken; it stands
    directly before that ELEMENT record and has its stream and iterator. `value` is the step as int64."""
    SAVED = 4
    """A checkpoint was saved; `value` is the model's step, `stream` and `iterator` are 0."""
    RESTORED = 5
    """A checkpoint was restored; `value` is the model's step after it, `stream` and `iterator` are 0."""
    DONE = 6
    """The training code returned by itself; `value` is the model's step."""


class Flag(enum.IntFlag):
    """Bits of a record's `flags`."""

    OPAQUE = 1
    """The element has a component that cannot be fingerprinted (a window's nested dataset)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Where elements come from: the user's code that made the iterator."""

    index: int
    """The number that records carry in `stream`; counts from 0 in each life."""
    key: str
    """The same for the same code in every life: the user's frames, outermost first."""
    label: str
    """The innermost user frame, for messages: `train.py:42, in main`."""
    components: tuple[Mapping[str, Any], ...] = ()
    """For each flattened component: `name`, `dtype` and `shape` (a list with null for an unknown dimension)."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one life consumed, in order. `records` has the dtype `ledger.RECORD`."""

    records: npt.NDArray[np.void]
    streams: tuple[Stream, ...] = ()
    previews: npt.NDArray[np.void] | None = None
    """Packed summaries of the first elements, one for each ELEMENT record in order; see `ledger.preview`."""
    opaque: str | None = None
    """Names the component that could not be fingerprinted, where a record has `Flag.OPAQUE`."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One planned preemption: the life is killed when it takes its `element`-th training element (from 1)."""

    element: int
    """0: when it first asks for one, which is while a `tf.function` is traced or a graph is built."""
    signal: Signals = SIGKILL
    op: int | None = None
    """Killed before its `op`-th restore-visible file operation (from 1) after that element, not at the element."""
    again: Signals | None = None
    """A second notice, given before the first restore-visible file operation that follows the first one."""

    def __str__(self) -> str:
        """As in a schedule: `40`, `40/op:3`, `40@SIGTERM`, `40@SIGTERM@SIGTERM`."""
        return self.spelled(explicit=False)

    def spelled(self, *, explicit: bool) -> str:
        """As in a schedule, `explicit`: SIGKILL is named too."""
        op = "" if self.op is None else f"/op:{self.op}"
        named = explicit or self.signal != SIGKILL
        again = "" if self.again is None else f"@{self.again.name}"
        return f"{self.element}{op}{f'@{self.signal.name}' if named else ''}{again}"


@dataclass(frozen=True, slots=True)
class KillSchedule:
    """The preemptions of a trial; life i + 1 is killed by `kills[i]`, the life after the last kill runs to its end."""

    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        """The schedule in the grammar that `--preempt-at` accepts: `step:40,3@SIGTERM`."""
        return "step:" + ",".join(map(str, self.kills))


class Ending(enum.Enum):
    """How a life ended."""

    FINISHED = "finished"
    """By itself, successfully: the function returned, or the script exited with 0."""
    KILLED = "killed"
    """By the planned kill (also: by itself within the grace after the planned signal)."""
    CRASHED = "crashed"
    """By itself, not successfully: an exception, an exit code other than 0, a signal that we did not send."""
    HUNG = "hung"
    """It made no progress for the timeout, and was killed."""
    ENDLESS = "endless"
    """A reference run that took more than the largest number of elements, and was killed."""
    STOPPED = "stopped"
    """By us, when it had been watched for long enough."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life as the checker sees it."""

    ledger: Ledger
    ending: Ending
    kill: Kill | None = None
    """The planned kill, landed or not; None: the life was to run to its end."""
    status: str = ""
    """How the process ended, in words: `exit code 1`, `killed by SIGSEGV`."""
    stderr_tail: str = ""
    noticed: int | None = None
    """How many records the ledger had when a catchable signal was sent."""
    grace: float | None = None
    """Seconds after which it was killed, because the signal had not ended it."""


class Outcome(enum.Enum):
    """The verdicts. Only EXACT passes; UNKNOWN and FLAKY are errors, never a pass."""

    EXACT = "exact"
    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    CHANGED = "changed"
    MISALIGNED = "misaligned"
    RESTARTED = "restarted"
    OVERRUN = "overrun"
    INCOMPLETE = "incomplete"
    CRASHED = "crashed"
    HUNG = "hung"
    DIVERGED = "diverged"
    """Every element is exact, the final weights are not the reference's (`compare_weights=True`)."""
    FLAKY = "flaky"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of elements that did not go as in the reference run; positions count from 0, both ends included."""

    what: str
    """`lost`, `twice`, `reordered`, `changed`, `extra`, `missing`."""
    first: int
    last: int
    previews: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What an `exact` rests on."""

    kills_landed: int = 0
    saves_crossed: int = 0
    """Checkpoints saved in the killed lives."""
    elements_compared: int = 0
    """Training elements that lives after the first took and that were compared with the reference."""
    elements_replayed: int = 0
    """Legal replay: work done again because the model was rolled back too."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one trial."""

    outcome: Outcome
    reason: str
    """One or two sentences, with the positions; complete without any other field."""
    life: int = 0
    """The life (from 1) that first went wrong; 0 when no single one did."""
    spans: tuple[Span, ...] = ()
    scope: Scope = field(default_factory=Scope)
    notes: tuple[str, ...] = ()
    """What a reader should know besides: streams not judged, a kill before the first save, ..."""

    @property
    def exact(self) -> bool:
        """Whether the resumed pipeline yielded exactly the unseen elements."""
        return self.outcome is Outcome.EXACT
