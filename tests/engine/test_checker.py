"""The checker on histories made by hand: the whole verdict is compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from histories_builder import OPAQUE, TRAIN, VALID, Book, Fault, Plan, reference, trial

from pytest_pipeline_ckpt.engine.checker import ReferenceFacts, judge, needs_more_references, reference_facts
from pytest_pipeline_ckpt.engine.ledger import RECORD
from pytest_pipeline_ckpt.engine.model import Ending, Kill, Ledger, Life, Outcome, Scope, Span, Verdict

LABEL = "train.py:42, in main"


def unkilled(count: int = 20) -> Life:
    """The reference run: elements 0, 1, ... with step = element, saved after every fifth."""
    book = Book()
    for begin in range(0, count, 5):
        book.train(range(begin, begin + 5), step=begin).saved(begin + 5)
    return book.done(count).finished()


def killed(at: int = 13, *, saved: int = 10) -> Life:
    """Killed at its `at`-th element, with a checkpoint at `saved`."""
    book = Book().train(range(saved), step=0).saved(saved)
    return book.train(range(saved, at), step=saved).killed()


def resumed(values: list[int] | range, *, step: int = 10) -> Life:
    """A last life that restored `step` and took `values`."""
    return Book().restored(step).train(values, step=step).done(step + len(values)).finished()


def scope(compared: int, *, replayed: int = 3) -> Scope:
    """Of one kill at element 13 with a save at 10."""
    return Scope(kills_landed=1, saves_crossed=1, elements_compared=compared, elements_replayed=replayed)


REPLAY = ("3 elements trained again after rollbacks (legal replay)",)


def shown(*values: int) -> tuple[str, ...]:
    """The previews of some elements."""
    return tuple(str(value) for value in values)


def test_exact() -> None:
    """A life that goes on where the restored model stands is exact, and what was rolled back is legal replay."""
    assert judge([unkilled()], [killed(), resumed(range(10, 20))]) == Verdict(
        Outcome.EXACT,
        "the final model has been trained on exactly the reference run's elements; 10 elements compared after 1 kill",
        scope=scope(10),
        notes=REPLAY,
    )


def test_behind() -> None:
    """A pipeline behind the model is misaligned, with the elements that were trained twice."""
    assert judge([unkilled()], [killed(), resumed(range(7, 17))]) == Verdict(
        Outcome.MISALIGNED,
        "elements 7..9 were trained twice: the pipeline resumed 3 elements behind the model "
        "(model at step 10, element 7)",
        2,
        (Span("twice", 7, 9, shown(7, 8, 9)),),
        scope(10),
        REPLAY,
    )


def test_ahead() -> None:
    """A pipeline ahead of the model is misaligned, also when the run then reaches past the reference's end."""
    assert judge([unkilled()], [killed(), resumed([*range(11, 20), 77])]) == Verdict(
        Outcome.MISALIGNED,
        "element 10 was never trained: the pipeline resumed 1 element ahead of the model "
        "(model at step 10, element 11)",
        2,
        (Span("lost", 10, 10, shown(10)),),
        scope(10),
        REPLAY,
    )


def test_restarted() -> None:
    """A pipeline that begins at element 0 though the model resumed has restarted."""
    assert judge([unkilled()], [killed(), resumed(range(10))]) == Verdict(
        Outcome.RESTARTED,
        "elements 0..9 were trained twice: life 2 restarted the pipeline at element 0, and the model had resumed "
        "at step 10, element 10",
        2,
        (Span("twice", 0, 9, shown(0, 1, 2, 3, 4)),),
        scope(10),
        REPLAY,
    )


