"""Which names in a directory are model checkpoints, whoever has written them, and of which steps. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_ENDINGS = (
    *(".index", ".weights.h5", ".h5", ".keras", ".npz", ".npy"),
    *(".msgpack", ".pkl", ".pickle", ".pt", ".safetensors"),
)
_SHARD = re.compile(r"\.data-\d+-of-\d+$")
_NUMBER = re.compile(r"(?:^|[-_.])(\d+)$")


def model_steps(names: Collection[str], *, basename: str) -> set[int]:
    """The steps of all checkpoints among some names but input checkpoints, ours and those of other workers.

    Args:
        names: of all that is in the directory.
        basename: what ours begin with.
    """
    found = set()
    for name in names:
        if not name[-1:].isdigit() and not name.endswith(_ENDINGS):
            continue  # the fastest comes first: there may be a hundred thousand files
        model = _model_of(name)
        if model and model[0] != f"{basename}-" and f"{model[0]}{model[1]}.commit" not in names:
            found.add(int(model[1]))
    return found


def _model_of(name: str) -> tuple[str, str] | None:
    """What a model's checkpoint is called before its number, and the number; None: a name is of none.

    TensorFlow's, Keras', Orbax' (a directory `10`), Flax' (`checkpoint_10`), or any like it.
    """
    stem = next((name.removesuffix(one) for one in _ENDINGS if name.endswith(one)), name)
    number = None if _SHARD.search(stem) else _NUMBER.search(stem)
    return None if number is None else (stem[: number.start(1)], number[1])


__all__ = ["model_steps"]
