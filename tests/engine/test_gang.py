"""Gangs: where their workers wait, and the ports that they listen on."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.gang import LOOPBACK, held_ports, incarnation, leash
from pytest_pipeline_ckpt.engine.model import Ending, Kill, Ledger, Life


@given(
    element=st.integers(0, 10**6),
    elements=st.lists(st.integers(0, 10**6), min_size=2, max_size=5),
    counts=st.integers(0, 4),
)
def test_leash(element: int, elements: list[int], counts: int) -> None:
    """The worker that counts goes to its element, each other one as far in its own run, and at least to its first."""
    counts %= len(elements)
    kill = Kill(element, workers=(counts,))
    held = leash(kill, elements)
    assert held[counts] == element
    for worker, mine in enumerate(elements):
        if worker != counts:
            until = held[worker]
            assert until is not None
            assert until >= 1
            assert until - 1 < element * mine / max(1, elements[counts]) + 1


@pytest.mark.parametrize(
    ("kill", "held"),
    [
        (Kill(12), [12, 24, 6]),
        (Kill(12, workers=(1, 0)), [6, 12, 3]),
        (Kill(0), [0, 1, 1]),
        (Kill(12, op=3, workers=(2,)), [None, None, 12]),
        (Kill(0, op=3), [None, None, None]),
    ],
)
def test_leash_of(kill: Kill, held: list[int | None]) -> None:
    """Nobody waits for a file operation, which may come any number of elements later."""
    assert leash(kill, [40, 80, 20]) == held


def server(port: int, *, reuse: bool = True) -> socket.socket:
    """A server as gRPC makes them: SO_REUSEADDR, on all addresses."""
    made = socket.socket()
    if reuse:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("", port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def test_ports_are_kept() -> None:
    """A worker's server gets its port, again and again; nobody else gets it by chance, or without the option."""
    with held_ports(2) as ports:
        assert len(set(ports.numbers)) == 2
        for _ in range(3):
            for port in ports.numbers:
                with server(port) as listening, socket.create_connection((LOOPBACK, port), timeout=5):
                    listening.accept()[0].close()  # the side that closes first leaves the port in TIME_WAIT
        for port in ports.numbers:
            with pytest.raises(OSError, match="Address already in use"):
                server(port, reuse=False)
        with ExitStack() as stack:
            others = [stack.enter_context(server(0)).getsockname()[1] for _ in range(500)]
        assert not set(others) & set(ports.numbers)


def test_ports_of_several_gangs_differ() -> None:
    """Trials of several processes run side by side."""
    with ExitStack() as stack:
        numbers = [port for _ in range(50) for port in stack.enter_context(held_ports(2)).numbers]
    assert len(set(numbers)) == 100


def test_place() -> None:
    """Each worker is told its own place in the same cluster."""
    with held_ports(3) as ports:
        told = [json.loads(ports.environ(worker)["TF_CONFIG"]) for worker in range(3)]
        addresses = [f"127.0.0.1:{port}" for port in ports.numbers]
    assert [one["task"] for one in told] == [{"type": "worker", "index": worker} for worker in range(3)]
    assert all(one["cluster"] == {"worker": addresses} for one in told)


def life(ending: Ending, memory: float = 1.0) -> Life:
    """A life that ended so."""
    import numpy as np

    from pytest_pipeline_ckpt.engine.ledger import RECORD

    return Life(Ledger(np.empty(0, RECORD)), ending, status=ending.value, peak_mb=memory)


def test_incarnation() -> None:
    """It shows the worker that was awaited, if its kill landed, else who ended worst; its memory is that of all."""
    killed, finished, crashed = life(Ending.KILLED), life(Ending.FINISHED), life(Ending.CRASHED)
    kill = Kill(7, workers=(1,))
    assert incarnation([finished, killed], kill).ending is Ending.KILLED
    assert incarnation([crashed, finished], kill).ending is Ending.CRASHED
    whole = incarnation([finished, None, crashed])
    assert (whole.ending, whole.gang, whole.peak_mb) == (Ending.CRASHED, (finished, None, crashed), 2.0)
