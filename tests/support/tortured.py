"""Programs that change a directory in every way that the kernel has.

    python tortured.py PROGRAM DIRECTORY [DESCRIPTOR]

Each prints what its calls return. With a DESCRIPTOR it installs the filter, and hands the listener over that socket.
A program is stopped at the call that follows each change, so all of them end with a write to `z`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pipeline_ckpt.engine import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = syscalls.TABLES[os.uname().machine]
LIBC = ctypes.CDLL(None, use_errno=True)
HERE, EMPTY_PATH, FOLLOW, EXCHANGE = -100, 0x1000, 0x400, 2
PROGRAMS: dict[str, Callable[[], None]] = {}


def program(function: Callable[[], None]) -> Callable[[], None]:
    """Makes a function a program."""
    PROGRAMS[function.__name__] = function
    return function


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None) -> int:
    """Makes a system call; prints what it returns, or its error."""
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(LIBC.syscall(NUMBERS[name], *passed))
    print(name, result if result >= 0 else os.strerror(ctypes.get_errno()))
    return result


def write(name: str | bytes, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> None:
    """Writes a file."""
    descriptor = os.open(name, flags, 0o644)
    print(os.write(descriptor, data))
    os.close(descriptor)


def opened(name: str, data: bytes = b"") -> int:
    """Makes a file that is open for reading and writing."""
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, data)
    return descriptor


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Prints the error that must come."""
    try:
        yield
    except OSError as error:
        print(error.strerror)
    else:
        print("not refused")


def end() -> None:
    """Something that stops the thread, so that what it did before is looked at."""
    write("z", b"end")


@program
def names() -> None:
    """Every old call that gives names."""
    call("mkdir", b"d", 0o755)
    call("mkdir", b"d/", 0o755)
    call("creat", b"d/a", 0o644)
    call("open", b"d/b", os.O_WRONLY | os.O_CREAT, 0o644)
    call("link", b"d/a", b"hard")
    call("symlink", b"d/b", b"soft")
    call("rename", b"d", b"e")
    call("rename", b"e/a", b"e/b")
    call("unlink", b"soft")
    call("unlink", b"nothing")
    call("rmdir", b"e")
    call("truncate", b"e/b", 10)
    call("unlink", b"e/b")
    call("rmdir", b"e/")


@program
def names_at() -> None:
    """Every call that gives names from a directory."""
    call("mkdirat", HERE, b"d", 0o755)
    below = os.open("d", os.O_RDONLY)
    call("openat", below, b"a", os.O_WRONLY | os.O_CREAT, 0o644)
    call("linkat", below, b"a", HERE, b"hard", 0)
    call("symlinkat", b"d/a", HERE, b"soft")
    call("linkat", HERE, b"soft", HERE, b"followed", FOLLOW)
    call("linkat", HERE, b"soft", HERE, b"not_followed", 0)
    call("renameat", below, b"a", HERE, b"d/b")
    call("renameat2", below, b"b", HERE, b"hard", 1)
    call("renameat2", below, b"b", HERE, b"new", 1)
    call("unlinkat", HERE, b"new", 0)
    call("unlinkat", HERE, b"d", 0)
    call("unlinkat", HERE, b"d", 0x200)
    call("mkdirat", 999, b"f", 0o755)


@program
def made_by_mknod() -> None:
    """Regular files, and a name that is there."""
    call("mknod", b"lock", 0o100644, 0)
    write("a", b"1")
    call("mknod", b"lock", 0o100644, 0)
    call("mknodat", HERE, b"mark", 0o644, 0)
    write("t", b"2")
    os.replace("t", "mark")
    os.unlink("lock")


@program
def fifo() -> None:
    """A file that holds nothing."""
    call("mknodat", HERE, b"pipe", 0o010644, 0)


@program
def writes() -> None:
    """Every call that writes bytes, at every place."""
    file = opened("a", b"12345")
    one, other = ctypes.create_string_buffer(b"ab", 2), ctypes.create_string_buffer(b"cde", 3)
    vector = struct.pack("=QQQQ", ctypes.addressof(one), 2, ctypes.addressof(other), 3)
    call("write", file, b"x", 1)
    call("writev", file, vector, 2)
    call("pwrite64", file, b"y", 1, 20)
    call("pwritev", file, vector, 2, 3, 0)
    call("pwritev2", file, vector, 2, 30, 0, 0)
    call("pwritev2", file, vector, 2, -1, 0, 0)
    call("pwritev2", file, vector, 2, 0, 0, 0x10)
    call("pwritev2", file, vector, 2, 2, 0, 0x2)
    call("pwrite64", file, b"y", 1, -5)
    call("pwritev", file, vector, 2, -5, 0)
    call("pwritev", file, vector, 5000, 0, 0)
    end()
    os.unlink("a")
    call("write", file, b"gone", 4)


