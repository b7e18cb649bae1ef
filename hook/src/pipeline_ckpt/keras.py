"""Keras `fit` that goes on in the middle of an epoch: `CheckpointInputPipeline`, a callback."""

from __future__ import annotations

import contextlib
import logging
import signal
import weakref
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from .checkpointer import InputCheckpointer
from .eager import EagerPipelines
from .errors import FastForwardError, HookUsageError, NoUsableCheckpointError, Preempted
from .fit import KerasModel, Muted, scalars
from .running import RunningFit, supported
from .settings import check_least, policy, store_in
from .times import SaveTimes, decide
from .watcher import NoticeWatcher
from .whole import UNFIT, newest_whole, of_another_model
from .workers import agreement

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from .marks import Mark
    from .notices import Notice

logger = logging.getLogger("pipeline_ckpt")

_ENDED = (StopIteration, tf.errors.OutOfRangeError)
"""How an epoch's data ends, which is no error."""
_FITS: weakref.WeakKeyDictionary[Any, dict[str, int]] = weakref.WeakKeyDictionary()
"""How many `fit`s of a model have ended in this process, by the directories of their checkpoints."""


class CheckpointInputPipeline(tf.keras.callbacks.Callback):  # type: ignore[misc]  # untyped base
    """Saves a `fit` with its position in the data, and resumes it at the next batch of the same epoch.

        model.fit(dataset, epochs=10, callbacks=[CheckpointInputPipeline("/checkpoints/run1", save_steps=500)])

    One checkpoint holds the weights, the optimizer, the metrics of the epoch, the numbers of epoch and batch, the
    history, and the state of the dataset's iterator with its shuffle buffers, all taken after the same batch. It counts
    only when it is whole, and is never written again. Started again, the same `fit` goes on with the batch after the
    last one that the restored model was trained on, whatever its `initial_epoch` says. Put it last among the callbacks,
    so that what the others do to the model after a batch is saved too.

    Several `fit`s of one model with one directory (`for ...: model.fit(dataset, epochs=1, callbacks=[...])`) are one
    training: started again, those that were over train nothing, the next one goes on where it was.

    Supported are `tf.data.Dataset`s and arrays. Of a `PyDataset` (`Sequence`), of Python generators, of datasets that
    run Python (`from_generator`, `py_function`), and under a distribution strategy the *position* is saved: a resume
    reads and drops what the epoch had taken, and that is exact if the batches are the same in each run; where they
    cannot be (`shuffle=True`, a `PyDataset` with an `on_epoch_end` of its own), `fit` is refused, as it is with any
    other input. The own state of other callbacks
    (`EarlyStopping`'s patience) is theirs to save.

    Works with Keras 3 and with the Keras of TensorFlow 2.15.

    Args:
        directory: Where the checkpoints are, `ckpt-N` after N batches; one directory for one training.
        save_steps: Save every so many batches. Exactly one of `save_steps` and `save_secs` is needed.
        save_secs: Save every so many seconds.
        max_to_keep: The number of newest checkpoints that are kept; None keeps all.
        external_state_policy: "fail" (default), "warn" or "ignore": what to do when the pipeline has state
            outside of itself (a stateful random op), which no checkpoint holds.
        state: "iterator" (default) saves the iterator's state, buffers included. "position" saves a number, for buffers
            that are too large to save.
        on_nondeterminism: "error" (default) or "warn", when batches must be read and dropped and the pipeline does not
            yield the same ones each time.
        notices: What tells that the job is about to be preempted: signals, or callables that are asked after each batch
            (`FileNotice`, `UrlNotice`). The training is saved after the current batch, and leaves.
        exit_code: With which it leaves. Default: 128 + the signal's number, and 42 for other notices.
        durable: Whether files and directories are fsynced before a checkpoint counts, so that it is whole after a power
            loss too. Default: where the directory is local.

    Raises:
        HookUsageError: (a ValueError) a value is out of range, or Keras is not on TensorFlow (here); an input that
            cannot be resumed (in `fit`).
        NoUsableCheckpointError: there are checkpoints, and none can be restored into this model and this input.
        FastForwardError: the data has ended before the saved position; see also `on_nondeterminism`.
        NotSerializableError: TensorFlow cannot save this pipeline, see `external_state_policy`.
        StorageError: the directory cannot be written.
        SupersededError: another process has gone on with this training.
        Preempted: (a SystemExit) a notice has come, and the training was saved.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        save_steps: int | None = None,
        save_secs: float | None = None,
        max_to_keep: int | None = 2,
        external_state_policy: Literal["fail", "warn", "ignore"] = "fail",
        state: Literal["iterator", "position"] = "iterator",
        on_nondeterminism: Literal["error", "warn"] = "error",
        notices: Sequence[Notice] = (signal.SIGTERM,),
        exit_code: int | None = None,
        durable: bool | None = None,
    ) -> None:
        super().__init__()
        if (backend := tf.keras.backend.backend()) != "tensorflow":
            raise HookUsageError(
                f"Keras runs on the {backend} backend, whose fit has no iterator of TensorFlow's to be saved: set "
                "KERAS_BACKEND=tensorflow, or write the loop yourself, with pipeline_ckpt.InputPipelineCheckpoint."
            )
        self._times = SaveTimes(save_steps, save_secs)
        check_least("max_to_keep", max_to_keep, least=1, remedy="pass one, or None to keep all")
        self._policy = policy(
            external_state_policy=external_state_policy, state=state, on_nondeterminism=on_nondeterminism
        )
        self._store = store_in(directory, "ckpt", max_to_keep=max_to_keep, durable=durable)
        self._watcher = NoticeWatcher(notices, exit_code=exit_code)
        self._supports_tf_logs = True  # Keras 2 copies the logs of each batch for callbacks that do not say so
        self._active = False
        """Whether a `fit` is running."""

    # What Keras calls.

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  (Keras')
        """Chooses the checkpoint, and lets `fit` begin with its epoch."""
        self._end_what_failed()
        self._running = RunningFit()
        self._state = supported(self._running, self._policy, epochs=self.params["epochs"])
        self._fit = KerasModel(self.model)
        self._at_once = self._fit.batches_at_once()
        self._muted = Muted(self._running, self)
        self._pipelines: Any = None
        self._checkpointer: Any = None
        self._iterator: Any = None
        self._epoch = self._done = self._batches = self._skip = self._begins = 0
        self._is_announced = False
        self._logs: Any = None
        self._metrics_of_epoch: list[Any] | None = None
        self._agreement = agreement(self.model.distribute_strategy)
        self._store = self._store.named(self._agreement.basename("ckpt"))
        self._number = _FITS.get(self.model, {}).get(self._store.directory, 0)
        try:
            self._choose()
        except BaseException:
            self._store.drop()
            raise
        self._original = self.model.train_function
        self.model.train_function = self._train_function
        self._active = True
        self._watcher.watch(lambda: self._active and self._running.runs)
        # A `fit` that ends in an error tells nobody, and its list of callbacks goes away.
        self._end = weakref.finalize(self._running.callbacks or self, _let_go, weakref.ref(self))
        self._end.atexit = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """An epoch begins; the first one may be in the middle."""
        self._fit.has_begun()
        self._bring_history_back()
        self._epoch, self._done = epoch, 0
        self._metrics_of_epoch = None
        if self._skip:
            self._refuse_another_epoch(epoch)
            self._muted.begin()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """The next call of the train function is one of this `fit`."""
        self._is_announced = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves when it is time, and leaves when a notice has come."""
        done = self._running.done(batch)
        taken, self._done = done - self._done, done
        try:
            if self._skip:
                self._skipped(taken)
            else:
                self._logs = logs
                self._trained(taken)
        except BaseException as error:
            if not isinstance(error, Preempted):
                self._let_go()
            raise

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """The epoch's validation begins, which resets the metrics."""
        if self._active and self._metrics_of_epoch is None:
            self._refuse_shorter()
            self._metrics_of_epoch = self._fit.metrics()
            if self._is_last_epoch:
                self._save(complete=True)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """A notice is not kept waiting for the end of a validation."""
        notice = self._decide()[0] if self._active else ""
        if notice:
            self._save_end_of_epoch()
            self._leave(notice)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """All batches of the epoch are done."""
        self._refuse_shorter()

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Saves for the last time."""
        self._bring_history_back()
        if self._checkpointer is not None:
            self._save_end_of_epoch()
            self._checkpointer.remember(
                self._extra(complete=True, finished=self.params["epochs"], stopped=bool(self.model.stop_training))
            )
        self._let_go()
        _FITS.setdefault(self.model, {})[self._store.directory] = self._number + 1

    def _end_what_failed(self) -> None:
        """Takes back what a `fit` of this model has left that ended in an error."""
        while isinstance(left := getattr(self.model.train_function, "__self__", None), CheckpointInputPipeline):
            left._let_go()
        if self._active:
            self._let_go()

    # Resuming.

    def _choose(self) -> None:
        """Chooses the checkpoint that `fit` begins with; it is held until this process takes the directory."""
        self._mark = newest_whole(self._store, self._agreement)
        if self._mark is not None and self._mark.extra.get("fit", 0) != self._number:
            self._of_another_fit(self._mark)
        self._history_is_back = self._mark is None
        self._times.count_from(self._batches)
        if self._mark is not None:
            self._begin_at(self._mark)

    def _of_another_fit(self, mark: Mark) -> None:
        """One of several `fit`s of a model: those before the checkpoint's are over, those behind it begin there."""
        self._mark, self._batches = None, mark.step
        if mark.extra.get("fit", 0) < self._number:
            return
        logger.info("fit %d was complete before %s-%d was saved", self._number + 1, self._store.basename, mark.step)
        if self._fit.build_what_is_known(optimizer=mark.extra.get("optimizer", True)):
            with contextlib.suppress(NoUsableCheckpointError):  # they may train other parts, or by other optimizers
                self._restore_model(mark)
        self._fit.begin_with(self.params["epochs"])

    def _begin_at(self, mark: Mark) -> None:
        """Lets `fit` begin with the epoch of a checkpoint, and the weights as they were there."""
        saved = mark.extra
        epochs = self.params["epochs"]
        self._refuse_other_batches(mark)
        built = self._fit.build_what_is_known(optimizer=saved.get("optimizer", True))
        if built:
            self._restore_model(mark)
        complete = saved["stopped"] or epochs <= max(saved["finished"], saved["epoch"])
        if complete:
            more = "pass more epochs, or call fit again"
            remedy = "remove the directory to train anew" if saved["stopped"] else more
            logger.warning(
                "the training in %s was complete after epoch %d of %d: nothing is left to train; %s",
                *(self._store.directory, saved["epoch"] + 1, epochs, remedy),
            )
        if complete and built:
            self._fit.begin_with(epochs)
            self._begins = epochs
            return
        # A model that is not built yet passes by the batches of its last epoch, to have its weights back.
        self._fit.begin_with(saved["epoch"])
        self._begins = saved["epoch"]
        self._running.infer(saved["length"])
        self._batches = mark.step
        self._times.count_from(self._batches)
        self._skip, self._batches = saved["batch"], mark.step - saved["batch"]
        self._logs = saved["logs"]

    def _train_function(self, iterator: Any) -> Any:
        """What `fit` calls instead of the model's own function: here is the iterator that it trains on."""
        if not self._is_announced:  # a `fit` without this callback, after one that has ended in an error
            self._let_go()
            return self._original(iterator)
        self._is_announced = False
        try:
            if iterator is not self._iterator:
                self._take_up(iterator)
            if self._skip:
                return dict(self._mark.extra["logs"]) if self._mark is not None else {}
            if self._has_ended():
                raise StopIteration
            return self._original(iterator)
        except _ENDED:
            raise
        except BaseException:
            self._let_go()
            raise

    def _has_ended(self) -> bool:
        """Whether `fit` asks for a batch of the resumed epoch, whose data had ended when it was saved."""
        saved = {} if self._mark is None else self._mark.extra
        return self._done > 0 and saved.get("complete", False) and saved["epoch"] == self._epoch

    def _take_up(self, iterator: Any) -> None:
        """Goes on with an iterator that `fit` has made: the first one is brought to where the checkpoint has it."""
        first, self._iterator = self._iterator is None, iterator
        if not first:
            self._pipelines.use([iterator])
            self._checkpointer.begin_pass(self._batches)
            self._refuse_other_orders()
            return
        if not hasattr(iterator, "element_spec"):
            raise HookUsageError(
                f"fit trains on a {type(iterator).__name__}, whose position cannot be saved: pass a tf.data.Dataset."
            )
        self._pipelines = EagerPipelines(
            [iterator],
            policy=self._state.external_state,
            given=None,
            companions=self._fit.trackables,
            passes=self.params["epochs"] > 1,
        )
        self._checkpointer = InputCheckpointer(self._pipelines, self._store, self._state, agreement=self._agreement)
        self._checkpointer.open()
        if self._mark is not None:
            self._fit.build(self._original, iterator, optimizer=self._mark.extra.get("optimizer", True))
            # Again, if it was built before: what other callbacks do when an epoch begins is in the checkpoint already.
            self._restore_model(self._mark)
            self._fit.restore_metrics(self._store.prefix(self._mark))
            self._running.has_taken(self._mark.step - self._mark.began - self._mark.extra["batch"])
            self._pipelines.may_lack = self._mark.extra["at_once"] - 1
        if self._mark is None and self._batches:
            self._checkpointer.begin_behind(self._batches)
        else:
            self._checkpointer.resume_from(self._mark)
        self._checkpointer.check()
        if self._running.new_iterator_each_epoch and not self._is_last_epoch:
            self._refuse_other_orders()
        self._checkpointer.take_over(self._batches if self._mark is None else self._mark.step)

    def _refuse_another_epoch(self, epoch: int) -> None:
        """The batches of another epoch would pass by as if they had been trained on."""
        if epoch != self._begins:
            raise HookUsageError(
                f"fit begins with epoch {epoch}, and the newest checkpoint in {self._store.directory} is of epoch "
                f"{self._begins}: resume with this callback alone, without another one that changes where fit begins."
            )

    def _refuse_other_batches(self, mark: Mark) -> None:
        """Batches are counted, and rows are saved: with other batches the rest of the epoch would be another number."""
        saved, steps = mark.extra, self.params["steps"]
        before = saved.get("steps")
        if saved["complete"] or not self._running.new_iterator_each_epoch or before is None or steps in (None, before):
            return
        raise HookUsageError(
            f"ckpt-{mark.step} in {self._store.directory} was saved after batch {saved['batch']} of an epoch of "
            f"{before} batches, and an epoch of this fit has {steps}: with another batch size, or other data, the rest "
            "of that epoch cannot be told. Go back to those of the checkpoint, and change them between two trainings."
        )

    def _refuse_other_orders(self) -> None:
        """A second iterator of a dataset that reshuffles: reading on in a first one would land elsewhere."""
        if self._checkpointer.holds == "iterator" or not self._pipelines.graph.draws.differs_by_pass:
            return
        unsaved = self._checkpointer.unsaved
        why = "" if unsaved is None else f" ({unsaved.why})"
        remedy = "Use shuffle(..., seed=N, reshuffle_each_iteration=False)" if unsaved is None else unsaved.remedy
        sentence = (
            f"Each epoch has another order, and only a position can be saved of this input{why}: a new process begins "
            "with the first epoch's order"
        )
        if self._policy.on_nondeterminism == "error":
            raise FastForwardError(
                f"{sentence}. {remedy}, or repeat() the dataset and pass steps_per_epoch, or pass "
                'on_nondeterminism="warn" if repeated and lost elements do not matter.'
            )
        logger.warning("%s: elements may be repeated or lost", sentence)

    def _restore_model(self, mark: Mark) -> None:
        try:
            saved, size = tuple(mark.extra["weights"]), self._fit.size()
            if size != saved:
                raise ValueError(f"its {saved[0]} weights have {saved[1]} values, this one's {size[0]} have {size[1]}")
            self._fit.restore(self._store.prefix(mark), self._fit.model_only())
        except UNFIT as error:
            raise of_another_model(self._store, mark, error) from error

    def _skipped(self, taken: int) -> None:
        """A batch that the restored model has been trained on already has passed by."""
        assert self._mark is not None, "only a resumed fit passes by"
        self._batches += taken
        self._skip -= taken
        if self._skip < 0:
            raise HookUsageError(
                f"ckpt-{self._mark.step} was saved after batch {self._mark.extra['batch']} of an epoch, and with "
                f"steps_per_execution={taken} no execution ends there: compile with "
                f"steps_per_execution={self._mark.extra['at_once']}, as it was saved."
            )
        if not self._skip:
            self._muted.end()
            if self._mark.extra["stopped"]:
                self.model.stop_training = True
        notice, _ = self._decide()
        if notice:  # all that there is has been saved
            self._leave(notice)

    def _refuse_shorter(self) -> None:
        """The batches that were to pass by must all have come."""
        if not self._skip or self._mark is None:
            return
        batch, left = self._mark.extra["batch"], self._skip
        self._let_go()
        raise FastForwardError(
            f"ckpt-{self._mark.step} was saved after batch {batch} of an epoch, which now ends after {batch - left}: "
            "the data has become shorter, or steps_per_epoch or the batch size is another number."
        )

    def _trained(self, taken: int) -> None:
        self._batches += taken
        self._pipelines.took(taken)
        notice, due = self._decide()
        steps = self.params["steps"]
        is_last = self._is_last_epoch and steps is not None and self._done >= steps
        if notice or is_last or due:
            self._save()
        if notice:
            self._leave(notice)

    @property
    def _is_last_epoch(self) -> bool:
        return bool(self._epoch + 1 >= self.params["epochs"])

    def _bring_history_back(self) -> None:
        if not self._history_is_back:
            assert self._mark is not None, "only a resumed fit has a history"
            self._history_is_back = True
            saved = self._mark.extra
            self._fit.bring_history_back(saved["epochs"], saved["history"], before=self._begins)

    # Saving.

    def _decide(self) -> tuple[str, bool]:
        return decide(self._agreement, self._watcher, self._times, self._batches)

    def _save(self, *, complete: bool = False) -> None:
        self._checkpointer.save(self._batches, wait=True, extra=self._extra(complete=complete))
        self._times.count_from(self._batches)

    def _save_end_of_epoch(self) -> None:
        """Saves after the last batch of an epoch, when a validation may have used the metrics since."""
        if self._metrics_of_epoch is not None:
            self._fit.set_metrics(self._metrics_of_epoch)
        self._save(complete=True)

    def _extra(self, *, complete: bool, finished: int = 0, stopped: bool = False) -> Mapping[str, Any]:
        epochs, history = self._fit.history(before=self._epoch + bool(finished))
        return {
            "epoch": self._epoch,
            "batch": self._done,
            "complete": complete,
            "fit": self._number,
            "finished": finished,
            "stopped": stopped,
            "at_once": self._at_once,
            "steps": self.params["steps"],
            "weights": self._fit.size(),
            "optimizer": self._fit.has_built_optimizer,
            "length": self._running.inferred,
            "logs": scalars(self._logs),
            "epochs": epochs,
            "history": history,
        }

    # Leaving.

    def _leave(self, notice: str) -> None:
        self._let_go(keep_notice=True)
        self._watcher.leave(notice, saved=self._checkpointer is None or not self._checkpointer.failed)

    def _let_go(self, *, keep_notice: bool = False) -> None:
        """Leaves the model and the process as they were before `fit`."""
        self._active = False
        self._end.detach()
        self._muted.end()
        self._fit.has_begun()
        if self.model.train_function == self._train_function:
            self.model.train_function = self._original
        self._iterator = None
        self._store.drop()
        if self._checkpointer is not None:
            self._checkpointer.close()
        if not keep_notice:
            self._watcher.restore()


def _let_go(callback: Any) -> None:
    """Ends what a callback, which is referred to weakly, still holds."""
    held = callback()
    if held is not None and held._active:
        held._let_go()


__all__ = ["CheckpointInputPipeline"]
