"""A trial -> its picture: one row a life, bars and marks in per cent of the run, and the same in words. Pure.

A row is drawn by the template as an SVG that is as wide as the page; because everything horizontal is in per cent,
nothing is distorted and text keeps its size on a narrow screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.lifespans import MOST_MARKS
from ..engine.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .records import Lane, LifeRecord, TrialRecord, Wrong

_TICKS = 5
_LEAST = 0.35
"""Per cent of the width that a bar has at least, so that one wrong element of a million is seen."""
_LIFE = "Life "
"""Before the number of one that is judged."""
_MARGIN = 0.06
"""Of the longest life, so that marks at the end are seen whole."""
_WORDS = {
    "lost": "never trained",
    "missing": "never trained",
    "twice": "trained twice",
    "reordered": "in another order",
    "changed": "not the reference run's",
    "extra": "after the end",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A range of elements; `kind`: kept, back, wrong, lost, twice, other."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Mark:
    """One place; `kind`: kill, crash, stop, end, start, save, pass."""

    kind: str
    x: float


@dataclass(frozen=True, slots=True)
class Move:
    """A horizontal arrow; `kind`: rollback (of the model), shift (of the input against the model)."""

    kind: str
    x1: float
    x2: float

    @property
    def head(self) -> float:
        """The direction in which it points: 1 or -1."""
        return 1.0 if self.x2 >= self.x1 else -1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One life in one lane, or what became of the elements."""

    name: str
    words: str
    bad: bool
    bars: tuple[Bar, ...] = ()
    marks: tuple[Mark, ...] = ()
    moves: tuple[Move, ...] = ()
    label: str = ""
    """Written into the picture, at `label_x`, so that what is wrong can be told without its colour."""
    label_x: float = 0.0
    anchor: str = "start"
    """What of the label is there: `start`, `middle` or `end`, so that there is room for it."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All rows, over one axis."""

    ticks: tuple[tuple[int, float], ...]
    """Elements and where they are."""
    rows: tuple[Row, ...]

    @property
    def lives(self) -> tuple[Row, ...]:
        """Those of them that are lives which were judged."""
        return tuple(row for row in self.rows if row.name.startswith(_LIFE))


class Scale:
    """From elements to per cent."""

    def __init__(self, elements: int) -> None:
        self.elements = max(1, elements)
        self._all = self.elements * (1 + _MARGIN)

    def __call__(self, element: float) -> float:
        """Where an element begins."""
        return round(100 * min(element, self._all) / self._all, 2)

    def bar(self, kind: str, first: float, end: float) -> Bar:
        """The bar of the elements `first .. end - 1`."""
        x = self(first)
        return Bar(kind, x, round(max(_LEAST, self(end) - x), 2))

    def ticks(self, last: int) -> tuple[tuple[int, float], ...]:
        """Round numbers of elements, `_TICKS` steps at most, and where they are."""
        step = next(size for size in _round_numbers() if size * _TICKS >= last)
        return tuple((element, self(element)) for element in range(0, last + 1, step))


def timeline(
    reference: LifeRecord | None,
    lives: Sequence[LifeRecord],
    wrong: Sequence[Wrong],
    *,
    guilty: int,
    worker: int | None = None,
) -> Timeline | None:
    """The picture of a trial; None where it is not known where its lives trained.

    Args:
        reference: the run that nobody killed.
        lives: in order.
        wrong: the ranges of elements that are named.
        guilty: the life that first went wrong, 0: none.
        worker: of a gang, whose life that is.
    """
    known = [lane for life in lives for lane in life["lanes"]]
    right = [] if reference is None else reference["lanes"]
    if not known or not right:
        return None
    named = [one["last"] + 1 for one in wrong]
    scale = Scale(max(*(lane["start"] + lane["taken"] for lane in (*right, *known)), *named, 1))
    rows: list[Row] = []
    for lane in right:
        name = _name(lane, right)
        rows.append(_reference(lane, scale, name))
        end: int | None = None
        for life in lives:
            own = _of_worker(life, lane)
            if own is None:
                continue
            mine = next((one for one in own["lanes"] if one["lane"] == lane["lane"]), None)
            if mine is None:
                rows.append(_empty(own))
                continue
            rows.append(_life(own, mine, scale, end, guilty=own["life"] == guilty and lane.get("worker") == worker))
            end = mine["start"] + mine["taken"]
        if name is None:
            rows.append(_fate(lane, wrong, scale))
    return Timeline(scale.ticks(max(lane["taken"] for lane in right)), tuple(rows))


