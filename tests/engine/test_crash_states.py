from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from directories import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import crash_states
from pytest_pipeline_ckpt.engine.crash_states import PAGE
from pytest_pipeline_ckpt.engine.operations import Act, LogWriter, Operation, read, snapshot

NAMES = st.sampled_from(["a", "b", "c", "d", "d/a", "d/b", "e", "e/d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Act.CREATE), NAMES, st.booleans(), st.booleans(), st.booleans()),
        st.tuples(st.just(Act.WRITE), NAMES, st.integers(0, 20), st.binary(max_size=12)),
        st.tuples(st.just(Act.TRUNCATE), NAMES, st.integers(0, 20)),
        st.tuples(st.just(Act.RENAME), NAMES, NAMES),
        st.tuples(st.just(Act.LINK), NAMES, NAMES),
        st.tuples(st.just(Act.SYMLINK), NAMES, st.sampled_from(["a", "b", "c"])),
        st.tuples(st.sampled_from([Act.UNLINK, Act.MKDIR, Act.RMDIR]), NAMES),
    ),
    max_size=30,
)


def carried_out(step: tuple[Any, ...], root: Path, log: LogWriter) -> None:
    """Does it for real, and writes it down as the recorder would: before, whether it succeeds or not."""
    act, name, *rest = step
    path = root / name
    if act is Act.CREATE:
        creates, exclusive, truncates = rest
        log.append(Operation(act, name, creates=creates, exclusive=exclusive, truncates=truncates))
        flags = os.O_WRONLY | os.O_CREAT * creates | os.O_EXCL * (exclusive and creates) | os.O_TRUNC * truncates
        os.close(os.open(path, flags))
    elif act is Act.WRITE:
        offset, data = rest
        descriptor = os.open(path, os.O_WRONLY)
        real = os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), os.path.realpath(root))
        log.append(Operation(act, real, offset=offset, blob=log.blob([data]), inode=os.fstat(descriptor).st_ino))
        os.pwrite(descriptor, data, offset)
        os.close(descriptor)
    elif act is Act.TRUNCATE:
        log.append(Operation(act, name, offset=rest[0]))
        os.truncate(path, rest[0])
    elif act in (Act.RENAME, Act.LINK):
        log.append(Operation(act, name, target=rest[0]))
        (os.rename if act is Act.RENAME else os.link)(path, root / rest[0], **_as_called(act))
    elif act is Act.SYMLINK:
        log.append(Operation(act, name, target=rest[0]))
        path.symlink_to(rest[0])
    else:
        log.append(Operation(act, name))
        {Act.UNLINK: os.unlink, Act.MKDIR: os.mkdir, Act.RMDIR: os.rmdir}[act](path)


def _as_called(act: Act) -> dict[str, bool]:
    return {} if act is Act.RENAME else {"follow_symlinks": False}


@given(STEPS)
@settings(deadline=None)
def test_the_model_does_what_the_kernel_does(steps: list[tuple[Any, ...]]) -> None:
    """After each operation, also one that fails, the rebuilt directory is the real one."""
    with tempfile.TemporaryDirectory() as name:
        root, log, rebuilt = Path(name, "real"), Path(name, "log"), Path(name, "rebuilt")
        root.mkdir()
        writer = LogWriter(log)
        seen = [contents(root)]
        for step in steps:
            with contextlib.suppress(OSError):
                carried_out(step, root, writer)
            seen.append(contents(root))
        writer.close()
        model = [seen[0]]
        for state in crash_states.crash_states(read(log)):
            if not state.torn:
                crash_states.rebuild(state, log, rebuilt)
                model.append(contents(rebuilt))
        without_repeats = [one for one, before in zip(seen[1:], seen, strict=False) if one != before]
        assert [one for one, before in zip(model[1:], model, strict=False) if one != before] == without_repeats


