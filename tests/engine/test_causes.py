"""Why: what tells the rows of the table of causes apart. Each row is provoked for real in the acceptance tests."""

from __future__ import annotations

from typing import Any

import pytest
from faults import FAULTS

from pytest_pipeline_ckpt.engine import causes
from pytest_pipeline_ckpt.engine.causes import Cause
from pytest_pipeline_ckpt.engine.handling import Handling, IteratorUse, handling
from pytest_pipeline_ckpt.engine.model import Outcome
from pytest_pipeline_ckpt.engine.stage_results import Fault, PipelineResult, StageResult

REFUSED = Fault("save", "TensorFlow refuses")
WRONG = Fault("elements", "others")
TRAINS = frozenset({"train"})


def stage(fault: Fault | None = WRONG, name: str = "Dataset.map", **more: Any) -> StageResult:
    """A stage with a fault."""
    known: dict[str, Any] = {"source": False, "ops": {}, "unordered": False, "keeps": None, "buffer": None, "row": None}
    return StageResult(name, "input.py:1, in make", fault=fault, **{**known, **more})


@pytest.mark.parametrize(
    ("one", "symbolic", "cause"),
    [
        (stage(REFUSED, "Dataset.from_generator"), False, Cause.GENERATOR),
        (stage(REFUSED, ops={"generator": ["GeneratorDataset"], "python": ["PyFunc"]}), True, Cause.GENERATOR),
        (stage(REFUSED, ops={"python": ["PyFunc"]}), False, Cause.PYTHON_REFUSED),
        (stage(ops={"python": ["PyFunc"]}), False, Cause.PYTHON_STATE),
        (stage(ops={"python": ["PyFunc"]}), True, Cause.SYMBOLIC),
        (stage(ops={"stateless python": ["PyFuncStateless"]}), False, Cause.STATELESS_PYTHON),
        (stage(ops={"stateless python": ["PyFuncStateless"]}), True, Cause.STATELESS_PYTHON),
        (stage(REFUSED, ops={"random": ["RandomUniform"]}), False, Cause.RANDOM_REFUSED),
        (stage(ops={"random": ["RandomUniform"]}), False, Cause.RANDOM_STATE),
        (stage(ops={"random": ["RandomUniform"]}, unordered=True), True, Cause.SYMBOLIC),
        (stage(ops={"variable": ["ReadVariableOp"]}), False, Cause.VARIABLE),
        (stage(ops={"other": ["Timestamp"]}), False, Cause.STATEFUL_OP),
        (stage(unordered=True), False, Cause.UNORDERED),
        (stage(REFUSED, "Dataset.apply"), False, Cause.NOT_SERIALISABLE),
        (stage(differs=True), False, Cause.BUILT_ANEW),
        (stage(), False, None),
    ],
)
def test_cause_of_a_stage(one: StageResult, symbolic: bool, cause: Cause | None) -> None:
    """What a stage has in it, and how it failed, decides."""
    assert causes.of_stage(one, PipelineResult((one,), symbolic=symbolic)) is cause


def use(key: str = "train", **more: bool) -> IteratorUse:
    """An iterator."""
    return IteratorUse(key, f"{key}.py:1, in train", **more)


def life(*uses: IteratorUse, **more: bool) -> Handling:
    """What a life did."""
    return Handling(uses, **more)


SAVED = life(use(saved=True, read=True))
FRESH = life(use(read=True))
RESTORED = life(use(restored=True, read=True))
OTHER = life(use(restored=True), use(read=True))


