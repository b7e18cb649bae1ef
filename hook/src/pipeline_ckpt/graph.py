"""The input pipelines of a v1 graph: the ops that save, restore and advance them. Knows nothing of files."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .describe import PipelineGraph, initializers
from .errors import FastForwardError, HookUsageError
from .pipelines import (
    POLICIES,
    OtherPipelineError,
    end_while_advancing,
    end_while_skipping,
    not_serializable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OWN_OPS = "pipeline_ckpt_ops"
_GET_NEXT = {"IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional"}
_HARMLESS = {"MakeIterator", "IteratorToStringHandle", "SerializeIterator", "DeserializeIterator"}
_PROBE_MS = 2000


class SessionPipelines:
    """Some iterators of the default graph.

    Args:
        iterators: the iterators, their resource tensors, or those tensors' names; None for all in the graph's
            collection "iterators".
        policy: "fail", "warn" or "ignore": what to do about state outside the pipeline.
        elements_per_step: for each iterator how many elements a step takes; one number is for all of them, None for
            what is counted while the training runs.

    Raises:
        HookUsageError: no iterator; another number of them.
    """

    def __init__(self, *, iterators: Sequence[Any] | None, policy: str, elements_per_step: Any) -> None:
        resources = _resources(iterators)
        self.names = tuple(resource.name for resource in resources)
        self.graph = PipelineGraph.of_resources(resources)
        self.device: str = resources[0].device
        """Where the first one is."""
        self.given = _given(elements_per_step, self.names)
        self.goes_on = self.passes = self.with_model = False
        self.dropped = 0
        """How many elements `skip` and `advance` have taken."""
        self.session: Any = None
        """In which the ops run."""
        self._resources = resources
        self._unique = uuid.uuid4().hex  # another hook of this graph has variables of its own
        with tf.name_scope("pipeline_ckpt"):
            self._build(policy)
            self._count_elements()

    def _build(self, policy: str) -> None:
        # The names that TensorFlow's own hook gave to the same tensors.
        keys = [name + "_STATE" for name in self.names]
        self._prefix = tf.compat.v1.placeholder(tf.string, [], name="prefix")
        holders = [
            _variable(resource, f"{self._unique}_state_{number}", tf.variant, None)
            for number, resource in enumerate(self._resources)
        ]
        # The state is taken in the training thread, which must wait for it; what is held can be written by another.
        self._hold = [
            _held(resource, holder, policy) for resource, holder in zip(self._resources, holders, strict=True)
        ]
        held = [tf.raw_ops.ReadVariableOp(resource=holder, dtype=tf.variant) for holder in holders]
        self._write = tf.raw_ops.SaveV2(
            prefix=self._prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=held
        )
        self._drop = [tf.raw_ops.DestroyResourceOp(resource=holder, ignore_lookup_error=True) for holder in holders]
        # One read for all of them: where a file is damaged, no iterator has changed yet.
        read = tf.raw_ops.RestoreV2(
            prefix=self._prefix,
            tensor_names=keys,
            shape_and_slices=[""] * len(keys),
            dtypes=[tf.variant] * len(keys),
        )
        self._restore = _deserialized(self._resources, read)
        self._rewind = _deserialized(self._resources, held)
        self._advance = [_get_next(resource) for resource in self._resources]
        for op in self._advance:
            tf.compat.v1.add_to_collection(_OWN_OPS, op)
        self._restart = [op for resource in self._resources for op in initializers(resource)]

    def _count_elements(self) -> None:
        """Counts in the graph what the training takes: who takes an element runs what is before its get-next op."""
        self.countable = True
        self._zero, self._counts = [], []
        for number, resource in enumerate(self._resources):
            counter = _variable(resource, f"{self._unique}_count_{number}", tf.int64, [])
            with tf.compat.v1.colocate_with(resource, ignore_existing=True):
                zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
            self._zero.append(tf.raw_ops.AssignVariableOp(resource=counter, value=zero))
            self._counts.append(tf.raw_ops.ReadVariableOp(resource=counter, dtype=tf.int64))
            for op in self._consumers(resource):
                # In a branch or a loop, of functions or of v1's control flow, what is before an op runs anyway.
                if op.type not in _GET_NEXT or op._control_flow_context is not None:
                    self.countable = False
                else:
                    op._add_control_input(tf.raw_ops.AssignAddVariableOp(resource=counter, value=one))
        for op in self._zero:
            # A hook that takes an element before ours is asked must find the counters.
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, op)

    def count_from_zero(self) -> None:
        """Forgets what was taken so far."""
        self.session.run(self._zero)

    def counts(self) -> tuple[int, ...]:
        """How many elements the training has taken of each iterator since `count_from_zero`."""
        return tuple(int(count) for count in self.session.run(self._counts))

    def hold(self) -> None:
        """Takes the iterators' state; see `Pipelines`."""
        try:
            self.session.run(self._hold)
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError) as error:
            raise not_serializable(self.names, error) from error

    def write(self, prefix: str) -> None:
        """Writes what is held as a TensorFlow checkpoint (no variables, no graph); safe in any thread."""
        self.session.run(self._write, {self._prefix: prefix})

    def rewind(self) -> None:
        """Brings the iterators back to what is held."""
        self.session.run(self._rewind)

    def drop(self) -> None:
        """Frees what is held."""
        self.session.run(self._drop)

    def restore(self, prefix: str) -> None:
        """Reads what `write` wrote; see `Pipelines`."""
        try:
            self.session.run(self._restore, {self._prefix: prefix})
        except tf.errors.OpError as error:
            if error.op is not None and error.op.type == "DeserializeIterator":
                raise OtherPipelineError(type(error).__name__) from error
            raise

    def advance(self, *, start: int, stop: int, per_step: Sequence[int], wraps: bool) -> int:
        """Takes, and drops, the elements of the steps from `start` to `stop`; see `Pipelines`."""
        began = start
        for step in range(start, stop):
            taken = self._take(per_step)
            if taken and wraps and self._restart and step > began:
                self.restart()
                began = step
                taken = self._take(per_step)
            if taken:
                # As an OutOfRangeError it would end the training "successfully" after 0 steps.
                raise FastForwardError(end_while_advancing(taken, step=step, start=start, stop=stop, per_step=per_step))
        return began

    def _take(self, per_step: Sequence[int]) -> str | None:
        """Takes the elements of one step; the name of an iterator that ended before, else None."""
        for name, op, count in zip(self.names, self._advance, per_step, strict=True):
            try:
                for _ in range(count):
                    self.session.run(op)
                    self.dropped += 1
            except tf.errors.OutOfRangeError:
                return str(name)
        return None

    def restart(self) -> None:
        """Runs the iterators' initializers.

        Raises:
            FastForwardError: There is not one for each, so which dataset is the training's is not known.
        """
        if len(self._restart) != len(self._resources):
            raise FastForwardError(
                f"The data of the iterators {', '.join(self.names)} must begin anew, and the graph has "
                f"{len(self._restart)} initializers for {len(self._resources)} of them: give each iterator one dataset."
            )
        self.session.run(self._restart)

    def initialised_by(self, fetches: Any) -> bool:
        """Whether a `session.run` of these fetches initialises one of the iterators."""
        executed = _closure(self._resources[0].graph, fetches)
        return any(op.name in executed for op in self._restart)

    def pass_over(self, passes: int) -> None:
        """A session's data begins anew by initialisers, which draw the same order again; see `Pipelines`."""

    def skip(self, counts: Sequence[int]) -> None:
        """Takes, and drops, so many elements of each iterator; see `Pipelines`."""
        for name, op, count in zip(self.names, self._advance, counts, strict=True):
            try:
                for taken in range(count):  # noqa: B007  (what was taken when it ended)
                    self.session.run(op)
                    self.dropped += 1
            except tf.errors.OutOfRangeError:
                raise FastForwardError(end_while_skipping(name, taken, count)) from None

    def has_ended(self, trained: Sequence[bool]) -> bool:
        """Whether an iterator that is trained on has no further element; takes one if it has.

        An iterator that gives no answer within 2 s has not ended.
        """
        options = tf.compat.v1.RunOptions(timeout_in_ms=_PROBE_MS)
        try:
            for op, asked in zip(self._advance, trained, strict=True):
                if asked:
                    self.session.run(op, options=options)
        except tf.errors.OutOfRangeError:
            return True
        except tf.errors.OpError:
            return False
        return False

    def assumed(self) -> tuple[int, ...] | None:
        """How many elements of each iterator a step takes, where nothing was counted; None: the graph does not say.

        Only one iterator with one get-next op is certain: a second one may be of a validation, or a peek.
        """
        ops = [op for resource in self._resources for op in self._consumers(resource)]
        return (1,) if self.countable and len(self._resources) == 1 and len(ops) == 1 else None

    def _consumers(self, resource: Any) -> list[Any]:
        """The user's ops that may take elements of an iterator."""
        own = {op.name for op in self._resources[0].graph.get_collection(_OWN_OPS)}
        return [op for op in resource.consumers() if op.type not in _HARMLESS and op.name not in own]


