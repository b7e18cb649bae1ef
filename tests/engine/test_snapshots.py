from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from directories import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import crash_states
from pytest_pipeline_ckpt.engine.operations import LogWriter, read, snapshot
from pytest_pipeline_ckpt.engine.snapshots import Snapshots

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/a"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.binary(max_size=9)),
        st.tuples(st.sampled_from(["delete", "mkdir", "rmdir", "symlink", "look"]), NAMES, st.just(b"")),
        st.tuples(st.just("replace"), NAMES, st.binary(max_size=9)),
    ),
    max_size=30,
)


def change(root: Path, what: str, name: str, data: bytes) -> None:
    """Does one thing to a directory."""
    path = root / name
    if what == "write":
        path.write_bytes(data)
    elif what == "replace":
        path.with_name("temporary").write_bytes(data)
        os.replace(path.with_name("temporary"), path)
    elif what == "delete":
        path.unlink()
    elif what == "symlink":
        path.symlink_to("a")
    elif what in ("mkdir", "rmdir"):
        getattr(path, what)()


@given(CHANGES)
@settings(deadline=None)
def test_each_boundary_is_what_was_there(changes: list[tuple[Any, ...]]) -> None:
    """Rebuilt from the log, the directory is after each boundary what it was when somebody looked."""
    with tempfile.TemporaryDirectory() as base:
        root, log, rebuilt = Path(base, "root"), Path(base, "log"), Path(base, "rebuilt")
        root.mkdir()
        snapshots = Snapshots(root, log)
        seen = {0: contents(root)}
        for number, (what, name, data) in enumerate(changes, 1):
            with contextlib.suppress(OSError):
                change(root, what, name, data)
            if what == "look":
                snapshots.take(number)
                seen[snapshots.boundaries[-1]] = contents(root)
        snapshots.close()
        assert snapshots.boundaries == list(seen)
        for state in crash_states.crash_states(read(log)):
            if state.operation in seen and not state.torn:
                crash_states.rebuild(state, log, rebuilt)
                assert contents(rebuilt) == seen[state.operation]


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """A FIFO holds nothing; whoever opened it would wait for ever."""
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / "fifo")
    (root / "file").write_bytes(b"contents")
    snapshots = Snapshots(root, tmp_path / "log")
    snapshots.take(1)
    snapshots.close()
    log = LogWriter(tmp_path / "whole")
    snapshot(root, log)
    log.close()
    assert {one.path for one in (*read(tmp_path / "log"), *read(tmp_path / "whole"))} == {"file"}
