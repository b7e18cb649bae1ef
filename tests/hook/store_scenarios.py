"""Links among the files, and saves that are interrupted, in a fork each; prints `{name: error}` as JSON."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline_ckpt
import tensorflow as tf
from pipeline_ckpt import InputPipelineCheckpoint
from pipeline_ckpt.marks import Mark
from pipeline_ckpt.store import CheckpointStore
from scenarios import print_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = os.path.dirname(pipeline_ckpt.__file__)
ENDINGS = (".tmp", ".commit", ".retired", ".mark", ".index", ".data-00000-of-00001")
"""Of all names that the package gives to what belongs to a checkpoint."""


class Place:
    """A checkpoint directory with a store, and beside it what belongs to somebody else."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.directory = self.root / "checkpoints"
        self.directory.mkdir()
        self.earlier = self.taken().incarnation
        self.store = self.taken()
        (self.root / "theirs" / "sub").mkdir(parents=True)
        (self.root / "theirs" / "precious").write_text("x")
        (self.root / "theirs" / "sub" / "more").write_text("x")

    def taken(self, directory: str = "") -> CheckpointStore:
        """A store of another process, which writes from now on."""
        store = CheckpointStore(directory or str(self.directory), "ckpt", max_to_keep=1, durable=True)
        store.open()
        store.committed()
        store.take()
        return store

    def link(self, ending: str, target: str, writer: str | None = None) -> Path:
        """Makes a link of one of our names; `target` is below the root, or the link itself."""
        incarnation = self.store.incarnation if writer is None else writer
        link = self.directory / f"ckpt-7{f'.{incarnation}' if incarnation else ''}{ending}"
        link.symlink_to(link if target == "itself" else self.root / target)
        return link

    def check(self) -> None:
        """All that is theirs is still there, as it was."""
        found = {str(one.relative_to(self.root)) for one in (self.root / "theirs").rglob("*")}
        assert found == {"theirs/precious", "theirs/sub", "theirs/sub/more"}, found
        assert {(self.root / "theirs" / name).read_text() for name in ("precious", "sub/more")} == {"x"}

    def left(self) -> set[str]:
        """What is there besides tokens."""
        return {path.name for path in self.directory.iterdir() if path.suffix != ".token"}

    def save(self, step: int) -> None:
        """A whole checkpoint."""
        prefix = self.store.begin_save(step)
        tf.train.Checkpoint(w=tf.Variable(1.0)).write(prefix)
        self.store.commit(Mark(step, ()))


SETTINGS: dict[str, Any] = {"save_steps": 10_000, "max_to_keep": 1, "notices": (), "durable": False}
TARGETS = ("theirs", "theirs/precious", "missing", "itself")


def taking_removes_links_only() -> None:
    """What a save that was killed seems to have left, also one of format 1."""
    for target in TARGETS:
        place = Place()
        links = [place.link(ending, target, place.earlier) for ending in (".tmp", ".mark", ".index")]
        links += [place.link(ending, target, "") for ending in (".tmp", ".mark", ".index")]
        place.taken()
        assert not any(map(os.path.lexists, links)), target
        place.check()


def a_save_replaces_links() -> None:
    """`begin_save` and `commit`: the names are the checkpoint's then, and nothing was written through them."""
    for target in TARGETS:
        place = Place()
        links = [place.link(ending, target) for ending in ENDINGS]
        place.save(7)
        assert [mark.step for mark in place.store.committed()[0]] == [7], target
        assert not any(one.is_symlink() for one in links if one.suffix != ".mark"), target
        place.check()
        place.store.renew(Mark(7, (), incarnation=place.store.incarnation))
        place.check()


def abandon_removes_links_only() -> None:
    """Also those that lie in the temporary directory."""
    for target in TARGETS:
        place = Place()
        place.link(".tmp", target)
        place.store.abandon(7)
        assert place.left() == set()
        place.store.begin_save(7)
        (place.directory / f"ckpt-7.{place.store.incarnation}.tmp" / "part").symlink_to(place.root / "theirs")
        place.store.abandon(7)
        assert place.left() == set()
        place.check()


def prune_removes_links_only() -> None:
    """Of a retired checkpoint, whoever had it."""
    for target in TARGETS:
        place = Place()
        for ending in (".retired", ".index", ".data-00000-of-00001"):
            place.link(ending, target)
            place.link(ending, target, place.earlier)
            place.link(ending, target, "")
        place.link(".meta", target, "")
        place.store.prune()
        assert place.left() == set()
        place.check()


KEEPING = {
    "model-10.index": True,  # TensorFlow's
    "10": True,  # Orbax', a directory
    "checkpoint_10": True,  # Flax'
    "epoch_000010.weights.h5": True,
    "model.10.keras": True,
    "ckpt_10.npz": True,
    "9": False,
    "10.orbax-checkpoint-tmp-3": False,
    "model-7.data-00000-of-00010": False,
    "ckpt-12.index": False,  # of a save of ours that was killed
    "other_worker-10.index": False,
}
"""Names beside the checkpoints, and whether they tell of a model that needs number 10."""


