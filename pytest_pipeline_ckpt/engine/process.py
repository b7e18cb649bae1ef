"""Parent side: starts fork servers and lives, watches them, kills them. Knows no verdicts and no pytest."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from ..errors import OutOfTimeError, WorkerError
from . import forkserver, ledger, worker
from .wording import is_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .variables import Values

_BOOT = (
    "import sys; start=frozenset(sys.modules),tuple(sys.path); import json; sys.path[:]=json.loads(sys.argv[2]); "
    f"from {forkserver.__name__} import main; main(int(sys.argv[1]),*start)"
)
_PATIENCE = 120.0  # seconds for what takes milliseconds unless the machine is lost: forks, reaping, an import
WATCH_EVERY = 0.2  # seconds between two looks at a life's progress; an event is seen at once
_TAIL_LINES = 20
_GONE: dict[str, Any] = {"event": "ended", "status": None, "peak_kb": 0, "left_behind": 0}
"""What is as if said by a supervisor that somebody has killed."""


class Server:
    """A fresh interpreter that has imported `preload` and forks lives. Not started until the first one is asked for.

    Args:
        environ: its environment.
        hash_seed: `PYTHONHASHSEED` of the interpreter; None leaves the environment as it is.
        preload: modules to import before the first life; empty: nothing is imported before the user's code does.
        log: file for what the interpreter itself prints.
    """

    def __init__(self, environ: Mapping[str, str], *, hash_seed: str | None, preload: Sequence[str], log: Path) -> None:
        self._log = log
        self._ready: dict[str, Any] | None = None
        self._lock = threading.Lock()  # lives are started by several threads, and it says once that it is ready
        started = dict(environ)
        if hash_seed is not None:
            started["PYTHONHASHSEED"] = hash_seed
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=started,
                start_new_session=True,  # Ctrl-C is for pytest; it ends the server in order
            )
        forkserver.send(self._connection, preload=list(preload))

    def initialised_by(self) -> str | None:
        """Which import started TensorFlow's runtime, None when forking is safe; waits for the imports.

        Raises:
            WorkerError: a module could not be imported, or the interpreter died.
        """
        with self._lock:
            if self._ready is None:
                if not select.select([self._connection], [], [], _PATIENCE)[0]:
                    raise WorkerError(f"importing TensorFlow took more than {_PATIENCE:.0f} s; its output: {self._log}")
                self._ready = forkserver.receive(self._connection)
        if self._ready is None:
            raise WorkerError(f"the fork server died while it imported TensorFlow:\n{tail(self._log)}")
        if "failed" in self._ready:
            raise WorkerError(_import_failure(self._ready["failed"], self._ready["error"]))
        initialised_by: str | None = self._ready["initialised_by"]
        return initialised_by

    def start(self, spec: worker.Spec, payload: bytes) -> socket.socket:
        """Starts one life; returns the connection to its supervisor."""
        path = worker.write_spec(spec, payload)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps({"run": str(path)}).encode()
            try:
                socket.send_fds(self._connection, [request], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                raise WorkerError(f"the fork server is gone; its output: {tail(self._log)}") from None
        return ours

    def close(self) -> None:
        """Ends the server and whatever it still runs, and waits until it is gone."""
        self._connection.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _import_failure(module: str, trace: str) -> str:
    last = trace.strip().splitlines()[-1]
    if "is too old" in last:
        return f"{last} for {sys.executable}"
    if "No module named 'tensorflow'" in last:
        return (
            f"TensorFlow is not installed for {sys.executable}; install what your training uses, for example "
            'pip install "pytest-pipeline-ckpt[tensorflow]"'
        )
    return f"import {module} failed in {sys.executable}: {last}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its wait status decoded, in words, and what else was left of its tree."""

    returncode: int
    """Exit code, or minus the signal's number."""
    words: str
    peak_mb: float
    left_behind: int
    """Processes besides the root that had to be ended."""


class Launch(Protocol):
    """Starts a life. Both return the connection to its supervisor, and what to call when it has ended."""

    def __call__(self) -> tuple[socket.socket, Callable[[], None]]:
        """Starts it for the first time."""

    def again(self, values: Values) -> tuple[socket.socket, Callable[[], None]]:
        """Starts it anew, because it has set these variables before its imports and its server did not have them."""


