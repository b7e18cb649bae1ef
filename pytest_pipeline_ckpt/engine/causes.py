"""Why a training does not resume exactly, and what helps: one table, and what tells its rows apart. Pure.

Each row is provoked by a test in `tests/acceptance/test_diagnosis.py`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .model import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .handling import Handling, IteratorUse
    from .stage_results import PipelineResult, StageResult


@dataclass(frozen=True, slots=True)
class Advice:
    """A row of the table."""

    reason: str
    """One sentence; `{ops}` stands for the ops that were found, `{policy}` for the external state policy."""
    remedy: str
    apart: str = ""
    """The remedy where no checkpoint of TensorFlow's can hold the model (JAX, NumPy), if that is another."""


_BESIDE = (
    "save its position under the model's step, and before the model: tf.train.Checkpoint(iterator=iterator).write("
    "f'{directory}/{step}'), then the model's own save (Orbax: manager.save(step, ...)); read the one of the step that "
    "was restored, as pipeline_ckpt.InputPipelineCheckpoint does"
)


class Cause(enum.Enum):
    """Every known reason."""

    GENERATOR = Advice(
        "a Python generator's position is not in any checkpoint, and TensorFlow saves it under no policy",
        "read from something that has positions (from_tensor_slices, TFRecordDataset, range(n).map(load)), or keep the "
        "position: pipeline_ckpt.CheckpointInputPipelineHook(state='position') fast-forwards",
    )
    PYTHON_REFUSED = Advice(
        "its function calls Python ({ops}), which may have a state that TensorFlow cannot see, so it saves no iterator",
        "write the function with TensorFlow ops; if it really has no state: tf.numpy_function(..., stateful=False)",
    )
    PYTHON_STATE = Advice(
        "its function calls Python ({ops}), whose state begins anew in each process; {policy} lets TensorFlow save the "
        "iterator without it",
        "compute from the element alone, for example with a seed from its number (enumerate)",
    )
    STATELESS_PYTHON = Advice(
        "its function calls Python that is declared to have no state (stateful=False), but what it returns depends on "
        "more than its arguments",
        "compute from the arguments alone: no counters, no files, no random generator that is made outside",
    )
    RANDOM_REFUSED = Advice(
        "its function draws random numbers from a generator ({ops}) whose state is not in the iterator's checkpoint, "
        "so TensorFlow saves no iterator",
        "use tf.random.stateless_* with a seed from the element's number (enumerate, or Dataset.random(seed=...) "
        "zipped to it)",
    )
    RANDOM_STATE = Advice(
        "its function draws random numbers from a generator ({ops}) that begins anew in each process; {policy} lets "
        "TensorFlow save the iterator without its state",
        "use tf.random.stateless_* with a seed from the element's number (enumerate, or Dataset.random(seed=...) "
        "zipped to it)",
    )
    SYMBOLIC = Advice(
        "experimental_symbolic_checkpoint switches off TensorFlow's refusal of stateful ops ({ops}): they begin anew "
        "in each process",
        "leave the option away to see what TensorFlow refuses, and use tf.random.stateless_* with a seed from the "
        "element's number",
    )
    VARIABLE = Advice(
        "its function uses a variable ({ops}), which is not in the iterator's checkpoint",
        "keep the count in the pipeline (enumerate, scan); a constant belongs into a tf.constant",
    )
    STATEFUL_OP = Advice(
        "its function runs {ops}, whose result depends on more than the element",
        "take that out of the pipeline, or make it a part of the data",
    )
    UNORDERED = Advice(
        "it need not keep its order (deterministic=False, or sloppy), so which elements come next depends on the speed "
        "of threads",
        "set deterministic=True, for it or in the options; or check with order='any', which compares whole passes",
    )
    FILE_CACHE = Advice(
        "a training that is killed while cache(filename) is filled leaves files behind, and the next one refuses to go "
        "on",
        "cache in memory (cache()), fill the cache in a run of its own beforehand, or delete incomplete cache files "
        "before training",
    )
    BUILT_ANEW = Advice(
        "each process builds it differently: an order or a number in it comes from set(), hash(), os.listdir, the "
        "time, or from Python's or NumPy's random generator without a seed",
        "sort what is listed, seed what is drawn in Python",
    )
    UNSEEDED = Advice(
        "each run draws its own order from it, so two runs cannot be compared",
        "give it a seed, or check with order='any', which compares whole passes",
    )
    NOT_SERIALISABLE = Advice(
        "TensorFlow has no way to save this kind of stage",
        "leave it out, move it behind the iterator into the training step, or keep the position only: "
        "pipeline_ckpt.CheckpointInputPipelineHook(state='position')",
    )
    NOT_SAVED = Advice(
        "its iterator is in no checkpoint",
        "put it beside the model: tf.train.Checkpoint(model=model, step=step, iterator=iterator)",
        _BESIDE,
    )
    NOT_SAVED_IN_SESSION = Advice(
        "no op of its graph saves an iterator",
        "add pipeline_ckpt.CheckpointInputPipelineHook to the hooks, or "
        "tf.data.experimental.make_saveable_from_iterator(iterator) to the collection SAVEABLE_OBJECTS",
    )
    NOT_RESTORED = Advice(
        "it saves its iterator and does not restore it",
        "restore the checkpoint that has the iterator before the first element is taken",
    )
    NEW_ITERATOR = Advice(
        "it restores an iterator and then trains on another, a new one that begins at element 0",
        "take the elements from the iterator that is in the checkpoint",
    )
    FOR_LOOP = Advice(
        "`for ... in dataset` makes a new iterator, which begins at element 0, whatever was restored",
        "iterator = iter(dataset) once, put it into the checkpoint, restore, then `for ... in iterator`",
    )
    DATASET_TRACKED = Advice(
        "its checkpoint has the dataset, which has no position; the iterator has",
        "iterator = iter(dataset), and tf.train.Checkpoint(..., iterator=iterator)",
    )
    KERAS_FIT = Advice(
        "Keras' fit makes its own iterator and begins with the first element whenever it is called; BackupAndRestore, "
        "load_weights and load_model bring back the weights, and at most the epoch",
        "resume by pipeline_ckpt.keras.CheckpointInputPipeline instead, which saves the iterator with the model, or "
        "save whole epochs only (BackupAndRestore with save_freq='epoch')",
    )
    IN_FLIGHT = Advice(
        "when it saves, some elements have left the iterator and have not been trained on: a prefetching loader, a "
        "thread with a queue or a buffer of its own holds them, and no checkpoint does",
        "save what is held too, or take no element from the iterator before a step needs it: prefetch in the pipeline "
        "(Dataset.prefetch), whose buffer is in the iterator's checkpoint",
    )
    DRAWN_ANEW = Advice(
        "a shuffle without a seed draws a new order for each pass, and after a resume other ones than before",
        "give it a seed; or check with order='any', which compares whole passes",
    )
    NOT_SAVEABLE = Advice(
        "no checkpoint can hold the iterator that it trains on: a distributed one, or a loop over a dataset within one "
        "operation",
        "pass over what the model has been trained on, in an order that is the same in each process: "
        "pipeline_ckpt.InputPipelineCheckpoint does so, or dataset.skip(steps); a loop in a tf.function can also go "
        "over iter(dataset)",
    )
    SAVED_APART = Advice(
        "model and input are saved at different moments, so that a kill in between leaves a pair that does not match",
        "save both in one tf.train.Checkpoint, or use pipeline_ckpt.CheckpointInputPipelineHook, which "
        "makes up for the difference",
        "read the iterator's checkpoint of the very step at which the model was restored, not the newest one: the "
        "model's save, which a thread makes, may not have been complete when the iterator's was",
    )
    TORN = Advice(
        "parts of what is trained are saved at different moments, or some of them are not saved or not restored, so "
        "that what a resume finds does not belong together",
        "save all that is trained, optimizers and averages too, in one checkpoint by one call, and restore it as a "
        "whole, after the model is built (Keras 3 leaves a layer that its first call builds as it was made); load "
        "pretrained weights only where there is no checkpoint, and save the best ones beside those that are trained, "
        "not in their place",
    )
    OWN_POSITION = Advice(
        "it restores no iterator and goes on at a place that it has computed itself, which is not where the model was",
        "put the iterator into the checkpoint of the model: tf.train.Checkpoint(..., iterator=iterator)",
        _BESIDE,
    )

    COUNTED_ANEW = Advice(
        "how many steps or epochs it still makes is not what is left from the model on: it counts them from another "
        "number than that of the checkpoint",
        "save the number of the next epoch and step with the model, and go on from there: for step in range(step, "
        "steps), fit(..., initial_epoch=epoch)",
    )
    NEVER_RESTORED = Advice(
        "it saves checkpoints, and reads none of them when it starts",
        "restore the newest before training: checkpoint.restore(tf.train.latest_checkpoint(model_dir)); in JAX "
        "manager.restore(manager.latest_step()); in Keras a callback that resumes, as "
        "pipeline_ckpt.keras.CheckpointInputPipeline or BackupAndRestore do and ModelCheckpoint does not",
    )

    @property
    def advice(self) -> Advice:
        """Its row."""
        return self.value


