"""The option table, its sources and who wins."""

from __future__ import annotations

import subprocess
import sys
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pipeline_ckpt import options
from pytest_pipeline_ckpt.engine.plan import Kill, KillSchedule, Never, Random
from pytest_pipeline_ckpt.errors import PreemptUsageError
from pytest_pipeline_ckpt.options import CHECK_KEYWORDS, MARKER_KEYWORDS, MARKER_LINE, OPTIONS, resolve
from pytest_pipeline_ckpt.settings import Settings, Sourced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    MakeConfig = Callable[..., pytest.Config]

SOURCES = ("command line", "argument", "marker", "environment", "ini", "default")


class OptionsOnly:
    """A plugin that has our options and nothing else."""

    pytest_addoption = staticmethod(options.add_options)


@pytest.fixture
def make_config(pytester: pytest.Pytester) -> MakeConfig:
    """Builds a configuration from arguments of the command line and lines of the ini file."""

    def make(*arguments: str, ini: str = "") -> pytest.Config:
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.plugins = [OptionsOnly()]
        # Where our plugin is installed it would register the same options.
        return pytester.parseconfig("-p", "no:preempt", *arguments)

    return make


def resolve_from(
    make_config: MakeConfig, key: str, values: Mapping[str, str], **keywords: Any
) -> tuple[Settings, dict[str, str]]:
    """Resolves with a value of `key` from each of the sources in `values`."""
    config = make_config(
        *([f"--preempt-{key}={values['command line']}"] if "command line" in values else []),
        ini=f"preempt_{key} = {values['ini']}" if "ini" in values else "",
    )
    settings = resolve(
        config,
        arguments={key: values["argument"]} if "argument" in values else None,
        marker={key: values["marker"]} if "marker" in values else None,
        env={f"PREEMPT_{key.upper()}": values["environment"]} if "environment" in values else {},
        **keywords,
    )
    where = {
        "command line": f"--preempt-{key}",
        "argument": f"the argument {key}=",
        "marker": f"@pytest.mark.preempt({key}=...)",
        "environment": f"environment PREEMPT_{key.upper()}",
        "ini": f"ini preempt_{key}",
        "default": "default",
    }
    return settings, where


def test_defaults(make_config: MakeConfig) -> None:
    """What nobody set has the documented default, and says so."""
    assert resolve(make_config(), env={}) == Settings(
        at=Sourced(Random(), "default"),
        trials=Sourced(5, "default"),
        seed=Sourced(None, "default"),
        times=Sourced(None, "default"),
        workers=Sourced(1, "default"),
        restart=Sourced("gang", "default"),
        states=Sourced("distinct", "default"),
        loss=Sourced("kill", "default"),
        signal=Sourced(SIGKILL, "default"),
        grace=Sourced(5.0, "default"),
        order=Sourced("exact", "default"),
        validation=Sourced((), "default"),
        never_resumes=Sourced("fail", "default"),
        timeout=Sourced(60.0, "default"),
        max_elements=Sourced(1_000_000, "default"),
        budget=Sourced(None, "default"),
        shrink=Sourced(10.0, "default"),
        explain=Sourced(False, "default"),
        model_step=Sourced(None, "default"),
        isolation=Sourced("fork", "default"),
        dataset=Sourced((), "default"),
        script=Sourced((), "default"),
        report=Sourced((), "default"),
    )


@pytest.mark.parametrize("strongest", range(len(SOURCES)), ids=SOURCES)
def test_precedence(make_config: MakeConfig, strongest: int) -> None:
    """The strongest source that says something decides, whatever all weaker ones say."""
    values = {source: f"{10 + rank}" for rank, source in enumerate(SOURCES[:-1]) if rank >= strongest}
    settings, where = resolve_from(make_config, "timeout", values)
    source = SOURCES[strongest]
    assert settings.timeout == Sourced(float(values.get(source, 60)), where[source])