def _name(lane: Lane, lanes: Sequence[Lane]) -> str | None:
    """What tells a lane of several apart: the worker, the code, or both; None for the only one."""
    if len(lanes) == 1:
        return None
    if "worker" not in lane:
        return lane["lane"]
    several = sum(one.get("worker") == lane["worker"] for one in lanes) > 1
    return f"worker {lane['worker']}{', ' + lane['lane'] if several else ''}"


def _of_worker(life: LifeRecord, lane: Lane) -> LifeRecord | None:
    """The life of the worker whose lane it is; None: it had none."""
    if "worker" not in lane or "workers" not in life:
        return life
    own = next((one for one in life["workers"] if one["worker"] == lane["worker"]), None)
    if own is None:
        return None
    lanes = [one for one in life["lanes"] if one.get("worker") == lane["worker"]]
    return {
        **life,
        "ending": own["ending"],
        "status": own["status"],
        "kill": own["kill"],
        "lanes": lanes,
        "workers": [own],
    }


def of_trial(trial: TrialRecord) -> Timeline | None:
    """The picture of a trial."""
    return timeline(
        trial["reference"], trial["lives"], trial["wrong"], guilty=trial["life"], worker=trial.get("worker")
    )


def _reference(lane: Lane, scale: Scale, name: str | None) -> Row:
    words = f"{count(lane['taken'], 'element')}, {_counted(lane['saves'], 'save')}"
    if lane["passes"]:
        words += f", {_counted(lane['passes'], 'completed pass')} over the data"
    return Row(
        name="Reference run" if name is None else f"Reference run, {name}",
        words=f"nobody killed it: {words}",
        bad=False,
        bars=(scale.bar("reference", 0, lane["taken"]),),
        marks=(*_marks(lane["saves"], "save", scale), *_marks(lane["passes"], "pass", scale)),
    )


def _life(life: LifeRecord, lane: Lane, scale: Scale, before: int | None, *, guilty: bool) -> Row:
    start, end = lane["start"], lane["start"] + lane["taken"]
    bars = [scale.bar("kept", start, start + lane["kept"])] if lane["kept"] else []
    if lane["rolled_back"]:
        bars.append(scale.bar("back", start + lane["kept"], end))
    bars += [scale.bar("wrong", first, last + 1) for first, last in lane["wrong"]]
    marks = [Mark("start", scale(start)), *_marks(lane["saves"], "save", scale), Mark(_end_of(life), scale(end))]
    moves = [] if before is None or before == start else [Move("rollback", scale(before), scale(start))]
    label, label_x = "", 0.0
    if lane["ahead"]:
        moves.append(Move("shift", scale(start), scale(max(0, start + lane["ahead"]))))
        side = "ahead of" if lane["ahead"] > 0 else "behind"
        label = f"input {count(abs(lane['ahead']), 'element')} {side} the model"
    elif lane["wrong"]:
        label = "not the reference run's elements"
    elif guilty:
        label = {"crashed": "crashed", "hung": "hung"}.get(life["ending"], "went wrong here")
    if label:
        first = min([start, *(bounds[0] for bounds in lane["wrong"])])
        label_x = scale(first)
    return Row(
        name=f"{_LIFE}{life['life']}",
        words=_words(life, lane, before, guilty=guilty),
        bad=guilty or bool(lane["wrong"]),
        bars=tuple(bars),
        marks=tuple(marks),
        moves=tuple(moves),
        label=label,
        label_x=label_x,
        anchor=_anchor(label_x),
    )