@given(STEPS)
@settings(deadline=None)
def test_equal_keys_are_equal_directories(steps: list[tuple[Any, ...]]) -> None:
    """Two states that count as one differ in nothing; a snapshot of the end is rebuilt as the end."""
    with tempfile.TemporaryDirectory() as name:
        root, log, rebuilt = Path(name, "real"), Path(name, "log"), Path(name, "rebuilt")
        root.mkdir()
        writer = LogWriter(log)
        for step in steps:
            with contextlib.suppress(OSError):
                carried_out(step, root, writer)
        writer.close()
        by_key: dict[int, dict[str, Any]] = {}
        for state in crash_states.crash_states(read(log)):
            crash_states.rebuild(state, log, rebuilt)
            assert by_key.setdefault(state.key(), contents(rebuilt)) == contents(rebuilt)
        taken = LogWriter(Path(name, "snapshot"))
        snapshot(root, taken)
        taken.close()
        *_, end = crash_states.crash_states(read(Path(name, "snapshot")))
        crash_states.rebuild(end, Path(name, "snapshot"), rebuilt)
        assert contents(rebuilt) == contents(root)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([(0, b"a")], [(0, b"b")]),
        ([(0, b"a")], [(1, b"a")]),
        ([(0, b"a"), (1, b"b")], [(1, b"b")]),
        ([(0, b"ab"), (1, b"a")], [(1, b"a"), (0, b"ab")]),
        ([], [(0, b"a")]),
    ],
)
def test_other_writes_make_other_keys(
    one: list[tuple[int, bytes]], other: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    """Files of one size are told apart by what was written where, and in which order."""
    log = LogWriter(tmp_path)
    keys = set()
    for writes in (one, other):
        operations = [Operation(Act.CREATE, "file", creates=True), Operation(Act.TRUNCATE, "file", offset=9)]
        operations += [Operation(Act.WRITE, "file", offset=offset, blob=log.blob([data])) for offset, data in writes]
        *_, end = crash_states.crash_states(operations)
        assert end.files["file"].size == 9
        keys.add(end.key())
    log.close()
    assert len(keys) == 2


def test_half_a_write_has_another_key_than_the_whole(tmp_path: Path) -> None:
    """Also where both leave a file of one size."""
    log = LogWriter(tmp_path)
    operations = [Operation(Act.CREATE, "file", creates=True), Operation(Act.TRUNCATE, "file", offset=4 * PAGE)]
    operations.append(Operation(Act.WRITE, "file", blob=log.blob([b"x" * 4 * PAGE])))
    log.close()
    *_, half, whole = crash_states.crash_states(operations)
    assert half.files["file"].size == whole.files["file"].size
    assert half.key() != whole.key()


def test_large_writes_are_torn_at_a_page(tmp_path: Path) -> None:
    """A write of several pages is also seen half done; one within a page is not."""
    log = LogWriter(tmp_path / "log")
    large = log.blob([b"x" * (3 * PAGE)])
    small = log.blob([b"y" * 100])
    log.close()
    operations = [
        Operation(Act.CREATE, "file", creates=True),
        Operation(Act.WRITE, "file", blob=large),
        Operation(Act.WRITE, "file", offset=3 * PAGE, blob=small),
    ]
    states = list(crash_states.crash_states(operations))
    assert [(state.operation, state.torn) for state in states] == [
        (0, False),
        (1, False),
        (1, True),
        (2, False),
        (3, False),
    ]
    sizes = [state.files["file"].size for state in states[1:]]
    assert sizes == [0, PAGE, 3 * PAGE, 3 * PAGE + 100]
    crash_states.rebuild(states[2], tmp_path / "log", tmp_path / "rebuilt")
    assert (tmp_path / "rebuilt/file").read_bytes() == b"x" * PAGE


def test_what_no_restore_reads_makes_no_state() -> None:
    """Temporary names of a save, event files and the graph are the same to a resume."""
    names = (
        *("ckpt-1_temp/part-00000-of-00001.data-00000-of-00001", "checkpoint.tmp0123456789abcdef0123456789abcdef"),
        *("model.ckpt-1.meta.tmp0123456789abcdef0123456789abcdef", "ckpt-1.index.tempstate123"),
        *("events.out.tfevents.1.host", "eval/events.out.tfevents.1.host", "graph.pbtxt"),
    )
    operations = [Operation(Act.MKDIR, "ckpt-1_temp"), Operation(Act.MKDIR, "eval")]
    operations += [Operation(Act.CREATE, name, creates=True) for name in names]
    found = list(crash_states.distinct(crash_states.crash_states(operations)))
    assert [state.operation for state in found] == [0, 2]  # the directory `eval` may be read


def test_our_hooks_temporary_names_are_read() -> None:
    """What it finds of them it removes, so a resume can tell."""
    operations = [Operation(Act.MKDIR, "input.ckpt-1.tmp"), Operation(Act.RMDIR, "input.ckpt-1.tmp")]
    found = list(crash_states.distinct(crash_states.crash_states(operations)))
    assert [state.operation for state in found] == [0, 1]


def test_what_was_there_before(tmp_path: Path) -> None:
    """The operations that describe the beginning make one state."""
    operations = [Operation(Act.MKDIR, "a"), Operation(Act.MKDIR, "b"), Operation(Act.MKDIR, "c")]
    found = [(state.operation, state.directories) for state in crash_states.crash_states(operations, before=2)]
    assert found == [(2, frozenset("ab")), (3, frozenset("abc"))]


def test_files_and_directories_are_as_old_as_they_were(tmp_path: Path) -> None:
    """What was written last is newest when it is rebuilt, replaced files too: trainings look for what is newest."""
    root, log = tmp_path / "root", LogWriter(tmp_path / "log")
    root.mkdir()
    for act, name in ((Act.MKDIR, "d"), (Act.MKDIR, "e"), (Act.CREATE, "a"), (Act.CREATE, "d/a"), (Act.CREATE, "e/a")):
        carried_out((act, name, True, False, False) if act is Act.CREATE else (act, name), root, log)
    for name in ("e/a", "d/a", "a", "e/a"):
        carried_out((Act.WRITE, name, 0, b"new"), root, log)
    carried_out((Act.RENAME, "a", "b"), root, log)
    log.close()
    *_, end = crash_states.crash_states(read(tmp_path / "log"))
    crash_states.rebuild(end, tmp_path / "log", tmp_path / "rebuilt")
    times = {name: (tmp_path / "rebuilt" / name).stat().st_mtime_ns for name in ("b", "d", "d/a", "e", "e/a")}
    assert times["d/a"] < times["b"] < times["e/a"]
    assert (times["d"], times["e"]) == (times["d/a"], times["e/a"])
    again = LogWriter(tmp_path / "again")
    snapshot(tmp_path / "rebuilt", again)
    again.close()
    written = [one.path for one in read(tmp_path / "again") if one.act is Act.WRITE]
    assert written == ["d/a", "b", "e/a"]