@pytest.mark.parametrize(
    ("left", "outcome", "reason"),
    [
        (
            10,
            Outcome.MISALIGNED,
            "elements 10..11 were trained twice: the pipeline resumed 2 elements behind the model "
            "(model at step 12, element 10)",
        ),
        (
            5,
            Outcome.MISALIGNED,
            "elements 12..14 were never trained: the pipeline resumed 3 elements ahead of the model "
            "(model at step 12, element 15)",
        ),
        (
            20,
            Outcome.RESTARTED,
            "elements 0..11 were trained twice: life 2 restarted the pipeline at element 0, and the model had resumed "
            "at step 12, element 12",
        ),
    ],
)
def test_passes_that_are_equal(left: int, outcome: Outcome, reason: str) -> None:
    """Each begins alike, and how much a life takes until it ends tells with which it began."""
    passes = [*range(5)] * 4
    book = Book().train(passes[:12], step=0).saved(12)
    whole = book.train(passes[12:], step=12).done(20).finished()
    first = Book().train(passes[:12], step=0).saved(12).train(passes[12:14], step=12).killed()
    verdict = judge([whole], [first, resumed(passes[:left], step=12)])
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_lost() -> None:
    """Elements that are skipped after a right beginning are lost."""
    assert judge([unkilled()], [killed(), resumed([10, 11, 12, 15, 16, 18, 19])]) == Verdict(
        Outcome.LOST,
        "elements 13..14, 17 were never trained, after life 2 resumed",
        2,
        (Span("lost", 13, 14, shown(13, 14)), Span("lost", 17, 17, shown(17))),
        scope(7),
        REPLAY,
    )


def test_duplicated() -> None:
    """Elements that are taken again after a right beginning are duplicated."""
    values = [10, 11, 12, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert judge([unkilled()], [killed(), resumed(values)]) == Verdict(
        Outcome.DUPLICATED,
        "elements 11..12 were trained twice, after life 2 resumed",
        2,
        (Span("twice", 11, 12, shown(11, 12)),),
        scope(12),
        REPLAY,
    )


def test_lost_and_duplicated() -> None:
    """With both, the verdict is lost and the words name both."""
    values = [10, 11, 12, 11, 14, 15, 16, 17, 18, 19]
    assert judge([unkilled()], [killed(), resumed(values)]) == Verdict(
        Outcome.LOST,
        "element 13 was never trained, and element 11 was trained twice, after life 2 resumed",
        2,
        (Span("lost", 13, 13, shown(13)), Span("twice", 11, 11, shown(11))),
        scope(10),
        REPLAY,
    )


def test_reordered() -> None:
    """The same elements in another order are reordered."""
    values = [10, 11, 13, 12, 14, 15, 16, 17, 19, 18]
    assert judge([unkilled()], [killed(), resumed(values)]) == Verdict(
        Outcome.REORDERED,
        "elements 12..13, 18..19 came in another order in life 2",
        2,
        (Span("reordered", 12, 13, shown(12, 13)), Span("reordered", 18, 19, shown(18, 19))),
        scope(10),
        REPLAY,
    )


def test_changed() -> None:
    """Content that the reference run does not have is changed; the previews show it as it came."""
    values = [10, 11, 112, 113, 14, 15, 16, 17, 18, 119]
    assert judge([unkilled()], [killed(), resumed(values)]) == Verdict(
        Outcome.CHANGED,
        "elements 12..13, 19, trained in life 2, were not in the reference run: the content changed",
        2,
        (Span("changed", 12, 13, shown(112, 113)), Span("changed", 19, 19, shown(119))),
        scope(10),
        REPLAY,
    )


def test_overrun() -> None:
    """A run that trains on after the reference's end has overrun."""
    assert judge([unkilled()], [killed(), resumed([*range(10, 20), 0, 1])]) == Verdict(
        Outcome.OVERRUN,
        "life 2 trained on after the end: elements 20..21 were extra, because the reference run took 20 elements",
        2,
        (Span("extra", 20, 21, shown(0, 1)),),
        scope(12),
        REPLAY,
    )


def test_incomplete() -> None:
    """A run that ends early, with exit code 0, is incomplete."""
    assert judge([unkilled()], [killed(), resumed(range(10, 17))]) == Verdict(
        Outcome.INCOMPLETE,
        "training ended after 17 elements in life 2: elements 17..19 were never trained",
        2,
        (Span("missing", 17, 19, shown(17, 18, 19)),),
        scope(7),
        REPLAY,
    )


def test_incomplete_without_elements() -> None:
    """A resumed life that trains nothing although something was left says so."""
    last = Book().restored(10).done(10).finished()
    assert judge([unkilled()], [killed(), last]) == Verdict(
        Outcome.INCOMPLETE,
        "life 2 trained 0 elements although elements 10..19 were left",
        2,
        (Span("missing", 10, 19, shown(10, 11, 12, 13, 14)),),
        scope(0),
        REPLAY,
    )


def test_nothing_left() -> None:
    """A resumed life that trains nothing because training was complete is exact."""
    first = killed(20, saved=20)
    verdict = judge([unkilled()], [first, Book().restored(20).done(20).finished()])
    assert (verdict.outcome, verdict.scope) == (Outcome.EXACT, scope(0, replayed=0))


@pytest.mark.parametrize("step", [None, 10])
def test_nothing_left_of_a_rolled_back_model(step: int | None) -> None:
    """A life without elements whose model stands at an older step is not exact, however it says where it stands."""
    last = Book() if step is None else Book().restored(step)
    verdict = judge([unkilled()], [killed(20, saved=10), last.finished()])
    assert verdict.outcome is Outcome.INCOMPLETE


def test_model_ahead_of_everything() -> None:
    """A model that claims more steps than were ever made is misaligned with the history."""
    assert judge([unkilled()], [killed(), resumed(range(15, 20), step=15)]) == Verdict(
        Outcome.MISALIGNED,
        "the model resumed at step 15, which is element 15, but only 13 elements had been trained by then: "
        "elements 13..14 were never trained",
        2,
        (Span("lost", 13, 14, shown(13, 14)),),
        scope(5, replayed=0),
    )


def test_each_range_shows_its_elements() -> None:
    """Up to five ranges show up to five elements each; elements that look alike and are not have their fingerprint."""
    twin = 0x10000  # a preview of these books shows 16 bits of an element's content
    values = [*range(10, 17), 100, 101, *range(19, 22), 102, 102 + twin, 102, *range(25, 30)]
    lives = [killed(), Book().restored(10).train(values, step=10).done(30).finished()]
    assert judge([Book().train(range(30), step=0).finished()], lives).spans == (
        Span("changed", 17, 18, shown(100, 101)),
        Span(
            "changed",
            22,
            24,
            (
                "102, fingerprint 0000000000000066",
                "102, fingerprint 0000000000010066",
                "102, fingerprint 0000000000000066",
            ),
        ),
    )


def test_no_more_than_five_ranges_are_shown() -> None:
    """However many ranges there are, five of them show elements; what was lost has precedence over what came twice."""

    def spans_of(values: list[int]) -> tuple[Span, ...]:
        life = Book().restored(10).train(values, step=10).done(10 + len(values)).finished()
        return judge([Book().train(range(40), step=0).finished()], [killed(), life]).spans

    lost = [Span("lost", value, value, shown(value)) for value in (12, 14, 16, 18, 20)]
    assert spans_of([10, 11, 13, 15, 17, 19, 21, 23, *range(24, 31), 30, *range(31, 40)]) == (
        *lost,
        Span("twice", 30, 30),
    )
    assert spans_of([10, 11, 13, 15, 17, 19, *range(20, 31), 30, *range(31, 40)]) == (
        *lost[:4],
        Span("twice", 30, 30, shown(30)),
    )


def test_model_ahead_and_other_content() -> None:
    """A model ahead of everything with elements from nowhere is changed."""
    verdict = judge([unkilled()], [killed(), resumed([70, 71, 72, 73, 74], step=15)])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.CHANGED,
        "the model resumed at step 15, which is element 15, but only 13 elements had been trained by then, and what it "
        "took is no run of the reference's elements",
    )


