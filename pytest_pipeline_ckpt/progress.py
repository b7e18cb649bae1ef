"""How far `every` has come: a line that is rewritten on a terminal, one line a minute in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .state import State

_LOG_EVERY = 60.0  # seconds
_TERMINAL_EVERY = 0.2


class Progress:
    """Tells how many states have been judged.

    Args:
        state: of the session.
        name: of what is being done: `every`.
    """

    def __init__(self, state: State, name: str) -> None:
        self._state = state
        self._name = name
        self._started = self._told = time.monotonic()

    def __call__(self, judged: int, states: int, bad: int) -> None:
        """Called for each state; says so if it is time."""
        now = time.monotonic()
        last = judged == states
        rewrite = self._state.on_terminal
        if now - self._told < (_TERMINAL_EVERY if rewrite else _LOG_EVERY) and not (rewrite and last):
            return
        self._told = now
        text = f"preempt: {line(self._name, judged, states, bad, now - self._started)}"
        self._state.show(text, rewrite=rewrite and not last)


def line(name: str, judged: int, states: int, bad: int, seconds: float) -> str:
    """`every 124/310 states, 0 not exact, 6.1/s, 30 s left`."""
    text = f"{name} {judged}/{states} states, {bad} not exact"
    if not judged or seconds <= 0:
        return text
    rate = judged / seconds
    return f"{text}, {rate:.1f}/s, {(states - judged) / rate:.0f} s left"
