"""How far `every` has come: a line that is rewritten on a terminal, one line a minute in a log.

An xdist worker has neither: it writes how far it is into a file, and the controller, which is told when such a test
starts, sums up what is there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .state import State

_LOG_EVERY = 60.0  # seconds
_TERMINAL_EVERY = 0.2
_LOOK_EVERY = 1.0
_DIRECTORY = "progress"


@dataclass(frozen=True, slots=True)
class Count:
    """How far one item, or all items together, are."""

    judged: int = 0
    states: int = 0
    bad: int = 0

    def __add__(self, other: Count) -> Count:
        """Both together."""
        return Count(self.judged + other.judged, self.states + other.states, self.bad + other.bad)


def line(count: Count, seconds: float) -> str:
    """`every 124/310 states, 0 not exact, 6.1/s, 30 s left`."""
    text = f"every {count.judged}/{count.states} states, {count.bad} not exact"
    if not count.judged or seconds <= 0:
        return text
    rate = count.judged / seconds
    return f"{text}, {rate:.1f}/s, {(count.states - count.judged) / rate:.0f} s left"


class Display:
    """Shows one count after the other, when it is time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._started = self._told = time.monotonic()

    def restart(self) -> None:
        """Other states than before are counted from now on."""
        self._started = time.monotonic()

    def show(self, count: Count) -> None:
        """Shows the line if the last one is old enough; on a terminal the last one too."""
        now, rewrite = time.monotonic(), self._state.on_terminal
        last = count.judged == count.states
        if now - self._told < (_TERMINAL_EVERY if rewrite else _LOG_EVERY) and not (rewrite and last):
            return
        self._told = now
        self._state.show(f"preempt: {line(count, now - self._started)}", rewrite=rewrite and not last)


class Progress:
    """Tells how many states of an item have been judged.

    Args:
        state: of the session.
        item: a name that no other item has.
    """

    def __init__(self, state: State, item: str) -> None:
        self._display = None if state.is_worker else Display(state)
        self._path = state.directory / _DIRECTORY / f"{item}.json"

    def __call__(self, judged: int, states: int, bad: int) -> None:
        """Called for each state."""
        count = Count(judged, states, bad)
        if self._display is not None:
            self._display.show(count)
            return
        self._path.parent.mkdir(exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(astuple(count)))
        fresh.replace(self._path)

    def close(self) -> None:
        """Leaves nothing behind that would look as if it were still going on."""
        self._path.unlink(missing_ok=True)


class Watcher:
    """The controller's side: looks at the files of the workers until it is stopped."""

    def __init__(self, state: State) -> None:
        self._display = Display(state)
        self._directory: Path = state.directory / _DIRECTORY
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="preempt-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing will be shown any more."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        known: set[str] = set()
        while not self._stopped.wait(_LOOK_EVERY):
            paths = list(self._directory.glob("*.json"))
            names = {path.name for path in paths}
            if names and known.isdisjoint(names):  # another test: how fast the last one was says nothing of it
                self._display.restart()
            known = names or known
            total = sum(map(_read, paths), Count())
            if total.judged < total.states:
                self._display.show(total)


def _read(path: Path) -> Count:
    try:
        return Count(*json.loads(path.read_text()))
    except FileNotFoundError:  # the item has ended meanwhile
        return Count()


__all__ = ["Count", "Display", "Progress", "Watcher", "line"]
