"""What the mark of a checkpoint says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .describe import Signature
from .incarnations import NEVER, Key

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS = (".data-00000-of-00001", ".index")
"""What the names of TensorFlow's pair end with."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A committed checkpoint."""

    step: int
    iterators: tuple[str, ...]
    """The names of the iterators' resources, in the graph that saved them."""
    holds: str = "iterator"
    """`iterator`: their state; `position`: nothing but this mark."""
    with_model: bool = False
    """Whether it holds the model too."""
    began: int = 0
    """The step at which the data began, or began anew after it had ended."""
    ended: bool = False
    """Whether the data had ended at this step."""
    elements_per_step: tuple[int, ...] | None = None
    """What a step takes of each iterator, where that is known."""
    varies: bool = False
    """Whether a step does not always take the same, or what it takes cannot be counted."""
    taken: tuple[int, ...] | None = None
    """How many elements of each iterator were taken since the data began, where that is known."""
    signature: Signature | None = None
    """None for a checkpoint of TensorFlow's own hook."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else a resume wants to know: JSON."""
    workers: int = 1
    """How many workers have saved together, each a checkpoint of its own."""
    first: bool = False
    """Whether the training has never been saved before."""
    global_step: int | None = None
    """The model's step, where `step` counts a worker's own ones."""
    incarnation: str = NEVER
    """Who has written it."""

    @property
    def key(self) -> Key:
        """What names it."""
        return Key(self.step, self.incarnation)

    @property
    def model_step(self) -> int:
        """The model's step."""
        return self.step if self.global_step is None else self.global_step

    @property
    def parts(self) -> tuple[str, ...]:
        """What the names of its files end with, besides the mark's."""
        return PARTS if self.holds == "iterator" or self.with_model else ()


def mark_of(content: dict[str, Any]) -> Mark:
    """The mark that was written as JSON."""
    signature, per_step, taken = content["signature"], content["elements_per_step"], content["taken"]
    return Mark(
        content["step"],
        tuple(content["iterators"]),
        holds=content["holds"],
        began=content["began"],
        ended=content["ended"],
        elements_per_step=None if per_step is None else tuple(per_step),
        varies=content["varies"],
        taken=None if taken is None else tuple(taken),
        signature=None if signature is None else Signature(tuple(signature["elements"]), signature["fingerprint"]),
        with_model=content.get("with_model", False),
        extra=content.get("extra", {}),
        workers=content.get("workers", 1),
        first=content.get("first", False),
        global_step=content.get("global_step"),
        incarnation=content.get("incarnation", NEVER),
    )


def newest_of_each_step(found: Mapping[Key, Mark | str]) -> tuple[Mark, ...]:
    """Of marks in the order of `Listing.on`, the whole ones, one of each step: who goes on from one has it too."""
    marks: dict[int, Mark] = {}
    for mark in found.values():
        if isinstance(mark, Mark):
            marks.setdefault(mark.step, mark)
    return tuple(marks.values())


__all__ = ["PARTS", "Mark", "mark_of", "newest_of_each_step"]