def prune_keeps_what_a_model_needs() -> None:
    """Whoever has saved it: the newest checkpoint that is not beyond it."""
    for name, keeps in KEEPING.items():
        place = Place()
        (place.directory / name).mkdir()
        (place.directory / "other_worker-10.commit").touch()  # as format 1 has it
        for step in (10, 20, 30):
            place.save(step)
        place.store.prune()
        assert [mark.step for mark in place.store.committed()[0]] == ([30, 10] if keeps else [30]), name


def a_save_lists_the_directory_once() -> None:
    """However many files are in it: listing is what a save costs in a directory of many."""
    place = Place()
    listed: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> Any:
        listed.append(path)
        return listdir(path)

    os.listdir = counted  # type: ignore[assignment]
    try:
        for step in (1, 2, 3):
            place.save(step)
            place.store.prune()
    finally:
        os.listdir = listdir
    assert len(listed) == 3, listed


def a_directory_of_ours_may_be_a_link() -> None:
    """Where a scratch file system holds the checkpoints, all is as in a directory."""
    place = Place()
    elsewhere = place.directory.rename(place.root / "scratch")
    place.directory.symlink_to(elsewhere)
    place.store = place.taken()
    for step in (1, 2):
        place.save(step)
        place.store.prune()
    prefix = f"ckpt-2.{place.store.incarnation}"
    assert place.left() == {f"{prefix}.commit", f"{prefix}.index", f"{prefix}.data-00000-of-00001"}


def a_file_url_is_local() -> None:
    """`file://` is fsynced as a path is, and links are not followed."""
    place = Place()
    place.link(".tmp", "theirs")
    place.store = place.taken(f"file://{place.directory}")
    place.link(".tmp", "theirs")
    place.save(7)
    assert [mark.step for mark in place.store.committed()[0]] == [7]
    place.check()


def what_stands_in_the_way_is_said() -> None:
    """A directory that has a mark's name is nothing that could be replaced: nothing in it is removed."""
    place = Place()
    mark = place.directory / f"ckpt-7.{place.store.incarnation}.commit"
    mark.mkdir()
    (mark / "theirs").write_text("x")
    try:
        place.save(7)
    except OSError:
        assert (mark / "theirs").exists()
    else:
        raise AssertionError("the save counts as written")


class Interrupt:
    """Raises KeyboardInterrupt at the N-th line of the package that this thread runs.

    Args:
        line: which one, from 1 on.
    """

    def __init__(self, line: int) -> None:
        self._left = line

    @property
    def landed(self) -> bool:
        """Whether there were so many lines."""
        return self._left <= 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Interrupt | None:
        """What `sys.settrace` calls."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self


def _interrupted(make: Callable[[str, tf.Variable, tf.Variable], InputPipelineCheckpoint]) -> None:
    """A training whose saves are interrupted, each at another line; each is made again, and found by the next life."""
    directory = tempfile.mkdtemp()
    step, weight = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)
    data = make(directory, step, weight)
    data.restore()

    def train() -> None:
        element = next(iter(data))
        step.assign_add(1)
        weight.assign_add(float(element))

    for line in range(1, 10_000):
        train()
        data.save()  # prunes what the last interruption may have left
        train()
        interrupt = Interrupt(line)
        try:
            sys.settrace(interrupt)
            data.save()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if not interrupt.landed:
            assert line > 40, line
            return
        data.save()
        data._checkpointer.finish()
        assert [mark.step for mark in data._store.committed()[0]][:1] == [int(step)], line
        if line % 8:
            continue  # a life takes as long as some saves
        next_step, next_weight = tf.Variable(step), tf.Variable(weight)
        later = make(shutil.copytree(directory, f"{directory}-{line}"), next_step, next_weight)  # or it would take over
        assert (later.restore(), float(next_weight)) == (int(step), float(weight)), line
        assert int(next(iter(later))) == int(step), line
        later.close()
    raise AssertionError("a save has too many lines")


def a_save_with_the_model_may_be_interrupted_at_each_line() -> None:
    """The same save can be made again, and what it leaves is whole."""

    def make(directory: str, step: tf.Variable, weight: tf.Variable) -> InputPipelineCheckpoint:
        return InputPipelineCheckpoint(
            tf.data.Dataset.range(10_000),
            step,
            directory,
            save_steps=10_000,
            max_to_keep=1,
            notices=(),
            durable=False,
            weight=weight,
        )

    _interrupted(make)


def a_save_beside_the_model_may_be_interrupted_at_each_line() -> None:
    """Another thread writes, which must be waited for although nobody could keep what it was given."""

    def make(directory: str, step: tf.Variable, _: tf.Variable) -> InputPipelineCheckpoint:
        return InputPipelineCheckpoint(tf.data.Dataset.range(10_000), step, directory, **SETTINGS)

    _interrupted(make)


SCENARIOS = [
    taking_removes_links_only,
    a_save_replaces_links,
    abandon_removes_links_only,
    prune_removes_links_only,
    prune_keeps_what_a_model_needs,
    a_save_lists_the_directory_once,
    a_directory_of_ours_may_be_a_link,
    a_file_url_is_local,
    what_stands_in_the_way_is_said,
    a_save_with_the_model_may_be_interrupted_at_each_line,
    a_save_beside_the_model_may_be_interrupted_at_each_line,
]

if __name__ == "__main__":
    print_outcomes(SCENARIOS)
