"""A report -> one self-contained page. Whatever is computed is computed here, `page.html.j2` only lays it out."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jinja2

from .charts import CELL, StateMap, state_map
from .document import bad, expected, judgements, kinds
from .timeline import Timeline, of_trial, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .document import Report
    from .records import FailureRecord, Judgement, LifeRecord

MOST_FAILURES = 150
"""Shown in full; further ones are counted. So the page stays below 3 MB, whatever the number of trials."""
_MOST_EXPECTED = 20
_MOST_STRIPS = 200
_MOST_STRIPS_OF_A_TEST = 20
_MOST_CELLS = 2000
_MOST_LEFT = 100
_MOST_OUTPUT = 2000
"""Characters of what a life printed; more is in the files."""

MEANINGS = {
    "lost": "never trained on some elements",
    "duplicated": "trained on some elements twice, although the model was not rolled back",
    "reordered": "saw the right elements in another order",
    "changed": "saw elements that the reference run does not have",
    "misaligned": "has its input and its model at different positions: saved at different moments",
    "restarted": "began its data again at element 0, with a model that was further",
    "overrun": "trained on after it was finished",
    "incomplete": "ended before its data did, and said nothing",
    "crashed": "failed",
    "hung": "made no progress",
    "never-resumed": "began anew each time, with a new model, although complete checkpoints stood",
    "diverged": "saw exactly the right elements, but its final checkpoint counts something else, or has other weights",
    "flaky": "cannot be judged: runs that nobody kills differ, and too little overlaps",
}
"""What a resumed training did that gets the verdict; `unknown` says it in its reason."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A trial or a survey with its pictures."""

    record: Judgement
    anchor: str
    picture: Timeline | None = None
    states: StateMap | None = None
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """States of a survey that fail in one way."""

    first: FailureRecord
    last: FailureRecord
    states: int
    reproduce: str | None
    picture: Timeline | None


@dataclass(frozen=True, slots=True)
class Test:
    """One test in the overview; `cells`: verdict, mark and link of each trial, empty where there are too many."""

    name: str
    exact: int
    failed: int
    expected: int
    cells: tuple[tuple[str, str, str, str], ...]
    strips: tuple[Shown, ...]
    cost: Cost | None

    @property
    def all(self) -> int:
        """Trials."""
        return self.exact + self.failed + self.expected


@dataclass(frozen=True, slots=True)
class Cost:
    """What checkpoints cost a test: of its reference run, and over its trials."""

    seconds: float
    save_seconds: float
    saves: int
    saved_bytes: int
    peak_mb: float
    recorded: bool
    """File operations were slower, because they were recorded."""
    trained: int
    """Elements, over all lives of all trials."""
    replayed: int

    @property
    def share(self) -> float | None:
        """Of the run that it was within saves, from 0 to 1."""
        return self.save_seconds / self.seconds if self.seconds else None


def page(report: Report) -> str:
    """The page."""
    records = judgements(report)
    anchors = {id(one): f"t{number}" for number, one in enumerate(records)}
    failures = [one for one in records if bad(one)]
    asked = [one for one in records if expected(one)]
    wanted = [*failures[:MOST_FAILURES], *asked[:_MOST_EXPECTED]]
    surveys = [one for one in records if one["kind"] == "survey" and one["outcome"] == "exact"]
    linked = {id(one) for one in (*wanted, *surveys[:MOST_FAILURES])}
    show = functools.partial(_shown, anchors=anchors)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            tests=_tests(records, {name: anchor for name, anchor in anchors.items() if name in linked}),
            failures=[show(one) for one in failures[:MOST_FAILURES]],
            more_failures=len(failures) - MOST_FAILURES,
            expected=[show(one) for one in asked[:_MOST_EXPECTED]],
            more_expected=len(asked) - _MOST_EXPECTED,
            surveys=[show(one) for one in surveys[:MOST_FAILURES]],
            not_judged=report["not_judged"][:_MOST_LEFT],
            more_not_judged=len(report["not_judged"]) - _MOST_LEFT,
        )
    )


