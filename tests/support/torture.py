"""Runs the programs of `tortured.py`, and looks at the real directory at each of their calls."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from directories import contents

from pytest_pipeline_ckpt.engine import crash_states
from pytest_pipeline_ckpt.engine.operation_recorder import OperationRecorder
from pytest_pipeline_ckpt.engine.operations import Blob, LogWriter, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

CHILD = Path(__file__).with_name("tortured.py")


class _Log(LogWriter):
    """A log that is modelled as it grows."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.model = crash_states.Directory()
        self._bytes = bytearray()

    def blob(self, pieces: Iterable[bytes]) -> Blob:
        kept = list(pieces)
        self._bytes += b"".join(kept)
        return super().blob(kept)

    def append(self, operation: Operation) -> None:
        super().append(operation)
        self.model.apply(operation)

    def modelled(self) -> dict[str, Any]:
        """As `contents` has it."""
        state = self.model.state(0, 0)
        found: dict[str, Any] = {**dict.fromkeys(state.directories), **state.links}
        for name, content in state.files.items():
            data = bytearray(content.size)
            for piece in content.pieces:
                data[piece.offset : piece.offset + piece.size] = self._bytes[piece.start : piece.start + piece.size]
            found[name] = bytes(data)
        return found


def alone(program: str, directory: Path) -> str:
    """What a program prints that nobody watches."""
    directory.mkdir()
    command = [sys.executable, str(CHILD), program, str(directory)]
    return subprocess.run(command, timeout=60, stdout=subprocess.PIPE, text=True, check=True).stdout


class Tortured:
    """A program that was recorded, in a directory of its own."""

    def __init__(self, program: str, base: Path, *, make: bool = True, readable: bool = True) -> None:
        self.root = base / "root"
        if make:
            self.root.mkdir()
        self.log = _Log(base / "log")
        self.unlike: list[str] = []
        """At which calls the directory was not as the model has it."""
        self._readable = readable
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(CHILD), program, str(self.root), str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
        theirs.close()
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        self.recorder = OperationRecorder(listener, self.root, self.log)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while (ready := poll.poll(60_000)) and ready[0][1] & select.POLLIN:
            self._compare()
            self.recorder.answer()
        if not ready:
            child.kill()
        self.output = child.communicate()[0]
        self.returncode = child.returncode
        self._compare()
        os.close(listener)
        self.log.close()

    def _compare(self) -> None:
        if not self._readable:
            return
        there, modelled = contents(self.root) if self.root.exists() else {}, self.log.modelled()
        differ = sorted(name for name in {*there, *modelled} if there.get(name, 0) != modelled.get(name, 0))
        if differ:
            self.unlike.append(f"{self.log.operations}: {differ}")
