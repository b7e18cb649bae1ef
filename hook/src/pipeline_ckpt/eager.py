"""The iterators of eager code: what saves, restores and advances them. Knows nothing of files but their prefix."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .ahead import Ahead
from .describe import PipelineGraph, element_words
from .errors import FastForwardError, NotSerializableError
from .pipelines import (
    POLICIES,
    OtherPipelineError,
    end_while_advancing,
    end_while_skipping,
    not_serializable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger("pipeline_ckpt")

_LARGEST_LOOKED_INTO = 256 * 2**20
"""Bytes: a dataset that holds more in memory is not serialised only to be looked at."""
_ENDED = (StopIteration, tf.errors.OutOfRangeError)
_PYTHON = ("GeneratorDataset", "PyFunc", "EagerPyFunc")
"""What TensorFlow saves under no policy, and what it saves without its state where the policy allows that."""
_BEGINNING = "_beginning"
_AHEAD = "ahead"
_UNSERIALIZABLE = (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError)


class EagerPipelines:
    """Some iterators of eager code; see `Pipelines` for what is not said here.

    Args:
        iterators: `tf.data.Iterator`s or `tf.distribute.DistributedIterator`s, at their beginning.
        policy: "fail", "warn" or "ignore": what to do about state outside the pipeline.
        given: how many elements a step takes of each, as the user says.
        companions: asked at each save for what else belongs into the checkpoint: names and trackables.
        renew: makes the iterators of another pass over the data; None: a training ends with its data.
        passes: whether there may be other passes, with iterators of their own.
    """

    def __init__(
        self,
        iterators: Sequence[Any],
        *,
        policy: str,
        given: tuple[int, ...] | None,
        companions: Callable[[], Mapping[str, Any]],
        renew: Callable[[], Sequence[Any]] | None = None,
        passes: bool = True,
    ) -> None:
        self.names = tuple("iterator" if number == 0 else f"iterator_{number}" for number in range(len(iterators)))
        self.given = given
        self.countable = True
        self.dropped = 0
        self.may_lack = 0
        """By how many elements the count of what was taken may be too high, at the end of the data only."""
        self._policy = POLICIES[policy]
        self._companions = companions
        self.with_model = bool(companions())
        self._renew = renew
        self.goes_on = renew is not None
        self.renewed = 0
        """How many passes `advance` has come to the end of."""
        self._held: dict[str, Any] | None = None
        self.ahead = Ahead(iterators[0].element_spec)
        """What was taken of the first iterator, and not handed to the training."""
        self.graph = _graph_of(iterators)
        # TensorFlow itself says so only when they have run, which may be long after the first save.
        self._python = self.graph.has_op(_PYTHON if policy == "fail" else _PYTHON[:1])
        self._ends = not _never_ends(iterators)
        self.passes = passes and self._ends
        self.use(iterators)

    def use(self, iterators: Sequence[Any]) -> None:
        """From now on they are these, at the beginning of the same datasets."""
        self._iterators = list(iterators)
        self._counts = [0] * len(iterators)
        self.ahead.clear()
        self._is_fresh = True
        """Whether nothing was taken of them, in this life or in the one that is resumed."""
        self._first: list[Any] | None = None
        with contextlib.suppress(NotSerializableError):
            self._first = self._states()

    def took(self, count: int) -> None:
        """The training has taken so many further elements of the first iterator."""
        self._counts[0] += count

    def fetch(self) -> Any:
        """The next element of the first iterator, which goes behind those that are taken already."""
        return next(self._iterators[0])

    def hold(self) -> None:
        """Takes the iterators' state; see `Pipelines`."""
        self._held = self.parts()

    def parts(self) -> dict[str, Any]:
        """The iterators' state, for a `tf.train.Checkpoint`: names and trackables."""
        parts: dict[str, Any] = dict(zip(self.names, map(_State, self._states()), strict=True))
        beginning = self.beginning()
        if beginning is not None:
            parts |= {f"{name}{_BEGINNING}": _State(one) for name, one in zip(self.names, beginning, strict=True)}
        if self.ahead:
            parts[_AHEAD] = _State(self.ahead.saved())
        return parts

    def _states(self) -> list[Any]:
        resources = [getattr(iterator, "_iterator_resource", None) for iterator in self._iterators]
        if None in resources:
            distributed = type(self._iterators[resources.index(None)]).__name__
            raise NotSerializableError(
                f"The state of the iterators {', '.join(self.names)} cannot be saved: TensorFlow has no way to "
                f'serialise a {distributed}. Use state="position".',
                op=distributed,
                python=True,
            )
        if self._python:
            raise NotSerializableError(
                f"The state of the iterators {', '.join(self.names)} cannot be saved: {self._python} runs Python. Use "
                'state="position".',
                op=self._python,
                python=True,
            )
        try:
            return [self._state_of(resource) for resource in resources]
        except _UNSERIALIZABLE as error:
            raise not_serializable(self.names, error) from error

    def _state_of(self, resource: Any) -> Any:
        return tf.raw_ops.SerializeIterator(resource_handle=resource, external_state_policy=self._policy)

    def write(self, prefix: str) -> None:
        """Writes what is held, and the companions as they are, as one object-based checkpoint."""
        tf.train.Checkpoint(**self._companions(), **(self._held or {})).write(prefix)

    def drop(self) -> None:
        """Frees what is held."""
        self._held = None

    def restore(self, prefix: str) -> None:
        """Reads the iterators' part of what `write` wrote; see `Pipelines`."""
        # Read first, and alone: where a file is damaged, no iterator has changed yet.
        keys = [f"{name}/.ATTRIBUTES/{_State.KEY}" for name in self.names]
        states = tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), dtypes=[tf.variant] * len(keys)
        )
        try:
            # By the public way, which tools that watch a training know.
            tf.train.Checkpoint(**dict(zip(self.names, self._iterators, strict=True))).read(prefix).expect_partial()
        except tf.errors.OpError as error:
            raise OtherPipelineError(type(error).__name__) from error
        del states
        self._restore_draws(prefix)
        self._restore_ahead(prefix)
        self._is_fresh = False

    def _restore_draws(self, prefix: str) -> None:
        """Restores how often the shuffles have drawn, if it was saved; see `restore_beginning`."""
        keys = [f"{name}{_BEGINNING}/.ATTRIBUTES/{_State.KEY}" for name in self.names]
        if not all(map(tf.train.load_checkpoint(prefix).has_tensor, keys)):
            return
        first = tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), dtypes=[tf.variant] * len(keys)
        )
        self.restore_beginning(first)

    def _restore_ahead(self, prefix: str) -> None:
        self.ahead.clear()
        reader, key = tf.train.load_checkpoint(prefix), f"{_AHEAD}/.ATTRIBUTES/{_State.KEY}"
        if reader.has_tensor(key):
            self.ahead.restore(tf.constant(reader.get_tensor(key), tf.string))

    def beginning(self) -> list[Any] | None:
        """The iterators' state at the beginning of the pass, where the next pass (of a later call, too) needs it."""
        return self._first if self._ends and self.graph.draws.differs_by_pass else None

    def restore_beginning(self, states: Sequence[Any]) -> None:
        """Brings the shuffles of iterators that were restored to how often they have drawn.

        TensorFlow does not save what is below an op (`batch`) that has met its end: the next pass would be in another
        one's order. All iterators over a dataset share its shuffle's count of draws, so a further one is restored to
        the beginning of the pass, and thrown away. Where a shuffle draws more than once in a pass (`repeat`), that is
        too few if the pass has met its end, and only reading it again draws as often.
        """
        self._first = list(states)
        for iterator, first in zip(self._iterators, states, strict=True):
            # Before another iterator draws: the count that a state holds is that of all of them.
            state = None if self.graph.draws.once else self._state_of(iterator._iterator_resource)
            further = iter(iterator._dataset)
            _deserialise(further, first)
            if state is None:
                continue
            if _count_draws(state) < _count_draws(first):
                logger.info("the pass that was saved at its end is read again, to know the order of the next one")
                for _ in further:
                    pass
            else:
                _deserialise(iterator, state)  # a shuffle that goes on knows its draws, and has the last word

    def restart(self) -> None:
        """Brings the iterators to the beginning of their data, where they were when they were given."""
        if self._first is None:
            raise FastForwardError(
                f"The iterators {', '.join(self.names)} must begin anew, and TensorFlow cannot do that to them: start "
                "the training again."
            )
        self.ahead.clear()
        for iterator, state in zip(self._iterators, self._first, strict=True):
            _deserialise(iterator, state)

    def advance(self, *, start: int, stop: int, per_step: Sequence[int], wraps: bool) -> int:
        """Takes, and drops, the elements of the steps from `start` to `stop`; see `Pipelines`."""
        began = start
        for step in range(start, stop):
            taken = self._take_step(per_step)
            if taken and wraps and self._renew is not None and not (step == began and self._is_fresh):
                self.use(self._renew())
                self.renewed += 1
                began = step
                taken = self._take_step(per_step)
            if taken:
                raise FastForwardError(end_while_advancing(taken, step=step, start=start, stop=stop, per_step=per_step))
        return began

    def _take_step(self, per_step: Sequence[int]) -> str:
        """Takes and drops the elements of one step; the name of an iterator that ended before, else nothing."""
        for name, iterator, count in zip(self.names, self._iterators, per_step, strict=True):
            if self._take_away(iterator, count) < count:
                return name
        return ""

    def pass_over(self, passes: int) -> None:
        """Brings the iterators to a later pass: each new iterator of a dataset draws the next one's order."""
        for _ in range(passes):
            assert self._renew is not None, "a training with one pass has passed none"
            if self.graph.draws.differs_by_pass and not self.graph.draws.once:
                for iterator in self._iterators:
                    self.dropped += sum(1 for _ in iterator)
            self.use(self._renew())

    def skip(self, counts: Sequence[int]) -> None:
        """Takes, and drops, so many elements of each iterator; see `Pipelines`."""
        for name, iterator, count in zip(self.names, self._iterators, counts, strict=True):
            taken = self._take_away(iterator, count)
            if taken < count - self.may_lack:
                raise FastForwardError(end_while_skipping(name, taken, count))

    def _take_away(self, iterator: Any, count: int) -> int:
        """Takes and drops elements; how many there were."""
        for taken in range(count):
            try:
                if iterator is self._iterators[0] and self.ahead:
                    self.ahead.take()
                else:
                    next(iterator)
            except _ENDED:
                return taken
            self.dropped += 1
            self._is_fresh = False
        return count

    def count_from_zero(self) -> None:
        """Forgets what was taken so far."""
        self._counts = [0] * len(self._iterators)

    def counts(self) -> tuple[int, ...]:
        """How many elements the training has taken of each iterator since `count_from_zero`."""
        return tuple(self._counts)

    def assumed(self) -> tuple[int, ...] | None:
        """Nothing can be assumed of eager code."""
        return None


