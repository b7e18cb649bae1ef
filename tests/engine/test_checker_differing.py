"""The checker on pipelines whose order is not the same in every run, and on `order="any"`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest
from histories_builder import Book
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.checker import judge, rows_differ
from pytest_pipeline_ckpt.engine.model import Ending, Outcome, Scope, Span, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pipeline_ckpt.engine.model import Life

SIZE = 20
REDRAWN = "after a resume an unseeded shuffle draws later passes anew, which loses nothing"


def drawn(seed: int, *, size: int = SIZE) -> list[int]:
    """The elements of one pass in the order of a shuffle."""
    order = list(range(size))
    random.Random(seed).shuffle(order)
    return order


def passes(*orders: Sequence[int], ends: bool = True) -> Book:
    """A run over whole passes, each with its own iterator; `ends`: the trainer exhausts it."""
    book, step = Book(), 0
    for number, order in enumerate(orders):
        book.train(list(order), step=step, iterator=number)
        step += len(order)
        if ends:
            book.end(iterator=number)
        book.saved(step)
    return book


def references(*, count: int = 2, ends: bool = True) -> list[Life]:
    """Three runs of an unseeded shuffle."""
    return [
        passes(*(drawn(10 * run + n) for n in range(count)), ends=ends).done(count * SIZE).finished()
        for run in (1, 2, 3)
    ]


def killed(order: Sequence[int], *, saved: int = 8, at: int = 13) -> Life:
    """Killed in the first pass."""
    book = Book().train(list(order[:saved]), step=0).saved(saved)
    return book.train(list(order[saved:at]), step=saved).killed()


def resumed(rest: Sequence[int], *later: Sequence[int], step: int = 8, ends: bool = True) -> Life:
    """Goes on in the first pass with `rest`, then takes later passes."""
    book = Book().restored(step)
    for number, order in enumerate((rest, *later)):
        book.train(list(order), step=step, iterator=number)
        step += len(order)
        if ends:
            book.end(iterator=number)
    return book.done(step).finished()


def test_life_that_only_makes_up_for_what_its_data_is_behind() -> None:
    """Data of an earlier save is made up for by elements that are not trained on; a kill there undid nothing."""
    order = drawn(4)

    def begun() -> Book:
        book = Book().restored(8)
        for value in order[5:8]:
            book.step(8).element(value)
        return book

    last = begun().train(order[8:], step=8).end().saved(SIZE)
    lives = [killed(order), begun().killed(), last.done(SIZE).finished()]
    assert judge(references(count=1), lives).exact


def test_unseeded_shuffle_resumed_exactly() -> None:
    """A pass that goes on in its own order, and a later one drawn anew, are exact; the words say what was judged."""
    order = drawn(77)
    assert judge(references(), [killed(order), resumed(order[8:], drawn(78))]) == Verdict(
        Outcome.EXACT,
        "the final model has been trained on each pass's rows, in an order that no resume changed; 32 elements "
        "compared after 1 kill",
        scope=Scope(1, 1, 32, 5),
        notes=(
            "5 elements trained again after rollbacks (legal replay)",
            "the pipeline differs from run to run",
            "order judged on 5 overlapping elements",
            REDRAWN,
        ),
    )


def test_iterator_that_repeats_itself() -> None:
    """Passes within one iterator (`repeat`) are found by their rows."""

    def run(*orders: list[int]) -> Life:
        values = [value for order in orders for value in order]
        return Book().train(values, step=0).done(len(values)).finished()

    order, later = drawn(77), drawn(78)
    three = [run(drawn(n), drawn(n + 1)) for n in (1, 3, 5)]
    last = Book().restored(8).train([*order[8:], *later], step=8).done(40).finished()
    assert judge(three, [killed(order), last]).exact
    wrong = Book().restored(8).train([*order[8:], *later[:-1], later[0]], step=8).done(40).finished()
    verdict = judge(three, [killed(order), wrong])
    assert (verdict.outcome, verdict.life) == (Outcome.LOST, 2)


def test_another_order_after_the_resume() -> None:
    """File names from a set: the second life takes the same rows in another order than the first began."""
    order = drawn(77)
    rest = sorted(order[8:])
    verdict = judge(references(), [killed(order), resumed(rest, drawn(78))])
    wrong = [8 + n for n in range(5) if order[8 + n] != rest[n]]
    assert (verdict.outcome, verdict.life) == (Outcome.REORDERED, 2)
    assert verdict.reason.startswith(
        "life 2 should have begun with the elements that had been rolled back, and took others: elements "
    )
    assert [span.first for span in verdict.spans][:1] == wrong[:1]


def test_another_order_that_loses() -> None:
    """A resume by position into another order loses some elements and repeats others."""
    order, other = drawn(77), drawn(79)
    verdict = judge(references(), [killed(order), resumed(other[8:], drawn(78))])
    assert (verdict.outcome, verdict.life) == (Outcome.LOST, 2)
    assert "were never trained" in verdict.reason
    assert "trained twice" in verdict.reason


def test_shifted_tail() -> None:
    """A pipeline that resumes two elements behind its model is misaligned, whatever the order is."""
    order = drawn(77)
    verdict = judge(references(), [killed(order), resumed(order[6:], drawn(78))])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "elements 6..7 were trained twice: the pipeline resumed 2 elements behind the model (model at "
        "step 8, element 6)",
    )


def test_lost_behind_the_overlap() -> None:
    """An element that is lost after what could be compared is found by the rows of its pass."""
    order = drawn(77)
    rest = [*order[8:15], *order[16:]]
    verdict = judge(references(), [killed(order), resumed(rest, drawn(78))])
    assert (verdict.outcome, verdict.life) == (Outcome.LOST, 2)


def test_no_overlap() -> None:
    """Without anything done twice the order cannot be judged: flaky, with the advice."""
    order = drawn(77)
    verdict = judge(references(), [killed(order, saved=8, at=8), resumed(order[8:], drawn(78))])
    assert (verdict.outcome, verdict.life, verdict.reason) == (
        Outcome.FLAKY,
        0,
        "the pipeline differs from run to run, and no resumed life did again what an earlier one had "
        "done, so its order "
        "could not be judged: seed it (tf.random.set_seed, shuffle(seed=...), sorted file names), or check with "
        'order="any"',
    )


def test_overlap_ends_with_the_pass() -> None:
    """What a killed life took of the next pass is not compared with what the resumed life takes of it."""
    order, again = drawn(77), drawn(78)
    first = Book().train(order[:18], step=0).saved(18).train(order[18:], step=18).end()
    first.train(again[:6], step=20, iterator=1)
    verdict = judge(references(), [first.killed(), resumed(order[18:], drawn(79), step=18)])
    assert verdict.exact
    assert "order judged on 2 overlapping elements" in verdict.notes


def test_references_that_differ_in_their_rows() -> None:
    """Where the reference runs' passes have different rows, a right resume is flaky and a wrong one still fails."""
    three = [passes(drawn(n)[:16], drawn(n + 9)[:16]).done(32).finished() for n in (1, 2, 3)]
    order = drawn(77)[:16]
    right = judge(three, [killed(order), resumed(order[8:], drawn(78)[:16])])
    wrong = judge(three, [killed(order), resumed(order[7:15], drawn(78)[:16])])
    assert (right.outcome, wrong.outcome) == (Outcome.FLAKY, Outcome.MISALIGNED)
    assert right.reason.startswith("the pipeline differs from run to run, in the rows of a pass too")


