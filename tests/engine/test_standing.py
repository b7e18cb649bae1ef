"""What a run saves that a preempted one could resume from."""

from __future__ import annotations

import pytest
from histories_builder import Book

from pytest_pipeline_ckpt.engine.standing import saves, saves_while_training, standing

EXPORT = "model/export"


def run(*, at: int | None = None, beside: bool = False) -> tuple[Book, list[str]]:
    """Ten elements, a checkpoint after so many of them, and an export behind the last; with the names of the files."""
    book, names = Book(), []
    for value in range(10):
        if value == at:
            book.wrote(f"model/ckpt-{value}")
            names.append(f"model/ckpt-{value}.index")
        book.train([value], step=value)
    book.wrote(EXPORT)
    return book, [*names, f"{EXPORT}/variables", *(["model/state.bin"] if beside else [])]


@pytest.mark.parametrize(
    ("at", "beside", "resumable"), [(None, False, False), (5, False, True), (9, False, True), (None, True, True)]
)
def test_what_is_saved_behind_the_last_element_is_an_export(at: int | None, beside: bool, resumable: bool) -> None:
    """It is nothing to resume from; a file that nobody was seen to write may be."""
    book, names = run(at=at, beside=beside)
    assert saves_while_training(book.finished(), names) is resumable
    assert saves(book.finished(), names)


def test_a_run_that_saves_nothing() -> None:
    """No file, and no save that was seen."""
    life = Book().train(range(10), step=0).finished()
    assert not saves_while_training(life, [])
    assert not saves(life, [])


def test_only_what_was_saved_before_the_first_element_stood() -> None:
    """Initial weights hold nothing that could be resumed."""
    book = Book().wrote("model/init").train(range(10), step=0).wrote("model/ckpt-10").train([10], step=10)
    reference, _ = run(at=5)
    found = standing([book.killed()], ["model/init", "model/ckpt-10"], reference.finished().ledger)
    assert found == ("model/ckpt-10",)


@pytest.mark.parametrize("models", [True, False])
def test_data_alone_is_no_checkpoint_of_a_model_that_is_saved(models: bool) -> None:
    """The model's save, which a thread makes, may not have been complete when the data's was."""
    data = Book().train(range(10), step=0).wrote("model/data-10", weights=False, data=True).train([10], step=10)
    reference = run(at=5)[0] if models else Book()
    found = standing([data.killed()], ["model/data-10"], reference.finished().ledger)
    assert found == (() if models else ("model/data-10",))


def test_checkpoint_that_waits_for_its_marker() -> None:
    """All files are there, but until the training goes on another may make it the one that is read."""
    book = Book().train(range(10), step=0).wrote("model/ckpt-10.tmp")
    reference, _ = run(at=5)
    assert standing([book.killed()], ["model/ckpt-10.tmp"], reference.finished().ledger) == ()
