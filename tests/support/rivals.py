"""Trainings of which two processes live at once over one directory, really stopped, woken and killed.

`rivals.py TRIALS SEED` prints `{"wrong": [...], "superseded": n}` as JSON. The data is shuffled without a seed, so each
history has an order of its own: a model and data of two histories, or of two moments of one, end with elements twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from pipeline_ckpt import InputPipelineCheckpoint, SupersededError

ELEMENTS = 60
_PATIENCE = 120.0
"""Seconds after which something hangs."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line that a life has written of itself, outside of the directory."""

    what: str
    """`begin`, `step`, `saved`, `superseded`, `end`."""
    at: float
    step: int = 0
    trail: int = 0
    """What the model has been trained on, in order, as a hash."""
    element: int = -1
    number: int = 0
    """Of what it writes as, at `begin`: it may sleep between having taken the directory and saying so."""


class Life:
    """A forked process that trains.

    Args:
        root: where its log is.
        number: of the life.
        settings: of its checkpoints.
    """

    def __init__(self, root: Path, number: int, settings: dict[str, Any]) -> None:
        self._log = root / f"{number}.log"
        self._log.touch()
        self.started = time.monotonic()
        self.pid = os.fork()
        self._gone = False
        if self.pid == 0:
            _train(str(root / "checkpoints"), os.open(self._log, os.O_WRONLY | os.O_APPEND), settings)

    def events(self) -> list[Event]:
        """What it has written so far."""
        lines = self._log.read_text().splitlines()
        return [Event(**json.loads(line)) for line in lines]

    def wait(self, steps: int) -> None:
        """Until it has made so many steps, or has ended."""
        until = time.monotonic() + _PATIENCE
        while not self.gone and sum(event.what == "step" for event in self.events()) < steps:
            assert time.monotonic() < until, "a life hangs"
            time.sleep(0.002)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        if not self._gone:
            self._gone = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._gone

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, if it is there."""
        if not self.gone:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kills it."""
        self.send(signal.SIGKILL)
        if not self._gone:
            os.waitpid(self.pid, 0)
            self._gone = True


def _train(directory: str, log: int, settings: dict[str, Any]) -> None:
    def write(what: str, **more: int) -> None:
        os.write(log, f"{json.dumps({'what': what, 'at': time.monotonic(), **more})}\n".encode())

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        step, trail = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
        dataset = tf.data.Dataset.range(ELEMENTS).shuffle(ELEMENTS)
        data = InputPipelineCheckpoint(dataset, step, directory, notices=(), durable=False, trail=trail, **settings)
        data.restore()
        number = int(data._store.incarnation.partition("-")[0])
        write("begin", step=int(step), trail=int(trail), number=number)
        for element in data:
            time.sleep(random.random() * 0.004)
            trail.assign((trail * 1_000_003 + element + 1) % (2**31 - 1))
            step.assign_add(1)
            write("step", step=int(step), trail=int(trail), element=int(element))
            data.after_step()
            if data._checkpointer.saved is not None and data._checkpointer.saved.step == int(step):
                write("saved", step=int(step))
        data.close()
        write("end", step=int(step))
    except SupersededError:
        write("superseded")
    except BaseException as error:
        write(f"{type(error).__name__}: {error}")
    os._exit(0)


def trial(seed: int) -> tuple[list[str], int]:
    """Four lives or five in one directory; what was wrong, and how many were told that they are superseded."""
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp())
    settings: dict[str, Any] = {"save_steps": draw.randint(1, 4), "max_to_keep": draw.randint(1, 3)}
    lives: list[Life] = []
    try:
        _play(draw, root, settings, lives)
    finally:
        for life in lives:
            life.end()
    events = [life.events() for life in lives]
    wrong = [f"seed {seed}: {one}" for one in _wrong(events, [life.started for life in lives])]
    shutil.rmtree(root)
    return wrong, sum(event.what == "superseded" for life in events for event in life)


