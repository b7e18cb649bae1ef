"""The elements in the message of a failure."""

from __future__ import annotations

from pytest_pipeline_ckpt.engine.model import Outcome, Span, Verdict
from pytest_pipeline_ckpt.reporting import elements


def test_a_line_for_each_element() -> None:
    """Each range has its elements, and `...` where there are more."""
    spans = (Span("lost", 3, 4, ("a", "b")), Span("lost", 10, 40, ("c", "d", "e", "f", "g")), Span("lost", 50, 50))
    assert elements(Verdict(Outcome.LOST, "reason", spans=spans)) == [
        "  #3 a",
        "  #4 b",
        "  #10 c",
        "  #11 d",
        "  #12 e",
        "  #13 f",
        "  #14 g",
        "  ...",
    ]


def test_what_became_of_each() -> None:
    """Where some were lost and others came twice, each line says which."""
    spans = (Span("lost", 3, 3, ("a",)), Span("twice", 7, 9, ("b",)))
    assert elements(Verdict(Outcome.LOST, "reason", spans=spans)) == ["  #3 lost: a", "  #7 twice: b", "  ..."]