def test_model_ahead_pipeline_right() -> None:
    """A model ahead of everything whose pipeline goes on elsewhere says where."""
    verdict = judge([unkilled()], [killed(), resumed(range(13, 20), step=15)])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "the model resumed at step 15, which is element 15, but only 13 elements had been trained by "
        "then; the pipeline "
        "resumed at element 13",
    )


def test_torn_pair_with_perfect_suffix() -> None:
    """A perfect suffix behind the kill is not exact when the model had been rolled back further."""
    verdict = judge([unkilled()], [killed(), resumed(range(13, 20), step=10)])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "elements 10..12 were never trained: the pipeline resumed 3 elements ahead of the model "
        "(model at step 10, element 13)",
    )


def test_rollback_past_a_life() -> None:
    """A model that is rolled back past an earlier life, with its pipeline, is exact."""
    lives = [
        Book().train(range(5), step=0).saved(5).train(range(5, 10), step=5).saved(10).killed(),
        Book().restored(10).train(range(10, 14), step=10).killed(),
        Book().restored(5).train(range(5, 20), step=5).done(20).finished(),
    ]
    verdict = judge([unkilled()], lives)
    assert (verdict.outcome, verdict.scope) == (Outcome.EXACT, Scope(2, 2, 15, 9))


def test_what_was_rolled_back_does_not_count() -> None:
    """Wrong elements that the model's rollback undid are no fault of the final model."""
    lives = [killed(), Book().restored(10).train([90, 91, 92], step=10).killed(), resumed(range(10, 20))]
    assert judge([unkilled()], lives).outcome is Outcome.EXACT


