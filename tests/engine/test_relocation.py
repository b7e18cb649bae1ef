from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import relocation
from pytest_pipeline_ckpt.engine.operations import Act, LogWriter, Operation

if TYPE_CHECKING:
    from pathlib import Path

STATE = 'model_checkpoint_path: "{root}/model/ckpt-1"\nall_model_checkpoint_paths: "{root}/model/ckpt-1"\n'


def movable(tmp_path: Path, *texts: str, name: str = "file") -> bool:
    """Whether a directory can be moved into whose file of this name these texts were written."""
    root, log = tmp_path / "recorded-run", LogWriter(tmp_path / "log")
    operations = []
    for text in texts:
        blob = log.blob([text.format(root=root).encode()])
        operations.append(Operation(Act.WRITE, f"model/{name}", blob=blob))
    log.close()
    return relocation.movable(tmp_path / "log", operations, root)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), True),
        (("nothing", ""), True),
        ((STATE, "x" * 100, STATE), True),
        (("{root}/model",), False),
        ((STATE, "a file name in a checkpoint: {root}/scratch/cache"), False),
        (("x" * 100, STATE, "{root}"), False),
        (("../{root.name}/model/ckpt-1.npz",), False),
        ((STATE, 'model_checkpoint_path: "../../{root.name}/model/ckpt-1"\n'), False),
        (('model_checkpoint_path: "{root}/model/ckpt-1"\nall_model_checkpoint_paths: "../{root.name}/a"\n',), False),
    ],
)
def test_movable(tmp_path: Path, texts: tuple[str, ...], expected: bool) -> None:
    """Only what can be rewritten, TensorFlow's state files, may name the place, by its whole path."""
    assert movable(tmp_path, *texts) is expected


@pytest.mark.parametrize(
    ("name", "expected"), [("events.out.tfevents.1.host", True), ("graph.pbtxt", True), ("events.txt", False)]
)
def test_logs_may_name_the_place(tmp_path: Path, name: str, expected: bool) -> None:
    """A monitored session writes the path into its events and its graph, which no restore reads."""
    assert movable(tmp_path, STATE, "logdir {root}/model", name=name) is expected


@given(st.integers(0, 40), st.integers(1, 12), st.lists(st.integers(0, 60), max_size=4))
def test_paths_are_found_across_pieces(size: int, at_once: int, places: list[int]) -> None:
    """However the file is cut into pieces, each place is found once."""
    path, text = b"/a/run", bytearray(b"." * (size + 70))
    for place in places:
        text[place : place + len(path)] = path
    expected = [at for at in range(len(text)) if text.startswith(path, at)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relocation, "_AT_ONCE", at_once)
        assert relocation._occurrences(io.BytesIO(bytes(text)), path) == expected


def test_links_to_the_place_are_not_movable(tmp_path: Path) -> None:
    """A symbolic link with an absolute target would lead back, and a relative one out of the directory and in again."""
    LogWriter(tmp_path / "log").close()
    for target, expected in ((str(tmp_path / "run/model/ckpt-1"), False), ("../../run/model", False), ("ckpt-1", True)):
        link = Operation(Act.SYMLINK, "model/newest", target=target)
        assert relocation.movable(tmp_path / "log", [link], tmp_path / "run") is expected


def test_state_files_follow(tmp_path: Path) -> None:
    """The state files name the new place, by whatever name they have; nothing else changes."""
    old, new = tmp_path / "run", tmp_path / "a longer name"
    (new / "model").mkdir(parents=True)
    (new / "model/checkpoint").write_text(STATE.format(root=old))
    (new / "model/checkpoint_input").write_text(STATE.format(root=old))
    (new / "model/ckpt-1.index").write_bytes(b"\x00" * 10)
    relocation.move(new, old)
    assert (new / "model/checkpoint").read_text() == STATE.format(root=new)
    assert (new / "model/checkpoint_input").read_text() == STATE.format(root=new)
    assert (new / "model/ckpt-1.index").read_bytes() == b"\x00" * 10