def extras(records: Sequence[Judgement]) -> list[dict[str, Any]]:
    """What pytest-html shows with a test: the pictures of its checks, styled by themselves."""
    template = _environment().get_template("extra.html.j2")
    shown = [_shown(one, anchors={}) for one in records]
    return [
        {
            "name": "preemption",
            "format_type": "html",
            "content": template.render(one=one),
            "mime_type": None,
            "extension": None,
        }
        for one in shown
        if one.picture is not None or one.states is not None
    ]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "."),
        autoescape=lambda name: name is None or not name.endswith(".css"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(bytes=_bytes, seconds=_seconds, percent=_percent, cut=_cut, grouped=_grouped)
    environment.globals.update(meanings=MEANINGS, cell=CELL)
    return environment


def _shown(one: Judgement, *, anchors: dict[int, str]) -> Shown:
    anchor = anchors.get(id(one), "")
    if one["kind"] == "trial":
        return Shown(one, anchor, picture=of_trial(one))
    return Shown(one, anchor, states=state_map(one), kinds=tuple(map(_kind, kinds(one["failures"]))))


def _kind(group: Sequence[FailureRecord]) -> Kind:
    first = group[0]
    reference = next((life for life in first["lives"] if life["life"] == 0), None)
    lives = [life for life in first["lives"] if life["life"]]
    return Kind(
        first=first,
        last=group[-1],
        states=len({one["number"] for one in group}),
        reproduce=next((one["reproduce"] for one in group if one["reproduce"]), None),
        picture=timeline(reference, lives, first["wrong"], guilty=lives[-1]["life"] if lives else 0),
    )


def _tests(records: Sequence[Judgement], anchors: dict[int, str]) -> list[Test]:
    found, left = [], _MOST_STRIPS
    for name, group in groupby(sorted(records, key=lambda one: one["test"]), key=lambda one: one["test"]):
        mine = list(group)
        good = [one for one in mine if one["outcome"] == "exact" and one["kind"] == "trial"]
        strips = [_shown(one, anchors={}) for one in good[: min(left, _MOST_STRIPS_OF_A_TEST)]]
        left -= len(strips)
        found.append(
            Test(
                name=name,
                exact=sum(one["outcome"] == "exact" for one in mine),
                failed=sum(map(bad, mine)),
                expected=sum(map(expected, mine)),
                cells=_cells(mine, anchors) if len(records) <= _MOST_CELLS else (),
                strips=tuple(strips),
                cost=_cost(mine),
            )
        )
    return found


def _cells(records: Iterable[Judgement], anchors: dict[int, str]) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((_tone(one), one["outcome"], one["trial"], anchors.get(id(one), "")) for one in records)


def _tone(one: Judgement) -> str:
    if one["outcome"] == "exact":
        return "good"
    return "expected" if one["passed"] else "bad"


def _cost(records: Sequence[Judgement]) -> Cost | None:
    """Of a test's first check: all its trials share its reference run."""
    first = next((one for one in records if one["reference"] is not None), None)
    run: LifeRecord | None = None if first is None else first["reference"]
    if first is None or run is None or run["measured"] is None:
        return None
    lanes = [lane for one in records if one["kind"] == "trial" for life in one["lives"] for lane in life["lanes"]]
    return Cost(
        seconds=run["measured"]["seconds"],
        save_seconds=run["measured"]["save_seconds"],
        saves=run["saves"] or 0,
        saved_bytes=run["measured"]["saved_bytes"],
        peak_mb=_peak(records),
        recorded=first["kind"] == "survey",
        trained=sum(lane["taken"] for lane in lanes),
        replayed=sum(one["scope"]["elements_replayed"] for one in records if one["kind"] == "trial"),
    )


def _peak(records: Iterable[Judgement]) -> float:
    """The largest of all lives."""
    lives = [one["reference"] for one in records]
    lives += [life for one in records if one["kind"] == "trial" for life in one["lives"]]
    return max((life["measured"]["peak_mb"] for life in lives if life and life["measured"]), default=0.0)


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 100 or unit == "bytes" else f"{number:.1f} {unit}"


def _seconds(number: float) -> str:
    return f"{number:.0f} s" if number >= 100 else f"{number:.1f} s" if number >= 10 else f"{number:.2f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _cut(text: str) -> str:
    """Its end, where what matters is."""
    return text if len(text) <= _MOST_OUTPUT else f"… {text[-_MOST_OUTPUT:]}"


def _grouped(number: int) -> str:
    return f"{number:,}"


__all__ = ["MEANINGS", "MOST_FAILURES", "extras", "page"]