@program
def appended() -> None:
    """O_APPEND counts, wherever a call wants to write."""
    file = os.open("a", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    call("write", file, b"123", 3)
    call("pwrite64", file, b"456", 3, 0)
    fcntl.fcntl(file, fcntl.F_SETFL, 0)
    call("pwrite64", file, b"7", 1, 0)


@program
def sizes() -> None:
    """Every call that gives a file another size."""
    file = opened("a", b"12345")
    call("ftruncate", file, 3)
    call("ftruncate", file, -1)
    call("truncate", b"a", 8)
    call("truncate", b"a", -1)
    call("fallocate", file, 0, 0, 100)
    call("fallocate", file, 1, 0, 1000)
    call("fallocate", file, 0, 0, 0)
    call("fallocate", file, 0, -1, 10)
    os.lseek(file, 200, os.SEEK_SET)
    call("write", file, b"x", 1)


@program
def durable() -> None:
    """What makes files durable changes nothing."""
    file = opened("a", b"12345")
    for name in ("fsync", "fdatasync", "syncfs"):
        call(name, file)
    call("sync")
    call("fsync", os.open(".", os.O_RDONLY))
    call("fsync", 999)


@program
def never_named() -> None:
    """O_TMPFILE, named through /proc/self/fd; written before and after, and one whose inode is another's again."""
    for name in (b"x", b"y"):
        file = os.open(".", os.O_TMPFILE | os.O_RDWR)
        call("write", file, b"hello", 5)
        call("linkat", HERE, f"/proc/self/fd/{file}".encode(), HERE, name, FOLLOW)
        call("write", file, b" world", 6)
        end()
        os.unlink(name)
        end()
        os.close(file)
    file = os.open(".", os.O_TMPFILE | os.O_RDWR)
    call("pwrite64", file, b"new", 3, 0)
    call("linkat", HERE, f"/dev/fd/{file}".encode(), HERE, b"x", FOLLOW)


@program
def never_named_empty_path() -> None:
    """The same by AT_EMPTY_PATH, and two at a time; one that may not be named."""
    files = [os.open(".", os.O_TMPFILE | os.O_RDWR) for _ in range(2)]
    for number, file in enumerate(files):
        call("write", file, b"%d" % number, 1)
    for number, file in enumerate(files):
        call("linkat", file, b"", HERE, b"x%d" % number, EMPTY_PATH)
    call("linkat", files[0], b"", HERE, b"again", EMPTY_PATH)
    os.unlink("x0")


@program
def gone_and_named_again() -> None:
    """A file without a name gets none, unless it never had one."""
    file = opened("a", b"1")
    os.unlink("a")
    call("linkat", HERE, f"/proc/self/fd/{file}".encode(), HERE, b"b", FOLLOW)
    call("linkat", file, b"", HERE, b"b", EMPTY_PATH)


@program
def through_descriptors() -> None:
    """Paths through /proc/self/fd and /dev/fd."""
    file = opened("a", b"12345")
    again = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_TRUNC)
    end()
    os.write(again, b"new")
    again = os.open(f"/dev/fd/{file}", os.O_WRONLY | os.O_TRUNC)
    end()
    os.write(again, b"newer")
    call("truncate", f"/proc/self/fd/{file}".encode(), 2)
    os.unlink("a")
    again = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_TRUNC)
    os.write(again, b"x")


@program
def through_proc() -> None:
    """Paths through the process's own working directory."""
    write("/proc/self/cwd/a", b"12345")
    write(f"/proc/{os.getpid()}/cwd/b", b"1")
    write("/proc/thread-self/cwd/c", b"1")
    os.mkdir("d")
    below = os.open("d", os.O_RDONLY)
    write(f"/proc/self/fd/{below}/e", b"1")
    os.symlink("/proc/self/cwd/a", "l")
    write("l", b"through")
    os.unlink("/proc/self/cwd/b")
    os.rename("/proc/self/cwd/a", "/dev/fd/../cwd/f")


