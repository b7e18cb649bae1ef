"""Where a model stands, by counters and files: histories made by hand, with the whole verdict compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories_builder import TRAIN, Book

from pytest_pipeline_ckpt.engine.checker import judge, reference_facts
from pytest_pipeline_ckpt.engine.evidence import Saved
from pytest_pipeline_ckpt.engine.model import Life, Outcome, Scope, Span, Verdict

DEPENDS = "and what depends on it (an optimizer's averages, a schedule)"
REPLAY = "3 elements trained again after rollbacks (legal replay)"


def scope(compared: int, **more: int) -> Scope:
    """Of one kill at element 13 with a save at 10."""
    return Scope(
        **{"kills_landed": 1, "saves_crossed": 1, "elements_compared": compared, "elements_replayed": 3, **more}
    )


def counting(book: Book, *names: str, role: str = "model") -> Book:
    """The same with counters."""
    for name in names:
        book.counts(name, role=role)
    return book


def trained(book: Book, values: range, *, step: int, **counters: int) -> Book:
    """Elements, each a step, with the counters read before each; `counters`: their first values."""
    for number, value in enumerate(values):
        book.read("element", **{name: first + number for name, first in counters.items()})
        book.train([value], step=step + number)
    return book


def unkilled(*names: str, role: str = "model") -> Life:
    """Elements 0..19, each a step that all counters count, saved at 10."""
    book = counting(Book(), *names, role=role)
    trained(book, range(10), step=0, **dict.fromkeys(names, 0))
    book.read("save", **dict.fromkeys(names, 10)).wrote("model/ckpt-10").saved(10)
    return trained(book, range(10, 20), step=10, **dict.fromkeys(names, 10)).done(20).finished()


def killed(*names: str, role: str = "model") -> Life:
    """The same, killed at element 13."""
    book = counting(Book(), *names, role=role)
    trained(book, range(10), step=0, **dict.fromkeys(names, 0))
    book.read("save", **dict.fromkeys(names, 10)).wrote("model/ckpt-10").saved(10)
    return trained(book, range(10, 13), step=10, **dict.fromkeys(names, 10)).killed(standing=("model/ckpt-10",))


def shown(*values: int) -> tuple[str, ...]:
    """The previews of some elements."""
    return tuple(str(value) for value in values)


def test_weights_from_a_file_and_a_counter_that_begins_anew() -> None:
    """Weights of step 10, an optimizer that `compile` has just made, data from the start: the file decides."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(0)
    last = trained(last, range(20), step=0, SGD=0).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]) == Verdict(
        Outcome.RESTARTED,
        "elements 0..9 were trained twice: life 2 restarted the pipeline at element 0, and the model had resumed at "
        "element 10",
        2,
        (Span("twice", 0, 9, shown(0, 1, 2, 3, 4)),),
        scope(20),
        (f"life 2: SGD began anew over weights that were restored, {DEPENDS}", REPLAY),
    )


def test_weights_from_a_file_and_data_that_goes_on() -> None:
    """The same with data that is taken up where the weights were saved is exact, and the optimizer is a note."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(0)
    last = trained(last, range(10, 20), step=0, SGD=0).done(10)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]) == Verdict(
        Outcome.EXACT,
        "the final model has been trained on exactly the reference run's elements; 10 elements compared after 1 kill",
        scope=scope(10),
        notes=(f"life 2: SGD began anew over weights that were restored, {DEPENDS}", REPLAY),
    )


@pytest.mark.parametrize(("data", "outcome"), [(10, Outcome.EXACT), (0, Outcome.RESTARTED)])
def test_step_in_a_file_and_an_optimizer_that_begins_anew(data: int, outcome: Outcome) -> None:
    """The restore shows the step in the file, elements that of the optimizer, which has none before the first."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(10)
    last.step(-1).element(data).train(range(data + 1, 20), step=1).done(20 - data)
    verdict = judge([unkilled("SGD")], [killed("SGD"), last.finished()])
    assert verdict.outcome is outcome


def test_what_a_life_saves_before_its_first_element() -> None:
    """It is of the moment at which its own model was, as a backbone is that the first life had saved so."""
    first = trained(counting(Book(), "SGD").wrote("pre/backbone"), range(3), step=0, SGD=0).killed()
    second = counting(Book(), "SGD").reads("pre/backbone").wrote("model/ckpt-0")
    third = counting(Book(), "SGD").reads("pre/backbone").reads("model/ckpt-0")
    third.come_from({"pre/backbone": ("backbone",), "model/ckpt-0": ("head",)})
    lives = [first, trained(second, range(3), step=0, SGD=0).killed()]
    last = trained(third.restored(0), range(20), step=0, SGD=0).done(20)
    assert judge([unkilled("SGD")], [*lives, last.finished()]).exact


def test_one_of_two_models_forgotten() -> None:
    """A critic at step 10 and a generator that is new are a torn model, and both are named with their values."""
    last = counting(Book(), "critic", "generator").reads("model/ckpt-10", weights=False)
    last.come_from({"model/ckpt-10": ("critic/w",), None: ("generator/w",)}).restored(10)
    last = trained(last, range(10, 20), step=10, critic=10, generator=0).done(20)
    names = ("critic", "generator")
    assert judge([unkilled(*names)], [killed(*names), last.finished()]) == Verdict(
        Outcome.MISALIGNED,
        "life 2: the restored model is torn: critic is 10, as it was after 10 elements of life 1; generator is 0, as "
        "in a new training",
        2,
        scope=scope(10),
        notes=(REPLAY,),
    )


