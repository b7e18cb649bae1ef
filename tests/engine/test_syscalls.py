from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import headers
import pytest
from directories import contents
from recorded_runs import Recorded

from pytest_pipeline_ckpt.engine import syscalls
from pytest_pipeline_ckpt.engine.operations import Act

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_pipeline_ckpt.engine.operations import Operation


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The scenario with every operation, recorded to its end."""
    return Recorded("save", tmp_path_factory.mktemp("saved"))


def test_the_log_explains_the_directory(saved: Recorded, tmp_path: Path) -> None:
    """What the model makes of the log is what the process left."""
    assert (saved.returncode, saved.recorder.blind) == (0, [])
    assert saved.rebuilt(len(saved.operations), tmp_path / "rebuilt") == contents(saved.root)
    assert contents(saved.root)["moved/index"] == b"ind\0\0\0\0\0moreeven more"


def _after(count: int) -> Callable[[Operation], bool]:
    """Holds the operation that `count` others came before."""
    numbers = itertools.count()
    return lambda _: next(numbers) == count


def test_a_kill_at_each_operation_leaves_what_the_model_predicts(saved: Recorded, tmp_path: Path) -> None:
    """Killed for real before its k-th operation, the process leaves the state after k - 1."""
    number = len(saved.operations)
    assert number > 30
    for k in range(number):
        killed = Recorded("save", tmp_path / f"killed-{k}", holds=_after(k))
        assert killed.returncode == -9
        assert contents(killed.root) == saved.rebuilt(k, tmp_path / f"rebuilt-{k}"), saved.operations[k]


def test_elements_and_operations_are_in_one_order(saved: Recorded) -> None:
    """Each operation knows how many records were in the ledger before it."""
    assert saved.recorder.elements == 2
    first = saved.operations[0]
    assert (first.act, first.path, first.elements) == (Act.MKDIR, "ckpt-1_temp", 1)
    assert [op.elements for op in saved.operations if op.path == "ckpt-1_temp"] == [1, 1, 1]
    assert {op.elements for op in saved.operations if op.path.startswith("checkpoint")} == {2}


def test_processes_and_threads(tmp_path: Path) -> None:
    """Children and threads are recorded too, and counted."""
    recorded = Recorded("family", tmp_path)
    assert recorded.rebuilt(len(recorded.operations), tmp_path / "rebuilt") == {
        "child": b"child",
        "parent": b"parent",
        "thread": b"thread",
    }
    assert len(recorded.recorder.threads) == 3


def test_standard_output_and_parents_of_links(tmp_path: Path) -> None:
    """What a shell's redirection writes is recorded, and `link/..` is where the link leads to."""
    recorded = Recorded("redirected", tmp_path)
    assert (recorded.returncode, recorded.recorder.blind) == (0, [])
    assert recorded.rebuilt(len(recorded.operations), tmp_path / "rebuilt") == contents(recorded.root)
    found = contents(recorded.root)
    assert (found["out"], found["err"], found["below/through"]) == (b"out", b"err", b"through")


def test_signal_handlers(tmp_path: Path) -> None:
    """A call that a signal handler interrupted is written down once."""
    recorded = Recorded("interrupted", tmp_path)
    assert sum(op.act is Act.WRITE for op in recorded.operations) == 500
    assert recorded.rebuilt(len(recorded.operations), tmp_path / "rebuilt") == contents(recorded.root)


def test_calls_that_fail(tmp_path: Path) -> None:
    """Addresses and descriptors that are none do not disturb the recorder; what succeeds is written down."""
    recorded = Recorded("failing", tmp_path)
    assert (recorded.returncode, recorded.recorder.blind) == (0, [])
    assert recorded.rebuilt(len(recorded.operations), tmp_path / "rebuilt") == contents(recorded.root)
    assert contents(recorded.root) == {"file": b"onetwo\0\0\0\0"}


def test_what_makes_files_durable(tmp_path: Path) -> None:
    """An fsync has an inode; what makes everything durable has none, and on another file system it is nothing."""
    recorded = Recorded("synced", tmp_path)
    file, directory = (recorded.root / "file").stat().st_ino, recorded.root.stat().st_ino
    found = [(op.path, op.inode) for op in recorded.operations if op.act is Act.FSYNC]
    of_file, of_everything = ("file", file), (".", 0)
    assert found == [of_file, of_file, *[of_everything] * 3, (".", directory)]


def test_writes_that_are_durable_at_once(tmp_path: Path) -> None:
    """Where O_SYNC or O_DSYNC is set an fsync of the file follows each write; it is no call that could be held."""
    told = []

    def tell(operation: Operation) -> bool:
        told.append(operation)
        return False

    found = Recorded("synchronous", tmp_path, holds=tell).operations
    assert [(op.act, op.path) for op in found] == [
        *((Act.CREATE, "neither"), (Act.WRITE, "neither"), (Act.TRUNCATE, "neither")),
        *((Act.CREATE, "sync"), (Act.WRITE, "sync"), (Act.FSYNC, "sync"), (Act.TRUNCATE, "sync")),
        *((Act.CREATE, "dsync"), (Act.WRITE, "dsync"), (Act.FSYNC, "dsync"), (Act.TRUNCATE, "dsync")),
    ]
    assert told == [op for op in found if op.act is not Act.FSYNC]
    inodes = {op.path: op.inode for op in found if op.act is Act.WRITE}
    assert [(op.inode, op.offset, op.blob) for op in found if op.act is Act.FSYNC] == [
        (inodes["sync"], 0, None),
        (inodes["dsync"], 0, None),
    ]


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("mapped", "a shared mapping of a file"),
        ("copied", "a copy inside the kernel (copy_file_range)"),
        ("brought", "a rename between the checkpoint directory and {outside}"),
        ("exchanged", "an exchanging rename (renameat2)"),
        ("ring", "io_uring_setup"),
    ],
)
def test_what_cannot_be_recorded_is_said(scenario: str, said: str, tmp_path: Path) -> None:
    """The directory changes in a way that the log does not have: the recorder knows."""
    recorded = Recorded(scenario, tmp_path)
    assert recorded.recorder.blind == [said.format(outside=tmp_path / "outside")]


def test_a_recorded_process_cannot_be_recorded_again(tmp_path: Path) -> None:
    """There is one listener for a process; the sentence says what is needed."""
    assert Recorded("twice", tmp_path).output == (
        "[Errno 16] seccomp was refused (Device or resource busy): recording needs Linux >= 5.5, a container profile "
        "that allows seccomp, and a process that is not recorded already\n"
    )


@pytest.mark.parametrize("machine", syscalls.TABLES)
def test_tables_are_the_kernels(machine: str) -> None:
    """Each number is the one in the kernel's headers, which may be older than the newest calls."""
    numbers, table = headers.numbers(machine), syscalls.TABLES[machine]
    known = {name for name, number in table.items() if number <= max(numbers.values())}
    assert len(known) > 40
    assert {name: numbers.get(name) for name in known} == {name: table[name] for name in known}