@program
def no_space() -> None:
    """RLIMIT_FSIZE: writes become short, and are then refused."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file = opened("a", b"")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    call("write", file, b"x" * 20, 20)
    call("write", file, b"y", 1)
    call("pwrite64", file, b"y" * 20, 20, 5)
    call("ftruncate", file, 100)
    call("truncate", b"a", 100)
    call("fallocate", file, 0, 0, 100)
    call("ftruncate", file, 4)


@program
def full() -> None:
    """A disk without space: what is written is not what was asked for."""
    file = opened("a")
    print(os.write(file, b"x" * (1 << 20)))
    with refused():
        os.write(file, b"x")
    os.ftruncate(file, 1)


@program
def short_memory() -> None:
    """A write from memory that ends: it is short, or refused."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 2 * page) as area:
        begin = ctypes.addressof(ctypes.c_char.from_buffer(area))
        area[:] = b"m" * (2 * page)
        assert LIBC.munmap(ctypes.c_void_p(begin + page), page) == 0
        file = opened("a", b"")
        call("write", file, ctypes.c_void_p(begin + page - 10), 20)
        call("write", file, ctypes.c_void_p(begin + page), 20)
        end()
        os._exit(0)


@program
def read_only() -> None:
    """Descriptors that may not be written to."""
    write("a", b"1")
    file, path = os.open("a", os.O_RDONLY), os.open("a", os.O_PATH)
    for descriptor in (file, path, 999):
        call("write", descriptor, b"22", 2)
        call("ftruncate", descriptor, 0)
        call("fallocate", descriptor, 0, 0, 10)
    call("fsync", path)
    os.open("a", os.O_RDONLY | os.O_TRUNC)


@program
def long_names() -> None:
    """Names and paths that are too long, and as long as they may be."""
    for name in (b"n" * 255, b"n" * 256, b"n/" * 3000, b"x" * 10_000, b""):
        call("mkdir", name, 0o755)
        call("openat", HERE, name, os.O_WRONLY | os.O_CREAT, 0o644)
        call("symlink", b"t", name)
        call("rename", b"z", name)
        call("unlink", name)
    call("symlink", b"t" * 5000, b"long")
    os.symlink("loop", "loop")
    call("open", b"loop", os.O_WRONLY | os.O_CREAT, 0o644)
    call("mkdir", b"loop/d", 0o755)


@program
def odd_names() -> None:
    """Bytes that are no text, and a name that looks as if it were deleted."""
    write(b"\xff\xfe", b"1")
    os.rename(b"\xff\xfe", b"n\nl\t\x01")
    write("a (deleted)", b"12")
    write("a (deleted)", b"1", os.O_WRONLY)
    os.truncate("a (deleted)", 5)
    os.unlink("a (deleted)")


@program
def exclusive() -> None:
    """Opens that the kernel refuses."""
    write("a", b"1")
    os.symlink("nothing", "s")
    os.mkdir("d")
    new = os.O_WRONLY | os.O_CREAT
    for name, flags in (
        *(("a", new | os.O_EXCL | os.O_TRUNC), ("s", new | os.O_EXCL), ("s", new | os.O_NOFOLLOW), ("d", new)),
        *(("d", os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY), ("d2", os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY)),
        *(("a/b", new), ("no/b", new), ("no/../b", new), ("a/.", new), ("a/", new), ("e/", new)),
    ):
        with refused():
            os.open(name, flags)
    end()
    write("s", b"made")


@program
def links() -> None:
    """Symbolic links to files and to directories, and their parents."""
    os.mkdir("v1")
    os.mkdir("v2")
    os.symlink("v1", "latest")
    write("latest/x", b"1")
    os.symlink("v2", "new")
    os.rename("new", "latest")
    write("latest/y", b"3")
    write("latest/../w", b"3")
    os.truncate("latest/y", 0)
    for name, target in (("latest", "v1"), ("v1", "latest"), ("latest/", "k"), ("v1/", "e/")):
        call("rename", name.encode(), target.encode())
    with refused():
        os.rmdir("latest/")
    os.symlink("nowhere", "dangling")
    write("dangling", b"new")
    os.unlink("latest")


@program
def hard_links() -> None:
    """An open file is written to after its name is gone, and has another one."""
    file = os.open("a", os.O_RDWR | os.O_CREAT)
    os.link("a", "b")
    os.unlink("a")
    os.write(file, b"zz")
    end()
    os.link("b", "c")
    os.rename("b", "c")
    os.unlink("c")
    os.write(file, b"yy")