def test_two_models_of_two_saves() -> None:
    """Counters each of which fits a save, but not the same, are a torn model."""
    names = ("critic", "generator")

    def first(end: int) -> Book:
        book = counting(Book(), *names)
        trained(book, range(5), step=0, critic=0, generator=0)
        book.read("save", critic=5, generator=5).wrote("model/a").saved(5)
        trained(book, range(5, 10), step=5, critic=5, generator=5)
        book.read("save", critic=10, generator=10).wrote("model/b").saved(10)
        return trained(book, range(10, end), step=10, critic=10, generator=10)

    last = counting(Book(), *names).come_from({"model/a": ("generator/w",), "model/b": ("critic/w",)}).restored(10)
    last = trained(last, range(10, 20), step=10, critic=10, generator=5).done(20)
    verdict = judge([first(20).done(20).finished()], [first(13).killed(), last.finished()])
    assert (verdict.outcome, verdict.life) == (Outcome.MISALIGNED, 2)
    assert verdict.reason == (
        "life 2: the restored model is torn: critic is 10, as it was after 10 elements of life 1; generator is 5, as "
        "it was after 5 elements of life 1"
    )


def test_counter_that_is_restored_at_the_first_step() -> None:
    """A restore may be put off until an optimizer makes its variables: its value behind the first step counts."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(10)
    last.read("element", SGD=0).train([10], step=10)
    last = trained(last, range(11, 20), step=11, SGD=11).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]).exact


def test_steps_between_two_elements_of_a_thread() -> None:
    """A thread takes elements while several steps are made: the counter jumps, and began where it was before that."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").read("restore", SGD=10).restored(10)
    for value, step in zip(range(10, 20), (10, 10, 10, 13, 14, 15, 16, 17, 18, 19), strict=True):
        last.read("element", SGD=step).train([value], step=step)
    verdict = judge([unkilled("SGD")], [killed("SGD"), last.done(20).finished()])
    assert "torn" not in verdict.reason
    assert verdict.outcome is Outcome.EXACT


def test_element_that_is_taken_before_the_restore() -> None:
    """A sample builds the model, and only then a counter is restored: what it was before is no beginning."""

    def sampled() -> Book:
        return counting(Book(), "SGD").read("element", SGD=0).element(0, key=f"{TRAIN} (build)")

    def begun(end: int) -> Book:
        book = trained(sampled(), range(10), step=0, SGD=0).read("save", SGD=10).wrote("model/ckpt-10").saved(10)
        return trained(book, range(10, end), step=10, SGD=10)

    last = trained(
        sampled().reads("model/ckpt-10").read("restore", SGD=10).restored(10), range(10, 20), step=10, SGD=10
    )
    assert judge([begun(20).done(20).finished()], [begun(13).killed(), last.done(20).finished()]).exact


def test_weights_and_counters_of_different_saves() -> None:
    """Weights of one save under counters of another are a torn model."""
    book = counting(Book(), "Adam")
    trained(book, range(5), step=0, Adam=0)
    book.read("save", Adam=5).wrote("model/a").saved(5)
    trained(book, range(5, 10), step=5, Adam=5)
    book.read("save", Adam=10).wrote("model/b").saved(10)
    first = trained(book, range(10, 13), step=10, Adam=10).killed()
    last = trained(counting(Book(), "Adam").reads("model/a").restored(10), range(10, 20), step=10, Adam=10).done(20)
    verdict = judge([unkilled("Adam")], [first, last.finished()])
    assert (verdict.outcome, verdict.reason) == (
        Outcome.MISALIGNED,
        "life 2: the restored model is torn: its weights are those of model/a, saved after 5 elements of life 1, but "
        "Adam is 10, as it was after 10 elements of life 1",
    )


def test_teacher_from_outside() -> None:
    """A file that no life of the trial wrote says nothing of the model."""
    last = counting(Book(), "SGD").reads("/pretrained/teacher.h5").reads("model/ckpt-10").restored(10)
    last.come_from({"/pretrained/teacher.h5": ("t",), "model/ckpt-10": ("w",)})
    last = trained(last, range(10, 20), step=10, SGD=10).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]).exact


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (None, "w came from no file that was seen to be read"),
        ("/pretrained/w.h5", "w came from /pretrained/w.h5, which no life of this test wrote"),
    ],
)
def test_counters_without_their_weights(origin: str | None, why: str) -> None:
    """A counter that goes on over weights that are new, or pretrained once more, is a torn model."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").come_from({origin: ("w",)}).restored(10)
    last = trained(last, range(10, 20), step=10, SGD=10).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]) == Verdict(
        Outcome.MISALIGNED,
        f"life 2: the restored model is torn: SGD is 10, as it was after 10 elements of life 1, but {why}",
        2,
        scope=scope(10),
        notes=(REPLAY,),
    )


def test_some_weights_from_no_file() -> None:
    """Weights that come from no file while others do may be frozen ones that each life makes alike: a note."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").come_from({"model/ckpt-10": ("w",), None: ("table",)})
    last = trained(last.restored(10), range(10, 20), step=10, SGD=10).done(20)
    verdict = judge([unkilled("SGD")], [killed("SGD"), last.finished()])
    note = "life 2: table came from no file that was seen to be read"
    assert (verdict.outcome, verdict.notes) == (Outcome.EXACT, (note, REPLAY))


