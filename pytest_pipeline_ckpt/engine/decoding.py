"""A stopped system call -> what it is about to do to the recorded directory.

What the kernel certainly refuses is nothing. What cannot be written down is named, never passed over.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import tracee
from .operations import Act, LogWriter, Operation
from .syscalls import OPEN_FLAGS, WRITING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shadow import Shadow
    from .tracee import Call, Place

_AT_REMOVEDIR, _AT_SYMLINK_FOLLOW, _AT_EMPTY_PATH = 0x200, 0x400, 0x1000
_RENAME_NOREPLACE = 1
_FALLOC_FL_KEEP_SIZE = 1
_RWF_DSYNC, _RWF_SYNC, _RWF_APPEND, _RWF_NOAPPEND = 0x2, 0x4, 0x10, 0x20
_RESOLVE_IN_ROOT = 0x10
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_AF_UNIX = 1
_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY

_WILL_FAIL = (
    *(errno.ENOENT, errno.ESRCH, errno.EIO, errno.EFAULT, errno.ENOTDIR, errno.EBADF),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
"""It was killed meanwhile, or gave a descriptor, an address or a path that is none: the call changes nothing."""
_CHECKPOINT = re.compile(r"\.(index|keras|h5|hdf5|npz|npy|msgpack|pkl|pickle|pt)$|/checkpoint$")
_EXPORTED = "/variables/variables.index"

_Path = tuple[int | None, int]
"""Which arguments are a path: the directory's descriptor, None for the working directory, and the string."""
_NAMED: dict[str, tuple[Act, _Path, _Path | None]] = {
    "open": (Act.CREATE, (None, 0), None),
    "creat": (Act.CREATE, (None, 0), None),
    "openat": (Act.CREATE, (0, 1), None),
    "openat2": (Act.CREATE, (0, 1), None),
    "mknod": (Act.CREATE, (None, 0), None),
    "mknodat": (Act.CREATE, (0, 1), None),
    "truncate": (Act.TRUNCATE, (None, 0), None),
    "rename": (Act.RENAME, (None, 0), (None, 1)),
    "renameat": (Act.RENAME, (0, 1), (2, 3)),
    "renameat2": (Act.RENAME, (0, 1), (2, 3)),
    "link": (Act.LINK, (None, 0), (None, 1)),
    "linkat": (Act.LINK, (0, 1), (2, 3)),
    "symlink": (Act.SYMLINK, (None, 1), None),
    "symlinkat": (Act.SYMLINK, (1, 2), None),
    "unlink": (Act.UNLINK, (None, 0), None),
    "unlinkat": (Act.UNLINK, (0, 1), None),
    "mkdir": (Act.MKDIR, (None, 0), None),
    "mkdirat": (Act.MKDIR, (0, 1), None),
    "rmdir": (Act.RMDIR, (None, 0), None),
}
_MODE = {"open": 2, "creat": 1, "openat": 3, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
"""Which argument says what the owner may do with what is made."""
_WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
_ON_OPEN_FILES = (*_WRITES, "ftruncate", "fallocate", "fsync", "fdatasync")
_OF_EVERYTHING = ("sync", "syncfs")
_ALWAYS_UNSEEN = ("io_uring_setup", "open_by_handle_at", "chroot", "pivot_root", "mount", "move_mount", "umount2")
_UNSEEN: dict[str, tuple[str, _Path | int]] = {
    "sendfile": ("a copy inside the kernel", 0),
    "splice": ("a copy inside the kernel", 2),
    "copy_file_range": ("a copy inside the kernel", 2),
    "ioctl": ("a copy or a change inside the kernel", 0),
    "chmod": ("permissions taken from their owner", (None, 0)),
    "fchmod": ("permissions taken from their owner", 0),
    "fchmodat": ("permissions taken from their owner", (0, 1)),
    "fchmodat2": ("permissions taken from their owner", (0, 1)),
    "setxattr": ("an extended attribute", (None, 0)),
    "lsetxattr": ("an extended attribute", (None, 0)),
    "fsetxattr": ("an extended attribute", 0),
    "setxattrat": ("an extended attribute", (0, 1)),
    "removexattr": ("an extended attribute", (None, 0)),
    "lremovexattr": ("an extended attribute", (None, 0)),
    "fremovexattr": ("an extended attribute", 0),
    "removexattrat": ("an extended attribute", (0, 1)),
    "utime": ("a time that was set", (None, 0)),
    "utimes": ("a time that was set", (None, 0)),
    "futimesat": ("a time that was set", (0, 1)),
    "utimensat": ("a time that was set", (0, 1)),
}
"""What cannot be written down of a file in the directory, and which argument is its path or its descriptor."""
_XATTR = {"setxattrat": 3, "removexattrat": 3}
_TIMES = {"utime": 1, "utimes": 1, "futimesat": 2, "utimensat": 2}
_CHMOD = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a stopped call is about to do."""

    operation: Operation | None = None
    before: Operation | None = None
    """To be written down before it: what is known of a file that never had a name."""
    is_element: bool = False
    unseen: str | None = None
    """Why what it does cannot be written down."""
    outside: str | None = None
    """What it makes outside of the directory."""
    durable: bool = False
    """Whether what it writes is on the disk when it returns."""


_NOTHING = Decoded()


class Decoder:
    """Knows one directory.

    Args:
        root: the directory, without symbolic links.
        log: keeps the bytes of writes.
        shadow: what is in the directory.
        is_element: told the path of every other file that is written to: whether that is one more element.
    """

    def __init__(self, root: str, log: LogWriter, shadow: Shadow, is_element: Callable[[str], bool]) -> None:
        self._root = root
        self._log = log
        self._shadow = shadow
        self._is_element = is_element

    def decode(self, call: Call) -> Decoded:
        """What a call is about to do."""
        try:
            return self._decoded(call)
        except PermissionError:
            return Decoded(unseen="a process whose memory may not be read")
        except OSError as error:
            if error.errno in _WILL_FAIL:
                return _NOTHING
            return Decoded(unseen=f"a call that could not be read ({call.name}: {error.strerror})")

    def _decoded(self, call: Call) -> Decoded:
        if call.name in _NAMED:
            return self._named(call)
        if call.name in _ON_OPEN_FILES:
            return self._on_open_file(call)
        if call.name in _OF_EVERYTHING:
            return self._synced(call)
        if call.name in _ALWAYS_UNSEEN:
            return Decoded(unseen=call.name)
        return Decoded(unseen=self._unseen(call))

    def _named(self, call: Call) -> Decoded:
        """A call that gives paths."""
        act, first, second = _NAMED[call.name]
        if self._must_be_directory(call, act):
            return _NOTHING
        if act is Act.CREATE:
            return self._created(call, first)
        source = self._source(call, first, follows=act is Act.TRUNCATE)
        here = self._inside(source)
        if second is not None:
            return self._renamed_or_linked(call, act, source, second)
        if here is None:
            return _NOTHING
        if call.name == "unlinkat" and call.arguments[2] & _AT_REMOVEDIR:
            act = Act.RMDIR
        if act is Act.TRUNCATE:
            size = call.signed(1)
            return _NOTHING if self._is_too_large(call, size) else Decoded(Operation(act, here, offset=size))
        target = tracee.string(call, call.arguments[0]) if act is Act.SYMLINK else ""
        if act is Act.SYMLINK and not 0 < len(os.fsencode(target)) < tracee.PATH_MAX:
            return _NOTHING
        unseen = self._locked_out(call, 0o700) if act is Act.MKDIR else None
        return Decoded(Operation(act, here, target=target), unseen=unseen)

    @staticmethod
    def _must_be_directory(call: Call, act: Act) -> bool:
        """Whether a path ends with a slash, as only a directory's may, and is none."""
        _, first, second = _NAMED[call.name]
        paths = [(path[0], tracee.string(call, call.arguments[path[1]])) for path in (first, second) if path]
        removes_directory = call.name == "rmdir" or (call.name == "unlinkat" and call.arguments[2] & _AT_REMOVEDIR)
        if act is Act.MKDIR or removes_directory or not any(text.endswith("/") for _, text in paths):
            return False
        there = tracee.place(call, *paths[0], follows=False).path
        return act is not Act.RENAME or os.path.islink(there) or not os.path.isdir(there)

    def _source(self, call: Call, path: _Path, *, follows: bool) -> Place:
        text = tracee.string(call, call.arguments[path[1]])
        if call.name == "linkat":
            follows = bool(call.arguments[4] & _AT_SYMLINK_FOLLOW)
            if not text and call.arguments[4] & _AT_EMPTY_PATH:
                return tracee.opened(call.thread, call.descriptor(0))
        return tracee.place(call, path[0], text, follows=follows)

    def _renamed_or_linked(self, call: Call, act: Act, source: Place, second: _Path) -> Decoded:
        other = tracee.place(call, second[0], tracee.string(call, call.arguments[second[1]]), follows=False)
        here, there = self._inside(source), self._inside(other)
        if (here is None) != (there is None):
            # Something comes into the directory whose contents were not seen, or goes where it is not followed.
            outside = source.path if here is None else other.path
            return Decoded(unseen=f"a {call.name} between the checkpoint directory and {outside}")
        if here is None or there is None:
            return Decoded(outside=_checkpoint(other.path))
        exclusive = False
        if call.name == "renameat2":
            if call.arguments[4] & ~_RENAME_NOREPLACE:
                return Decoded(unseen="an exchanging rename (renameat2)")
            exclusive = bool(call.arguments[4] & _RENAME_NOREPLACE)
        if not here and not source.unnamed:
            return _NOTHING  # what has no name any more cannot get one
        return Decoded(Operation(act, here, target=there, exclusive=exclusive, inode=source.inode))

    def _created(self, call: Call, path: _Path) -> Decoded:
        """A call that opens a file for writing, or makes one."""
        flags, unseen = self._flags(call)
        if flags is None:
            return Decoded(unseen=unseen)
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        follows = not (exclusive or flags & os.O_NOFOLLOW)
        there = tracee.place(call, path[0], tracee.string(call, call.arguments[path[1]]), follows=follows)
        here = self._inside(there)
        if here is None:
            return Decoded(outside=_checkpoint(there.path) if flags & os.O_CREAT else None)
        if flags & _TMPFILE == _TMPFILE or (flags & os.O_CREAT and flags & os.O_DIRECTORY):
            return _NOTHING  # it has no name yet; no directory can be made so
        if not follows and not exclusive and os.path.islink(there.path):
            return _NOTHING
        if not here:
            cut = Operation(Act.TRUNCATE, "", inode=there.inode)
            return Decoded(cut) if flags & os.O_TRUNC else _NOTHING
        if flags & os.O_CREAT and not os.path.lexists(there.path):
            unseen = unseen or self._locked_out(call, 0o600)
        made = Operation(
            *(Act.CREATE, here),
            creates=bool(flags & os.O_CREAT),
            exclusive=exclusive,
            truncates=bool(flags & os.O_TRUNC),
        )
        return Decoded(made, unseen=unseen)

    def _flags(self, call: Call) -> tuple[int | None, str | None]:
        """How a call opens or makes a file, as the flags of `open(2)`; None: it does not write. What is not seen."""
        if call.name == "creat":
            return os.O_CREAT | os.O_WRONLY | os.O_TRUNC, None
        if call.name.startswith("mknod"):
            kind = stat.S_IFMT(call.arguments[_MODE[call.name]])
            special = None if kind in (0, stat.S_IFREG) else f"a special file ({call.name})"
            if special is None:
                return os.O_CREAT | os.O_EXCL, None
            path = self._source(call, _NAMED[call.name][1], follows=False)
            return None, special if self._inside(path) is not None else None
        if call.name == "openat2":
            flags, _, resolve = struct.unpack("=QQQ", tracee.memory(call, call.arguments[2], 24))
            if not flags & WRITING:
                return None, None
            return (None, "openat2 with another root") if resolve & _RESOLVE_IN_ROOT else (flags, None)
        return call.arguments[OPEN_FLAGS[call.name]], None

    @staticmethod
    def _locked_out(call: Call, needed: int) -> str | None:
        mode = call.arguments[_MODE[call.name]] if call.name in _MODE else needed
        return None if mode & needed == needed else f"permissions taken from their owner ({call.name})"

    def _on_open_file(self, call: Call) -> Decoded:
        descriptor = call.descriptor(0)
        there = tracee.opened(call.thread, descriptor)
        here = self._inside(there)
        if here is None:
            return Decoded(is_element=call.name in _WRITES and self._is_element(there.path))
        magic = f"/proc/{call.thread}/fd/{descriptor}"
        status = os.stat(magic)
        if not here and there.links and not there.unnamed:
            here = self._shadow.name_of(there.inode) or ""
        position, flags = tracee.descriptor_state(call.thread, descriptor)
        if flags & os.O_PATH:
            return _NOTHING
        if call.name in ("fsync", "fdatasync"):
            return Decoded(Operation(Act.FSYNC, here, inode=status.st_ino))
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return _NOTHING
        if call.name in ("ftruncate", "fallocate"):
            return self._resized(call, here, status)
        return self._written(call, here, status, position, flags)

    def _resized(self, call: Call, here: str, status: os.stat_result) -> Decoded:
        size = call.signed(1)
        if call.name == "fallocate":
            mode, begin, amount = call.arguments[1], call.signed(2), call.signed(3)
            if mode & ~_FALLOC_FL_KEEP_SIZE:
                return Decoded(unseen="a hole punched into a file (fallocate)")
            keeps = mode & _FALLOC_FL_KEEP_SIZE or begin < 0 or amount <= 0
            size = status.st_size if keeps else max(status.st_size, begin + amount)
        if size > status.st_size and self._is_too_large(call, size):
            return _NOTHING
        return _NOTHING if size < 0 else Decoded(Operation(Act.TRUNCATE, here, offset=size, inode=status.st_ino))

    def _written(self, call: Call, here: str, status: os.stat_result, position: int, flags: int) -> Decoded:
        extra = call.arguments[5] if call.name == "pwritev2" else 0
        offset = position
        if call.name.startswith("p") and not (call.name == "pwritev2" and call.signed(3) == -1):
            offset = call.signed(3)
        if offset < 0 or ("writev" in call.name and call.signed(2) > tracee.MOST_VECTORS):
            return _NOTHING
        if extra & _RWF_APPEND or (flags & os.O_APPEND and not extra & _RWF_NOAPPEND):
            offset = status.st_size
        limit = tracee.largest_file(call.thread)
        most = tracee.MOST_BYTES if limit is None else min(tracee.MOST_BYTES, limit - offset)
        if most <= 0:
            return _NOTHING
        blob = self._log.blob(tracee.written(call, most))
        written = Operation(Act.WRITE, here, offset=offset, blob=blob, inode=status.st_ino)
        durable = bool(flags & os.O_DSYNC or extra & (_RWF_DSYNC | _RWF_SYNC))
        # An inode that never had a name may have been another file's before: what it has now is what counts.
        begun = Operation(Act.TRUNCATE, "", inode=status.st_ino) if not here and not status.st_size else None
        return Decoded(written, begun, durable=durable)

    def _is_too_large(self, call: Call, size: int) -> bool:
        limit = tracee.largest_file(call.thread)
        return size < 0 or (limit is not None and size > limit)

    def _synced(self, call: Call) -> Decoded:
        """An fsync of the directory without an inode is one of everything below it."""
        if call.name == "syncfs":
            descriptor = f"/proc/{call.thread}/fd/{call.descriptor(0)}"
            if os.stat(descriptor).st_dev != os.stat(self._root).st_dev:
                return _NOTHING
        return Decoded(Operation(Act.FSYNC, "."))

    def _unseen(self, call: Call) -> str | None:
        """What cannot be written down; None if it does not concern the directory."""
        if call.name == "mmap":
            return self._mapped(call)
        if call.name == "io_submit":
            return self._submitted(call)
        if call.name == "bind":
            return self._bound(call)
        what, where = _UNSEEN[call.name]
        if not self._concerns(call, where) or not self._matters(call):
            return None
        return f"{what} ({call.name})"

    def _concerns(self, call: Call, where: _Path | int) -> bool:
        if isinstance(where, int):
            return self._inside(tracee.opened(call.thread, call.descriptor(where))) is not None
        address = call.arguments[where[1]]
        text = tracee.string(call, address) if address else ""
        if not text and where[0] is not None:
            return self._inside(tracee.opened(call.thread, call.descriptor(where[0]))) is not None
        return self._inside(tracee.place(call, where[0], text, follows=not call.name.startswith("l"))) is not None

    @staticmethod
    def _matters(call: Call) -> bool:
        """Whether a restore may notice: it must still be able to read and write, and may look for what is newest."""
        if call.name in _CHMOD:
            return call.arguments[_CHMOD[call.name]] & 0o600 != 0o600
        if "xattr" in call.name:
            return tracee.string(call, call.arguments[_XATTR.get(call.name, 1)]).startswith("user.")
        if call.name == "utimensat" and call.arguments[2]:
            *_, nanoseconds = struct.unpack("=qqqq", tracee.memory(call, call.arguments[2], 32))
            return nanoseconds not in (_UTIME_NOW, _UTIME_OMIT)
        return call.name not in _TIMES or bool(call.arguments[_TIMES[call.name]])

    def _mapped(self, call: Call) -> str | None:
        descriptor = call.descriptor(4)
        if self._inside(tracee.opened(call.thread, descriptor)) is None:
            return None
        _, flags = tracee.descriptor_state(call.thread, descriptor)
        return "a shared mapping of a file" if flags & os.O_ACCMODE != os.O_RDONLY else None

    def _submitted(self, call: Call) -> str | None:
        """Of asynchronous calls (io_submit(2)) each has a descriptor, 20 bytes behind its beginning."""
        pointers = tracee.memory(call, call.arguments[2], 8 * min(call.arguments[1], 1024))
        for (pointer,) in struct.iter_unpack("=Q", pointers):
            (descriptor,) = struct.unpack("=i", tracee.memory(call, pointer + 20, 4))
            if self._inside(tracee.opened(call.thread, descriptor)) is not None:
                return "an asynchronous write (io_submit)"
        return None

    def _bound(self, call: Call) -> str | None:
        """A socket gets a name where its address is a path: unix(7)."""
        address = tracee.memory(call, call.arguments[1], min(call.arguments[2], 110))
        name = address[2:].split(b"\0")[0]
        if int.from_bytes(address[:2], "little") != _AF_UNIX or not name:
            return None
        there = tracee.place(call, None, os.fsdecode(name), follows=False)
        return None if self._inside(there) is None else "a socket (bind)"

    def _inside(self, place: Place) -> str | None:
        """The path relative to the directory, empty if it is a name that is gone; None if it is elsewhere."""
        if not place.path.startswith("/"):
            return None  # a pipe, a socket
        if place.path == self._root:
            return "."
        if not place.path.startswith(f"{self._root}/"):
            return None
        return "" if place.inode else place.path[len(self._root) + 1 :]


def _checkpoint(path: str) -> str | None:
    """The path, if it is a name that a checkpoint has."""
    return path if _CHECKPOINT.search(path) and not path.endswith(_EXPORTED) else None


__all__ = ["Decoded", "Decoder"]
