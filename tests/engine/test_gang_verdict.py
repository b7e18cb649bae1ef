"""The verdict on a gang, on histories made by hand."""

from __future__ import annotations

from dataclasses import replace

from histories_builder import Book

from pytest_pipeline_ckpt.engine.gang import incarnation
from pytest_pipeline_ckpt.engine.gang_verdict import judge
from pytest_pipeline_ckpt.engine.model import Ending, Life, Outcome, Scope, Span

COUNT = 20


def unkilled(worker: int) -> Life:
    """A worker's run that nobody killed: the elements of its shard, saved after every fifth step."""
    book = Book()
    for begin in range(0, COUNT, 5):
        book.train(shard(worker, begin, begin + 5), step=begin).saved(begin + 5)
    return book.done(COUNT).finished()


def shard(worker: int, begin: int, end: int) -> list[int]:
    """Elements of a worker: even ones of worker 0, odd ones of worker 1."""
    return [2 * number + worker for number in range(begin, end)]


def killed(worker: int, at: int = 13, *, saves: bool = True) -> Life:
    """Killed at its `at`-th element, with a checkpoint at 10."""
    book = Book().train(shard(worker, 0, 10), step=0)
    if saves:
        book.saved(10)
    return book.train(shard(worker, 10, at), step=10).killed()


def resumed(values: list[int]) -> Life:
    """A last life that restored step 10 and took `values`."""
    return Book().restored(10).train(values, step=10).done(10 + len(values)).finished()


REFERENCE = incarnation([unkilled(0), unkilled(1)])
GOOD = [resumed(shard(worker, 10, COUNT)) for worker in (0, 1)]


def test_exact() -> None:
    """Where each worker goes on in its own shard, all is exact; figures are those of all workers, kills count once."""
    verdict = judge([REFERENCE], [incarnation([killed(0), killed(1)]), incarnation(GOOD)])
    assert (verdict.outcome, verdict.worker, verdict.life) == (Outcome.EXACT, None, 0)
    assert verdict.reason == (
        "each of the 2 workers has trained on exactly the reference run's elements; 20 elements compared after 1 kill"
    )
    assert verdict.scope == Scope(kills_landed=1, saves_crossed=2, elements_compared=20, elements_replayed=6)
    assert verdict.notes == ("each worker: 3 elements trained again after rollbacks (legal replay)",)
    assert [(span.life, span.worker) for span in verdict.lives] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_the_worker_is_named() -> None:
    """A fault of worker 1 alone is its, with its own positions, and the union says what became of the elements."""
    lives = [incarnation([killed(0), killed(1)]), incarnation([GOOD[0], resumed(shard(1, 12, COUNT))])]
    verdict = judge([REFERENCE], lives)
    assert (verdict.outcome, verdict.worker, verdict.life) == (Outcome.MISALIGNED, 1, 2)
    assert verdict.reason.startswith(
        "worker 1: elements 10..11 were never trained: the pipeline resumed 2 elements ahead"
    )
    assert verdict.spans[0] == Span("lost", 10, 11, ("21", "23"))
    assert verdict.notes[-1] == (
        "over all workers 2 elements of the reference run were trained by nobody, and 0 more often than in it"
    )


def test_exchanged_shards() -> None:
    """Workers that resume each other's shard are not exact, but over all of them nothing is lost: that is said."""
    swapped = [resumed(shard(1 - worker, 10, COUNT)) for worker in (0, 1)]
    verdict = judge([REFERENCE], [incarnation([killed(0), killed(1)]), incarnation(swapped)])
    assert (verdict.outcome, verdict.worker, verdict.life) == (Outcome.CHANGED, 0, 2)
    assert verdict.notes[-2] == "worker 1 too: changed"
    assert verdict.notes[-1] == (
        "over all workers the reference run's elements were trained: workers took each other's"
    )


def test_overlapping_shards() -> None:
    """Where the reference run's workers share some elements, but not all, an exact verdict says so too."""
    taken = [*shard(1, 0, 15), *shard(0, 0, 5)]
    overlapping = Book().train(taken, step=0).done(COUNT).finished()
    reference = incarnation([unkilled(0), overlapping])
    lives = [incarnation([killed(0), killed(1)]), incarnation([GOOD[0], resumed(taken[10:])])]
    verdict = judge([reference], lives)
    assert verdict.outcome is Outcome.EXACT
    assert verdict.notes[-1] == (
        "in the reference run, which nobody killed, 5 of 35 different elements were taken by more than one worker: "
        "unless the data has equal ones, shard before you shuffle, or seed the shuffle"
    )
    everything = incarnation([unkilled(0), unkilled(0)])
    assert judge([everything], [everything]).notes == ()