def test_weights_that_may_have_been_read_unseen() -> None:
    """Weights saved by themselves may be read by other means than a restore: a note."""
    first = killed("SGD")
    saved = (*first.ledger.evidence.saved, Saved("model/weights-10", 21, 21))
    evidence = replace(first.ledger.evidence, saved=saved)
    first = replace(first, ledger=replace(first.ledger, evidence=evidence))
    last = counting(Book(), "SGD").reads("model/ckpt-10").come_from({None: ("w",)}).restored(10)
    verdict = judge([unkilled("SGD")], [first, trained(last, range(10, 20), step=10, SGD=10).done(20).finished()])
    note = "life 2: w came from no file that was seen to be read"
    assert (verdict.outcome, verdict.notes) == (Outcome.EXACT, (note, REPLAY))


def test_file_of_another_moment_beside_the_models() -> None:
    """Where counters fit one of two files the other may be for a look only, or a half of the model: a note says it."""

    def first(end: int) -> Book:
        book = trained(counting(Book(), "SGD"), range(5), step=0, SGD=0).wrote("model/best")
        book = trained(book, range(5, 10), step=5, SGD=5).read("save", SGD=10).wrote("model/ckpt-10").saved(10)
        return trained(book, range(10, end), step=10, SGD=10).wrote("model/best")

    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(10)
    last.come_from({"model/ckpt-10": ("w",), "model/best": ("b",)})
    last = trained(last, range(10, 20), step=10, SGD=10).done(20)
    killed_early = trained(counting(Book(), "SGD"), range(5), step=0, SGD=0).wrote("model/best")
    trained(killed_early, range(5, 10), step=5, SGD=5).read("save", SGD=10).wrote("model/ckpt-10").saved(10)
    lives = [trained(killed_early, range(10, 13), step=10, SGD=10).killed(), last.finished()]
    verdict = judge([first(20).done(20).finished()], lives)
    note = (
        "life 2: weights came from files of several moments: model/best was saved after 5 elements of life 1; "
        "model/ckpt-10 was saved after 10 elements of life 1"
    )
    assert (verdict.outcome, verdict.notes) == (Outcome.EXACT, (note, REPLAY))


@pytest.mark.parametrize(("again", "outcome"), [(False, Outcome.EXACT), (True, Outcome.MISALIGNED)])
def test_backbone_of_an_earlier_stage(again: bool, outcome: Outcome) -> None:
    """A part that is saved for the last time before the others is frozen; one that is saved on is of another moment."""

    def first(end: int) -> Book:
        book = trained(Book(), range(5), step=0).wrote("model/back")
        book = trained(book, range(5, 10), step=5).wrote("model/ckpt-10").saved(10)
        book = trained(book, range(10, end), step=10)
        return book.wrote("model/back") if again and end == 20 else book

    last = Book().reads("model/back").reads("model/ckpt-10")
    last.come_from({"model/back": ("b",), "model/ckpt-10": ("w",)}).restored(10)
    last = trained(last, range(10, 20), step=10).done(20)
    verdict = judge([first(20).done(20).finished()], [first(13).killed(), last.finished()])
    assert verdict.outcome is outcome


def test_weights_that_a_life_saves_and_reads_back() -> None:
    """A search for a learning rate saves the weights and reads them back: they are still those that were restored."""

    def searched(book: Book) -> Book:
        book.wrote("model/init").element(100, key="find.py:5:main").element(101, key="find.py:5:main")
        return book.reads("model/init")

    def first(end: int) -> Book:
        book = trained(searched(counting(Book(), "SGD")), range(10), step=0, SGD=0)
        book.read("save", SGD=10).wrote("model/ckpt-10").saved(10)
        return trained(book, range(10, end), step=10, SGD=10)

    last = trained(
        searched(counting(Book(), "SGD").reads("model/ckpt-10").restored(10)), range(10, 20), step=10, SGD=10
    )
    assert judge([first(20).done(20).finished()], [first(13).killed(), last.done(20).finished()]).exact


def rotated(book: Book, step: int) -> Book:
    """A save under a temporary name, which makes room for itself: the last one becomes the previous one."""
    book.wrote("model/tmp")
    if step > 5:
        book.moves("model/last", "model/previous")
    return book.moves("model/tmp", "model/last").saved(-1)


@pytest.mark.parametrize(("path", "begin"), [("model/last", 10), ("model/previous", 5)])
@pytest.mark.parametrize(("data", "outcome"), [(0, Outcome.EXACT), (-5, Outcome.MISALIGNED)])
def test_files_that_are_renamed_again_and_again(path: str, begin: int, data: int, outcome: Outcome) -> None:
    """A path holds what was put there last, and a name that was used before is no other moment's."""

    def first(end: int) -> Book:
        book = rotated(trained(counting(Book(), "SGD"), range(5), step=0, SGD=0), 5)
        book = rotated(trained(book, range(5, 10), step=5, SGD=5), 10)
        return trained(book, range(10, end), step=10, SGD=10)

    killed_in_a_save = first(13).wrote("model/tmp").killed()
    last = trained(counting(Book(), "SGD").reads(path), range(begin + data, 20), step=0, SGD=0).done(20)
    verdict = judge([first(20).done(20).finished()], [killed_in_a_save, last.finished()])
    assert verdict.outcome is (Outcome.RESTARTED if begin + data == 0 else outcome)


