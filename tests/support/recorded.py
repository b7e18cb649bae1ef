"""A process whose file operations are recorded: `python recorded.py SCENARIO DIRECTORY DESCRIPTOR LEDGER`.

It installs the filter, hands the listener over the socket DESCRIPTOR, and does what the scenario says in DIRECTORY.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

from pytest_pipeline_ckpt.engine import syscalls


def save(here: Path, ledger: int) -> None:
    """Like a checkpoint's save, and every other operation that there is."""
    os.write(ledger, b"e" * 32)
    (here / "ckpt-1_temp").mkdir()
    with contextlib.suppress(FileExistsError):
        (here / "ckpt-1_temp").mkdir()
    with (here / "ckpt-1_temp/part").open("wb", buffering=0) as file:
        file.write(b"a" * 10_000)
        os.writev(file.fileno(), [b"bb", b"ccc"])
        os.pwrite(file.fileno(), b"ddd", 5)
        os.fsync(file.fileno())
    (here / "ckpt-1_temp/part").rename(here / "ckpt-1.data")
    with contextlib.suppress(OSError):
        os.rmdir(here)
    (here / "ckpt-1_temp").rmdir()
    os.write(ledger, b"e" * 32)
    os.chdir(here)
    with open("ckpt-1.index", "wb", buffering=0) as file:
        file.write(b"index")
        file.truncate(3)
        file.truncate(8)
    directory = os.open(".", os.O_RDONLY)
    os.mkdir("sub", dir_fd=directory)
    os.rename("ckpt-1.index", "sub/index", src_dir_fd=directory, dst_dir_fd=directory)
    os.rename("sub", "moved")
    os.link("moved/index", "again")
    os.symlink("moved/index", "pointer")
    descriptor = os.open("again", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"more")
    os.unlink("again")
    os.write(descriptor, b"even more")
    with contextlib.suppress(FileExistsError):
        os.open("ckpt-1.data", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_TRUNC)
    for text in ("one", "two"):
        Path("checkpoint.tmp").write_text(text)
        os.replace("checkpoint.tmp", "checkpoint")
    with contextlib.suppress(FileNotFoundError):
        os.unlink("nothing")


