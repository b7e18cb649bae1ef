"""Removing and writing files of a checkpoint directory: local ones without following links, others by `tf.io.gfile`."""

from __future__ import annotations

import contextlib
import os
import shutil

import tensorflow as tf


def local_path(path: str) -> str | None:
    """A path as the system knows it; None: it is not of the local file systems."""
    scheme, separator, rest = path.partition("://")
    return path if not separator else rest if scheme == "file" else None


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
    elif os.path.isdir(local) and not os.path.islink(local):
        shutil.rmtree(local)
    else:
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


__all__ = ["local_path", "names_in", "remove", "remove_tree", "write"]
