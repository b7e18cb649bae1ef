"""How often a pipeline's shuffles draw, and what of that TensorFlow does not save."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTEGERS = (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum)
REPEATS = ("RepeatDataset", "ShuffleAndRepeatDataset")
_SAVES_WHAT_HAS_ENDED = ("MapDataset", "ParallelMapDataset", "PrefetchDataset", "OptionsDataset", "Shuffle", *REPEATS)
_BEGIN_LATER = ("Concatenate", "Shuffle", "Cache")
"""A shuffle fills its buffer at the first element; a cache that is full never begins what is below it again."""
_YIELD_DATASETS = ("FlatMap", "Interleave", "ParallelInterleave", "LegacyParallelInterleave")


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Why a state that TensorFlow would save does not do."""

    why: str
    """A sentence without its full stop."""
    remedy: str
    """What the user can do, as an imperative."""


class Draws:
    """The orders that a pipeline's shuffles draw; all iterators over a dataset share the count of them.

    Args:
        nodes: of the datasets' graph, by name.
    """

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        self._nodes = nodes

    @cached_property
    def differs_by_pass(self) -> bool:
        """Whether a second iterator over the same dataset begins with another order than the first."""
        return any(_is_shuffle(node) and _draws_again(node) for node in self._nodes.values()) or bool(self._random)

    @cached_property
    def once(self) -> bool:
        """Whether each iterator draws one order, when it begins."""
        repeats = any(node.op.startswith(REPEATS) for node in self._nodes.values())
        return self.differs_by_pass and not repeats and self.unsaved(passes=True) is None

    def unsaved(self, *, passes: bool) -> Unsaved | None:
        """Why an iterator's state does not do; None if it does.

        Most ops do not save what is below them when it has come to its end, and some do not save what they have not
        come to. If a repeat is above, or another pass begins, a seeded shuffle there then begins again with an order
        that depends on how often it has drawn in this process.

        Args:
            passes: whether there may be several passes over the data in a process.
        """
        for node in self._nodes.values():
            if node.op.startswith(REPEATS) and (lost := self._loses(inputs(node), "")):
                return _not_saved(lost, "Put repeat() directly behind the shuffle, or pass")
            if passes and (lost := self._loses(_begun_later(node), node.op)):
                return _not_saved(lost, "Pass")
        if passes and self._random:
            return Unsaved(
                f"TensorFlow does not save how often {self._random} has drawn, which draws anew in each pass",
                "Pass rerandomize_each_iteration=False",
            )
        return self._stuck

    @cached_property
    def only_in_process(self) -> str:
        """A shuffle without a seed that draws once for all passes, so that no checkpoint holds it; empty for none."""
        for node in self._nodes.values():
            if _is_shuffle(node) and not _draws_again(node) and has_no_seed(node, self._nodes):
                return str(node.op)
            if node.op.startswith("Cache") and (found := self._shuffle_below(node)):
                return found
        return ""

    @cached_property
    def _random(self) -> str:
        """A dataset of random numbers that are others in each pass, as `sample_from_datasets` may have one."""
        found = (node for node in self._nodes.values() if node.op.startswith("RandomDataset"))
        return next((str(node.op) for node in found if node.attr["rerandomize_each_iteration"].b), "")

    @cached_property
    def _stuck(self) -> Unsaved | None:
        """TensorFlow 2.15 and 2.21: a restored one takes a dataset that has ended for one that goes on, for ever."""
        for node in self._nodes.values():
            goes_on = node.op.startswith("DirectedInterleave") and not node.attr["stop_on_empty_dataset"].b
            if goes_on and any(map(self._ends, inputs(node)[1:])):
                return Unsaved(
                    f"TensorFlow hangs at the end of the data when it has restored {node.op} (sample_from_datasets, "
                    "choose_from_datasets) after one of its datasets had ended",
                    "Pass stop_on_empty_dataset=True, or repeat() each of these datasets",
                )
        return None

    def _loses(self, names: Sequence[str], lost: str) -> str:
        """The op that does not save how often a seeded shuffle has drawn, from nodes down to one that draws again."""
        for node in self._known(names):
            if lost and _is_shuffle(node) and _draws_again(node) and not has_no_seed(node, self._nodes):
                return lost
            saves = node.op.startswith(_SAVES_WHAT_HAS_ENDED) or not _is_dataset(node)
            if found := self._loses(inputs(node), lost if saves else node.op):
                return found
        return ""

    def _shuffle_below(self, node: Any) -> str:
        for below in self._known(inputs(node)):
            if _is_shuffle(below) and has_no_seed(below, self._nodes):
                return str(below.op)
            if found := self._shuffle_below(below):
                return found
        return ""

    def _ends(self, name: str) -> bool:
        """Whether a dataset comes to its end, as far as repeats tell."""
        for node in self._known([name]):
            if node.op.startswith("RandomDataset"):
                return False
            if node.op.startswith(REPEATS) and any(value < 0 for value in _integers(node, self._nodes)):
                return False
            below = [one for one in inputs(node) if any(map(_is_dataset, self._known([one])))]
            return not below or any(map(self._ends, below))
        return True

    def _known(self, names: Sequence[str]) -> list[Any]:
        return [self._nodes[name] for name in names if name in self._nodes]


def inputs(node: Any) -> list[str]:
    """The names of the nodes whose tensors a node takes."""
    return [name.split(":")[0] for name in node.input if not name.startswith("^")]


def has_no_seed(node: Any, nodes: Mapping[str, Any]) -> bool:
    """Whether the two seeds of a dataset op are constants of 0, by which TensorFlow means: draw one."""
    # The buffer's size comes before the seeds, and is never 0; the count of a repeat comes behind them.
    return _integers(node, nodes).count(0) >= 2


def _integers(node: Any, nodes: Mapping[str, Any]) -> list[int]:
    """The integer constants that a node takes; scalars."""
    found = [nodes.get(name.lstrip("^").split(":")[0]) for name in node.input]
    constants = [one for one in found if one is not None and one.op == "Const" and one.attr["dtype"].type in _INTEGERS]
    values = [tf.make_ndarray(one.attr["value"].tensor) for one in constants]
    return [int(value) for value in values if value.ndim == 0]


def _not_saved(op: str, remedy_begins: str) -> Unsaved:
    return Unsaved(
        f"TensorFlow does not save how often a seeded shuffle below {op} has drawn, and the shuffle draws again",
        f"{remedy_begins} reshuffle_each_iteration=False to that shuffle",
    )


def _begun_later(node: Any) -> list[str]:
    """The inputs of a dataset that it does not begin with: their shuffles have not drawn when a pass begins."""
    if node.op.startswith(_BEGIN_LATER):
        return inputs(node)
    # Datasets that a function has captured, which yields them.
    return inputs(node)[1:] if node.op.startswith(_YIELD_DATASETS) else []


def _is_shuffle(node: Any) -> bool:
    return bool(node.op.startswith("Shuffle"))


def _draws_again(node: Any) -> bool:
    return bool(node.attr["reshuffle_each_iteration"].b)


def _is_dataset(node: Any) -> bool:
    return "Dataset" in node.op


__all__ = ["REPEATS", "Draws", "Unsaved", "has_no_seed", "inputs"]
