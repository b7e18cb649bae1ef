"""The session hook and the saver listener: when to save, when to resume."""

from __future__ import annotations

import logging
import os
import signal
import weakref
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from .errors import HookUsageError
from .graph import SessionPipelines
from .runs import RunsOfSteps
from .session import SessionCheckpointer
from .settings import check_least, policy, store_in, task
from .times import SaveTimes
from .watcher import NoticeWatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .notices import Notice

v1 = tf.compat.v1
logger = logging.getLogger("pipeline_ckpt")


class CheckpointInputPipelineHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # untyped base
    """Saves the graph's iterators every N steps or seconds, and resumes them where the restored model stands.

    On resume it takes the newest whole input checkpoint that is not beyond the model's `global_step` s, then
    reads and drops the elements from its step to s. So model and input may be saved at different steps, in
    either order, and a kill at any moment of either save is harmless. Input checkpoints beyond s do not count any more.
    Where a step takes several runs of the session, it is saved after those only that advance `global_step`.

    It takes the arguments of `tf.data.experimental.CheckpointInputPipelineHook`, which TensorFlow had until 2.15, and
    goes on from that hook's checkpoints. Only the iterators are saved: no variables, no GraphDef, no MetaGraphDef. Pass
    it to `train`, never to `evaluate`.

    Args:
        estimator: A `tf.estimator.Estimator`: its `model_dir`, `save_checkpoints_steps`, `save_checkpoints_secs` and
            `keep_checkpoint_max` count, unless given here.
        external_state_policy: "fail" (default), "warn" or "ignore": what to do when the pipeline has state
            outside of itself (a stateful random op), which no checkpoint holds.
        checkpoint_dir: The model's directory, instead of an estimator: the model checkpoints found in it decide which
            input checkpoints are kept besides the newest `max_to_keep`.
        save_steps: Save every so many steps. Exactly one of `save_steps` and `save_secs` is needed.
        save_secs: Save every so many seconds.
        max_to_keep: The number of newest input checkpoints that are kept in any case; None keeps all. Default: the
            estimator's, else 5.
        checkpoint_basename: What the file names begin with. Default: `input.ckpt`, with more than one worker replica
            (by the estimator, else by TF_CONFIG) `input_<task type>_<task id>.ckpt`.
        iterators: The iterators to save, or the names of their resources ("IteratorV2:0"); default: all of the graph's
            collection "iterators".
        elements_per_step: How many elements a step takes, one number or one for each iterator. Default: counted while
            the training runs; needed where get-next ops are in a branch or a loop, and only for a fast-forward.
        state: "iterator" (default) saves the iterators' state, buffers included. "position" saves a number, and a
            resume reads and drops all elements from the beginning of the data; for buffers that are too large to save,
            and chosen by itself, with a warning, for pipelines that run Python (`from_generator`, `py_function`) or
            that TensorFlow cannot save (the device iterators of `MirroredStrategy`).
        on_missing: What to do when the model is at s > 0 and no input checkpoint is usable. "error" (default)
            stops, because that means that files were lost (the hook saves before its first step), and because the
            hook cannot know whether the pipeline yields the same elements when it starts again. "replay"
            reads and drops the elements of all s steps from the pipeline's start: exact for a pipeline that
            is the same in each run.
        on_nondeterminism: "error" (default) or "warn", when elements must be read and dropped and the pipeline does not
            yield the same elements each time.
        at_end: What a training does that is called again when the data had ended. "restart" begins the data anew
            (default with an estimator: one `train` call an epoch), "stop" takes nothing (default without one: the
            restart of a training that was complete).
        durable: Whether files and directories are fsynced before a checkpoint counts, so that it is whole after a power
            loss too. Default: where the directory is local.
        notices: What tells that the job is about to be preempted: signals, or callables that are asked after each step
            (`FileNotice`, `UrlNotice`). The session is asked to stop after the current step (a loop of your own must
            ask `session.should_stop()`, as an Estimator's does), the hooks before this one save as at its end (the
            model's `CheckpointSaverHook` too, which a `MonitoredTrainingSession` and an Estimator put first), and the
            process leaves: put this hook last. Pass () where something else handles them.
        exit_code: With which it leaves. Default: 128 + the signal's number, and 42 for other notices.

    Raises:
        Preempted: (a SystemExit) at the end of the training, which a notice has brought about.
        HookUsageError: (a ValueError) a value is out of range (here); a graph without `global_step` or without
            iterators, or that of an evaluation (in `begin`); a model that goes back within a session (behind a `run`).
        NoUsableCheckpointError: See `on_missing`; from the first `run` of a session, as the next two.
        FastForwardError: The pipeline ended before the model's step; or see `elements_per_step`, `on_nondeterminism`.
        NotSerializableError: TensorFlow cannot save this pipeline, see `external_state_policy`.
        SupersededError: Another process has gone on with this training; from a `run`.
    """

    def __init__(
        self,
        estimator: Any = None,
        external_state_policy: Literal["fail", "warn", "ignore"] | None = None,
        *,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        save_steps: int | None = None,
        save_secs: float | None = None,
        max_to_keep: int | Literal["default"] | None = "default",
        checkpoint_basename: str | None = None,
        iterators: Sequence[Any] | None = None,
        elements_per_step: int | Sequence[int] | None = None,
        state: Literal["iterator", "position"] = "iterator",
        on_missing: Literal["error", "replay"] = "error",
        on_nondeterminism: Literal["error", "warn"] = "error",
        at_end: Literal["restart", "stop"] | None = None,
        durable: bool | None = None,
        notices: Sequence[Notice] = (signal.SIGTERM,),
        exit_code: int | None = None,
    ) -> None:
        config = _config(estimator, checkpoint_dir)
        if save_steps is None and save_secs is None and config is not None:
            save_steps, save_secs = config.save_checkpoints_steps, config.save_checkpoints_secs
        if max_to_keep == "default":
            # An Estimator takes 0 for "keep all".
            max_to_keep = 5 if config is None else config.keep_checkpoint_max or None
        self._times = SaveTimes(save_steps, save_secs)
        check_least("max_to_keep", max_to_keep, least=1, remedy="pass one, or None to keep all")
        for count in (elements_per_step,) if isinstance(elements_per_step, int) else elements_per_step or ():
            check_least("elements_per_step", count, least=0)
        self._policy = policy(
            external_state_policy=external_state_policy or "fail",
            state=state,
            on_missing=on_missing,
            on_nondeterminism=on_nondeterminism,
            at_end=at_end or ("stop" if estimator is None else "restart"),
        )
        directory = estimator.model_dir if checkpoint_dir is None else checkpoint_dir
        basename = checkpoint_basename or _basename(config)
        self._store = store_in(directory, basename, max_to_keep=max_to_keep, durable=durable)
        self._iterators, self._elements_per_step = iterators, elements_per_step
        self._watcher = NoticeWatcher(notices, exit_code=exit_code)
        self._notice = ""
        self._graph: Any = None
        self._pipelines: Any = None
        self._checkpointer: Any = None
        self._resumed: Any = None
        """The session that has been resumed."""
        self._restored_step = 0
        self._own_step: int | None = None
        """How many steps this worker has made, where several train a model that is elsewhere."""
        self._named = checkpoint_basename is not None
        self._running = False
        self._seen, self._stride = 0, 1
        self._runs = RunsOfSteps()

    def begin(self) -> None:
        """Builds the ops; a second call in the same graph changes nothing."""
        graph = v1.get_default_graph()
        if graph is self._graph:
            return
        if graph.get_collection(v1.GraphKeys.EVAL_STEP):
            raise HookUsageError(
                "CheckpointInputPipelineHook was passed to evaluate: it would restore the training's position into the "
                "evaluation's input. Pass it to train only."
            )
        self._global_step = v1.train.get_global_step(graph)
        if self._global_step is None:
            raise HookUsageError(
                "The graph has no global_step, by which CheckpointInputPipelineHook knows the model's step: "
                "call tf.compat.v1.train.get_or_create_global_step() before the session is made."
            )
        self._pipelines = SessionPipelines(
            iterators=self._iterators,
            policy=self._policy.external_state,
            elements_per_step=self._elements_per_step,
        )
        read: Any = None
        if _is_shared(self._global_step, self._pipelines.device):
            # What a worker took of its data at a step of a model that others train too, it does not know.
            self._own_step = 0
            read = lambda: self._read_step(self._pipelines.session)  # noqa: E731
            if not self._named and not os.environ.get("TF_CONFIG"):
                self._store = self._store.named(f"input_{_task_of(self._pipelines.device)}.ckpt")
        self._checkpointer = SessionCheckpointer(self._pipelines, self._store, self._policy, global_step=read)
        self._graph = graph

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002  (TensorFlow's)
        """A new session, also one that replaces a broken one, resumes at its first `run`."""
        self._resumed, self._running, self._notice = None, False, ""
        owner = weakref.ref(session)
        self._watcher.watch(lambda: _is_open(owner()))
        self._restored_step = self._read_step(session)
        self._pipelines.session = session
        self._pipelines.count_from_zero()

    def before_run(self, run_context: Any) -> Any:
        """Resumes before the first step: here all other hooks have initialised their iterators."""
        fetches = run_context.original_args.fetches
        if self._resumed is None and not self._pipelines.initialised_by(fetches):
            step = self._read_step(run_context.session)
            if step != self._restored_step and self._own_step is None:
                raise HookUsageError(
                    f"The model went from global_step {self._restored_step} to {step} before the first run that "
                    "hooks see: steps in run_step_fn, or in another hook, are trained on elements that are not "
                    "restored. Train with session.run."
                )
            if self._own_step is None:
                self._checkpointer.resume(step)
            else:
                step = self._own_step = self._checkpointer.resume_own(step, every=self._times.steps)
            self._times.count_from(step)
            self._seen = step
            self._runs.begin(step)
            self._resumed = run_context.session
        elif self._running and self._own_step is None:
            self._checkpointer.run_failed(self._read_step(run_context.session))
        self._running = self._resumed is not None
        may_save = self._running and self._own_step is None and self._times.due(self._seen + 2 * self._stride)
        self._runs.begin_run(self._read_step(run_context.session) if may_save else None)
        return v1.train.SessionRunArgs(self._global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves when it is time."""
        self._running = False
        if self._resumed is None:
            return
        if not self._notice and (notice := self._watcher.received):
            self._notice = notice
            logger.warning("%s: stopping after this step; the training's loop must ask session.should_stop()", notice)
            run_context.request_stop()  # the hooks save then, as at the end of a training
        if self._own_step is not None:
            self._own_step += 1
            if not self._checkpointer.has_observed:
                self._checkpointer.observe(self._own_step)
            if self._times.due(self._own_step):
                self.save_now(run_context.session, self._own_step)
            return
        # Read in the same run as the increment, the value is from before or after it: a hint that spares a
        # second run in most steps, never the step of a checkpoint.
        seen = int(run_values.results)
        if seen < self._seen:
            raise HookUsageError(
                f"The model's step went back from {self._seen} to {seen}, and the data has not: start the process "
                "again, and let the session restore it."
            )
        self._runs.saw(seen, before=self._seen)
        self._stride, self._seen = max(self._stride, seen - self._seen), seen
        first = not self._checkpointer.has_observed
        if first or self._runs.wants_step or self._times.due(seen + self._stride):
            step = self._read_step(run_context.session)
            self._runs.end_run(step)
            if first and step > self._restored_step:
                self._checkpointer.observe(step)
            if self._times.due(step) and self._runs.is_between_steps(step, surely=True):  # else behind the next run
                self.save_now(run_context.session, step)

    def end(self, session: Any) -> None:
        """Saves once more; called when the training or its data ends, not after an error."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            # A run that did not come back, and was no error: that is how the end of the data looks from here.
            step = self._read_step(session) if self._own_step is None else self._own_step
            if self._running or self._own_step is not None or self._runs.is_between_steps(step):
                self._checkpointer.save_last(step, cut_short=self._running)
        self._checkpointer.close()
        self._graph = None  # the next `train` builds anew, whatever graph it has
        if self._notice:
            self._watcher.leave(self._notice, saved=not self._checkpointer.failed)
        self._watcher.restore()

    def save_now(self, session: Any, step: int, *, wait: bool = False) -> None:
        """Saves the iterators at step `step`; the next save is counted from here.

        Args:
            session: The session of the training. One that has not been resumed has nothing to save.
            step: The model's step; of no account where the worker's own steps count.
            wait: Return when the checkpoint is complete, not when the state is taken.
        """
        if self._resumed is not None and session is self._resumed:
            if self._own_step is not None:
                step = self._own_step + self._running  # a listener is asked before this hook knows of the step
            elif not self._runs.is_between_steps(step):
                return  # the element of this step is taken, and not trained on: the next run that makes a step saves
            self._checkpointer.save(step, wait=wait)
            self._times.count_from(step)

    def _read_step(self, session: Any) -> int:
        return int(session.run(self._global_step))


class InputPipelineSaverListener(tf.compat.v1.train.CheckpointSaverListener):  # type: ignore[misc]  # untyped base
    """Saves the input in the same breath as the model, directly before it.

        hook = CheckpointInputPipelineHook(estimator)
        estimator.train(input_fn, hooks=[hook], saving_listeners=[InputPipelineSaverListener(hook)])

    Args:
        hook: The hook of the same training: it resumes, it keeps its own times to save besides, and it must be among
            the training's hooks.
    """

    def __init__(self, hook: CheckpointInputPipelineHook) -> None:
        self._hook = hook

    def before_save(self, session: Any, global_step_value: Any) -> None:
        """Called by `CheckpointSaverHook` before each save; the one before the first step has nothing to save."""
        self._hook.save_now(session, int(global_step_value), wait=True)


def make_saveable_from_iterator(
    iterator: Any, external_state_policy: Literal["fail", "warn", "ignore"] | None = None
) -> Any:
    """The other documented way: the input inside the model's checkpoint.

    Add what it returns to the collection `SAVEABLE_OBJECTS` of the *training* graph only: added in an evaluation's
    graph too, the restore of the model would make it evaluate training elements.

    Args:
        iterator: A `tf.compat.v1.data.Iterator`.
        external_state_policy: "fail" (default), "warn" or "ignore".
    """
    return tf.data.experimental.make_saveable_from_iterator(iterator, external_state_policy)


def _config(estimator: Any, checkpoint_dir: Any) -> Any:
    if (estimator is None) == (checkpoint_dir is None):
        raise HookUsageError(
            f"Exactly one of estimator and checkpoint_dir must be given, got estimator={estimator!r} and "
            f"checkpoint_dir={checkpoint_dir!r}: pass the one and leave out the other."
        )
    if estimator is not None and not (hasattr(estimator, "config") and hasattr(estimator, "model_dir")):
        raise HookUsageError(
            f"estimator={estimator!r} is not a tf.estimator.Estimator: pass one, or the model's directory as "
            "checkpoint_dir=."
        )
    return None if estimator is None else estimator.config


def _is_shared(global_step: Any, device: str) -> bool:
    """Whether other workers may train the model too, each at its own pace: it is in another job than the iterators.

    Args:
        global_step: The variable.
        device: That of the iterators.
    """
    place = tf.DeviceSpec.from_string(global_step.device).job
    elsewhere = place is not None and place != tf.DeviceSpec.from_string(device).job
    return elsewhere and (not os.environ.get("TF_CONFIG") or task()[0] > 1)


def _task_of(device: str) -> str:
    """`worker_1`, of the device of a worker's iterators."""
    spec = tf.DeviceSpec.from_string(device)
    return f"{spec.job or 'worker'}_{spec.task or 0}"


def _is_open(session: Any) -> bool:
    """Whether a session may still come to its next step; one that an error has ended has been closed."""
    return session is not None and not getattr(session, "_closed", False)


def _basename(config: Any) -> str:
    if config is not None:
        replicas, task_type, task_id = config.num_worker_replicas, config.task_type, config.task_id
    else:
        replicas, task_type, task_id = task()
    return f"input_{task_type}_{task_id}.ckpt" if replicas > 1 else "input.ckpt"
