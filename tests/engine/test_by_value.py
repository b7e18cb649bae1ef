"""Where a model stands, by what its weights are: histories made by hand, and laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories_builder import VALID, Book
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.by_value import Values, values_of
from pytest_pipeline_ckpt.engine.checker import judge
from pytest_pipeline_ckpt.engine.indexed import index
from pytest_pipeline_ckpt.engine.model import Life, Outcome, Verdict
from pytest_pipeline_ckpt.engine.whereabouts import BEGINNING

END, SAVE, KILL = 20, 10, 13
NEW = 0
"""What a weight is in a new training; after n elements it is n."""


def trained(book: Book, data: range, *, first: int, names: tuple[str, ...] = ("w",), step: int | None = None) -> Book:
    """Elements, each a step; before each the weights are looked at, `first` before the first of them.

    Args:
        book: is written to.
        data: the elements.
        first: what the weights are.
        names: of those that are trained.
        step: that is shown first; None: none is.
    """
    for number, value in enumerate(data):
        book.looks("element", **dict.fromkeys(names, first + number))
        if step is not None:
            book.read("element", step=step + number)
        book.train([value], step=number if step is None else step + number)
    return book


def weighing(*names: str, role: str = "bare") -> Book:
    """With weights, and a counter."""
    return Book().counts("step", role=role).weighs(*names)


def unkilled(*names: str, role: str = "bare") -> Life:
    """A run to the end, saved in the middle."""
    names = names or ("w",)
    book = trained(weighing(*names, role=role), range(SAVE), first=NEW, names=names, step=0)
    book.looks("save", **dict.fromkeys(names, SAVE)).read("save", step=SAVE).saved(SAVE)
    return trained(book, range(SAVE, END), first=SAVE, names=names, step=SAVE).done(END).finished()


def killed(*names: str, role: str = "bare") -> Life:
    """The same, killed behind the save."""
    names = names or ("w",)
    book = trained(weighing(*names, role=role), range(SAVE), first=NEW, names=names, step=0)
    book.looks("save", **dict.fromkeys(names, SAVE)).read("save", step=SAVE).saved(SAVE)
    return trained(book, range(SAVE, KILL), first=SAVE, names=names, step=SAVE).killed()


def judged(last: Book, *names: str, role: str = "bare") -> Verdict:
    """Of the two lives."""
    return judge([unkilled(*names, role=role)], [killed(*names, role=role), last.done(END).finished()])


@pytest.mark.parametrize(
    ("weights", "data", "outcome"),
    [
        (SAVE, SAVE, Outcome.EXACT),
        (SAVE, 12, Outcome.MISALIGNED),
        (12, 12, Outcome.EXACT),
        (12, SAVE, Outcome.MISALIGNED),
        (NEW, 12, Outcome.MISALIGNED),
        (SAVE, 0, Outcome.RESTARTED),
    ],
)
def test_weights_from_a_file_that_nobody_knows(weights: int, data: int, outcome: Outcome) -> None:
    """The step is that of the data; what the weights are tells where the model is."""
    last = trained(weighing("w"), range(data, END), first=weights, step=data)
    assert judged(last).outcome is outcome


@pytest.mark.parametrize(("data", "outcome"), [(12, Outcome.EXACT), (10, Outcome.EXACT)])
def test_values_that_nobody_has_seen(data: int, outcome: Outcome) -> None:
    """Weights of another precision are none that an earlier life had: they say nothing, the step does."""
    last = trained(weighing("w"), range(data, END), first=100, step=data)
    assert judged(last).outcome is outcome


OTHER = "not what was in memory when the model was saved"


def seldom(data: range, *, names: tuple[str, ...] = ("w",), rounded: bool = False, **first: int) -> Book:
    """A last life whose weights are looked at before the first element and the second only, because they are large."""
    last = weighing(*names).looks("element", **first)
    last = last.rounded(*names) if rounded else last
    for number, value in enumerate(data):
        if number == 1:
            last.looks("element", w=2000)
        last.read("element", step=value).train([value], step=value)
    return last


def test_weights_that_are_not_what_was_saved() -> None:
    """They were looked at when the model was saved; the final weights tell whether they were made otherwise since."""
    verdict = judged(seldom(range(SAVE, END), w=1000))
    assert verdict.outcome is Outcome.EXACT
    assert verdict.notes == (f"life 2: w is {OTHER}", "3 elements trained again after rollbacks (legal replay)")


def test_rounded_weights() -> None:
    """They are not what was in memory either, and what else could they be."""
    verdict = judged(seldom(range(SAVE, END), rounded=True, w=1000))
    assert verdict.notes == ("3 elements trained again after rollbacks (legal replay)",)


@pytest.mark.parametrize(("begins", "notes"), [(500, (f"life 2: w is {OTHER}",)), (SAVE, ())])
def test_another_array_with_a_copy_of_before(begins: int, notes: tuple[str, ...]) -> None:
    """The best weights so far are saved in place of the weights; beside them they are harmless."""

    def begun() -> Book:
        book = weighing("w", "best").looks("element", w=NEW, best=NEW)
        for number in range(SAVE):
            book.read("element", step=number).train([number], step=number)
        return book.looks("save", w=SAVE, best=500).read("save", step=SAVE).saved(SAVE)

    runs = []
    for end in (END, KILL):
        book = begun()
        for number in range(SAVE, end):
            book.read("element", step=number).train([number], step=number)
        runs.append(book.done(END).finished() if end == END else book.killed())
    last = seldom(range(SAVE, END), names=("w", "best"), w=begins, best=500).done(END).finished()
    verdict = judge([runs[0]], [runs[1], last])
    assert verdict.outcome is Outcome.EXACT
    assert verdict.notes == (*notes, "3 elements trained again after rollbacks (legal replay)")


def test_arrays_that_change_places() -> None:
    """The same variables under each other's names, as code that makes them in another order has them."""
    last = weighing("w", "v")
    for number in range(SAVE, END):
        last.looks("element", w=1000 + number, v=number).read("element", step=number).train([number], step=number)

    def life() -> Book:
        book = weighing("w", "v")
        for number in range(SAVE):
            book.looks("element", w=number, v=1000 + number).read("element", step=number).train([number], step=number)
        book.looks("save", w=SAVE, v=1000 + SAVE).read("save", step=SAVE).saved(SAVE)
        return book

    def on(book: Book, end: int) -> Book:
        for number in range(SAVE, end):
            book.looks("element", w=number, v=1000 + number).read("element", step=number).train([number], step=number)
        return book

    verdict = judge([on(life(), END).done(END).finished()], [on(life(), KILL).killed(), last.done(END).finished()])
    assert verdict.outcome is Outcome.EXACT
    assert verdict.notes == ("3 elements trained again after rollbacks (legal replay)",)


