"""What is remembered of failures, and who writes it: without TensorFlow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pipeline_ckpt.engine.model import Kill, KillSchedule
from pytest_pipeline_ckpt.memory import FORMAT, INPUT_KEY, KEY, REPORT_ATTRIBUTE, Memory, Remembered, is_first

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., pytest.Config]


@pytest.fixture
def make_config(pytester: pytest.Pytester) -> Make:
    """Configurations over one cache."""
    return lambda *arguments: pytester.parseconfigure("-p", "no:randomly", *arguments)


def entry(at: str, *, smallest: bool = True) -> dict[str, object]:
    """As the cache has it."""
    return {"at": at, "smallest": smallest}


def report(**found_out: object) -> Any:
    """An item's report that carries this."""
    made = pytest.TestReport("id", ("", 0, ""), {}, "failed", None, "call")
    setattr(made, REPORT_ATTRIBUTE, json.dumps(found_out))
    return made


def of_this_format(**failures: object) -> dict[str, object]:
    """The cache as this version writes it."""
    return {"format": FORMAT, "failures": failures}


def stored(config: pytest.Config) -> object:
    """What the cache has."""
    assert config.cache is not None
    return config.cache.get(KEY, None)


@pytest.mark.parametrize(
    "garbage",
    [
        "not json",
        "[1, 2]",
        '"step:3"',
        '{"format": 2, "failures": []}',
        '{"format": 2, "failures": {"test": "step:3"}}',
        '{"format": 2, "failures": {"test": {"at": "step:3"}}}',
        '{"format": 2, "failures": {"test": {"at": 3, "smallest": true}}}',
        '{"format": 2, "failures": {"test": {"at": "stpe:3", "smallest": true}}}',
        '{"format": 2, "failures": {"test": {"at": "every", "smallest": true}}}',
        '{"format": 2, "failures": {"test": {"at": "step:3", "smallest": "yes"}}}',
    ],
)
def test_garbage_is_no_memory(make_config: Make, pytester: pytest.Pytester, garbage: str) -> None:
    """What is in the cache file and can't be read is not replayed, and is gone when something is written."""
    path = pytester.path.joinpath(".pytest_cache/v", KEY)
    path.parent.mkdir(parents=True)
    path.write_text(garbage)
    config = make_config()
    memory = Memory(config)
    assert memory.recall("test") is None
    memory.pytest_runtest_logreport(report(other=entry("step:4")))
    memory.pytest_sessionfinish()
    assert stored(config) == of_this_format(other=entry("step:4"))


@pytest.mark.parametrize(
    "older",
    [{"test": entry("step:3")}, {"format": 1, "failures": {"test": entry("step:3")}}],
    ids=["without a number", "of another number"],
)
def test_another_format_is_forgotten(make_config: Make, older: dict[str, object]) -> None:
    """What another version has written is never read as if it were of this one, and is gone with the next write."""
    config = make_config()
    assert config.cache is not None
    config.cache.set(KEY, older)
    memory = Memory(config)
    assert memory.outdated
    assert memory.recall("test") is None
    memory.pytest_runtest_logreport(report(test=None))
    memory.pytest_sessionfinish()
    assert stored(config) == of_this_format()
    assert not Memory(make_config()).outdated


def test_recalled(make_config: Make) -> None:
    """What one session has stored, the next recalls."""
    first = Memory(make_config())
    first.pytest_runtest_logreport(report(test=entry("step:11,3@SIGTERM", smallest=False)))
    first.pytest_runtest_logreport(report(fixed=entry("step:4")))
    first.pytest_sessionfinish()
    second = Memory(make_config())
    assert str((recalled := second.recall("test")) and recalled.schedule) == "step:11,3@SIGTERM"
    assert recalled is not None
    assert not recalled.smallest
    second.pytest_runtest_logreport(report(fixed=None))
    second.pytest_sessionfinish()
    config = make_config()
    assert stored(config) == of_this_format(test=entry("step:11,3@SIGTERM", smallest=False))
    assert Memory(make_config("--cache-clear")).recall("test") is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_smallest_of_several_trials(make_config: Make, order: tuple[int, ...]) -> None:
    """Whatever order the trials of a test end in: the smallest failure is kept, and beats one that is exact."""
    config = make_config()
    memory = Memory(config)
    reports = [report(test=entry("step:31")), report(test=None), report(test=entry("step:11"))]
    for number in order:
        memory.pytest_runtest_logreport(reports[number])
    memory.pytest_sessionfinish()
    assert stored(config) == of_this_format(test=entry("step:11"))


def test_a_run_that_finds_nothing_out_writes_nothing(make_config: Make, pytester: pytest.Pytester) -> None:
    """Reports of tests that do not preempt leave the cache alone, and so does a failure that a test expects."""
    config = make_config()
    memory = Memory(config)
    memory.pytest_runtest_logreport(pytest.TestReport("id", ("", 0, ""), {}, "passed", None, "call"))
    memory.pytest_runtest_logreport(report(test=None))
    memory.pytest_sessionfinish()
    assert stored(config) is None


def test_without_a_cache(make_config: Make) -> None:
    """With `-p no:cacheprovider` nothing is recalled, and nothing written."""
    config = make_config("-p", "no:cacheprovider")
    memory = Memory(config)
    assert memory.recall("test") is None
    memory.pytest_runtest_logreport(report(test=entry("step:4")))
    memory.pytest_sessionfinish()


def test_a_worker_is_given_it(make_config: Make) -> None:
    """A worker of pytest-xdist recalls what it was given, and does not look into the cache nor write to it."""
    controller = make_config()
    assert controller.cache is not None
    controller.cache.set(KEY, of_this_format(test=entry("step:4")))
    config = make_config()
    config.workerinput = {INPUT_KEY: Memory(controller).to_json()}  # type: ignore[attr-defined]
    controller.cache.set(KEY, of_this_format(test=entry("step:5")))
    worker = Memory(config)
    assert worker.recall("test") == Remembered(KillSchedule((Kill(4),)), smallest=True)
    assert not config.pluginmanager.is_registered(worker)


IDS = """
    import pytest

    @pytest.mark.parametrize("trial", ["random-0", "random-1", "random-10"])
    def test_it(trial):
        pass

    @pytest.mark.parametrize("trial", ["random-0", "random-1"])
    def test_other(trial):
        pass
    """


@pytest.mark.parametrize(
    ("selected", "first"),
    [((), "random-0"), (("test_it[random-1]", "test_it[random-10]", "test_other"), "random-1")],
    ids=["all", "some"],
)
def test_the_first_of_the_trials_that_run(pytester: pytest.Pytester, selected: tuple[str, ...], first: str) -> None:
    """One trial of a test replays: the first one that was selected."""
    path = pytester.makepyfile(IDS)
    items, _ = pytester.inline_genitems(*(f"{path}::{name}" for name in selected) if selected else [str(path)])
    ids = ("random-0", "random-1", "random-10")
    trials = {item.nodeid: item.callspec.id for item in items if "test_it" in item.nodeid}  # type: ignore[attr-defined]
    firsts = [trial for item in items if (trial := trials.get(item.nodeid)) and is_first(item, trial, ids)]
    assert firsts == [first]