def test_first_wrong_life_decides() -> None:
    """Of two wrong lives the first is named."""
    lives = [
        killed(),
        Book().restored(10).train([11, 12, 13], step=10).saved(13).killed(),
        Book().restored(13).train(range(7), step=13).done(20).finished(),
    ]
    verdict = judge([unkilled()], lives)
    assert (verdict.outcome, verdict.life) == (Outcome.MISALIGNED, 2)


def test_crashed() -> None:
    """A life that crashes says how, with the last line that it wrote."""
    crashed = Life(
        Ledger(np.empty(0, RECORD)), Ending.CRASHED, status="exit code 1", stderr_tail="x\nValueError: y\n\n"
    )
    assert judge([unkilled()], [killed(), crashed]) == Verdict(
        Outcome.CRASHED,
        "life 2 crashed (exit code 1): ValueError: y",
        2,
        scope=scope(0, replayed=0),
    )


def test_hung() -> None:
    """A life without progress is hung."""
    hung = Life(Ledger(np.empty(0, RECORD)), Ending.HUNG, status="no progress for 60 s")
    assert judge([unkilled()], [killed(), hung]) == Verdict(
        Outcome.HUNG, "life 2 hung (no progress for 60 s)", 2, scope=scope(0, replayed=0)
    )


@pytest.mark.parametrize(
    ("ending", "outcome", "reason"),
    [
        (Ending.CRASHED, Outcome.CRASHED, "the reference run, which nobody killed, crashed (exit code 1): boom"),
        (Ending.HUNG, Outcome.HUNG, "the reference run, which nobody killed, hung (exit code 1): boom"),
        (
            Ending.ENDLESS,
            Outcome.UNKNOWN,
            "the reference run, which nobody killed, had not ended after 20 elements: pass steps=",
        ),
    ],
)
def test_failed_reference(ending: Ending, outcome: Outcome, reason: str) -> None:
    """A reference run that did not end well decides, and the words say that nobody killed it."""
    bad = replace(unkilled(), ending=ending, status="exit code 1", stderr_tail="boom")
    assert judge([bad], [bad]) == Verdict(outcome, reason)


@pytest.mark.parametrize(
    ("book", "reason"),
    [
        (Book().done(0), "the reference run took no element from any dataset iterator: there is nothing to compare"),
        (
            Book().train(range(20), step=0).done(50),
            "the reference run made 30 steps after it had taken its last element, so what they were trained on came "
            "from no iterator (a list, a cache of its own?) and cannot be compared: go over the dataset in each pass, "
            "and keep it in memory by dataset.cache()",
        ),
        (
            Book().train([1, 2, 3], step=-1, rate=9),
            "the model's step could not be observed while the reference run took 3 elements: "
            "pass step=, a function that returns it, or for a script --preempt-model-step=__main__:NAME",
        ),
        (
            Book().train([1, 2, 3], step=7, rate=9).done(7),
            "the model's step stayed at 7 while the reference run took 3 elements: "
            "pass step=, a function that returns a step which advances with the training",
        ),
        (
            Book().step(0).element(1).step(5).element(2).step(6).element(3).step(20).element(4).done(21),
            "the reference run took 4 elements in 21 steps, and from no stream something in most of them, so which of "
            "them trains is not known: pass step=, a function that returns a step which advances with the training",
        ),
    ],
)
def test_reference_that_tells_nothing(book: Book, reason: str) -> None:
    """Where the reference run does not tell what trains, the verdict is unknown and names the remedy."""
    run = book.finished()
    assert judge([run], [run]) == Verdict(Outcome.UNKNOWN, reason)


def test_wrong_elements_per_step() -> None:
    """A number of elements a step that no stream has is refused with what was seen."""
    assert judge([unkilled()], [unkilled()], elements_per_step=5) == Verdict(
        Outcome.UNKNOWN,
        "elements_per_step=5 was given, but no stream of the reference run gave about 5 for each of its 20 steps "
        "(20 elements in all): pass the number that one step takes",
    )


