"""What lets a training of the corpus prove itself, without any plugin. It does nothing unless it is asked to.

By environment variables:

PROGRESS: a file that gets a line for each moment of each life (`step 7`: the seventh step of that life).
KILL: the moment at which the life ends itself by SIGKILL, exactly there and not about there.
PROOF: a file that gets one line of JSON at the natural end: what the model that came out was trained on.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_moments: collections.Counter[str] = collections.Counter()


def arguments(*hows: str) -> tuple[str, str]:
    """The checkpoint directory, and which of the ways to do it: the first one by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--how", choices=hows, default=hows[0])
    parsed = parser.parse_args()
    return parsed.model_dir, parsed.how


def moment(name: str = "step") -> None:
    """The life has come to `name` once more."""
    _moments[name] += 1
    here = f"{name} {_moments[name]}"
    if path := os.environ.get("PROGRESS"):
        with open(path, "a") as progress:
            progress.write(here + "\n")
    if os.environ.get("KILL") == here:
        os.kill(os.getpid(), signal.SIGKILL)


def report(seen: Iterable[Any], due: int | Sequence[int] = 1, **other: Any) -> None:
    """Writes the proof.

    Args:
        seen: How often the model was trained on each element, as its saved state has counted it.
        due: How often it is in a run that nobody kills: of each element, or of all.
        other: What else a resume must not change: steps of each half of a model, weights.
    """
    path = os.environ.get("PROOF")
    if not path:
        return
    times = [int(number) for number in seen]
    right = [due] * len(times) if isinstance(due, int) else list(due)
    line = {
        "argv": sys.argv[1:],
        "twice": [element for element, number in enumerate(times) if number > right[element]],
        "never": [element for element, number in enumerate(times) if number < right[element]],
        "other": {key: float(value) for key, value in other.items()},
    }
    with open(path, "a") as proof:
        proof.write(json.dumps(line) + "\n")