def test_a_checker_that_fails() -> None:
    """It answers that nothing is known, and what went wrong."""
    verdict = judge([REFERENCE], [replace(REFERENCE, gang=())])
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith("the checker itself failed: IndexError: ")


def test_the_first_life_decides() -> None:
    """What went wrong in an earlier life is told before what did in a later one, whichever worker's it is."""
    again = Book().restored(10).train(shard(1, 10, 15), step=10).saved(15).train(shard(1, 15, 18), step=15).killed()
    wrong = Book().restored(10).train(shard(0, 11, 16), step=10).saved(15).train(shard(0, 16, 18), step=15).killed()
    last = [
        Book().restored(15).train(values, step=15).done(COUNT).finished()
        for values in (shard(0, 16, 21), shard(1, 14, 19))
    ]
    lives = [incarnation([killed(0), killed(1)]), incarnation([wrong, again]), incarnation(last)]
    verdict = judge([REFERENCE], lives)
    assert (verdict.worker, verdict.life, verdict.scope.kills_landed) == (0, 2, 2)


def test_whose_peer_has_failed_is_told_last() -> None:
    """Of two workers that crash together the one is named that did not find the other gone."""
    gone = "tensorflow.python.framework.errors_impl.UnavailableError: Collective ops is aborted by: Socket closed"
    crashed = [
        replace(killed(0), ending=Ending.CRASHED, kill=None, status="exit code 1", stderr_tail=gone),
        replace(killed(1), ending=Ending.CRASHED, kill=None, status="exit code 1", stderr_tail="ValueError: no"),
    ]
    verdict = judge([REFERENCE], [incarnation(crashed)])
    assert (verdict.outcome, verdict.worker) == (Outcome.CRASHED, 1)
    assert verdict.reason == "worker 1: life 1 crashed (exit code 1): ValueError: no"


def test_who_finished_before() -> None:
    """A worker that had finished when another one was killed starts again, finds nothing to do, and is exact."""
    finished, nothing = unkilled(0), Book().restored(COUNT).done(COUNT).finished()
    verdict = judge([REFERENCE], [incarnation([finished, killed(1)]), incarnation([nothing, GOOD[1]])])
    assert (verdict.outcome, verdict.scope.kills_landed) == (Outcome.EXACT, 1)


def test_the_chief_saves_for_all() -> None:
    """That a worker saves nothing itself is no news where another one does."""
    saves_nothing = Book().restored(10).train(shard(1, 10, COUNT), step=10).done(COUNT).finished()
    lives = [incarnation([killed(0), killed(1, saves=False)]), incarnation([GOOD[0], saves_nothing])]
    verdict = judge([REFERENCE], lives)
    assert verdict.outcome is Outcome.EXACT
    assert not any("before the first save" in note for note in verdict.notes)


def test_what_the_chief_saved_is_known_to_all() -> None:
    """A worker that reads the chief's file is where it was when the chief saved it, whatever its step says."""

    def life(worker: int, *, saves: bool) -> Life:
        book = Book().train(shard(worker, 0, 10), step=0)
        return (book.wrote("model/ckpt-1") if saves else book).train(shard(worker, 10, 13), step=10).killed()

    def last(worker: int, begin: int) -> Life:
        book = Book().reads("model/ckpt-1").train(shard(worker, begin, COUNT), step=0)
        return book.done(COUNT - begin).finished()

    killed_once = incarnation([life(0, saves=True), life(1, saves=False)])
    assert judge([REFERENCE], [killed_once, incarnation([last(0, 10), last(1, 10)])]).exact
    verdict = judge([REFERENCE], [killed_once, incarnation([last(0, 10), last(1, 0)])])
    assert (verdict.outcome, verdict.worker, verdict.life) == (Outcome.RESTARTED, 1, 2)


def test_apart() -> None:
    """Workers that are started again one by one have their own numbers of lives, and what is repeated is bounded."""
    lives = [incarnation([unkilled(0), killed(1)]), incarnation([None, GOOD[1]])]
    verdict = judge([REFERENCE], lives, apart=True)
    assert (verdict.outcome, verdict.scope.kills_landed, verdict.scope.elements_compared) == (Outcome.EXACT, 1, 10)
    assert verdict.notes == (
        "worker 1: 3 elements trained again after rollbacks (legal replay)",
        "the others went on while a worker was started again, so a model that they share was not rolled back: at most "
        "3 elements of a worker, those after its last save, count twice in it",
    )
