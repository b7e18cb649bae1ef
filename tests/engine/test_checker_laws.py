"""Laws of the checker, over simulated trainers and over arbitrary records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from histories_builder import TRAIN, Book, Disk, Fault, Plan, Trainer, reference, trial
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine import ledger
from pytest_pipeline_ckpt.engine.checker import judge, reference_facts
from pytest_pipeline_ckpt.engine.model import Ending, Kind, Ledger, Life, Outcome, Stream


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Right trainers of all sorts."""
    rate = draw(st.sampled_from([1, 1, 2, 3, 4]))
    mixed = draw(st.booleans())
    return Plan(
        size=draw(st.integers(2 * rate, 40)),
        epochs=draw(st.integers(1, 4)),
        rate=rate,
        save_every=draw(st.integers(1, 12)),
        # By the same code as the training, validation can only be told when it takes as many as a step.
        validation=draw(st.sampled_from([rate, rate + 3])) if mixed else draw(st.sampled_from([0, 1, 5])),
        validate_every=draw(st.sampled_from([0, 10])),
        style=draw(st.sampled_from(["iterator", "skip", "peek"])),
        lanes=draw(st.sampled_from([1, 1, 2, 3])),
        persistent=draw(st.booleans()),
        mixed=mixed,
    )


KILLS = st.lists(st.integers(1, 60), max_size=4)


def landed(plan: Plan, kills: list[int], *, swapped: bool = False, fault: Fault | None = None) -> list[Life]:
    """The lives under those of the kills that land."""
    lives = trial(plan, kills, swapped=swapped, fault=fault)
    return [*lives[:-1], replace(lives[-1], kill=None)]


@given(plans(), KILLS, st.booleans())
@example(Plan(size=2, epochs=1, save_every=1), [1, 1, 1, 1], False)
def test_right_trainers_are_exact(plan: Plan, kills: list[int], swapped: bool) -> None:
    """Any schedule of kills over a right trainer is exact, in either order of two iterators of one step."""
    verdict = judge([reference(plan)], landed(plan, kills, swapped=swapped))
    assert verdict.outcome is Outcome.EXACT, verdict


FAULTS = st.sampled_from(
    ["behind", "ahead", "restart", "lose", "repeat", "swap", "foreign", "stop", "overrun", "no_model"]
)


@given(plans(), KILLS, FAULTS)
def test_faulty_trainers_are_never_exact(plan: Plan, kills: list[int], fault: Fault) -> None:
    """A trainer with one fault is never exact once the fault has reached the final model."""
    lives = landed(plan, kills, fault=fault)
    assume(_trained(plan, kills, fault) != _trained(plan, [], None))
    assert judge([reference(plan)], lives).outcome is not Outcome.EXACT


def _trained(plan: Plan, kills: list[int], fault: Fault | None) -> list[int]:
    """What the final model was trained on, lane by lane, known from the trainer and not from its records."""
    disk = Disk()
    history: list[list[int]] = [[] for _ in range(plan.lanes)]
    for kill in (*kills, None):
        trainer = Truthful(plan, disk, kill, fault)
        life = trainer.live()
        history = [old[: trainer.began * plan.rate] + new for old, new in zip(history, trainer.taken, strict=True)]
        if life.ending is not Ending.KILLED:
            break
    return [value for lane in history for value in lane]


class Truthful(Trainer):
    """Keeps what it trains on, and the step with which it began."""

    def __init__(self, plan: Plan, disk: Disk, kill: int | None, fault: Fault | None) -> None:
        super().__init__(plan, disk, kill, fault)
        self.taken: list[list[int]] = [[] for _ in range(plan.lanes)]
        self.began = 0
        self._skipping = True

    def _resume(self) -> int:
        position = super()._resume()
        self.began, self._skipping = self._step, False
        return position

    def _take(self, key: str, iterator: int, value: int, *, counted: bool = True) -> None:
        if not self._skipping and value < 10**6:
            self.taken[0 if key == TRAIN else int(key.split(":")[1]) - 42].append(value)
        super()._take(key, iterator, value, counted=counted)


