"""Brings input pipelines to the model's step, and saves where they are: what all kinds of training have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import FastForwardError, NotSerializableError, NoUsableCheckpointError, StorageError, SupersededError
from .forward import FastForward
from .marks import Mark
from .pipelines import reason
from .progress import Progress
from .restore import Restorer
from .store import unwritable
from .workers import Alone, OtherWorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .pipelines import Pipelines
    from .policy import Policy
    from .store import CheckpointStore
    from .workers import Agreement

logger = logging.getLogger("pipeline_ckpt")

_UNWRITABLE = (OSError, RuntimeError, tf.errors.OpError)
"""What a write can end in; RuntimeError: the session was closed."""


class InputCheckpointer:
    """The iterators of one training and their checkpoints.

    Args:
        pipelines: the iterators.
        store: where their checkpoints are.
        policy: what to do where there is a choice.
        agreement: with the other workers, whose checkpoints count only together; None: there are none.
    """

    def __init__(
        self, pipelines: Pipelines, store: CheckpointStore, policy: Policy, *, agreement: Agreement | None = None
    ) -> None:
        self._agreement = agreement or Alone()
        self._pipelines = pipelines
        self._store = store
        self._directory = store.directory
        self._basename = store.basename
        self._policy = policy
        self._signature = pipelines.graph.signature
        self._restorer = Restorer(pipelines, store, at_end=policy.at_end)
        self._holds = policy.state
        self.unsaved = pipelines.graph.draws.unsaved(passes=pipelines.passes) if self._holds == "iterator" else None
        """Why the position is saved instead of the state that was asked for; None otherwise."""
        if self.unsaved is not None:
            self._holds = "position"
            logger.warning(
                "%s: the position is saved instead of the state, and a resume reads and drops all elements from the "
                "beginning of the data. %s, to have the state saved",
                *(self.unsaved.why, self.unsaved.remedy),
            )
        if pipelines.passes and pipelines.graph.draws.only_in_process:
            logger.warning(
                "%s without a seed draws once for all passes over the data, and a new process draws again: after a "
                "resume the next pass has another order, and behind take() other elements. Give it a seed",
                pipelines.graph.draws.only_in_process,
            )
        self._progress = Progress(pipelines.given)
        self._forward = FastForward(pipelines, policy, self._progress, self._restorer)
        self._saved: Mark | None = None
        self.resumed: Mark | None = None
        """The checkpoint that `resume` has gone on from."""
        self._whose_step = "the model's global_step"
        self._first = False
        """Whether the next checkpoint is a training's first."""
        self._dirty = False
        """Whether the iterators may be anywhere: a resume has begun, and has not come to its end."""
        self._failure: Exception | None = None
        """Why the last save could not be written."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="pipeline_ckpt")
        self._writes = False
        """Whether the other thread may be writing."""
        self._unfinished: Exception | None = None
        """What has ended its writing, and was not raised yet."""

    # Resuming.

    def resume(self, step: int, *, extra: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Brings the iterators, which are at their beginning, to the element after step `step`, where the model is.

        Args:
            step: the model's.
            extra: what else a later resume wants to know, asked when the iterators are there; see `Mark`.

        Raises:
            StorageError: the first checkpoint of a training cannot be written.
            NoUsableCheckpointError: there is no usable checkpoint, and the policy is "error".
            FastForwardError: the pipeline cannot be brought to `step`.
            SupersededError: another process has begun to train here meanwhile.
        """
        begun = self._begin()
        self.open()
        with self._store.holding():
            mark, problems = self._restorer.newest(step)
            if mark is None and step > 0 and self._policy.on_missing == "error":
                raise self._nothing_usable(step, problems)
            self._follow(mark, step)
            self.take_over(step)
        if mark is not None:
            self._say_resumed(mark, step, time.monotonic() - begun)
        self.resumed = mark
        self._save_first(mark, step, extra())

    def _save_first(self, mark: Mark | None, step: int, extra: Mapping[str, Any] | None = None) -> None:
        """Ends a resume: saves before the first step what no checkpoint holds yet."""
        if mark is None or self._draws_anew(mark, step):
            # The first checkpoint holds the seeds that the pipeline drew: later fast-forwards need no luck. It is
            # complete before the first step, or a model checkpoint could come to stand without it.
            self._saved = None
            self.save(step, wait=True, prune=False, extra=extra)
            if self._failure is not None:
                raise unwritable(self._directory, self._failure) from self._failure
        self._dirty = False

    def take_over(self, step: int) -> None:
        """Ends a resume, before the first step: no other process's checkpoints count from now on.

        Args:
            step: where the training goes on.

        Raises:
            StorageError: the directory cannot be written.
            SupersededError: another process has begun to train here meanwhile.
        """
        try:
            self._agreement.together(self._store.take, _UNWRITABLE)
        except (OSError, tf.errors.OpError) as error:
            raise unwritable(self._directory, error) from error
        for beyond in self._store.beyond(step):
            logger.warning(
                "%s-%d is beyond %s %d and does not count any more", self._basename, beyond, self._whose_step, step
            )

    def resume_from(self, mark: Mark | None, *, where: str | None = None) -> None:
        """Brings the iterators, which are at their beginning, to where a checkpoint that holds the model has them.

        Args:
            mark: the checkpoint; None for a training that begins.
            where: it is, if another library has written it.

        Raises:
            NoUsableCheckpointError: it cannot be restored into these iterators.
            FastForwardError: the pipeline cannot be brought there.
        """
        begun = self._begin()
        self._first = mark is None
        if mark is not None:
            problem = self._restorer.restored(mark)
            if problem:
                raise NoUsableCheckpointError(
                    f"The input of {where or f'{self._basename}-{mark.step} in {self._directory}'} is not usable: "
                    f"{problem}. The model has been restored from it, so no other one serves. Go back to the pipeline "
                    "that wrote it, or train in another directory."
                )
        self._follow(mark, 0 if mark is None else mark.step)
        self._dirty = False
        if mark is not None:
            logger.info(
                "resumed %s-%d in %.3f s (%d elements read and dropped)",
                *(self._basename, mark.step, time.monotonic() - begun, self._pipelines.dropped),
            )

    def begin_behind(self, step: int) -> None:
        """Begins the data, with checkpoints numbered on from `step`: a training that has ended there goes on anew."""
        self._begin()
        self.begin_pass(step)
        self._dirty = False

    def begin_pass(self, step: int) -> None:
        """The training has gone on with new iterators, at the beginning of the data, after step `step`."""
        self._forward.began = step
        self._pipelines.count_from_zero()
        self._progress.begin(step, (0,) * len(self._pipelines.names), varies=self._progress.varies)

    def open(self) -> None:
        """Makes the directory.

        Raises:
            StorageError: the directory cannot be written.
        """
        try:
            self._store.open()
        except (OSError, tf.errors.OpError) as error:
            raise unwritable(self._directory, error) from error

    def _begin(self) -> float:
        """Begins a resume; the time of that."""
        begun = time.monotonic()
        self.finish()
        self._saved = None
        if self._dirty:
            self._pipelines.restart()
        self._dirty = True
        self._pipelines.dropped = 0
        return begun

    def _follow(self, mark: Mark | None, step: int) -> None:
        """Goes on from a checkpoint that has been restored to the model's step."""
        self._forward.go_to(mark)
        taken = self._forward.go_on(mark, step)
        self._pipelines.count_from_zero()
        self._progress.begin(step, taken, varies=mark is not None and mark.varies)
        self._saved = mark

    def _draws_anew(self, mark: Mark, step: int) -> bool:
        """Whether the pipeline has drawn seeds that no checkpoint holds: those of an epoch that begins now."""
        begins = mark.step == step and self._forward.begins_anew(mark)
        return begins and self._holds == "iterator" and bool(self._pipelines.graph.unreproducible)

    def _nothing_usable(self, step: int, problems: list[str]) -> NoUsableCheckpointError:
        return NoUsableCheckpointError(
            f"The model in {self._directory} is at global_step {step}, and no input checkpoint "
            f"{self._basename}-N with N <= {step} is usable ({'; '.join(problems) or 'none found'}). "
            'Restore the files, or pass on_missing="replay" if the pipeline yields the same elements in each run.'
        )

    def _say_resumed(self, mark: Mark, step: int, seconds: float) -> None:
        start = mark.began if mark.holds == "position" else mark.step
        logger.info(
            "resumed %s-%d, and %d steps forward to global_step %d, in %.3f s (%d elements read and dropped)",
            *(self._basename, mark.step, step - start, step, seconds, self._pipelines.dropped),
        )
        if mark.ended and self._policy.at_end == "stop" and mark.step == step:
            logger.warning(
                'the data had ended at global_step %d: nothing is left to train on; pass at_end="restart" to begin the '
                "data anew",
                step,
            )

    # Saving.

    def save(self, step: int, *, wait: bool, prune: bool = True, extra: Mapping[str, Any] | None = None) -> None:
        """Saves the iterators as they are, unless step `step` is saved already.

        The training thread waits until their state is taken; another thread writes it, one save after the other.

        Args:
            wait: for the writing too, as it always is where workers save together.
            prune: delete checkpoints that are not needed any more.
            extra: what else a resume wants to know; see `Mark`.

        Raises:
            NotSerializableError: TensorFlow cannot save the pipeline, and the policy does not allow a position.
            SupersededError: another process has taken over; at the next call, where another thread writes.
        """
        self.finish()
        if self._saved is None or self._saved.step != step:
            begun = time.monotonic()
            self._hold()
            before = self._progress.varies
            self._count(step)
            if self._progress.varies and not before:
                # The checkpoint before must know it too, should this one fail.
                self.observe(step, extra=extra)
            mark = self._mark(step, extra=extra)
            if wait or self._agreement.count > 1:  # in this thread: what is saved with the iterators may belong to it
                self._write(mark, begun, prune)
                return
            self._writes = True
            self._writer.submit(self._write_beside, mark, begun, prune)

    def observe(self, step: int, *, extra: Mapping[str, Any] | None = None) -> None:
        """Looks how many elements the steps so far have taken, and lets the newest checkpoint know; see `save`."""
        self._count(step)
        self.finish()
        saved, progress = self._saved, self._progress
        if saved is None or saved.step == step:
            return
        per_step = saved.elements_per_step
        if per_step is None or saved.step == progress.began_at:
            # From before the first step, it could not know; or the steps behind it are those of another code.
            per_step = progress.per_step
        if progress.varies or per_step is None:
            per_step = None
        elif progress.per_step is not None and per_step != progress.per_step:
            # The steps behind it are of two kinds: this one begins with the new kind.
            self.save(step, wait=True, extra=extra)
            return
        better = dataclasses.replace(saved, elements_per_step=per_step, varies=progress.varies)
        if better != saved:
            self._renew(better)

    def run_failed(self, step: int) -> None:
        """A run of a session that goes on has failed, as at the end of the data: it has asked, and got nothing."""
        if self._pipelines.countable:
            self._progress.failed(step, self._pipelines.counts())

    def _count(self, step: int) -> None:
        self._progress.observe(step, self._pipelines.counts() if self._pipelines.countable else None)

    def check(self, *, count: bool = True) -> None:
        """Says at the first step, not at the first save, what cannot be saved; see `save`.

        Args:
            count: also whether what is taken can be counted, where only a position can be saved.
        """
        self._hold(count=count)
        self._drop()

    def mark(self, step: int, *, extra: Mapping[str, Any]) -> Mark:
        """What a checkpoint at step `step` says of the input."""
        self._count(step)
        return self._mark(step, extra=extra)

    @property
    def measured(self) -> tuple[int, ...] | None:
        """How many elements of each iterator the steps have taken, as far as that was counted."""
        return self._progress.measured

    @property
    def failed(self) -> bool:
        """Whether the last save could not be written."""
        return self._failure is not None

    @property
    def saved(self) -> Mark | None:
        """The newest checkpoint."""
        return self._saved

    def remember(self, extra: Mapping[str, Any]) -> None:
        """Puts something else into the newest checkpoint's `extra`."""
        if self._saved is not None:
            self._renew(dataclasses.replace(self._saved, extra=dict(extra)))

    @property
    def holds(self) -> str:
        """What is saved: the `iterator`'s state, or its `position`."""
        return self._holds

    @property
    def has_observed(self) -> bool:
        """Whether it has been looked once how many elements a step takes."""
        return self._progress.has_observed

    def finish(self) -> None:
        """Waits until what is being written is written."""
        if self._writes:
            self._writer.submit(int).result()  # all that was submitted before has ended then
            self._writes = False
        if self._unfinished is not None:
            error, self._unfinished = self._unfinished, None
            raise error

    def close(self) -> None:
        """Waits for what is being written, and ends the thread that writes."""
        self.finish()
        self._writer.shutdown()

    def _mark(self, step: int, *, ended: bool = False, extra: Mapping[str, Any] | None = None) -> Mark:
        return Mark(
            step,
            self._pipelines.names,
            holds=self._holds,
            began=self._forward.began,
            ended=ended,
            elements_per_step=self._progress.per_step,
            varies=self._progress.varies,
            taken=self._progress.taken,
            signature=self._signature,
            extra=dict(extra or {}),
            with_model=self._pipelines.with_model,
            workers=self._agreement.count,
            first=self._first,
            incarnation=self._store.incarnation,
        )

    def _hold(self, *, count: bool = True) -> None:
        if self._holds == "iterator":
            try:
                self._pipelines.hold()
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
        if count and self._holds == "position" and not self._pipelines.countable and self._progress.given is None:
            raise FastForwardError(
                f"The position of the iterators {_join(self._pipelines.names)} is not known, because nothing says how "
                "many elements a step takes of them. Pass elements_per_step= with one number for each of "
                "them (0: not used in training)."
            )
        found = ", ".join(self._pipelines.graph.unreproducible)
        if self._holds == "position" and found and self._policy.on_nondeterminism == "error":
            # Said at the first save, not at the first resume, which may be days later.
            raise FastForwardError(
                f"The position of the iterators {_join(self._pipelines.names)} would be of no use after a preemption: "
                f"the pipeline does not yield the same elements in the same order each time ({found}). Make it "
                'reproducible, or pass on_nondeterminism="warn" if repeated and lost elements do not matter.'
            )

    def _write_beside(self, mark: Mark, begun: float, prune: bool) -> None:
        """In the other thread; `finish` raises what is raised here."""
        try:
            self._write(mark, begun, prune)
        except Exception as error:
            self._unfinished = error

    def _write(self, mark: Mark, begun: float, prune: bool) -> None:
        """Writes what is held. Not being able to is no reason to end a training: the checkpoint before is whole."""
        self._failure = None
        together = self._agreement.together
        try:
            # No worker writes, and none deletes an older one, before all could do what is before it. Writing reads
            # variables, which may be a collective itself: who cannot even begin must not be waited for.
            prefix = together(lambda: self._store.begin_save(mark.step), _UNWRITABLE)
            size = together(lambda: self._fill(mark, prefix), _UNWRITABLE)
        except _UNWRITABLE as error:
            self._saved, self._failure = None, error
            self._take_back(mark, error)
            if self._first:
                raise StorageError(
                    f"The first checkpoint of this training cannot be written to {self._directory}: {reason(error)}. "
                    "There is none before it that it could go back to; make room or the directory writable, and start "
                    "it again."
                ) from error
            logger.warning(
                "%s-%d was not saved: %s (%s); the one before it is whole, and the next save tries again",
                *(self._basename, mark.step, reason(error), self._directory),
            )
            return
        finally:
            self._drop()
        self._saved, self._first = mark, False
        if prune:
            try:
                self._store.prune()
            except (*_UNWRITABLE, NoUsableCheckpointError) as error:
                logger.warning("old input checkpoints were not deleted: %s (%s)", reason(error), self._directory)
        seconds = time.monotonic() - begun
        logger.info("saved %s-%d, %d bytes in %.3f s", self._basename, mark.step, size, seconds)

    def _take_back(self, mark: Mark, error: Exception) -> None:
        """Removes what a save has left that has failed; who has superseded this process may have been the reason."""
        with contextlib.suppress(OSError, tf.errors.OpError):
            self._store.abandon(mark.step)
            if isinstance(error, OtherWorkerError):
                self._store.retire(mark)  # if it was complete here
        if isinstance(error, SupersededError):
            raise error
        with contextlib.suppress(OSError, tf.errors.OpError):
            self._store.check()

    def _fill(self, mark: Mark, prefix: str) -> int:
        """Writes what is held to `prefix`, and makes it a checkpoint; its size in bytes."""
        if mark.parts:
            self._pipelines.write(prefix)
        return self._store.commit(mark)

    def _renew(self, mark: Mark) -> None:
        """Replaces the mark of the newest checkpoint by one that knows more; its files stay as they are."""
        try:
            self._store.renew(mark)
        except _UNWRITABLE as error:
            logger.warning(
                "the mark of %s-%d was not renewed: %s (%s)",
                *(self._basename, mark.step, reason(error), self._directory),
            )
        self._saved = mark

    def _drop(self) -> None:
        with contextlib.suppress(RuntimeError, tf.errors.OpError):  # a session that has broken holds nothing
            self._pipelines.drop()


def _join(names: Sequence[str]) -> str:
    return ", ".join(names)