@pytest.mark.parametrize(("count", "outcome"), [(1, Outcome.INCOMPLETE), (3, Outcome.OVERRUN)])
def test_number_of_passes(count: int, outcome: Outcome) -> None:
    """Whole passes too few or too many are seen where the reference runs agree on their number."""
    order = drawn(77)
    later = [drawn(80 + n) for n in range(count - 1)]
    verdict = judge(references(), [killed(order), resumed(order[8:], *later)])
    assert verdict.outcome is outcome


def test_equal_to_one_reference() -> None:
    """A trial that took one of the differing references' elements is exact."""
    three = references()
    order, later = drawn(20), drawn(21)
    assert judge(three, [killed(order), resumed(order[8:], later)]).exact


def unordered(*orders: Sequence[int], ends: bool = True) -> list[Life]:
    """One reference run."""
    return [passes(*orders, ends=ends).done(sum(map(len, orders))).finished()]


def test_any_order() -> None:
    """With `order="any"` only the rows of whole passes count."""
    lives = [killed(drawn(5)), resumed(drawn(5)[8:][::-1], drawn(6))]
    verdict = judge(unordered(drawn(1), drawn(2)), lives, order="any")
    assert (verdict.outcome, verdict.notes) == (
        Outcome.EXACT,
        ("5 elements trained again after rollbacks (legal replay)",),
    )