VALUES = st.lists(st.integers(0, 7), max_size=12)


@given(st.lists(st.integers(0, 7), min_size=2, max_size=12), st.integers(0, 12), st.integers(0, 12), VALUES)
@example([1, 1, 1, 1], 3, 2, [1, 1])
def test_exact_iff_equal(right: list[int], at: int, step: int, rest: list[int]) -> None:
    """A trial is exact if and only if what a slow model of it has been trained on is the reference's."""
    at = max(2, min(at, len(right)))
    step = min(step, at)
    run = Book().train(right, step=0).done(len(right)).finished()
    first = Book().train(right[:at], step=0).killed()
    last = Book().restored(step).train(rest, step=step).done(step + len(rest)).finished()
    history = right[:at][:step] + rest
    assert (judge([run], [first, last]).outcome is Outcome.EXACT) == (history == right)


@given(plans(), KILLS)
def test_facts_fit_the_kills(plan: Plan, kills: list[int]) -> None:
    """The first kill lands exactly when the facts say that there are so many elements."""
    facts = reference_facts(reference(plan))
    assert list(facts.boundaries) == sorted(set(facts.boundaries))
    assert list(facts.saves) == sorted(set(facts.saves))
    for kill in kills:
        life = Trainer(plan, Disk(), kill).live()
        assert (life.ending is Ending.KILLED) == (kill <= facts.elements)


RECORDS = st.tuples(
    st.integers(0, 8),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, 3),
    st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.just(0),
)


@st.composite
def arbitrary_lives(draw: st.DrawFn) -> Life:
    """Lives with records that no tap would write."""
    rows = draw(st.lists(RECORDS, max_size=25))
    streams = tuple(Stream(n, f"key{n % 3}", f"label {n}") for n in range(draw(st.integers(0, 4))))
    previews = np.frombuffer(draw(st.binary(max_size=3)) * ledger.PREVIEW_BYTES, (np.void, ledger.PREVIEW_BYTES))
    return Life(Ledger(np.array(rows, ledger.RECORD), streams, previews), draw(st.sampled_from(Ending)))


@given(st.lists(arbitrary_lives(), max_size=3), st.lists(arbitrary_lives(), max_size=3), st.sampled_from([None, 1, 3]))
def test_arbitrary_records(references: list[Life], lives: list[Life], rate: int | None) -> None:
    """Whatever the records are, there is a verdict, and the checker itself does not fail."""
    for order in ("exact", "any"):
        verdict = judge(references, lives, order=order, elements_per_step=rate)
        assert not verdict.reason.startswith("the checker itself failed"), verdict.reason


@given(plans(), KILLS, st.data())
def test_damaged_records(plan: Plan, kills: list[int], data: st.DataObject) -> None:
    """A right trial in whose ledgers some records are other ones has a verdict, without a failure of the checker."""
    lives = landed(plan, kills)
    number = data.draw(st.integers(0, len(lives) - 1))
    records = lives[number].ledger.records.copy()
    assume(len(records))
    at = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(["kind", "stream", "iterator", "value"]))
    records[field][at] = data.draw(st.integers(0, 255))
    lives[number] = replace(lives[number], ledger=replace(lives[number].ledger, records=records))
    verdict = judge([reference(plan)], lives)
    assert not verdict.reason.startswith("the checker itself failed"), verdict.reason


def test_unfilled_kind() -> None:
    """Records of kinds that are not known are passed over."""
    run = Book().train(range(9), step=0).done(9).finished()
    records = np.concatenate((np.zeros(3, ledger.RECORD), run.ledger.records))
    assert Kind.ELEMENT not in records["kind"][:3]
    other = replace(run, ledger=replace(run.ledger, records=records))
    assert judge([run], [other]).outcome is Outcome.EXACT
