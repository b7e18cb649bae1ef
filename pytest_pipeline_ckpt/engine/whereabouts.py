"""Which moment's state a path holds after some lives, and which moment a life's weights come from. Pure.

The lives' saves and renames are followed in their order, so a path that is written again and again, or made room for
(`last` becomes `previous`), is known to hold what was put there last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .evidence import Evidence, Saved
    from .indexed import Indexed


@dataclass(frozen=True, slots=True)
class Place:
    """A moment of an earlier life."""

    life: int
    """From 1; 0: no life, but the beginning of the training."""
    at: int
    """How many records its ledger had."""
    saving: bool
    """Whether it was about to save, rather than to take an element."""
    taken: int
    """Elements of all streams that it had taken."""

    @property
    def words(self) -> str:
        """`after 20 elements of life 1`."""
        return f"after {count(self.taken, 'element')} of life {self.life}" if self.life else "as in a new training"


BEGINNING = Place(0, 0, False, 0)


@dataclass(frozen=True, slots=True)
class Files:
    """What the files say that the trained weights were read from."""

    places: Mapping[str, Place]
    """Of those that an earlier life wrote."""
    trained: frozenset[str]
    """The paths of those whose weights were seen to change."""
    unwatched: frozenset[str]
    """The paths of those of which nobody can see whether they change: arrays that are no variables."""
    new: tuple[str, ...]
    """Some weights that come from no file."""
    foreign: Mapping[str, tuple[str, ...]]
    """Some weights that come from files which no life of the trial wrote."""
    unseen: tuple[str, ...]
    """Files in the run's directory, which began empty, that no life was seen to write: somebody else's copies."""
    passed_over: bool
    """Earlier lives wrote weights to paths of a kind that this life was not seen to read: it may have, unseen."""
    read: bool
    """A file of an earlier life was read, with or without weights."""

    @property
    def resumed(self) -> bool:
        """Whether some trained weights come from an earlier life."""
        return any(place.life for place in self.places.values())


def files_of(mine: Evidence, before: Sequence[Indexed]) -> Files:
    """What a life's files say of its model; `before`: the lives before it."""
    held = _held_after(before)
    groups = [(one.path, one.names) for one in mine.origins]
    if not groups:
        groups = [(one.path, ()) for one in mine.restored if one.weights]
    watched = {one.path: one.changed for one in mine.origins}
    places: dict[str, Place] = {}
    trained, unwatched = set(), set()
    others: dict[str, tuple[str, ...]] = {}
    for path, names in groups:
        if path is None:
            continue
        source, own = _source(path, mine)
        place = None if source is None else _lookup(source, held)
        if place is not None:
            places[source or path] = place
            if watched.get(path):
                trained.add(source or path)
            elif watched.get(path, False) is None:
                unwatched.add(source or path)
        elif not own:
            others[path] = names
    new = tuple(name for path, names in groups if path is None for name in names)
    unseen = tuple(path for path in others if _is_below_the_run(path))
    foreign = {path: names for path, names in others.items() if path not in unseen}
    # What is read below a checkpoint, and is neither weights nor data, tells what it is: nothing has resumed by that.
    state = [one.path for one in mine.restored if one.weights or one.data or one.path in held]
    read = bool(places or unseen) or any(_lookup(path, held) is not None for path in state)
    kinds = {_kind(saved.path) for life in before for saved in life.evidence.saved if saved.weights}
    passed_over = bool(kinds - {_kind(one.path) for one in mine.restored})
    return Files(places, frozenset(trained), frozenset(unwatched), new, foreign, unseen, passed_over, read)


def of_the_last_stage(files: Files, reference: Evidence) -> Files:
    """The same without files that the run that nobody killed wrote for the last time before it wrote any of the others.

    They are what an earlier stage of the training left, a backbone that is frozen from then on.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for saved in reference.saved:
        first.setdefault(_kind(saved.path), saved.began)
        last[_kind(saved.path)] = saved.began
    kinds = [_kind(path) for path in files.places]
    latest = max((first[kind] for kind in kinds if kind in first), default=0)
    kept = {path: place for path, place in files.places.items() if last.get(_kind(path), latest) >= latest}
    return replace(files, places=kept)


def place_at(number: int, lives: Sequence[Indexed], at: int, *, saving: bool) -> Place:
    """A moment of the `number`-th of some lives."""
    return Place(number, at, saving, lives[number - 1].taken_before(at))


def _source(path: str, mine: Evidence) -> tuple[str | None, bool]:
    """From where the weights come that a life had read from a path, and whether it had written that path itself.

    Of such a file that is what the life had read before it wrote it: a search for a learning rate saves the weights,
    spoils them, and reads them back.
    """
    source: str | None = path
    own = False
    for _ in range(len(mine.saved)):
        reads = [one.at for one in mine.restored if one.path == source]
        wrote = [one.began for one in mine.saved if reads and one.path == source and one.began < reads[-1]]
        if not wrote:
            break
        earlier = [one.path for one in mine.restored if one.weights and one.path != source and one.at <= wrote[-1]]
        source, own = (earlier[-1] if earlier else None), True
        if source is None:
            break
    return source, own


def _kind(path: str) -> str:
    """The same for the checkpoints of different steps."""
    return re.sub(r"\d+", "#", path)


def _is_below_the_run(path: str) -> bool:
    return not path.startswith("/") and "://" not in path


def _held_after(lives: Sequence[Indexed]) -> dict[str, Place]:
    """What each path holds that some lives have written, as the last of them has left it."""
    held: dict[str, Place] = {}
    for number, life in enumerate(lives, 1):
        for one in _in_order(life.evidence):
            if isinstance(one, tuple):
                _move(held, one[1], one[2])
            elif one.done is not None or one.path not in held:  # else it has left what was there, as a rule
                held[one.path] = place_at(number, lives, one.began, saving=True)
    return held


def _in_order(evidence: Evidence) -> Iterator[Saved | tuple[int, str, str]]:
    """A life's saves and renames as they happened; those of a gang's other workers first, which are of other files."""
    yield from evidence.of_others
    moves = 0
    for saved in evidence.saved:
        yield from evidence.moved[moves : saved.moves]
        yield saved
        moves = max(moves, saved.moves)
    yield from evidence.moved[moves:]


def _move(held: dict[str, Place], source: str, to: str) -> None:
    for path in [path for path in held if _covers(source, path)]:
        held[to + path[len(source) :]] = held.pop(path)


def _lookup(path: str, held: Mapping[str, Place]) -> Place | None:
    """The moment whose state a path has; of several files below it, or that it is below of, the latest."""
    found = [place for name, place in held.items() if _covers(name, path) or _covers(path, name)]
    return max(found, key=lambda place: (place.life, place.at), default=None)


def _covers(name: str, path: str) -> bool:
    """Whether a path is this one, or below it."""
    return path == name or path.startswith(f"{name}/")


__all__ = ["BEGINNING", "Files", "Place", "files_of", "of_the_last_stage", "place_at"]