@program
def directories() -> None:
    """Directories take the place of others."""
    for name in ("cur", "new", "empty"):
        os.mkdir(name)
    write("cur/x", b"1")
    write("new/x", b"2")
    for name, target in (("cur", "new"), ("cur", "empty"), ("new", "cur"), ("cur", "cur/below"), ("z", "cur")):
        call("rename", name.encode(), target.encode())


@program
def root_moves() -> None:
    """The directory itself gets another name, and its own again."""
    write("a", b"1")
    here = os.getcwd()
    os.rename(here, f"{here}-2")
    end()
    os.rename(f"{here}-2", here)


@program
def openat2() -> None:
    """Its arguments are in memory."""
    for flags, resolve in ((os.O_WRONLY | os.O_CREAT, 0), (os.O_WRONLY | os.O_TRUNC, 0), (os.O_RDONLY, 0)):
        how = struct.pack("=QQQ", flags, 0o644 if flags & os.O_CREAT else 0, resolve)
        file = call("openat2", HERE, b"a", how, len(how))
        if flags & os.O_CREAT:
            os.write(file, b"123")
    end()


@program
def openat2_root() -> None:
    """With another root."""
    how = struct.pack("=QQQ", os.O_WRONLY | os.O_CREAT, 0o644, 0x10)
    call("openat2", os.open(".", os.O_RDONLY), b"/a", how, len(how))


@program
def forked() -> None:
    """Children and a shell."""
    file = os.open("a", os.O_RDWR | os.O_CREAT)
    if os.fork() == 0:
        os.write(file, b"child")
        os._exit(0)
    os.wait()
    os.write(file, b"parent")
    subprocess.run(["sh", "-c", "echo hi > b; echo ho >> b; mv b c; ln -s c d; : > e; rm e"], check=True)


@program
def threaded() -> None:
    """Two threads write to one file, and make each other's names."""

    def work(number: int) -> None:
        for turn in range(50):
            descriptor = os.open("shared", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, b"%d" % number)
            os.close(descriptor)
            Path(f"{number}.tmp").write_bytes(b"x" * turn)
            os.replace(f"{number}.tmp", "last")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@program
def punched() -> None:
    """A hole."""
    call("fallocate", opened("a", b"12345"), 3, 0, 3)


@program
def exchanged() -> None:
    """Two names are exchanged."""
    write("a", b"1")
    write("b", b"2")
    call("renameat2", HERE, b"a", HERE, b"b", EXCHANGE)


@program
def sent() -> None:
    """The kernel copies from file to file."""
    write("a", b"12345")
    call("sendfile", opened("b"), os.open("a", os.O_RDONLY), None, 5)


@program
def spliced() -> None:
    """The kernel copies from a pipe."""
    reads, feeds = os.pipe()
    os.write(feeds, b"abc")
    call("splice", reads, None, opened("b"), None, 3, 0)


@program
def copied() -> None:
    """The kernel copies a range."""
    write("a", b"12345")
    call("copy_file_range", os.open("a", os.O_RDONLY), None, opened("b"), None, 5, 0)


@program
def cloned() -> None:
    """A file system may share blocks."""
    write("a", b"1")
    call("ioctl", opened("b"), syscalls.IOCTLS["FICLONE"], os.open("a", os.O_RDONLY))


@program
def mapped() -> None:
    """Memory that is a file."""
    file = opened("a", b"1" * 4096)
    with mmap.mmap(file, 4096) as memory:
        memory[:1] = b"2"


@program
def asynchronous() -> None:
    """Linux AIO."""
    file, context = opened("a", b"12345"), ctypes.create_string_buffer(8)
    assert LIBC.syscall({"x86_64": 206}.get(os.uname().machine, 0), ctypes.c_long(1), context) == 0
    text = ctypes.create_string_buffer(b"new", 3)
    block = struct.pack("=QIIHhIQQqQII", 0, 0, 0, 1, 0, file, ctypes.addressof(text), 3, 0, 0, 0, 0)
    kept = ctypes.create_string_buffer(block)
    pointers = struct.pack("=Q", ctypes.addressof(kept))
    call("io_submit", int.from_bytes(context.raw, "little"), 1, pointers)


@program
def ring() -> None:
    """io_uring."""
    call("io_uring_setup", 1, None)


@program
def handled() -> None:
    """A file that is opened by its handle."""
    call("open_by_handle_at", HERE, None, os.O_WRONLY)