def test_any_order_batches() -> None:
    """Rows count, not how they were batched."""

    def batches(order: Sequence[int], size: int, step: int) -> Book:
        book = Book()
        if step:
            book.restored(step)
        for number, begin in enumerate(range(0, len(order), size)):
            batch = order[begin : begin + size]
            book.step(step + number).element(sum(batch), rows=len(batch))
        return book

    run = batches(drawn(1), 4, 0).end().done(5).finished()
    order = drawn(2)
    first = batches(order[:8], 4, 0).saved(2).killed()
    right = batches(order[8:], 4, 2).end().done(5).finished()
    wrong = batches([*order[8:19], order[8]], 4, 2).end().done(5).finished()
    short = batches(order[8:18], 4, 2).end().done(5).finished()
    assert judge([run], [first, right], order="any").exact
    assert judge([run], [first, wrong], order="any") == Verdict(
        Outcome.CHANGED,
        "pass 1 (elements 0..4) has 20 rows as in the reference run, but not the same ones",
        2,
        (Span("changed", 0, 4, tuple(str(sum([*order[8:19], order[8]][n : n + 4])) for n in (0, 4, 8))),),
        Scope(1, 1, 3, 0),
    )
    assert judge([run], [first, short], order="any").reason == (
        "pass 1 (elements 0..4) has 18 rows and in the reference run 20: 2 lost"
    )


@pytest.mark.parametrize(
    ("rest", "outcome"),
    [
        (lambda rest: rest[:-1], Outcome.LOST),
        (lambda rest: [*rest, rest[0]], Outcome.DUPLICATED),
        (lambda rest: [*rest[:-1], 99], Outcome.CHANGED),
    ],
)
def test_any_order_faults(rest: object, outcome: Outcome) -> None:
    """A row that is lost, repeated or other is seen in any order."""
    order = drawn(5)
    assert callable(rest)
    lives = [killed(order), resumed(rest(order[8:]))]
    assert judge(unordered(drawn(1)), lives, order="any").outcome is outcome


def test_any_order_without_a_visible_end() -> None:
    """A run that ends with its data, as the reference run did, counts as a pass though no end was recorded."""
    order = drawn(5)
    run = unordered(drawn(1), ends=False)
    assert judge(run, [killed(order), resumed(order[8:], ends=False)], order="any").exact
    wrong = [*order[8:-1], order[0]]
    assert judge(run, [killed(order), resumed(wrong, ends=False)], order="any").outcome is Outcome.LOST


def test_any_order_needs_a_pass() -> None:
    """Where three references end somewhere within a pass there is nothing to compare: unknown, with the remedy."""
    three = [Book().train(drawn(n)[:15], step=0).done(15).finished() for n in (1, 2, 3)]
    order = drawn(9)
    last = Book().restored(8).train(order[8:15], step=8).done(15).finished()
    assert judge(three, [killed(order), last], order="any") == Verdict(
        Outcome.UNKNOWN,
        "no pass over the data was completed, so there is no multiset to compare: let the training "
        "run over whole passes "
        '(a finite dataset, or more steps), or seed the pipeline and check with order="exact"',
        scope=Scope(1, 1, 7, 5),
        notes=("5 elements trained again after rollbacks (legal replay)",),
    )


