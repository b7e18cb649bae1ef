"""Child side: the fork server and its supervisors. Self-contained but for `worker`; a fresh interpreter.

    pytest process --(requests)--> server: imports TensorFlow once, runs no op, forks supervisors
                   --(commands)--> supervisor: for one life at a time; forks the training process, ends its whole tree
                                   worker: the training process (`worker.py`)

A supervisor whose life has ended waits for the next one: forking it costs as much as forking the training process. The
server forks another when none is free.

The supervisor is a child subreaper, so whatever the training leaves behind - a worker, a `setsid` child, a daemon -
becomes its child and is killed and reaped before it reports the end of the life. Three chains end everything when
somebody dies: the supervisor sees EOF when pytest is gone, the training process dies with its supervisor
(`PR_SET_PDEATHSIG`), and the server, a subreaper too, ends what a killed supervisor leaves.

Messages are JSON objects, one a packet (`SOCK_SEQPACKET` keeps the boundaries). In: `{"run": spec path}` with the
control socket to the server; `{"signal": n}`, `{"until": k|null, "op": n|null}` and `{"end": true}` to the
supervisor. Out: `started`, `held` (the worker waits at an element or before a file operation), `endless`, `refused` (it
could not be recorded), `differs` (it sets variables before its imports that the server did not have), `ended`.

Modules that read environment variables when they are imported (NumPy) are imported where they are needed, not above: a
server that preloads nothing leaves them to the user's code.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from .hidden import Interpreter, Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .recording import Recording

MAX_MESSAGE = 1 << 16
OLDEST_TENSORFLOW = (2, 15)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_AROUND_MS = 1000  # how often a process looks whether its parent still lives; EOF normally tells at once


def send(connection: socket.socket, **message: Any) -> None:
    """Sends one message; a peer that is gone is not an error: its EOF is seen by whoever waits for it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send(json.dumps(message).encode())


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, or None when the peer is gone."""
    try:
        data = connection.recv(MAX_MESSAGE)
    except ConnectionResetError:
        return None
    return json.loads(data) if data else None


def main(descriptor: int, modules: frozenset[str], path: tuple[str, ...]) -> None:
    """Runs the server until its peer is gone.

    Args:
        descriptor: of the socket to the peer.
        modules: those that the interpreter imports when it starts.
        path: `sys.path` as it was then.
    """
    before = Interpreter.now(modules, path)
    connection = socket.socket(fileno=descriptor)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    config = receive(connection)
    if config is None:
        return
    preload: Sequence[str] = config["preload"]
    filters: list[Any] = []
    send(connection, **_preload(preload, filters))
    try:
        _serve(connection, Origin(before, tuple(filters), before.set_since() if preload else None))
    finally:
        signal.set_wakeup_fd(-1)
        end_descendants()


def _preload(modules: Iterable[str], filters: list[Any]) -> dict[str, Any]:
    """Imports `modules`; says which is missing, and which one started TensorFlow's runtime.

    Args:
        modules: their names.
        filters: gets those of `warnings` as they are when NumPy has been imported.
    """
    for name in modules:
        already = bool(runtime_signs())
        try:
            importlib.import_module(name)
        except ImportError:
            return {"failed": name, "error": traceback.format_exc(limit=-3)}
        if name == "tensorflow" and (complaint := too_old(sys.modules[name])):
            return {"failed": name, "error": complaint}
        if name == "numpy":
            filters[:] = warnings.filters
        if runtime_signs():
            return {"initialised_by": _site_module() if already else name}
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page that has an object
    return {"initialised_by": None}


def too_old(tensorflow: Any) -> str | None:
    """What is wrong with the version of TensorFlow, None if nothing is."""
    version = str(getattr(tensorflow, "__version__", "unknown"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers >= OLDEST_TENSORFLOW:
        return None
    oldest = ".".join(map(str, OLDEST_TENSORFLOW))
    return (
        f"TensorFlow {version} is too old: {oldest} is the oldest that this plugin knows; install tensorflow>={oldest}"
    )


def runtime_signs() -> frozenset[str]:
    """What shows that TensorFlow's runtime has run an op, after which forks of this process may hang.

    Threads named `tf_*` (the runtime's pools), or an initialised eager context. The context alone misses a v1
    session, the threads alone miss an eager context that has only made its devices.
    """
    names = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{task}/comm") as comm:
            names.add(comm.read().strip())
    signs = {name for name in names if name.startswith("tf_")}
    context = sys.modules.get("tensorflow.python.eager.context")
    if context is not None and getattr(context.context_safe(), "_initialized", False):
        signs.add("eager context")
    return frozenset(signs)


def _site_module() -> str:
    """What ran ops before anything was imported: only the interpreter's own start-up can have done that."""
    loaded = (name for name in ("usercustomize", "sitecustomize") if name in sys.modules)
    return next(loaded, "the interpreter's start-up (a .pth file)")


def _serve(connection: socket.socket, origin: Origin) -> None:
    parent = os.getppid()
    wakeup = _wake_on_child()
    pool = _Pool(origin, wakeup)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    while os.getppid() == parent:
        ready = {descriptor for descriptor, _ in poll.poll(_LOOK_AROUND_MS)}
        if wakeup.fileno() in ready:
            wakeup.recv(4096)
        pool.reap()
        if connection.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
        if not data:
            return
        pool.run(connection, data, descriptors[0])


class _Pool:
    """The server's supervisors, by their pids."""

    def __init__(self, origin: Origin, wakeup: socket.socket) -> None:
        self._origin = origin
        self._wakeup = wakeup
        self._supervisors: dict[int, socket.socket] = {}
        self._busy: set[int] = set()

    def run(self, connection: socket.socket, request: bytes, control: int) -> None:
        """Hands a request to a supervisor that is free, or to a new one."""
        # A supervisor says that it is free before it says that its life has ended, so before anybody can ask for the
        # next one.
        for pid in list(self._busy):
            with contextlib.suppress(BlockingIOError):
                self._supervisors[pid].recv(1, socket.MSG_DONTWAIT)
                self._busy.discard(pid)
        free = [pid for pid in self._supervisors if pid not in self._busy]
        if not any(self._hand(pid, request, control) for pid in free):
            self._hand(self._fork(connection, control), request, control)
        os.close(control)

    def _hand(self, pid: int, request: bytes, control: int) -> bool:
        """Hands a request to a supervisor; False if somebody has killed it."""
        try:
            socket.send_fds(self._supervisors[pid], [request], [control])
        except (BrokenPipeError, ConnectionResetError):
            return False
        self._busy.add(pid)
        return True

    def _fork(self, connection: socket.socket, control: int) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            os.close(control)
            for other in (connection, ours, self._wakeup, *self._supervisors.values()):
                other.close()
            _become_supervisor(theirs, self._origin)
        theirs.close()
        self._supervisors[pid] = ours
        return pid

    def reap(self) -> None:
        """Reaps what has ended. A supervisor that was killed leaves its tree to this process, which ends it."""
        lost = False
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                supervisor = self._supervisors.pop(pid, None)
                self._busy.discard(pid)
                if supervisor is not None:
                    supervisor.close()
                    lost = True
        if lost:
            end_descendants(spare=self._supervisors)


def _wake_on_child() -> socket.socket:
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def _become_supervisor(requests: socket.socket, origin: Origin) -> NoReturn:
    code = 70
    try:
        os.close(signal.set_wakeup_fd(-1))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        while True:
            data, descriptors, _, _ = socket.recv_fds(requests, MAX_MESSAGE, 1)
            if not data:
                break  # the server is gone
            Supervisor(requests, socket.socket(fileno=descriptors[0]), json.loads(data)["run"], origin).run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            end_descendants()
        os._exit(code)


class Supervisor:
    """Runs one life: forwards what the worker says, does what pytest says, ends the tree, reports."""

    def __init__(self, requests: socket.socket, control: socket.socket, spec_path: str, origin: Origin) -> None:
        self._requests = requests
        self._control = control
        self._recording: Recording | None = None
        self._worker, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent = os.getppid()
        self._pid = os.fork()
        if self._pid == 0:
            for ours in (requests, control, self._worker):
                ours.close()
            _become_worker(theirs, spec_path, origin)
        theirs.close()
        self._pidfd = os.pidfd_open(self._pid)

    def run(self) -> None:
        """Returns when no process of the life is left."""
        send(self._control, event="started", pid=self._pid)
        self._poll = select.poll()
        for source in (self._control.fileno(), self._worker.fileno(), self._pidfd):
            self._poll.register(source, select.POLLIN)
        failed = None
        try:
            self._watch()
        except OSError as error:  # no space for the log, a process whose memory is not readable
            failed = f"recording failed: {error}"
        status, peak, left = end_descendants(root=self._pid)
        os.close(self._pidfd)
        self._worker.close()
        if self._recording is not None:
            self._recording.close(failed)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._requests.send(b"!")  # free: see `_Pool.run`
        with self._control:
            send(self._control, event="ended", status=status, peak_kb=peak, left_behind=left)

    def _watch(self) -> None:
        """Returns when the root has ended, or when it is to be ended."""
        while os.getppid() == self._parent:
            ready = dict(self._poll.poll(_LOOK_AROUND_MS))
            if self._recording is not None and ready.get(self._recording.listener):
                self._record(ready[self._recording.listener])
            if self._worker.fileno() in ready and not self._forward():
                self._poll.unregister(self._worker)
            if self._pidfd in ready:
                return
            if self._control.fileno() in ready and not self._obey():
                return

    def _record(self, ready: int) -> None:
        """Answers one stopped call."""
        assert self._recording is not None
        if ready & select.POLLIN:
            self._recording.answer()
        if self._recording.held or not ready & select.POLLIN:
            self._poll.unregister(self._recording.listener)
        if self._recording.held:
            send(self._control, event="held")

    def _forward(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._worker, MAX_MESSAGE, 1)
        if not data:
            return False
        message = json.loads(data)
        if descriptors:
            from .recording import Recording

            self._recording = Recording(descriptors[0], **message["record"])
            self._poll.register(descriptors[0], select.POLLIN)
            send(self._worker, recording=True)
        else:
            send(self._control, **message)
        return True

    def _obey(self) -> bool:
        """Carries out one command; False when the life is to be ended."""
        command = receive(self._control)
        if command is None or "end" in command:
            return False
        if "signal" in command:
            # Only the root of the tree is told, as a platform does. The tap is released behind it: a main thread
            # that waits in there would keep Python's own handler from running.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, command["signal"])
        if self._recording is not None and command.get("op") is not None:
            self._recording.hold_before(command["op"])
        if self._recording is not None and self._recording.held:
            self._recording.release()
            self._poll.register(self._recording.listener, select.POLLIN)
        elif "until" in command:
            send(self._worker, until=command["until"])
        return True


def _become_worker(gate: socket.socket, spec_path: str, origin: Origin) -> NoReturn:
    supervisor = os.getppid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(70)
    os.setsid()
    from . import worker

    worker.main(gate, spec_path, origin)


def end_descendants(*, root: int = 0, spare: Iterable[int] = ()) -> tuple[int | None, int, int]:
    """Kills and reaps every process below this one until none is left, except `spare` and what is below it.

    Returns the wait status and the peak resident memory (KiB) of the child `root`, None and 0 if it is none, and how
    many other processes had to be ended. Whoever loses its parent by this becomes a child of this process, a
    subreaper, and is found by the next round; so most lives, which leave nothing behind, cost no look at all processes.
    """
    import psutil

    spared = set(spare)
    status, peak, left = None, 0, 0
    if root:
        with contextlib.suppress(ProcessLookupError):
            os.kill(root, signal.SIGKILL)
        _, status, usage = os.wait4(root, 0)
        peak = usage.ru_maxrss
    while _has_children():
        children = [child for child in psutil.Process().children() if child.pid not in spared]
        if not children:
            break
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)  # blocking is right: it has been killed
        left += len(children)
    return status, peak, left


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def prctl(option: int, value: int) -> None:
    """`prctl(2)` with one argument; raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