@program
def socket_name() -> None:
    """A socket gets a name; one without a path gets none."""
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other, socket.socket() as third:
        one.bind("\0abstract-torture")
        third.bind(("127.0.0.1", 0))
        end()
        other.bind("name")


@program
def elsewhere() -> None:
    """What concerns no file below the directory is of no interest."""
    outside = f"{os.getcwd()}-outside"
    os.mkdir(outside)
    file, source = opened(f"{outside}/a", b"12345"), os.open(f"{outside}/a", os.O_RDONLY)
    call("fchmod", file, 0)
    call("fallocate", file, 3, 0, 3)
    call("utimensat", HERE, f"{outside}/a".encode(), struct.pack("=qqqq", 1, 0, 1, 0), 0)
    call("fsetxattr", file, b"user.x", b"1", 1, 0)
    call("sendfile", file, source, None, 5)
    os.unlink(f"{outside}/a")
    os.rmdir(outside)


@program
def touched() -> None:
    """What a restore does not notice: a time that is now, permissions that stay, attributes of others."""
    file = opened("a", b"1")
    call("utimensat", HERE, b"a", None, 0)
    call("utimensat", file, None, struct.pack("=qqqq", 0, 0x3FFFFFFE, 0, 0x3FFFFFFF), 0)
    call("fchmod", file, 0o644)
    call("fremovexattr", file, b"security.nothing")
    os.mkdir("d", 0o700)


def _changes(name: str, make: Callable[[int], int]) -> None:
    PROGRAMS[name] = lambda: print(make(opened("a", b"1")) < 0)
    CHANGES[name] = _LOCKED.get(name, name)


CHANGES: dict[str, str] = {}
"""Programs that make one call which cannot be written down, and which."""
_LOCKED = {"mkdir_locked": "mkdirat", "open_locked": "openat"}
_TIMES = struct.pack("=qqqq", 1, 0, 1, 0)
_ATTRIBUTES = struct.pack("=QII", 0, 0, 0)
for _name, _make in {
    "chmod": lambda file: call("chmod", b"a", 0),
    "fchmod": lambda file: call("fchmod", file, 0),
    "fchmodat": lambda file: call("fchmodat", HERE, b"a", 0),
    "fchmodat2": lambda file: call("fchmodat2", HERE, b"a", 0, 0),
    "utime": lambda file: call("utime", b"a", struct.pack("=qq", 1, 1)),
    "utimes": lambda file: call("utimes", b"a", _TIMES),
    "futimesat": lambda file: call("futimesat", HERE, b"a", _TIMES),
    "utimensat": lambda file: call("utimensat", file, None, _TIMES, 0),
    "setxattr": lambda file: call("setxattr", b"a", b"user.x", b"1", 1, 0),
    "lsetxattr": lambda file: call("lsetxattr", b"a", b"user.x", b"1", 1, 0),
    "fsetxattr": lambda file: call("fsetxattr", file, b"user.x", b"1", 1, 0),
    "setxattrat": lambda file: call("setxattrat", HERE, b"a", 0, b"user.x", _ATTRIBUTES, len(_ATTRIBUTES)),
    "removexattr": lambda file: call("removexattr", b"a", b"user.x"),
    "lremovexattr": lambda file: call("lremovexattr", b"a", b"user.x"),
    "fremovexattr": lambda file: call("fremovexattr", file, b"user.x"),
    "removexattrat": lambda file: call("removexattrat", HERE, b"a", 0, b"user.x"),
    "mkdir_locked": lambda file: call("mkdirat", HERE, b"d", 0),
    "open_locked": lambda file: call("openat", HERE, b"b", os.O_WRONLY | os.O_CREAT, 0),
    "chroot": lambda file: call("chroot", b"nothing"),
    "pivot_root": lambda file: call("pivot_root", b"nothing", b"nothing"),
    "mount": lambda file: call("mount", b"nothing", b"nothing", b"nothing", 0, None),
    "umount2": lambda file: call("umount2", b"nothing", 0),
    "move_mount": lambda file: call("move_mount", HERE, b"nothing", HERE, b"nothing", 0),
}.items():
    if _LOCKED.get(_name, _name) in NUMBERS:
        _changes(_name, _make)


def main() -> None:
    """Runs the program."""
    name, directory, *descriptors = sys.argv[1:]
    if descriptors:
        channel = socket.socket(fileno=int(descriptors[0]))
        listener = syscalls.install()
        socket.send_fds(channel, [b"!"], [listener])
        os.close(listener)
    os.chdir(directory)
    PROGRAMS[name]()
    end()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