@pytest.mark.parametrize("strongest", range(len(SOURCES) - 1), ids=SOURCES[:-1])
@pytest.mark.parametrize("word", ["step:7", "never"])
def test_precedence_of_schedules(make_config: MakeConfig, strongest: int, word: str) -> None:
    """A schedule that is not `random` wins against all weaker sources."""
    weaker = ("step:1", "random", "never", "step:2", "random")
    values = {source: weaker[rank] for rank, source in enumerate(SOURCES[:-1]) if rank > strongest}
    settings, where = resolve_from(make_config, "at", {**values, SOURCES[strongest]: word})
    assert settings.at.where == where[SOURCES[strongest]]
    assert (str(settings.at.value), settings.never) == (word, word == "never")


@pytest.mark.parametrize("weaker", range(1, len(SOURCES) - 1), ids=SOURCES[1:-1])
@pytest.mark.parametrize("stronger", range(len(SOURCES) - 1), ids=SOURCES[:-1])
def test_step_beats_random(make_config: MakeConfig, stronger: int, weaker: int) -> None:
    """A schedule that names its kill beats `random` wherever either comes from."""
    if stronger == weaker:
        stronger = 0
    values = {SOURCES[stronger]: "random", SOURCES[weaker]: "step:7,2"}
    settings, where = resolve_from(make_config, "at", values)
    assert settings.at == Sourced(KillSchedule((Kill(7), Kill(2))), where[SOURCES[weaker]])
    assert settings.schedule == settings.at.value
    assert settings.times == Sourced(2, where[SOURCES[weaker]])


def test_strongest_step_beats_random(make_config: MakeConfig) -> None:
    """Of several schedules behind `random` the strongest counts, and `never` among them does not."""
    values = {"command line": "random", "marker": "never", "environment": "step:5", "ini": "step:6"}
    settings, _ = resolve_from(make_config, "at", values)
    assert settings.at == Sourced(KillSchedule((Kill(5),)), "environment PREEMPT_AT")


def test_never_on_the_command_line(make_config: MakeConfig) -> None:
    """`--preempt-at=never` beats every `step:`."""
    steps = dict.fromkeys(SOURCES[1:-1], "step:7")
    settings, _ = resolve_from(make_config, "at", {"command line": "never", **steps})
    assert settings.at == Sourced(Never(), "--preempt-at")
    assert settings.schedule is None


@pytest.mark.parametrize("empty", ["", " "])
def test_unset_values(make_config: MakeConfig, empty: str) -> None:
    """An empty variable, an empty ini key and None say nothing."""
    config = make_config(ini="preempt_trials =\npreempt_script =\n")
    env = {option.variable: empty for option in OPTIONS if empty == "" or option.repeatable}
    settings = resolve(config, env=env, marker={"at": None}, arguments={"times": None})
    assert settings == resolve(make_config(), env={})


def test_every_option_has_every_session_source(make_config: MakeConfig) -> None:
    """Each option is read from its flag, its environment variable and its ini key."""
    values = {
        "at": ("step:3", KillSchedule((Kill(3),))),
        "trials": ("7", 7),
        "seed": ("11", 11),
        "times": ("2", 2),
        "workers": ("2", 2),
        "restart": ("worker", "worker"),
        "states": ("all", "all"),
        "loss": ("power", "power"),
        "signal": ("SIGTERM", SIGTERM),
        "grace": ("0", 0.0),
        "order": ("any", "any"),
        "validation": ("train.py:57", ("train.py:57",)),
        "never_resumes": ("allow", "allow"),
        "timeout": ("1.5", 1.5),
        "max_elements": ("1000", 1000),
        "budget": ("30", 30.0),
        "shrink": ("0", 0.0),
        "explain": ("yes", True),
        "model_step": ("pkg.train:current", "pkg.train:current"),
        "isolation": ("spawn", "spawn"),
        "dataset": ("pkg.input:make", ("pkg.input:make",)),
        "script": ("train.py {model_dir}", ("train.py {model_dir}",)),
        "report": ("out/report.html", ("out/report.html",)),
    }
    assert list(values) == [option.key for option in OPTIONS]
    for option in OPTIONS:
        text, meaning = values[option.key]
        given = option.flag if option.is_switch else f"{option.flag}={text}"
        assert getattr(resolve(make_config(given), env={}), option.key) == Sourced(meaning, option.flag)
        assert getattr(resolve(make_config(), env={option.variable: text}), option.key) == Sourced(
            meaning, f"environment {option.variable}"
        )
        assert getattr(resolve(make_config(ini=f"{option.name} = {text}"), env={}), option.key) == Sourced(
            meaning, f"ini {option.name}"
        )


