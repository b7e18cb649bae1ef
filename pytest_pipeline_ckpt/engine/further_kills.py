"""Where a life that has resumed is killed again. Pure.

Most faults of a resume need a kill in there: while it restores and before its first element, or in its first save.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from . import crash_states
from .instants import Instant
from .model import Kill

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from .crash_states import CrashState
    from .runs import Run


def each(run: Run) -> list[Instant]:
    """Every instant of a resume and of its first save that can be told apart."""
    resuming, saving, _ = _groups(run)
    return [*resuming, *saving]


def draw(run: Run, dice: random.Random) -> Instant | None:
    """One of the resume itself, one of its first save, or any at an element, as likely each; None: there is none."""
    groups = [group for group in _groups(run) if group]
    if not groups:
        return None
    group = groups[int(dice.random() * len(groups))]
    return group[int(dice.random() * len(group))]


def _groups(run: Run) -> tuple[list[Instant], list[Instant], list[Instant]]:
    timeline = run.timeline
    states = list(crash_states.crash_states(timeline.operations, before=timeline.before))
    if run.meta.refused is not None:
        return [], [], [_at_element(run, states[-1], len(run.life.ledger.records))] if run.meta.boundaries else []
    changed = list(crash_states.distinct(states, may_be_read=timeline.names.may_be_read))[1:]
    first_saved = next((at for at in run.saves if timeline.taken(at)), 0)
    resuming = [state for state in changed if not timeline.taken(state.elements)]
    saving = [state for state in changed if timeline.taken(state.elements) and state.elements <= first_saved]
    taking = [_at_element(run, _before(states, record), record + 1) for record in timeline.elements]
    return [timeline.instant(state) for state in resuming], [timeline.instant(state) for state in saving], taking


def _before(states: Sequence[CrashState], record: int) -> CrashState:
    """The state when a ledger record is about to be written."""
    return [state for state in states if not state.torn and state.elements <= record][-1]


def _at_element(run: Run, state: CrashState, records: int) -> Instant:
    """The instant at which an element has been taken, and the ledger has so many records."""
    taken = run.timeline.taken(records)
    return Instant(dataclasses.replace(state, elements=records), taken, Kill(taken), f"after element {taken}")


__all__ = ["draw", "each"]
