"""The records that the parts of the engine hand to each other. No behaviour, no I/O, no TensorFlow.

Vocabulary: a *life* (incarnation) is one training process from its start to its end. A *trial* is a sequence of
lives over one checkpoint directory, all but the last of them killed. The *reference run* is a life that nobody kills.
A *gang* is a training of several processes, its *workers*; each of its incarnations has a life of every worker.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Any

from .evidence import Evidence

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
    saves: npt.NDArray[np.void] | None = None
    """What each save cost; `ledger.SAVE` is the dtype."""
    evidence: Evidence = field(default_factory=Evidence)
    """What the life showed of where its model is."""


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
    workers: tuple[int, ...] = ()
    """Of a gang: those that are killed, when the first of them takes that element. Empty: all, by worker 0's count."""

    @property
    def counts(self) -> int:
        """The worker whose elements are counted."""
        return self.workers[0] if self.workers else 0

    def __str__(self) -> str:
        """As in a schedule: `40`, `40/op:3`, `40#1`, `40#1+2`, `40@SIGTERM`, `40@SIGTERM@SIGTERM`."""
        return self.spelled(explicit=False)

    def spelled(self, *, explicit: bool) -> str:
        """As in a schedule, `explicit`: SIGKILL is named too."""
        op = "" if self.op is None else f"/op:{self.op}"
        named = explicit or self.signal != SIGKILL
        again = "" if self.again is None else f"@{self.again.name}"
        workers = f"#{'+'.join(map(str, self.workers))}" if self.workers else ""
        return f"{self.element}{op}{workers}{f'@{self.signal.name}' if named else ''}{again}"


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
    peak_mb: float = 0.0
    """Largest resident memory of its training process, in MiB; 0: not known."""
    standing: tuple[str, ...] = ()
    """Complete checkpoints, of this life or an earlier one, that were there when it ended."""
    gang: tuple[Life | None, ...] = ()
    """Of an incarnation of a gang: the life of each worker, None where it had none. The other fields are then those
    of the life that counts: of the worker whose element was awaited, else of the first that did not end well."""


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
    NEVER_RESUMED = "never-resumed"
    """Complete checkpoints stood, and no life read one: each began anew, with a new model."""
    DIVERGED = "diverged"
    """Every element is exact, the final weights are not the reference's; see `weights`."""
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
    began_anew: int = 0
    """Lives that began with a new model although a complete checkpoint stood: legal, but all progress is lost."""
    resumed: int = field(default=0, compare=False)
    """Lives that did not."""


@dataclass(frozen=True, slots=True)
class LifeSpan:
    """Where one life trained in one lane, for a picture of it: elements of the reference run, counted from 0."""

    life: int
    """Counts from 1; 0 is the reference run."""
    lane: str
    """The user's code that made the iterators; a training that reads several at a time has several lanes."""
    start: int
    """Where its model stood when it began to train, so that its elements should be `start .. start + taken - 1`."""
    taken: int
    """Elements that it trained on, the one at which it was killed included."""
    kept: int
    """So many of them, the first ones, no later life rolled back."""
    ending: Ending
    untrained: int = 0
    """Elements that it took besides: to fast-forward, to peek, or at its end without training on them."""
    wrong: tuple[tuple[int, int], ...] = ()
    """Ranges of its positions, both ends included, where it took other elements than the reference run. Beyond
    `lifespans.MOST_RANGES` those that are nearest to each other are joined."""
    wrong_elements: int = 0
    """How many they are."""
    ahead: int | None = None
    """By how many elements its pipeline was ahead of its model (behind: negative), if one number explains what it
    took."""
    saves: tuple[int, ...] = ()
    """Positions at which it saved, ascending; some of them, evenly, beyond `lifespans.MOST_MARKS`."""
    passes: tuple[int, ...] = ()
    """Positions at which a pass over the data ended, likewise."""
    worker: int | None = None
    """Of a gang: whose life it is."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a life spent on checkpoints; another run has other figures."""

    seconds: float
    """From the first thing that its ledger or its saves tell to the last: without the start of the process."""
    saves: int
    """Save calls that returned."""
    save_seconds: float
    """How long the training was within them; what a thread goes on writing behind them does not count."""
    saved_bytes: int
    """Sizes of the files in the checkpoint directory that were new or changed when a save call had returned, without
    temporary and event files."""
    peak_mb: float
    """Largest resident memory of the training process, in MiB, TensorFlow's own libraries included."""


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
    worker: int | None = None
    """Of a gang: the worker that first went wrong, in that life of its own; None: none, or there is only one."""
    lane: str = field(default="", compare=False)
    """The label of the lane that went wrong, for whoever looks for the reason."""
    held: bool = field(default=False, compare=False)
    """Whether what is wrong is what a loader held at the save: taken from the pipeline, and not trained on yet."""
    torn: bool = field(default=False, compare=False)
    """Whether parts of the model that a life restored are of different moments."""
    lives: tuple[LifeSpan, ...] = field(default=(), compare=False)
    """Where the lives trained, the reference run first: how the judgement looks, not what it is."""

    @property
    def exact(self) -> bool:
        """Whether the resumed pipeline yielded exactly the unseen elements."""
        return self.outcome is Outcome.EXACT