def test_repeatable_options(make_config: MakeConfig) -> None:
    """Datasets come one for each flag, or one a line; those of the stronger source replace the others."""
    config = make_config("--preempt-dataset=a:f", "--preempt-dataset=b.c:G.h", ini="preempt_dataset = d:f")
    assert resolve(config, env={}).dataset == Sourced(("a:f", "b.c:G.h"), "--preempt-dataset")
    lines = make_config(ini="preempt_dataset =\n  a:f\n  b:g\n")
    assert resolve(lines, env={}).dataset == Sourced(("a:f", "b:g"), "ini preempt_dataset")
    env = {"PREEMPT_DATASET": "x:f\n\ny:g\n"}
    assert resolve(lines, env=env).dataset == Sourced(("x:f", "y:g"), "environment PREEMPT_DATASET")


def test_python_values(make_config: MakeConfig) -> None:
    """Markers and arguments give numbers, signals and schedules as Python has them."""
    schedule = KillSchedule((Kill(4, SIGTERM),))
    settings = resolve(
        make_config(),
        marker={"times": 1, "trials": 3, "timeout": 2},
        arguments={"at": schedule, "signal": SIGTERM, "grace": 0.5, "max_elements": 10},
        env={},
    )
    assert settings.at == Sourced(schedule, "the argument at=")
    assert settings.signal == Sourced(SIGTERM, "the argument signal=")
    assert settings.grace == Sourced(0.5, "the argument grace=")
    assert settings.max_elements == Sourced(10, "the argument max_elements=")
    assert settings.timeout == Sourced(2.0, "@pytest.mark.preempt(timeout=...)")


def test_default_signal_of_a_schedule(make_config: MakeConfig) -> None:
    """A kill without a signal of its own gets the option's."""
    settings = resolve(make_config("--preempt-signal=SIGTERM"), marker={"at": "step:4,5@SIGKILL"}, env={})
    assert settings.at.value == KillSchedule((Kill(4, SIGTERM), Kill(5, SIGKILL)))


@pytest.mark.parametrize(
    ("arguments", "marker", "fixed"),
    [
        (("--preempt-at=step:11",), {"times": 2, "trials": 9}, (1, "--preempt-at")),
        (("--preempt-at=step:11,4", "--preempt-times=2"), {}, (2, "--preempt-times")),
        ((), {"at": "step:11"}, (1, "@pytest.mark.preempt(at=...)")),
    ],
)
def test_step_fixes_times(
    make_config: MakeConfig, arguments: tuple[str, ...], marker: dict[str, object], fixed: tuple[int, str]
) -> None:
    """A `step:` schedule fixes how many lives are killed, so that a pasted line wins against a marker."""
    settings = resolve(make_config(*arguments, ini="preempt_times = 3"), marker=marker, env={})
    assert (settings.times.value, settings.times.where) == fixed
    assert settings.trials == Sourced(1, settings.at.where)


def test_trials_of_a_step(make_config: MakeConfig) -> None:
    """Trials of a fixed kill are repetitions, which only the source of the schedule can ask for."""
    assert resolve(make_config("--preempt-trials=3"), marker={"at": "step:4"}, env={}).trials.value == 1
    assert resolve(make_config("--preempt-trials=3", "--preempt-at=step:4"), env={}).trials.value == 3
    assert resolve(make_config(), marker={"at": "step:4", "trials": 2}, env={}).trials.value == 2


