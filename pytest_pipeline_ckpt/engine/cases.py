"""A trial, traced: what its lives took, lane by lane, and where their models stood. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from .histories import Study, homes_of, trace, trace_one
from .indexed import Indexed, index
from .moments import Stand, stands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .model import Life
    from .tracks import Track


@dataclass(frozen=True, slots=True)
class Terms:
    """How a trial is judged; see `judge`."""

    order: str
    elements_per_step: int | None
    validation: tuple[str, ...]
    never_resumes: str
    saved_by_others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Everything about a trial, traced."""

    references: tuple[Indexed, ...]
    lives: tuple[Indexed, ...]
    known: Study
    right: tuple[tuple[Track, ...], ...]
    """For each reference run its tracks, one a lane."""
    tracks: tuple[tuple[Track, ...], ...]
    """For each life."""
    extra: tuple[int, ...]
    """For each life the elements that it took outside of the reference run's lanes."""
    stands: tuple[Stand, ...]
    """For each life what is known of where its model stood."""
    choices: tuple[int, ...]
    """For each life in how many ways that may have been."""


def traced(
    first: Indexed,
    references: Sequence[Life],
    lives: Sequence[Life],
    known: Study,
    chosen: Mapping[int, int] = MappingProxyType({}),
) -> Case:
    """Traces the lives of a trial.

    Args:
        first: the first reference run.
        references: all of them.
        lives: in their order.
        known: of the first reference run.
        chosen: see `histories.trace`.
    """
    homes = homes_of(known)
    others = tuple(index(life) for life in references[1:])
    right = [tuple(lane.track for lane in known.lanes)]
    right += [trace_one(other, known, homes, fresh=True)[0] for other in others]
    # The reference run itself is judged too, before anything is killed: one index serves both.
    indexed = tuple(first if life is references[0] else index(life) for life in lives)
    by_step = not all(lane.law.constant for lane in known.lanes)
    ahead = any(lane.law.slack for lane in known.lanes)
    found = stands(first, indexed, by_step=by_step, ahead=ahead, others=known.classes.others)
    lanes = trace(indexed, known, found, chosen)
    return Case(
        *((first, *others), indexed, known, tuple(right), lanes.tracks, lanes.extra, tuple(found), lanes.choices)
    )
