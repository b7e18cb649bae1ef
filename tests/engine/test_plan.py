"""The grammar of kill schedules and the laws of the planner."""

from __future__ import annotations

import subprocess
import sys
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pipeline_ckpt.engine.checker import ReferenceFacts
from pytest_pipeline_ckpt.engine.plan import (
    SIGNALS,
    Every,
    Kill,
    KillSchedule,
    Never,
    Random,
    draw_gang_schedule,
    draw_schedule,
    ensure_known,
    ensure_reachable,
    parse_schedule,
    parse_signal,
    spell,
)
from pytest_pipeline_ckpt.errors import PreemptUsageError

STRIDE = "is not a stride: give a whole number of at least 1, as in every:10, or every alone"
NAMES = ", ".join(SIGNALS)
GRAMMAR = "give random, every[:STRIDE], never, or step:K[,K2...], as in step:40,3@SIGTERM, step:40/op:3 or step:40#1"
PINNED = ["step:81,3,12", "step:14,9", "step:84,10", "step:49,15,1", "step:19", "step:80,3,1"]
signals = st.sampled_from([Signals[name] for name in SIGNALS])
kills = st.builds(
    Kill,
    st.integers(0, 10**17),
    signals,
    st.none() | st.integers(1, 10**17),
    st.none() | signals,
    st.lists(st.integers(0, 9999), max_size=4, unique=True).map(tuple),
).filter(lambda kill: kill.again is None or SIGKILL not in (kill.signal, kill.again))
schedules = st.builds(KillSchedule, st.lists(kills, min_size=1, max_size=6).map(tuple))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("random", Random()),
        ("never", Never()),
        (" random\n", Random()),
        ("step:1", KillSchedule((Kill(1),))),
        ("step:40,3", KillSchedule((Kill(40), Kill(3)))),
        ("step:40, 3", KillSchedule((Kill(40), Kill(3)))),
        ("step:007", KillSchedule((Kill(7),))),
        ("step:40@SIGTERM,3", KillSchedule((Kill(40, SIGTERM), Kill(3)))),
        ("step:40@SIGKILL,3@SIGUSR1", KillSchedule((Kill(40), Kill(3, SIGUSR1)))),
        ("every", Every()),
        ("every:1", Every()),
        ("every:10", Every(10)),
        ("step:0", KillSchedule((Kill(0),))),
        ("step:40/op:3", KillSchedule((Kill(40, op=3),))),
        ("step:0/op:2@SIGTERM,7", KillSchedule((Kill(0, SIGTERM, op=2), Kill(7)))),
        ("step:40@SIGTERM@SIGINT", KillSchedule((Kill(40, SIGTERM, again=SIGINT),))),
        ("step:40#1", KillSchedule((Kill(40, workers=(1,)),))),
        ("step:40#1,7#0,9", KillSchedule((Kill(40, workers=(1,)), Kill(7, workers=(0,)), Kill(9)))),
        ("step:40/op:3#2+0@SIGTERM@SIGINT", KillSchedule((Kill(40, SIGTERM, 3, SIGINT, (2, 0)),))),
    ],
)
def test_grammar(text: str, meaning: object) -> None:
    """Every form of the grammar has its meaning."""
    assert parse_schedule(text, "here") == meaning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"here: '' is not a kill schedule: {GRAMMAR}"),
        ("sometimes", f"here: 'sometimes' is not a kill schedule: {GRAMMAR}"),
        ("Random", f"here: 'Random' is not a kill schedule: {GRAMMAR}"),
        ("40", f"here: '40' is not a kill schedule: {GRAMMAR}"),
        ("step", f"here: 'step' is not a kill schedule: {GRAMMAR}"),
        ("step:", f"here: '' in 'step:' is not the number of an element: {GRAMMAR}"),
        ("step:4,", f"here: '' in 'step:4,' is not the number of an element: {GRAMMAR}"),
        ("step:x", f"here: 'x' in 'step:x' is not the number of an element: {GRAMMAR}"),
        ("step:-1", f"here: '-1' in 'step:-1' is not the number of an element: {GRAMMAR}"),
        ("step:1.5", f"here: '1.5' in 'step:1.5' is not the number of an element: {GRAMMAR}"),
        ("step:٤", f"here: '٤' in 'step:٤' is not the number of an element: {GRAMMAR}"),
        ("step:4@", f"here: '4@' in 'step:4@' is not the number of an element: {GRAMMAR}"),
        ("step:4@SIGFOO", f"here: 'SIGFOO' is not a signal to preempt with: give one of {NAMES}"),
        ("step:4@SIGSTOP", f"here: 'SIGSTOP' is not a signal to preempt with: give one of {NAMES}"),
        ("every:", f"here: '' in 'every:' {STRIDE}"),
        ("every:0", f"here: '0' in 'every:0' {STRIDE}"),
        ("every:-1", f"here: '-1' in 'every:-1' {STRIDE}"),
        ("every:half", f"here: 'half' in 'every:half' {STRIDE}"),
        ("everything", f"here: 'everything' is not a kill schedule: {GRAMMAR}"),
        (
            "step:40/op:0",
            "here: '40/op:0' in 'step:40/op:0': file operations are counted from 1 behind each element, "
            "so the first is step:40/op:1",
        ),
        ("step:40/op:", f"here: '40/op:' in 'step:40/op:' is not the number of an element: {GRAMMAR}"),
        (
            "step:4@SIGKILL@SIGTERM",
            "here: '4@SIGKILL@SIGTERM' in 'step:4@SIGKILL@SIGTERM': nothing can follow SIGKILL: leave @SIGTERM out",
        ),
        (
            "step:4@SIGTERM@SIGKILL",
            "here: '4@SIGTERM@SIGKILL' in 'step:4@SIGTERM@SIGKILL': SIGKILL follows a notice by itself, after the "
            "grace: leave @SIGKILL out",
        ),
        ("step:12#", f"here: '12#' in 'step:12#' is not the number of an element: {GRAMMAR}"),
        ("step:12#one", f"here: '12#one' in 'step:12#one' is not the number of an element: {GRAMMAR}"),
        (
            "step:12@SIGTERM#1",
            f"here: '12@SIGTERM#1' in 'step:12@SIGTERM#1' is not the number of an element: {GRAMMAR}",
        ),
        ("step:12#1+1", "here: '12#1+1' in 'step:12#1+1' names a worker twice: leave one of them out"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """What is not in the grammar is refused with its source, the value and the remedy."""
    with pytest.raises(PreemptUsageError) as caught:
        parse_schedule(text, "here")
    assert str(caught.value) == message


@given(schedules)
def test_round_trip(schedule: KillSchedule) -> None:
    """A schedule's text reads back as that schedule."""
    assert parse_schedule(str(schedule), "here") == schedule


@given(schedules, signals)
def test_explicit_round_trip(schedule: KillSchedule, default: Signals) -> None:
    """The explicit spelling reads back as the same schedule whatever the default signal is."""
    assert parse_schedule(spell(schedule, explicit=True), "here", default_signal=default) == schedule


@pytest.mark.parametrize("schedule", [Random(), Every(), Every(7), Never()])
def test_words_round_trip(schedule: Random | Every | Never) -> None:
    """The words are spelled as they are read."""
    assert parse_schedule(spell(schedule, explicit=True), "here") == schedule == parse_schedule(str(schedule), "here")


@given(st.text() | st.from_regex(r"(step|every):[0-9,@#+/:opA-Z ]*", fullmatch=True))
def test_any_text(text: str) -> None:
    """Any text is a usage error, or in the grammar and its meaning's text has that meaning too."""
    try:
        meaning = parse_schedule(text, "here")
    except PreemptUsageError as error:
        said = str(error)
        assert said.startswith("here: ")
    else:
        assert parse_schedule(str(meaning), "here") == meaning


def test_default_signal() -> None:
    """A number without a signal gets the default one, a number with one keeps it."""
    schedule = parse_schedule("step:4,5@SIGKILL", "here", default_signal=SIGTERM)
    assert schedule == KillSchedule((Kill(4, SIGTERM), Kill(5, SIGKILL)))


@pytest.mark.parametrize("value", ["SIGTERM", SIGTERM])
def test_signal(value: object) -> None:
    """A signal is read from its name or taken as it is."""
    assert parse_signal(value, "here") is SIGTERM


@pytest.mark.parametrize("value", ["TERM", "sigterm", 15, None, "SIGCHLD", Signals.SIGSTOP])
def test_no_signal(value: object) -> None:
    """A number, a short name or a signal that ends nothing is refused with the list of those that do."""
    with pytest.raises(PreemptUsageError) as caught:
        parse_signal(value, "--preempt-signal")
    assert str(caught.value) == (
        f"--preempt-signal: {value!r} is not a signal to preempt with: "
        "give one of SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU"
    )


def test_beyond_the_end() -> None:
    """A kill that is later than the run is long is refused with the run's length."""
    schedule = KillSchedule((Kill(40), Kill(101)))
    with pytest.raises(PreemptUsageError) as caught:
        ensure_reachable(schedule, "--preempt-at", elements=100)
    assert str(caught.value) == (
        "--preempt-at: element 101 of 'step:40,101' is beyond the end of the run, "
        "which takes 100 training elements: give a number from 1 to 100, or train longer"
    )
    ensure_reachable(schedule, "--preempt-at", elements=101)


def test_beyond_a_workers_end() -> None:
    """Of a gang each kill must be within the run of the worker whose elements it counts."""
    ensure_reachable(KillSchedule((Kill(40), Kill(20, workers=(1, 0)))), "--preempt-at", elements=[40, 20])
    with pytest.raises(PreemptUsageError) as caught:
        ensure_reachable(KillSchedule((Kill(21, workers=(1,)),)), "--preempt-at", elements=[40, 20])
    assert str(caught.value) == (
        "--preempt-at: element 21 of worker 1 of 'step:21#1' is beyond the end of the run, "
        "which takes 20 training elements: give a number from 1 to 20, or train longer"
    )


@pytest.mark.parametrize(
    ("text", "workers", "apart", "message"),
    [
        (
            "step:9#0",
            1,
            False,
            "'9#0' in 'step:9#0' names a worker, but the training has one process: give their number "
            "(--preempt-workers=2), or leave the worker out",
        ),
        (
            "step:9,4#1+2",
            2,
            False,
            "there is no worker 2 ('step:9,4#1+2'): they are counted from 0, so the last of 2 is worker 1",
        ),
        (
            "step:9",
            2,
            True,
            "'9' in 'step:9' does not name one worker, but --preempt-restart=worker kills and starts them one by one: "
            "write 9#0, or leave --preempt-restart out",
        ),
    ],
)
def test_unknown_worker(text: str, workers: int, apart: bool, message: str) -> None:
    """A schedule that names a worker which the training does not have, or none where one must be named, is refused."""
    schedule = parse_schedule(text, "here")
    assert isinstance(schedule, KillSchedule)
    with pytest.raises(PreemptUsageError) as caught:
        ensure_known(schedule, "here", workers=workers, apart=apart)
    assert str(caught.value) == f"here: {message}"


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """The facts of a reference run."""
    elements = draw(st.integers(1, 400) | st.integers(1, 10**9))
    marks = st.lists(st.integers(1, elements), max_size=30, unique=True).map(sorted)
    return {"elements": elements, "boundaries": draw(marks), "saves": draw(marks)}


@given(run=runs(), seed=st.integers(0, 2**64), key=st.text(), trial=st.integers(0, 1000), signal=signals)
def test_every_kill_can_land(run: dict[str, Any], seed: int, key: str, trial: int, signal: Signals) -> None:
    """One to three kills are drawn, and a training that resumes rightly reaches each of them."""
    schedule = draw_schedule(seed, key, trial, signal=signal, **run)
    elements = run["elements"]
    assert 1 <= len(schedule.kills) <= 3
    for kill in schedule.kills:
        assert kill.signal is signal
        assert 1 <= kill.element <= elements
        # SIGKILL takes the element with it; a notice may come back after the element was trained and saved.
        elements -= kill.element - (signal is SIGKILL)


@given(run=runs(), times=st.integers(1, 40), signal=signals)
def test_times(run: dict[str, Any], times: int, signal: Signals) -> None:
    """As many kills as were asked for are drawn, or it is a usage error where the run has fewer elements."""
    if times > run["elements"]:
        with pytest.raises(PreemptUsageError, match="cannot land in a run that takes"):
            draw_schedule(1, "key", 0, times=times, signal=signal, **run)
    else:
        schedule = draw_schedule(1, "key", 0, times=times, signal=signal, **run)
        assert len(schedule.kills) == times
        assert sum(kill.element for kill in schedule.kills) <= max(run["elements"], times)


def test_more_kills_than_elements() -> None:
    """The message says how many kills were asked for, by whom, and how many elements there are."""
    with pytest.raises(PreemptUsageError) as caught:
        draw_schedule(1, "key", 0, elements=2, times=3, where="ini preempt_times")
    assert str(caught.value) == (
        "ini preempt_times: 3 kills cannot land in a run that takes 2 training elements: "
        "kill at most once for each element, or train longer"
    )


def test_no_elements() -> None:
    """A run without elements can't be killed at one."""
    with pytest.raises(PreemptUsageError) as caught:
        draw_schedule(1, "key", 0, elements=0, where="default")
    assert str(caught.value) == (
        "default: 1 kill cannot land in a run that takes 0 training elements: "
        "kill at most once for each element, or train longer"
    )


@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM])
def test_one_element(signal: Signals) -> None:
    """A run of one element is killed at it, once."""
    drawn = {draw_schedule(seed, "key", 0, elements=1, signal=signal) for seed in range(50)}
    assert drawn == {KillSchedule((Kill(1, signal),))}


