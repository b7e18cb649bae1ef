"""What the user has decided, where there is a choice. Knows nothing of TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user has decided; see `CheckpointInputPipelineHook`."""

    external_state: Literal["fail", "warn", "ignore"] = "fail"
    state: Literal["iterator", "position"] = "iterator"
    on_missing: Literal["error", "replay"] = "error"
    on_nondeterminism: Literal["error", "warn"] = "error"
    at_end: Literal["restart", "stop"] = "stop"