class LoopPipelines(EagerPipelines):
    """The iterator of a loop.

    Args:
        inside: its state is in somebody else's checkpoint, which restores it before it is resumed.
        more: of `EagerPipelines`.
    """

    def __init__(self, iterators: Sequence[Any], *, inside: bool, **more: Any) -> None:
        super().__init__(iterators, **more)
        self._inside = inside
        self.elsewhere: str | None = None
        """Where what `parts` gave is to be restored from."""

    def restore(self, prefix: str) -> None:
        """Reads what `write` wrote, where nobody else has restored it."""
        if not self._inside or self.elsewhere is not None:
            super().restore(prefix if self.elsewhere is None else self.elsewhere)


class _State(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]  # untyped base
    """A state that was taken, in a checkpoint's place of its iterator."""

    KEY = "ITERATOR_STATE"
    """As `tf.data.Iterator` names its tensor, so that TensorFlow restores it into an iterator."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {self.KEY: self._state}

    def _restore_from_tensors(self, restored: Any) -> None:
        raise NotImplementedError("it is restored into an iterator")


class BeginningOfPass(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]  # untyped base
    """The beginning of an iterator's pass, beside the iterator in somebody else's `tf.train.Checkpoint`.

    Args:
        pipelines: of one iterator.
    """

    def __init__(self, pipelines: EagerPipelines) -> None:
        self._pipelines = pipelines
        self._restored: Any = None

    def _serialize_to_tensors(self) -> dict[str, Any]:
        first = self._pipelines.beginning()
        assert first is not None, "it is only saved where there is one"
        return {_State.KEY: first[0]}

    def _restore_from_tensors(self, restored: Any) -> None:
        self._restored = restored[_State.KEY]

    def apply(self) -> None:
        """Brings back what was restored, if anything was; the iterator itself must have been restored before."""
        if self._restored is not None:
            self._pipelines.restore_beginning([self._restored])


class AheadOfTraining(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]  # untyped base
    """What was taken and not handed out, beside the iterator in somebody else's `tf.train.Checkpoint`.

    Args:
        pipelines: of one iterator.
    """

    def __init__(self, pipelines: EagerPipelines) -> None:
        self._pipelines = pipelines

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {_State.KEY: self._pipelines.ahead.saved()}

    def _restore_from_tensors(self, restored: Any) -> None:
        self._pipelines.ahead.restore(restored[_State.KEY])


def _never_ends(iterators: Sequence[Any]) -> bool:
    datasets = [dataset for iterator in iterators for dataset in _datasets(iterator) if dataset is not None]
    return any(int(one.cardinality()) == tf.data.INFINITE_CARDINALITY for one in datasets)


def _deserialise(iterator: Any, state: Any) -> None:
    tf.raw_ops.DeserializeIterator(resource_handle=iterator._iterator_resource, serialized=state)


def _count_draws(state: Any) -> int:
    """How many shuffles an iterator's state knows the draws of; where TensorFlow names them otherwise, none."""
    return int(tf.io.serialize_tensor(state).numpy().count(b"@@epoch_num_random_samples"))