def test_distribution() -> None:
    """A quarter of the first kills are next to a boundary, a quarter next to a save, most behind one."""
    run: dict[str, Any] = {
        "elements": 10_000,
        "boundaries": [2_500, 5_000, 7_500],
        "saves": [1_000, 3_000, 6_000, 9_000],
    }
    first = [draw_schedule(7, "key", trial, **run).kills[0].element for trial in range(2_000)]

    def share(marks: list[int]) -> float:
        return sum(any(abs(element - mark) <= 1 for mark in marks) for element in first) / len(first)

    assert 0.2 < share([2_500, 5_000, 7_500]) < 0.3
    assert 0.2 < share([1_000, 3_000, 6_000, 9_000]) < 0.3
    assert 0.96 < sum(element > 1_000 for element in first) / len(first) < 0.995
    counts = [len(draw_schedule(7, "key", trial, **run).kills) for trial in range(300)]
    assert all(70 < counts.count(number) < 130 for number in (1, 2, 3))


def test_later_kills_meet_marks_too() -> None:
    """A second kill lands next to a boundary as seen from the save that its life begins at."""
    run: dict[str, Any] = {
        "elements": 1_000,
        "boundaries": [900],
        "saves": list(range(100, 1_000, 100)),
        "times": 2,
    }
    hits = 0
    for trial in range(400):
        one, two = (kill.element for kill in draw_schedule(3, "key", trial, **run).kills)
        start = (one - 1) // 100 * 100
        hits += abs(start + two - 900) <= 1 and one < 800
    assert hits > 20


