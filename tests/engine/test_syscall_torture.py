"""Every call of the kernel's table that changes files is recorded rightly, or named; and no program notices.

Before each call of a program its real directory is compared with the model of what was recorded.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from directories import contents
from torture import CHILD, Tortured, alone
from tortured import CHANGES, PROGRAMS

from pytest_pipeline_ckpt.engine import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMED = {
    "fifo": ["a special file (mknodat)"],
    "openat2_root": ["openat2 with another root"],
    "punched": ["a hole punched into a file (fallocate)"],
    "exchanged": ["an exchanging rename (renameat2)"],
    "sent": ["a copy inside the kernel (sendfile)"],
    "spliced": ["a copy inside the kernel (splice)"],
    "copied": ["a copy inside the kernel (copy_file_range)"],
    "cloned": ["a copy or a change inside the kernel (ioctl)"],
    "mapped": ["a shared mapping of a file"],
    "asynchronous": ["an asynchronous write (io_submit)"],
    "ring": ["io_uring_setup"],
    "handled": ["open_by_handle_at"],
    "socket_name": ["a socket (bind)"],
}
"""Programs whose calls cannot be recorded, and what is said of them."""
NEITHER = ("threaded", "full", "root_moves")
RECORDED = [name for name in PROGRAMS if name not in {*NAMED, *CHANGES, *NEITHER}]


@pytest.mark.parametrize("program", RECORDED)
def test_what_a_program_does_is_recorded(program: str, tmp_path: Path) -> None:
    """At each of its calls the directory is what was recorded, and it prints what it prints alone."""
    tortured = Tortured(program, tmp_path)
    assert (tortured.returncode, tortured.unlike, tortured.recorder.blind) == (0, [], [])
    assert tortured.output == alone(program, tmp_path / "alone")


@pytest.mark.parametrize("program", NAMED)
def test_what_cannot_be_recorded_is_named(program: str, tmp_path: Path) -> None:
    """Once, and the program prints what it prints alone."""
    tortured = Tortured(program, tmp_path)
    assert (tortured.returncode, tortured.recorder.blind) == (0, NAMED[program])
    assert tortured.output == alone(program, tmp_path / "alone")


@pytest.mark.parametrize("program", CHANGES)
def test_changes_of_no_contents_are_named(program: str, tmp_path: Path) -> None:
    """Permissions, times, attributes and other roots, which a restore may notice."""
    tortured = Tortured(program, tmp_path, readable=False)
    (said,) = tortured.recorder.blind
    assert re.search(rf"\b{CHANGES[program]}\b", said)
    assert tortured.output == alone(program, tmp_path / "alone")


def test_threads_that_take_turns(tmp_path: Path) -> None:
    """Whatever is under way while another thread stops, what has ended is right, and nothing is named."""
    # At a thread's call the other may be within one: the directory can only be compared when both have ended.
    tortured = Tortured("threaded", tmp_path, readable=False)
    assert (tortured.returncode, tortured.recorder.blind) == (0, [])
    assert len(tortured.recorder.threads) == 3
    assert tortured.log.modelled() == contents(tortured.root)
    assert len(tortured.log.modelled()["shared"]) == 100


def test_a_directory_that_moves_away(tmp_path: Path) -> None:
    """It is named: what is written below its other name is not seen."""
    tortured = Tortured("root_moves", tmp_path)
    assert tortured.recorder.blind[0] == f"a rename between the checkpoint directory and {tmp_path}/root-2"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    base = tmp_path / "small"
    base.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", base], check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted")
    yield base
    subprocess.run(["umount", "--lazy", base], check=True)


def test_a_disk_without_space(small: Path, tmp_path: Path) -> None:
    """A write that was not done to its end is named."""
    (small / "root").mkdir()
    (tmp_path / "root").symlink_to(small / "root")
    tortured = Tortured("full", tmp_path, make=False)
    assert tortured.output.splitlines()[0] == str(64 << 10)
    assert tortured.recorder.blind == ["write of a, which failed or was not done to its end"]


def test_every_call_of_the_table_is_made() -> None:
    """Each of them is in a program by its name."""
    source = CHILD.read_text()
    assert [name for name in syscalls.X86_64 if f'"{name}"' not in source] == ["mmap", "bind"]
