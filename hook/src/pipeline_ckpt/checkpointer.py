"""Brings input pipelines to the model's step, and saves where they are: what hook and listener have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from .errors import FastForwardError, NotSerializableError, NoUsableCheckpointError, StorageError
from .store import CheckpointStore, Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .graph import InputPipelines

logger = logging.getLogger("pipeline_ckpt")

_DAMAGED = (tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.NotFoundError)
_UNFIT = (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError, tf.errors.InternalError)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user has decided; see `CheckpointInputPipelineHook`."""

    external_state: Literal["fail", "warn", "ignore"] = "fail"
    state: Literal["iterator", "position"] = "iterator"
    on_missing: Literal["error", "replay"] = "error"
    on_nondeterminism: Literal["error", "warn"] = "error"
    at_end: Literal["restart", "stop"] = "stop"


class InputCheckpointer:
    """The iterators of one graph and their checkpoints.

    Args:
        pipelines: the iterators.
        store: where their checkpoints are.
        policy: what to do where there is a choice.
    """

    def __init__(self, pipelines: InputPipelines, store: CheckpointStore, policy: Policy) -> None:
        self._pipelines = pipelines
        self._store = store
        self._directory = store.directory
        self._basename = store.basename
        self._policy = policy
        self._signature = pipelines.graph.signature
        self._holds = policy.state
        self._per_step: tuple[int, ...] | None = None
        self._began = 0
        self._saved: Mark | None = None
        self._half_restored = False
        self._failure: Exception | None = None
        """Why the last save could not be written."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="pipeline_ckpt")
        self._writing: Future[None] | None = None

    # Resuming.

    def resume(self, session: Any, step: int, fetches: Any) -> None:
        """Brings the iterators, which have just been initialised, to the element after step `step`.

        Args:
            fetches: of the run that is about to happen, which may tell what a step takes.

        Raises:
            NoUsableCheckpointError: there is no usable checkpoint, and the policy is "error".
            FastForwardError: the pipeline cannot be brought to `step`.
        """
        begun = time.monotonic()
        self.finish()
        self._saved = None
        try:
            self._store.open()
        except (OSError, tf.errors.OpError) as error:
            raise self._unwritable(error) from error
        self._per_step = self._pipelines.given or self._pipelines.count()
        self._half_restored = False
        mark, problems = self._restore_newest(session, step)
        if mark is None:
            if step > 0 and self._policy.on_missing == "error":
                raise self._nothing_usable(step, problems)
            self._began = 0
        start, fresh = self._start(mark)
        if fresh and self._half_restored:
            self._pipelines.restart(session)
        self._per_step = self._per_step or (None if mark is None else mark.elements_per_step)
        if start < step:
            self._fast_forward(session, start, step, fresh=fresh, counted=self._pipelines.count(fetches))
        self._store.retire_beyond(step)
        self._saved = mark
        if mark is not None:
            self._say_resumed(mark, start, step, time.monotonic() - begun)
        else:
            # The first checkpoint holds the seeds that the pipeline drew: later fast-forwards need no luck. It is
            # complete before the first step, or a model checkpoint could come to stand without it.
            self.save(session, step, wait=True, prune=False)
            if self._failure is not None:
                raise self._unwritable(self._failure) from self._failure

    def _unwritable(self, error: Exception) -> StorageError:
        return StorageError(
            f"No input checkpoint can be written to {self._directory}: {_reason(error)}. Nothing was trained; make "
            "room or the directory writable, or pass another checkpoint_dir."
        )

    def _restore_newest(self, session: Any, step: int) -> tuple[Mark | None, list[str]]:
        """The checkpoint that was restored, None for none, and why others were not."""
        marks, problems = self._store.committed()
        if not marks and not problems:
            return self._take_over(session, step)
        for mark in marks:
            if mark.step > step:
                continue
            problem = self._other_pipeline(mark) or self._restored(session, mark)
            if not problem:
                _warn(problems)
                return mark, problems
            problems.append(f"{self._basename}-{mark.step}: {problem}")
        _warn(problems)
        return None, problems

    def _other_pipeline(self, mark: Mark) -> str:
        """Why a checkpoint is not of these iterators; empty if it is."""
        if mark.iterators != self._pipelines.names:
            return f"holds {_join(mark.iterators)}, the graph has {_join(self._pipelines.names)}"
        if mark.signature is not None and mark.signature.elements != self._signature.elements:
            saved, now = "; ".join(mark.signature.elements), "; ".join(self._signature.elements)
            return f"has elements of {saved}, the graph's are {now}"
        return ""

    def _restored(self, session: Any, mark: Mark) -> str:
        """Restores a checkpoint; why that was not possible, empty if it was."""
        if mark.holds == "iterator" and not (mark.ended and self._policy.at_end == "restart"):
            try:
                self._pipelines.restore(session, self._store.prefix(mark.step))
            except (*_DAMAGED, *_UNFIT) as error:
                return self._not_restored(mark, error)
        if mark.signature is not None and mark.signature.fingerprint != self._signature.fingerprint:
            logger.warning(
                "the input pipeline is not the one that wrote %s-%d (its code, file names or TensorFlow's version "
                "changed): elements that were in its buffers are the old one's, all others the new one's",
                *(self._basename, mark.step),
            )
        return ""

    def _not_restored(self, mark: Mark, error: Any) -> str:
        """Why a checkpoint could not be restored."""
        if error.op is not None and error.op.type == "DeserializeIterator":
            # The file is whole. The iterators may have got a part of it.
            self._half_restored = True
            return f"TensorFlow cannot restore it into this pipeline, which is another one ({type(error).__name__})"
        if isinstance(error, _DAMAGED) and mark.signature is not None:  # one of TensorFlow's hook has no mark
            self._store.retire(mark.step)
        return type(error).__name__

    def _take_over(self, session: Any, step: int) -> tuple[Mark | None, list[str]]:
        """Restores what TensorFlow's own hook has left, and makes it a checkpoint of ours."""
        problems = []
        for foreign in self._store.foreign():
            if foreign > step:
                continue
            mark = Mark(foreign, self._pipelines.names)
            problem = self._restored(session, mark)
            if problem:
                problems.append(f"{self._basename}-{foreign} of TensorFlow's hook: {problem}")
                continue
            self._store.adopt(mark)
            logger.info("took over %s-%d, which TensorFlow's own hook has written", self._basename, foreign)
            return mark, problems
        _warn(problems)
        return None, problems

    def _nothing_usable(self, step: int, problems: list[str]) -> NoUsableCheckpointError:
        return NoUsableCheckpointError(
            f"The model in {self._directory} is at global_step {step}, and no input checkpoint "
            f"{self._basename}-N with N <= {step} is usable ({'; '.join(problems) or 'none found'}). "
            'Restore the files, or pass on_missing="replay" if the pipeline yields the same elements in each run.'
        )

    def _start(self, mark: Mark | None) -> tuple[int, bool]:
        """The step at which the iterators are now, and whether they are at the beginning of the data."""
        if mark is None:
            return 0, True
        if mark.ended and self._policy.at_end == "restart":
            self._began = mark.step
            return mark.step, True
        self._began = mark.began
        return (mark.began, True) if mark.holds == "position" else (mark.step, False)

    def _fast_forward(self, session: Any, start: int, step: int, *, fresh: bool, counted: Any) -> None:
        per_step = self._per_step = self._per_step or counted
        names = _join(self._pipelines.names)
        if per_step is None:
            raise FastForwardError(
                f"How many elements a step takes of the iterators {names} cannot be counted from the graph, and the "
                f"pipeline must be brought from step {start} to the model's step {step}. Pass elements_per_step= with "
                f"one number for each of them (0: not used in training)."
            )
        self._check_reproducible(start, step, fresh=fresh)
        wraps = self._policy.at_end == "restart"
        began = self._pipelines.advance(session, start=start, stop=step, per_step=per_step, wraps=wraps)
        self._began = began if began > start else self._began

    def _check_reproducible(self, start: int, step: int, *, fresh: bool) -> None:
        """Within an epoch the state of an unseeded shuffle is in the checkpoint; from the beginning nothing is."""
        found = self._pipelines.graph.unreproducible
        if not fresh:
            found = tuple(name for name in found if "deterministic" in name)
        if found:
            sentence = (
                f"the pipeline must be brought from step {start} to the model's step {step}, and does not yield the "
                f"same elements in the same order each time: {', '.join(found)}"
            )
            if self._policy.on_nondeterminism == "error":
                raise FastForwardError(
                    f"{sentence[0].upper()}{sentence[1:]}. Make it reproducible, or pass "
                    'on_nondeterminism="warn" if repeated and lost elements do not matter.'
                )
            logger.warning("%s: elements may be repeated or lost", sentence)
        elif self._pipelines.graph.reshuffles:
            logger.warning(
                "the pipeline is brought from step %d to %d by reading on: should an epoch end in between, its "
                "unseeded shuffle draws the next one anew; seed it to be sure",
                *(start, step),
            )

    def _say_resumed(self, mark: Mark, start: int, step: int, seconds: float) -> None:
        logger.info(
            "resumed %s-%d, and %d steps forward to global_step %d, in %.3f s",
            *(self._basename, mark.step, step - start, step, seconds),
        )
        if mark.ended and self._policy.at_end == "stop" and mark.step == step:
            logger.warning(
                'the data had ended at global_step %d: nothing is left to train on; pass at_end="restart" to begin the '
                "data anew",
                step,
            )

    # Saving.

    def save(self, session: Any, step: int, *, wait: bool, prune: bool = True, fetches: Any = None) -> None:
        """Saves the iterators as they are, unless step `step` is saved already.

        The training thread waits until their state is taken; another thread writes it, one save after the other.

        Args:
            wait: for the writing too.
            prune: delete checkpoints that are not needed any more.
            fetches: of the run that made this step, which may tell what a step takes.

        Raises:
            NotSerializableError: TensorFlow cannot save the pipeline, and the policy does not allow a position.
        """
        if self._saved is not None and self._saved.step == step:
            return
        begun = time.monotonic()
        self.finish()
        self._learn(fetches)
        self._hold(session)
        mark = self._mark(step)
        self._saved = mark
        self._writing = self._writer.submit(self._write, session, mark, begun, prune)
        if wait:
            self.finish()

    def save_last(self, session: Any, step: int, *, cut_short: bool) -> None:
        """Saves for the last time, and whether the data has ended.

        Args:
            cut_short: A run has not come back: the data has ended, or something else that is no error has.
        """
        self.finish()
        saved = self._saved if self._saved is not None and self._saved.step == step else None
        looks = cut_short or self._policy.at_end == "restart"
        if saved is not None and (saved.ended or not looks):
            return
        if saved is None:
            self._hold(session)
        # The state is taken, so nothing is lost by an element that is taken now.
        ended = looks and self._has_ended(session)
        if saved is None:
            self._saved = self._mark(step, ended=ended)
            self._write(session, self._saved, time.monotonic(), prune=True)
        elif ended:
            self._store.adopt(dataclasses.replace(saved, ended=True))

    def _has_ended(self, session: Any) -> bool:
        several = len(self._pipelines.names) > 1
        if self._per_step is None and several:
            return False  # it may be a validation's
        return self._pipelines.has_ended(session, self._per_step or (1,))

    def close(self) -> None:
        """Waits for what is being written, and ends the thread that writes."""
        self.finish()
        self._writer.shutdown()

    def finish(self) -> None:
        """Waits until what is being written is written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _learn(self, fetches: Any) -> None:
        if self._per_step is None and fetches is not None:
            self._per_step = self._pipelines.count(fetches)

    def _mark(self, step: int, *, ended: bool = False) -> Mark:
        return Mark(
            step,
            self._pipelines.names,
            holds=self._holds,
            began=self._began,
            ended=ended,
            elements_per_step=self._per_step,
            signature=self._signature,
        )

    def _hold(self, session: Any) -> None:
        if self._holds == "iterator":
            try:
                self._pipelines.hold(session)
            except NotSerializableError as error:
                if not error.python:
                    raise
                self._holds = "position"
                logger.warning(
                    "TensorFlow cannot save the state of a pipeline with %s: its position is saved instead. A resume "
                    "reads and drops all elements from the beginning of the data, and is exact if they are the same in "
                    "each run",
                    error.op,
                )
        found = ", ".join(self._pipelines.graph.unreproducible)
        if self._holds == "position" and found and self._policy.on_nondeterminism == "error":
            # Said at the first save, not at the first resume, which may be days later.
            raise FastForwardError(
                f"The position of the iterators {_join(self._pipelines.names)} would be of no use after a preemption: "
                f"the pipeline does not yield the same elements in the same order each time ({found}). Make it "
                'reproducible, or pass on_nondeterminism="warn" if repeated and lost elements do not matter.'
            )

    def _write(self, session: Any, mark: Mark, begun: float, prune: bool) -> None:
        """Writes what is held. Not being able to is no reason to end a training: the checkpoint before is whole."""
        self._failure = None
        try:
            prefix = self._store.begin_save(mark.step)
            if mark.holds == "iterator":
                self._pipelines.write(session, prefix)
            size = self._store.commit(mark)
        except (OSError, RuntimeError, tf.errors.OpError) as error:  # RuntimeError: the session is closed
            self._saved, self._failure = None, error
            with contextlib.suppress(OSError, tf.errors.OpError):
                self._store.abandon(mark.step)
            logger.warning(
                "%s-%d was not saved: %s (%s); the one before it is whole, and the next save tries again",
                *(self._basename, mark.step, _reason(error), self._directory),
            )
            return
        finally:
            if mark.holds == "iterator":
                with contextlib.suppress(RuntimeError, tf.errors.OpError):  # a session that has broken holds nothing
                    self._pipelines.drop(session)
        if prune:
            self._store.prune()
        seconds = time.monotonic() - begun
        logger.info("saved %s-%d, %d bytes in %.3f s", self._basename, mark.step, size, seconds)


def _reason(error: Exception) -> str:
    """What the system says, without TensorFlow's header and stack; the last part of `path; No space left`."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if "; " in line), lines[0] if lines else type(error).__name__)
    return said.rsplit("; ", 1)[-1].split(" [")[0]


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        logger.warning("skipped input checkpoint %s", problem)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names)