def test_same_everywhere() -> None:
    """Another process, with another hash seed, draws the same schedules, and these are they for ever."""
    program = (
        "from pytest_pipeline_ckpt.engine.plan import draw_schedule\n"
        "run = dict(elements=100, boundaries=[50], saves=[10, 20, 90])\n"
        "for trial in range(6):\n"
        "    print(draw_schedule(42, 'test_a.py::test[x]', trial, **run))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (PINNED, "")


@st.composite
def gangs(draw: st.DrawFn) -> list[ReferenceFacts]:
    """The facts of the workers of a gang, which go forward together; the chief alone may save."""
    workers = draw(st.integers(2, 4))
    steps = draw(st.integers(4, 400))
    marks = st.lists(st.integers(1, steps), max_size=10, unique=True).map(sorted)
    saves, chief_alone = draw(marks), draw(st.booleans())
    facts = []
    for worker in range(workers):
        rate = draw(st.integers(1, 3))
        mine = () if worker and chief_alone else tuple(rate * save for save in saves)
        facts.append(ReferenceFacts(rate * steps, tuple(rate * end for end in draw(marks)), mine))
    return facts


@given(facts=gangs(), seed=st.integers(0, 2**64), trial=st.integers(0, 1000), signal=signals, apart=st.booleans())
def test_every_kill_of_a_gang_can_land(
    facts: list[ReferenceFacts], seed: int, trial: int, signal: Signals, apart: bool
) -> None:
    """One to three kills are drawn, of workers that there are, and each has elements left to land at."""
    schedule = draw_gang_schedule(seed, "key", trial, facts=facts, signal=signal, apart=apart)
    assert 1 <= len(schedule.kills) <= 3
    ensure_known(schedule, "here", workers=len(facts), apart=apart)
    left = [one.elements for one in facts]
    for kill in schedule.kills:
        assert 1 <= kill.element <= left[kill.counts]
        whole = facts[kill.counts].elements
        for worker in [kill.counts] if apart else range(len(facts)):
            left[worker] -= -(-kill.element * facts[worker].elements // whole) - (signal is SIGKILL)


def test_whom_a_gangs_kills_are_for() -> None:
    """About a third of the kills each are for all workers, for the chief, and for another one, whichever."""
    facts = [ReferenceFacts(1_000, (), (100, 500))] * 3
    drawn = [draw_gang_schedule(7, "key", trial, facts=facts).kills[0].workers for trial in range(1_200)]
    assert all(0.28 < drawn.count(workers) / len(drawn) < 0.39 for workers in ((), (0,)))
    assert all(0.12 < drawn.count(workers) / len(drawn) < 0.22 for workers in ((1,), (2,)))


def test_more_kills_than_a_worker_has_elements() -> None:
    """The message names the worker that has the fewest elements."""
    with pytest.raises(PreemptUsageError) as caught:
        draw_gang_schedule(1, "key", 0, facts=[ReferenceFacts(9), ReferenceFacts(2)], times=3)
    assert str(caught.value) == (
        "--preempt-times: 3 kills cannot land in a run of which worker 1 takes 2 training elements: "
        "kill at most once for each element, or train longer"
    )
