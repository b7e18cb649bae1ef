"""Processes that write into one directory, one after the other or at once, in a fork each; see `scenarios`."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from interleaved import interleave, pace
from pipeline_ckpt import NoUsableCheckpointError, SupersededError
from pipeline_ckpt.marks import PARTS, Mark
from scenarios import print_outcomes
from writers import Directory, content, save, superseded

if TYPE_CHECKING:
    from collections.abc import Sequence


def old(directory: Directory, *steps: int) -> None:
    """Checkpoints of format 1."""
    for step in steps:
        sizes = {}
        for part in PARTS:
            (directory.path / f"ckpt-{step}{part}").write_text("old")
            sizes[f"ckpt-{step}{part}"] = 3
        mark = {"format": 1, "step": step, "iterators": [], "holds": "iterator", "began": 0, "ended": False}
        mark |= {"elements_per_step": None, "varies": False, "taken": None, "signature": None, "bytes": sizes}
        (directory.path / f"ckpt-{step}.commit").write_text(json.dumps(mark))


def every_way_to_stop_two_writers_that_begin() -> None:
    """In an empty directory."""
    pace()
    assert interleave(earlier=0) > 30


def every_way_to_stop_two_writers_that_go_on() -> None:
    """Where another one has saved."""
    pace()
    assert interleave(earlier=1) > 60


def who_is_superseded_is_told_so() -> None:
    """By whom, from where that one goes on, and what to do; and nothing is marked."""
    directory = Directory()
    first = directory.begin()
    save(first, 10, 20)
    second = directory.begin(10)
    save(second, 20)
    said = superseded(first, 30)
    process = f"process {os.getpid()} on {os.uname().nodename}"
    assert said == (
        f"The training in {directory.path} was taken over by {process}, which goes on from ckpt-10: what is there is "
        "whole, and nothing that this process saves would count any more. End this process, or let it train in another "
        "directory."
    ), said
    assert not directory.names(f"ckpt-30.{first.incarnation}.commit")
    assert directory.steps() == [20, 10]
    assert content(directory, 20) == second.incarnation


def the_same_step_is_saved_twice() -> None:
    """A process that was stopped inside of a save, after it had looked, replaces nothing."""
    directory = Directory()
    first = directory.begin()
    save(first, 10)
    second = directory.begin()
    check = first.check
    first.check = lambda listing=None: save(second, 20)  # type: ignore[method-assign]
    save(first, 20)
    first.check = check  # type: ignore[method-assign]
    assert content(directory, 20) == second.incarnation
    assert superseded(first, 30)


def a_second_resume_in_a_process_goes_on() -> None:
    """Also back to an older checkpoint: what was newer does not count any more."""
    directory = Directory()
    save(directory.begin(), 10, 20, 30)
    second = directory.begin()
    save(second, 40)
    assert directory.steps() == [40, 30, 20, 10]
    third = directory.begin(20)
    assert directory.steps() == [20, 10]
    save(third, 30)
    assert directory.steps() == [30, 20, 10]
    assert content(directory, 30) == third.incarnation


def a_start_that_was_deleted_meanwhile() -> None:
    """Whoever still saves has pruned it: another one is chosen."""
    directory = Directory()
    first = directory.begin(max_to_keep=1)
    save(first, 10)
    second = directory.store()
    (mark,) = second.committed()[0]
    save(first, 20)
    first.prune()
    assert second.hold(mark) is None
    assert not directory.names("*.2-*")
    (mark,) = second.committed()[0]
    held = second.hold(mark)
    assert held is not None
    second.take()
    assert directory.steps() == [20]


def a_start_that_is_held_cannot_be_deleted() -> None:
    """By whoever still saves, before the directory is taken and after that."""
    directory = Directory()
    first = directory.begin(max_to_keep=1)
    save(first, 10)
    second = directory.store(max_to_keep=1)
    held = second.hold(second.committed()[0][0])
    assert held is not None
    save(first, 20)
    first.prune()
    assert directory.steps() == [20]  # it does not count yet
    second.take()
    assert directory.steps() == [10]
    assert superseded(first, 30)
    first.prune()
    assert (directory.steps(), content(directory, 10)) == ([10], first.incarnation)


def a_loss_that_is_no_number_can_be_gone_on_from() -> None:
    """It does not equal itself."""
    directory = Directory()
    store = directory.begin()
    save(store, 10)
    store.renew(Mark(10, (), extra={"logs": {"loss": float("nan")}}, incarnation=store.incarnation))
    assert directory.begin().incarnation.startswith("2-")
    assert directory.steps() == [10]


def of_two_that_begin_at_once_one_goes_on() -> None:
    """The second to put its token in place has the number of the first: it is told, and nothing is lost."""
    directory = Directory()
    save(directory.begin(), 10)
    stores = directory.store(), directory.store()
    for store in stores:
        assert store.hold(store.committed()[0][0]) is not None
    stores[1].take()
    save(stores[1], 20)
    try:
        with stores[0].holding():
            stores[0].take()
    except SupersededError:
        pass
    else:
        raise AssertionError("both have taken it")
    assert directory.steps() == [20, 10]
    assert not directory.names("*.claim")
    assert {name.split(".")[1] for name in directory.names("ckpt-*.2-*")} == {stores[1].incarnation}


def without_hard_links() -> None:
    """It is copied; and who comes second still does not get the directory."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    os.link = refused
    who_is_superseded_is_told_so()
    of_two_that_begin_at_once_one_goes_on()
    a_start_that_is_held_cannot_be_deleted()


