"""Preemption-safe checkpoints of TensorFlow input pipelines.

After any preemption the pipeline goes on with the element after the last one that the restored model was
trained on.
"""

from __future__ import annotations

try:
    import tensorflow  # noqa: F401  (only to say clearly what is missing)
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError(
        "pipeline_ckpt needs TensorFlow 2.15 or later, which is not installed: pip install 'pipeline-ckpt[tensorflow]'",
        name="tensorflow",
    ) from None

from .errors import (
    FastForwardError,
    HookUsageError,
    NotSerializableError,
    NoUsableCheckpointError,
    PipelineCheckpointError,
    Preempted,
    StorageError,
    SupersededError,
)
from .hook import CheckpointInputPipelineHook, InputPipelineSaverListener, make_saveable_from_iterator
from .loop import InputPipelineCheckpoint
from .notices import FileNotice, UrlNotice

__version__ = "0.1.0"

__all__ = [
    "CheckpointInputPipelineHook",
    "FastForwardError",
    "FileNotice",
    "HookUsageError",
    "InputPipelineCheckpoint",
    "InputPipelineSaverListener",
    "NoUsableCheckpointError",
    "NotSerializableError",
    "PipelineCheckpointError",
    "Preempted",
    "StorageError",
    "SupersededError",
    "UrlNotice",
    "make_saveable_from_iterator",
]
