"""A recorded life: the supervisor's side of it, and what it leaves on disk for whoever reads it.

The log of `operations` is written while the life lasts; `RECORDING`, a JSON file beside it, when the life has ended,
so a log without it is not complete.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from . import ledger
from .names import visible
from .operation_recorder import OperationRecorder
from .operations import LogWriter, Operation, snapshot

LOG, RECORDING = "log", "recording.json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a log besides its operations."""

    root: str
    """The directory whose operations are in the log."""
    before: int
    """So many operations at the beginning only describe what was there."""
    threads: int
    """Those that have changed the directory: with more than one another interleaving is possible."""
    blind: tuple[str, ...]
    """What has happened that could not be recorded; with anything of it the log is worth nothing."""
    refused: str | None = None
    """Why operations could not be recorded, so that the directory was looked at between elements instead."""
    boundaries: tuple[int, ...] = ()
    """Then only after so many operations of the log it is what it was."""
    elsewhere: tuple[str, ...] = ()
    """Files outside of the directory that have names of checkpoints, one for each directory."""


class Recording:
    """Records a life, and holds it before a file operation.

    Args:
        listener: the descriptor of `syscalls.install`.
        root: the directory whose operations are recorded.
        directory: of the life: its ledger is there, its log will be.
        op: hold it before its `op`-th restore-visible operation (from 1), if any.
    """

    def __init__(self, listener: int, root: str, directory: str, op: int | None) -> None:
        self.listener = listener
        self._root = root
        self._directory = Path(directory)
        self._log = LogWriter(self._directory / LOG)
        before = snapshot(Path(root), self._log)
        self._before = len(before)
        self._left = op
        records = str((self._directory / ledger.LEDGER).resolve())
        self._recorder = OperationRecorder(
            listener, Path(root), self._log, before=before, is_element=records.__eq__, holds=self._is_planned
        )

    @property
    def held(self) -> bool:
        """Whether an operation waits to be let happen, or never to happen."""
        return self._recorder.held is not None

    def answer(self) -> None:
        """Lets one stopped call happen, unless it is the planned one."""
        self._recorder.answer()

    def hold_before(self, op: int) -> None:
        """Plans to hold the life before its `op`-th restore-visible operation from now on."""
        self._left = op

    def release(self) -> None:
        """Lets the held operation happen."""
        self._recorder.release()

    def close(self, failed: str | None) -> None:
        """Completes the log; `failed`: why it is not, although the life has ended."""
        self._log.close()
        os.close(self.listener)
        blind = (*self._recorder.blind, *([] if failed is None else [failed]))
        recorded = Recorded(self._root, self._before, len(self._recorder.threads), blind)
        write(self._directory, dataclasses.replace(recorded, elsewhere=self._recorder.elsewhere()))

    def _is_planned(self, operation: Operation) -> bool:
        if self._left is None or not visible(operation):
            return False
        self._left -= 1
        if self._left:
            return False
        self._left = None
        return True


def write(directory: Path, recorded: Recorded) -> None:
    """Stores what is known of the log of a life that has ended, in its `directory`."""
    (directory / RECORDING).write_text(json.dumps(dataclasses.asdict(recorded)))


def read(directory: Path) -> Recorded:
    """What is known of the log of a life that has ended, in its `directory`."""
    found = json.loads((directory / RECORDING).read_text())
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Recorded(**{**found, **lists})


__all__ = ["LOG", "Recorded", "Recording", "read", "write"]