def _resources(iterators: Sequence[Any] | None) -> list[Any]:
    graph = tf.compat.v1.get_default_graph()
    given = graph.get_collection("iterators") if iterators is None else list(iterators)
    tensors = [_resource(graph, one) for one in given]
    resources = list({tensor.name: tensor for tensor in tensors}.values())
    if not resources:
        raise HookUsageError(
            'The graph has 0 iterators in its collection "iterators", CheckpointInputPipelineHook needs at least 1: '
            "make the iterator with tf.compat.v1.data.make_initializable_iterator(dataset) before the session."
        )
    return resources


def _resource(graph: Any, one: Any) -> Any:
    if isinstance(one, str):
        try:
            return graph.get_tensor_by_name(one if ":" in one else f"{one}:0")
        except (KeyError, ValueError):
            known = ", ".join(resource.name for resource in graph.get_collection("iterators")) or "none"
            raise HookUsageError(
                f"iterators: the graph has no {one!r}; its iterators are {known}: pass some of these names, or leave "
                "iterators= out for all of them."
            ) from None
    return getattr(one, "_iterator_resource", one)


def _given(elements_per_step: Any, names: Sequence[str]) -> tuple[int, ...] | None:
    if elements_per_step is None:
        return None
    if isinstance(elements_per_step, int):
        return (elements_per_step,) * len(names)
    if len(elements_per_step) != len(names):
        raise HookUsageError(
            f"elements_per_step={tuple(elements_per_step)} is for {len(elements_per_step)} iterators, the graph has "
            f"{len(names)}: give one number for each of {', '.join(names)}."
        )
    return tuple(elements_per_step)


