"""What the hook, the callback and the loop's checkpoint check and decide alike."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from .errors import HookUsageError
from .files import local_path
from .pipelines import POLICIES
from .policy import Policy
from .store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .model_step import ModelStep

_CHOICES: dict[str, Iterable[str]] = {
    "external_state_policy": POLICIES,
    "state": ("iterator", "position"),
    "on_missing": ("error", "replay"),
    "on_nondeterminism": ("error", "warn"),
    "at_end": ("restart", "stop"),
}


def store_in(
    directory: str | os.PathLike[str], basename: str, *, max_to_keep: int | None, durable: bool | None
) -> CheckpointStore:
    """The checkpoints of a directory; `durable` by default where that is local.

    Raises:
        HookUsageError: a directory that is not local cannot be durable, or TensorFlow could not read there.
    """
    path = os.fspath(directory)
    if not path:
        raise HookUsageError("directory='' is empty: pass the directory of this training's checkpoints.")
    if pattern := set(path) & {"[", "\\"}:
        raise HookUsageError(
            f"The directory {path} has {' and '.join(sorted(pattern))} in its name, and TensorFlow, which takes that "
            "for a pattern, could never read what it has written there: pass another one."
        )
    local = local_path(path) is not None
    if durable and not local:
        raise HookUsageError(f"durable=True needs a local directory, and {path} is none: pass durable=False.")
    return CheckpointStore(path, basename, max_to_keep=max_to_keep, durable=local if durable is None else durable)


def task() -> tuple[int, str, int]:
    """How many workers train by TF_CONFIG, and the type and the number of this one."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    cluster, here = config.get("cluster", {}), config.get("task", {})
    workers = sum(len(cluster.get(role, ())) for role in ("chief", "master", "worker"))
    return workers, here.get("type", "worker"), here.get("index", 0)


def policy(**choices: Any) -> Policy:
    """The user's decisions, of those that there are.

    Raises:
        HookUsageError: one is not among the choices.
    """
    for name, value in choices.items():
        check_choice(name, value, _CHOICES[name])
    choices["external_state"] = choices.pop("external_state_policy")
    return Policy(**choices)


def check_triggers(save_steps: Any, save_secs: Any) -> None:
    """Refuses anything but one of the two that say when to save."""
    if (save_steps is None) == (save_secs is None):
        raise HookUsageError(
            f"Exactly one of save_steps and save_secs must be given, got save_steps={save_steps} and "
            f"save_secs={save_secs}: pass the one and leave out the other."
        )
    check_least("save_steps", save_steps, least=1)
    if save_secs is not None and (
        not isinstance(save_secs, (int, float)) or isinstance(save_secs, bool) or not save_secs > 0
    ):
        raise HookUsageError(f"save_secs={save_secs!r} is not a number above 0: pass one, in seconds.")


def check_least(name: str, value: object, *, least: int, remedy: str = "pass one") -> None:
    """Refuses what is given and is not an integer of at least `least`."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise HookUsageError(f"{name}={value!r} is not an integer of at least {least}: {remedy}.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses what is not among the choices."""
    if value not in choices:
        raise HookUsageError(f"{name}={value!r} is unknown: pass {' or '.join(map(repr, choices))}.")


def check_loop(dataset: Any, step: ModelStep, directory: Any, trackables: Mapping[str, Any]) -> None:
    """Raises HookUsageError if the arguments of an `InputPipelineCheckpoint` contradict each other."""
    if not isinstance(dataset, (tf.data.Dataset, tf.distribute.DistributedDataset)):
        raise HookUsageError(
            f"dataset={dataset!r} is a {type(dataset).__name__}: pass a tf.data.Dataset, not its iterator, or what a "
            "strategy makes of one."
        )
    if trackables and directory is None:
        raise HookUsageError(
            f"{', '.join(trackables)} can only be saved with a directory: pass one, or put this object into the "
            "tf.train.Checkpoint that holds them."
        )
    if step.elements and directory is not None:
        raise HookUsageError(
            "step is missing: pass the tf.Variable that counts the model's steps, or how many it has made."
        )
    if trackables and step.variable is None:
        raise HookUsageError(
            f"{', '.join(trackables)} can only be saved with a step that is a tf.Variable: pass one, or save the model "
            "elsewhere."
        )
    if "step" in trackables or "iterator" in trackables:
        raise HookUsageError("step= and iterator= are saved anyway: leave them out.")
