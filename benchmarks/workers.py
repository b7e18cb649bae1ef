"""Several workers, killed at random moments, saves included: `python benchmarks/workers.py [TRIALS] [ROW...]`.

Each row is a training of `tests/hook`. A trial has one or two lives that are killed (one worker, which ends all, or
all at moments of their own), and one that ends. In synchronous rows each worker's elements are compared, step by
step, with those of the same worker in an uninterrupted training, and so are the results, bit for bit. In the
asynchronous rows each life must begin with the element after a checkpoint of its worker, no element may be left out,
and what is taken twice must be what came after that checkpoint.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import tensorflow as tf

from tests.hook import gangs, server_lives
from tests.hook.gang_server import Answer, Job, run

SAVE_STEPS = 2
ROWS = {
    "fit, MirroredStrategy": ("fit:mirrored2", {"worker": 1}),
    "loop, MirroredStrategy": ("loop:mirrored2", {"worker": 1}),
    "fit, MultiWorkerMirroredStrategy": ("fit:workers", {"worker": 2}),
    "loop, MultiWorkerMirroredStrategy": ("loop:workers", {"worker": 2}),
    "asynchronous, one killed": ("servers", {"worker": 2, "ps": 1}),
    "asynchronous, all killed": ("servers", {"worker": 2, "ps": 1}),
}
STEPS = {"fit": 36, "loop": 30, "servers": server_lives.ELEMENTS}


def kills(training: str, cluster: dict[str, int], rng: random.Random) -> list[dict[str, Any]]:
    """The lives of a trial, but the last one: who is killed, after which step, and how long after it."""
    lives: list[dict[str, Any]] = []
    last = STEPS[training.partition(":")[0]] - 2
    for at in sorted(rng.sample(range(1, last), rng.choice((1, 2)))):
        who = rng.sample(range(cluster["worker"]), rng.randint(1, cluster["worker"]))
        lives.append({"kill": {str(one): [at, rng.choice((0.0, rng.random() * 0.3))] for one in who}})
    return lives


def trial(row: str, seed: int, directory: Path, reference: Path) -> list[str]:
    """One trial; what is wrong with it."""
    training, cluster = ROWS[row]
    alone = row.endswith("one killed")
    lives = kills(training, cluster, random.Random(seed))
    if alone:
        lives = [{"kill": {"1": life["kill"].get("1", [9, 0.0])}} for life in lives[:1]]
    save = {"save": {"save_steps": SAVE_STEPS}}
    job = Job(
        training, str(directory), cluster, [{**save, **life} for life in lives] + ([] if alone else [save]), alone
    )
    answer = run(job)
    wrong = [f"ended with {answer.codes[-1]}"] if any(code for code in workers_codes(answer, cluster)) else []
    if training == "servers":
        wrong += answer.faults
    elif not wrong:
        wrong += gangs.faults(reference, directory, workers=cluster["worker"])
    if wrong:
        print(seed, lives, *wrong, *(text[-2000:] for text in answer.said[-1]), sep="\n", flush=True)
    return wrong


def workers_codes(answer: Answer, cluster: dict[str, int]) -> list[int | None]:
    """How the workers of the last life have ended."""
    return answer.codes[-1][: cluster["worker"]]


def main(trials: int, rows: list[str]) -> None:
    """Prints the table."""
    for row in rows:
        begun = time.monotonic()
        training, cluster = ROWS[row]
        root = Path(tempfile.mkdtemp())  # a TemporaryDirectory would go with the first forked process
        reference = root / "reference"
        if training != "servers":
            run(Job(training, str(reference), cluster, [{"save": {"save_steps": SAVE_STEPS}}]))
        faulty = sum(bool(trial(row, seed, root / str(seed), reference)) for seed in range(trials))
        shutil.rmtree(root)
        seconds = time.monotonic() - begun
        print(f"TF {tf.__version__}, {row}: {trials - faulty} of {trials} exact, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, sys.argv[2:] or list(ROWS))