@pytest.mark.parametrize(
    ("arguments", "marker", "message"),
    [
        (
            ("--preempt-at=step:40", "--preempt-times=2"),
            {},
            "--preempt-times: 2 contradicts 'step:40' (--preempt-at), which fixes the killed lives to 1: "
            "leave one of them out, or give the schedule as many numbers",
        ),
        (
            ("--preempt-times=2",),
            {"at": "step:40,3@SIGTERM,5"},
            "--preempt-times: 2 contradicts 'step:40,3@SIGTERM,5' (@pytest.mark.preempt(at=...)), which "
            "fixes the killed lives to 3: leave one of them out, or give the schedule as many numbers",
        ),
        (
            (),
            {"at": "step:40", "times": 2},
            "@pytest.mark.preempt(times=...): 2 contradicts 'step:40' (@pytest.mark.preempt(at=...)), which "
            "fixes the killed lives to 1: leave one of them out, or give the schedule as many numbers",
        ),
    ],
)
def test_contradiction(
    make_config: MakeConfig, arguments: tuple[str, ...], marker: dict[str, object], message: str
) -> None:
    """Another number of kills than the schedule has, from a source as strong, is a usage error."""
    with pytest.raises(PreemptUsageError) as caught:
        resolve(make_config(*arguments), marker=marker, env={})
    assert str(caught.value) == message