def test_elements_per_step_given() -> None:
    """The right number given is as good as the measured one."""
    plan = Plan(size=12, rate=3)
    assert judge([reference(plan)], trial(plan, [11]), elements_per_step=3).exact


def test_unknown_step_of_a_resumed_life() -> None:
    """A perfect suffix is not exact when the step from which the model went on was not seen."""
    last = Book().train(range(10, 20), step=-1, rate=99).finished()
    assert judge([unkilled()], [killed(), last]) == Verdict(
        Outcome.UNKNOWN,
        "life 2 took 10 training elements, and the model's step when it began could not be observed, "
        "so where it should "
        "have gone on is not known: pass step=, a function that returns it",
        2,
        scope=Scope(kills_landed=1, saves_crossed=1),
    )


def test_missed_kill() -> None:
    """A planned kill that never landed makes an otherwise exact trial unknown."""
    life = replace(unkilled(), kill=Kill(25))
    assert judge([unkilled()], [life]) == Verdict(
        Outcome.UNKNOWN,
        "the kill planned for life 1 (step:25) never landed: it ended by itself after 20 training elements",
        1,
    )


def test_missed_kill_of_a_wrong_life() -> None:
    """Where a kill did not land because of a fault, the fault is reported."""
    lives = [killed(), replace(resumed(range(10, 17)), kill=Kill(9))]
    assert judge([unkilled()], lives).outcome is Outcome.INCOMPLETE


def test_last_life_killed() -> None:
    """Without a life that ran to its end nothing is exact."""
    assert judge([unkilled()], [killed()]) == Verdict(
        Outcome.UNKNOWN,
        "life 1, the last one, did not run to its end (killed): what follows is not known",
        1,
        scope=scope(0, replayed=0),
    )


@pytest.mark.parametrize(
    ("references", "lives", "reason"),
    [
        ([], [unkilled()], "no reference run was given: nothing to judge"),
        ([unkilled()], [], "no life was given: nothing to judge"),
    ],
)
def test_nothing_given(references: list[Life], lives: list[Life], reason: str) -> None:
    """Without a reference run or lives the verdict is unknown."""
    assert judge(references, lives) == Verdict(Outcome.UNKNOWN, reason)


def test_opaque() -> None:
    """Training elements that cannot be fingerprinted make the verdict unknown, and are named."""
    book = Book().step(0).element(1, flags=OPAQUE).step(1).element(1, flags=OPAQUE).done(2)
    run = book.finished(opaque="0 (DatasetSpec)")
    assert judge([run], [run]) == Verdict(
        Outcome.UNKNOWN,
        "training elements have a component that cannot be fingerprinted, so they cannot be compared: "
        "0 (DatasetSpec); flatten it before the iterator, for example with flat_map(lambda window: window.batch(n))",
    )


def test_checker_that_fails() -> None:
    """An error within the checker is unknown, and is named."""
    broken = replace(unkilled(), ledger=Ledger(np.zeros(3, np.int64)))
    verdict = judge([unkilled()], [broken])
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith("the checker itself failed: IndexError: ")


def test_kill_before_the_first_save() -> None:
    """A kill before the first save is exact when the run starts again, and is said to prove little."""
    lives = [Book().train(range(3), step=0).killed(), resumed(range(20), step=0)]
    assert judge([unkilled()], lives).notes == (
        "life 1 was killed before the first save, which proves little",
        "3 elements trained again after rollbacks (legal replay)",
    )


def test_validation_is_listed() -> None:
    """Streams with which the model does not advance are listed with their elements, not judged."""
    plan = Plan(size=10, epochs=2, validation=4)
    verdict = judge([reference(plan)], trial(plan, [12]))
    assert verdict.exact
    assert verdict.notes[0] == (
        "not judged, because the model does not advance with it: train.py:50, in main (8 elements)"
    )


def test_lane_is_named() -> None:
    """With several lanes the reason says in which one it went wrong."""

    def side_by_side(values: range, other: range, *, step: int) -> Book:
        book = Book()
        for number, (one, two) in enumerate(zip(values, other, strict=True)):
            book.step(step + number).element(one)
            book.step(step + number, key=VALID).element(100 + two, key=VALID)
        return book

    run = side_by_side(range(20), range(20), step=0).done(20).finished()
    first = side_by_side(range(10), range(10), step=0).saved(10).killed()
    last = side_by_side(range(10, 20), range(9, 19), step=10).done(20).finished()
    verdict = judge([run], [first, last])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "train.py:50, in main: element 9 was trained twice: the pipeline resumed 1 element behind the model "
        "(model at step 10, element 9)",
    )