CACHE_LEFT = re.compile(r"cache files found|lockfile", re.IGNORECASE)
"""In TensorFlow's message about a cache that is not complete."""
_LOOP = re.compile(r"\bfor\b.*\bin\b(?!.*\biter\()")
_FIT = re.compile(r"\.fit\(")


def of_stage(stage: StageResult, pipeline: PipelineResult) -> Cause | None:
    """Why a stage does not resume exactly; None: nobody knows."""
    refused = stage.fault is not None and stage.fault.when == "save"
    if "generator" in stage.ops or stage.name == "Dataset.from_generator":
        return Cause.GENERATOR
    if pipeline.symbolic and not refused and {"random", "variable", "python", "other"} & set(stage.ops):
        return Cause.SYMBOLIC
    for kind, at_save, later in _BY_OPS:
        if kind in stage.ops:
            return at_save if refused else later
    if stage.unordered:
        return Cause.UNORDERED
    if refused:
        return Cause.NOT_SERIALISABLE
    if not stage.differs:
        return None
    first = next(one for one in pipeline.stages if one.differs)
    return Cause.DRAWN_ANEW if first.name == "Dataset.shuffle" else Cause.BUILT_ANEW


_BY_OPS = (
    ("python", Cause.PYTHON_REFUSED, Cause.PYTHON_STATE),
    ("stateless python", Cause.STATELESS_PYTHON, Cause.STATELESS_PYTHON),
    ("random", Cause.RANDOM_REFUSED, Cause.RANDOM_STATE),
    ("variable", Cause.VARIABLE, Cause.VARIABLE),
    ("other", Cause.STATEFUL_OP, Cause.STATEFUL_OP),
)