TRIALS = "give the trials of each test, or --preempt-at=never to skip them"
SEED = "give the number that an earlier run printed, or leave it out"
TIMES = "give the lives killed in each trial, or --preempt-at=never to kill none"
GRACE = "give the seconds between the signal and SIGKILL"
TIMEOUT = "give the seconds that a training may go without progress"
BUDGET = "give the seconds that trials may be started in, or leave it out"
SHRINK = "give the seconds that may be spent on each failed trial, or 0 to leave it as it is"
MODEL_STEP = "give MODULE:NAME, as in my_package.train:current_step, or __main__:STEP for a name of the script"
DATASET = "give MODULE:FUNCTION, as in my_package.input:make_dataset, where the function takes no argument"


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        (
            "at",
            "sometimes",
            "'sometimes' is not a kill schedule: give random, every[:STRIDE], never, or step:K[,K2...], as in "
            "step:40,3@SIGTERM, step:40/op:3 or step:40#1",
        ),
        ("trials", "0", f"'0' is less than 1: {TRIALS}"),
        ("trials", "", f"'' is not a whole number: {TRIALS}"),
        ("trials", "1.5", f"'1.5' is not a whole number: {TRIALS}"),
        ("seed", "abc", f"'abc' is not a whole number: {SEED}"),
        ("seed", "-1", f"'-1' is less than 0: {SEED}"),
        ("seed", "1" * 5000, f"{'1' * 5000!r} is not a whole number: {SEED}"),
        ("times", "0", f"'0' is less than 1: {TIMES}"),
        (
            "signal",
            "SIGFOO",
            "'SIGFOO' is not a signal to preempt with: give one of SIGKILL, SIGTERM, SIGINT, SIGHUP, "
            "SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU",
        ),
        ("grace", "-1", f"'-1' is less than 0: {GRACE}"),
        ("grace", "soon", f"'soon' is not a number of seconds: {GRACE}"),
        ("grace", "inf", f"'inf' is not a finite number of seconds: {GRACE}"),
        ("order", "some", "'some' is not known: give exact or any"),
        ("states", "some", "'some' is not known: give distinct or all"),
        ("workers", "0", "'0' is less than 1: give the processes of the training, or leave it out for one"),
        ("restart", "none", "'none' is not known: give gang or worker"),
        ("loss", "fire", "'fire' is not known: give kill or power"),
        ("timeout", "0", f"'0' is not more than 0: {TIMEOUT}"),
        ("timeout", "nan", f"'nan' is not a finite number of seconds: {TIMEOUT}"),
        ("max-elements", "0", "'0' is less than 1: give the largest number of elements that a run may take"),
        ("budget", "-3", f"'-3' is not more than 0: {BUDGET}"),
        ("shrink", "-1", f"'-1' is less than 0: {SHRINK}"),
        ("shrink", "long", f"'long' is not a number of seconds: {SHRINK}"),
        ("model-step", "train", f"'train' does not name a function or an integer: {MODEL_STEP}"),
        ("model-step", "train.py:step()", f"'train.py:step()' does not name a function or an integer: {MODEL_STEP}"),
        ("isolation", "thread", "'thread' is not known: give fork or spawn"),
        ("dataset", "input", f"'input' does not name a function: {DATASET}"),
        ("dataset", "in put:make", f"'in put:make' does not name a function: {DATASET}"),
        ("dataset", "a.py:make()", f"'a.py:make()' does not name a function: {DATASET}"),
        ("script", "", "'' names no script: give one, as in 'train.py --model_dir={model_dir}'"),
        (
            "script",
            "train.py",
            "'train.py' has no {model_dir}: write it where the script takes its directory, as in "
            "'train.py --model_dir={model_dir}'",
        ),
        (
            "script",
            "train.py '{model_dir}",
            '"train.py \'{model_dir}" has a quotation mark without its partner: quote it as for a shell',
        ),
    ],
)
def test_bad_values(make_config: MakeConfig, flag: str, value: str, message: str) -> None:
    """A value that can't be used is refused with its source, the value, the limit and the remedy."""
    with pytest.raises(PreemptUsageError) as caught:
        resolve(make_config(f"--preempt-{flag}={value}"), env={})
    assert str(caught.value) == f"--preempt-{flag}: {message}"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ({"times": True}, f"@pytest.mark.preempt(times=...): True is not a whole number: {TIMES}"),
        ({"trials": 2.0}, f"@pytest.mark.preempt(trials=...): 2.0 is not a whole number: {TRIALS}"),
        ({"grace": False}, f"@pytest.mark.preempt(grace=...): False is not a number of seconds: {GRACE}"),
        (
            {"timeout": 10**400},
            f"@pytest.mark.preempt(timeout=...): {10**400} is not a number of seconds: {TIMEOUT}",
        ),
        (
            {"at": 40},
            "@pytest.mark.preempt(at=...): 40 is not a kill schedule: give a string such as 'random' or 'step:40'",
        ),
        (
            {"tims": 2},
            "@pytest.mark.preempt: 'tims' is not a keyword of it: "
            "give one of at, trials, times, workers, restart, states, loss, signal, grace, order, validation, "
            "never_resumes, timeout, shrink, model_step",
        ),
        (
            {"seed": 2},
            "@pytest.mark.preempt: 'seed' is not a keyword of it: "
            "give one of at, trials, times, workers, restart, states, loss, signal, grace, order, validation, "
            "never_resumes, timeout, shrink, model_step",
        ),
    ],
)
def test_bad_markers(make_config: MakeConfig, marker: dict[str, object], message: str) -> None:
    """A marker's value of another type, or a keyword that it does not have, is refused."""
    with pytest.raises(PreemptUsageError) as caught:
        resolve(make_config(), marker=marker, env={})
    assert str(caught.value) == message


def test_bad_argument(make_config: MakeConfig) -> None:
    """The number of trials is settled when tests are collected, so no check takes it."""
    with pytest.raises(PreemptUsageError) as caught:
        resolve(make_config(), arguments={"trials": 2}, env={})
    assert str(caught.value) == (
        "the check: 'trials' is not a keyword of it: give one of at, times, workers, restart, "
        "signal, grace, order, validation, never_resumes, timeout, max_elements"
    )