def _graph_of(iterators: Sequence[Any]) -> PipelineGraph:
    """What can be told of the datasets behind iterators."""
    elements = tuple(map(element_words, iterators))
    datasets = [dataset for iterator in iterators for dataset in _datasets(iterator)]
    if None in datasets:
        return PipelineGraph({}, {}, roots=[], elements=elements, unknown="an iterator whose dataset is not known")
    size = sum(map(_bytes_in_memory, datasets))
    if size > _LARGEST_LOOKED_INTO:
        why = f"a dataset that holds {size / 2**20:,.0f} MiB in memory, which is not looked into"
        return PipelineGraph({}, {}, roots=[], elements=elements, unknown=why)
    try:
        return PipelineGraph.of_datasets(datasets, elements)
    except tf.errors.OpError as error:
        why = f"a dataset that TensorFlow cannot describe ({type(error).__name__})"
        return PipelineGraph({}, {}, roots=[], elements=elements, unknown=why)


def _datasets(iterator: Any) -> list[Any]:
    """The datasets of an iterator: one, or one for each of a distributed iterator's workers here."""
    inner = getattr(iterator, "_iterators", None)
    return [getattr(one, "_dataset", None) for one in (inner or [iterator])]


def _bytes_in_memory(dataset: Any) -> int:
    """What the tensors take that a pipeline was made of."""
    pending, size = [dataset], 0
    while pending:
        one = pending.pop()
        pending.extend(one._inputs())
        tensors = tf.nest.flatten(getattr(one, "_tensors", ()))
        size += sum(tensor.dtype.size * (tensor.shape.num_elements() or 0) for tensor in tensors)
    return size


__all__ = ["BeginningOfPass", "EagerPipelines"]
