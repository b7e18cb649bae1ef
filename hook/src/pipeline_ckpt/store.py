"""Input checkpoints as files of one directory. Knows nothing of graphs and sessions.

Checkpoint N of basename `input.ckpt` is TensorFlow's pair `input.ckpt-N.index`, `input.ckpt-N.data-00000-of-00001`
and the mark `input.ckpt-N.commit`; one that holds a position only is the mark alone, if no model is saved with it. A
save writes the pair in the directory `input.ckpt-N.tmp`, renames it to its place, renames the mark to its place, and
only then removes the temporary directory. So a pair without a mark is no checkpoint, and where a temporary directory
is left, such a pair is ours to remove. A mark that is renewed is written to `input.ckpt-N.mark` first. All names in a
mark are relative.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .describe import Signature
from .errors import NoUsableCheckpointError
from .files import local_path, names_in, remove, remove_tree, write

_FORMAT = 1
_PARTS = (".data-00000-of-00001", ".index")
_ENDINGS = (
    *(".index", ".weights.h5", ".h5", ".keras", ".npz", ".npy"),
    *(".msgpack", ".pkl", ".pickle", ".pt", ".safetensors"),
)
_SHARD = re.compile(r"\.data-\d+-of-\d+$")
_NUMBER = re.compile(r"(?:^|[-_.])(\d+)$")

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger("pipeline_ckpt")


@dataclass(frozen=True, slots=True)
class Mark:
    """A committed checkpoint."""

    step: int
    iterators: tuple[str, ...]
    """The names of the iterators' resources, in the graph that saved them."""
    holds: str = "iterator"
    """`iterator`: their state; `position`: nothing but this mark."""
    with_model: bool = False
    """Whether it holds the model too."""
    began: int = 0
    """The step at which the data began, or began anew after it had ended."""
    ended: bool = False
    """Whether the data had ended at this step."""
    elements_per_step: tuple[int, ...] | None = None
    """What a step takes of each iterator, where that is known."""
    varies: bool = False
    """Whether a step does not always take the same, or what it takes cannot be counted."""
    taken: tuple[int, ...] | None = None
    """How many elements of each iterator were taken since the data began, where that is known."""
    signature: Signature | None = None
    """None for a checkpoint of TensorFlow's own hook."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else a resume wants to know: JSON."""
    workers: int = 1
    """How many workers have saved together, each a checkpoint of its own."""
    first: bool = False
    """Whether the training has never been saved before."""
    global_step: int | None = None
    """The model's step, where `step` counts a worker's own ones."""

    @property
    def model_step(self) -> int:
        """The model's step."""
        return self.step if self.global_step is None else self.global_step

    @property
    def parts(self) -> tuple[str, ...]:
        """What the names of its files end with, besides the mark's."""
        return _PARTS if self.holds == "iterator" or self.with_model else ()


