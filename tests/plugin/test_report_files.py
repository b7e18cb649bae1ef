"""Where the report goes: files, JUnit XML, GitHub's summary, pytest-html; also with xdist, and when it is interrupted.

Trainings are not run here: a conftest lets the items' reports carry what trials came to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_records import RESTARTED, a_survey, a_trial, without_measured

if TYPE_CHECKING:
    from _pytest.pytester import Pytester, RunResult

CONFTEST = """
    import json, pathlib, pytest

    CARRIED = json.loads(pathlib.Path("carried.json").read_text())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item, call):
        report = yield
        if call.when == "call" and item.name in CARRIED:
            report.preempt = json.dumps({"rows": CARRIED[item.name], "notes": [], "passed": report.passed})
        return report
    """
TESTS = """
    def test_good():
        pass

    def test_bad():
        raise AssertionError

    def test_every_1():
        pass

    def test_every_2():
        pass
    """


@pytest.fixture
def carrying(pytester: Pytester) -> Pytester:
    """A directory with tests whose reports carry records."""
    every = [a_survey([4], shard=shard, shards=2) for shard in (0, 1)]
    carried: dict[str, list[Any]] = {
        "test_good": [a_trial(), {**a_trial(), "check": 1}],
        "test_bad": [a_trial(RESTARTED, number=1)],
        "test_every_1": [every[0]],
        "test_every_2": [every[1]],
    }
    rows = {
        name: [{"outcome": record["outcome"], "text": "text", "record": record} for record in records]
        for name, records in carried.items()
    }
    pytester.path.joinpath("carried.json").write_text(json.dumps(rows))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    return pytester


def run(pytester: Pytester, *options: str) -> RunResult:
    """Runs pytest in a fresh process."""
    return pytester.runpytest_subprocess("-p", "no:randomly", *options)


def report_of(pytester: Pytester, name: str = "report.json") -> Any:
    """The report that was written."""
    return json.loads(pytester.path.joinpath(name).read_text())


@pytest.mark.parametrize("processes", [0, 2, 4])
def test_the_same_however_many_processes(carrying: Pytester, processes: int) -> None:
    """What was found is in the file, in the order of the tests, whatever came in when."""
    result = run(carrying, f"-n{processes}", "--preempt-seed=7", "--preempt-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"preempt: report: {carrying.path}/report.json"])
    report = report_of(carrying)
    assert [(one["id"], one["check"], one["passed"]) for one in report["trials"]] == [
        ("test_a.py::test_a[random-0]", 0, True),
        ("test_a.py::test_a[random-0]", 1, True),
        ("test_a.py::test_a[random-1]", 0, False),
    ]
    (survey,) = report["surveys"]
    assert (survey["judged"], survey["outcome"], survey["passed"]) == (12, "restarted", True)
    assert report["counts"] == {"exact": 2, "failed": 1, "expected": 1}
    assert (report["seed"], report["interrupted"], report["not_judged"]) == (7, False, [])
    assert without_measured(report) != report


def test_both_files(carrying: Pytester) -> None:
    """The option is repeatable; the suffix decides; files that are there are replaced, and nothing else is left."""
    pytest.importorskip("jinja2")
    carrying.path.joinpath("out").mkdir()
    carrying.path.joinpath("out/r.html").write_text("old")
    run(carrying, "--preempt-report=out/r.html", "--preempt-report=out/r.JSON")
    assert sorted(path.name for path in carrying.path.joinpath("out").iterdir()) == ["r.JSON", "r.html"]
    assert "of 4 trials" in carrying.path.joinpath("out/r.html").read_text()
    assert report_of(carrying, "out/r.JSON")["counts"]["failed"] == 1


def test_a_report_of_nothing(pytester: Pytester) -> None:
    """A run without any trial writes a report that says so, because somebody waits for the file."""
    pytester.makepyfile("def test_plain():\n    pass")
    assert run(pytester, "--preempt-report=report.json").ret == 0
    assert report_of(pytester)["counts"] == {"exact": 0, "failed": 0, "expected": 0}


def test_without_jinja2(carrying: Pytester) -> None:
    """A page needs Jinja2; without it one sentence says what to install, before anything is run. Data needs none."""
    carrying.makepyfile(no_jinja2="import sys\nsys.modules['jinja2'] = None")
    without = ("-p", "no_jinja2", "-p", "no:html", "-p", "no:metadata")
    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", os.pathsep.join((str(carrying.path), os.environ.get("PYTHONPATH", ""))))
    with environment.context():
        result = run(carrying, *without, "--preempt-report=report.html")
        assert run(carrying, *without, "--preempt-report=report.json").ret == pytest.ExitCode.TESTS_FAILED
    environment.undo()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == (
        "ERROR: --preempt-report=report.html: the page is made with Jinja2, which is not installed: "
        'pip install "pytest-pipeline-ckpt[report]", or ask for a .json file'
    )
    assert result.outlines == []


@pytest.mark.parametrize(
    ("path", "why"),
    [("nowhere/report.json", "there is no directory {here}/nowhere"), ("taken.json", "it is a directory")],
)
def test_a_file_that_cannot_be_written(carrying: Pytester, path: str, why: str) -> None:
    """A path that can't be written ends the run before anything is run, with one sentence."""
    carrying.path.joinpath("taken.json").mkdir()
    result = run(carrying, f"--preempt-report={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    here = str(carrying.path)
    assert result.errlines[0] == (
        f"ERROR: --preempt-report={here}/{path}: it can't be written: {why.format(here=here)}; name a file that can be"
    )
    assert result.outlines == []


def test_a_file_that_can_no_longer_be_written(carrying: Pytester) -> None:
    """If the directory is gone at the end, one sentence says so, and the tests' results stay what they are."""
    carrying.path.joinpath("out").mkdir()
    carrying.makepyfile(test_it="import os\ndef test_good():\n    os.rmdir('out')")
    result = run(carrying, "--preempt-report=out/report.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [f"preempt: {carrying.path}/out/report.json could not be written: No such file or directory"]
    )
    assert "INTERNALERROR" not in result.stdout.str()


def test_another_suffix_is_refused(pytester: Pytester) -> None:
    """What is neither a page nor data is refused, with what there is."""
    result = run(pytester, "--preempt-report=report.pdf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == (
        "ERROR: --preempt-report: 'report.pdf' ends neither in .html nor in .json: give 'report.html', 'report.json' "
        "or both"
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_interrupted(carrying: Pytester, processes: int) -> None:
    """After Ctrl-C the report has what was known by then, and says that the run was interrupted."""
    os.mkfifo(carrying.path / "never")
    waits = "def test_good():\n    pass\n\ndef test_waits():\n    open('never').read()\n"
    carrying.makepyfile(test_it=waits)
    command = (sys.executable, "-m", "pytest", "-v", "-p", "no:randomly", f"-n{processes}", "--dist=loadfile")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        (*command, "--preempt-report=report.json"),
        cwd=carrying.path,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "test_good" in line and "PASSED" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "preempt: report: " in rest
    report = report_of(carrying)
    assert report["interrupted"] is True
    assert [one["id"] for one in report["trials"]] == ["test_a.py::test_a[random-0]"] * 2


@pytest.mark.parametrize("processes", [0, 2])
def test_github_summary(carrying: Pytester, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    """The summary is appended once, by the process that the user started."""
    path = carrying.path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    run(carrying, f"-n{processes}", "--preempt-report=report.json")
    text = path.read_text()
    assert text.startswith("before\n\n### Preemption\n\n❌ 1 failure, 2 resumed exactly, 1 not exact")
    assert text.count("### Preemption") == 1


def test_github_summary_that_cannot_be_written(carrying: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that can't be written is one sentence; the report is written all the same."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(carrying.path / "nowhere" / "summary.md"))
    result = run(carrying, "--preempt-report=report.json")
    result.stdout.fnmatch_lines(["preempt: */nowhere/summary.md could not be written: No such file or directory"])
    assert report_of(carrying)["counts"]["failed"] == 1


@pytest.mark.parametrize("processes", [0, 2])
def test_pytest_html(carrying: Pytester, processes: int) -> None:
    """pytest-html's own page has the picture with the test."""
    pytest.importorskip("pytest_html")
    options = (f"-n{processes}", "--html=tests.html", "--self-contained-html", "--preempt-report=report.json")
    result = run(carrying, *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = Path(carrying.path / "tests.html").read_text()
    assert "input 10 elements behind the model" in text


def test_items_that_came_to_no_verdict(pytester: Pytester) -> None:
    """What was skipped, or could not be carried out, is listed with the reason."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.preempt(at="never")
        def test_skipped(preemption):
            pass

        @pytest.mark.preempt(at="step:5", times=2)
        def test_unusable(preemption):
            pass
        """
    )
    run(pytester, "--preempt-isolation=spawn", "--preempt-report=report.json").assert_outcomes(skipped=1, errors=1)
    times = (
        "@pytest.mark.preempt(times=...): 2 contradicts 'step:5' (@pytest.mark.preempt(at=...)), which fixes the "
        "killed lives to 1: leave one of them out, or give the schedule as many numbers"
    )
    assert report_of(pytester)["not_judged"] == [
        {"id": "test_it.py::test_skipped[never]", "kind": "skipped", "why": "@pytest.mark.preempt(at=...) says never"},
        {"id": "test_it.py::test_unusable[unusable]", "kind": "error", "why": times},
    ]
