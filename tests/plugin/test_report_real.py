"""The report of real trainings, really killed: the same from any number of processes, everywhere where people look."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
import zlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from report_records import RESTARTED, a_report, a_trial, without_measured

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.pytester import Pytester, RunResult

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TESTS = """
    def train(model_dir, saves_input):
        import tensorflow as tf

        step, iterator = tf.Variable(0, dtype=tf.int64), iter(tf.data.Dataset.range(100))
        tracked = {"iterator": iterator} if saves_input else {}
        checkpoint = tf.train.Checkpoint(step=step, **tracked)
        manager = tf.train.CheckpointManager(checkpoint, model_dir, max_to_keep=2)
        checkpoint.restore(manager.latest_checkpoint)
        while step < 30:
            next(iterator)
            if int(step.assign_add(1)) % 10 == 0:
                manager.save()

    def test_good(preemption):
        preemption.check_training(lambda model_dir: train(model_dir, True))

    def test_bad(preemption):
        preemption.check_training(lambda model_dir: train(model_dir, False))
    """


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs the tests in a fresh process."""
    pytester.makepyfile(test_it=TESTS)
    return pytester.runpytest_subprocess("-p", "no:randomly", "--preempt-seed=3", *options)


def report_of(pytester: Pytester) -> Any:
    """The report that was written."""
    return json.loads(pytester.path.joinpath("report.json").read_text())


@pytest.mark.parametrize("at", ["random", "every:3"])
def test_the_same_from_any_number_of_processes(pytester: Pytester, at: str) -> None:
    """Apart from what is measured, one, two and four processes write the same, as the schema describes it."""
    jsonschema = pytest.importorskip("jsonschema")
    reports = []
    for processes in (0, 2, 4):
        # What one run has found to fail would be tried first by the next.
        options = (f"--preempt-at={at}", "--preempt-trials=3", "--preempt-report=report.json", "--cache-clear")
        run(pytester, f"-n{processes}", *options)
        reports.append(report_of(pytester))
        schema = json.loads(package_file("schema.json"))
        assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(reports[-1])] == []
    alone, *spread = map(without_measured, reports)
    assert spread == [alone, alone]
    judged = [*alone["trials"], *alone["surveys"]]
    assert {one["test"]: one["outcome"] for one in judged} == {
        "test_it.py::test_bad": "restarted",
        "test_it.py::test_good": "exact",
    }


def package_file(name: str) -> str:
    """A file of the report's package."""
    return files("pytest_pipeline_ckpt.report").joinpath(name).read_text()


def test_what_saves_cost(pytester: Pytester) -> None:
    """Each save is counted once, takes time within its run, and leaves the files that it wrote."""
    run(pytester, "--preempt-at=step:25", "--preempt-report=report.json")
    good = next(one for one in report_of(pytester)["trials"] if one["test"].endswith("good"))
    lives = [good["reference"], *good["lives"]]
    assert [life["saves"] for life in lives] == [3, 2, 1]
    for life in lives:
        measured = life["measured"]
        assert 0 < measured["save_seconds"] < measured["seconds"]
        assert measured["peak_mb"] > 50
        # A save of this model is some hundred bytes to some kilobytes: an index, a shard and the file `checkpoint`.
        assert 300 * life["saves"] < measured["saved_bytes"] < 50_000 * life["saves"]
    assert [lane["saves"] for life in lives for lane in life["lanes"]] == [[10, 20, 30], [10, 20], [30]]


