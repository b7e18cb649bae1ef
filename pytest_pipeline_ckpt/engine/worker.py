"""Child side: the training process. Runs the user's code, unmodified, under the tap.

It gets everything from the life's `spec.json` (`Spec`); the gate is its only other link to the supervisor. It
never returns: what follows the user's code is what an interpreter does at its end, then `os._exit`, because a
forked TensorFlow must not be torn down twice.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import fcntl
import functools
import json
import os
import pickle
import random
import resource
import signal
import socket
import sys
import tempfile
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import forkserver, script, variables
from .hidden import Hidden
from .model_step import ModelStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .hidden import Origin
    from .ledger import LedgerWriter
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
_LOWEST_DESCRIPTOR = 512
"""Of ours, where that many may be open."""
_PYTEST = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_XDIST_")
"""Variables that pytest and its plugins set for the code of tests, which a script is not."""


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
    model_step: str | None
    """What tells the model's step: `model_step.GIVEN`, the payload's function, or `module:name`; None: it is found."""
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


def main(connection: socket.socket, spec_path: str, origin: Origin) -> NoReturn:
    """Lives the life that the spec describes, and exits with its code.

    Args:
        connection: to the supervisor.
        spec_path: of the spec.
        origin: what this process was before it was forked.
    """
    code, interrupted, before = 1, False, frozenset(sys.modules)
    try:
        spec = Spec(**json.loads(Path(spec_path).read_text()))
        connection = _moved(connection)
        with _high_descriptors():
            _take_place(spec)
            if spec.record is not None:
                _be_recorded(spec, connection)
        code = _Life(spec, connection, origin).live()
    except BaseException as error:
        script.report(error)
        interrupted = isinstance(error, KeyboardInterrupt)
    finally:
        script.leave(code, interrupted=interrupted, before=before)


@contextlib.contextmanager
def _high_descriptors() -> Iterator[None]:
    """Descriptors opened within it get numbers out of the way of the user's, who finds 3 free as in any new process."""
    lowest = _lowest_descriptor()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    taken = [null]
    while taken[-1] < lowest - 1:
        taken.append(os.dup(null))
    try:
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _lowest_descriptor() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _LOWEST_DESCRIPTOR if soft == resource.RLIM_INFINITY else min(_LOWEST_DESCRIPTOR, soft // 2)


def _moved(connection: socket.socket) -> socket.socket:
    """The same connection under a descriptor of ours."""
    with connection:
        return socket.socket(fileno=fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD_CLOEXEC, _lowest_descriptor()))