@pytest.mark.parametrize("key", [TRAIN, VALID])
def test_lane_that_may_be_for_validation(key: str) -> None:
    """`validation=` is offered by the line, so not where two iterators of one line make up two lanes."""
    number = int(key == TRAIN)

    def side_by_side(values: range, other: range, *, step: int) -> Book:
        book = Book()
        for at, (one, two) in enumerate(zip(values, other, strict=True), step):
            book.step(at).element(one)
            book.step(at, key=key, iterator=number).element(100 + two, key=key, iterator=number)
        return book

    run = side_by_side(range(20), range(20), step=0).done(20).finished()
    first = side_by_side(range(10), range(10), step=0).saved(10).killed()
    last = side_by_side(range(10, 20), range(10), step=10).done(20).finished()
    verdict = judge([run], [first, last])
    assert verdict.outcome is Outcome.RESTARTED
    assert verdict.reason.endswith('say so: validation=["train.py:50"]') == (key == VALID)


def test_iterator_on_another_line() -> None:
    """A resumed life may make its iterator on another line, and skip on a third."""
    last = Book().restored(10)
    last.step(10, key="skip.py:1:main")
    for value in range(10):
        last.element(value, key="skip.py:1:main")
    last.train(range(10, 20), step=10, key="resume.py:9:main").done(20)
    assert judge([unkilled()], [killed(), last.finished()]).exact


def test_swapped_lanes_on_other_lines() -> None:
    """Two iterators that a resumed life makes on other lines are known by their elements, in either order."""

    def both(begin: int, end: int, keys: tuple[str, str], *, swapped: bool) -> Book:
        book = Book()
        for step in range(begin, end):
            pairs = [(keys[0], step), (keys[1], 100 + step)]
            for key, value in reversed(pairs) if swapped else pairs:
                book.step(step, key=key).element(value, key=key)
        return book

    run = both(0, 20, (TRAIN, VALID), swapped=False).done(20).finished()
    first = both(0, 10, (TRAIN, VALID), swapped=True).saved(10).killed()
    last = both(10, 20, ("r.py:1:main", "r.py:2:main"), swapped=True).done(20).finished()
    assert judge([run], [first, last]).exact


def test_stranger() -> None:
    """A second iterator beside the training one that the reference run does not have is a change."""
    last = Book().restored(10)
    for value in range(10, 20):
        last.step(value).element(value)
        last.step(value, key="new.py:1:main").element(value + 500, key="new.py:1:main")
    verdict = judge([unkilled()], [killed(), last.done(20).finished()])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.CHANGED,
        "life 2 took 10 training elements from an iterator that the reference run does not have",
    )


def test_late_restore() -> None:
    """Restoring the best weights at the end, also into the reference run, does not matter."""
    run = Book().train(range(20), step=0).saved(20).restored(5).done(5).finished()
    first = Book().train(range(10), step=0).saved(10).train(range(10, 13), step=10).killed()
    last = Book().restored(10).train(range(10, 20), step=10).saved(20).restored(5).done(5).finished()
    assert judge([run], [first, last]).exact


def test_element_taken_to_find_the_end() -> None:
    """A loop that takes one element more than it trains on, and then stops, is exact when resumed at the end too."""
    run = Book().train(range(20), step=0).step(20).element(20).done(20).finished()
    first = Book().train(range(20), step=0).saved(20).step(20).element(20).killed()
    last = Book().restored(20).step(20).element(20).done(20).finished()
    assert judge([run], [first, last]).exact


def ahead(begin: int, end: int, *, skip: int = 0) -> Book:
    """A loop that takes the next element before it trains on this one."""
    book = Book() if not begin else Book().restored(begin)
    for number, value in enumerate(range(begin - skip, end)):
        book.step(begin + max(0, number - skip - 1)).element(value)
    return book


