from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from directories import contents
from hypothesis import given
from hypothesis import strategies as st
from recorded_runs import Recorded

from pytest_pipeline_ckpt.engine.crash_states import PAGE, Content, crash_states, distinct, rebuild
from pytest_pipeline_ckpt.engine.operations import Act, Blob, LogWriter, Operation
from pytest_pipeline_ckpt.engine.power_loss import power_states, unsettled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ZERO, BUT_RENAMED, NULS, TORN = "zero length", "zero length but for renames over", "NULs", "torn"
SYNCED, SYNCED_BUT_RENAMED = "as last fsynced", "as last fsynced but for renames over"
EVERYTHING = Operation(Act.FSYNC, ".")


class Log:
    """A log that is written by hand."""

    def __init__(self, base: Path) -> None:
        self.operations: list[Operation] = []
        self._base = base
        self._writer = LogWriter(base / "log")

    def add(self, *operations: Operation) -> None:
        """Adds operations."""
        self.operations += operations

    def write(self, name: str, data: bytes, *, offset: int = 0, inode: int = 0) -> None:
        """Adds a write."""
        blob = self._writer.blob([data])
        self.add(Operation(Act.WRITE, name, offset=offset, blob=blob, inode=inode))

    def make(self, name: str, data: bytes) -> None:
        """Adds two operations, the second a write."""
        self.add(Operation(Act.CREATE, name, creates=True))
        self.write(name, data)

    def lost(self, *, before: int = 0, since: int = 0) -> list[tuple[int, str, dict[str, bytes]]]:
        """After which operation, what happens, and the directory then; that `damaged` is what differs is checked."""
        self.close()
        killed = {state.operation: state for state in crash_states(self.operations) if not state.torn}
        found = []
        for state in power_states(self.operations, before=before):
            rebuild(killed[state.operation], self._base / "log", self._base / "killed")
            rebuild(state, self._base / "log", self._base / "lost")
            whole, damaged = contents(self._base / "killed"), contents(self._base / "lost")
            assert whole.keys() == damaged.keys()
            assert state.damaged == tuple(name for name in sorted(whole) if damaged[name] != whole[name])
            found.append((state.operation, state.loss, damaged))
        return [one for one in found if one[0] >= since]

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty one."""
    log = Log(tmp_path)
    yield log
    log.close()


def _fsync(name: str) -> Operation:
    return Operation(Act.FSYNC, name, inode=1)


def _renamed(name: str, target: str) -> Operation:
    return Operation(Act.RENAME, name, target=target)


def _alone(operation: int, name: str, size: int) -> list[tuple[int, str, dict[str, bytes]]]:
    """All that can happen to the only file of a directory, smaller than a page, when it has just been written."""
    empty, zeros = {name: b""}, {name: bytes(size)}
    return [(operation, loss, zeros if loss == NULS else empty) for loss in (ZERO, BUT_RENAMED, NULS, ZERO)]


def test_what_was_fsynced_and_renamed_is_safe(log: Log) -> None:
    """Nothing but a file that waits for its fsync can be lost."""
    log.make("new", b"data")
    log.add(_fsync("new"), _renamed("new", "checkpoint"))
    assert log.lost() == _alone(2, "new", 4)


def test_what_was_renamed_over_a_name_may_be_kept(log: Log) -> None:
    """ext4 keeps it, others do not; what has only come by a new name is lost everywhere."""
    log.make("checkpoint", b"old")
    log.make("part", b"data")
    log.make("new", b"new")
    log.add(_renamed("part", "whole"), _renamed("new", "checkpoint"))
    assert log.lost(before=2) == [
        *((4, loss, {"checkpoint": b"old", "part": b""}) for loss in (ZERO, BUT_RENAMED)),
        (4, NULS, {"checkpoint": b"old", "part": b"\0\0\0\0"}),
        (4, ZERO, {"checkpoint": b"old", "part": b""}),
        *((5, loss, {"checkpoint": b"old", "part": b"", "new": b""}) for loss in (ZERO, BUT_RENAMED)),
        *((6, loss, {"checkpoint": b"old", "part": b"", "new": b""}) for loss in (ZERO, BUT_RENAMED)),
        (6, NULS, {"checkpoint": b"old", "part": b"data", "new": b"\0\0\0"}),
        (6, ZERO, {"checkpoint": b"old", "part": b"data", "new": b""}),
        *((7, loss, {"checkpoint": b"old", "whole": b"", "new": b""}) for loss in (ZERO, BUT_RENAMED)),
        (7, NULS, {"checkpoint": b"old", "whole": b"\0\0\0\0", "new": b"new"}),
        (7, ZERO, {"checkpoint": b"old", "whole": b"", "new": b"new"}),
        (8, ZERO, {"checkpoint": b"", "whole": b""}),
        (8, BUT_RENAMED, {"checkpoint": b"new", "whole": b""}),
        (8, NULS, {"checkpoint": b"\0\0\0", "whole": b"data"}),
        (8, ZERO, {"checkpoint": b"", "whole": b"data"}),
    ]


def test_what_is_written_after_its_rename_is_lost_again(log: Log) -> None:
    """The rename keeps what was in the file then."""
    log.make("checkpoint", b"old")
    log.make("new", b"new")
    log.add(_renamed("new", "checkpoint"))
    log.write("checkpoint", b"er", offset=3)
    assert log.lost(before=2, since=5) == [
        (5, ZERO, {"checkpoint": b""}),
        (5, NULS, {"checkpoint": b"\0\0\0"}),
        (5, ZERO, {"checkpoint": b""}),
        *_alone(6, "checkpoint", 5),
    ]


def test_a_rename_over_a_link(log: Log) -> None:
    """A symbolic link is a name like any other: what replaces it is kept."""
    log.add(Operation(Act.SYMLINK, "latest", target="nothing"))
    log.make("new", b"new")
    log.add(_renamed("new", "latest"))
    assert log.lost(since=4) == [
        (4, ZERO, {"latest": b""}),
        (4, NULS, {"latest": b"\0\0\0"}),
        (4, ZERO, {"latest": b""}),
    ]


def test_renames_that_do_nothing(log: Log) -> None:
    """One between two names of a file, and one that fails, neither keep a file nor touch it."""
    log.make("a", b"data")
    log.add(Operation(Act.LINK, "a", target="b"))
    log.make("c", b"data")
    log.add(_renamed("a", "b"), Operation(Act.RENAME, "c", target="b", exclusive=True), _renamed("nothing", "c"))
    empty = {"a": b"", "b": b"", "c": b""}
    assert log.lost(since=6) == [(number, loss, empty) for number in (6, 7, 8) for loss in (ZERO, BUT_RENAMED)]


def test_an_append_to_a_durable_file(log: Log) -> None:
    """What was fsynced stays, what is written behind it is lost until the next fsync."""
    log.make("file", b"data")
    log.add(_fsync("file"))
    log.write("file", b"more", offset=4)
    log.add(_fsync("file"))
    left = {"file": b"data"}
    assert log.lost(since=3) == [
        *((4, SYNCED, left), (4, SYNCED_BUT_RENAMED, left), (4, NULS, {"file": b"data\0\0\0\0"}), (4, SYNCED, left))
    ]


def test_a_durable_file_is_overwritten(log: Log) -> None:
    """In place, and not fsynced: the old bytes may be back, and are never zeros."""
    log.make("file", b"data")
    log.add(_fsync("file"))
    log.write("file", b"DA")
    assert log.lost(since=3) == [(4, loss, {"file": b"data"}) for loss in (SYNCED, SYNCED_BUT_RENAMED, SYNCED)]


def test_a_large_append_is_torn_behind_what_was_fsynced(log: Log) -> None:
    """At a page in the middle of the addition; one that is smaller than a page is not torn."""
    log.make("file", b"a" * 3 * PAGE)
    log.add(_fsync("file"))
    log.write("file", b"b" * 4 * PAGE, offset=3 * PAGE)
    log.add(_fsync("file"))
    log.write("file", b"c" * 10, offset=7 * PAGE)
    torn = [(number, left["file"]) for number, loss, left in log.lost(since=4) if loss == TORN]
    assert torn == [(4, b"a" * 3 * PAGE + b"b" * 2 * PAGE)]


def test_a_file_that_was_there_is_opened_anew(log: Log) -> None:
    """With O_TRUNC a durable file is one that can be lost; only opened, and written nothing, it is as it was."""
    log.make("file", b"data")
    log.add(Operation(Act.CREATE, "file", creates=True))
    log.write("file", b"")
    log.add(Operation(Act.CREATE, "file", creates=True, truncates=True))
    log.write("file", b"new")
    assert log.lost(before=2) == _alone(6, "file", 3)


def test_another_size(log: Log) -> None:
    """A cut is not lost, what comes behind it is."""
    log.make("file", b"data")
    log.add(Operation(Act.TRUNCATE, "file", offset=2), Operation(Act.TRUNCATE, "file", offset=9))
    left = {"file": b"da"}
    assert log.lost(before=2) == [(4, loss, left) for loss in (SYNCED, SYNCED_BUT_RENAMED, SYNCED)]


def test_two_names_of_a_file(log: Log) -> None:
    """They are lost together, and one fsync saves both; a link touches the file."""
    log.make("a", b"data")
    log.add(Operation(Act.LINK, "a", target="b"), _fsync("b"))
    empty, zeros = {"a": b"", "b": b""}, {"a": b"\0" * 4, "b": b"\0" * 4}
    both = [(3, ZERO, empty), (3, BUT_RENAMED, empty), (3, NULS, zeros), (3, ZERO, empty)]
    assert log.lost() == [*_alone(2, "a", 4), *both]


def test_a_file_without_the_name_it_was_opened_by(log: Log) -> None:
    """It is known by its inode, as the fsync is."""
    log.add(Operation(Act.CREATE, "a", creates=True))
    log.write("a", b"data", inode=7)
    log.add(Operation(Act.LINK, "a", target="b"), Operation(Act.UNLINK, "a"), Operation(Act.FSYNC, "", inode=7))
    log.write("", b"more", offset=4, inode=7)
    left = {"b": b"data"}
    assert log.lost(since=5) == [
        *((6, SYNCED, left), (6, SYNCED_BUT_RENAMED, left), (6, NULS, {"b": b"data\0\0\0\0"}), (6, SYNCED, left))
    ]


@pytest.mark.parametrize(
    ("operation", "durable"),
    [(EVERYTHING, True), (_fsync("."), False), (_fsync("b"), False), (Operation(Act.FSYNC, "b"), False)],
)
def test_everything_is_made_durable(operation: Operation, durable: bool, log: Log) -> None:
    """By `sync`, not by an fsync of the directory or of another file."""
    log.make("a", b"data")
    log.make("b", b"data")
    log.add(operation, _fsync("b"))
    assert log.lost(since=6) == (
        [] if durable else [(6, loss, {"a": b"", "b": b"data"}) for loss in (ZERO, BUT_RENAMED)]
    )


def test_names_that_no_restore_reads(log: Log) -> None:
    """Files are damaged under them too, but that alone is no state; by their last name they are."""
    log.add(Operation(Act.MKDIR, "ckpt-1_temp"))
    part, whole = "ckpt-1_temp/part-00000-of-00001.index", "ckpt-1.index"
    log.make(part, b"data")
    log.make("model", b"data")
    log.add(_renamed(part, whole))
    states = list(power_states(log.operations))
    both = (whole, "model")
    assert [(state.operation, state.loss, state.damaged) for state in states] == [
        *((5, loss, ("model",)) for loss in (ZERO, BUT_RENAMED, NULS, ZERO)),
        *((6, ZERO, both), (6, BUT_RENAMED, both), (6, NULS, (whole,)), (6, ZERO, (whole,))),
    ]
    assert states[0].files[part].size == 0


_DIRECTORY = Operation(Act.FSYNC, "d", inode=2)


@pytest.mark.parametrize(
    ("operations", "adrift"),
    [
        ([], {"d/new", "d/old"}),
        ([_DIRECTORY], set()),
        ([EVERYTHING], set()),
        ([Operation(Act.FSYNC, ".", inode=1)], {"d/new", "d/old"}),
        ([Operation(Act.UNLINK, "d/new")], {"d/old"}),
        ([_DIRECTORY, _renamed("d/new", "d/old")], {"d/old"}),
        ([_DIRECTORY, _renamed("d/new", "d/old"), _DIRECTORY], set()),
        ([_DIRECTORY, Operation(Act.CREATE, "d/old", creates=True, truncates=True)], set()),
        ([_renamed("d/new", "d/old"), _DIRECTORY], {"d/old"}),
        ([_DIRECTORY, Operation(Act.MKDIR, "d/e"), Operation(Act.SYMLINK, "l", target="d")], {"d/e", "l"}),
    ],
)
def test_names_whose_directory_is_not_fsynced(operations: list[Operation], adrift: set[str]) -> None:
    """An fsync of a file says nothing of its name; one of another directory does not either, one of everything does."""
    made = [Operation(Act.CREATE, name, creates=True) for name in ("d/old", "d/new")]
    assert unsettled([Operation(Act.MKDIR, "d"), *made, *operations]) == adrift


def test_names_that_were_there_are_durable() -> None:
    """What only describes the beginning needs no fsync."""
    assert unsettled([Operation(Act.CREATE, "file", creates=True)], before=1) == frozenset()


@pytest.mark.parametrize(("size", "torn"), [(PAGE, None), (PAGE + 1, PAGE), (4 * PAGE + 1, 2 * PAGE)])
def test_where_a_file_is_torn(size: int, torn: int | None, log: Log) -> None:
    """At the page in its middle, if it is larger than one."""
    log.make("file", b"x" * size)
    assert log.lost() == [*_alone(2, "file", size), *([] if torn is None else [(2, TORN, {"file": b"x" * torn})])]


def test_states_that_a_resume_cannot_tell_apart(log: Log) -> None:
    """A file of no bytes, of zeros, or half written is the same after a kill that left it so; nothing is twice."""
    log.add(Operation(Act.CREATE, "file", creates=True))
    log.write("file", b"x" * 4 * PAGE)
    longer = [log.operations[0], Operation(Act.TRUNCATE, "file", offset=4 * PAGE)]
    zero, nuls, torn = distinct(power_states(log.operations))
    _, empty, half, whole = crash_states(log.operations)
    *_, zeros = crash_states(longer)
    assert [zero.key(), nuls.key(), torn.key()] == [empty.key(), zeros.key(), half.key()]
    assert len({zero.key(), nuls.key(), torn.key(), whole.key()}) == 4


def test_a_state_says_when(log: Log) -> None:
    """The operation and the elements are those of the kill at the same instant."""
    log.make("file", b"data")
    log.operations[1] = dataclasses.replace(log.operations[1], elements=3)
    assert {(state.operation, state.elements, state.torn) for state in power_states(log.operations)} == {(2, 3, False)}


SIZES = st.sampled_from([0, 1, 5, PAGE, PAGE + 1, 3 * PAGE])
UNREAD = "graph.pbtxt"
NAMES = st.sampled_from(["a", "b", "c", UNREAD])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Act.CREATE), NAMES, st.booleans()),
        st.tuples(st.sampled_from([Act.WRITE, Act.TRUNCATE]), NAMES, SIZES),
        st.tuples(st.just(Act.WRITE), NAMES, SIZES, st.sampled_from([1, PAGE])),
        st.tuples(st.sampled_from([Act.RENAME, Act.LINK]), NAMES, NAMES),
        st.tuples(st.sampled_from([Act.UNLINK, Act.FSYNC]), NAMES, st.just(0)),
        st.tuples(st.just(Act.FSYNC), st.just("."), st.just(0)),
    ),
    max_size=30,
)


class Naive:
    """Inodes are numbers, with the bytes that they have and those that are on the disk."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.now = [b""]
        self.disk = [b""]
        self.kept: set[int] = set()
        """Those that ext4 would have written, because they were renamed over a name."""
        self.last = 0
        """The inode that the last step touched."""
        self._steps = 0

    def step(self, act: Act, name: str, value: int | str, offset: int = 0) -> Operation:
        """Does it, if it can be done; as an operation."""
        self.last, self._steps = 0, self._steps + 1
        if isinstance(value, str):
            self._name(act, name, value)
            return Operation(act, name, target=value)
        if act is Act.CREATE:
            self._open(name, truncates=bool(value))
            return Operation(act, name, creates=True, truncates=bool(value))
        inode = self.names.get(name, 0)
        if act is Act.UNLINK:
            self.names.pop(name, None)
        elif act is Act.FSYNC:
            self.sync(self.names.values() if name == "." else [inode])
        elif inode:
            self._write(act, inode, value, offset)
        blob = Blob(0, value, self._steps) if act is Act.WRITE else None
        return Operation(act, name, offset=value if act is Act.TRUNCATE else offset, blob=blob, inode=inode)

    def sync(self, inodes: Iterable[int]) -> None:
        """Writes them to the disk."""
        for inode in inodes:
            self.disk[inode] = self.now[inode]

    def _write(self, act: Act, inode: int, value: int, offset: int) -> None:
        self.last, old = inode, self.now[inode]
        if act is Act.WRITE and value:
            old = old.ljust(offset, b"\0")
            self._change(inode, old[:offset] + bytes([self._steps]) * value + old[offset + value :])
        elif act is Act.TRUNCATE and value != len(old):
            self._change(inode, old[:value].ljust(value, b"\0"))

    def _change(self, inode: int, data: bytes) -> None:
        self.now[inode] = data
        self.disk[inode] = self.disk[inode][: len(data)]
        self.kept.discard(inode)

    def _open(self, name: str, *, truncates: bool) -> None:
        if name not in self.names:
            self.names[name] = len(self.now)
            self.now.append(b"")
            self.disk.append(b"")
        elif truncates:
            self._change(self.names[name], b"")

    def _name(self, act: Act, name: str, target: str) -> None:
        inode, old = self.names.get(name), self.names.get(target)
        if inode is None or inode == old or (act is Act.LINK and old is not None):
            return
        self.last = self.names[target] = inode
        if act is Act.RENAME:
            del self.names[name]
            self.kept |= {inode} if old is not None else set()

    def lost(self) -> list[tuple[str, dict[str, bytes]]]:
        """What happens, and which names have what then."""
        volatile = {inode for inode in self.names.values() if self.disk[inode] != self.now[inode]}
        last, left = volatile & {self.last}, {inode: self.disk[inode] for inode in volatile}
        others, now, disk = volatile - self.kept, self.now[self.last], self.disk[self.last]
        models = [(_word(left, volatile, ""), left)]
        models += [(_word(left, others, " but for renames over"), {inode: left[inode] for inode in others})]
        models += [(NULS, {inode: disk.ljust(len(now), b"\0") for inode in last if len(disk) < len(now)})]
        models += [(_word(left, last, ""), dict.fromkeys(last, disk))]
        cut = max(PAGE, (len(disk) + len(now)) // 2 // PAGE * PAGE)
        models += [(TORN, {inode: now[:cut] for inode in last if len(disk) < cut < len(now)})]
        return [(loss, damaged) for loss, left in models if (damaged := self._damaged(left))]

    def _damaged(self, left: dict[int, bytes]) -> dict[str, bytes]:
        changed = {inode: data for inode, data in left.items() if data != self.now[inode]}
        return {
            name: changed[inode] for name, inode in sorted(self.names.items()) if inode in changed and name != UNREAD
        }


def _word(left: dict[int, bytes], inodes: set[int], more: str) -> str:
    return (SYNCED if any(left[inode] for inode in inodes) else ZERO) + more


@given(STEPS, st.integers(0, 10))
def test_what_is_lost_is_what_was_not_made_durable(steps: list[tuple[Any, ...]], before: int) -> None:
    """All of it, and nothing else; what was fsynced is never lost; what is not damaged is as a kill leaves it."""
    naive, operations, expected = Naive(), list[Operation](), []
    for number, step in enumerate(steps, 1):
        operations.append(naive.step(*step))
        if number <= before:
            naive.sync(naive.names.values())
        expected += [(number, *lost) for lost in naive.lost()]
    states = list(power_states(operations, before=before))
    found = [
        (state.operation, state.loss, {name: _bytes(state.files[name]) for name in state.damaged}) for state in states
    ]
    assert found == expected
    killed = {state.operation: state for state in crash_states(operations) if not state.torn}
    for state in states:
        kill = killed[state.operation]
        restored = {name: kill.files[name] for name in (*state.damaged, UNREAD) if name in kill.files}
        assert dataclasses.replace(state, files={**state.files, **restored}, loss="", damaged=()) == kill
        assert state.key() != kill.key()


def _bytes(content: Content) -> bytes:
    """What is in a file; each write's bytes are its digest, which is the number of its step."""
    data = bytearray(content.size)
    for piece in content.pieces:
        data[piece.offset : piece.offset + piece.size] = bytes([piece.digest]) * piece.size
    return bytes(data)


@given(STEPS)
def test_with_an_fsync_after_every_change_nothing_is_lost(steps: list[tuple[Any, ...]]) -> None:
    """A power loss can only be told from a kill between a change and its fsync."""
    naive, operations, safe = Naive(), list[Operation](), set()
    for step in steps:
        change = naive.step(*step)
        operations += [change, Operation(Act.FSYNC, change.target or change.path, inode=change.inode)]
        safe.add(len(operations))
    assert not safe & {state.operation for state in power_states(operations)}


def _whole_marks_of_damaged_pairs(operations: list[Operation]) -> list[str]:
    found = []
    for state in power_states(operations):
        for mark in sorted(name for name in state.files if name.endswith(".commit") and name not in state.damaged):
            pair = [mark.replace(".commit", part) for part in (".data-00000-of-00001", ".index")]
            assert state.files.keys() >= set(pair)
            found += [f"{state.operation}: {name}" for name in pair if name in state.damaged]
    return found


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_durable_save_of_the_hook(tmp_path: Path) -> None:
    """Where a mark is whole, so is its pair; a save that did not fsync the pair before would be found out."""
    recorded = Recorded("stored", tmp_path)
    assert (recorded.returncode, recorded.recorder.blind) == (0, [])
    operations = recorded.operations
    marks = [op.target.partition(".1-") for op in operations if op.target.endswith(".commit")]
    assert [name for name, _, _ in marks] == ["input.ckpt-1", "input.ckpt-2", "input.ckpt-2", "input.ckpt-2"]
    assert _whole_marks_of_damaged_pairs(operations) == []
    for part in ("data-00000-of-00001", "index"):
        forgotten = [op for op in operations if op.act is not Act.FSYNC or not op.path.endswith(f"/part.{part}")]
        assert len(forgotten) == len(operations) - 3
        assert _whole_marks_of_damaged_pairs(forgotten) != []