def _take_place(spec: Spec) -> None:
    """Makes this process what a freshly started one would be: output, environment, signals, randomness."""
    for name, descriptor in ((STDOUT, 1), (STDERR, 2)):
        opened = os.open(Path(spec.directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every Python process has it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stacks = os.open(Path(spec.directory, STACKS), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    os.environ.clear()
    os.environ.update({k: v for k, v in spec.environ.items() if spec.task != "script" or not k.startswith(_PYTEST)})
    os.chdir(spec.cwd)
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].ORIGINAL_DIR = spec.cwd  # type: ignore[attr-defined]
    sys.path[:] = spec.sys_path
    # Forks share the server's state, so an unseeded draw would look reproducible. A restart draws anew.
    random.seed(os.urandom(16))
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(list(os.urandom(16)))


def _be_recorded(spec: Spec, connection: socket.socket) -> None:
    """Has the supervisor see every file operation from now on, of this process and of what it starts."""
    from . import syscalls

    try:
        listener = syscalls.install()
    except syscalls.RecordingUnavailableError as error:
        forkserver.send(connection, event="refused", why=error.strerror)
        raise
    record = {"root": spec.record, "directory": spec.directory, "op": spec.op}
    socket.send_fds(connection, [json.dumps({"record": record}).encode()], [listener])
    os.close(listener)
    forkserver.receive(connection)  # from here on somebody answers


class _Life:
    """Runs the user's code under the tap, and writes down how far it came."""

    def __init__(self, spec: Spec, connection: socket.socket, origin: Origin) -> None:
        self._spec = spec
        self._connection = connection
        self._origin = origin
        self._directory = Path(spec.directory)
        self._process = os.getpid()
        self._tap: Any = None
        self._payload: dict[str, Any] | None = None
        self._returned = False
        self._step = None if spec.model_step is None else ModelStep(self._given, spec.model_step, spec.sys_path)

    def live(self) -> int:
        """Returns the exit code of the user's code."""
        if self._spec.task == "weights":
            from . import weight_differences

            weight_differences.compare(**self._spec.arguments)
            return 0
        atexit.register(self._finish)
        if self._origin.by_imports is None:
            import wrapt

            wrapt.when_imported("tensorflow")(self._install)
            for name in ("tensorflow", "jax"):
                wrapt.when_imported(name)(self._finish_before_it)
        else:
            import tensorflow as tf

            self._install(tf)
            Hidden(self._origin, self._importing)
        try:
            self._train()
        except SystemExit as stop:
            code = script.exit_code(stop)
            self._returned = code == 0
            return code
        self._returned = True
        return 0

    def _install(self, tensorflow: Any) -> None:
        """Puts the tap in; nothing of the user's has run an op by then."""
        if complaint := forkserver.too_old(tensorflow):
            raise ImportError(complaint)
        from . import tap

        spec = self._spec
        _keep_generated_code_in(self._directory)
        with _high_descriptors():
            writer = self._writer()
            gate = Gate(self._connection, writer, until=spec.until, cap=spec.max_elements, ignored=spec.ignored)
            self._tap = tap.install(writer, gate, step=self._step, model_dir=Path(spec.model_dir))
        if spec.stages is not None:
            _walk_instead(spec.stages, self._tap)

    def _writer(self) -> LedgerWriter:
        from .ledger import LedgerWriter

        return LedgerWriter(self._directory)

    def _importing(self) -> None:
        """The user's code imports a runtime: under the variables with which the server did, or it would be deaf."""
        by_imports = self._origin.by_imports or {}
        values = variables.differing(self._origin.before.environ, os.environ, by_imports=by_imports)
        if values and os.getpid() == self._process:
            forkserver.send(self._connection, event="differs", variables=values)
            forkserver.receive(self._connection)  # until it is killed
            os._exit(70)

    def _given(self) -> Callable[[], Any]:
        step: Callable[[], Any] = self._loaded()["step"]
        return step

    def _loaded(self) -> dict[str, Any]:
        """The payload; a script's not before its step is asked for, because loading it may import what it needs."""
        if self._payload is None:
            with script.searching(self._spec.sys_path):
                self._payload = _load(self._directory / PAYLOAD)
        return self._payload

    def _train(self) -> None:
        spec = self._spec
        if spec.task == "script":
            script.run(spec.arguments["argv"], self._origin.own_path)
            return
        function = self._loaded()["function"]
        if spec.task == "dataset":
            from .trainers import dataset_trainer

            function = dataset_trainer(function, **spec.arguments)
        function(spec.model_dir)

    def _finish(self) -> None:
        """Runs at exit, when all of the user's code has, and its variables are still there."""
        if not self._returned or os.getpid() != self._process:
            return
        if self._tap is None:
            from .model import UNKNOWN_STEP, Kind

            self._writer().event(Kind.DONE, UNKNOWN_STEP)
            return
        from . import trainers

        self._tap.finish(functools.partial(trainers.saved_step, self._spec.model_dir))

    def _finish_before_it(self, _: object) -> None:
        """What a runtime registers at its import would otherwise run before `_finish`, and take its counters away."""
        atexit.unregister(self._finish)
        atexit.register(self._finish)


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
        script.leave(0, interrupted=False, before=frozenset(sys.modules))

    installed.witness.on_made = made


def _keep_generated_code_in(directory: Path) -> None:
    """Lets AutoGraph write its modules, which it deletes at exit only, where they go away with the trial."""
    from tensorflow.python.autograph.pyct import loader

    here = functools.partial(tempfile.NamedTemporaryFile, dir=directory)
    loader.tempfile = types.SimpleNamespace(NamedTemporaryFile=here)


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = pickle.loads(path.read_bytes())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the training process could not import {error.name!r}, which the function given to the check needs; "
            f"its import path is pytest's own: {os.pathsep.join(sys.path[:6])}..."
        ) from error
    return loaded


def write_spec(spec: Spec, payload: bytes) -> Path:
    """Stores what `main` reads; returns the spec's path. Runs in the pytest process."""
    directory = Path(spec.directory)
    (directory / PAYLOAD).write_bytes(payload)
    path = directory / SPEC
    path.write_text(json.dumps(dataclasses.asdict(spec)))
    return path
