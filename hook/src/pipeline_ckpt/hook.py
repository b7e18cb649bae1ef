"""The session hook: when to save, what to restore."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from .errors import HookUsageError, NoUsableCheckpointError
from .graph import POLICIES, InputPipelines
from .store import CheckpointStore, Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

logger = logging.getLogger("pipeline_ckpt")

_DAMAGED = (tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.NotFoundError)
_UNFIT = (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.InternalError)


class CheckpointInputPipelineHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # untyped base
    """Saves the graph's iterators every N steps or seconds, and resumes them where the restored model stands.

    On resume it takes the newest whole input checkpoint that is not beyond the model's `global_step` s, then
    reads and drops the elements from its step to s. So model and input may be saved at different steps, in
    either order, and a kill at any moment of either save is harmless. Input checkpoints beyond s are retired.

    Args:
        checkpoint_dir: The model's directory: the model checkpoints found in it decide which input
            checkpoints are kept besides the newest `max_to_keep`.
        save_steps: Save every so many steps. Exactly one of `save_steps` and `save_secs` is needed.
        save_secs: Save every so many seconds.
        external_state_policy: "fail" (default), "warn" or "ignore": what to do when the pipeline has state
            outside of itself (a stateful random op), which no checkpoint holds.
        max_to_keep: The number of newest input checkpoints that are kept in any case; None keeps all.
        checkpoint_basename: What the file names begin with; each worker that shares the directory
            needs another.
        on_missing: What to do when the model is at s > 0 and no input checkpoint is usable. "error" (default)
            stops, because that means that files were lost (the hook saves at its first step), and because the
            hook cannot know whether the pipeline yields the same elements when it starts again. "replay"
            reads and drops the elements of all s steps from the pipeline's start: exact for a pipeline that
            is the same in each run.
        elements_per_step: How many elements a step takes, one number or one for each iterator of the
            collection "iterators". Needed unless the graph has one iterator with one get-next op, which makes
            it 1.

    Raises:
        HookUsageError: A value is out of range (here); a graph without `global_step` or without iterators, or
            one for which `elements_per_step` is needed (in `begin`).
        NoUsableCheckpointError: See `on_missing`; from the first `run` of a session, as the next one.
        FastForwardError: The pipeline ended before the model's step.
        NotSerializableError: TensorFlow cannot save this pipeline; from the first `run` of a new training.
    """

    def __init__(
        self,
        *,
        checkpoint_dir: str | os.PathLike[str],
        save_steps: int | None = None,
        save_secs: float | None = None,
        external_state_policy: Literal["fail", "warn", "ignore"] | None = None,
        max_to_keep: int | None = 5,
        checkpoint_basename: str = "input.ckpt",
        on_missing: Literal["error", "replay"] = "error",
        elements_per_step: int | Sequence[int] | None = None,
    ) -> None:
        if (save_steps is None) == (save_secs is None):
            raise HookUsageError(
                f"Exactly one of save_steps and save_secs must be given, got save_steps={save_steps} and "
                f"save_secs={save_secs}: pass the one and leave out the other."
            )
        _check_least("save_steps", save_steps, least=1)
        _check_secs(save_secs)
        _check_least("max_to_keep", max_to_keep, least=1, remedy="pass one, or None to keep all")
        for count in (elements_per_step,) if isinstance(elements_per_step, int) else elements_per_step or ():
            _check_least("elements_per_step", count, least=0)
        _check_choice("external_state_policy", external_state_policy or "fail", POLICIES)
        _check_choice("on_missing", on_missing, ("error", "replay"))
        self._directory = os.fspath(checkpoint_dir)
        self._basename = checkpoint_basename
        self._store = CheckpointStore(self._directory, checkpoint_basename, max_to_keep=max_to_keep)
        self._save_steps, self._save_secs = save_steps, save_secs
        self._policy = external_state_policy or "fail"
        self._on_missing = on_missing
        self._elements_per_step = elements_per_step
        self._graph: Any = None
        self._resumed = False
        self._saved_step: int | None = None
        self._due_step, self._due_time = 0, 0.0

    def begin(self) -> None:
        """Builds the ops; a second call in the same graph changes nothing."""
        graph = tf.compat.v1.get_default_graph()
        if graph is self._graph:
            return
        self._global_step = tf.compat.v1.train.get_global_step(graph)
        if self._global_step is None:
            raise HookUsageError(
                "The graph has no global_step, by which CheckpointInputPipelineHook knows the model's step: "
                "call tf.compat.v1.train.get_or_create_global_step() before the session is made."
            )
        self._pipelines = InputPipelines(policy=self._policy, elements_per_step=self._elements_per_step)
        self._graph = graph

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002  (TensorFlow's)
        """A new session, also one that replaces a broken one, resumes at its first `run`."""
        self._resumed = False

    def before_run(self, run_context: Any) -> Any:
        """Resumes before the first step: here all other hooks have initialised their iterators."""
        if not self._resumed:
            self._resume(run_context.session)
            self._resumed = True
        return tf.compat.v1.train.SessionRunArgs(self._global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves when it is time."""
        # Read in the same run as the increment, the value is from before or after it: a hint that spares a
        # second run in most steps, never the step of a checkpoint.
        if self._due(int(run_values.results) + 1):
            step = self._read_step(run_context.session)
            if self._due(step):
                self._save(run_context.session, step)

    def end(self, session: Any) -> None:
        """Saves once more; called when the training or its data ends, not after an error."""
        if self._resumed:
            self._save(session, self._read_step(session))

    def _resume(self, session: Any) -> None:
        begun = time.monotonic()
        step = self._read_step(session)
        self._store.open()
        self._saved_step = None
        start, problems = self._restore_newest(session, step)
        if start is None and step > 0 and self._on_missing == "error":
            raise NoUsableCheckpointError(
                f"The model in {self._directory} is at global_step {step}, and no input checkpoint "
                f"{self._basename}-N with N <= {step} is usable ({'; '.join(problems) or 'none found'}). "
                'Restore the files, or pass on_missing="replay" if the pipeline yields the same elements in '
                "each run."
            )
        self._pipelines.advance(session, start=start or 0, stop=step)
        self._store.retire_beyond(step)
        self._schedule(step)
        if start is None:
            # The first checkpoint holds the seeds that the pipeline drew: later fast-forwards need no luck.
            self._save(session, step, prune=False)
            return
        self._saved_step = start
        logger.info(
            "resumed %s-%d, and %d steps forward to global_step %d, in %.3f s",
            *(self._basename, start, step - start, step, time.monotonic() - begun),
        )

    def _restore_newest(self, session: Any, step: int) -> tuple[int | None, list[str]]:
        """The step of the checkpoint that was restored, None for none, and why others were not."""
        marks, problems = self._store.committed()
        for mark in marks:
            if mark.step > step:
                continue
            name = f"{self._basename}-{mark.step}"
            if mark.iterators != self._pipelines.names:
                problems.append(f"{name}: holds {_join(mark.iterators)}, the graph has {_join(self._pipelines.names)}")
                continue
            try:
                self._pipelines.restore(session, self._store.prefix(mark.step))
            except (*_DAMAGED, *_UNFIT) as error:
                problems.append(f"{name}: {type(error).__name__}")
                if isinstance(error, _DAMAGED):
                    self._store.retire(mark.step)
                continue
            _warn(problems)
            return mark.step, problems
        _warn(problems)
        return None, problems

    def _save(self, session: Any, step: int, *, prune: bool = True) -> None:
        if step != self._saved_step:  # a checkpoint in its place is never written again
            begun = time.monotonic()
            self._pipelines.save(session, self._store.begin_save(step))
            size = self._store.commit(Mark(step, self._pipelines.names))
            self._saved_step = step
            if prune:
                self._store.prune()
            logger.info("saved %s-%d, %d bytes in %.3f s", self._basename, step, size, time.monotonic() - begun)
        self._schedule(step)

    def _due(self, step: int) -> bool:
        return step >= self._due_step if self._save_steps else time.monotonic() >= self._due_time

    def _schedule(self, step: int) -> None:
        self._due_step = step + (self._save_steps or 0)
        self._due_time = time.monotonic() + (self._save_secs or 0)

    def _read_step(self, session: Any) -> int:
        return int(session.run(self._global_step))


def _warn(problems: list[str]) -> None:
    for problem in problems:
        logger.warning("skipped input checkpoint %s", problem)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names)


def _check_least(name: str, value: object, *, least: int, remedy: str = "pass one") -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise HookUsageError(f"{name}={value!r} is not an integer of at least {least}: {remedy}.")


def _check_secs(value: object) -> None:
    if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0):
        raise HookUsageError(f"save_secs={value!r} is not a number above 0: pass one, in seconds.")


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise HookUsageError(f"{name}={value!r} is unknown: pass {' or '.join(map(repr, choices))}.")
