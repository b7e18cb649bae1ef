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


class FastForwardError(PipelineCheckpointError, RuntimeError):
    """The input pipeline ended before it reached the model's step."""


class NotSerializableError(PipelineCheckpointError, RuntimeError):
    """TensorFlow cannot save the state of this input pipeline."""
