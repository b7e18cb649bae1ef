"""Runs of `recorded.py`, and what was recorded of them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from directories import contents

from pytest_pipeline_ckpt.engine import crash_states, operations
from pytest_pipeline_ckpt.engine.operation_recorder import OperationRecorder
from pytest_pipeline_ckpt.engine.operations import LogWriter, Operation

if TYPE_CHECKING:
    from collections.abc import Callable

CHILD = Path(__file__).with_name("recorded.py")


class Recorded:
    """A scenario that was run, in a directory of its own."""

    def __init__(self, scenario: str, base: Path, *, holds: Callable[[Operation], bool] = lambda _: False) -> None:
        self.root, self.log, ledger = base / "checkpoints", base / "log", base / "ledger.bin"
        self.root.mkdir(parents=True)
        ledger.touch()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(CHILD), scenario, str(self.root), str(theirs.fileno()), str(ledger)]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
        theirs.close()
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        writer = LogWriter(self.log)
        self.recorder = OperationRecorder(
            listener, self.root, writer, is_element=lambda path: path == str(ledger), holds=holds
        )
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while self.recorder.held is None and poll.poll()[0][1] & select.POLLIN:
            self.recorder.answer()
        if self.recorder.held is not None:
            child.kill()
        self.output = child.communicate()[0]
        os.close(listener)
        writer.close()
        self.returncode = child.returncode

    @property
    def operations(self) -> list[Operation]:
        """What was recorded."""
        return list(operations.read(self.log))

    def rebuilt(self, operation: int, at: Path) -> dict[str, Any]:
        """The directory as the model has it after so many operations."""
        states = crash_states.crash_states(self.operations)
        state = next(state for state in states if state.operation == operation and not state.torn)
        crash_states.rebuild(state, self.log, at)
        return contents(at)
