"""Starts the workers of a training on loopback, and ends and restarts them as a launcher does."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    codes: tuple[int, ...]
    said: tuple[str, ...]


def run_gang(
    command: Sequence[str],
    directory: Path,
    *,
    cluster: Mapping[str, int],
    life: Mapping[str, Any],
    timeout: float = 120.0,
) -> Ended:
    """Runs one life of a training: when one of its processes is killed, the others are too.

    Args:
        command: what each process runs; its place is in TF_CONFIG.
        directory: where their output goes.
        cluster: how many of each job. Parameter servers are killed when all others have ended.
        life: what is in the environment's LIFE.
        timeout: seconds after which all are killed.
    """
    tasks = [(job, index) for job, count in cluster.items() for index in range(count)]
    ports = Ports(len(tasks))
    places = iter(ports.numbers)
    spec = {job: [f"127.0.0.1:{next(places)}" for _ in range(count)] for job, count in cluster.items()}
    logs = [directory / f"said-{job}-{index}" for job, index in tasks]
    processes = []
    for (job, index), log in zip(tasks, logs, strict=True):
        config = {"TF_CONFIG": json.dumps({"cluster": spec, "task": {"type": job, "index": index}})}
        config = config if len(tasks) > 1 else {}
        with open(log, "w") as output:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    env={**os.environ, "LIFE": json.dumps(life), "CUDA_VISIBLE_DEVICES": "-1", **config},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        _wait([one for one, task in zip(processes, tasks, strict=True) if task[0] != "ps"], time.monotonic() + timeout)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        ports.close()
    return Ended(tuple(one.returncode for one in processes), tuple(log.read_text() for log in logs))


def _wait(processes: Sequence[subprocess.Popen[bytes]], until: float) -> None:
    """Waits until all have ended, or one was killed, or the time is over."""
    while time.monotonic() < until:
        codes = [one.poll() for one in processes]
        if None not in codes or -signal.SIGKILL in codes:
            return
        time.sleep(0.02)