def _play(draw: random.Random, root: Path, settings: dict[str, Any], lives: list[Life]) -> None:
    def start() -> Life:
        lives.append(Life(root, len(lives), settings))
        return lives[-1]

    first = start()
    first.wait(draw.randint(0, 25))
    time.sleep(draw.random() * 0.02)
    first.send(signal.SIGSTOP)
    second = start()
    if draw.random() < 0.3:
        time.sleep(draw.random())
        first.send(signal.SIGCONT)  # both are alive while the second one resumes
    second.wait(draw.randint(0, 15))
    time.sleep(draw.random() * 0.02)
    stopped = draw.random() < 0.5
    if stopped:
        second.send(signal.SIGSTOP)
    first.send(signal.SIGCONT)
    time.sleep(draw.random() * 0.3)
    if not stopped:
        second.end()
    third = start()
    third.wait(draw.randint(0, 10))
    second.send(signal.SIGCONT)
    third.wait(draw.randint(5, ELEMENTS))
    third.end()
    time.sleep(draw.random() * 0.1)
    last = start()
    last.wait(ELEMENTS + 1)
    if [event.what for event in last.events()[-1:]] == ["superseded"]:  # one before it was still about to begin
        for life in lives:
            life.end()
        start().wait(ELEMENTS + 1)


def _wrong(lives: list[list[Event]], started: list[float]) -> list[str]:
    """What is not as if nobody but the last to begin had written."""
    found = []
    histories: dict[tuple[int, int], list[int]] = {(0, 0): []}
    """By step and trail: what the model has been trained on there."""
    began = sorted((life[0].number, place) for place, life in enumerate(lives) if life and life[0].what == "begin")
    for turn, (_, number) in enumerate(began):
        life = lives[number]
        begin = life[0]
        history = histories.get((begin.step, begin.trail))
        if history is None:
            found.append(f"life {number} begins at step {begin.step} with a model that nobody had there")
            continue
        for event in life:
            if event.what == "step":
                history = [*history, event.element]
                histories[event.step, event.trail] = history
        if len(set(history)) < len(history):
            found.append(f"life {number} has trained on elements twice: {history}")
        if turn and began[turn - 1][0] == begin.number - 1:  # else one was killed before it could say that it has begun
            found += _missed(number, begin, lives[began[turn - 1][1]], began[turn - 1][1], started[number])
        later = min((lives[other][0].at for _, other in began[turn + 1 :]), default=float("inf"))
        steps = {event.step: event.at for event in life if event.what == "step"}
        late = [one.step for one in life if one.what == "saved" and steps[one.step] > later]
        found += [f"life {number} has saved steps {late} when it was superseded"] if late else []
    found += [
        f"life {number}: {event.what}"
        for number, life in enumerate(lives)
        for event in life
        if event.what not in ("begin", "step", "saved", "superseded", "end")
    ]
    if not lives[-1] or lives[-1][-1].what != "end" or lives[-1][-1].step != ELEMENTS:
        found.append(f"the last life ended with {lives[-1][-1:]}")
    return found


def _missed(number: int, begin: Event, head: list[Event], head_number: int, started: float) -> list[str]:
    """What a life has not gone on from although the head had saved it."""
    there = {(event.step, event.trail) for event in head if event.what in ("begin", "step")}
    if (begin.step, begin.trail) not in there:
        return [f"life {number} begins at step {begin.step}, which is not of life {head_number}"]
    saved = [event.step for event in head if event.what == "saved" and event.at < started]
    if begin.step < max(saved, default=head[0].step):
        return [f"life {number} begins at step {begin.step}, and life {head_number} had saved {max(saved)}"]
    return []


if __name__ == "__main__":
    wrong: list[str] = []
    told = 0
    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[1])):
        faults, count = trial(seed)
        wrong += faults
        told += count
        print(f"{seed}: {len(wrong)} wrong, {told} superseded", file=sys.stderr, flush=True)
    print(json.dumps({"wrong": wrong, "superseded": told}))