def test_weights_that_were_not_restored() -> None:
    """The model's step goes on, its weights are new ones."""
    verdict = judged(trained(weighing("w", role="model"), range(SAVE, END), first=NEW, step=SAVE), role="model")
    assert verdict.outcome is Outcome.MISALIGNED
    assert verdict.reason == (
        "life 2: the restored model is torn: its weights are as in a new training, but step is 10, as it was after 10 "
        "elements of life 1"
    )


def drawing(data: range, book: Book, *, v: int) -> Book:
    """Two weights, of which `v` is drawn anew in each new training."""
    for number in data:
        book.looks("element", w=number, v=v + number).read("element", step=number).train([number], step=number)
        if number == SAVE - 1:
            book.looks("save", w=SAVE, v=v + SAVE).read("save", step=SAVE).saved(SAVE)
    return book


def drawn(last: Book, *, seeded: bool) -> Verdict:
    """Of a last life behind one that began with the reference run's `v`, if it is seeded."""
    run = drawing(range(END), weighing("w", "v"), v=1000).done(END).finished()
    first = drawing(range(KILL), weighing("w", "v"), v=1000 if seeded else 2000).killed()
    return judge([run], [first, last.done(END).finished()])


def test_one_of_two_weights_has_a_value_that_nobody_has_seen() -> None:
    """It was drawn without a seed: the rest is where the counters are, so it is as in a new training."""
    verdict = drawn(drawing(range(SAVE, END), weighing("w", "v"), v=3000), seeded=False)
    assert verdict.outcome is Outcome.MISALIGNED
    assert verdict.reason == (
        "life 2: the restored model is torn: v is as in a new training; the rest is as it was after 10 elements of "
        "life 1"
    )


