from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import crash_states, further_kills, names, power_loss, recording
from pytest_pipeline_ckpt.engine.instants import Timeline, element_records
from pytest_pipeline_ckpt.engine.ledger import RECORD
from pytest_pipeline_ckpt.engine.model import Ending, Kill, Kind, Ledger, Life, Stream
from pytest_pipeline_ckpt.engine.operations import Act, Blob, Operation
from pytest_pipeline_ckpt.engine.resuming import training_began
from pytest_pipeline_ckpt.engine.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

# Elements 1, 2 and 3 are the ledger's records 1, 2 and 5; record 0 is a STEP, 3 a SAVED, 4 another stream's.
ELEMENTS = [1, 2, 5]


def renamed(records: int) -> list[Operation]:
    """A file that is written under a temporary name and renamed, when the ledger had so many records."""
    temporary = "model/checkpoint.tmp0123456789abcdef0123456789abcdef"
    return [
        Operation(Act.CREATE, temporary, creates=True, elements=records),
        Operation(Act.WRITE, temporary, blob=Blob(0, 10, records), elements=records),
        Operation(Act.RENAME, temporary, target="model/checkpoint", elements=records),
    ]


def written(name: str, records: int, size: int = 10) -> list[Operation]:
    """A file that is written in place."""
    return [
        Operation(Act.CREATE, name, creates=True, elements=records),
        Operation(Act.WRITE, name, blob=Blob(0, size, records), elements=records),
    ]


BEGIN = [Operation(Act.MKDIR, "model")]
SAVE = [*written("model/ckpt-2.index", 3), *renamed(3), Operation(Act.UNLINK, "model/ckpt-1.index", elements=6)]


def named(operations: list[Operation]) -> list[tuple[str, str]]:
    """The distinct instants of a run: where a live kill finds the same, and the words."""
    timeline = Timeline(operations, len(BEGIN), ELEMENTS)
    states = crash_states.distinct(crash_states.crash_states(operations, before=len(BEGIN)))
    return [(str(instant.kill), instant.words) for instant in map(timeline.instant, states)]


def test_instants_have_names() -> None:
    """The first of each kind: where it is, what had just been done, and the live kill that finds the same."""
    assert named([*BEGIN, *SAVE]) == [
        ("1", "before the first element"),
        ("2/op:2", "after element 2, when it had made ckpt-2.index"),
        ("2/op:3", "after element 2, when it had written to ckpt-2.index"),
        ("3", "after element 2, when it had renamed checkpoint.tmp... to checkpoint"),
    ]


def test_the_end_has_no_live_kill() -> None:
    """After the last operation behind the last element nothing happens at which a life could be held."""
    assert named([*BEGIN, *renamed(7)])[-1] == (
        "None",
        "after element 3, when it had renamed checkpoint.tmp... to checkpoint",
    )


def test_before_the_first_element() -> None:
    """What is done while nothing has been taken is counted from the beginning of the life."""
    operations = [*BEGIN, *written("model/ckpt-0.index", 0), *renamed(0)]
    assert [kill for kill, _ in named(operations)] == ["0/op:1", "0/op:2", "0/op:3", "1"]


def test_within_a_write() -> None:
    """Half a write is no state that a live kill leaves."""
    operations = [*BEGIN, *written("model/large", 3, size=3 * crash_states.PAGE)]
    assert ("None", "after element 2, in the middle of a write to large") in named(operations)


def test_power_losses() -> None:
    """The words say what is left of which files; parts of a checkpoint are named together."""
    operations = [*BEGIN]
    for number in range(4):
        operations += written(f"model/ckpt-{number}.index", 3)
        operations += written(f"model/ckpt-{number}.data-00000-of-00001", 3)
    timeline = Timeline(operations, len(BEGIN), ELEMENTS)
    *_, last = (state for state in power_loss.power_states(operations, before=1) if len(state.damaged) == 8)
    assert timeline.instant(last).words == (
        "after element 2, when it had written to ckpt-3.data-00000-of-00001, by a power loss (zero length but for "
        "renames over: ckpt-0.*, ckpt-1.*, ckpt-2.* and 1 more)"
    )
    assert timeline.instant(last).kill is None


@given(
    st.lists(st.tuples(st.sampled_from(["a", "c_temp", "c_temp/part-00000-of-00001"]), st.integers(0, 4)), max_size=20),
    st.lists(st.integers(0, 40), unique=True, max_size=8).map(sorted),
    st.data(),
)
@settings(deadline=None)
def test_a_live_kill_finds_the_state(files: list[tuple[str, int]], elements: list[int], data: st.DataObject) -> None:
    """Whoever holds a life as the kill says has the directory of the instant before them."""
    acts = (Act.CREATE, Act.UNLINK, Act.FSYNC, Act.MKDIR, Act.RMDIR)
    records = sorted(data.draw(st.lists(st.integers(0, 42), min_size=len(files), max_size=len(files))))
    operations = [
        Operation(acts[act], name, creates=act == 0, truncates=act == 0, elements=taken)
        for (name, act), taken in zip(files, records, strict=True)
    ]
    timeline = Timeline(operations, 0, elements)
    for state in crash_states.crash_states(operations):
        kill = timeline.instant(state).kill
        if kill is not None:
            reads = timeline.names.may_be_read
            assert _held(operations, timeline, kill).key(may_be_read=reads) == state.key(may_be_read=reads)


