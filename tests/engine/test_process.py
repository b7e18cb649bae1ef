from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_pipeline_ckpt.engine import process
from pytest_pipeline_ckpt.engine.process import Server, tail

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_several_threads_wait_for_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says once that it is ready, and each of them hears it."""
    monkeypatch.setattr(process, "_PATIENCE", 20.0)
    server = Server(dict(os.environ), hash_seed=None, preload=["json"], log=tmp_path / "log")
    try:
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.initialised_by) for _ in range(4)]
            assert [one.result(timeout=60) for one in asked] == [None] * 4
    finally:
        server.close()


def test_the_tail_has_the_exception(tmp_path: Path) -> None:
    """A TensorFlow error is followed by where its op was made: what was raised is kept before it."""
    raised = "tensorflow.python.framework.errors_impl.DataLossError: Graph execution error:"
    below = [f"  File {number}" for number in range(30)]
    (tmp_path / "stderr.txt").write_text("\n".join(["Traceback", raised, *below]))
    assert tail(tmp_path / "stderr.txt", 5).splitlines() == [raised, "...", *below[-3:]]
    (tmp_path / "stderr.txt").write_text("\n".join([*below, "Traceback", raised]))
    assert tail(tmp_path / "stderr.txt", 3).splitlines() == [below[-1], "Traceback", raised]
    assert tail(tmp_path / "nothing") == ""
