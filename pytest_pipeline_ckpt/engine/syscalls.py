"""Stops the system calls of a process that may change files, without privileges: tables and the seccomp filter.

The child installs a seccomp filter (`install`) that stops each system call which may change files until a supervisor
has answered; it needs no privilege but `no_new_privs`, and a container whose profile allows `seccomp(2)`, as Docker's
does. The supervisor (`operation_recorder`) sees a call *before* it happens.
Sources: seccomp(2), seccomp_unotify(2), include/uapi/linux/{seccomp,filter,audit}.h. Linux >= 5.5.

A file system that is not the kernel's (an object store) makes no system calls on files at all.

Numbers of system calls: `TABLES`. The one of aarch64 is checked against the kernel's headers by a test, and untested
otherwise. Of the whole table these change files and are left out: those that change owners, which only a privileged
process can. All others only read, or work on descriptors, memory and processes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

X86_64 = {
    "write": 1, "open": 2, "mmap": 9, "ioctl": 16, "pwrite64": 18, "writev": 20, "sendfile": 40, "bind": 49,
    "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "utime": 132, "mknod": 133, "pivot_root": 155,
    "chroot": 161, "sync": 162, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
    "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "io_submit": 209, "utimes": 235, "openat": 257,
    "mkdirat": 258, "mknodat": 259, "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268, "splice": 275, "utimensat": 280, "fallocate": 285, "pwritev": 296, "open_by_handle_at": 304,
    "syncfs": 306, "renameat2": 316, "copy_file_range": 326, "pwritev2": 328, "io_uring_setup": 425, "move_mount": 429,
    "openat2": 437, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
}  # fmt: skip
AARCH64 = {
    "io_submit": 2, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
    "fremovexattr": 16, "ioctl": 29, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
    "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41, "truncate": 45, "ftruncate": 46, "fallocate": 47,
    "chroot": 51, "fchmod": 52, "fchmodat": 53, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70,
    "sendfile": 71, "splice": 76, "sync": 81, "fsync": 82, "fdatasync": 83, "utimensat": 88, "bind": 200, "mmap": 222,
    "open_by_handle_at": 265, "syncfs": 267, "renameat2": 276, "copy_file_range": 285, "pwritev2": 287,
    "io_uring_setup": 425, "move_mount": 429, "openat2": 437, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
}  # fmt: skip
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""`AUDIT_ARCH_*`."""
OPEN_FLAGS = {"open": 1, "openat": 2, "open_by_handle_at": 2}
"""Which argument has the flags of `open(2)`."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
NOTIFICATION, RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
IOCTLS = {
    "FICLONE": 0x40049409, "FICLONERANGE": 0x4020940D, "FS_IOC_SETFLAGS": 0x40086602, "FS_IOC_FSSETXATTR": 0x401C5820,
    "FS_IOC_RESVSP": 0x40305828, "FS_IOC_UNRESVSP": 0x40305829, "FS_IOC_RESVSP64": 0x4030582A,
    "FS_IOC_UNRESVSP64": 0x4030582B, "FS_IOC_ZERO_RANGE": 0x40305839,
}  # fmt: skip
"""Those that change files: include/uapi/linux/fs.h, falloc.h."""

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|..., BPF_RET|K
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 38, 1, 1 << 3, 1 << 5
_MAP_SHARED = 1


class RecordingUnavailableError(OSError):
    """The kernel, or the container's profile, does not let a process be recorded."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def _ioctl(number: int, size: int, direction: int) -> int:
    return direction << 30 | size << 16 | ord("!") << 8 | number


RECEIVE = _ioctl(0, NOTIFICATION.size, 3)
SEND = _ioctl(1, RESPONSE.size, 3)


def _argument(index: int) -> int:
    return _ARGUMENTS + 8 * index  # the low word: both architectures are little-endian


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter: which calls are stopped. What does not concern files is let through at once."""
    stop, let = (_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)
    lines = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, ARCHITECTURES[machine]), stop, (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), stop]
    for name, number in TABLES[machine].items():
        if name in OPEN_FLAGS:
            body = [(_LOAD, 0, 0, _argument(OPEN_FLAGS[name])), (_ANY_BIT, 0, 1, WRITING), stop, let]
        elif name == "mmap":
            body = [
                *((_LOAD, 0, 0, _argument(3)), (_ANY_BIT, 0, 3, _MAP_SHARED)),
                *((_LOAD, 0, 0, _argument(4)), (_EQUAL, 1, 0, 0xFFFFFFFF), stop, let),
            ]
        elif name == "ioctl":
            asked = [(_EQUAL, len(IOCTLS) - at, 0, number) for at, number in enumerate(IOCTLS.values())]
            body = [(_LOAD, 0, 0, _argument(1)), *asked, let, stop]
        else:
            body = [stop]
        lines += [(_EQUAL, 0, len(body), number), *body]
    return [*lines, let]


def install() -> int:
    """Stops the file operations of this process and of all that it will start; returns the supervisor's descriptor.

    Call it in the child, before it has threads, and hand the descriptor to another process: calls of this one that the
    filter stops would wait for ever.

    Raises:
        RecordingUnavailableError: the kernel or the container refuses, or the machine is not known.
    """
    machine = platform.machine()
    if machine not in TABLES:
        raise RecordingUnavailableError(errno.ENOSYS, f"file operations cannot be recorded on {machine!r}: {_known()}")
    lines = _program(machine)
    array = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    program = _Program(len(lines), array)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _refused("no_new_privs")
    # Without _WAIT_KILLABLE (Linux 5.19) a signal handler may interrupt a call that was stopped: it is stopped again.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        descriptor = libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, flags, ctypes.byref(program))
        if descriptor >= 0:
            return int(descriptor)
        if ctypes.get_errno() != errno.EINVAL:
            break
    raise _refused("seccomp")


def _known() -> str:
    return f"the tables are those of {' and '.join(TABLES)}"


def _refused(what: str) -> RecordingUnavailableError:
    code = ctypes.get_errno()
    return RecordingUnavailableError(
        code,
        f"{what} was refused ({os.strerror(code)}): recording needs Linux >= 5.5, a container profile that allows "
        "seccomp, and a process that is not recorded already",
    )


__all__ = ["AARCH64", "TABLES", "X86_64", "RecordingUnavailableError", "install"]