def _held(operations: list[Operation], timeline: Timeline, kill: Kill) -> crash_states.CrashState:
    """The directory where a live run is held: at the element, or before the operation."""
    directory, left = crash_states.Directory(), kill.op
    for operation in operations:
        taken = timeline.taken(operation.elements)
        if kill.op is None and taken >= kill.element:
            break
        if left is not None and taken >= kill.element and names.visible(operation):
            left -= 1
            if not left:
                break
        directory.apply(operation)
    return directory.state(0, 0)


def ledger(kinds: Iterable[tuple[Kind, int, int]]) -> Ledger:
    """Records of kind, stream and value."""
    records = np.zeros(len(rows := list(kinds)), RECORD)
    for at, (kind, stream, value) in enumerate(rows):
        records[at]["kind"], records[at]["stream"], records[at]["value"] = kind, stream, value & (2**64 - 1)
    return Ledger(records, (Stream(0, "train", "train"), Stream(1, "validate", "validate")))


def test_only_training_elements_count() -> None:
    """As the gate counts them: streams that do not train are passed over."""
    seen = ledger([(Kind.STEP, 0, 0), (Kind.ELEMENT, 0, 7), (Kind.ELEMENT, 1, 8), (Kind.ELEMENT, 0, 9)])
    assert element_records(seen, frozenset({"validate"})) == [1, 3]
    assert element_records(seen, frozenset()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("steps", "began"),
    [
        ([], 0),
        ([-1, -1], 0),
        ([10, 10, 10], None),
        ([10, 10, 11], 2),
        ([-1, 10, 11], 2),
    ],
)
def test_when_training_begins(steps: list[int], began: int | None) -> None:
    """With the first step that the model makes; where no step is known, at once."""
    assert training_began(ledger((Kind.STEP, 0, step) for step in steps).records) == began


def resumed(*, refused: str | None = None, ending: Ending = Ending.STOPPED) -> Run:
    """A life that changes something before its first element and saves after its second."""
    kinds = [(Kind.STEP, 0, 0), (Kind.ELEMENT, 0, 1), (Kind.ELEMENT, 0, 2), (Kind.SAVED, 0, 2)]
    kinds += [(Kind.ELEMENT, 1, 3), (Kind.ELEMENT, 0, 3)]
    operations = [*BEGIN, Operation(Act.MKDIR, "model/a"), *written("model/b", 3), *written("model/c", 6)]
    if refused is not None:
        operations = BEGIN
    meta = recording.Recorded("/run", 1, 1, (), refused, (1,) if ending is Ending.STOPPED else ())
    return Run(Life(ledger(kinds), ending), Path(), Path("/run"), meta, Timeline(operations, 1, ELEMENTS))


def test_each_instant_of_a_resume_and_its_first_save() -> None:
    """Those that can be told apart, and none behind the save."""
    assert [instant.words for instant in further_kills.each(resumed())] == [
        "before the first element, when it had made a/",
        "after element 2, when it had made b",
        "after element 2, when it had written to b",
    ]


def test_drawn_kills() -> None:
    """The same seed draws the same; the resume, its first save and each element all come up."""
    drawn = [further_kills.draw(resumed(), random.Random(seed)) for seed in range(60)]
    assert drawn == [further_kills.draw(resumed(), random.Random(seed)) for seed in range(60)]
    assert {instant.words for instant in drawn if instant is not None} == {
        "before the first element, when it had made a/",
        "after element 2, when it had made b",
        "after element 2, when it had written to b",
        "after element 1",
        "after element 2",
        "after element 3",
    }


def test_the_state_at_an_element() -> None:
    """What had been done before the element is there, and nothing that was done behind it."""
    found = {}
    for seed in range(60):
        instant = further_kills.draw(resumed(), random.Random(seed))
        if instant is not None and instant.kill is not None and instant.kill.op is None:
            found[instant.words] = (sorted(instant.state.files), instant.state.elements)
    assert found["after element 1"] == ([], 2)
    assert found["after element 2"] == ([], 3)
    assert found["after element 3"] == (["model/b"], 6)


@pytest.mark.parametrize(("ending", "words"), [(Ending.STOPPED, ["after element 3"]), (Ending.FINISHED, [])])
def test_where_nothing_was_recorded(ending: Ending, words: list[str]) -> None:
    """Only the end of a life that was stopped is known, and none of one that has finished."""
    run = resumed(refused="refused", ending=ending)
    assert further_kills.each(run) == []
    instant = further_kills.draw(run, random.Random(1))
    assert ([] if instant is None else [instant.words]) == words