@pytest.mark.parametrize("rounded", [False, True])
def test_one_of_two_weights_has_it_although_new_ones_are_all_alike(rounded: bool) -> None:
    """So it is no new one: it was stored in another form, or is otherwise not what was saved."""
    last = weighing("w", "v").looks("element", w=SAVE, v=3000)
    last = last.rounded("v") if rounded else last
    last.read("element", step=SAVE).train([SAVE], step=SAVE)
    verdict = drawn(drawing(range(SAVE + 1, END), last, v=3000), seeded=True)
    assert verdict.outcome is Outcome.EXACT
    other = () if rounded else (f"life 2: v is {OTHER}",)
    assert verdict.notes == (*other, "3 elements trained again after rollbacks (legal replay)")


def test_one_of_two_weights_was_rounded() -> None:
    """Nothing but the other one tells where the model is: then neither does, because it may be the other's chance."""
    last = weighing("w", "v")
    for number in range(12, END):
        last.looks("element", w=SAVE + number - 12, v=1000 + number).train([number], step=number)
    assert judged(last, "w", "v").outcome is not Outcome.MISALIGNED


def test_a_model_that_the_first_step_builds() -> None:
    """A restore that was put off has left one of its weights as it was made."""
    verdicts = []
    for v in (2000, 3000):
        last = weighing("w", "v").read("element", step=SAVE).train([SAVE], step=SAVE)
        last.looks("apply", w=SAVE, v=v + SAVE)
        verdicts.append(drawn(drawing(range(SAVE + 1, END), last, v=v), seeded=False))
    assert [one.outcome for one in verdicts] == [Outcome.EXACT, Outcome.MISALIGNED]
    assert "v is as in a new training" in verdicts[1].reason


def test_one_of_two_weights() -> None:
    """That one is named."""
    last = weighing("w", "v")
    for number in range(SAVE, END):
        last.looks("element", w=number, v=number - SAVE).read("element", step=number).train([number], step=number)
    verdict = judged(last, "w", "v")
    assert verdict.outcome is Outcome.MISALIGNED
    assert verdict.reason == (
        "life 2: the restored model is torn: v is as in a new training; the rest is as it was after 10 elements of "
        "life 1"
    )


def _with(name: str, *, known: bool, users: bool, kept: bool, applied: bool = False) -> Verdict:
    """Of lives with something beside the weight; `kept`: it is what it was at the save."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w").weighs(name, known=known, applied=applied, users=users)
        for number in range(begin, end):
            shown = number if kept or begin == 0 else number - SAVE
            book.looks("element", w=number, **{name: 100 + shown}).read("element", step=number)
            book.train([number], step=number)
            if number == SAVE - 1 and not begin:
                book.looks("save", w=SAVE, **{name: 100 + SAVE}).read("save", step=SAVE).saved(SAVE)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    return judge(lives[:1], lives[1:])


def test_variables_that_may_be_weights() -> None:
    """What the user's code has made, and was not restored, is a note; what Keras has made is a metric."""
    note = "life 2: sums is as in a new training: not restored with the rest of the model"
    assert note in _with("sums", known=False, users=True, kept=False).notes
    assert not any("sums" in one for one in _with("sums", known=False, users=True, kept=True).notes)
    assert not any("sums" in one for one in _with("sums", known=False, users=False, kept=False).notes)
    saved = "life 2: sums is as in a new training: saved, and made anew"
    assert saved in _with("sums", known=True, users=False, kept=False).notes
    assert _with("sums", known=True, users=False, kept=False, applied=True).outcome is Outcome.MISALIGNED


