"""Input checkpoints as files of one directory. Knows nothing of graphs and sessions.

Checkpoint N of basename `input.ckpt` is TensorFlow's pair `input.ckpt-N.index`,
`input.ckpt-N.data-00000-of-00001` and the mark `input.ckpt-N.commit`. A save writes the pair in the directory
`input.ckpt-N.tmp`, renames it to its place, renames the mark to its place, and only then removes the
temporary directory. So a pair without a mark is no checkpoint, and where a temporary directory is left, such
a pair is ours to remove. All names in a mark are relative.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass

import tensorflow as tf

_FORMAT = 1
_PARTS = (".data-00000-of-00001", ".index")
_MODEL_INDEX = re.compile(r"(.+)-(\d+)\.index")

logger = logging.getLogger("pipeline_ckpt")


@dataclass(frozen=True, slots=True)
class Mark:
    """A committed checkpoint."""

    step: int
    iterators: tuple[str, ...]
    """The names of the iterators' resources, in the graph that saved them."""


class CheckpointStore:
    """The input checkpoints with one basename in one directory."""

    def __init__(self, directory: str, basename: str, *, max_to_keep: int | None) -> None:
        self._directory = directory
        self._basename = basename
        self._max_to_keep = max_to_keep
        self._own = re.compile(re.escape(basename) + r"-(\d+)\.(commit|retired|tmp)")

    def prefix(self, step: int) -> str:
        """TensorFlow's name of checkpoint `step`: the path without the parts' suffixes."""
        return self._path(f"{self._basename}-{step}")

    def open(self) -> None:
        """Makes the directory, and removes what a save that was killed left behind."""
        tf.io.gfile.makedirs(self._directory)
        committed = self._steps("commit")
        for step in self._steps("tmp"):
            if step not in committed:
                self._remove(*(self.prefix(step) + part for part in _PARTS))
            tf.io.gfile.rmtree(self.prefix(step) + ".tmp")

    def committed(self) -> tuple[list[Mark], list[str]]:
        """The whole checkpoints, newest first, and for each that is not whole a sentence that says why."""
        found = [self._read_mark(step) for step in sorted(self._steps("commit"), reverse=True)]
        return [mark for mark in found if isinstance(mark, Mark)], [why for why in found if isinstance(why, str)]

    def begin_save(self, step: int) -> str:
        """Makes the temporary directory of checkpoint `step`; the prefix to write to."""
        temporary = self.prefix(step) + ".tmp"
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
        tf.io.gfile.makedirs(temporary)
        return f"{temporary}/part"

    def commit(self, mark: Mark) -> int:
        """Puts what was written to `begin_save`'s prefix in place and marks it; its size in bytes."""
        prefix = self.prefix(mark.step)
        # What is there under this step was retired or is not whole, or it would not be saved again.
        self._remove(prefix + ".commit", prefix + ".retired")
        for part in _PARTS:
            tf.io.gfile.rename(f"{prefix}.tmp/part{part}", prefix + part, overwrite=True)
        sizes = {f"{self._basename}-{mark.step}{part}": tf.io.gfile.stat(prefix + part).length for part in _PARTS}
        content = {"format": _FORMAT, "step": mark.step, "iterators": mark.iterators, "bytes": sizes}
        with tf.io.gfile.GFile(f"{prefix}.tmp/commit", "w") as file:
            file.write(json.dumps(content))
        tf.io.gfile.rename(f"{prefix}.tmp/commit", prefix + ".commit", overwrite=True)
        tf.io.gfile.rmtree(prefix + ".tmp")
        return sum(sizes.values())

    def retire(self, step: int) -> None:
        """Takes the mark from checkpoint `step`; a person can still give it back until the next `prune`."""
        tf.io.gfile.rename(self.prefix(step) + ".commit", self.prefix(step) + ".retired", overwrite=True)

    def retire_beyond(self, step: int) -> None:
        """Retires the checkpoints that are newer than the model: a future that a rollback has abandoned."""
        for beyond in sorted(self._steps("commit")):
            if beyond > step:
                logger.warning(
                    "%s-%d is beyond the model's global_step %d and is retired", self._basename, beyond, step
                )
                self.retire(beyond)

    def prune(self) -> None:
        """Deletes retired checkpoints, and committed ones that no kept model checkpoint can need.

        Needed are the newest `max_to_keep`, and for each model checkpoint in the directory the newest that is
        not beyond it.
        """
        steps = sorted(self._steps("commit"), reverse=True)
        keep = set(steps if self._max_to_keep is None else steps[: self._max_to_keep])
        for model in self._model_steps():
            keep.update([step for step in steps if step <= model][:1])
        for step in (set(steps) | self._steps("retired")) - keep:
            # The mark goes first: a kill in between must not leave a mark without its files.
            prefix = self.prefix(step)
            self._remove(prefix + ".commit", *(prefix + part for part in _PARTS), prefix + ".retired")

    def _read_mark(self, step: int) -> Mark | str:
        try:
            with tf.io.gfile.GFile(self.prefix(step) + ".commit", "r") as file:
                content = json.loads(file.read())
            if content["format"] != _FORMAT:
                reads = f"this version of pipeline-ckpt reads format {_FORMAT}"
                raise ValueError(f"format {content['format']}, {reads}")
            for name, size in content["bytes"].items():
                found = tf.io.gfile.stat(self._path(name)).length
                if found != size:
                    raise ValueError(f"{name} has {found} bytes instead of {size}")
            return Mark(step, tuple(content["iterators"]))
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            return f"{self._basename}-{step}: {error}"

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _names(self) -> list[str]:
        return [name.rstrip("/") for name in tf.io.gfile.listdir(self._directory)]  # directories may end with "/"

    def _steps(self, kind: str) -> set[int]:
        matches = map(self._own.fullmatch, self._names())
        return {int(match[1]) for match in matches if match and match[2] == kind}

    def _model_steps(self) -> set[int]:
        matches = map(_MODEL_INDEX.fullmatch, self._names())
        return {int(match[2]) for match in matches if match and match[1] != self._basename}

    def _remove(self, *paths: str) -> None:
        for path in paths:
            if tf.io.gfile.exists(path):
                tf.io.gfile.remove(path)