def format_1_is_gone_on_from() -> None:
    """What is newer than where it goes on does not count, and is deleted with the rest."""
    directory = Directory()
    old(directory, 10, 20, 30)
    assert directory.steps() == [30, 20, 10]
    store = directory.begin(20, max_to_keep=2)
    assert directory.steps() == [20, 10]
    old(directory, 40)  # by a process of the old version that is still alive
    save(store, 30)
    assert directory.steps() == [30, 20, 10]
    assert (content(directory, 20), content(directory, 30)) == ("old", store.incarnation)
    store.prune()
    assert directory.steps() == [30, 20]
    assert directory.names("ckpt-?0.index") | directory.names("ckpt-?0.commit") == set()


def who_begins_anew_has_nothing_before() -> None:
    """What was there does not count, also of a process that writes on."""
    directory = Directory()
    first = directory.begin()
    save(first, 10)
    store = directory.store()
    store.committed()
    store.take()
    assert directory.steps() == []
    assert superseded(first, 20)
    save(store, 5)
    store.prune()
    assert directory.steps() == [5]
    assert {name.split(".")[1] for name in directory.names("ckpt-*")} == {store.incarnation}


def what_tensorflows_hook_has_left_is_linked() -> None:
    """Its files stay as they are."""
    directory = Directory()
    for ending in (*PARTS, ".meta"):
        (directory.path / f"ckpt-20{ending}").write_text("theirs")
    store = directory.store(max_to_keep=1)
    store.committed()
    assert store.foreign() == [20]
    assert store.hold(Mark(20, ()), foreign=True) is not None
    assert directory.steps() == []
    store.take()
    assert (directory.steps(), content(directory, 20)) == ([20], "theirs")
    save(store, 30)
    store.prune()
    assert (directory.steps(), directory.names("ckpt-20.*")) == ([30], {f"ckpt-20{one}" for one in (*PARTS, ".meta")})


def each_worker_has_its_own_token() -> None:
    """One that is started again alone supersedes itself, and nobody else."""
    directory = Directory()
    zero, one = (directory.begin(basename=f"ckpt_worker_{number}") for number in (0, 1))
    save(zero, 10)
    save(one, 10)
    again = directory.begin(basename="ckpt_worker_1")
    assert superseded(one, 20)
    assert not superseded(zero, 20)
    assert not superseded(again, 20)
    assert directory.names("*.token") == {f"ckpt_worker_{name}.token" for name in ("0.1", "1.1", "1.2")}


def the_head_tidies_up() -> None:
    """Tokens and files of those before that nobody needs; nothing of who comes after."""
    directory = Directory()
    for step in (10, 20, 30):
        save(directory.begin(), step)
    head = directory.begin(max_to_keep=2)
    later = directory.store()
    assert later.hold(later.committed()[0][0]) is not None
    held = directory.names("*.5-*")
    save(head, 40)
    head.prune()
    assert directory.steps() == [40, 30]
    assert held <= directory.names()
    later.drop()
    assert {name.split(".")[1] for name in directory.names("ckpt-*")} == {head.incarnation}
    assert directory.names("*.token") == {"ckpt.4.token"}


def an_emptied_directory_is_written_to_again() -> None:
    """A person has removed everything in it: what is saved then counts, unless another process has begun there."""
    directory = Directory()
    store = directory.begin()
    store = directory.begin()
    save(store, 10)
    for path in directory.path.iterdir():
        path.unlink()
    save(store, 20)
    assert directory.steps() == [20]
    for path in directory.path.iterdir():
        path.unlink()
    anew = directory.begin()
    save(anew, 5)
    assert superseded(store, 30)
    assert directory.steps() == [5]
    assert not superseded(anew, 10)


def a_damaged_token_is_refused() -> None:
    """Nobody can tell whose checkpoints count, and a person is told what to do."""
    directory = Directory()
    save(directory.begin(), 10)
    path = directory.path / "ckpt.1.token"
    path.write_text("")
    found = _refusal(directory)
    assert found == (
        f"{path} says whose checkpoints count, and is damaged (Expecting value: line 1 column 1 (char 0)). Restore the "
        "file, or train in another directory."
    ), found
    path.write_text(json.dumps({"format": 3}))
    assert _refusal(directory).startswith(
        f"{path} has format 3, and this version of pipeline-ckpt reads up to format 2"
    )


def _refusal(directory: Directory) -> str:
    try:
        directory.steps()
    except NoUsableCheckpointError as error:
        return str(error)
    raise AssertionError("it is read")


SCENARIOS: Sequence[Any] = [
    every_way_to_stop_two_writers_that_begin,
    every_way_to_stop_two_writers_that_go_on,
    who_is_superseded_is_told_so,
    the_same_step_is_saved_twice,
    a_second_resume_in_a_process_goes_on,
    a_start_that_was_deleted_meanwhile,
    a_start_that_is_held_cannot_be_deleted,
    a_loss_that_is_no_number_can_be_gone_on_from,
    of_two_that_begin_at_once_one_goes_on,
    without_hard_links,
    format_1_is_gone_on_from,
    who_begins_anew_has_nothing_before,
    what_tensorflows_hook_has_left_is_linked,
    each_worker_has_its_own_token,
    the_head_tidies_up,
    an_emptied_directory_is_written_to_again,
    a_damaged_token_is_refused,
]

if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    print_outcomes(SCENARIOS)