def redirected(here: Path, ledger: int) -> None:
    """Writes through standard output and error, as a shell does, and where a link's own parent is."""
    (here / "below").mkdir()
    (here / "below/deeper").mkdir()
    (here / "link").symlink_to("below/deeper")
    (here / "link/../through").write_text("through")
    for number, name in ((1, "out"), (2, "err")):
        kept, file = os.dup(number), os.open(here / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.write(number, name.encode())
        os.dup2(kept, number)


def family(here: Path, ledger: int) -> None:
    """A child process writes, and then this one; a thread does too."""
    if (pid := os.fork()) == 0:
        (here / "child").write_text("child")
        os._exit(0)
    os.waitpid(pid, 0)
    thread = threading.Thread(target=(here / "thread").write_text, args=("thread",))
    thread.start()
    thread.join()
    (here / "parent").write_text("parent")


def interrupted(here: Path, ledger: int) -> None:
    """Writes while a signal handler runs again and again."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    with (here / "file").open("wb", buffering=0) as file:
        for number in range(500):
            file.write(b"%d," % number)
    signal.setitimer(signal.ITIMER_REAL, 0)


def failing(here: Path, ledger: int) -> None:
    """Gives the kernel addresses and descriptors that are none, between calls that succeed."""
    libc, numbers, nowhere = ctypes.CDLL(None), syscalls.TABLES[os.uname().machine], ctypes.c_void_p(1)
    file = os.open(here / "file", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"one")
    assert libc.syscall(numbers["write"], file, nowhere, 10) < 0
    assert libc.syscall(numbers["write"], 999, b"two", 3) < 0
    assert libc.syscall(numbers["openat"], -100, nowhere, os.O_WRONLY) < 0
    assert libc.syscall(numbers["openat"], 999, b"name", os.O_WRONLY | os.O_CREAT) < 0
    vector = struct.pack("=QQ", ctypes.addressof(text := ctypes.create_string_buffer(b"two")), 3)
    position = ctypes.c_long(-1)  # where the file is
    assert libc.syscall(numbers["pwritev2"], file, vector, 1, position, position, 0) == len(text) - 1
    os.posix_fallocate(file, 0, 10)


def synced(here: Path, ledger: int) -> None:
    """Makes durable what it has written, but for the last three, which make nothing below the directory durable."""
    libc = ctypes.CDLL(None)
    file, directory, elsewhere = os.open(here / "file", os.O_WRONLY | os.O_CREAT), os.open(here, 0), os.open("/proc", 0)
    os.write(file, b"contents")
    os.fsync(file)
    os.fdatasync(file)
    os.sync()
    for descriptor in (file, ledger, elsewhere, 999):
        libc.syncfs(descriptor)
    libc.sync_file_range(file, ctypes.c_long(0), ctypes.c_long(0), 2)
    os.fsync(directory)


def synchronous(here: Path, ledger: int) -> None:
    """Writes what is durable at once, and what is not."""
    for name, flag in (("neither", 0), ("sync", os.O_SYNC), ("dsync", os.O_DSYNC)):
        file = os.open(here / name, os.O_WRONLY | os.O_CREAT | flag)
        os.pwrite(file, b"contents", 3)
        os.ftruncate(file, 4)


def stored(here: Path, ledger: int) -> None:
    """Input checkpoints as the hook saves them with `durable`: two, the second once more, its mark renewed."""
    import tensorflow as tf
    from pipeline_ckpt.marks import Mark
    from pipeline_ckpt.store import CheckpointStore

    store = CheckpointStore(str(here), "input.ckpt", max_to_keep=None, durable=True)
    store.open()
    store.take()
    for step in (1, 2, 2):
        for mark in store.committed()[0]:
            if mark.step == step:
                store.retire(mark)
        state = tf.random.uniform([5_000])
        tf.raw_ops.SaveV2(prefix=store.begin_save(step), tensor_names=["state"], shape_and_slices=[""], tensors=[state])
        store.commit(Mark(step, ("iterator",)))
    store.renew(Mark(2, ("iterator",), ended=True, incarnation=store.incarnation))


def mapped(here: Path, ledger: int) -> None:
    """Writes through a shared mapping."""
    with (here / "file").open("w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096) as memory:
            memory[:5] = b"hello"


def copied(here: Path, ledger: int) -> None:
    """Lets the kernel copy from file to file."""
    (here / "from").write_bytes(b"contents")
    with (here / "from").open("rb") as source, (here / "to").open("wb") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 8)


def brought(here: Path, ledger: int) -> None:
    """Moves a file in that was written elsewhere."""
    outside = here.with_name("outside")
    outside.write_text("contents")
    outside.rename(here / "inside")


def exchanged(here: Path, ledger: int) -> None:
    """Swaps two names."""
    for name in ("a", "b"):
        (here / name).write_text(name)
    names = (os.fsencode(here / "a"), os.fsencode(here / "b"))
    ctypes.CDLL(None).syscall(syscalls.TABLES[os.uname().machine]["renameat2"], -100, names[0], -100, names[1], 2)


def ring(here: Path, ledger: int) -> None:
    """Asks for an io_uring."""
    ctypes.CDLL(None).syscall(syscalls.TABLES[os.uname().machine]["io_uring_setup"], 1, None)


def twice(here: Path, ledger: int) -> None:
    """Asks to be recorded a second time."""
    try:
        syscalls.install()
    except syscalls.RecordingUnavailableError as error:
        print(error)


def main() -> None:
    """Runs the scenario."""
    name, directory, connection, ledger = sys.argv[1:]
    here, records = Path(directory), os.open(ledger, os.O_WRONLY | os.O_APPEND)
    channel = socket.socket(fileno=int(connection))
    listener = syscalls.install()
    socket.send_fds(channel, [b"!"], [listener])
    os.close(listener)
    globals()[name](here, records)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