def test_overridden_values_are_not_judged(make_config: MakeConfig) -> None:
    """A bad value of a weaker source does not stop a run that overrides it."""
    config = make_config("--preempt-seed=3", ini="preempt_seed = x")
    assert resolve(config, env={"PREEMPT_SEED": "y"}).seed == Sourced(3, "--preempt-seed")


def test_bad_schedule_behind_random(make_config: MakeConfig) -> None:
    """A misspelt schedule in the marker is refused even where the command line says `random`."""
    with pytest.raises(PreemptUsageError, match=r"^@pytest.mark.preempt\(at=...\): 'stpe:4' is not a kill"):
        resolve(make_config("--preempt-at=random"), marker={"at": "stpe:4"}, env={})


def test_marker_keywords(make_config: MakeConfig) -> None:
    """Of several markers the closest one's keywords win, and the others fill up."""
    marks = [pytest.mark.preempt(times=1).mark, pytest.mark.preempt(times=2, order="any").mark]
    assert options.marker_keywords(marks) == {"times": 1, "order": "any"}
    assert options.marker_keywords([]) == {}


def test_positional_marker() -> None:
    """A marker's argument without a keyword is refused."""
    with pytest.raises(PreemptUsageError) as caught:
        options.marker_keywords([pytest.mark.preempt("step:4").mark])
    assert str(caught.value) == (
        "@pytest.mark.preempt: 'step:4' has no keyword: give it one of at, trials, times, workers, restart, states, "
        "loss, signal, grace, order, validation, never_resumes, timeout, shrink, model_step"
    )


def test_mentioned(make_config: MakeConfig) -> None:
    """Any option on the command line, in the environment or the ini file counts as mentioned."""
    assert not options.mentioned(make_config(), env={"PREEMPT_AT": ""})
    assert options.mentioned(make_config("--preempt-trials=3"), env={})
    assert options.mentioned(make_config("--preempt-at="), env={})
    assert options.mentioned(make_config(), env={"PREEMPT_SCRIPT": "x"})
    assert options.mentioned(make_config(ini="preempt_dataset = a:f"), env={})


def test_table() -> None:
    """The marker has the documented keywords, and each option's help ends with its default."""
    marker = (
        "at",
        "trials",
        "times",
        "workers",
        "restart",
        "states",
        "loss",
        "signal",
        "grace",
        "order",
        "validation",
        "never_resumes",
        "timeout",
        "shrink",
        "model_step",
    )
    assert marker == MARKER_KEYWORDS
    assert CHECK_KEYWORDS == (
        "at",
        "times",
        "workers",
        "restart",
        "signal",
        "grace",
        "order",
        "validation",
        "never_resumes",
        "timeout",
        "max_elements",
    )
    assert MARKER_LINE.startswith(f"preempt({'=, '.join(marker)}=): ")
    for option in OPTIONS:
        words: dict[object, str] = {None: "", (): "none", False: "off", 1_000_000: "1,000,000"}
        shown = words.get(option.default, str(option.default).removesuffix(".0"))
        assert f"(default: {shown}" in option.help
        assert option.help.endswith(")")


def test_help(pytester: pytest.Pytester) -> None:
    """`pytest --help` shows each option with its value's name."""
    pytester.makeconftest(
        "from pytest_pipeline_ckpt import options\ndef pytest_addoption(parser):\n    options.add_options(parser)\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:preempt", "--help")
    lines = [f"*{option.flag}{'' if option.is_switch else f'={option.metavar}'}*" for option in OPTIONS]
    result.stdout.fnmatch_lines(lines)
    result.stdout.fnmatch_lines([f"*{option.name} (*" for option in OPTIONS])


def test_cheap_import() -> None:
    """Importing the options imports neither the engine, numpy nor TensorFlow."""
    program = (
        "import sys, pytest_pipeline_ckpt.options\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('numpy', 'tensorflow', 'pytest'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [
        "pytest_pipeline_ckpt",
        "pytest_pipeline_ckpt.errors",
        "pytest_pipeline_ckpt.options",
        "pytest_pipeline_ckpt.values",
    ]
