"""Faults of a file system, and of who copies or tidies up: nothing is begun over, and nothing lost that counts.

In a fork each; see `scenarios`.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any
from unittest import mock

import tensorflow as tf
from pipeline_ckpt import NoUsableCheckpointError
from pipeline_ckpt.whole import newest_whole
from scenarios import print_outcomes
from writers import Directory, content, save, superseded

if TYPE_CHECKING:
    from collections.abc import Sequence


def what_nobody_says_of_whether_it_counts_is_not_begun_over() -> None:
    """Checkpoints without their token, copied or restored, and a start that is gone: a training was here."""
    directory = Directory()
    save(directory.begin(), 10)
    later = directory.begin()
    token = directory.path / "ckpt.2.token"
    kept = token.read_text()
    for path in directory.path.glob("*.token"):
        path.unlink()
    names = sorted(f"ckpt-10.{one}" for one in (later.incarnation, *_incarnations(directory, 1)))
    assert directory.store().committed()[1] == [
        f"{name} without ckpt.{name[8]}.token, which says whether it counts" for name in sorted(names)
    ]
    _refused_as_whole(directory)
    token.write_text(kept)
    assert directory.steps() == [10]
    for path in directory.path.glob("ckpt-10.2-*"):
        path.unlink()
    (problem,) = directory.store().committed()[1]
    assert problem == f"ckpt-10, from which process {os.getpid()} on {socket.gethostname()} has gone on, is gone"
    _refused_as_whole(directory)


def _incarnations(directory: Directory, number: int) -> set[str]:
    return {name.split(".")[1] for name in directory.names(f"ckpt-*.{number}-*")}


def _refused_as_whole(directory: Directory) -> None:
    before = directory.names()
    try:
        newest_whole(directory.store())
    except NoUsableCheckpointError:
        assert directory.names() == before
        return
    raise AssertionError("a training begins over another one")


def a_link_that_was_made_and_failed() -> None:
    """NFS: the answer is lost, and asking again says that the name is taken. What it leads to is not emptied."""
    directory = Directory()
    first = directory.begin()
    save(first, 10)
    link = os.link

    def made(source: Any, target: Any, **more: Any) -> None:
        link(source, target, **more)
        raise FileExistsError(errno.EEXIST, "File exists", target)

    with mock.patch.object(os, "link", made):
        directory.begin()
    assert content(directory, 10) == first.incarnation
    assert not superseded(directory.begin(), 20)


def a_start_whose_token_may_be_there_keeps_what_it_goes_on_from() -> None:
    """It fails directly behind its token, or as it looks at it: whoever comes next goes on from there."""
    for broken in ("_list", "_is_there"):
        directory = Directory()
        first = directory.begin()
        save(first, 10)
        second = directory.store()
        (mark,) = second.committed()[0]
        assert second.hold(mark) is not None
        save(first, 20)
        for path in directory.path.glob(f"ckpt-10.{first.incarnation}*"):
            path.unlink()  # as the first prunes it

        def fail(*_: Any) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        with mock.patch.object(second, broken, fail):
            try:
                second.take()
            except OSError:
                second.drop()
        assert directory.steps() == [10], broken


def a_start_without_a_token_drops_what_it_held() -> None:
    """The disk is full before there is a token: nothing is left of it."""
    directory = Directory()
    save(directory.begin(), 10)
    before = directory.names()
    second = directory.store()
    (mark,) = second.committed()[0]
    assert second.hold(mark) is not None

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(second, "_write_claim", full):
        try:
            second.take()
        except OSError:
            second.drop()
    assert directory.names() == before


def a_token_that_cannot_be_read_is_nobody_elses() -> None:
    """The save fails, which is no reason to end; the next one is made."""
    directory = Directory()
    store = directory.begin()

    def fail(number: int) -> Any:
        error = tf.errors.UnknownError(None, None, "Stale file handle")
        raise NoUsableCheckpointError("not read") from error

    with mock.patch.object(store, "_read_token", fail):
        try:
            save(store, 10)
        except tf.errors.UnknownError:
            store.abandon(10)
    save(store, 20)
    assert directory.steps() == [20]
    assert not directory.names("ckpt-10*")


def a_save_that_fails_behind_its_pair_leaves_nothing() -> None:
    """The disk is full when the mark is to be written."""
    directory = Directory()
    store = directory.begin()
    save(store, 10)
    before = directory.names()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(store, "_write_mark", full):
        try:
            save(store, 20)
        except OSError:
            store.abandon(20)
    assert directory.names() == before
    store.abandon(10)
    assert directory.steps() == [10]


def without_tokens_a_superseded_process_stays_so() -> None:
    """A person has removed the tokens only, and the successor has saved."""
    directory = Directory()
    first = directory.begin()
    save(first, 10)
    second = directory.begin()
    save(second, 20)
    for path in directory.path.glob("*.token"):
        path.unlink()
    assert superseded(first, 30)
    assert not superseded(second, 30)
    assert directory.steps()[0] == 30


SCENARIOS: Sequence[Any] = [
    what_nobody_says_of_whether_it_counts_is_not_begun_over,
    a_link_that_was_made_and_failed,
    a_start_whose_token_may_be_there_keeps_what_it_goes_on_from,
    a_start_without_a_token_drops_what_it_held,
    a_token_that_cannot_be_read_is_nobody_elses,
    a_save_that_fails_behind_its_pair_leaves_nothing,
    without_tokens_a_superseded_process_stays_so,
]

if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    print_outcomes(SCENARIOS)
