"""Which server a life comes from: what a training sets before its imports, and what its server was started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pipeline_ckpt.engine import servers
from pytest_pipeline_ckpt.engine.servers import Servers
from pytest_pipeline_ckpt.engine.variables import at_start, differing, with_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PYTEST = {"HOME": "/home/me", "TF_DETERMINISTIC_OPS": "1"}


class FakeServer:
    """Starts nothing."""

    culprit: str | None = None

    def __init__(self, environ: Mapping[str, str], *, preload: tuple[str, ...], **_: Any) -> None:
        self.environ = dict(environ)
        self.preload = preload

    def initialised_by(self) -> str | None:
        """Which import ran ops."""
        return self.culprit if self.preload else None

    def close(self) -> None:
        """Nothing to end."""


class World:
    """A session's servers, and what the user is told."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.servers = Servers(directory, seed=1, isolation="fork", say=self.said.append)

    def of(self, training: str = "train", slot: int = 0, environ: Mapping[str, str] = PYTEST) -> Any:
        """The server of a life."""
        server: Any
        server, alone = self.servers.of(training, slot, environ)
        assert alone is (server.preload == ())
        return server


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Servers that start nothing."""
    monkeypatch.setattr(servers, "Server", FakeServer)
    return World(tmp_path)


def test_lives_share_a_server_for_each_slot(world: World) -> None:
    """As long as nobody sets anything, and whatever else the environment has."""
    assert world.of() is world.of("other", environ={**PYTEST, "HOME": "/", "TF_CONFIG": "{}"})
    assert world.of() is not world.of(slot=1)
    assert world.said == []


def test_what_a_training_sets_is_what_its_server_is_started_with(world: World) -> None:
    """Its own lives only; the first to show it is told of, once, by name."""
    before = world.of()
    world.servers.learn("train", {"KERAS_BACKEND": "jax", "TF_DETERMINISTIC_OPS": None})
    world.servers.learn("train", {"KERAS_BACKEND": "jax"})  # another life of it, which was started before
    after = world.of()
    assert after.environ == {"HOME": "/home/me", "KERAS_BACKEND": "jax"}
    assert after.preload
    assert after is world.of()
    assert world.of("other") is before
    assert world.said == [
        "the training sets KERAS_BACKEND, TF_DETERMINISTIC_OPS before its imports: its lives are forks of a process "
        "that was started with the same"
    ]


def test_what_is_set_later_is_added(world: World) -> None:
    """A variable before the import of NumPy, and another one before that of Keras."""
    world.servers.learn("train", {"OMP_NUM_THREADS": "1"})
    world.servers.learn("train", {"KERAS_BACKEND": "jax"})
    assert world.of().environ == {**PYTEST, "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "jax"}


def test_values_that_change_from_life_to_life_need_fresh_interpreters(world: World) -> None:
    """Which import nothing before the training does, and get the environment as it is."""
    world.servers.learn("train", {"TF_RUN": "1"})
    world.servers.learn("train", {"TF_RUN": "2"})
    server = world.of()
    assert (server.preload, server.environ) == ((), PYTEST)
    assert world.of("other").preload
    assert world.said[1:] == [
        "the training sets TF_RUN differently from life to life before its imports: each life starts a fresh "
        "interpreter, which takes seconds instead of tenths"
    ]


def test_other_processes_know_what_was_shown(world: World, tmp_path: Path) -> None:
    """An xdist worker starts its first life in the right server."""
    world.servers.learn("train", {"KERAS_BACKEND": "jax"})
    assert World(tmp_path).of().environ["KERAS_BACKEND"] == "jax"


def test_variables_that_change_in_the_session_get_a_server(world: World) -> None:
    """A test that sets one for its trainings, or another import path; of too many environments lives are fresh."""
    servers = [world.of(environ={**PYTEST, "KERAS_BACKEND": name}) for name in "abcdef"]
    assert [server.environ["KERAS_BACKEND"] for server in servers] == list("abcdef")
    assert [bool(server.preload) for server in servers] == [True, True, True, True, False, False]
    assert world.of(environ={**PYTEST, "KERAS_BACKEND": "a"}) is servers[0]
    assert set(world.said) == {
        "there are more than 4 environments to import TensorFlow in: each life starts a fresh interpreter, which takes "
        "seconds instead of tenths"
    }


def test_a_server_in_which_an_import_has_run_ops_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on JAX may: the lives of that training are fresh, those of others are not."""
    world.servers.learn("train", {"KERAS_BACKEND": "jax"})
    world.of("other")
    monkeypatch.setattr(FakeServer, "culprit", "tensorflow")
    assert world.of().preload == ()
    monkeypatch.setattr(FakeServer, "culprit", None)
    assert world.of("other").preload


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        ({"KERAS_BACKEND": "a"}, {"KERAS_BACKEND": "b"}, {"KERAS_BACKEND": "b"}),
        ({"XLA_FLAGS": "-x"}, {}, {"XLA_FLAGS": None}),
        ({}, {"JAX_ENABLE_X64": "1", "OMP_NUM_THREADS": "2"}, {"JAX_ENABLE_X64": "1", "OMP_NUM_THREADS": "2"}),
        ({}, {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": "{}", "JAX_LOGGING_LEVEL": "DEBUG", "HOME": "/"}, {}),
        ({}, {"TF2_BEHAVIOR": "1"}, {}),
        ({}, {"TF2_BEHAVIOR": "0"}, {"TF2_BEHAVIOR": "0"}),
        ({"TF2_BEHAVIOR": "0"}, {}, {"TF2_BEHAVIOR": None}),
    ],
)
def test_variables_that_differ(there: dict[str, str], here: dict[str, str], found: dict[str, str | None]) -> None:
    """Those that a runtime reads at import; not of logging, and not what the import sets itself."""
    assert differing(there, here, by_imports={"TF2_BEHAVIOR": "1"}) == found
    assert at_start(with_values(there, found)).items() >= {(k, v) for k, v in found.items() if v is not None}


HIDDEN = """
import importlib.util, json, os, sys
start = frozenset(sys.modules), tuple(sys.path)
from pytest_pipeline_ckpt.engine.hidden import Hidden, Interpreter, Origin
before = Interpreter.now(*start)
os.environ["NPY_X"] = "1"
import warnings, psutil, numpy, xxhash
warnings.filterwarnings("always", "first")
asked, seen = [], []
Hidden(Origin(before, tuple(warnings.filters), {}), lambda: asked.append(sorted(os.environ)))
def look(): seen.append([name in sys.modules for name in ("psutil", "numpy", "numpy.linalg", "xxhash", "json")])
look()
spec = importlib.util.find_spec("numpy")
seen.append([spec.name, spec.origin == numpy.__file__, len(asked)])
seen.append(["first" in str(warnings.filters)])
look()
import numpy.linalg as again
look()
seen.append([again is numpy.linalg, numpy.__spec__.loader is numpy.__loader__, len(asked)])
seen.append(["first" in str(warnings.filters)])
import psutil as once
look()
seen.append([once is psutil, len(asked), "xxhash" in sys.modules])
print(json.dumps(seen))
"""


def test_what_was_imported_is_out_of_sight_until_it_is_imported() -> None:
    """Then the very same modules are there; looking for a module is not importing it."""
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, env=dict(os.environ))
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        [False, False, False, False, True],
        ["numpy", True, 0],
        [False],
        [False, False, False, False, True],
        [False, True, True, False, True],
        [True, True, 1],
        [True],
        [True, True, True, False, True],
        [True, 2, False],
    ]
