"""The errors of this package. None of them is a `tf.errors.OpError`.

A `MonitoredSession` takes an `OutOfRangeError` for the end of the data and leaves with success, so nothing
that goes wrong here may be raised as one.
"""

from __future__ import annotations


class PipelineCheckpointError(Exception):
    """The root of all errors of this package."""


class HookUsageError(PipelineCheckpointError, ValueError):
    """The hook was given values, or put into a graph, with which it cannot keep its promise."""


class NoUsableCheckpointError(PipelineCheckpointError, RuntimeError):
    """The model was restored at a step for which no input checkpoint is usable."""


class StorageError(PipelineCheckpointError, OSError):
    """The directory of the input checkpoints cannot be written, before anything was trained."""


class SupersededError(PipelineCheckpointError, RuntimeError):
    """Another process has gone on with this training: what this one saves would count for nobody.

    Usual where a platform starts the next process before it has ended the one before. Nothing is lost: end this one.
    """


class FastForwardError(PipelineCheckpointError, RuntimeError):
    """The input pipeline cannot be brought to the model's step."""


class NotSerializableError(PipelineCheckpointError, RuntimeError):
    """TensorFlow cannot save the state of this input pipeline.

    Attributes:
        op: The op that cannot be saved, as TensorFlow names it; empty when it does not say.
        python: Whether that op runs Python code, or another process, which can be run again from the start.
    """

    def __init__(self, message: str, *, op: str = "", python: bool = False) -> None:
        super().__init__(message)
        self.op = op
        self.python = python


class Preempted(SystemExit):
    """A notice of preemption has come, and the training has been saved.

    It is a `SystemExit`, so the process ends, `finally` blocks and `atexit` included, with its `code`.

    Attributes:
        notice: What has come: a signal's name, or what the notice calls itself.
    """

    def __init__(self, code: int, notice: str) -> None:
        super().__init__(code)
        self.notice = notice


def of_a_newer_version(checkpoint: str, format_: object, *, newest: int) -> NoUsableCheckpointError:
    """Neither skipped nor replaced: an older checkpoint in its place would lose what was trained since."""
    return NoUsableCheckpointError(
        f"{checkpoint} has format {format_}, and this version of pipeline-ckpt reads up to format {newest}: a newer "
        "version has written it. Install that one (pip install -U pipeline-ckpt), or train in another directory."
    )
