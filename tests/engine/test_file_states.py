"""What is in files that training code writes by hand."""

from __future__ import annotations

import collections
import importlib
import json
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_pipeline_ckpt.engine.file_states import state_in

if TYPE_CHECKING:
    from pathlib import Path

STATE: dict[str, Any] = {"weight": np.float64(0.5), "seen": np.zeros(5, np.int64), "step": 7}


def _shown(path: Path) -> tuple[dict[str, int], tuple[str, ...]] | None:
    found = state_in(str(path))
    return None if found is None else ({leaf.name: int(leaf.value) for leaf in found.integers}, found.arrays)


def _pickled(path: Path, held: object) -> Path:
    path.write_bytes(pickle.dumps(held))
    return path


def test_archives_and_arrays_of_numpy(tmp_path: Path) -> None:
    """Scalars of an archive are read, of larger arrays only that they are there; a dictionary may be an array too."""
    np.savez(tmp_path / "w.npz", **STATE)
    np.save(tmp_path / "w.npy", STATE)  # type: ignore[arg-type]
    np.save(tmp_path / "step.npy", 5)
    assert _shown(tmp_path / "w.npz") == _shown(tmp_path / "w.npy") == ({"step": 7}, ("weight",))
    assert _shown(tmp_path / "step.npy") == ({"step": 5}, ())


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_compressed(tmp_path: Path, module: str) -> None:
    """What is in a compressed file is what it was made of."""
    with importlib.import_module(module).open(tmp_path / "w.pkl", "wb") as file:
        pickle.dump(STATE, file)
    assert _shown(tmp_path / "w.pkl") == ({"step": 7}, ("weight",))


def test_hdf5(tmp_path: Path) -> None:
    """Datasets and attributes of files that h5py has written."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "w.h5.new", "w") as file:
        file["model/w"] = np.zeros((2, 2), np.float32)
        file["step"] = np.zeros(3, np.int64)
        file.attrs["epoch"] = 3
    assert _shown(tmp_path / "w.h5.new") == ({"epoch": 3}, ("w",))


def test_text(tmp_path: Path) -> None:
    """A number has the file's name; JSON with fractions in it is no position, nor is what is no JSON."""
    (tmp_path / "step.txt.new").write_text("12\n")
    (tmp_path / "latest.json").write_text(json.dumps({"step": 3, "weights": "3.npz"}))
    (tmp_path / "results.json").write_text(json.dumps({"step": 3, "scores": [{"loss": 0.5}]}))
    (tmp_path / "log").write_text("step 3\nstep 4\n")
    assert _shown(tmp_path / "step.txt.new") == ({"step": 12}, ())
    assert _shown(tmp_path / "latest.json") == ({"step": 3}, ())
    assert _shown(tmp_path / "results.json") is _shown(tmp_path / "log") is _shown(tmp_path / "none") is None


def test_weights_do_not_count(tmp_path: Path) -> None:
    """Of several integers only those count that are called so; one alone counts whatever its name is."""
    several = _pickled(tmp_path / "several.pkl", {"w": 5, "epoch": 1, "global_step": 9, "stepping": 2})
    assert _shown(several) == ({"epoch": 1, "global_step": 9}, ())
    assert _shown(_pickled(tmp_path / "one.pkl", {"i": 5})) == ({"i": 5}, ())
    assert _shown(_pickled(tmp_path / "two.pkl", {"i": 5, "j": 6})) == ({}, ())


class Trainer:
    """What a training may pickle as a whole."""

    made = 0

    def __init__(self) -> None:
        self.step, self.w = 3, np.zeros(3, np.float32)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).made += 1
        vars(self).update(state)


def test_pickles_run_no_code_of_the_users(tmp_path: Path) -> None:
    """Attributes of an object are found, and neither its class nor what it would call is."""
    assert _shown(_pickled(tmp_path / "object.pkl", Trainer())) == ({"step": 3}, ("w",))
    assert Trainer.made == 0
    runs = b"cos\nsystem\n(S'touch %s'\ntR." % bytes(tmp_path / "ran")
    (tmp_path / "call.pkl").write_bytes(b"\x80\x02" + runs)
    assert _shown(tmp_path / "call.pkl") == ({}, ())
    assert not (tmp_path / "ran").exists()


def test_named_tuples_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields of a named tuple have names only in its class: optax counts so."""
    module = types.ModuleType("some_optimizers")
    adam: Any = collections.namedtuple("adam", ("count", "mu"), module="some_optimizers")  # noqa: PYI024
    module.adam = adam  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_optimizers", module)
    path = _pickled(tmp_path / "optimizer.pkl", [(adam(np.array(4, np.int32), {"w": np.zeros(3)}), ())])
    assert _shown(path) == ({"count": 4}, ("w",))