@pytest.mark.parametrize("begin", [0, 10])
def test_copy_that_nobody_was_seen_to_make(begin: int) -> None:
    """Weights from a file in the run's directory that no life was seen to write are of no known moment."""
    last = trained(counting(Book(), "SGD").reads("model/copy"), range(begin, 20), step=0, SGD=0).done(20)
    verdict = judge([unkilled("SGD")], [killed("SGD"), last.finished()])
    assert (verdict.outcome, verdict.life, verdict.reason) == (
        Outcome.UNKNOWN,
        2,
        "life 2: its weights came from model/copy, which no life was seen to write (another program's copy?), and "
        "nothing else tells of which moment they are: pass step=, a function that returns the model's step",
    )


def test_copy_beside_a_counter() -> None:
    """Where a counter was restored it tells the moment of such a file."""
    last = trained(counting(Book(), "SGD").reads("model/copy").restored(10), range(10, 20), step=10, SGD=10).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]).exact


def test_counter_that_is_restored_to_where_it_began() -> None:
    """The number of the first epoch is a new run's too: it was restored, and nothing began anew."""

    def lived(book: Book, begin: int, end: int) -> Book:
        for number in range(begin, end):
            if number == 10 and begin == 0:
                book.read("save", step=10, epoch=0).wrote("model/ckpt-10").saved(10)
            book.read("element", step=number, epoch=number // 15).train([number], step=number)
        return book

    whole = lived(counting(Book(), "step", "epoch"), 0, 20).done(20).finished()
    first = lived(counting(Book(), "step", "epoch"), 0, 13).killed()
    last = lived(counting(Book(), "step", "epoch").reads("model/ckpt-10").restored(10), 10, 20).done(20).finished()
    verdict = judge([whole], [first, last])
    assert (verdict.outcome, verdict.notes) == (Outcome.EXACT, (REPLAY,))


def skipping(values: range, book: Book, *, step: int, bad: int) -> tuple[Book, int]:
    """Elements of which one is no step, because its loss is not finite."""
    for value in values:
        book.train([value], step=step)
        step += value != bad
    return book, step


@pytest.mark.parametrize(("begin", "outcome"), [(17, Outcome.EXACT), (16, Outcome.MISALIGNED)])
def test_step_that_is_skipped(begin: int, outcome: Outcome) -> None:
    """The save tells how many elements the model had seen, also where a step was skipped; `skip(step)` is one short."""
    book, step = skipping(range(17), Book(), step=0, bad=8)
    book, step = skipping(range(17, 30), book.saved(step), step=step, bad=8)
    whole = book.done(step).finished()
    book, step = skipping(range(17), Book(), step=0, bad=8)
    book, _ = skipping(range(17, 20), book.saved(16), step=16, bad=8)
    last, _ = skipping(range(begin, 30), Book().restored(16), step=16, bad=8)
    lives = [book.killed(), last.done(16 + 30 - begin).finished()]
    assert judge([whole], [whole]).exact
    assert judge([whole], lives).outcome is outcome


def packed(first: int, sizes: list[int], book: Book, *, step: int) -> Book:
    """Steps that take as many elements as they need."""
    for number, size in enumerate(sizes):
        for value in range(first, first + size):
            book.train([value], step=step + number)
        first += size
    return book


def test_packing() -> None:
    """Steps that take 1 to 3 elements: exact with what was left in the buffer, else an element more is taken: lost."""
    sizes = [3, 1, 2, 3, 2, 1, 3, 2, 2, 1, 3, 2, 1, 2, 3, 2, 1, 3, 2, 1]
    total, before = sum(sizes), sum(sizes[:10])
    whole = packed(0, sizes, Book(), step=0).done(20).finished()
    first = packed(before, sizes[10:12], packed(0, sizes[:10], Book(), step=0).saved(10), step=10).killed()
    good = packed(before, sizes[10:], Book().restored(10), step=10).done(20).finished()
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, good]).exact
    # Without the buffer the first step takes an element more, and the run ends one further on.
    bad = packed(before, [sizes[10] + 1, *sizes[11:]], Book().restored(10), step=10).done(20).finished()
    verdict = judge([whole], [first, bad])
    assert verdict.outcome in (Outcome.LOST, Outcome.MISALIGNED)
    assert total - before == len(packed(0, sizes[10:], Book(), step=0).previews)


REPLAYED = "train.py:60:main"


def with_replay(begin: int, end: int, extra: int, book: Book, *, inside: bool = True) -> Book:
    """Every third step takes an element of a second stream too, in the step or before it."""
    for step in range(begin, end):
        if step % 3 == 0 and not inside:
            book.step(step, key=REPLAYED).element(1000 + extra, key=REPLAYED)
        book.train([step], step=step)
        if step % 3 == 0 and inside:
            book.step(step, key=REPLAYED).element(1000 + extra, key=REPLAYED)
        extra += step % 3 == 0
        if step + 1 == 10:
            book.saved(10)
    return book


@pytest.mark.parametrize(("inside", "outcome"), [(True, Outcome.RESTARTED), (False, Outcome.UNKNOWN)])
def test_replay_stream_that_restarts(inside: bool, outcome: Outcome) -> None:
    """A stream of which a step takes one now and then trains if it is taken in the step; else it may be validation."""
    whole = with_replay(0, 30, 0, Book(), inside=inside).done(30).finished()
    first = with_replay(0, 14, 0, Book(), inside=inside).killed()
    right = with_replay(10, 30, 4, Book().restored(10), inside=inside).done(30).finished()
    wrong = with_replay(10, 30, 0, Book().restored(10), inside=inside).done(30).finished()
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, right]).exact
    verdict = judge([whole], [first, wrong])
    assert verdict.outcome is outcome
    assert verdict.reason.startswith("train.py:60, in main: ")
    assert verdict.reason.endswith(', say so: validation=["train.py:60"]')
    assert judge([whole], [first, wrong], validation=["train.py:60"]).exact
    assert reference_facts(whole).elements == 30