def test_loop_that_takes_one_element_ahead() -> None:
    """A loop that works one element ahead, and skips on resume, is exact wherever it is killed."""
    run = ahead(0, 20).done(20).finished()
    for step in (3, 10, 18, 19):
        first = ahead(0, min(20, step + 2)).saved(step).killed()
        last = ahead(step, 20, skip=step).done(20).finished()
        assert judge([run], [first, last]).exact, step


def test_iterator_state_saved_one_element_ahead() -> None:
    """A loop that works one element ahead and saves the iterator so loses the element that it held."""
    run = ahead(0, 20).done(20).finished()
    first = ahead(0, 12).saved(10).killed()
    book = Book().restored(10)
    for number, value in enumerate(range(11, 20)):
        book.step(10 + max(0, number - 1)).element(value)
    verdict = judge([run], [first, book.done(19).finished()])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "element 10 was never trained: the pipeline resumed 1 element ahead of the model (model at "
        "step 10, element 11)",
    )


def test_skipping_life_killed_while_it_skips() -> None:
    """A life that is killed while it skips by calling next has trained nothing, and harms nothing."""
    skipping = Book().restored(10).step(10)
    for value in range(7):
        skipping.element(value).step(10)
    assert judge([unkilled()], [killed(), skipping.killed(), resumed(range(10, 20))]).exact


@pytest.mark.parametrize(
    "fault", ["behind", "ahead", "restart", "lose", "repeat", "swap", "foreign", "stop", "overrun"]
)
def test_faults_without_words_for_an_exact_verdict(fault: Fault) -> None:
    """Each of these outcomes may be due to a pipeline that differs from run to run, so more references are wanted."""
    plan = Plan(size=20)
    verdict = judge([reference(plan)], trial(plan, [16, 5], fault=fault))
    assert needs_more_references(verdict)


@pytest.mark.parametrize("outcome", [Outcome.EXACT, Outcome.CRASHED, Outcome.HUNG, Outcome.UNKNOWN, Outcome.FLAKY])
def test_more_references_change_nothing(outcome: Outcome) -> None:
    """More references are not asked for where they would change nothing."""
    assert not needs_more_references(Verdict(outcome, ""))


def test_first_life_differs() -> None:
    """A first life that differs is laid to the pipeline, unless three references agree."""
    first = Book().train([0, 1, 2, 33, 34, 5, 6], step=0).saved(7).killed()
    lives = [first, resumed(range(7, 20), step=7)]
    words = "life 1, which had nothing to resume from, differs at elements 3..4 from "
    one = judge([unkilled()], lives)
    three = judge([unkilled(), unkilled(), unkilled()], lives)
    assert (one.outcome, one.reason) == (
        Outcome.CHANGED,
        words + "the reference run: the pipeline differs from run to run",
    )
    assert (three.outcome, three.reason) == (Outcome.CHANGED, words + "3 reference runs, which are equal")
    assert one.spans == three.spans == (Span("changed", 3, 4, shown(33, 34)),)


def test_ranges_are_cut() -> None:
    """At most five ranges are spelled out."""
    values = [value + 100 * (value % 2) for value in range(10, 40)]
    verdict = judge([unkilled(40)], [killed(), resumed(values)])
    assert verdict.reason == (
        "elements 11, 13, 15, 17, 19 and 10 more, trained in life 2, were not in the reference run: the content changed"
    )
    assert len(verdict.spans) == 5


def test_reference_facts() -> None:
    """The planner is told the training elements, the ends of passes, the saves, and what does not count."""
    plan = Plan(size=10, epochs=3, save_every=4, validation=2, validate_every=10)
    run = reference(plan)
    assert reference_facts(run) == ReferenceFacts(
        elements=30,
        boundaries=(10, 20),
        saves=(4, 8, 12, 16, 20, 24, 28),
        ignored=frozenset({VALID, "every.py:7:main"}),
    )


def test_facts_of_a_run_that_tells_nothing() -> None:
    """Where nothing is known to train, every element counts for a kill nowhere, and nothing is ignored."""
    run = Book().train([1, 2, 3], step=7, rate=9).done(7).finished()
    assert reference_facts(run) == ReferenceFacts(elements=0)


def test_lanes_count_together_for_kills() -> None:
    """A kill counts the elements of all training streams."""
    facts = reference_facts(reference(Plan(size=10, epochs=2, lanes=2, save_every=5)))
    assert (facts.elements, facts.boundaries, facts.saves) == (40, (19, 20), (10, 20, 30, 40))