@pytest.mark.parametrize(
    ("outcome", "whole", "lives", "line", "cause"),
    [
        (Outcome.RESTARTED, FRESH, [FRESH, FRESH], "next(iterator)", Cause.NOT_SAVED),
        (Outcome.RESTARTED, SAVED, [SAVED, SAVED], "", Cause.NOT_RESTORED),
        (Outcome.RESTARTED, SAVED, [FRESH, SAVED], "", Cause.SAVED_APART),
        (Outcome.RESTARTED, SAVED, [SAVED, life(use(sought=True, read=True))], "", Cause.SAVED_APART),
        (Outcome.MISALIGNED, SAVED, [SAVED, RESTORED], "", Cause.SAVED_APART),
        (Outcome.CHANGED, SAVED, [SAVED, RESTORED], "", None),
        (Outcome.RESTARTED, SAVED, [SAVED, OTHER], "    for x in dataset:", Cause.FOR_LOOP),
        (Outcome.RESTARTED, SAVED, [SAVED, OTHER], "    for x in iter(dataset):", Cause.NEW_ITERATOR),
        (Outcome.LOST, SAVED, [SAVED, OTHER], "iterator = iter(dataset)", Cause.NEW_ITERATOR),
        (Outcome.RESTARTED, FRESH, [life(use(read=True), tracks_dataset=True), FRESH], "", Cause.DATASET_TRACKED),
        (Outcome.RESTARTED, FRESH, [FRESH, FRESH], "model.fit(dataset)", Cause.KERAS_FIT),
        (Outcome.LOST, FRESH, [FRESH, FRESH], "", Cause.OWN_POSITION),
        (Outcome.RESTARTED, FRESH, [FRESH, life(use(read=True, saveable=False))], "", Cause.NOT_SAVEABLE),
        (Outcome.LOST, FRESH, [FRESH, life(use("validation", read=True))], "", None),
        (Outcome.RESTARTED, life(in_graph=True), [life(), life(in_graph=True)], "", Cause.NOT_SAVED_IN_SESSION),
        (Outcome.LOST, life(in_graph=True), [life(), life(in_graph=True)], "", Cause.OWN_POSITION),
        (Outcome.MISALIGNED, life(), [life(), life(in_graph=True, saved_in_graph=True)], "", Cause.SAVED_APART),
        (Outcome.CHANGED, life(), [life(), life(in_graph=True, saved_in_graph=True)], "", None),
    ],
)
def test_cause_in_the_code(
    outcome: Outcome, whole: Handling, lives: list[Handling], line: str, cause: Cause | None
) -> None:
    """What the lives did with their iterators decides, and the line that made the last one."""
    assert causes.of_code(outcome, whole, lives, TRAINS, line) is cause


def test_one_of_two_iterators() -> None:
    """Of two streams that train the one that went wrong is named, and not taken for another over the same data."""
    both = life(use("main", restored=True, read=True), use("extra", read=True))
    streams = frozenset({"main", "extra"})
    label = "extra.py:1, in train"
    assert causes.trained_on(both, streams, label) == both.iterators[1]
    assert causes.of_code(Outcome.RESTARTED, FRESH, [both, both], streams, "", lane=label) is Cause.NOT_SAVED
    saved = life(use("main", saved=True, read=True), use("extra", read=True))
    assert causes.of_code(Outcome.RESTARTED, saved, [saved, both], streams, "", lane=label) is Cause.NOT_SAVED


def test_elements_in_flight() -> None:
    """What a loader held when its iterator was saved is not a pair that was saved apart."""
    given = (Outcome.MISALIGNED, SAVED, [SAVED, RESTORED], TRAINS, "")
    assert causes.of_code(*given, held=True) is Cause.IN_FLIGHT
    assert causes.of_code(*given) is Cause.SAVED_APART


def test_unseeded_shuffle() -> None:
    """What differs from run to run because of an unseeded shuffle below it is not built differently."""
    shuffle = stage(None, "Dataset.shuffle", differs=True)
    repeat = stage(WRONG, "Dataset.repeat", differs=True)
    assert causes.of_stage(repeat, PipelineResult((shuffle, repeat))) is Cause.DRAWN_ANEW


def test_every_cause_has_a_reason_and_a_remedy() -> None:
    """Each row is one sentence and one remedy, and its placeholders are those that are filled in."""
    for cause in Cause:
        assert cause.advice.reason.format(ops="Op", policy="policy")
        assert cause.advice.remedy
        assert not cause.advice.reason.endswith(".")


def test_every_cause_is_provoked() -> None:
    """Each row of the table has a training among the faults that gets it for real."""
    assert {fault.cause for fault in FAULTS.values()} == set(Cause)


def test_handling_of_events() -> None:
    """Events of a life are summed up for each of its iterators."""
    events: list[dict[str, object]] = [
        {"event": "made", "iterator": 0, "key": "k0", "label": "l", "graph": False},
        {"event": "made", "iterator": 1, "key": "k1", "label": "l", "graph": False},
        {"event": "sought", "iterator": 0},
        {"event": "restored", "iterator": 0},
        {"event": "began", "iterator": 1},
        {"event": "saved", "iterator": 1},
        {"event": "tracked", "iterator": None},
        {"event": "saved", "iterator": None},
    ]
    assert handling(events) == Handling(
        (IteratorUse("k0", "l", restored=True, sought=True), IteratorUse("k1", "l", saved=True, read=True)),
        tracks_dataset=True,
        saved_in_graph=True,
    )
