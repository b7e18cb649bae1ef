"""Runs a command as in a container, an ordinary user: `python container.py PROFILE COMMAND...`.

`docker` is Docker's default seccomp profile (github.com/moby/profiles, seccomp/v0.2.3) as it is for who has no
capabilities. That profile lists what is allowed; here is what it refuses, with the same effect on all that a training
or the recorder uses. EPERM is the answer, but ENOSYS to clone3, so that the C library falls back to clone, and, as
runc does, to each call that is newer than the profile. Calls that no kernel has any more are not listed; of another
architecture's none is allowed. `no-seccomp` refuses seccomp(2) and its older form in prctl(2) besides, as hardened
profiles do.

Root becomes nobody, everybody else stays who they are. What the command needs may be below a directory that only root
can enter (its home): then it is shown at the same path in a mount namespace, as a container's image would have it.
Without the right to make one there is a `hindrance`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NOBODY = 65534
PROFILES = ("docker", "no-seccomp")

_NEW = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "set_mempolicy_home_node": 450, "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460, "lsm_list_modules": 461,
}  # fmt: skip
"""They have one number on all machines."""
REFUSED = {
    "x86_64": {
        "syslog": 103, "ustat": 136, "sysfs": 139, "vhangup": 153, "pivot_root": 155, "acct": 163,
        "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
        "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227,
        "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279,
        "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308, "kcmp": 312,
        "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, **_NEW,
    },
    "aarch64": {
        "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "vhangup": 58,
        "quotactl": 60, "acct": 89, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
        "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "setdomainname": 162,
        "settimeofday": 170, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225,
        "mbind": 235, "get_mempolicy": 236, "set_mempolicy": 237, "migrate_pages": 238, "move_pages": 239,
        "perf_event_open": 241, "fanotify_init": 262, "open_by_handle_at": 265, "setns": 268, "kcmp": 272,
        "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294, **_NEW,
    },
}  # fmt: skip
DEPENDS = {
    "x86_64": {"socket": 41, "clone": 56, "personality": 135, "prctl": 157, "seccomp": 317, "clone3": 435},
    "aarch64": {"personality": 92, "prctl": 167, "socket": 198, "clone": 220, "seccomp": 277, "clone3": 435},
}
"""What is refused for some arguments, in one profile, or otherwise than with EPERM."""
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_NEWEST = 466  # removexattrat; x32's numbers are beyond it too
_NAMESPACES = 0x7E020000  # CLONE_NEW*
_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|..., BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_CAP_SYS_ADMIN = 21

_Line = tuple[int, int, int, int]
_ALLOW: _Line = (_RETURN, 0, 0, 0x7FFF0000)
_EPERM: _Line = (_RETURN, 0, 0, 0x50000 | errno.EPERM)
_ENOSYS: _Line = (_RETURN, 0, 0, 0x50000 | errno.ENOSYS)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def hindrance() -> str | None:
    """Why there can be no container here, None if there can."""
    if platform.machine() not in REFUSED:
        return f"the profile has no numbers of system calls for {platform.machine()}"
    if os.geteuid() != 0:
        return None
    home = Path(tempfile.gettempdir(), "home")
    closed = {path for path in _needed() if not _may_be_entered(path)}
    if not _may_mount():
        closed |= {at for path in (*_needed(), home) if (at := _closed(path)) is not None}
    return f"an ordinary user cannot enter {', '.join(sorted(map(str, closed)))}" if closed else None


def _needed() -> list[Path]:
    """The interpreter, its packages and the checkout."""
    return [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).resolve().parents[2]]


def _closed(path: Path) -> Path | None:
    """The outermost directory on the way to a path that others may not enter."""
    return next((parent for parent in reversed(path.parents) if not _may_be_entered(parent)), None)


def _may_be_entered(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> _CAP_SYS_ADMIN & 1)


def _show(paths: Iterable[Path]) -> None:
    """Shows what is behind closed directories, and nothing else of them, to this process and its children."""
    behind = {path: closed for path in sorted(paths) if (closed := _closed(path)) is not None}
    if not behind:
        return
    _libc("unshare", _CLONE_NEWNS)
    _libc("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    opened = {path: os.open(path, os.O_PATH) for path in behind}
    for closed in set(behind.values()):
        _libc("mount", b"tmpfs", os.fsencode(closed), b"tmpfs", 0, b"mode=755")
    for path, descriptor in opened.items():
        path.mkdir(parents=True, exist_ok=True)
        _libc("mount", b"/proc/self/fd/%d" % descriptor, os.fsencode(path), None, _MS_BIND, None)
        os.close(descriptor)
    os.chdir(Path.cwd())  # as it is shown now


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _restrict(lines: list[_Line]) -> None:
    """Puts this process, and all that it will start, under a filter."""
    array = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    _libc("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc("prctl", _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program(len(lines), array)), 0, 0)


def _filter(profile: str, machine: str) -> list[_Line]:
    numbers = DEPENDS[machine]
    lines = [
        *((_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), _ENOSYS),
        *((_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _NEWEST + 1), _ENOSYS),
        *_call(numbers["clone3"], [_ENOSYS]),
        *_call(numbers["clone"], _by_argument(_ANY_BIT, [_NAMESPACES], _EPERM, _ALLOW)),
        *_call(numbers["socket"], _by_argument(_EQUAL, _FAMILIES, _EPERM, _ALLOW)),
        *_call(numbers["personality"], _by_argument(_EQUAL, _PERSONALITIES, _ALLOW, _EPERM)),
    ]
    for number in REFUSED[machine].values():
        lines += _call(number, [_EPERM])
    if profile == "no-seccomp":
        lines += _call(numbers["seccomp"], [_EPERM])
        lines += _call(numbers["prctl"], _by_argument(_EQUAL, [_PR_SET_SECCOMP], _EPERM, _ALLOW))
    return [*lines, _ALLOW]


def _call(number: int, body: list[_Line]) -> list[_Line]:
    return [(_EQUAL, 0, len(body), number), *body]


def _by_argument(comparison: int, values: Iterable[int], matching: _Line, otherwise: _Line) -> list[_Line]:
    """One answer if the first argument is one of the values, or has one of the bits, and another if not."""
    lines = [line for value in values for line in ((comparison, 0, 1, value), matching)]
    return [(_LOAD, 0, 0, _FIRST_ARGUMENT), *lines, otherwise]


def _libc(name: str, *arguments: object) -> None:
    """Calls a function of the C library; raises OSError."""
    if ctypes.CDLL(None, use_errno=True)[name](*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def main() -> None:
    """Becomes the command."""
    profile, *command = sys.argv[1:]
    if profile not in PROFILES:
        raise SystemExit(f"{profile!r} is none of {', '.join(PROFILES)}")
    if os.geteuid() == 0:
        _show([*_needed(), Path.cwd()])
        _become_nobody()
    _restrict(_filter(profile, platform.machine()))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
