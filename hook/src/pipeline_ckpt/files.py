"""The files of a checkpoint directory: local ones without following links, others by `tf.io.gfile`."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

import tensorflow as tf


def local_path(path: str) -> str | None:
    """A path as the system knows it; None: it is not of the local file systems."""
    scheme, separator, rest = path.partition("://")
    return path if not separator else rest if scheme == "file" else None


def is_there(path: str) -> bool:
    """Whether something has this name, be it a link that leads nowhere."""
    local = local_path(path)
    return bool(tf.io.gfile.exists(path)) if local is None else os.path.lexists(local)


def remove(path: str) -> None:
    """Removes a file, if it is there; of a link only the link.

    Raises:
        OSError: It cannot be removed, or is a directory; a `tf.errors.OpError` where it is not local.
    """
    local = local_path(path)
    if local is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(local)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)


def remove_tree(path: str) -> None:
    """Removes a directory and all in it, if it is there; of links, also in it, only the links.

    `tf.io.gfile.rmtree` empties the directory that a link leads to.

    Raises:
        OSError: It cannot be removed; a `tf.errors.OpError` where it is not local.
    """
    local = local_path(path)
    if local is None:
        if tf.io.gfile.exists(path):
            tf.io.gfile.rmtree(path)
        return
    while os.path.isdir(local) and not os.path.islink(local):
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it too
            shutil.rmtree(local)
    remove(path)


def names_in(directory: str) -> frozenset[str]:
    """The names of what is in a directory.

    Raises:
        OSError: It cannot be listed; a `tf.errors.OpError` where it is not local.
    """
    local = local_path(directory)
    if local is not None:  # several times faster, which counts where there are a hundred thousand
        return frozenset(os.listdir(local))
    return frozenset(name.rstrip("/") for name in tf.io.gfile.listdir(directory))


def write(path: str, content: str) -> None:
    """Writes a file anew; a link that has its name is replaced."""
    remove(path)
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(content)


def rename(source: str, target: str) -> None:
    """Gives a file another name; what had that name is replaced."""
    tf.io.gfile.rename(source, target, overwrite=True)


def link(source: str, target: str) -> None:
    """Gives a file a further name, or copies it where the file system has no hard links; what had it is replaced.

    Raises:
        OSError: There is no such file, or no room; a `tf.errors.OpError` where it is copied.
    """
    here, there = local_path(source), local_path(target)
    remove(target)
    if here is not None and there is not None:
        try:
            os.link(here, there, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:  # none of this file system, or of a file of another user's
            if _same(here, there):  # NFS: the link was made, the answer was lost, and asking again says that it exists
                return
            remove(target)  # a copy into a link would empty what it leads to
        else:
            return
    tf.io.gfile.copy(source, target, overwrite=True)


def _same(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.lstat(one), os.lstat(other))
    return False


def move_to_free_name(source: str, target: str) -> None:
    """Renames a file, and removes it where the name is taken: of several that want it, one gets it.

    Where the file system has no hard links two may, one after the other: look into it.

    Raises:
        OSError: There is no such file; a `tf.errors.OpError` where it cannot be linked.
    """
    here, there = local_path(source), local_path(target)
    try:
        if here is None or there is None:
            raise OSError(errno.EOPNOTSUPP, "not local")
        os.link(here, there)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(tf.errors.AlreadyExistsError):
            tf.io.gfile.rename(source, target, overwrite=False)
    remove(source)


__all__ = [
    "is_there",
    "link",
    "local_path",
    "move_to_free_name",
    "names_in",
    "remove",
    "remove_tree",
    "rename",
    "write",
]
