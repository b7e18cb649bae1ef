"""The input pipelines of a v1 graph: the ops that save, restore and advance them. Knows nothing of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import FastForwardError, HookUsageError, NotSerializableError

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICIES = {"warn": 0, "ignore": 1, "fail": 2}
"""The values of the attribute `external_state_policy` of the op SerializeIterator (`tf.data`'s C++ enum)."""
_OWN_OPS = "pipeline_ckpt_ops"
_GET_NEXT = {"IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional"}
_HARMLESS = {"MakeIterator", "IteratorToStringHandle", "SerializeIterator", "DeserializeIterator"}


class InputPipelines:
    """All iterators of the default graph's collection "iterators".

    Args:
        policy: "fail", "warn" or "ignore": what to do about state outside the pipeline.
        elements_per_step: for each iterator how many elements a step takes; one number is for all of them,
            None counts the graph's get-next ops.

    Raises:
        HookUsageError: no iterator; another number of them; what a step takes cannot be counted.
    """

    def __init__(self, *, policy: str, elements_per_step: int | Sequence[int] | None) -> None:
        resources = {resource.name: resource for resource in tf.compat.v1.get_collection("iterators")}
        if not resources:
            raise HookUsageError(
                'The graph has 0 iterators in its collection "iterators", CheckpointInputPipelineHook needs '
                "at least 1: make the iterator with tf.compat.v1.data.make_initializable_iterator(dataset) "
                "before the session."
            )
        self.names = tuple(resources)
        self._per_step = _per_step(list(resources.values()), elements_per_step)
        with tf.name_scope("pipeline_ckpt"):
            self._build(list(resources.values()), policy)

    def _build(self, resources: list[Any], policy: str) -> None:
        # The names that TensorFlow's own hook gave to the same tensors.
        keys = [name + "_STATE" for name in self.names]
        self._prefix = tf.compat.v1.placeholder(tf.string, [], name="prefix")
        states = [
            tf.raw_ops.SerializeIterator(resource_handle=resource, external_state_policy=POLICIES[policy])
            for resource in resources
        ]
        self._save = tf.raw_ops.SaveV2(
            prefix=self._prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=states
        )
        # One read for all of them: where a file is damaged, no iterator has changed yet.
        read = tf.raw_ops.RestoreV2(
            prefix=self._prefix,
            tensor_names=keys,
            shape_and_slices=[""] * len(keys),
            dtypes=[tf.variant] * len(keys),
        )
        restores = zip(resources, read, strict=True)
        self._restore = [tf.raw_ops.DeserializeIterator(resource_handle=r, serialized=state) for r, state in restores]
        self._advance = [_get_next(resource) for resource in resources]
        for op in self._advance:
            tf.compat.v1.add_to_collection(_OWN_OPS, op)

    def save(self, session: Any, prefix: str) -> None:
        """Writes the iterators' state as a TensorFlow checkpoint (no variables, no graph)."""
        try:
            session.run(self._save, {self._prefix: prefix})
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError) as error:
            raise NotSerializableError(
                f"The state of the iterators {', '.join(self.names)} cannot be saved: {_first_line(error)} "
                'Use stateless ops (tf.random.stateless_uniform), or external_state_policy="warn" or '
                '"ignore" if it may be lost in a preemption.'
            ) from error

    def restore(self, session: Any, prefix: str) -> None:
        """Reads what `save` wrote; a damaged file is an `OpError` and leaves the iterators as they were."""
        session.run(self._restore, {self._prefix: prefix})

    def advance(self, session: Any, *, start: int, stop: int) -> None:
        """Takes, and drops, the elements of the steps from `start` to `stop`."""
        for name, op, per_step in zip(self.names, self._advance, self._per_step, strict=True):
            count, taken = (stop - start) * per_step, 0
            try:
                for taken in range(count):  # noqa: B007  (what was taken when it ended)
                    session.run(op)
            except tf.errors.OutOfRangeError:
                # As an OutOfRangeError it would end the training "successfully" after 0 steps.
                raise FastForwardError(
                    f"The iterator {name} ended after {taken} of the {count} elements from step {start} to "
                    f"the model's step {stop}: the data has become shorter, or elements_per_step is not "
                    f"{per_step}."
                ) from None


def _get_next(resource: Any) -> Any:
    types, shapes = (resource.op.get_attr(name) for name in ("output_types", "output_shapes"))
    return tf.raw_ops.IteratorGetNext(iterator=resource, output_types=types, output_shapes=shapes)[0].op


def _per_step(resources: list[Any], given: int | Sequence[int] | None) -> list[int]:
    if isinstance(given, int):
        return [given] * len(resources)
    if given is not None:
        if len(given) != len(resources):
            raise HookUsageError(
                f"elements_per_step={tuple(given)} is for {len(given)} iterators, the graph has "
                f"{len(resources)}: give one number for each of "
                f"{', '.join(resource.name for resource in resources)}."
            )
        return list(given)
    own = set(tf.compat.v1.get_collection(_OWN_OPS))
    consumers = [op for resource in resources for op in resource.consumers() if op not in own]
    get_next = [op.name for op in consumers if op.type in _GET_NEXT]
    others = [op.name for op in consumers if op.type not in _GET_NEXT | _HARMLESS]
    # Whether each step runs each of several get-next ops (a validation iterator, a peek, a branch) is not in
    # the graph.
    if len(resources) != 1 or len(get_next) != 1 or others:
        raise HookUsageError(
            f"How many elements a step takes cannot be counted: {len(resources)} iterators with "
            f"{len(get_next)} get-next ops ({', '.join(get_next + others) or 'none'}), only 1 with 1 is "
            "certain. Pass elements_per_step= with one number for each of "
            f"{', '.join(resource.name for resource in resources)} (0: not used in training)."
        )
    return [1]


def _first_line(error: Exception) -> str:
    """The sentence of an OpError that says why; TensorFlow puts a header and the traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    at = next((i + 1 for i, line in enumerate(lines) if line.startswith("Node:")), 0)
    return lines[min(at, len(lines) - 1)] if lines else type(error).__name__
