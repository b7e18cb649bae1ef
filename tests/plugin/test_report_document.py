"""The data of the report: complete, described by its schema, the same in whatever order it was collected."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import BEHIND, LOST, RESTARTED, RIGHT, a_gang_trial, a_report, a_survey, a_trial

from pytest_pipeline_ckpt.report.properties import properties, without_ours

if TYPE_CHECKING:
    from pytest_pipeline_ckpt.report.records import Judgement

RECORDS: list[Judgement] = [
    a_trial(),
    a_trial(number=10),
    a_trial(RESTARTED, number=2),
    a_trial(BEHIND, test="test_a.py::test_other"),
    a_survey(),
    a_gang_trial(RIGHT, BEHIND),
    a_gang_trial(RIGHT, RIGHT, apart=True, number=1),
]


def schema() -> Any:
    """The published one."""
    return json.loads(files("pytest_pipeline_ckpt.report").joinpath("schema.json").read_text())


def complaints(report: Any) -> list[str]:
    """What the schema says against a report."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    return [error.message for error in jsonschema.Draft202012Validator(schema()).iter_errors(report)]


def test_a_trial() -> None:
    """A trial's record says what was killed, what came of it, and where each life trained."""
    record = a_trial(RESTARTED)
    assert record["outcome"] == "restarted"
    assert record["passed"] is False
    assert record["kills"] == "element 13"
    assert record["reproduce"] == "pytest test_a.py::test_a --preempt-at=step:13"
    assert record["wrong"] == [{"what": "twice", "first": 0, "last": 9, "previews": ["0", "1", "2", "3", "4"]}]
    first, second = record["lives"]
    assert (first["ending"], first["kill"], second["ending"], second["kill"]) == (
        "killed",
        "element 13",
        "finished",
        None,
    )
    assert first["lanes"] == [
        {
            "lane": "train.py:42, in main",
            "start": 0,
            "taken": 13,
            "kept": 10,
            "rolled_back": 3,
            "untrained": 0,
            "wrong": [],
            "wrong_elements": 0,
            "ahead": None,
            "saves": [10],
            "passes": [],
        }
    ]
    assert (second["lanes"][0]["wrong"], second["lanes"][0]["ahead"]) == ([[10, 19]], -10)


def test_a_trial_of_several_workers() -> None:
    """It names the worker that went wrong; each life has the ends of its workers, each lane says whose it is."""
    record = a_gang_trial(RIGHT, BEHIND)
    assert (record["outcome"], record["workers"], record["worker"], record["life"]) == ("misaligned", 2, 1, 2)
    assert (record["kills"], record["schedule"]) == ("element 13 of worker 1", "step:13#1")
    first, second = record["lives"]
    assert [(one["worker"], one["ending"], one["kill"]) for one in first["workers"]] == [
        (0, "killed", None),
        (1, "killed", "element 13 of worker 1"),
    ]
    assert [(lane["worker"], lane["ahead"]) for lane in second["lanes"]] == [(0, None), (1, -3)]
    assert [one["worker"] for one in a_gang_trial(RIGHT, RIGHT, apart=True)["lives"][1]["workers"]] == [1]
    assert "workers" not in a_trial()
    assert "workers" not in a_trial()["lives"][0]


def test_the_schema_describes_it() -> None:
    """Whatever is written is allowed by the committed schema, which allows nothing else."""
    left = [{"id": "test_c.py::test_c[random-0]", "kind": "error", "why": "TensorFlow is not installed"}]
    report = a_report([*RECORDS, a_survey([4])], left)  # type: ignore[arg-type]
    assert complaints(json.loads(json.dumps(report))) == []
    assert complaints({**report, "more": 1}) != []
    record = {**report["trials"][0]}
    del record["outcome"]
    assert complaints({**report, "trials": [record]}) != []


@given(st.permutations(RECORDS))
def test_the_order_is_the_tests_own(records: list[Judgement]) -> None:
    """However the reports come in, trials are ordered by test and number."""
    assert a_report(records) == a_report(RECORDS)
    assert [one["id"] for one in a_report(records)["trials"]] == [
        "test_a.py::test_a[random-0]",
        "test_a.py::test_a[random-2]",
        "test_a.py::test_a[random-10]",
        "test_a.py::test_other[random-0]",
        "test_g.py::test_g[random-0]",
        "test_g.py::test_g[random-1]",
    ]