@pytest.mark.parametrize("kept", [True, False])
def test_life_that_is_killed_before_its_first_step(kept: bool) -> None:
    """It has not shown that an optimizer is applied to a weight, but the life before it has."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, SAVE + 1), (SAVE, END)):
        book = weighing("w").weighs("head", applied=end != SAVE + 1)
        for number in range(begin, end):
            shown = number if kept or begin == 0 else number - SAVE
            book.looks("element", w=number, head=100 + shown).read("element", step=number).train([number], step=number)
            if number == SAVE - 1 and not begin:
                book.looks("save", w=SAVE, head=100 + SAVE).read("save", step=SAVE).saved(SAVE)
        lives.append(book.done(END).finished() if end == END else book.killed())
    verdict = judge(lives[:1], lives[1:])
    assert (verdict.outcome, verdict.life) == ((Outcome.EXACT, 0) if kept else (Outcome.MISALIGNED, 2))


def test_what_is_kept_by_itself() -> None:
    """An array that is written through to a file is ahead of the weights that were restored."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w").weighs("table", known=False, applied=False, function="main")
        for number in range(begin, end):
            table = 100 + (number if begin == 0 else number - SAVE + KILL - 1)
            book.looks("element", w=number, table=table).read("element", step=number).train([number], step=number)
            if number == SAVE - 1 and not begin:
                book.looks("save", w=SAVE, table=100 + SAVE).read("save", step=SAVE).saved(SAVE)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    note = "life 2: table is as it was after 12 elements of life 1: of another moment than the rest of the model"
    assert note in judge(lives[:1], lives[1:]).notes


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_array_that_is_saved(kept: bool, by_hand: bool) -> None:
    """What Orbax saves is the model's; of a file that is written by hand nobody knows: a note, and the weights tell."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = Book().counts("step").weighs("seen", "params", applied=not by_hand, function="main")
        for number in range(begin, end):
            params = number if kept or not begin else number - SAVE
            book.looks("element", seen=50 + number, params=params).read("element", step=number)
            book.train([number], step=number)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    verdict = judge(lives[:1], lives[1:])
    assert verdict.outcome is (Outcome.EXACT if kept or by_hand else Outcome.MISALIGNED)
    note = "life 2: params is as in a new training: not restored with the rest of the model"
    assert (note in verdict.notes) is (by_hand and not kept)


@pytest.mark.parametrize(("save", "kept"), [(10, False), (10, True), (8, False)])
def test_sums_that_are_there_now_and_then(save: int, kept: bool) -> None:
    """Gradients are added up over four elements, and then there are none: what was there at a save must be restored."""

    def weights(number: int) -> dict[str, int | None]:
        return {"w": number // 4, "sums": 500 + number if number % 4 else None}

    def lived(book: Book, numbers: range, first: dict[str, int | None]) -> Book:
        for number in numbers:
            book.looks("element", **(first if number == numbers.start else weights(number)))
            book.read("element", step=number).train([number], step=number)
            if number + 1 == save:
                book.looks("save", **weights(save)).read("save", step=save).saved(save)
        return book

    def new() -> Book:
        return weighing("w").weighs("sums", known=False, applied=False, function="main")

    whole, first = lived(new(), range(END), {"w": 0}).done(END).finished(), lived(new(), range(KILL), {"w": 0}).killed()
    begins: dict[str, int | None] = weights(save) if kept else {"w": save // 4}
    last = lived(new(), range(save, END), begins).done(END).finished()
    verdict = judge([whole], [first, last])
    assert verdict.outcome is Outcome.EXACT
    lost = (
        () if kept or save == 8 else ("life 2: sums is as in a new training: not restored with the rest of the model",)
    )
    assert verdict.notes == (*lost, f"{KILL - save} elements trained again after rollbacks (legal replay)")


def test_log_that_begins_anew() -> None:
    """What is in no file, and has not the shape of what is, is no sum of its gradients."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w").weighs("losses", known=False, applied=False, function="main", shape=(100,))
        for number in range(begin, end):
            book.looks("element", w=number, losses=100 + number - begin).read("element", step=number)
            book.train([number], step=number)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    assert (
        "life 2: losses is as in a new training: not restored, and of no weight's shape"
        in judge(lives[:1], lives[1:]).notes
    )