def of_code(
    outcome: Outcome,
    whole: Handling,
    lives: Sequence[Handling],
    streams: frozenset[str],
    line: str,
    *,
    lane: str = "",
    held: bool = False,
) -> Cause | None:
    """What the training code does wrong with its iterators; None: it does nothing wrong that is known.

    Args:
        outcome: of the verdict.
        whole: the run that nobody killed.
        lives: up to the one that went wrong, which is the last.
        streams: keys of those that train.
        line: the source of the line that made the iterator from which the last life took its first training element.
        lane: the label of the iterators that went wrong, where it is known which.
        held: what is wrong is what had left the iterator and was not trained on yet.
    """
    last = lives[-1]
    if last.in_graph:
        return _of_session(outcome, last)
    trained = trained_on(last, streams, lane)
    if trained is None:
        return None
    if held and trained.restored:
        return Cause.IN_FLIGHT
    if trained.restored:
        return Cause.SAVED_APART if outcome is Outcome.MISALIGNED else None
    if _FIT.search(line):
        return Cause.KERAS_FIT
    if not trained.saveable:
        return Cause.NOT_SAVEABLE
    if any(each.restored and (each.key == trained.key or not each.read) for each in last.iterators):
        return Cause.FOR_LOOP if _LOOP.search(line) else Cause.NEW_ITERATOR
    if any(life.tracks_dataset for life in (whole, *lives)):
        return Cause.DATASET_TRACKED
    if outcome is not Outcome.RESTARTED:
        return Cause.OWN_POSITION
    its = frozenset({trained.key})  # another stream's iterator may be saved, and restored
    if not trained.sought and any(_saves(life, its) for life in lives[:-1]):
        return Cause.NOT_RESTORED
    return Cause.SAVED_APART if _saves(whole, its) else Cause.NOT_SAVED


def _of_session(outcome: Outcome, last: Handling) -> Cause | None:
    apart = outcome in (Outcome.MISALIGNED, Outcome.RESTARTED)
    if last.saved_in_graph:
        return Cause.SAVED_APART if apart else None
    return Cause.NOT_SAVED_IN_SESSION if outcome is Outcome.RESTARTED else Cause.OWN_POSITION


def _saves(life: Handling, streams: frozenset[str]) -> bool:
    return any(each.saved for each in life.iterators if each.key in streams)


def trained_on(life: Handling, streams: frozenset[str], lane: str = "") -> IteratorUse | None:
    """The iterator from which a life took its first training element; of a lane, if its label is given."""
    read = [each for each in life.iterators if each.read and each.key in streams]
    return next((each for each in read if each.label == lane), read[0] if read else None)


__all__ = ["CACHE_LEFT", "Advice", "Cause", "of_code", "of_stage", "trained_on"]