@given(st.sets(st.integers(0, 11)), st.integers(1, 5), st.randoms(use_true_random=False))
def test_shares_of_every_become_one(bad: set[int], shards: int, random: Any) -> None:
    """What several processes found is what one would have found."""
    shares = [a_survey(sorted(bad), shard=shard, shards=shards) for shard in range(shards)]
    random.shuffle(shares)
    (whole,) = a_report(shares)["surveys"]
    (alone,) = a_report([a_survey(sorted(bad))])["surveys"]
    assert whole == alone
    assert whole["reference"] is not None
    assert [lane["taken"] for lane in whole["reference"]["lanes"]] == [20]
    assert whole["judged"] == 12
    assert [cell[0] for cell in whole["map"]] == list(range(12))
    if bad:
        first = min(bad)
        assert whole["reason"] == (
            f"{len(bad)} of 12 states that a kill can leave do not resume exactly; the first, after element "
            f"{5 * (first // 3)}, when it had renamed {first}: elements 0..9 were trained twice: life 2 restarted the "
            "pipeline at element 0, and the model had resumed at step 10, element 10"
        )
    else:
        assert whole["reason"] == "each of 12 states that a kill can leave resumes exactly"


def test_what_no_single_state_shows() -> None:
    """A survey whose states are each exact, and that fails as a whole, fails in the report; so it does with a share."""
    never: Any = {"outcome": "never-resumed", "reason": "none of 12 states was resumed", "passed": False}
    (whole,) = a_report([{**a_survey(), **never}])["surveys"]
    assert whole.items() >= never.items()
    shares: Any = [a_survey(shard=0, shards=2), {**a_survey(shard=1, shards=2), **never}]
    (shared,) = a_report(shares)["surveys"]
    assert shared.items() >= never.items()


def test_counts() -> None:
    """What is not exact fails, unless its test asks for that; a survey counts once."""
    asked = a_trial(LOST, number=3)
    asked["passed"] = True
    assert a_report([*RECORDS, asked])["counts"] == {"exact": 4, "failed": 3, "expected": 1}


def test_of_an_item_that_was_run_again_the_last_counts() -> None:
    """A check that is made again replaces what it said before; what has a verdict is not listed as not judged."""
    left = [{"id": "test_a.py::test_a[random-0]", "kind": "error", "why": "failed before"}]
    report = a_report([a_trial(LOST), a_trial()], left)  # type: ignore[arg-type]
    assert [one["outcome"] for one in report["trials"]] == ["exact"]
    assert report["not_judged"] == []


def test_properties() -> None:
    """JUnit XML gets few names, which stay as they are."""
    assert properties(a_trial(RESTARTED), 7) == [
        ("preempt_verdict", "restarted"),
        (
            "preempt_reason",
            "elements 0..9 were trained twice: life 2 restarted the pipeline at element 0, and the model had resumed "
            "at step 10, element 10",
        ),
        ("preempt_seed", "7"),
        ("preempt_schedule", "step:13"),
        ("preempt_reproduce", "pytest test_a.py::test_a --preempt-at=step:13"),
        ("preempt_kills_landed", "1"),
        ("preempt_saves_crossed", "1"),
        ("preempt_elements_compared", "10"),
        ("preempt_elements_replayed", "3"),
    ]
    assert dict(properties(a_survey([4, 5]), 7)) == {
        "preempt_verdict": "restarted",
        "preempt_reason": "some",
        "preempt_seed": "7",
        "preempt_schedule": "step:6",
        "preempt_reproduce": "pytest test_b.py::test_b --preempt-at=step:6",
        "preempt_states_judged": "12",
        "preempt_states_failed": "2",
        "preempt_kills_landed": "12",
        "preempt_saves_crossed": "0",
        "preempt_elements_compared": "120",
        "preempt_elements_replayed": "0",
    }
    assert without_ours([("mine", 1), ("preempt_verdict", "exact")]) == [("mine", 1)]
