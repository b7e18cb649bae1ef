"""What the checkpointer needs of iterators, whether they are a session's or those of eager code."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Protocol

from .errors import NotSerializableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .describe import PipelineGraph

POLICIES = {"warn": 0, "ignore": 1, "fail": 2}
"""The values of the attribute `external_state_policy` of the op SerializeIterator (`tf.data`'s C++ enum)."""

_STATEFUL = re.compile(r"(\w+) is stateful|(\w+) does not support checkpointing")
_DATA_SERVICE = "SaveInternal is not yet supported"
"""What TensorFlow says of tf.data service, without its name."""
_PYTHON = frozenset(("PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset"))
"""What is Python in a pipeline: no checkpoint holds it, but it can be run again."""


class OtherPipelineError(Exception):
    """TensorFlow cannot restore a whole state into these iterators: they are of another pipeline."""


class Pipelines(Protocol):
    """Some iterators that are saved and restored together."""

    names: tuple[str, ...]
    """By which they are recognised."""
    graph: PipelineGraph
    given: tuple[int, ...] | None
    """How many elements a step takes of each, as the user says."""
    countable: bool
    """Whether `counts` knows what was taken."""
    goes_on: bool
    """Whether the training goes on with the data from its beginning, where it has ended."""
    passes: bool
    """Whether the training may make several iterators over the same data, one after the other."""
    with_model: bool
    """Whether `write` writes a model too."""
    dropped: int
    """How many elements `skip` and `advance` have taken."""

    def hold(self) -> None:
        """Takes the iterators' state, to be written by `write`; the training waits for no more than this.

        Raises:
            NotSerializableError: TensorFlow cannot, or by the policy must not, serialise it.
        """

    def write(self, prefix: str) -> None:
        """Writes what is held as a TensorFlow checkpoint."""

    def drop(self) -> None:
        """Frees what is held."""

    def restore(self, prefix: str) -> None:
        """Reads what `write` wrote; a damaged file is an `OpError` and leaves the iterators as they were.

        Raises:
            OtherPipelineError: the file is whole, and of another pipeline; the iterators may have got a part of it.
        """

    def advance(self, *, start: int, stop: int, per_step: Sequence[int], wraps: bool) -> int:
        """Takes, and drops, the elements of the steps from `start` to `stop`.

        Args:
            wraps: Where the data ends, it begins anew, as a training does that is called for one epoch after another.

        Returns:
            The step at which the data began anew last; `start` if it never did.

        Raises:
            FastForwardError: The data ended, and does not begin anew, or not with a whole step.
        """

    def pass_over(self, passes: int) -> None:
        """Brings iterators at their beginning to the beginning of a later pass, where each pass has its own order."""

    def skip(self, counts: Sequence[int]) -> None:
        """Takes, and drops, so many elements of each iterator.

        Raises:
            FastForwardError: One ended before.
        """

    def restart(self) -> None:
        """Brings the iterators to the beginning of their data.

        Raises:
            FastForwardError: That is not possible.
        """

    def count_from_zero(self) -> None:
        """Forgets what was taken so far."""

    def counts(self) -> tuple[int, ...]:
        """How many elements the training has taken of each iterator since `count_from_zero`."""

    def assumed(self) -> tuple[int, ...] | None:
        """How many elements of each iterator a step takes, where nothing was counted; None: that is not known."""


def end_while_skipping(name: Any, taken: int, count: int) -> str:
    """Says that the data was shorter than what had been taken of it."""
    return (
        f"The iterator {name} ended after {taken} of the {count} elements that were taken before the preemption: the "
        "data has become shorter."
    )


def end_while_advancing(name: Any, *, step: int, start: int, stop: int, per_step: Sequence[int]) -> str:
    """Says that the data was shorter than the steps of the model."""
    shown = str(per_step[0] if len(per_step) == 1 else tuple(per_step))
    return (
        f"The iterator {name} ended at step {step}, {step - start} of the {stop - start} steps from step {start} to "
        f"the model's step {stop} (elements_per_step={shown}): the data has become shorter, or elements_per_step is "
        "another number."
    )


def not_serializable(names: Sequence[str], error: Any) -> NotSerializableError:
    """What to raise for an OpError of the op SerializeIterator."""
    named = _STATEFUL.search(str(error))
    op = "" if named is None else named[1] or named[2]
    service = _DATA_SERVICE in str(error)
    if service:
        op = "DataServiceDataset"
    return NotSerializableError(
        f"The state of the iterators {', '.join(names)} cannot be saved: {first_line(error)} "
        'Use stateless ops (tf.random.stateless_uniform), or state="position" if the pipeline yields the same elements '
        'in each run, or external_state_policy="warn" or "ignore" if that state may be lost in a preemption.',
        op=op,
        python=op in _PYTHON or service,
    )


def first_line(error: Exception) -> str:
    """The sentence of an OpError that says why; TensorFlow puts a header and the traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    at = next((i + 1 for i, line in enumerate(lines) if line.startswith("Node:")), 0)
    return lines[min(at, len(lines) - 1)] if lines else type(error).__name__


def reason(error: Exception) -> str:
    """What the system says, without TensorFlow's header and stack; the last part of `path; No space left`."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = str(error).splitlines()
    said = next((line.strip() for line in lines if "; " in line), first_line(error))
    return said.rsplit("; ", 1)[-1].split(" [")[0]