def _words(life: LifeRecord, lane: Lane, before: int | None, *, guilty: bool) -> str:
    words = [f"{'started' if before is None else 'resumed'} at element {lane['start']}"]
    words.append(_ended(life))
    trained = f"trained on {count(lane['taken'], 'element')}"
    if lane["rolled_back"]:
        trained += f", {lane['rolled_back'] if lane['kept'] else 'all'} of them rolled back later"
    words.append(trained)
    if lane["untrained"]:
        words.append(f"took {lane['untrained']} more without training on them")
    if lane["ahead"]:
        at = max(0, lane["start"] + lane["ahead"])
        words.append(f"its model stood at element {lane['start']}, its input at element {at}")
    if lane["wrong"]:
        words.append(f"{count(lane['wrong_elements'], 'element')} not as in the reference run")
    elif guilty:
        words.append("here it went wrong")
    return "; ".join(words)


def _ended(life: LifeRecord) -> str:
    if life["ending"] == "killed":
        where = life["kill"] or ("with a worker that was gone" if "workers" in life else "by somebody else")
        if where.startswith(("after ", "before ", "by ", "with ")):
            return f"killed {where}"
        its = where.startswith("element ") and "workers" not in life
        return f"killed at {'its ' if its else ''}{where}"
    if life["ending"] == "finished":
        return "ran to its end" if life["kill"] is None else "ended by itself before its kill"
    if life["ending"] == "stopped":
        return "watched for long enough, then stopped"
    status = f" ({life['status']})" if life["status"] else ""
    return f"{life['ending']}{status}"


def _end_of(life: LifeRecord) -> str:
    return {"killed": "kill", "finished": "end", "stopped": "stop"}.get(life["ending"], "crash")


def _empty(life: LifeRecord) -> Row:
    words = f"{_ended(life)}; it trained on nothing, or it is not known on what"
    return Row(name=f"{_LIFE}{life['life']}", words=words, bad=life["ending"] in ("crashed", "hung"))


def _fate(lane: Lane, wrong: Sequence[Wrong], scale: Scale) -> Row:
    """What became of the reference run's elements, as far as the verdict names those that went wrong."""
    if not wrong:
        return Row("Final model", "trained once on each element that is not marked above", False, (), ())
    bars = [scale.bar("once", 0, lane["taken"])]
    kinds = {"lost": "lost", "missing": "lost", "twice": "twice"}
    bars += [scale.bar(kinds.get(one["what"], "other"), one["first"], one["last"] + 1) for one in wrong]
    label = "; ".join(f"{_range(one)} {_WORDS.get(one['what'], one['what'])}" for one in wrong[:2])
    more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
    x = scale(wrong[0]["first"])
    return Row("Final model", label + more, True, tuple(bars), (), (), label + more, x, _anchor(x))


def _anchor(x: float) -> str:
    return "start" if x < 30 else "middle" if x < 70 else "end"


def _range(one: Wrong) -> str:
    return f"{one['first']}" if one["first"] == one["last"] else f"{one['first']}..{one['last']}"


def _marks(positions: Iterable[int], kind: str, scale: Scale) -> list[Mark]:
    return [Mark(kind, scale(position)) for position in positions]


def _counted(positions: Sequence[int], noun: str) -> str:
    more = "at least " if len(positions) >= MOST_MARKS else ""
    return more + count(len(positions), noun)


def _round_numbers() -> Iterator[int]:
    size = 1
    while True:
        yield from (size, 2 * size, 5 * size)
        size *= 10


__all__ = ["Bar", "Mark", "Move", "Row", "Scale", "Timeline", "of_trial", "timeline"]
