from __future__ import annotations

import pytest

from pytest_pipeline_ckpt.engine.names import Names, may_be_read, visible
from pytest_pipeline_ckpt.engine.operations import Act, Operation

HEX = "0123456789abcdef" * 2
PART = "part-00000-of-00001.data-00000-of-00001"
SAVE = [
    Operation(Act.MKDIR, "model/ckpt-1_temp"),
    Operation(Act.CREATE, f"model/ckpt-1_temp/{PART}.tempstate12", creates=True),
    Operation(Act.RENAME, f"model/ckpt-1_temp/{PART}.tempstate12", target=f"model/ckpt-1_temp/{PART}"),
    Operation(Act.RENAME, f"model/ckpt-1_temp/{PART}", target="model/ckpt-1.data-00000-of-00001"),
    Operation(Act.CREATE, "model/ckpt-1.index", creates=True),
    Operation(Act.RMDIR, "model/ckpt-1_temp"),
]
"""As TensorFlow saves below the prefix `model/ckpt-1`."""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("model/ckpt-10_temp", False),
        ("model/ckpt-10_temp/part-00000-of-00001.index", False),
        ("model/ckpt-10_temp/part-00000-of-00001.data-00000-of-00001.tempstate123", False),
        ("model/ckpt-10_temp/part-1.npy", True),
        ("model/state_temp/position", True),
        (f"model/checkpoint.tmp{HEX}", False),
        (f"model/checkpoint_input.tmp{HEX}", False),
        (f"model/model.ckpt-1.meta.tmp{HEX}", False),
        (f"model/state.json.tmp{HEX}", True),
        ("model/ckpt-1.index.tempstate123", False),
        ("model/state.tempstate123", True),
        ("model/events.out.tfevents.1.host", False),
        ("model/ckpt-10.index", True),
    ],
)
def test_what_a_restore_may_read(name: str, read: bool) -> None:
    """By the name alone: TensorFlow's temporary names and its events do not count, others that look alike do."""
    assert may_be_read(name) is read


@pytest.mark.parametrize(
    "name",
    [
        "model/ckpt-1_temp",
        f"model/ckpt-1_temp/{PART}",
        f"model/ckpt-1_temp/{PART}.tempstate12",
        "model/ckpt-1.index.tempstate7",
        f"model/checkpoint.tmp{HEX}",
        f"model/ckpt-1.meta.tmp{HEX}",
        f"graph.pbtxt.tmp{HEX}",
        "model/eval/events.out.tfevents.1.host",
    ],
)
def test_names_below_a_prefix_are_temporary(name: str) -> None:
    """The run has made an index or data of the prefix, so what is written on the way to it is TensorFlow's."""
    assert not Names(SAVE).may_be_read(name)


@pytest.mark.parametrize(
    "name",
    [
        "model/state_temp",
        f"model/state_temp/{PART}",
        "model/ckpt-2.index.tempstate7",
        f"model/ckpt-2.meta.tmp{HEX}",
        f"other/checkpoint.tmp{HEX}",
        "model/ckpt-1.index",
    ],
)
def test_names_without_a_prefix_are_the_users(name: str) -> None:
    """Nothing of that prefix was ever saved, so nobody but the user gives these names."""
    assert Names(SAVE).may_be_read(name)


@pytest.mark.parametrize(
    "operation",
    [
        Operation(Act.CREATE, "model/ckpt-1_temp/notes.json", creates=True),
        Operation(Act.CREATE, "model/ckpt-1_temp", creates=True),
        Operation(Act.RENAME, "model/ckpt-1_temp", target="model/ckpt-1"),
        Operation(Act.LINK, "model/a", target="model/ckpt-1_temp/a"),
    ],
)
def test_a_directory_that_is_used_otherwise_is_the_users(operation: Operation) -> None:
    """TensorFlow's holds its parts only, and is never renamed."""
    names = Names([*SAVE, operation])
    assert names.may_be_read("model/ckpt-1_temp")
    assert names.may_be_read(f"model/ckpt-1_temp/{PART}")


@pytest.mark.parametrize(
    ("operation", "seen", "tells"),
    [
        (Operation(Act.MKDIR, "model/ckpt-1_temp"), False, False),
        (Operation(Act.MKDIR, "model/state_temp"), False, True),
        (Operation(Act.CREATE, "model/state_temp", creates=True), True, True),
        (Operation(Act.RENAME, "model/state_temp", target="model/state"), True, True),
        (Operation(Act.RENAME, f"model/ckpt-1_temp/{PART}", target="model/ckpt-1.data-00000-of-00001"), True, True),
        (Operation(Act.CREATE, f"model/checkpoint.tmp{HEX}", creates=True), False, False),
        (Operation(Act.CREATE, "model/ckpt-1.index"), False, False),
        (Operation(Act.FSYNC, "model/ckpt-1.index"), False, False),
    ],
)
def test_what_a_resume_can_tell(operation: Operation, seen: bool, tells: bool) -> None:
    """A running life is held by the names alone; the log knows better which directories are TensorFlow's."""
    assert visible(operation) is seen
    assert Names(SAVE).tells(operation) is tells
