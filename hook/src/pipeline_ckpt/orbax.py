"""The input pipeline in Orbax' checkpoints, in the same step directory as the model, and committed with it.

    data = InputPipelineCheckpoint(dataset)
    manager = ocp.CheckpointManager(directory)
    if manager.latest_step() is not None:
        restored = manager.restore(
            manager.latest_step(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(state), data=pipeline_ckpt.orbax.Restore(data)),
        )
        state = restored.state
    data.restore()  # in a new training too
    for batch in data.as_numpy_iterator():
        state = train_step(state, batch)
        if state.step % 500 == 0:
            manager.save(
                int(state.step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=pipeline_ckpt.orbax.Save(data)),
            )
    manager.wait_until_finished()

The input's state is taken before `save` returns, and written by Orbax' thread where the checkpointer is asynchronous;
so the training may go on at once. Each process of a training in several processes saves its own pipeline, and as many
must restore. With Orbax' API v1, `Stateful(data)` is a checkpointable.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

try:
    import jax
    import orbax.checkpoint as ocp
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("jax", "orbax"):
        raise
    raise ModuleNotFoundError(
        "pipeline_ckpt.orbax needs Orbax, which is not installed: pip install 'pipeline-ckpt[orbax]'", name=error.name
    ) from None

from .errors import HookUsageError, NoUsableCheckpointError
from .loop import InputPipelineCheckpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

_FORMAT = 1


class InputPipelineHandler(ocp.AsyncCheckpointHandler):  # type: ignore[misc]  # untyped base
    """Saves an `InputPipelineCheckpoint` that has no directory of its own, and restores into it."""

    async def async_save(self, directory: Any, args: Save) -> Sequence[Any]:
        """Takes the input's state; what is returned writes it.

        Raises:
            HookUsageError: the object saves in a directory of its own, or its `restore` was not called.
            NotSerializableError: TensorFlow cannot save the pipeline's state.
        """
        taken = _Taken.of(args.item)
        return [ocp.future.CommitFutureAwaitingContractedSignals(_written(taken, directory), name="pipeline_ckpt_save")]

    def save(self, directory: Any, args: Save) -> None:
        """Takes the input's state, and writes it; raises what `async_save` does."""
        _Taken.of(args.item).write(directory)

    def restore(self, directory: Any, args: Restore) -> InputPipelineCheckpoint:
        """Restores into the object, whose `restore` is to be called then.

        Raises:
            HookUsageError: the object saves in a directory of its own, or its `restore` was called before.
            NoUsableCheckpointError: nothing tells here where this process was. (Whether the state can be restored shows
                in the object's `restore`.)
        """
        return _restored(args.item, directory)


@ocp.args.register_with_handler(InputPipelineHandler, for_save=True)
@dataclass
class Save(ocp.args.CheckpointArgs):  # type: ignore[misc]  # untyped base
    """Saves the data of a training.

    Args:
        item: it, made without a directory.
    """

    item: InputPipelineCheckpoint


@ocp.args.register_with_handler(InputPipelineHandler, for_restore=True)
@dataclass
class Restore(ocp.args.CheckpointArgs):  # type: ignore[misc]  # untyped base
    """Restores the data of a training.

    Args:
        item: it, made without a directory; its `restore` is called afterwards.
    """

    item: InputPipelineCheckpoint


class Stateful:
    """The data of a training as a `StatefulCheckpointable` of Orbax' API v1.

    Args:
        data: it, made without a directory. After a load its `restore` is to be called.
    """

    def __init__(self, data: InputPipelineCheckpoint) -> None:
        self._data = data

    async def save(self, directory: Any) -> Awaitable[None]:
        """Takes the input's state; what is returned writes it. Raises what `InputPipelineHandler.async_save` does."""
        taken = _Taken.of(self._data)

        async def write() -> None:
            taken.write(await directory.await_creation())

        return write()

    async def load(self, directory: Any) -> Awaitable[None]:
        """Restores into the data. Raises what `InputPipelineHandler.restore` does."""
        _restored(self._data, directory)

        async def nothing_more() -> None:
            pass

        return nothing_more()


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is to be written of this process's pipeline."""

    text: str
    parts: Mapping[str, Any]

    @classmethod
    def of(cls, data: InputPipelineCheckpoint) -> _Taken:
        _check(data)
        return cls(*data.parts())

    def write(self, directory: Any) -> None:
        prefix = _prefix(directory)
        if self.parts:
            tf.train.Checkpoint(**self.parts).write(prefix)
        content = {"format": _FORMAT, "processes": jax.process_count(), "input": self.text}
        with tf.io.gfile.GFile(f"{prefix}.json", "w") as file:
            file.write(json.dumps(content))


async def _written(taken: _Taken, directory: Any) -> None:
    taken.write(directory)


def _restored(data: InputPipelineCheckpoint, directory: Any) -> InputPipelineCheckpoint:
    _check(data)
    prefix = _prefix(directory)
    try:
        with tf.io.gfile.GFile(f"{prefix}.json", "r") as file:
            content = json.loads(file.read())
        version, processes, text = content["format"], content["processes"], content["input"]
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise NoUsableCheckpointError(
            f"{prefix}.json does not say where the input of process {jax.process_index()} was ({error}). The model was "
            "saved with it, so restore an older step of both."
        ) from error
    if version > _FORMAT:
        raise NoUsableCheckpointError(
            f"{prefix}.json was written by a newer version of pipeline_ckpt (format {version}, this one reads "
            f"{_FORMAT}): install that one."
        )
    if processes != jax.process_count():
        raise NoUsableCheckpointError(
            f"The input in {directory} was saved by {processes} processes, each its own part, and "
            f"{jax.process_count()} restore it: start as many as before."
        )
    data.put(text, prefix)
    return data


def _check(data: Any) -> None:
    if not isinstance(data, InputPipelineCheckpoint):
        raise HookUsageError(
            f"item={data!r} is no pipeline_ckpt.InputPipelineCheckpoint: pass the one that the loop takes its elements "
            "from."
        )


def _prefix(directory: Any) -> str:
    return os.path.join(os.fspath(directory), f"input_{jax.process_index()}")


__all__ = ["InputPipelineHandler", "Restore", "Save", "Stateful"]
