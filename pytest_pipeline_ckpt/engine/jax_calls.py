"""Child side: what the checkpoint libraries of JAX are told to save and restore: Orbax, Flax. Never imports them.

CLU and what is written by hand goes through Flax' serialisation and a file (`files`).
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any

import wrapt

from .lineage import path_of, quietly
from .model import Kind
from .trees import look_into

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches
    from .steps import Steps
    from .trees import Tree

_ORBAX = "orbax.checkpoint._src.checkpointers"
_LABEL = re.compile(r"(\d+)$")


class JaxCalls:
    """Wraps the libraries when the user's import of them is done."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def install(self, patches: Patches) -> None:
        """Wraps now what is imported, and later what is not."""
        for name, owner in (
            (f"{_ORBAX}.checkpointer", "Checkpointer"),
            (f"{_ORBAX}.async_checkpointer", "AsyncCheckpointer"),
        ):
            wrapt.when_imported(name)(functools.partial(self._checkpointers, patches, owner))
        wrapt.when_imported("flax.training.checkpoints")(functools.partial(self._flax, patches))
        wrapt.when_imported("flax.serialization")(functools.partial(self._serialization, patches))

    def _checkpointers(self, patches: Patches, owner: str, module: Any) -> None:
        if patches.active:
            patches.wrap(getattr(module, owner), "save", self._checkpointer_saves)
            patches.wrap(getattr(module, owner), "restore", self._checkpointer_restores)

    def _flax(self, patches: Patches, module: Any) -> None:
        if patches.active:
            for name in ("save_checkpoint", "save_checkpoint_multiprocess"):
                patches.wrap(module, name, self._flax_saves)
            patches.wrap(module, "restore_checkpoint", functools.partial(self._flax_restores, module))

    def _serialization(self, patches: Patches, module: Any) -> None:
        if patches.active:
            patches.wrap(module, "to_bytes", self._to_bytes)
            patches.wrap(module, "from_bytes", self._from_bytes)

    # Orbax. Its checkpointers are given the directory's final name, also by its managers.

    def _checkpointer_saves(self, original: Any) -> Any:
        def save(checkpointer: Any, directory: Any, *args: Any, **kwargs: Any) -> Any:
            later = hasattr(checkpointer, "wait_until_finished")
            call = functools.partial(original, checkpointer, directory, *args, **kwargs)
            return self._saves(call, directory, [*args, *kwargs.values()], label=_label(directory), later=later)

        return save

    def _checkpointer_restores(self, original: Any) -> Any:
        def restore(checkpointer: Any, directory: Any, *args: Any, **kwargs: Any) -> Any:
            call = functools.partial(original, checkpointer, directory, *args, **kwargs)
            return self._restores(call, directory, label=_label(directory))

        return restore

    # Flax.

    def _flax_saves(self, original: Any) -> Any:
        def save_checkpoint(ckpt_dir: Any, target: Any, step: Any, *args: Any, **kwargs: Any) -> Any:
            prefix = args[0] if args else kwargs.get("prefix", "checkpoint_")
            path = os.path.join(os.fspath(ckpt_dir), f"{prefix}{step}")
            call = functools.partial(original, ckpt_dir, target, step, *args, **kwargs)
            later = kwargs.get("async_manager") is not None or kwargs.get("orbax_checkpointer") is not None
            return self._saves(call, path, [target], label=_label(path), later=later)

        return save_checkpoint

    def _flax_restores(self, module: Any, original: Any) -> Any:
        def restore_checkpoint(ckpt_dir: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            call = functools.partial(original, ckpt_dir, target, *args, **kwargs)
            names = dict(zip(("step", "prefix"), args, strict=False)) | kwargs
            path = _flax_path(module, ckpt_dir, names.get("step"), names.get("prefix", "checkpoint_"))
            return call() if path is None else self._restores(call, path, label=_label(path))

        return restore_checkpoint

    def _to_bytes(self, original: Any) -> Any:
        def to_bytes(target: Any) -> Any:
            self._note_bytes(target)
            return original(target)

        return to_bytes

    @quietly
    def _note_bytes(self, target: Any) -> None:
        """The state of now goes into bytes, and these most likely into the next file that this thread writes."""
        if self._steps.lineage.inside():
            return
        tree = look_into(target)
        self._steps.note_state(target)
        self._steps.read_states("save", [tree])
        self._steps.files.expect(weights=bool(tree.arrays))

    def _from_bytes(self, original: Any) -> Any:
        def from_bytes(target: Any, encoded_bytes: Any) -> Any:
            result = original(target, encoded_bytes)
            self._note_from_bytes(result)
            return result

        return from_bytes

    @quietly
    def _note_from_bytes(self, result: Any) -> None:
        """A state was made of bytes: of those of the last file that this thread has read."""
        if self._steps.lineage.inside():
            return
        tree = look_into(result)
        by_hand = self._steps.files.gave(tree.arrays)
        self._steps.states.restored([tree])
        if by_hand:
            self._steps.event(Kind.RESTORED, values=lambda: self._steps.states.values_in([tree]))
        else:
            self._steps.read_states("restore", [tree])

    # What all have in common.

    def _saves(self, call: Callable[[], Any], path: Any, given: list[Any], *, label: int | None, later: bool) -> Any:
        trees: list[Tree] = []

        def writes() -> Any:
            self._note_writing(path, trees)
            result = call()
            if later:
                self._note_later(path)
            return result

        if self._steps.outermost():
            trees = _trees(given)
            self._steps.note_state(given)
        result = self._steps.saving(writes, path=path, values=lambda: self._steps.states.values_in(trees, label))
        if self._steps.outermost():
            self._steps.event(Kind.SAVED)
            self._steps.lineage.look_for_commits()
        return result

    @quietly
    def _note_writing(self, path: Any, trees: list[Tree]) -> None:
        weights = any(tree.arrays for tree in trees)
        self._steps.lineage.writing(path, weights=weights, data=any(tree.iterators for tree in trees))

    @quietly
    def _note_later(self, path: Any) -> None:
        place = path_of(path)
        if place is not None:
            exists = path.exists if hasattr(path, "exists") else functools.partial(os.path.exists, place)
            self._steps.lineage.completes_later(exists)

    def _restores(self, call: Callable[[], Any], path: Any, *, label: int | None) -> Any:
        if not self._steps.outermost():
            return call()
        result = self._steps.restoring(call, path)
        trees = _trees([result])
        self._note_restored(path, trees)
        self._steps.event(Kind.RESTORED, values=lambda: self._steps.states.values_in(trees, label))
        return result

    @quietly
    def _note_restored(self, path: Any, trees: list[Tree]) -> None:
        self._steps.states.restored(trees)
        arrays = [name for tree in trees for name in tree.arrays]
        self._steps.lineage.restored(path, weights=bool(arrays), data=any(tree.iterators for tree in trees))
        self._steps.lineage.group(path, len(arrays), tuple(arrays))


def _trees(given: list[Any]) -> list[Tree]:
    trees = []
    for one in given:
        try:
            trees.append(look_into(one))
        except Exception:  # what it is made of raises: then nothing is known of it
            continue
    return trees


def _label(path: Any) -> int | None:
    """The step in the name of a checkpoint."""
    found = _LABEL.search(os.path.basename(os.fspath(path))) if isinstance(path, (str, os.PathLike)) else None
    return int(found.group(1)) if found else None


def _flax_path(module: Any, directory: Any, step: Any, prefix: str) -> str | None:
    """What `restore_checkpoint` will read; None: nothing."""
    try:
        if step is not None:
            return os.path.join(os.fspath(directory), f"{prefix}{step}")
        found: str | None = module.latest_checkpoint(directory, prefix)
        return found or (os.fspath(directory) if os.path.isfile(directory) else None)
    except Exception:  # it will say so itself
        return None


__all__ = ["JaxCalls"]
