"""Starts the workers of a training on loopback, and ends and restarts them as a launcher does."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.hook import server_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PORTS = (10_000, 32_000)
"""Below those that the system gives to who does not care."""


class Ports:
    """Ports for servers that will bind them themselves.

    A port is ours as long as we hold the UDP port of its number: nobody else of us tries it, and TCP is free.
    """

    def __init__(self, count: int) -> None:
        self.numbers: list[int] = []
        self._held: list[socket.socket] = []
        while len(self.numbers) < count:
            number = random.randrange(*_PORTS)
            held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                held.bind(("127.0.0.1", number))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not kept by a dead server's past
                    probe.bind(("0.0.0.0", number))
            except OSError:
                held.close()
                continue
            self._held.append(held)
            self.numbers.append(number)

    def close(self) -> None:
        """Gives them back."""
        for held in self._held:
            held.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """How the processes of a gang have ended, in the order of the cluster, and what they said."""

    codes: tuple[int | None, ...]
    said: tuple[str, ...]


class Gang:
    """The processes of one life of a training, forked: this process has imported TensorFlow, and run nothing of it.

    Args:
        run: what each process runs; its place is in TF_CONFIG.
        directory: where their output goes.
        cluster: how many of each job.
    """

    def __init__(self, run: Callable[[], None], directory: Path, cluster: Mapping[str, int]) -> None:
        self._run = run
        self._tasks = [(job, index) for job, count in cluster.items() for index in range(count)]
        self._ports = Ports(len(self._tasks))
        places = iter(self._ports.numbers)
        self._cluster = {job: [f"127.0.0.1:{next(places)}" for _ in range(count)] for job, count in cluster.items()}
        self._logs = [directory / f"said-{job}-{index}" for job, index in self._tasks]
        for log in self._logs:
            log.unlink(missing_ok=True)
        self._processes: dict[int, Any] = {}

    def start(self, number: int, life: Mapping[str, Any]) -> None:
        """Starts one of them, with what is in the environment's LIFE."""
        job, index = self._tasks[number]
        place = json.dumps({"cluster": self._cluster, "task": {"type": job, "index": index}})
        environment = {"LIFE": json.dumps(life), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        if len(self._tasks) > 1:
            environment["TF_CONFIG"] = place
        forked = multiprocessing.get_context("fork").Process(
            target=_child, args=(self._run, environment, self._logs[number])
        )
        forked.start()
        self._processes[number] = forked

    def run(self, life: Mapping[str, Any], *, timeout: float, alone: bool) -> Ended:
        """See `run_gang`."""
        for number in range(len(self._tasks)):
            self.start(number, life)
        workers = [number for number, (job, _) in enumerate(self._tasks) if job != "ps"]
        until = time.monotonic() + timeout
        try:
            while time.monotonic() < until:
                codes = {number: self._processes[number].exitcode for number in workers}
                killed = [number for number, code in codes.items() if code == -signal.SIGKILL]
                if killed and alone:
                    for number in killed:
                        self.start(number, {})
                elif killed or None not in codes.values():
                    break
                time.sleep(0.02)
        finally:
            self._end()
        codes_of_all = tuple(self._processes[number].exitcode for number in range(len(self._tasks)))
        return Ended(codes_of_all, tuple(log.read_text() for log in self._logs))

    def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.join()
        self._ports.close()


def run_gang(
    run: Callable[[], None],
    directory: Path,
    *,
    cluster: Mapping[str, int],
    life: Mapping[str, Any],
    timeout: float = 240.0,
    alone: bool = False,
) -> Ended:
    """Runs one life of a training: when one of its processes is killed, the others are too.

    Args:
        run: what each process runs; its place is in TF_CONFIG.
        directory: where their output goes.
        cluster: how many of each job. Parameter servers are killed when all others have ended.
        life: what is in the environment's LIFE.
        timeout: seconds after which all are killed.
        alone: a process that was killed is started again by itself, with nothing in LIFE, and the others go on.
    """
    return Gang(run, directory, cluster).run(life, timeout=timeout, alone=alone)


def _child(run: Callable[[], None], environment: Mapping[str, str], log: Path) -> None:
    os.environ.update(environment)
    with open(log, "ab", buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    run()
    atexit._run_exitfuncs()  # a forked process runs none by itself, and TensorFlow leaves a cluster there


def taken(directory: Path, worker: int) -> list[dict[int, str]]:
    """What each life of a worker took, by step."""
    lives = sorted(directory.glob(f"taken-{worker}-*"), key=lambda path: int(path.name.split("-")[2]))
    return [dict(_step_and_rows(line) for line in life.read_text().splitlines()) for life in lives]


def _step_and_rows(line: str) -> tuple[int, str]:
    step, _, rows = line.partition(" ")
    return int(step), " ".join(sorted(rows.split(), key=int))


def faults(reference: Path, resumed: Path, *, workers: int) -> list[str]:
    """What is not as in the uninterrupted training, for each worker; each life must go on where a checkpoint is."""
    found = []
    for worker in range(workers):
        (whole,), lives = taken(reference, worker), taken(resumed, worker)
        done = 0
        for number, life in enumerate(lives):
            if not life:
                continue
            if min(life) > done + 1:
                found.append(f"worker {worker}, life {number}: begins with step {min(life)} after step {done}")
            found += [
                f"worker {worker}, life {number}, step {step}: {rows} instead of {whole.get(step)}"
                for step, rows in life.items()
                if rows != whole.get(step)
            ]
            done = max(life)
        if done != max(whole):
            found.append(f"worker {worker} ended at step {done} instead of {max(whole)}")
        if (resumed / f"finished-{worker}").read_text() != (reference / f"finished-{worker}").read_text():
            found.append(f"worker {worker}: other results")
    begins = [[min(life, default=0) for life in taken(resumed, worker)] for worker in range(workers)]
    if any(one != begins[0] for one in begins):
        found.append(f"the workers went on at different steps: {begins}")
    return found


def faults_of_own_steps(directory: Path, *, workers: int) -> list[str]:
    """What workers that share a model took and should not have, or left out; each life says where it goes on."""
    found = []
    for worker in range(workers):
        paths = sorted(directory.glob(f"taken-{worker}-*"), key=lambda path: int(path.name.split("-")[2]))
        lives = [[int(line) - 1000 * worker for line in path.read_text().split()] for path in paths]
        said = (directory / f"said-worker-{worker}").read_text()
        begins = {int(step) for step in re.findall(r"goes on at its own step (\d+)", said)} | {0}
        done = 0
        for number, life in enumerate(lives):
            if not life:
                continue
            if life != list(range(life[0], life[0] + len(life))):
                found.append(f"worker {worker}, life {number}: {life} are not one after the other")
            if life[0] > done:
                found.append(f"worker {worker}, life {number}: begins with {life[0]} after {done} were taken")
            if number == len(lives) - 1 and life[0] not in begins:
                found.append(f"worker {worker}, life {number}: begins with {life[0]}, not where it says: {begins}")
            done = max(done, life[-1] + 1)
        if done != server_lives.ELEMENTS:
            found.append(f"worker {worker}: {done} elements instead of {server_lives.ELEMENTS}")
    return found