def test_never_resumed() -> None:
    """A training that begins anew with its model, although a complete checkpoint stood, is a verdict of its own."""
    last = trained(counting(Book(), "SGD"), range(20), step=0, SGD=0).done(20).finished()
    lives = [killed("SGD"), last]
    assert judge([unkilled("SGD")], lives) == Verdict(
        Outcome.NEVER_RESUMED,
        "life 2 began anew, with a new model, although model/ckpt-10 stood complete: no life read what an earlier one "
        "had saved, so each preemption loses all progress",
        2,
        scope=scope(20, elements_replayed=13, began_anew=1),
        notes=("13 elements trained again after rollbacks (legal replay)",),
    )
    allowed = judge([unkilled("SGD")], lives, never_resumes="allow")
    assert (allowed.outcome, allowed.scope.began_anew) == (Outcome.EXACT, 1)


def test_nothing_stood() -> None:
    """Where no complete checkpoint stood there is nothing to resume."""
    last = trained(Book(), range(20), step=0).done(20).finished()
    assert judge([unkilled()], [replace(killed(), standing=()), last]).exact


@pytest.mark.parametrize(("data", "outcome"), [(10, Outcome.EXACT), (0, Outcome.RESTARTED), (9, Outcome.MISALIGNED)])
def test_life_that_is_killed_before_it_has_restored_anything(data: int, outcome: Outcome) -> None:
    """It took an element to build a model; the next one goes on with the checkpoint of the life before it."""
    last = counting(Book(), "SGD").reads("model/ckpt-10").restored(10)
    last = trained(last, range(data, 20), step=10, SGD=10).done(30 - data)
    sample = counting(Book(), "SGD").read("element", SGD=0).train([0], step=0).killed()
    verdict = judge([unkilled("SGD")], [killed("SGD"), sample, last.finished()])
    assert verdict.outcome is outcome
    assert verdict.life == (0 if outcome is Outcome.EXACT else 3)
    assert verdict.scope.elements_replayed == 4


def test_one_that_resumes_among_others() -> None:
    """Where another life resumes, beginning anew is legal replay, and counted."""
    anew = trained(Book(), range(14), step=0).killed(standing=("model/ckpt-10",))
    third = Book().reads("model/ckpt-10").restored(10).train(range(10, 20), step=10).done(20).finished()
    verdict = judge([unkilled()], [killed(), anew, third])
    assert (verdict.outcome, verdict.scope.began_anew, verdict.scope.resumed) == (Outcome.EXACT, 1, 1)


