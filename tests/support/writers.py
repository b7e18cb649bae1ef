"""A directory into which processes write checkpoints, as the scenarios of `CheckpointStore` need it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pipeline_ckpt import SupersededError
from pipeline_ckpt.marks import PARTS, Mark
from pipeline_ckpt.store import CheckpointStore


class Directory:
    """A checkpoint directory."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())

    def store(self, *, basename: str = "ckpt", max_to_keep: int | None = None) -> CheckpointStore:
        """As another process opens it."""
        return CheckpointStore(str(self.path), basename, max_to_keep=max_to_keep, durable=False)

    def begin(self, step: int | None = None, **settings: Any) -> CheckpointStore:
        """As another process resumes from a checkpoint, by default the newest, and takes it."""
        store = self.store(**settings)
        store.open()
        marks = [mark for mark in store.committed()[0] if step is None or mark.step == step]
        if marks:
            assert store.hold(marks[0]) is not None
        store.take()
        return store

    def steps(self) -> list[int]:
        """Of what a reader finds, newest first."""
        return [mark.step for mark in self.store().committed()[0]]

    def names(self, pattern: str = "*") -> set[str]:
        """Of the files."""
        return {path.name for path in self.path.glob(pattern)}


def save(store: CheckpointStore, *steps: int, text: str = "") -> None:
    """Saves checkpoints."""
    for step in steps:
        prefix = store.begin_save(step)
        for part in PARTS:
            Path(prefix + part).write_text(text or store.incarnation)
        store.commit(Mark(step, ()))


def superseded(store: CheckpointStore, step: int) -> str:
    """What a save is told; empty if it counts."""
    try:
        save(store, step)
    except SupersededError as error:
        return str(error)
    return ""


def content(directory: Directory, step: int) -> str:
    """Of the checkpoint that a reader finds."""
    store = directory.store()
    (mark,) = (one for one in store.committed()[0] if one.step == step)
    texts = {Path(store.prefix(mark) + part).read_text() for part in PARTS}
    assert len(texts) == 1, texts
    return texts.pop()