class TrainingProcess:
    """One life: a training process, its ledger, and the power to hold, signal and kill it."""

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.directory = directory
        self.pid: int | None = None
        self.ended: Ended | None = None
        self.deadline: float | None = None
        """`time.monotonic()` at which `events` says `late`."""
        self.refused: str | None = None
        """Why its file operations cannot be recorded, although they should be."""
        self._launch = launch
        self._control, self._on_end = launch()
        self._ending = False
        self.held = False
        """Whether it waits, at an element or before a file operation, until it is released."""
        self._progress: tuple[int, ...] = ()
        self._progressed = time.monotonic()

    def fileno(self) -> int:
        """For `select`: readable when there is an event. Only while it has not ended."""
        return self._control.fileno()

    def events(self, *, timeout: float, stop: float | None = None) -> Iterator[str]:
        """Yields `held`, `endless`, `refused`, `ended`, `late` (see `deadline`), `hung` (no progress for `timeout` s).

        Ends after `ended`; the caller acts on all others. Progress is a ledger record or a byte of output.

        Raises:
            OutOfTimeError: it still runs when `time.monotonic()` has reached `stop`.
        """
        self._progressed = time.monotonic()
        while self.ended is None:
            now = time.monotonic()
            if stop is not None and now >= stop:
                raise OutOfTimeError("the time for this life is up")
            wait = WATCH_EVERY if self.deadline is None else max(0.0, min(WATCH_EVERY, self.deadline - now))
            if select.select([self._control], [], [], wait)[0]:
                event = self.receive()
                self._progressed = time.monotonic()
                if event != "started":
                    yield event
            elif self.deadline is not None and now >= self.deadline:
                self.deadline = None
                yield "late"
            elif not self.has_progressed() and time.monotonic() - self._progressed > timeout:
                yield "hung"
                self._progressed = time.monotonic()

    def release(self, *, until: int | None = None, op: int | None = None) -> None:
        """Lets a held worker go on: to its `until`-th training element, to its `op`-th file operation, or for good."""
        self.held = False
        forkserver.send(self._control, until=until, op=op)

    def notify(self, number: signal.Signals, *, op: int | None = None) -> None:
        """Sends a catchable signal to the root of the tree, then releases the worker if it is held: see `release`."""
        release = {"until": None, "op": op} if self.held else {}
        self.held = False
        forkserver.send(self._control, signal=int(number), **release)

    def end(self) -> None:
        """SIGKILL to the whole tree, without waiting for it."""
        self._ending = True
        if self.ended is None:
            forkserver.send(self._control, end=True)

    def kill(self) -> Ended:
        """SIGKILL to the whole tree; returns when no process of it is left."""
        if self.ended is None:
            self.end()
            stop = time.monotonic() + _PATIENCE
            while self.ended is None:
                left = stop - time.monotonic()
                if left <= 0 or not select.select([self._control], [], [], left)[0]:
                    raise WorkerError(f"process {self.pid} could not be ended within {_PATIENCE:.0f} s of SIGKILL")
                self.receive()
        return self.ended

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While this lasts no process of the tree runs (SIGSTOP, SIGCONT)."""
        assert self.pid is not None, "it has not started"
        supervisor = psutil.Process(self.pid).parent()
        tree = [] if supervisor is None else supervisor.children(recursive=True)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        _wait_until_stopped(tree)
        try:
            yield
        finally:
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def dump_stacks(self) -> str:
        """What the threads of the process are doing, as faulthandler writes it; empty when it can't be had."""
        if self.pid is None or self.ended is not None:
            return ""
        path = self.directory / worker.STACKS
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, worker.STACKS_SIGNAL)
        stop = time.monotonic() + 2.0
        size = -1
        while time.monotonic() < stop and (size <= 0 or path.stat().st_size != size):
            size = path.stat().st_size if path.exists() else -1
            select.select([], [], [], 0.05)
        return _without_ours(path.read_text(errors="replace")) if path.exists() else ""

    def receive(self) -> str:
        """Takes the next event in; blocks until there is one."""
        message = forkserver.receive(self._control) or _GONE
        if message["event"] == "differs" and not self._ending:
            self._start_again(message["variables"])
            return "started"
        if message["event"] == "started":
            self.pid = message["pid"]
        elif message["event"] == "held":
            self.held = True
        elif message["event"] == "refused":
            self.refused = message["why"]
        elif message["event"] == "ended":
            self.ended = _decode(message)
            self._control.close()
            self._on_end()
        event: str = message["event"]
        return event

    def _start_again(self, values: Values) -> None:
        """In another server: all of it that has run is what comes before its imports."""
        forkserver.send(self._control, end=True)
        while (forkserver.receive(self._control) or _GONE)["event"] != "ended":
            pass
        self._control.close()
        self._on_end()
        self.pid = None
        self._control, self._on_end = self._launch.again(values)

    def has_progressed(self) -> bool:
        """Whether it has recorded or printed anything since this was asked the last time."""
        progress = tuple(
            path.stat().st_size if (path := self.directory / name).exists() else 0
            for name in (ledger.LEDGER, worker.STDOUT, worker.STDERR)
        )
        if progress == self._progress:
            return False
        self._progress = progress
        self._progressed = time.monotonic()
        return True


def _wait_until_stopped(tree: Sequence[psutil.Process]) -> None:
    """SIGSTOP takes effect when each thread next leaves the kernel: until then it may still write."""
    stop = time.monotonic() + _PATIENCE
    while any(map(_runs, tree)):
        if time.monotonic() > stop:
            raise WorkerError(f"processes could not be stopped within {_PATIENCE:.0f} s of SIGSTOP")
        time.sleep(0.0005)


def _runs(process: psutil.Process) -> bool:
    """Whether any of its threads does: proc(5), the third field of `stat`."""
    try:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return True
    except (FileNotFoundError, ProcessLookupError):  # it has ended, or one of its threads has
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _without_ours(stacks: str) -> str:
    """Leaves out the frames that every training process has below the user's."""
    package = str(Path(__file__).parent)
    return "\n".join(line for line in stacks.splitlines() if package not in line and '"<string>"' not in line)


def _decode(message: Mapping[str, Any]) -> Ended:
    status = message["status"]
    if status is None:
        code, words = -int(signal.SIGKILL), "it and its supervisor were killed, not by this plugin"
    elif os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        code, words = -number, f"killed by {signal.Signals(number).name}"
    else:
        code = os.waitstatus_to_exitcode(status)
        words = f"exit code {code}"
    return Ended(code, words, message["peak_kb"] / 1024, message["left_behind"])


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a text file, empty when there is none; the last exception among them, wherever it stands."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode(errors="replace").splitlines()
    last = text[-lines:]
    exceptions = [line for line in text[:-lines] if is_exception(line)]
    if exceptions and not any(map(is_exception, last)):
        last = [exceptions[-1], "...", *last[2:]]  # a TensorFlow error is followed by where its op was made
    return "\n".join(last)
