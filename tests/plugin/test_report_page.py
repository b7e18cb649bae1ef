"""The page: from records, without a run; whatever is in them, it is well-formed, safe, readable without colour."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from report_records import BEHIND, LOST, RESTARTED, RIGHT, a_gang_trial, a_report, a_survey, a_trial

from pytest_pipeline_ckpt.report.charts import CELL, state_map
from pytest_pipeline_ckpt.report.timeline import Bar, Mark, Move, Row, Scale, Timeline, of_trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pipeline_ckpt.report.document import Report
    from pytest_pipeline_ckpt.report.records import Judgement

pytest.importorskip("jinja2")
HOSTILE = "<script>alert('x')</script>\"&\u2028{{ 7*7 }}{% raw %}]]>"
VOID = {"meta", "input", "br"}


def page(report: Report) -> str:
    """The page of a report."""
    from pytest_pipeline_ckpt.report.page import page

    return page(report)


class Checked(HTMLParser):
    """Notes tags, headings and text; an element that is closed in the wrong order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.headings: list[int] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Notes a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Notes a tag that has no content."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Checks that it is the last one that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Notes text."""
        if "style" not in self.open[-1:]:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader reads, in one line."""
        return " ".join(" ".join(self.words).split())


def everything() -> Report:
    """A report with one of each."""
    asked = a_trial(BEHIND, test="test_a.py::test_asks")
    asked["passed"] = True
    left = [{"id": "test_c", "kind": "error", "why": "TensorFlow is not installed"}]
    records: list[Judgement] = [a_trial(), a_trial(RESTARTED, number=1), a_trial(LOST, number=2), asked]
    records += [
        a_gang_trial(RIGHT, BEHIND),
        a_gang_trial(RIGHT, RIGHT, number=1),
        a_survey([4, 5]),
        {**a_survey(), "id": "test_d[every]", "test": "test_d"},
    ]
    return a_report(records, left)  # type: ignore[arg-type]


def test_a_picture() -> None:
    """A life that restarts: what was kept, rolled back, does not match, and by how much the input is behind."""
    scale = Scale(20)
    assert of_trial(a_trial(RESTARTED)) == Timeline(
        ticks=tuple((element, scale(element)) for element in (0, 5, 10, 15, 20)),
        rows=(
            Row(
                "Reference run",
                "nobody killed it: 20 elements, 4 saves",
                False,
                (Bar("reference", 0.0, scale(20)),),
                tuple(Mark("save", scale(at)) for at in (5, 10, 15, 20)),
            ),
            Row(
                "Life 1",
                "started at element 0; killed at its element 13; trained on 13 elements, 3 of them rolled back later",
                False,
                (Bar("kept", 0.0, scale(10)), Bar("back", scale(10), round(scale(13) - scale(10), 2))),
                (Mark("start", 0.0), Mark("save", scale(10)), Mark("kill", scale(13))),
            ),
            Row(
                "Life 2",
                "resumed at element 10; ran to its end; trained on 10 elements; its model stood at element 10, its "
                "input at element 0; 10 elements not as in the reference run",
                True,
                (
                    Bar("kept", scale(10), round(scale(20) - scale(10), 2)),
                    Bar("wrong", scale(10), round(scale(20) - scale(10), 2)),
                ),
                (Mark("start", scale(10)), Mark("end", scale(20))),
                (Move("rollback", scale(13), scale(10)), Move("shift", scale(10), 0.0)),
                "input 10 elements behind the model",
                scale(10),
                "middle",
            ),
            Row(
                "Final model",
                "0..9 trained twice",
                True,
                (Bar("once", 0.0, scale(20)), Bar("twice", 0.0, scale(10))),
                label="0..9 trained twice",
            ),
        ),
    )


def test_a_picture_of_several_workers() -> None:
    """Each worker has its own lives below its own reference run; only the one that went wrong is marked."""
    picture = of_trial(a_gang_trial(RIGHT, BEHIND))
    assert picture is not None
    assert [(row.name, row.words.partition("; ")[2].partition(";")[0], row.bad) for row in picture.rows] == [
        ("Reference run, worker 0", "", False),
        ("Life 1", "killed with a worker that was gone", False),
        ("Life 2", "ran to its end", False),
        ("Reference run, worker 1", "", False),
        ("Life 1", "killed at element 13 of worker 1", False),
        ("Life 2", "ran to its end", True),
    ]
    assert [row.name for row in picture.lives] == ["Life 1", "Life 2"] * 2
    apart = of_trial(a_gang_trial(RIGHT, RIGHT, apart=True))
    assert apart is not None
    assert [row.name for row in apart.rows] == [
        "Reference run, worker 0",
        "Life 1",
        "Reference run, worker 1",
        "Life 1",
        "Life 2",
    ]


def test_no_picture_where_nothing_is_known() -> None:
    """Where the reference run already decided, or nobody knows where a life trained, nothing is drawn."""
    record = a_trial(RESTARTED)
    record["lives"] = []
    assert of_trial(record) is None


def test_one_wrong_element_of_a_million_is_seen() -> None:
    """However long the run, what is wrong has a width; all bars stay within the picture."""
    scale = Scale(1_000_000)
    assert scale.bar("wrong", 500_000, 500_001).width > 0.3
    assert scale(1_000_000) < 100
    assert scale.ticks(1_000_000)[-1] == (1_000_000, scale(1_000_000))


def test_a_map() -> None:
    """States stand above the element after which they are left, in the order of the run; what fails is marked."""
    states = state_map(a_survey([4]))
    assert states is not None
    assert states.height == 3 * CELL
    assert [(one.x, one.y // CELL, one.bad) for one in states.cells] == [
        (Scale(20)(5 * column), 2 - level, (column, level) == (1, 1)) for column in range(4) for level in range(3)
    ]
    assert states.cells[4].title == "after element 5: restarted"
    assert states.saves == tuple(map(Scale(20), (5, 10, 15, 20)))
    assert states.words == "12 states along the run of 20 elements, 1 of them not exact"


def test_a_map_of_many_states_is_no_larger() -> None:
    """A hundred thousand states share cells; a cell is bad when one of its states is."""
    survey = a_survey()
    survey["elements"] = 1_000_000
    survey["map"] = [[n, 10 * n, "lost" if n == 77_777 else "exact", 0] for n in range(100_000)]
    states = state_map(survey)
    assert states is not None
    assert len(states.cells) <= 4000
    assert [one.title for one in states.cells if one.bad] == ["after element 777550: exact 25, lost 1"]


def test_the_page_is_well_formed() -> None:
    """Every element is closed, headings go down step by step, anchors exist once, and no script or request is there."""
    text = page(everything())
    seen = Checked(text)
    assert seen.headings[0] == 1
    assert seen.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(seen.headings, seen.headings[1:], strict=False))
    named = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
    assert len(named) == len(set(named))
    wanted = [attrs.get("href") or "" for tag, attrs in seen.tags if tag in ("a", "use")]
    assert {link.removeprefix("#") for link in wanted} <= set(named)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_each_picture_is_xml() -> None:
    """An XML parser reads each picture, and each is either described or said in words beside it."""
    pictures = re.findall(r"<svg.*?</svg>(?:\s*</svg>)?", page(everything()), re.DOTALL)
    outer = [one for one in pictures if re.match(r"<svg (class|width|aria)", one)]
    assert len(outer) > 30
    for one in outer:
        whole = (
            one
            if one.count("<svg") == one.count("</svg>")
            else one + "</svg>" * (one.count("<svg") - one.count("</svg>"))
        )
        root = ET.fromstring(whole)
        assert root.get("aria-hidden") == "true" or root.get("aria-label")


def test_what_a_reader_reads() -> None:
    """Verdict, lives, elements, how to see it again, costs, what was not judged: all of it is text."""
    text = Checked(page(everything())).text
    for words in (
        "✗ 4 of 8 trials did not resume exactly.",
        "1 more failed, as the tests expect.",
        "Killed: random , --preempt-seed=7 . Elements count from 0;",
        "restarted test_a.py::test_a[random-1] elements 0..9 were trained twice",
        "random-0: exact",
        "random-1: restarted",
        "Life 1 started at element 0; killed at its element 13;",
        "input 10 elements behind the model",
        "twice #0 0 twice #1 1",
        "To see it again pytest test_a.py::test_a --preempt-at=step:13",
        "element 14 was never trained",
        "(the test expects this)",
        "restarted , 2 states",
        "first after element 5, when it had renamed 4 last after element 5, when it had renamed 5",
        "What checkpoints cost",
        "test_c could not be carried out: TensorFlow is not installed",
    ):
        assert words in text


def test_hostile_text_stays_text() -> None:
    """Whatever a test is called and an element contains, it is shown, not run."""
    record = a_trial(RESTARTED, test=HOSTILE)
    record["reason"] = record["reproduce"] = HOSTILE
    record["notes"] = [HOSTILE]
    record["wrong"][0]["previews"] = [HOSTILE]
    record["measured"] = {"files": HOSTILE, "output": [HOSTILE], "diagnosis": [HOSTILE], "smallest": HOSTILE}
    for life in (*record["lives"], record["reference"]):
        assert life is not None
        life["status"], life["kill"] = HOSTILE, HOSTILE
        life["lanes"][0]["lane"] = HOSTILE
    survey = a_survey([1])
    failure = survey["failures"][0]
    failure["where"] = failure["reason"] = failure["reproduce"] = HOSTILE
    survey["map"][0][2] = HOSTILE
    left = [{"id": HOSTILE, "kind": "skipped", "why": HOSTILE}]
    text = page(a_report([record, survey], left, tensorflow=HOSTILE))  # type: ignore[arg-type]
    seen = Checked(text)
    assert "script" not in {tag for tag, _ in seen.tags}
    assert " ".join(HOSTILE.split()) in seen.text
    assert "49" not in re.sub(r"[\d.]+%", "", seen.text)


def test_what_others_found_is_shown() -> None:
    """A smaller failing schedule and a diagnosis stand with the failure."""
    record = a_trial(RESTARTED)
    measured = record["measured"]
    measured["smallest"], measured["diagnosis"] = "pytest x --preempt-at=step:11", ["The iterator is in no checkpoint."]
    text = Checked(page(a_report([record]))).text
    assert "The smallest schedule that fails too pytest x --preempt-at=step:11" in text
    assert "The iterator is in no checkpoint." in text


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (a_report([]), "No trial was judged."),
        (a_report([a_trial()]), "✓ The trial resumed exactly."),
        (a_report([a_trial(), a_trial(number=1)]), "✓ All 2 trials resumed exactly."),
        (a_report([a_trial(LOST)]), "✗ 1 of 1 trial did not resume exactly."),
        (
            a_report([{**a_trial(LOST), "passed": True}]),
            "✓ 1 trial failed as its test expects.",
        ),
        (
            a_report([{**a_trial(LOST), "passed": True}, a_trial(number=1)]),
            "✓ 1 of 2 trials resumed exactly, the others as their tests expect.",
        ),
        (a_report([a_trial()], interrupted=True), "The run was interrupted. This is what was known by then."),
    ],
)
def test_headlines(report: Report, headline: str) -> None:
    """One sentence says how it went."""
    assert headline in Checked(page(report)).text


def _many(values: Iterable[int], number: int) -> list[Judgement]:
    record = a_trial(values)
    return [
        {**record, "number": n, "trial": f"random-{n}", "id": f"test_a.py::test_a[random-{n}]"} for n in range(number)
    ]


@pytest.mark.parametrize("bad", [0, 100, 10_000])
def test_ten_thousand_trials(bad: int) -> None:
    """The page stays below 3 MB and says how many there are; failures come first, the others are counted."""
    records = _many(RESTARTED, bad) + _many(range(10, 20), 10_000)[bad:]
    text = page(a_report(records))
    assert len(text.encode()) < 3_000_000
    seen = Checked(text)
    articles = sum(tag == "article" for tag, _ in seen.tags)
    assert articles == min(bad, 150)
    words = f"✗ {bad:,} of 10,000 trials" if bad else "✓ All 10,000 trials resumed exactly."
    assert words in seen.text
    if bad > 150:
        assert "… and 9,850 more failures: --preempt-report=report.json has them all." in seen.text


def test_every_kind_of_a_large_survey() -> None:
    """A survey with thousands of failing states of many kinds is a page too."""
    survey = a_survey(range(12))
    first = survey["failures"][0]
    survey["failures"] = [{**first, "number": n, "reason": f"reason {'x' * (n % 40)}"} for n in range(20_000)]
    survey["map"] = [[n, n % 21, "restarted", 0] for n in range(20_000)]
    text = page(a_report([survey]))
    assert len(text.encode()) < 3_000_000
    assert "… and 34 more ways in which states fail." in text


def test_extras_for_pytest_html() -> None:
    """pytest-html gets the picture, with a style that changes nothing else; a trial without a picture gives none."""
    from pytest_pipeline_ckpt.report.page import extras

    (one,) = extras([a_trial(RESTARTED)])
    assert one["format_type"] == "html"
    content: Any = one["content"]
    (style,) = re.findall(r"<style>(.*?)</style>", content, re.DOTALL)
    assert re.fullmatch(r"\.preempt-report \{([^{}]*|\{[^{}]*\})*\}", style.strip())
    assert "input 10 elements behind the model" in content
    nothing = a_trial()
    nothing["lives"] = []
    assert extras([nothing]) == []