@pytest.mark.parametrize("begin", [10, 11])
def test_step_that_fits_two_saves(begin: int) -> None:
    """Where counters fit several moments, and the verdict depends on which it was, nothing is claimed."""

    def lived(first: int, end: int) -> Book:
        book = counting(Book(), "Adam")
        for number in range(first, end):
            if number in (10, 11):
                book.read("save", Adam=number // 4).saved(number // 4)
            book.read("element", Adam=number // 4).train([number], step=number // 4)
        return book

    whole, last = lived(0, 40).done(10).finished(), lived(begin, 40).done(10).finished()
    verdict = judge([whole], [lived(0, 14).killed(), last])
    assert (verdict.outcome, verdict.life, verdict.reason) == (
        Outcome.UNKNOWN,
        2,
        "life 2 may have resumed a model that was saved after 11 elements of life 1; or after 10 elements of life 1: "
        "what it shows of its step fits each of them, and the verdict depends on it: pass step=, a function whose "
        "steps differ between them",
    )


def in_epochs(begin: int, end: int, *, data: int = 0) -> Book:
    """Epochs of 8 steps: an epoch, and a step within it, and no step that counts on; saved after every fourth step."""
    book = counting(Book(), "epoch", "step_in_epoch")
    for number in range(begin, end):
        at = {"epoch": number // 8, "step_in_epoch": number % 8}
        book.read("element", **at).step(-1, iterator=number // 8).element(number + data, iterator=number // 8)
        if number % 4 == 3:
            within = number % 8 + 1
            book.read("save", epoch=number // 8, step_in_epoch=within).wrote("model/ckpt").saved(-1)
    return book


@pytest.mark.parametrize(("data", "outcome"), [(0, Outcome.EXACT), (-4, Outcome.MISALIGNED), (-12, Outcome.RESTARTED)])
def test_epoch_and_step_in_epoch(data: int, outcome: Outcome) -> None:
    """Two counters are one step where one of them begins anew with each epoch."""
    whole = in_epochs(0, 24).read("end", epoch=3, step_in_epoch=0).done(-1).finished()
    first = in_epochs(0, 14).killed()
    last = in_epochs(12, 24, data=data).read("end", epoch=3, step_in_epoch=0).done(-1)
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, last.finished()]).outcome is outcome


@pytest.mark.parametrize(("skipped", "outcome"), [(0, Outcome.EXACT), (4, Outcome.MISALIGNED)])
def test_rest_of_a_pass_that_is_skipped(skipped: int, outcome: Outcome) -> None:
    """A life that skips it counts the pass before its first element: what it had restored tells where its model is."""
    lives = []
    for begin, end in ((0, 24), (0, 15), (12 + skipped, 24)):
        book = counting(Book(), "SGD", "epoch")
        if begin:
            book.read("restore", SGD=12, epoch=1).restored(12)
        for number in range(begin, end):
            step = number - skipped if begin else number
            book.read("element", SGD=step, epoch=number // 8).train([number], step=step)
            if number == 11 and not begin:
                book.read("save", SGD=12, epoch=1).wrote("model/ckpt").saved(12)
        lives.append(book.killed() if end == 15 else book.done(end).finished())
    verdict = judge(lives[:1], lives[1:])
    assert verdict.outcome is outcome
    if skipped:
        assert verdict.reason == (
            "elements 12..15 were never trained: the pipeline resumed 4 elements ahead of the model "
            "(model at step 12, element 16)"
        )


def prefetched(steps: range, values: range, book: Book, *, ahead: int = 2) -> Book:
    """A loader that holds two elements: they are taken before the first step, and one with each step."""
    left = list(values)
    for _ in range(ahead):
        book.train([left.pop(0)], step=steps.start)
    for step in steps:
        if left:
            book.train([left.pop(0)], step=step)
        if step + 1 == 10:
            book.saved(10)
    return book


@pytest.mark.parametrize(("begin", "outcome"), [(10, Outcome.EXACT), (12, Outcome.MISALIGNED)])
def test_elements_in_flight(begin: int, outcome: Outcome) -> None:
    """What a loader held at a save had not been trained on: a pipeline that goes on behind it has lost that."""
    whole = prefetched(range(20), range(20), Book()).done(20).finished()
    first = prefetched(range(13), range(15), Book()).killed()
    last = prefetched(range(10, 20), range(begin, 20), Book().restored(10)).done(20).finished()
    assert judge([whole], [whole]).exact
    verdict = judge([whole], [first, last])
    assert verdict.outcome is outcome
    if outcome is not Outcome.EXACT:
        assert verdict.reason.startswith("elements 10..11 were never trained")


@pytest.mark.parametrize(("begin", "ahead", "outcome"), [(12, 0, Outcome.EXACT), (12, 2, Outcome.MISALIGNED)])
def test_buffer_that_is_saved(begin: int, ahead: int, outcome: Outcome) -> None:
    """A loader that is restored with what it held takes nothing ahead; one that is not takes two elements anew."""
    whole = prefetched(range(20), range(20), Book()).done(20).finished()
    first = prefetched(range(13), range(15), Book()).killed()
    last = prefetched(range(10, 20), range(begin, 20), Book().restored(10), ahead=ahead).done(20).finished()
    assert judge([whole], [first, last]).outcome is outcome


def by_a_thread(steps: list[int], first: int, book: Book) -> Book:
    """Elements that another thread takes: it sees the step stay, and then make several at once."""
    for number, step in enumerate(steps):
        book.train([first + number], step=step)
    return book


def test_buffer_that_has_run_empty() -> None:
    """At the end of the data nothing is ahead of the steps any more, also where the kill came within that save."""

    def buffered() -> Book:
        book = counting(Book(), "SGD")
        for value in range(20):
            step = max(0, value - 5)
            if step in (5, 10):
                book.read("save", SGD=step).wrote(f"model/ckpt-{step}").saved(step)
            book.read("element", SGD=step).train([value], step=step)
        return book.end().read("save", SGD=20).wrote("model/ckpt-20")

    last = counting(Book(), "SGD").reads("model/ckpt-20").read("restore", SGD=20).restored(20).done(20).finished()
    whole = buffered().saved(20).done(20).finished()
    assert judge([whole], [buffered().killed(), last]).exact
    assert judge([whole], [buffered().saved(20).killed(), last]).exact


@pytest.mark.parametrize(("begin", "outcome"), [(10, Outcome.EXACT), (13, Outcome.MISALIGNED)])
def test_thread_that_takes_elements(begin: int, outcome: Outcome) -> None:
    """How far a thread was ahead differs at each save, so the step tells where the model is."""
    book = by_a_thread([0, 0, 0, 0, 3, 3, 3, 6, 6, 7, 8, 8, 10], 0, Book()).saved(10)
    whole = by_a_thread([10, 12, 12, 12, 15, 15, 17], 13, book).done(20).finished()
    first = by_a_thread([0, 0, 0, 3, 3, 3, 3, 5, 7, 7, 7, 10], 0, Book()).saved(10)
    first = by_a_thread([10, 11], 12, first)
    steps = [10, 10, 10, 13, 13, 13, 13, 16, 16, 16][: 20 - begin]
    last = by_a_thread(steps, begin, Book().restored(10)).done(20).finished()
    assert judge([whole], [whole]).exact
    assert judge([whole], [first.killed(), last]).outcome is outcome


@pytest.mark.parametrize(("begin", "outcome"), [(10, Outcome.EXACT), (0, Outcome.RESTARTED), (12, Outcome.MISALIGNED)])
def test_step_that_only_saves_show(begin: int, outcome: Outcome) -> None:
    """A step that is known from what is saved and restored, and not when elements are taken."""

    def lived(first: int, values: range, book: Book) -> Book:
        for number, value in enumerate(values, first + 1):
            book.element(value)
            if number % 5 == 0:
                book.saved(number)
        return book

    whole = lived(0, range(20), Book()).end().done(20).finished()
    first = lived(0, range(13), Book()).killed()
    last = lived(10, range(begin, 20), Book().restored(10)).end().done(10 + 20 - begin).finished()
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, last]).outcome is outcome


@pytest.mark.parametrize(
    ("at", "changed", "outcome", "reason"),
    [
        (12, False, Outcome.EXACT, ""),
        (12, True, Outcome.MISALIGNED, "are trained, but the rest is as it was after 10 elements of life 1"),
        (12, None, Outcome.UNKNOWN, "whether the weights in it are trained is not known"),
        (6, None, Outcome.EXACT, ""),
        (6, True, Outcome.MISALIGNED, "are trained"),
    ],
)
def test_weights_of_another_moment(at: int, changed: bool | None, outcome: Outcome, reason: str) -> None:
    """The best weights so far may be of any moment; what changes with each step is torn from the rest."""
    book = counting(Book(), "SGD")
    for number in range(13):
        if number == 10:
            book.read("save", SGD=10).wrote("model/ckpt-10").saved(10)
        if number == at:
            book.read("save", SGD=at).wrote("model/best")
        trained(book, range(number, number + 1), step=number, SGD=number)
    last = counting(Book(), "SGD").reads("model/ckpt-10").reads("model/best").restored(10)
    last.come_from({"model/ckpt-10": ("w",), "model/best": ("best",)}, changed={"model/best": changed})
    last = trained(last, range(10, 20), step=10, SGD=10).done(20)
    verdict = judge([unkilled("SGD")], [book.killed(), last.finished()])
    assert verdict.outcome is outcome
    assert reason in verdict.reason


def test_number_of_weights_in_an_average() -> None:
    """What is one more in each file that has it counts files; that it is older than the model is no tear."""

    def run(begin: int, end: int, book: Book) -> Book:
        counting(book, "SGD", "n")
        for number in range(begin, end):
            trained(book, range(number, number + 1), step=number, SGD=number)
            if (number + 1) % 8 == 0:
                book.read("save", n=(number + 1) // 8).wrote("model/average")
            if (number + 1) % 5 == 0:
                book.read("save", SGD=number + 1).wrote(f"model/ckpt-{number + 1}").saved(number + 1)
        return book

    whole, first = run(0, 20, Book()).done(20).finished(), run(0, 13, Book()).killed()
    last = Book().reads("model/average").read("restore", n=1).reads("model/ckpt-10").restored(10)
    assert judge([whole], [first, run(10, 20, last).done(20).finished()]).exact


def test_life_that_reads_nothing() -> None:
    """Where no step is seen when elements are taken, a life that read no file of an earlier one has a new model."""

    def lived(end: int) -> Book:
        book = Book()
        for number in range(1, end + 1):
            book.element(number - 1)
            if number % 5 == 0:
                book.wrote("model/state.npz").saved(number)
        return book

    whole, first = lived(20).end().done(20).finished(), lived(13).killed(standing=("model/state.npz",))
    second = Book().element(0).element(1).killed(standing=("model/state.npz",))
    assert judge([whole], [first, second, whole]).outcome is Outcome.NEVER_RESUMED


def test_life_that_takes_the_training_for_finished() -> None:
    """Who reads nothing and trains nothing, because a checkpoint is there, leaves the model where that was saved."""
    assert judge([unkilled("SGD")], [killed("SGD"), Book().finished()]) == Verdict(
        Outcome.INCOMPLETE,
        "life 2 trained 0 elements although elements 10..19 were left",
        2,
        (Span("missing", 10, 19, shown(10, 11, 12, 13, 14)),),
        scope(0),
        (REPLAY,),
    )


def test_metadata_of_a_checkpoint() -> None:
    """A manager that looks what there is has resumed nothing."""
    last = counting(Book(), "SGD").reads("model/ckpt-10/_METADATA", weights=False)
    last = trained(last, range(20), step=0, SGD=0).done(20)
    assert judge([unkilled("SGD")], [killed("SGD"), last.finished()]).outcome is Outcome.NEVER_RESUMED


def test_file_that_a_save_was_about_to_replace() -> None:
    """A save that was not complete has left the file of the one before."""
    book = counting(Book(), "SGD")
    trained(book, range(5), step=0, SGD=0)
    book.read("save", SGD=5).wrote("model/new").moves("model/new", "model/last").saved(5)
    trained(book, range(5, 10), step=5, SGD=5)
    book.read("save", SGD=10).wrote("model/new")
    first = trained(book, range(10, 13), step=10, SGD=10).killed()
    last = trained(counting(Book(), "SGD").reads("model/last").restored(5), range(5, 20), step=5, SGD=5).done(20)
    assert judge([unkilled("SGD")], [first, last.finished()]).exact


def test_saved_by_hand_before_the_kill() -> None:
    """A life that wrote files by hand was not killed before the first save, though no framework's save was seen."""
    first = Book().train(range(10), step=0).wrote("model/state.npz", weights=False).train(range(10, 13), step=10)
    last = Book().train(range(10, 20), step=10).done(20).finished()
    verdict = judge([unkilled()], [first.killed(), last])
    assert (verdict.outcome, verdict.notes) == (Outcome.EXACT, (REPLAY,))


@pytest.mark.parametrize(("group", "outcome"), [(4, Outcome.LOST), (5, Outcome.EXACT)])
def test_gradients_that_were_added_up(group: int, outcome: Outcome) -> None:
    """An optimizer that begins anew between two updates has lost what it had added up; after an update, nothing."""

    def counted(book: Book) -> Book:
        return book.counts("SGD", group=group)

    def first(end: int) -> Book:
        book = trained(counted(Book()), range(10), step=0, SGD=0)
        book.read("save", SGD=10).wrote("model/ckpt-10").saved(10)
        return trained(book, range(10, end), step=10, SGD=10)

    last = counted(Book()).reads("model/ckpt-10").restored(0)
    last = trained(last, range(10, 20), step=0, SGD=0).done(10)
    verdict = judge([first(20).done(20).finished()], [first(13).killed(), last.finished()])
    assert verdict.outcome is outcome
    if outcome is Outcome.LOST:
        assert verdict.reason == (
            "life 2: SGD began anew, and when model/ckpt-10 was saved it had added up the gradients of 2 elements out "
            "of 4, which are in no weights: they have been lost"
        )


def two_fits(head: range, data: int, book: Book, *, fine: range = range(12)) -> Book:
    """A `fit`, and another one with a second optimizer; counters are read to the end only when there are two."""
    counting(book, "SGD")
    for number, step in enumerate(head):
        if number < 8:
            book.read("element", SGD=step)
        book.train([data + number], step=step)
        if step == 7:
            book.read("save", SGD=8).wrote("model/head").saved(8)
    counting(book, "SGD#2")
    for step in fine:
        book.read("element", SGD=12, **{"SGD#2": step}).train([step], step=step, iterator=1)
    return book


@pytest.mark.parametrize(("data", "outcome"), [(8, Outcome.EXACT), (0, Outcome.RESTARTED)])
def test_two_fits(data: int, outcome: Outcome) -> None:
    """Of two fits each has an optimizer that begins at 0: both together are the step."""
    whole = two_fits(range(12), 0, Book()).read("end", SGD=12, **{"SGD#2": 12}).done(12).finished()
    first = two_fits(range(10), 0, Book(), fine=range(0)).killed()
    last = two_fits(range(8, 12), data, Book().reads("model/head").restored(8))
    last = last.read("end", SGD=12, **{"SGD#2": 12}).done(12)
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, last.finished()]).outcome is outcome


def test_buffer_that_is_saved_and_killed_again() -> None:
    """A life that is killed before its first step has trained on nothing of what it took, whatever it held."""
    whole = prefetched(range(20), range(20), Book()).done(20).finished()
    first = prefetched(range(13), range(15), Book()).killed()
    second = Book().restored(10).train([12], step=10).killed()
    last = prefetched(range(10, 20), range(12, 20), Book().restored(10), ahead=0).done(20).finished()
    assert judge([whole], [first, second, last]).exact


def test_thread_that_is_only_seen_to_wait() -> None:
    """A thread that is further ahead after a while, and gives out what it was ahead by at the end, is no packing."""
    book = by_a_thread([0, 0, 0, 1, 2, 3, 3, 4, 5, 6], 0, Book()).saved(8)
    whole = by_a_thread([8, 8, 9, 10, 11, 11, 12, 13, 14, 15], 10, book).done(20).finished()
    book = by_a_thread([0, 0, 0, 0, 3, 3, 4, 5, 6, 8], 0, Book()).saved(8)
    first = by_a_thread([8, 9], 10, book).killed()
    last = by_a_thread([8, 8, 8, 9, 11, 11, 13, 13, 14, 16, 16, 18], 8, Book().restored(8)).done(20).finished()
    assert judge([whole], [whole]).exact
    assert judge([whole], [first, last]).exact


def test_thread_that_is_ahead_by_as_many_all_along() -> None:
    """A life in which a thread is as far ahead at each element has pulled nothing where it varies in others."""
    book = by_a_thread([0, 0, 0, 1, 4, 4, 4, 4, 5, 6, 7, 8], 0, Book()).saved(10)
    whole = by_a_thread([10, 12, 12, 12, 15, 15, 15, 17], 12, book).done(20).finished()
    first = by_a_thread([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], 0, Book()).killed()
    book = by_a_thread([0, 0, 0, 1, 4, 4, 4, 4, 5, 6, 7, 8], 0, Book()).saved(10)
    last = by_a_thread([10, 12, 12, 12, 15, 15, 15, 17], 12, book).done(20).finished()
    assert judge([whole], [first, last]).exact


def test_steps_in_files_that_are_looked_at() -> None:
    """Steps in files without weights, marks of data that are looked at one after the other, are not the model's."""

    def first(end: int) -> Book:
        book = counting(Book(), "saved step", role="bare").train(range(10), step=0)
        book.read("save", **{"saved step": 0}).train(range(10, 12), step=10)
        return book.read("save", **{"saved step": 10}).saved(12).train(range(12, end), step=12)

    last = counting(Book(), "saved step", role="bare").restored(12)
    last.read("restore", **{"saved step": 10}).read("restore", **{"saved step": 0}).train(range(12, 20), step=12)
    last = last.read("save", **{"saved step": 20}).done(20)
    assert judge([first(20).done(20).finished()], [first(14).killed(), last.finished()]).exact


def test_save_by_a_thread() -> None:
    """A thread may save when an element has been taken and not been trained on yet: the step tells which it was."""

    def first(end: int) -> Book:
        book = counting(Book(), "SGD").read("save", SGD=0).saved(0).read("element", SGD=0).train([0], step=0)
        book.read("save", SGD=0).saved(0)
        return trained(book, range(1, end), step=1, SGD=1)

    last = trained(counting(Book(), "SGD").restored(0), range(20), step=0, SGD=0).done(20).finished()
    verdict = judge([first(20).done(20).finished()], [first(3).killed(), last])
    assert verdict.outcome is Outcome.EXACT
