"""Parent side: which server a life comes from, so that what its runtimes read at import is what its code sets.

A fork server has imported TensorFlow, Keras, and JAX where it is installed, under one set of environment variables. A
training that sets others before its imports shows them at its first import (`hidden`), before anything of it has run;
its lives then come from a server that was started with them. Where they are not the same in each life, each gets a
fresh interpreter, in which nothing is imported before the user's code does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Literal

from .process import Server
from .variables import at_start, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .variables import Values

_PRELOAD = (
    *("numpy", "tensorflow", "psutil", "wrapt"),
    *(f"{__package__}.{name}" for name in ("worker", "tap", "trainers", "recording")),
)
_MOST_ENVIRONMENTS = 4
"""For each the session keeps two servers, of some hundred megabytes each."""
_SLOWLY = "each life starts a fresh interpreter, which takes seconds instead of tenths"

_Key = tuple[str | None, frozenset[tuple[str, str]]]


class Servers:
    """Owns the servers of a pytest process.

    Args:
        directory: for their logs, and for what trainings have shown, which xdist workers share.
        seed: of the session; the servers' string-hash seeds come from it, so that xdist workers agree.
        isolation: `fork`, or `spawn` for a fresh interpreter a life.
        say: takes a sentence that the user should read once.
    """

    def __init__(
        self, directory: Path, *, seed: int, isolation: Literal["fork", "spawn"], say: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._seed = seed
        self._isolation = isolation
        self._say = say
        self._servers: dict[_Key, Server] = {}
        self._lock = threading.RLock()  # `every` starts lives from several threads

    def warm_up(self) -> None:
        """Starts the servers that most lives come from, so that their imports overlap with whatever comes first."""
        if self._isolation == "fork":
            for slot in (0, 1):
                self._shared(slot, dict(os.environ))

    def close(self) -> None:
        """Ends all of them and what they still run."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def of(self, training: str, slot: int, environ: Mapping[str, str]) -> tuple[Server, bool]:
        """The server that a life is to come from, and whether it is for this life alone.

        Args:
            training: tells it from others; the same for all of its lives.
            slot: lives that must differ like real restarts have different ones.
            environ: that the life begins with.
        """
        with self._lock:
            shown = self._shown(training)
            if self._isolation == "spawn" or shown is None:
                return self._own(environ), True
            server = self._shared(slot, with_values(environ, shown))
            culprit = None if server is None else server.initialised_by()
            if culprit is not None:
                self._say(
                    f"importing {culprit} runs TensorFlow ops, after which forks of the process may hang: {_SLOWLY}"
                )
                if not shown:
                    self._isolation = "spawn"
            if server is None or culprit is not None:
                return self._own(environ), True
            return server, False

    def learn(self, training: str, values: Values) -> None:
        """A life of a training has set these variables, which its server did not have when it imported."""
        with self._lock:
            known = self._shown(training)
            if known is None or all(name in known and known[name] == value for name, value in values.items()):
                return  # another life of the same training has shown them meanwhile
            names = ", ".join(values)
            if any(name in known for name in values):
                self._say(f"the training sets {names} differently from life to life before its imports: {_SLOWLY}")
                self._keep(training, None)
            else:
                self._say(
                    f"the training sets {names} before its imports: its lives are forks of a process that was started "
                    "with the same"
                )
                self._keep(training, {**known, **values})

    def _shared(self, slot: int, environ: dict[str, str]) -> Server | None:
        """The server for a slot and an environment; None when there would be too many."""
        hash_seed = self._hash_seed(slot, environ.get("PYTHONHASHSEED", "random"))
        key = (hash_seed, frozenset(at_start(environ).items()))
        if key not in self._servers:
            if len({environment for _, environment in (*self._servers, key)}) > _MOST_ENVIRONMENTS:
                self._say(f"there are more than {_MOST_ENVIRONMENTS} environments to import TensorFlow in: {_SLOWLY}")
                return None
            log = self._directory / f"server-{os.getpid()}-{len(self._servers)}.log"
            self._servers[key] = Server(environ, hash_seed=hash_seed, preload=_PRELOAD, log=log)
        return self._servers[key]

    def _hash_seed(self, slot: int, fixed: str) -> str | None:
        if fixed in ("", "random"):
            return str(1 + (self._seed + slot) % (2**32 - 2))
        self._say(
            f"PYTHONHASHSEED={fixed} is set, so a file order that comes from set() or hash() looks the same in all "
            "lives; it is not after a real restart without the variable (tox sets it; PYTHONHASHSEED=random undoes "
            "that)"
        )
        return None

    def _own(self, environ: Mapping[str, str]) -> Server:
        log = self._directory / f"server-{os.getpid()}-own.log"
        return Server(environ, hash_seed=None, preload=(), log=log)

    def _file(self, training: str) -> Path:
        return self._directory / f"variables-{hashlib.sha256(training.encode()).hexdigest()[:16]}.json"

    def _shown(self, training: str) -> Values | None:
        """What a training sets before its imports; None: not the same in each life."""
        with contextlib.suppress(FileNotFoundError):
            values: Values | None = json.loads(self._file(training).read_text())
            return values
        return {}

    def _keep(self, training: str, values: Values | None) -> None:
        file = self._file(training)
        made = file.with_suffix(f".{os.getpid()}")
        made.write_text(json.dumps(values))
        made.replace(file)  # another xdist worker may be reading it


__all__ = ["Servers"]
