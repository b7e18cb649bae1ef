"""Custom loops that resume in their data: `InputPipelineCheckpoint`, alone or inside a `tf.train.Checkpoint`."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import weakref
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import tensorflow as tf

from .checkpointer import InputCheckpointer
from .eager import AheadOfTraining, BeginningOfPass, LoopPipelines
from .elements import Elements
from .errors import HookUsageError, NoUsableCheckpointError
from .marks import Mark, mark_of
from .model_step import ModelStep
from .settings import check_least, check_loop, policy, store_in
from .times import SaveTimes, decide
from .watcher import NoticeWatcher
from .whole import newest_whole, restore_all, with_variables
from .workers import agreement

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from .notices import Notice

logger = logging.getLogger("pipeline_ckpt")


class InputPipelineCheckpoint(Elements, tf.train.experimental.PythonState):  # type: ignore[misc]  # untyped base
    """The data of a custom loop, which after any preemption goes on with the element that the model has not seen.

    With everything in one checkpoint, which is the safest:

        data = InputPipelineCheckpoint(dataset, step, model_dir, save_steps=500, model=model, optimizer=optimizer)
        data.restore()
        for batch in data:
            train_step(batch)       # ends with step.assign_add(1)
            data.after_step()
        data.close()

    Beside the model's own checkpoints, saved at the same or at other steps: leave `model=` and `optimizer=` out,
    restore the model before `data.restore()`, and save it in an `except Preempted:` that raises on. The newest
    checkpoint that is not beyond the model's step serves, and the elements between the two are read and dropped, as
    `CheckpointInputPipelineHook` does.

    Inside of the loop's own `tf.train.Checkpoint`: leave the directory out, and hand the manager to `restore`:

        data = InputPipelineCheckpoint(dataset, step, save_steps=500)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=step, data=data)
        data.restore(tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=3))

    A `tf.function` takes elements of `data.iterator`. For several passes over the data:
    `for epoch in range(data.passes, epochs): for batch in data: ...`.

    Without TensorFlow's variables, as in JAX, the loop tells the step, and where it goes on:

        data = InputPipelineCheckpoint(dataset, step, data_dir, save_steps=500)  # step: of the restored model
        data.restore()
        for batch in data.as_numpy_iterator():
            state = train_step(state, batch)
            step += 1
            data.after_step(step)

    `pipeline_ckpt.orbax` has it saved in Orbax' checkpoints, with the model.

    Args:
        dataset: A `tf.data.Dataset`, or one that a strategy distributes.
        step: The variable that counts the model's steps, an integer scalar; or how many steps it has made, and
            `after_step` is told. Only left out where another library's checkpoint holds the data, with the model.
        directory: Where the checkpoints are: `ckpt-N` with the model, `input.ckpt-N` without it.
        save_steps: Save every so many steps. With a directory, exactly one of `save_steps` and `save_secs` is needed;
            without one, none is needed, if the loop itself calls the manager's `save`.
        save_secs: Save every so many seconds.
        max_to_keep: The number of newest checkpoints that are kept in any case; None keeps all. A manager has its own.
        elements_per_step: How many elements a step takes. Only needed when elements must be read and dropped, and not
            where all are taken by `for batch in data`, which are counted.
        state: "iterator" (default) saves the iterator's state, buffers included. "position" saves a number, and a
            resume reads and drops all elements of the pass; chosen by itself, with a warning, for what TensorFlow
            cannot save: pipelines that run Python, and a strategy's iterators.
        external_state_policy: "fail" (default), "warn" or "ignore": what to do when the pipeline has state outside of
            itself (a stateful random op), which no checkpoint holds.
        on_missing: "error" (default) or "replay": what to do when the model is at step s > 0 and no checkpoint of its
            input is usable; "replay" reads and drops the elements of all s steps.
        on_nondeterminism: "error" (default) or "warn", when elements must be read and dropped and the pipeline does not
            yield the same elements each time.
        notices: What tells that the job is about to be preempted: signals, or callables that `after_step` asks. The
            training is saved, and leaves.
        exit_code: With which it leaves. Default: 128 + the signal's number, and 42 for other notices.
        durable: Whether files and directories are fsynced before a checkpoint counts. Default: where the directory is
            local. A manager's checkpoints are TensorFlow's, which are not.
        **trackables: What else belongs into the checkpoint: model, optimizer, ...

    Raises:
        HookUsageError: (a ValueError) a value is out of range, or arguments contradict each other.
        NoUsableCheckpointError: see `on_missing`; from `restore`, as the next one.
        FastForwardError: the pipeline ended before the model's step; or see `elements_per_step`, `on_nondeterminism`.
        NotSerializableError: TensorFlow cannot save this pipeline, see `external_state_policy`.
        StorageError: the directory cannot be written.
        SupersededError: another process has gone on with this training; from `restore` and from saves.
        Preempted: (a SystemExit) from `after_step`: a notice has come, and the training was saved.
    """

    def __init__(
        self,
        dataset: Any,
        step: tf.Variable | SupportsIndex | None = None,
        directory: str | os.PathLike[str] | None = None,
        *,
        save_steps: int | None = None,
        save_secs: float | None = None,
        max_to_keep: int | None = 5,
        elements_per_step: int | None = None,
        state: Literal["iterator", "position"] = "iterator",
        external_state_policy: Literal["fail", "warn", "ignore"] = "fail",
        on_missing: Literal["error", "replay"] = "error",
        on_nondeterminism: Literal["error", "warn"] = "error",
        notices: Sequence[Notice] = (signal.SIGTERM,),
        exit_code: int | None = None,
        durable: bool | None = None,
        **trackables: Any,
    ) -> None:
        super().__init__()
        self._step = ModelStep(step)
        check_loop(dataset, self._step, directory, trackables)
        by_itself = directory is None and save_steps is None and save_secs is None
        self._times = None if by_itself else SaveTimes(save_steps, save_secs)
        check_least("max_to_keep", max_to_keep, least=1, remedy="pass one, or None to keep all")
        check_least("elements_per_step", elements_per_step, least=1)
        decided = policy(
            external_state_policy=external_state_policy,
            state=state,
            on_missing=on_missing,
            on_nondeterminism=on_nondeterminism,
        )
        self._dataset, self._companions = dataset, trackables
        self._watcher = NoticeWatcher(notices, exit_code=exit_code)
        self._inside = directory is None
        self._manager: Any = None
        self._saved_inside: str | None = None
        """What the loop's own checkpoint, which was restored, had saved of this object."""
        self._beginning: BeginningOfPass | None = None
        self._resumed = self._ended = False
        self._seen = 0
        """The model's step when it was asked last."""
        self._in_step = -1
        """The step of which an element was taken by a loop over this object."""
        self.passes = 0
        self._iterator = iter(dataset)
        given = None if elements_per_step is None else (elements_per_step,)
        self._pipelines = LoopPipelines(
            [self._iterator],
            policy=decided.external_state,
            given=given,
            companions=_weakly(self._saved_with_it),
            renew=_weakly(self._renew),
            inside=self._inside,
        )
        self._agreement = agreement(getattr(dataset, "_strategy", None) or tf.distribute.get_strategy())
        name = self._agreement.basename("ckpt" if trackables or self._inside else "input.ckpt")
        self._store = store_in("." if directory is None else directory, name, max_to_keep=max_to_keep, durable=durable)
        # Without the model each worker comes to the model's step by itself, from whatever it has.
        together = self._agreement if trackables else None
        self._checkpointer = InputCheckpointer(self._pipelines, self._store, decided, agreement=together)
        self._checkpointer.check(count=False)
        self._track_iterator()

    # Resuming.

    def restore(self, manager: Any = None) -> int:
        """Brings everything to where the newest usable checkpoint has it; called once, before the first element.

        Args:
            manager: The `tf.train.CheckpointManager` of the checkpoint that this object is inside of. It restores, if
                that was not done yet (another such object may be in the same checkpoint), and it saves when
                `after_step` finds that it is time, or that a notice has come. Without it the loop has restored, and
                it saves.

        Returns:
            The model's step.

        Raises:
            HookUsageError: A manager and a directory; it was called before.
            NoUsableCheckpointError: The model is at step s > 0, and no checkpoint of its input is usable.
            FastForwardError: The pipeline cannot be brought to the model's step.
        """
        if self._resumed:
            raise HookUsageError("restore was called before: it brings a training to its place once, before it trains.")
        if manager is not None and not self._inside:
            raise HookUsageError(
                "restore was given a manager, and this object saves in a directory of its own: leave out one of the "
                "two."
            )
        self._manager = manager
        if self._inside:
            self._restore_inside(manager)
        elif self._companions:
            self._restore_whole()
        else:
            self._checkpointer.resume(self._at(), extra=self._after_resuming)
            self._passes_from(self._checkpointer.resumed)
        self._check_common_step()
        self._resumed = True
        self._seen = self._at()
        self._count_from(self._seen)
        if manager is not None or not self._inside:  # else a notice would find nobody who can save
            reference = weakref.ref(self)
            self._watcher.watch(lambda: reference() is not None)
            weakref.finalize(self, self._watcher.restore)  # whatever has ended the training
        return self._at()

    def _check_common_step(self) -> None:
        step = self._at()
        if self._agreement.newest_common([step]) is None:
            raise NoUsableCheckpointError(
                f"The {self._agreement.count} workers were restored at different steps, this one at {step}: restore "
                "the same checkpoint at all of them, or let this object save the model (model=...), which sees to that."
            )

    def _restore_whole(self) -> None:
        self._checkpointer.open()
        with self._store.holding():
            mark = newest_whole(self._store, self._agreement)
            if mark is not None:
                restore_all(self._store, mark, self._saved_with_it())
            elif self._at() > 0:
                raise NoUsableCheckpointError(
                    f"The model is at step {self._at()}, and no checkpoint in {self._store.directory} holds its data. "
                    "Leave model= and the like out where the model's checkpoints are other ones, or train anew."
                )
            self._go_on_from(mark)
            self._checkpointer.take_over(self._at())

    def _restore_inside(self, manager: Any) -> None:
        """The loop's own checkpoint has restored the iterator already, if its state was saved at all."""
        if manager is not None and self._saved_inside is None:
            # Else another such object in the same checkpoint has done so: a second time would take its iterator back.
            manager.checkpoint.restore(manager.latest_checkpoint)
        step = self._at()
        mark = None if self._saved_inside is None else mark_of(json.loads(self._saved_inside))
        if mark is None and step > 0:
            raise NoUsableCheckpointError(
                f"The model is at step {step}, and what was restored holds nothing of the input: it was saved without "
                "this InputPipelineCheckpoint. Restore a checkpoint that holds it, or train anew."
            )
        if mark is not None and mark.step != step:
            raise NoUsableCheckpointError(
                f"The model is at step {step}, and the input was saved at step {mark.step}: restore both from the same "
                "checkpoint."
            )
        if self._beginning is not None:
            self._beginning.apply()
        if mark is not None and self._checkpointer.holds == "position":
            mark = dataclasses.replace(mark, holds="position")  # its state is nothing that could be restored now
        self._go_on_from(mark)

    def _go_on_from(self, mark: Mark | None) -> None:
        self._checkpointer.resume_from(mark, where=self._pipelines.elsewhere)
        self._passes_from(mark)

    def _passes_from(self, mark: Mark | None) -> None:
        self.passes = self._pipelines.renewed
        if mark is not None:
            self.passes = self._pipelines.renewed + mark.extra.get("passes", 0)
            self._ended = mark.extra.get("ended", False) and not self._pipelines.renewed

    def _renew(self) -> list[Any]:
        """The iterator of another pass over the data."""
        self._iterator = iter(self._dataset)
        self._track_iterator()
        return [self._iterator]

    # Saving.

    def after_step(self, step: SupportsIndex | None = None) -> None:
        """To be called after each step, or each call that makes several: saves when it is time.

        Args:
            step: How many steps the model has made, where no `tf.Variable` counts them.

        Raises:
            Preempted: a notice has come, and the training was saved.
            HookUsageError: `step` is missing, or no more than before.
        """
        self._need_restored()
        self._step.after_step(step)
        self._after(self._at())

    def _after(self, step: int) -> None:
        if step < self._seen:
            raise HookUsageError(
                f"The model's step went back from {self._seen} to {step}, and the data has not: start the process "
                "again, and restore there."
            )
        self._seen = step
        if step == self._in_step:
            return  # a part of a step: its gradients are accumulated
        if not self._checkpointer.has_observed and not self._inside:
            self._checkpointer.observe(step, extra=self._extra())
            self._check_elements_per_step()
        notice, due = decide(self._agreement, self._watcher, self._times, step)
        if notice or due:
            self.save()
        if notice:
            self._checkpointer.finish()
            self._watcher.leave(notice, saved=not self._checkpointer.failed)

    def save(self) -> None:
        """Saves now, at the model's step."""
        self._need_restored()
        self._want_whole_step()
        step = self._at()
        if self._inside:
            if self._manager is None:
                raise HookUsageError("Without a manager the loop saves its checkpoint itself: pass one to restore.")
            self._manager.save(checkpoint_number=step, check_interval=False)
        else:
            self._checkpointer.save(step, wait=bool(self._companions), extra=self._extra())
        self._count_from(step)

    def close(self) -> None:
        """Waits for what is being written, and brings the signals' handlers back; at the end of the training."""
        self._checkpointer.close()
        self._watcher.restore()

    def serialize(self) -> str:
        """What a `tf.train.Checkpoint` saves of this object, besides the iterator."""
        self._want_whole_step()
        return self._said()

    def deserialize(self, string_value: str) -> None:
        """A `tf.train.Checkpoint` has restored what `serialize` gave."""
        self._saved_inside = tf.compat.as_text(string_value)

    def parts(self) -> tuple[str, Mapping[str, Any]]:
        """What a checkpoint of another library is to hold: a text, and what a `tf.train.Checkpoint` writes.

        Raises:
            HookUsageError: this object saves in a directory of its own, or was not restored.
            NotSerializableError: see `external_state_policy`.
        """
        self._want_inside()
        self._need_restored()
        return self._said(), self._pipelines.parts() if self._checkpointer.holds == "iterator" else {}

    def put(self, text: str, prefix: str) -> None:
        """Takes what `parts` gave, before `restore` is called.

        Args:
            text: The text.
            prefix: Under which the rest was written.

        Raises:
            HookUsageError: this object saves in a directory of its own, or was restored.
        """
        self._want_inside()
        if self._resumed:
            raise HookUsageError("restore was called before: restore the other library's checkpoint first.")
        self._step.restored(mark_of(json.loads(text)).step)
        self._saved_inside, self._pipelines.elsewhere = text, prefix

    def _said(self) -> str:
        return json.dumps(dataclasses.asdict(self._checkpointer.mark(self._at(), extra=self._extra())))

    def _want_inside(self) -> None:
        if not self._inside:
            raise HookUsageError(
                f"This InputPipelineCheckpoint saves in a directory of its own, {self._store.directory}: leave that "
                "out, to have it saved in another library's checkpoint."
            )

    def _at(self) -> int:
        """The model's step."""
        return self._step.at()

    def _extra(self) -> Mapping[str, Any]:
        return {"passes": self.passes, "ended": self._ended}

    def _count_from(self, step: int) -> None:
        if self._times is not None:
            self._times.count_from(step)

    def _saved_with_it(self) -> dict[str, Any]:
        return {**with_variables(self._companions), "step": self._step.variable} if self._companions else {}

    def _track_iterator(self) -> None:
        if self._inside and self._checkpointer.holds == "iterator":
            self._track_trackable(self._iterator, "iterator", overwrite=True)
            self._track_trackable(AheadOfTraining(self._pipelines), "ahead", overwrite=True)
            if self._pipelines.beginning() is not None:
                self._beginning = BeginningOfPass(self._pipelines)
                self._track_trackable(self._beginning, "beginning", overwrite=True)

    def _after_resuming(self) -> Mapping[str, Any]:
        return {"passes": self._pipelines.renewed, "ended": False}

    def _want_whole_step(self) -> None:
        if self._in_step == self._at():
            logger.warning(
                "saving at step %d, of which an element was taken already: a resume goes on with the one after it; "
                "save between two steps",
                self._in_step,
            )

    def _check_elements_per_step(self) -> None:
        given, found = self._pipelines.given, self._checkpointer.measured
        if given is not None and found is not None and found != given:
            raise HookUsageError(
                f"elements_per_step={given[0]} was given, and a step has taken {found[0]} of the dataset's elements (a "
                "batch is one): pass that number, or leave it out."
            )

    def _need_restored(self) -> None:
        if not self._resumed:
            raise HookUsageError(
                "The InputPipelineCheckpoint was not restored: call its restore() before the first step, in a new "
                "training too."
            )


def _weakly(method: Any) -> Any:
    """A method that does not keep its object: a training that has failed is gone at once, and so are its handlers."""
    reference = weakref.WeakMethod(method)

    def call() -> Any:
        bound = reference()
        assert bound is not None, "only the object itself calls it"
        return bound()

    return call


__all__ = ["InputPipelineCheckpoint"]