@pytest.mark.parametrize(("read", "outcome"), [("", Outcome.EXACT), ("model/other", Outcome.MISALIGNED)])
def test_weights_too_small_to_be_looked_at(read: str, outcome: Outcome) -> None:
    """Where all were read unseen, nothing is known of a bias of one value; where others were seen to be read, it is."""
    last = Book().counts("SGD", role="model").weighs("w")
    last.come_from({read: ("w",), None: ("bias",)} if read else {None: ("w", "bias")})
    for number in range(SAVE, END):
        last.looks("element", w=number).read("element", SGD=number - SAVE).train([number], step=number - SAVE)
    lives = []
    for end in (END, KILL):
        book = Book().counts("SGD", role="model").weighs("w")
        for number in range(end):
            book.looks("element", w=number).read("element", SGD=number).train([number], step=number)
            if number == SAVE - 1:
                book.looks("save", w=SAVE).read("save", SGD=SAVE).wrote("model/other").saved(SAVE)
        lives.append(book.done(END).finished() if end == END else book.killed())
    assert judge(lives[:1], [lives[1], last.done(END).finished()]).outcome is outcome


def test_copy_of_a_weight() -> None:
    """What is to be saved is put into another variable, which is written over before anybody reads it."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w", "copy")
        for number in range(begin, end):
            copied = SAVE if number >= SAVE and not begin else 99
            book.looks("element", w=number, copy=copied).read("element", step=number).train([number], step=number)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    assert judge(lives[:1], lives[1:]).exact


@pytest.mark.parametrize("users", [True, False])
def test_copy_that_begins_anew(users: bool) -> None:
    """A target network is a copy of the weights, and steps read it: a note, and the final weights tell."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w").weighs("target", known=False, applied=False, users=users)
        for number in range(begin, end):
            copied = number - number % 5 if number >= begin + 5 else 0
            book.looks("element", w=number, target=copied).read("element", step=number).train([number], step=number)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    verdict = judge(lives[:1], lives[1:])
    note = "life 2: target is as in a new training: a copy of other weights, and not restored with them"
    assert verdict.exact
    assert (note in verdict.notes) is users


@pytest.mark.parametrize(("data", "outcome"), [(10, Outcome.EXACT), (9, Outcome.MISALIGNED)])
def test_index_that_is_saved_before_it_is_counted(data: int, outcome: Outcome) -> None:
    """The save says 9, and the weights were trained on ten elements."""
    lives = []
    for begin, end in ((0, END), (0, KILL)):
        book = weighing("w", role="model")
        for number in range(begin, end):
            book.looks("element", w=number).read("element", step=number).train([number], step=number)
            if number == SAVE - 1:
                book.looks("save", w=SAVE).read("save", step=SAVE - 1).saved(SAVE - 1)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    last = Book().counts("step").weighs("w")
    for number, value in enumerate(range(data, END)):
        last.looks("element", w=SAVE + number).read("element", step=data + number)
        last.train([value], step=data + number)
    assert judge(lives[:1], [lives[1], last.done(data + END - data).finished()]).outcome is outcome


def test_old_weights_are_saved() -> None:
    """What is saved is what they were before the last element: that one is lost."""
    first = trained(weighing("w"), range(SAVE), first=NEW, step=0)
    first.looks("save", w=SAVE - 1).read("save", step=SAVE).saved(SAVE)
    trained(first, range(SAVE, KILL), first=SAVE, step=SAVE)
    last = trained(weighing("w"), range(SAVE, END), first=SAVE - 1, step=SAVE)
    verdict = judge([unkilled()], [first.killed(), last.done(END).finished()])
    assert verdict.outcome is Outcome.MISALIGNED
    assert "element 9 was never trained" in verdict.reason


