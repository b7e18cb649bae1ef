"""Child side: the training process. Runs the user's code, unmodified, under the tap.

It gets everything from the life's `spec.json` (`Spec`); the gate is its only other link to the supervisor. It
never returns: what follows the user's code is what an interpreter does at its end, then `os._exit`, because a
forked TensorFlow must not be torn down twice.
"""

from __future__ import annotations

import atexit
import dataclasses
import faulthandler
import functools
import json
import os
import pickle
import random
import runpy
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import forkserver, syscalls
from .ledger import LedgerWriter

if TYPE_CHECKING:
    from .model import Stream

STACKS_SIGNAL = signal.SIGRTMAX - 3
"""Makes the training process write its stacks: a real-time signal that no framework uses."""
STDOUT, STDERR, STACKS, SPEC, PAYLOAD = (
    "stdout.txt",
    "stderr.txt",
    "stacks.txt",
    "spec.json",
    "payload.pickle",
)


@dataclass(frozen=True, slots=True)
class Spec:
    """What one life is to do; stored as JSON in its directory."""

    directory: str
    """Where the ledger, the output and the payload of this life are."""
    model_dir: str
    cwd: str
    sys_path: list[str]
    environ: dict[str, str]
    until: int | None
    """The worker waits when it takes this training element (from 1); 0: when it asks for one; None: it never waits."""
    max_elements: int | None
    ignored: list[str]
    """Keys of streams that are not training data: not counted."""
    record: str | None
    """The directory whose file operations are recorded; None: nothing is."""
    op: int | None
    """The supervisor holds the life before this restore-visible operation (from 1)."""
    stages: dict[str, Any] | None
    """Nothing is trained, but the pipeline's stages are read alone; see `stage_walk`. `mode` (`record` or `resume`),
    `directory`, `lenient`, and `streams`, the keys of the iterators at which that may happen, empty: at the first."""
    task: str
    """`training`: the payload's function, `dataset`: our trainer over it, `script`, or `weights`."""
    arguments: dict[str, Any]
    """Of the task: `argv` of a script, the keywords of `trainers.dataset_trainer` or `weight_differences.compare`."""


