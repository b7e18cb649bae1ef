"""What workers that step together decide together: the checkpoint to resume from, when to save, when to leave.

All of it is by collectives of the strategy itself, so it needs no common directory and no other connection. Each worker
must call the same methods in the same order, between two steps, in the thread that trains.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import tensorflow as tf

from .errors import HookUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("pipeline_ckpt")

_NEWEST = 64
"""So many checkpoints of each worker are compared."""
_SHARE = 0.01
"""Of the training's time that asking for notices may take."""
_LONGEST = 1.0
"""Seconds between two times of asking, at most, and at least one step."""
_NONE = -(2**62)
"""For no step."""

T = TypeVar("T")


class OtherWorkerError(RuntimeError):
    """Another worker could not do what all of them must do."""


class Agreement(Protocol):
    """What workers decide together."""

    count: int
    """The number of workers."""
    index: int
    """The number of this one; 0 is the chief."""

    def basename(self, name: str) -> str:
        """What the names of this worker's checkpoints begin with, where one worker's begin with `name`."""

    def newest_common(self, steps: Sequence[int]) -> int | None:
        """The newest step that each worker gives; None for none."""

    def all(self, ok: bool) -> bool:
        """Whether all workers say yes; none goes on before."""

    def together(self, action: Callable[[], T], failures: tuple[type[Exception], ...]) -> T:
        """Does something that counts only if all workers can do it.

        Args:
            action: what this worker does.
            failures: what it may end in.

        Raises:
            OtherWorkerError: this worker could, and another one could not.
        """

    def consult(self, *, notice: bool, due: bool) -> tuple[bool, bool]:
        """Asked after each step: whether a notice has come to any worker, and whether the chief's time to save has.

        All workers get the same answers at the same step, some steps later than what they answer: asking takes at most
        1 % of the training's time, or is done once a second.
        """


class Alone:
    """One worker, which agrees with itself at once."""

    count = 1
    index = 0

    def basename(self, name: str) -> str:
        """The name as it is."""
        return name

    def newest_common(self, steps: Sequence[int]) -> int | None:
        """The newest of all."""
        return max(steps, default=None)

    def all(self, ok: bool) -> bool:
        """What is said."""
        return ok

    def together(self, action: Callable[[], T], failures: tuple[type[Exception], ...]) -> T:  # noqa: ARG002
        """Does it."""
        return action()

    def consult(self, *, notice: bool, due: bool) -> tuple[bool, bool]:
        """What is said."""
        return notice, due


class Together:
    """The workers of a `MultiWorkerMirroredStrategy`.

    Args:
        strategy: it.
    """

    def __init__(self, strategy: Any) -> None:
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict()
        chiefs = len(cluster.get("chief", ()))
        self.count = chiefs + len(cluster.get("worker", ()))
        self.index = resolver.task_id + (0 if resolver.task_type == "chief" else chiefs)
        self._name = f"{resolver.task_type}_{resolver.task_id}"
        self._strategy = strategy
        self._replicas_here = strategy.num_replicas_in_sync // self.count
        self._rhythm = _Rhythm()

    def basename(self, name: str) -> str:
        """With the task: `ckpt_worker_1`."""
        return f"{name}_{self._name}"

    def newest_common(self, steps: Sequence[int]) -> int | None:
        """See `Agreement`."""
        newest = sorted(steps, reverse=True)[:_NEWEST]
        rows = self._exchange(newest + [_NONE] * (_NEWEST - len(newest)))
        common = set.intersection(*map(set, rows)) - {_NONE}
        return max(common, default=None)

    def all(self, ok: bool) -> bool:
        """See `Agreement`."""
        return all(row[0] for row in self._exchange([int(ok)]))

    def together(self, action: Callable[[], T], failures: tuple[type[Exception], ...]) -> T:
        """See `Agreement`."""
        try:
            result = action()
        except failures:
            self.all(False)
            raise
        if not self.all(True):
            raise OtherWorkerError("another worker could not")
        return result

    def consult(self, *, notice: bool, due: bool) -> tuple[bool, bool]:
        """See `Agreement`."""
        if not self._rhythm.is_time():
            return False, False
        begun = time.monotonic()
        rows = self._exchange([int(notice), int(due), self._rhythm.proposal(begun)])
        self._rhythm.asked(begun, time.monotonic(), agreed=rows[0][2])
        return any(row[0] for row in rows), bool(rows[0][1])

    def _exchange(self, row: Sequence[int]) -> list[list[int]]:
        """What each worker gives, in the order of the workers."""
        empty = [0] * len(row)
        mine = [list(row) if number == self.index else empty for number in range(self.count)]

        def of_replica(context: Any) -> Any:
            # One replica of a worker speaks for it; the numbers of a worker's replicas follow one another.
            speaks = context.replica_id_in_sync_group % self._replicas_here == 0
            return tf.constant(mine if speaks else [empty] * self.count, tf.int64)

        values = self._strategy.experimental_distribute_values_from_function(of_replica)
        rows: list[list[int]] = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy().tolist()
        return rows


class _Rhythm:
    """After how many steps workers ask one another again. The chief proposes; the step of asking is all workers'."""

    def __init__(self) -> None:
        self._interval = 1
        self._steps = 0
        self._since: float | None = None
        """When it was asked last."""
        self._cost = math.inf
        """What asking takes; the least seen, because a worker that is behind is waited for in any case."""

    def is_time(self) -> bool:
        """A step has ended; whether it is time to ask."""
        self._steps += 1
        return self._steps >= self._interval

    def proposal(self, now: float) -> int:
        """After how many steps to ask again, as it looks from here."""
        if self._since is None or self._cost == math.inf:
            return 1
        step = max((now - self._since) / self._steps, 1e-6)
        wanted = math.ceil(self._cost / _SHARE / step)
        longest = max(1, int(_LONGEST / step))
        return min(wanted, longest, 2 * self._interval)  # a step that was an exception does not count for long

    def asked(self, begun: float, ended: float, *, agreed: int) -> None:
        """It was asked."""
        self._cost = min(self._cost, ended - begun)
        self._since, self._steps, self._interval = ended, 0, agreed


def agreement(strategy: Any) -> Agreement:
    """How the workers of a strategy decide together.

    Args:
        strategy: a `tf.distribute.Strategy`, the default one included.

    Raises:
        HookUsageError: its workers do not step together.
    """
    extended = strategy.extended
    if isinstance(strategy, tf.distribute.experimental.ParameterServerStrategy):
        raise HookUsageError(
            "The workers of a ParameterServerStrategy do not step together, so they have no common position in the "
            "data: train with MultiWorkerMirroredStrategy or MirroredStrategy, or with a MonitoredTrainingSession and "
            "CheckpointInputPipelineHook."
        )
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and extended._in_multi_worker_mode():
        several = Together(strategy)
        if several.count > 1:
            return several
    return Alone()


__all__ = ["Agreement", "Alone", "OtherWorkerError", "Together", "agreement"]