def test_sample_before_the_restore() -> None:
    """An element of another place in the code is taken to build the model, which is restored behind it."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = weighing("w", role="model").looks("element", w=NEW).read("element", step=0).train([0], step=0, key=VALID)
        trained(book, range(begin, end), first=begin, step=begin)
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    assert judge(lives[:1], lives[1:]).exact


def test_a_batch_is_no_weight() -> None:
    """An array in a function's variable that goes on with the data, and not with the model, says nothing."""
    lives = []
    for begin, end in ((0, END), (0, KILL), (SAVE, END)):
        book = Book().counts("step").weighs("x", known=False, function="main")
        stale = 50  # of the sample that was taken first, in each life
        for number in range(begin, end):
            book.looks("element", x=stale).read("element", step=number).train([number], step=number)
            stale = number
        lives.append(book.killed() if end == KILL else book.done(END).finished())
    assert judge(lives[:1], lives[1:]).exact


def _values(lives: list[Life]) -> Values:
    run = [index(life) for life in lives]
    return values_of(index(unkilled()), run, [()] * len(run[:-1]), [int(one.elements[0]) for one in run])


def test_nothing_was_looked_at() -> None:
    """A life in a graph shows no values."""
    assert _values([killed(), Book().train(range(5), step=0).killed()]) == Values()


def test_life_that_saved_nothing() -> None:
    """Two lives begin with the same checkpoint: an array that only the second had is as old as the checkpoint, too."""
    again = trained(weighing("restored", role="model"), range(SAVE, KILL), first=SAVE, names=("restored",), step=SAVE)
    last = weighing("w", "restored", role="model")
    trained(last, range(SAVE, END), first=SAVE, names=("w", "restored"), step=SAVE)
    lives = [killed(role="model"), again.killed(), last.done(END).finished()]
    assert judge([unkilled(role="model")], lives).exact


def test_new_training() -> None:
    """A life whose weights are new is at the beginning, and not where the first life took its first element."""
    found = _values([killed(), trained(weighing("w"), range(3), first=NEW, step=0).killed()])
    assert BEGINNING in found.places
    assert {place.taken for place in found.places} == {0}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("data", [29, 30])
def test_save_at_which_nobody_looked(behind: int, data: int, early: bool) -> None:
    """It is as the saves beside which the weights were looked at: before the last element was trained on, or behind.

    The file says that 30 have been trained on, or 29; the step is counted before the save, or behind it.
    """
    lives = []
    for begin, end in ((0, 40), (0, 33), (data, 40)):
        book = Book().counts("step").weighs("w")
        for number in range(begin, end):
            if number - begin < 15:
                w = number if not begin else number - data + 30 - behind
                book.looks("element", w=w)
            step = number if not begin else number - data + 29 + early
            book.read("element", step=step).train([number], step=step)
            if (number + 1) % 10 == 0:
                told = step + early
                book.looks("save", w=number + 1 - behind).read("save", step=told).saved(told)
        lives.append(book.killed() if end == 33 else book.done(40).finished())
    right = data == 30 - behind
    assert judge(lives[:1], lives[1:]).outcome is (Outcome.EXACT if right else Outcome.MISALIGNED)


@given(at=st.integers(0, KILL - 1), more=st.integers(1, 5), other=st.booleans())
def test_each_moment_is_found(at: int, more: int, other: bool) -> None:
    """Weights that are trained at each element tell exactly the moment that they are of, whatever a life is called."""
    last = trained(weighing("w"), range(at, at + more), first=at, step=at).killed()
    lives = [killed(), replace(killed(), status="killed twice")] if other else [killed()]
    found = _values([*lives, last])
    assert found.places
    assert {place.taken for place in found.places} == {at}