class CheckpointStore:
    """The input checkpoints with one basename in one directory.

    Args:
        directory: where they are; local, or anything that `tf.io.gfile` knows.
        basename: what their names begin with.
        max_to_keep: how many of the newest are kept in any case; None keeps all.
        durable: whether files and directories are fsynced before they count; local directories only.
    """

    def __init__(self, directory: str, basename: str, *, max_to_keep: int | None, durable: bool) -> None:
        self.directory = directory
        self.basename = basename
        self._max_to_keep = max_to_keep
        self._durable = durable
        self._own = re.compile(re.escape(basename) + r"-(\d+)\.(commit|retired|tmp|mark)")

    def named(self, basename: str) -> CheckpointStore:
        """The checkpoints with another basename."""
        return CheckpointStore(self.directory, basename, max_to_keep=self._max_to_keep, durable=self._durable)

    def prefix(self, step: int) -> str:
        """TensorFlow's name of checkpoint `step`: the path without the parts' suffixes."""
        return self._path(f"{self.basename}-{step}")

    def open(self) -> None:
        """Makes the directory, and removes what a save that was killed left behind; see `committed`."""
        tf.io.gfile.makedirs(self.directory)
        self.committed()  # refuses before anything is removed
        names = self._names()
        committed = self._steps("commit", names)
        for step in self._steps("tmp", names):
            if step not in committed:
                self._remove(*(self.prefix(step) + part for part in _PARTS))
            remove_tree(self.prefix(step) + ".tmp")
        self._remove(*(self.prefix(step) + ".mark" for step in self._steps("mark", names)))

    def committed(self) -> tuple[list[Mark], list[str]]:
        """The whole checkpoints, newest first, and for each that is not whole a sentence that says why.

        Raises:
            NoUsableCheckpointError: a newer version of this package has written some.
        """
        return self._committed(self._names())

    def _committed(self, names: Collection[str]) -> tuple[list[Mark], list[str]]:
        found = [self._read_mark(step) for step in sorted(self._steps("commit", names), reverse=True)]
        return [mark for mark in found if isinstance(mark, Mark)], [why for why in found if isinstance(why, str)]

    def of_another_count(self) -> str:
        """The name of a checkpoint here of one worker, where several train now, or the other way round; else empty."""
        alone = re.sub(r"_(chief|worker)_\d+$", "", self.basename)
        task = r"_(chief|worker)_\d+" if alone == self.basename else ""
        pattern = re.compile(rf"({re.escape(alone)}{task}-\d+)\.commit")
        return next((match[1] for match in map(pattern.fullmatch, sorted(self._names())) if match), "")

    def strangers(self) -> list[str]:
        """The names of checkpoints under this basename that are not ours."""
        names = self._names()
        ours = {step for kind in ("commit", "retired", "tmp", "mark") for step in self._steps(kind, names)}
        pattern = re.compile(re.escape(self.basename) + r"-(\d+)\.index")
        steps = {int(match[1]) for match in map(pattern.fullmatch, names) if match}
        return [f"{self.basename}-{step}" for step in sorted(steps - ours)]

    def foreign(self) -> list[int]:
        """The steps, newest first, of checkpoints that TensorFlow's own hook left here: pairs with its `.meta`."""
        names = set(self._names())
        pattern = re.compile(re.escape(self.basename) + r"-(\d+)\.meta")
        steps = [int(match[1]) for match in map(pattern.fullmatch, names) if match]
        whole = [step for step in steps if {f"{self.basename}-{step}{part}" for part in _PARTS} <= names]
        return sorted(set(whole) - self._steps("commit", names), reverse=True)

    def begin_save(self, step: int) -> str:
        """Makes the temporary directory of checkpoint `step`; the prefix to write to."""
        self.abandon(step)
        tf.io.gfile.makedirs(self.prefix(step) + ".tmp")
        return f"{self.prefix(step)}.tmp/part"

    def abandon(self, step: int) -> None:
        """Removes what a save has written so far."""
        remove_tree(self.prefix(step) + ".tmp")

    def commit(self, mark: Mark) -> int:
        """Puts what was written to `begin_save`'s prefix in place and marks it; its size in bytes."""
        prefix = self.prefix(mark.step)
        for part in mark.parts:
            self._sync(f"{prefix}.tmp/part{part}")
        # What is there under this step was retired or is not whole, or it would not be saved again.
        self._remove(prefix + ".commit", prefix + ".retired")
        for part in mark.parts:
            tf.io.gfile.rename(f"{prefix}.tmp/part{part}", prefix + part, overwrite=True)
        size = self._write_mark(mark, f"{prefix}.tmp/commit")
        remove_tree(prefix + ".tmp")
        return size

    def adopt(self, mark: Mark) -> None:
        """Marks a checkpoint whose files are in their place already."""
        # Not in a temporary directory: one that is left behind says that the files are of a save that was killed.
        self._write_mark(mark, self.prefix(mark.step) + ".mark")

    def _write_mark(self, mark: Mark, temporary: str) -> int:
        prefix = self.prefix(mark.step)
        sizes = {f"{self.basename}-{mark.step}{part}": tf.io.gfile.stat(prefix + part).length for part in mark.parts}
        content = json.dumps({"format": _FORMAT, **dataclasses.asdict(mark), "bytes": sizes})
        write(temporary, content)
        self._sync(temporary)
        self._sync(self.directory)  # the renames of the pair come before the mark's
        tf.io.gfile.rename(temporary, prefix + ".commit", overwrite=True)
        self._sync(self.directory)
        return int(sum(sizes.values())) + len(content)

    def _sync(self, path: str) -> None:
        local = local_path(path) if self._durable else None
        if local is None:
            return
        descriptor = os.open(local, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def retire(self, step: int) -> None:
        """Takes the mark from checkpoint `step`; a person can still give it back until the next `prune`."""
        tf.io.gfile.rename(self.prefix(step) + ".commit", self.prefix(step) + ".retired", overwrite=True)

    def retire_beyond(self, step: int, *, whose: str = "the model's global_step") -> None:
        """Retires the checkpoints that are newer than where a training goes on: a future that is abandoned.

        Args:
            step: where it goes on.
            whose: whose step that is.
        """
        for beyond in sorted(self._steps("commit", self._names())):
            if beyond > step:
                logger.warning("%s-%d is beyond %s %d and is retired", self.basename, beyond, whose, step)
                self.retire(beyond)

    def prune(self) -> None:
        """Deletes retired checkpoints, and committed ones that no kept model checkpoint can need.

        Needed are the newest `max_to_keep`, and for each model checkpoint in the directory the newest that is
        not beyond it. One that is not whole can stand for none, and is left to whoever looks into it.
        """
        names = self._names()  # once: there may be a hundred thousand files
        marks = self._committed(names)[0]
        steps = [mark.step for mark in marks]
        keep = set(steps if self._max_to_keep is None else steps[: self._max_to_keep])
        for model in self._model_steps(names):
            keep.update([mark.step for mark in marks if mark.model_step <= model][:1])
        retired = self._steps("retired", names)
        for step in (set(steps) | retired) - keep:
            # A kill in between must leave neither a mark without its files, nor files that nobody knows of. One that
            # TensorFlow's own hook left has a meta graph too.
            if step not in retired:
                self.retire(step)
            prefix = self.prefix(step)
            self._remove(*(prefix + part for part in (".commit", *_PARTS, ".meta", ".retired")))

    def _read_mark(self, step: int) -> Mark | str:
        try:
            with tf.io.gfile.GFile(self.prefix(step) + ".commit", "r") as file:
                content = json.loads(file.read())
            if not 1 <= content["format"] <= _FORMAT:
                raise _of_a_newer_version(f"{self.directory}/{self.basename}-{step}", content["format"])
            for name, size in content["bytes"].items():
                found = tf.io.gfile.stat(self._path(name)).length
                if found != size:
                    raise ValueError(f"{name} has {found} bytes instead of {size}")
            return mark_of({**content, "step": step})
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            return f"{self.basename}-{step}: {error}"

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _names(self) -> frozenset[str]:
        return names_in(self.directory)

    def _steps(self, kind: str, names: Collection[str]) -> set[int]:
        ours = (self._own.fullmatch(name) for name in names if name.startswith(self.basename))
        return {int(match[1]) for match in ours if match and match[2] == kind}

    def _model_steps(self, names: Collection[str]) -> set[int]:
        """The steps of all checkpoints here but input checkpoints, ours and those of other workers."""
        found = set()
        for name in names:
            if not name[-1:].isdigit() and not name.endswith(_ENDINGS):
                continue  # the fastest comes first: there may be a hundred thousand files
            model = _model_of(name)
            if model and model[0] != f"{self.basename}-" and f"{model[0]}{model[1]}.commit" not in names:
                found.add(int(model[1]))
        return found

    def _remove(self, *paths: str) -> None:
        for path in paths:
            remove(path)


def _model_of(name: str) -> tuple[str, str] | None:
    """What a model's checkpoint is called before its number, and the number; None: a name is of none.

    TensorFlow's, Keras', Orbax' (a directory `10`), Flax' (`checkpoint_10`), or any like it.
    """
    stem = next((name.removesuffix(one) for one in _ENDINGS if name.endswith(one)), name)
    number = None if _SHARD.search(stem) else _NUMBER.search(stem)
    return None if number is None else (stem[: number.start(1)], number[1])


def _of_a_newer_version(checkpoint: str, format_: object) -> NoUsableCheckpointError:
    """Neither skipped nor replaced: an older checkpoint in its place would lose what was trained since."""
    return NoUsableCheckpointError(
        f"{checkpoint} has format {format_}, and this version of pipeline-ckpt reads up to format {_FORMAT}: a newer "
        "version has written it. Install that one (pip install -U pipeline-ckpt), or train in another directory."
    )


def mark_of(content: dict[str, Any]) -> Mark:
    """The mark that was written as JSON."""
    signature, per_step, taken = content["signature"], content["elements_per_step"], content["taken"]
    return Mark(
        content["step"],
        tuple(content["iterators"]),
        holds=content["holds"],
        began=content["began"],
        ended=content["ended"],
        elements_per_step=None if per_step is None else tuple(per_step),
        varies=content["varies"],
        taken=None if taken is None else tuple(taken),
        signature=None if signature is None else Signature(tuple(signature["elements"]), signature["fingerprint"]),
        with_model=content.get("with_model", False),
        extra=content.get("extra", {}),
        workers=content.get("workers", 1),
        first=content.get("first", False),
        global_step=content.get("global_step"),
    )