def _variable(resource: Any, name: str, dtype: Any, shape: Any) -> Any:
    # On the iterator's device: a device function would put a variable on a parameter server.
    with tf.compat.v1.colocate_with(resource, ignore_existing=True):
        return tf.raw_ops.VarHandleOp(
            dtype=dtype, shape=tf.TensorShape(shape), shared_name=f"pipeline_ckpt_{name}", container=""
        )


def _deserialized(resources: Sequence[Any], states: Sequence[Any]) -> list[Any]:
    pairs = zip(resources, states, strict=True)
    return [tf.raw_ops.DeserializeIterator(resource_handle=resource, serialized=state) for resource, state in pairs]


def _held(resource: Any, holder: Any, policy: str) -> Any:
    with tf.compat.v1.colocate_with(resource, ignore_existing=True):
        state = tf.raw_ops.SerializeIterator(resource_handle=resource, external_state_policy=POLICIES[policy])
        return tf.raw_ops.AssignVariableOp(resource=holder, value=state)


def _get_next(resource: Any) -> Any:
    types, shapes = (resource.op.get_attr(name) for name in ("output_types", "output_shapes"))
    return tf.raw_ops.IteratorGetNext(iterator=resource, output_types=types, output_shapes=shapes)[0].op


def _closure(graph: Any, fetches: Any) -> set[str]:
    """The names of all ops that a run of these fetches executes."""
    pending = [op for leaf in _leaves(fetches) for op in _ops(graph, leaf)]
    seen: set[str] = set()
    while pending:
        op = pending.pop()
        if op.name not in seen:
            seen.add(op.name)
            pending.extend(tensor.op for tensor in op.inputs)
            pending.extend(op.control_inputs)
    return seen


def _leaves(fetches: Any) -> Iterator[Any]:
    """The leaves of a fetch, in no certain order; keys may be anything."""
    if isinstance(fetches, dict):
        fetches = list(fetches.values())
    if isinstance(fetches, (list, tuple)):
        for one in fetches:
            yield from _leaves(one)
    else:
        yield fetches


def _ops(graph: Any, leaf: Any) -> Iterator[Any]:
    for part in tf.nest.flatten(leaf, expand_composites=True):
        try:
            element = graph.as_graph_element(part, allow_tensor=True, allow_operation=True)
        except (TypeError, ValueError, KeyError):
            continue  # not ours to judge: the run itself says what is wrong with it
        yield getattr(element, "op", element)
