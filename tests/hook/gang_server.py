"""A process that has imported TensorFlow, and forks trainings of several processes: jobs by stdin, answers by stdout.

A job is JSON on one line, see `Job`; the answer is too, see `Answer`.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.hook import gangs, server_lives, worker_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Job:
    """Some lives of a training, one after the other, in a directory."""

    training: str
    """`servers`, or see `worker_lives.main`."""
    directory: str
    cluster: dict[str, int]
    lives: Sequence[dict[str, Any]]
    """What is in each one's LIFE."""
    alone: bool = False
    compare: str = ""
    """The directory of a resumed training that is compared with this one, which nobody interrupts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How they went."""

    codes: list[list[int | None]]
    """Of each life's processes."""
    said: list[list[str]]
    """What they said, in the same order."""
    faults: list[str]
    """What is wrong with the elements: of the training that is compared, or of workers at their own steps."""


def run(job: Job) -> Answer:
    """Runs the lives of a job."""
    directory = Path(job.directory)
    directory.mkdir(parents=True, exist_ok=True)
    process: Callable[[], None]
    if job.training == "servers":
        process = functools.partial(server_lives.main, job.directory)
    else:
        process = functools.partial(worker_lives.main, job.training, job.directory)
    ended = [gangs.run_gang(process, directory, cluster=job.cluster, life=life, alone=job.alone) for life in job.lives]
    faults: list[str] = []
    if job.compare:
        faults = gangs.faults(directory, Path(job.compare), workers=job.cluster["worker"])
    elif job.training == "servers":
        faults = gangs.faults_of_own_steps(directory, workers=job.cluster["worker"])
    return Answer([list(one.codes) for one in ended], [list(one.said) for one in ended], faults)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asdict(run(Job(**json.loads(line))))), flush=True)