def test_bytes_are_those_of_the_files(pytester: Pytester) -> None:
    """Where nothing is deleted, the bytes are the sizes of the files that are there, and of `checkpoint` as it was."""
    pytester.makepyfile(
        """
        import pathlib
        from pytest_pipeline_ckpt.engine import ledger

        def train(model_dir):
            import tensorflow as tf

            step = tf.Variable(0, dtype=tf.int64)
            checkpoint = tf.train.Checkpoint(step=step)
            pathlib.Path(model_dir, "events.out.tfevents.1").write_bytes(b"x" * 100_000)
            for _ in tf.data.Dataset.range(3):
                step.assign_add(1)
                checkpoint.write(model_dir + f"/ckpt-{int(step)}")

        def test_it(training_process, tmp_path):
            life = training_process(train, tmp_path / "model").wait()
            there = sum(path.stat().st_size for path in (tmp_path / "model").iterdir() if "ckpt" in path.name)
            saves = life.ledger.saves
            assert len(saves) == 3
            assert saves["bytes"].sum() == there
            assert (saves["us"] > 0).all()
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


def test_junit_and_github(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any option of ours, JUnit XML has the verdicts as properties, and GitHub's summary the failure."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    for processes in (0, 2):
        run(pytester, f"-n{processes}", "--preempt-at=step:15", "--junitxml=junit.xml")
        cases = ET.parse(pytester.path / "junit.xml").findall(".//testcase")
        found = {
            case.get("name"): {one.get("name"): one.get("value") for one in case.findall("properties/property")}
            for case in cases
        }
        assert found["test_good[step:15]"]["preempt_verdict"] == "exact"
        assert found["test_bad[step:15]"] == {
            "preempt_verdict": "restarted",
            "preempt_reason": "elements 0..9 were trained twice: life 2 restarted the pipeline at element 0, and the "
            "model had resumed at step 10, element 10",
            "preempt_seed": "3",
            "preempt_schedule": "step:15",
            "preempt_reproduce": "pytest test_it.py::test_bad --preempt-at=step:15",
            "preempt_kills_landed": "1",
            "preempt_saves_crossed": "1",
            "preempt_elements_compared": "20",
            "preempt_elements_replayed": "5",
        }
    text = pytester.path.joinpath("summary.md").read_text()
    assert text.count("❌ 1 failure, 1 resumed exactly") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_in_a_browser(tmp_path: Path) -> None:
    """A browser draws bars and hatches in their colours, in light and in dark, and prints the page."""
    pytest.importorskip("jinja2")
    from pytest_pipeline_ckpt.report.page import page

    path = tmp_path / "report.html"
    path.write_text(page(a_report([a_trial(RESTARTED)])))
    light, dark = (colours(browse(path, f"--blink-settings=preferredColorScheme={scheme}")) for scheme in (1, 0))
    assert {(255, 255, 255), (0x2F, 0x6F, 0xB2), (0xC4, 0x26, 0x1D)} <= light
    assert {(0x14, 0x17, 0x1B), (0x5B, 0x9B, 0xDC), (0xFF, 0x6B, 0x5E)} <= dark
    assert not light & {(0x14, 0x17, 0x1B)}
    printed = tmp_path / "page.pdf"
    browse(path, f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF-")


def browse(page: Path, option: str) -> Path:
    """Opens a page in a fresh browser; returns the picture of its top."""
    assert CHROMIUM is not None
    shot = page.with_suffix(".png")
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    command = [CHROMIUM, "--headless", "--no-sandbox", *quiet, "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    what = [] if "pdf" in option else [f"--screenshot={shot}", "--window-size=900,260"]
    subprocess.run([*command, profile, option, *what, page.as_uri()], check=True, capture_output=True, timeout=120)
    return shot


def colours(png: Path) -> set[tuple[int, int, int]]:
    """The colours of a picture: https://www.w3.org/TR/png-3/#9Filters."""
    data, at, packed, header = png.read_bytes(), 8, b"", (0, 0, 0, 0)
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            header = struct.unpack(">IIBB", content[:10])
        packed += content if kind == b"IDAT" else b""
        at += 12 + size
    width, height, depth, colour = header
    assert (depth, colour) in {(8, 2), (8, 6)}
    step = 3 if colour == 2 else 4
    raw, above, found = zlib.decompress(packed), bytearray(width * step), set()
    for row in range(height):
        begin = row * (width * step + 1)
        line = bytearray(raw[begin + 1 : begin + 1 + width * step])
        for place, value in enumerate(line):
            left = line[place - step] if place >= step else 0
            corner = above[place - step] if place >= step else 0
            line[place] = (value + _predicted(raw[begin], left, above[place], corner)) & 255
        found |= {tuple(line[x : x + 3]) for x in range(0, len(line), step)}
        above = line
    return {(red, green, blue) for red, green, blue in found}


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        return min((left, up, corner), key=lambda one: abs(left + up - corner - one))
    return (0, left, up, (left + up) // 2)[kind]