class Gate:
    """Counts training elements and holds the worker at the planned one until it is released or killed."""

    def __init__(
        self,
        connection: socket.socket,
        writer: LedgerWriter,
        *,
        until: int | None,
        cap: int | None,
        ignored: list[str],
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._until = until
        self._cap = cap
        self._ignored = frozenset(ignored)
        self._count = 0
        self.asks = until == 0

    def asked(self, key: str) -> None:
        """Called when a stream is asked for an element; blocks if that is a training stream and it is planned."""
        if key not in self._ignored:
            self.asks = False
            self._wait(event="held", elements=0)

    def taken(self, stream: Stream) -> None:
        """Called for each element when it has been recorded; blocks at the planned one."""
        if stream.key in self._ignored:
            return
        self._count += 1
        if self._cap is not None and self._count > self._cap:
            self._wait(event="endless")
        elif self._until is not None and self._count >= self._until:
            self._wait(event="held", elements=self._count)

    def _wait(self, **said: Any) -> None:
        self._writer.flush()  # whoever is held may be killed
        forkserver.send(self._connection, **said)
        message = forkserver.receive(self._connection)
        if message is None:
            os._exit(70)  # the supervisor is gone: nobody will ever release this process
        self._until = message["until"]


def main(connection: socket.socket, spec_path: str) -> NoReturn:
    """Lives the life that the spec describes, and exits with its code."""
    code = 1
    try:
        spec = Spec(**json.loads(Path(spec_path).read_text()))
        _take_place(spec)
        if spec.record is not None:
            _be_recorded(spec, connection)
        code = _run(spec, connection)
    except BaseException as error:
        _print_exception(error)
    finally:
        _leave(code)


def _take_place(spec: Spec) -> None:
    """Makes this process what a freshly started one would be: output, environment, signals, randomness."""
    for name, descriptor in ((STDOUT, 1), (STDERR, 2)):
        opened = os.open(Path(spec.directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every Python process has it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stacks = os.open(Path(spec.directory, STACKS), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    os.environ.clear()
    os.environ.update(spec.environ)
    os.chdir(spec.cwd)
    sys.path[:] = spec.sys_path
    # Forks share the server's state, so an unseeded draw would look reproducible. A restart draws anew.
    random.seed(os.urandom(16))
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(list(os.urandom(16)))


def _be_recorded(spec: Spec, connection: socket.socket) -> None:
    """Has the supervisor see every file operation from now on, of this process and of what it starts."""
    try:
        listener = syscalls.install()
    except syscalls.RecordingUnavailableError as error:
        forkserver.send(connection, event="refused", why=error.strerror)
        raise
    record = {"root": spec.record, "directory": spec.directory, "op": spec.op}
    socket.send_fds(connection, [json.dumps({"record": record}).encode()], [listener])
    os.close(listener)
    forkserver.receive(connection)  # from here on somebody answers


def _run(spec: Spec, connection: socket.socket) -> int:
    import tensorflow as tf

    if complaint := forkserver.too_old(tf):
        raise ImportError(complaint)
    from . import tap, trainers, weight_differences

    if spec.task == "weights":
        weight_differences.compare(**spec.arguments)
        return 0
    directory = Path(spec.directory)
    payload = _load(directory / PAYLOAD)
    writer = LedgerWriter(directory)
    gate = Gate(connection, writer, until=spec.until, cap=spec.max_elements, ignored=spec.ignored)
    _keep_generated_code_in(directory)
    installed = tap.install(writer, gate, step=payload["step"], model_dir=Path(spec.model_dir))
    if spec.stages is not None:
        _walk_instead(spec.stages, installed)
    try:
        _train(spec, payload["function"])
    except SystemExit as stop:
        code = _exit_code(stop)
        if code != 0:
            return code
    installed.finish(functools.partial(trainers.saved_step, spec.model_dir))
    return 0


def _walk_instead(stages: dict[str, Any], installed: Any) -> None:
    """Goes through the stages of the pipeline over which the training makes its iterator, and ends the life there."""
    from . import stage_results, stage_walk
    from .patches import Patches
    from .stages import remember_calls

    patches = Patches()
    remember_calls(patches)

    def made(key: str, dataset: Any) -> None:
        if stages["streams"] and key not in stages["streams"]:
            return
        patches.undo()
        installed.uninstall()
        try:
            walk = stage_walk.Walk(dataset, Path(stages["directory"]), lenient=stages["lenient"])
            getattr(walk, stages["mode"])()
        except BaseException:
            Path(stages["directory"], stage_results.FAILED).write_text(traceback.format_exc())
        _leave(0)

    installed.witness.on_made = made


def _keep_generated_code_in(directory: Path) -> None:
    """Lets AutoGraph write its modules, which it deletes at exit only, where they go away with the trial."""
    from tensorflow.python.autograph.pyct import loader

    here = functools.partial(tempfile.NamedTemporaryFile, dir=directory)
    loader.tempfile = types.SimpleNamespace(NamedTemporaryFile=here)


def _train(spec: Spec, function: Any) -> None:
    if spec.task == "script":
        _run_script(spec.arguments["argv"])
    elif spec.task == "dataset":
        from .trainers import dataset_trainer

        dataset_trainer(function, **spec.arguments)(spec.model_dir)
    else:
        function(spec.model_dir)


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = pickle.loads(path.read_bytes())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the training process could not import {error.name!r}, which the function given to the check needs; "
            f"its import path is pytest's own: {os.pathsep.join(sys.path[:6])}..."
        ) from error
    return loaded


def _run_script(argv: list[str]) -> None:
    """Runs the script as `python script ...` or `python -m module ...` would."""
    if argv[0] == "-m":
        sys.argv = argv[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(argv)
        sys.path.insert(0, str(Path(argv[0]).resolve().parent))
        runpy.run_path(argv[0], run_name="__main__")


def _print_exception(error: BaseException) -> None:
    """Prints what the interpreter would, without the frames that lead from this module to the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _leads_there(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def _leads_there(filename: str) -> bool:
    return filename == __file__ or filename == "<frozen runpy>" or filename == runpy.__file__


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1


def _leave(code: int) -> NoReturn:
    """Ends as the interpreter would: waits for threads, runs `atexit`, flushes."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def write_spec(spec: Spec, payload: bytes) -> Path:
    """Stores what `main` reads; returns the spec's path. Runs in the pytest process."""
    directory = Path(spec.directory)
    (directory / PAYLOAD).write_bytes(payload)
    path = directory / SPEC
    path.write_text(json.dumps(dataclasses.asdict(spec)))
    return path