@dataclass(frozen=False, slots=True)
class Shuffler:
    """A right trainer over an unseeded shuffle, whose iterator is part of the checkpoint."""

    size: int
    epochs: int
    save_every: int
    ends: bool
    dice: random.Random
    disk: tuple[int, list[int]] = (0, [])
    """The step and the order of its pass."""

    def live(self, kill: int | None) -> Life:
        """One life."""
        step, order = self.disk
        book = Book().restored(step) if step else Book()
        for taken in range(1, 10**9):
            if step == self.size * self.epochs:
                return book.done(step).finished()
            place = step % self.size
            if place == 0 or not order:
                order = self.dice.sample(range(self.size), self.size)
            book.step(step, iterator=step // self.size).element(order[place], iterator=step // self.size)
            if taken == kill:
                return book.killed()
            step += 1
            if step % self.size == 0 and self.ends:
                book.end(iterator=step // self.size - 1)
            if step % self.save_every == 0:
                self.disk = (step, order)
                book.saved(step)
        raise AssertionError


@given(
    st.integers(2, 15),
    st.integers(1, 3),
    st.integers(1, 9),
    st.booleans(),
    st.lists(st.integers(1, 30), max_size=3),
    st.integers(0, 10**6),
    st.sampled_from(["exact", "any"]),
)
def test_right_shuffles(
    size: int, epochs: int, save_every: int, ends: bool, kills: list[int], seed: int, order: Literal["exact", "any"]
) -> None:
    """A right trainer over an unseeded shuffle is exact, or flaky when nothing overlaps; in any order exact."""
    dice = random.Random(seed)
    three = [Shuffler(size, epochs, save_every, ends, dice).live(None) for _ in range(3)]
    # Three equal draws of a small pass look like a pipeline that is the same in every run.
    assume(len({life.ledger.records["value"].tobytes() for life in three}) > 1)
    trainer, lives = Shuffler(size, epochs, save_every, ends, dice), []
    for kill in kills:
        lives.append(trainer.live(kill))
        if lives[-1].ending is Ending.FINISHED:
            break
    else:
        lives.append(trainer.live(None))
    verdict = judge(three, lives, order=order)
    allowed = {Outcome.EXACT, Outcome.FLAKY} if order == "exact" else {Outcome.EXACT}
    assert verdict.outcome in allowed, verdict


def test_model_ahead_of_what_was_trained() -> None:
    """A model that claims more steps than were made is not exact, also where repeated references train nothing."""
    first = passes(drawn(1)).done(SIZE).finished()
    nothing = Book().restored(SIZE).done(SIZE).finished()
    ahead = Book().restored(SIZE).done(SIZE).finished()
    verdict = judge([first, nothing, nothing], [killed(drawn(1)), ahead])
    assert verdict.outcome is Outcome.MISALIGNED
    assert verdict.reason.startswith("the model resumed at step 20, which is element 20, but only 13 elements had been")


def test_rows_of_runs() -> None:
    """Another order is the same rows; another element, or one element less, is not."""
    same, reordered, other, fewer = (
        Book().train(order, step=0).done(len(order)).finished() for order in ([1, 2, 3], [3, 1, 2], [1, 2, 4], [1, 2])
    )
    assert not rows_differ([same, reordered, same])
    assert rows_differ([same, other])
    assert rows_differ([same, reordered, fewer])


def test_elements_that_each_run_draws_anew() -> None:
    """An augmentation without a seed: nothing of what is resumed can be recognised, so nothing is said of its order."""
    fresh = [Book().train([100 * run + n for n in range(SIZE)], step=0).end().done(SIZE) for run in (1, 2, 3)]
    last = Book().restored(8).train([500 + n for n in range(8, SIZE)], step=8).end().done(SIZE)
    verdict = judge([one.finished() for one in fresh], [killed([400 + n for n in range(SIZE)]), last.finished()])
    assert verdict.outcome is Outcome.FLAKY
    assert verdict.reason == (
        "two runs that nobody killed have no element in common (tf.random in a map, an augmentation without a seed), "
        "so nothing tells which are right: seed it (tf.random.set_seed, tf.random.stateless_uniform)"
    )
