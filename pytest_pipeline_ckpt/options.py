"""The options: one table from which command line, ini keys, environment, marker and check arguments derive.

Every pytest run imports this module, so it imports neither the engine nor `settings` before somebody asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from .values import (
    choice,
    number,
    parse_at,
    parse_dataset,
    parse_model_step,
    parse_place,
    parse_report,
    parse_script,
    parse_signal,
    refuse,
    seconds,
    switch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

    from .settings import Settings as Settings
    from .settings import Sourced as Sourced
    from .values import Parse

MARKER = "preempt"


class Option(NamedTuple):
    """One setting. A named tuple, because making a dataclass takes every pytest run a millisecond more."""

    key: str
    metavar: str
    parse: Parse
    """From a string or a Python value, and its source, to the setting's value."""
    help: str
    default: object = None
    in_marker: bool = False
    in_check: bool = False
    repeatable: bool = False
    is_switch: bool = False
    """Takes no value on the command line."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--preempt-{self.key.replace('_', '-')}"

    @property
    def name(self) -> str:
        """Its ini key, and argparse's name of it."""
        return f"preempt_{self.key}"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"PREEMPT_{self.key.upper()}"


OPTIONS = (
    Option(
        "at",
        "SCHEDULE",
        parse_at,
        "when trainings are killed: 'random' (drawn from the seed for each trial), 'every[:STRIDE]' (at every "
        "instant of one recorded run, inside its saves too; with a stride every STRIDE-th of them), 'step:K[,K2...]' "
        "(life 1 when it takes its K-th training element, life 2 at its own K2-th; '/op:N' behind a number: before "
        "the N-th file operation after that element; '#1' behind it: of several workers only worker 1, when it takes "
        "its own K-th, '#1+2': workers 1 and 2 then; without it: all when worker 0 takes it; '@SIGTERM' behind it "
        "changes that kill's signal) or 'never' "
        "(the tests are skipped). 'step:' beats 'random' and 'every' wherever either is set (default: random)",
        "random",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "trials",
        "N",
        number(least=1, remedy="give the trials of each test, or --preempt-at=never to skip them"),
        "trials of each test: sequences of killed and resumed lives, each an item of its own (default: 5; a"
        " 'step:' schedule, which is the same in each trial, gets 1)",
        5,
        in_marker=True,
    ),
    Option(
        "seed",
        "N",
        number(least=0, remedy="give the number that an earlier run printed, or leave it out"),
        "whole number, at least 0, from which random schedules are drawn (default: drawn anew for each run "
        "and printed)",
    ),
    Option(
        "times",
        "M",
        number(least=1, remedy="give the lives killed in each trial, or --preempt-at=never to kill none"),
        "lives killed in each trial before one runs to its end (default: drawn from 1 to 3; 'step:' kills "
        "as often as it has numbers; 'every' kills once, and 2 adds a kill, drawn from the seed, of each life that "
        "it has resumed)",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "workers",
        "N",
        number(least=1, remedy="give the processes of the training, or leave it out for one"),
        "processes of each training, with their places in a cluster on this machine in TF_CONFIG; when one is killed "
        "the others are ended too, and all are started again; each is judged by its own elements (default: 1)",
        1,
        in_marker=True,
        in_check=True,
    ),
    Option(
        "restart",
        "WHO",
        choice("gang", "worker"),
        "of several workers, who is started again when one was killed: 'gang': all, the others are ended first; "
        "'worker': that one, while the others go on, for workers that do not wait for each other (default: gang)",
        "gang",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "states",
        "WHICH",
        choice("distinct", "all"),
        "'distinct': of the states that 'every' finds, those that a resume can tell apart; 'all': the others too "
        "(default: distinct)",
        "distinct",
        in_marker=True,
    ),
    Option(
        "loss",
        "WHAT",
        choice("kill", "power"),
        "'kill': 'every' looks at what a kill leaves; 'power': at what a power loss leaves too, where everything that "
        "was not fsynced is gone, which TensorFlow's own checkpoints do not survive (default: kill)",
        "kill",
        in_marker=True,
    ),
    Option(
        "signal",
        "NAME",
        parse_signal,
        "signal that ends a life: SIGKILL takes the whole process tree at once; any other goes to the "
        "training process alone, and SIGKILL follows after the grace (default: SIGKILL)",
        "SIGKILL",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "grace",
        "SECONDS",
        seconds(zero=True, remedy="give the seconds between the signal and SIGKILL"),
        "seconds between a signal other than SIGKILL and the SIGKILL that follows; platforms give 15 to 120"
        " (default: 5)",
        5.0,
        in_marker=True,
        in_check=True,
    ),
    Option(
        "order",
        "ORDER",
        choice("exact", "any"),
        "'exact': the elements must come in the reference run's order; 'any': each completed pass must have"
        " its rows, in whatever order (default: exact)",
        "exact",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "validation",
        "FILE:LINE",
        parse_place,
        "an iterator that is made at this place of the training code ('train.py:57') is for validation, so what it "
        "yields is not judged; needed where a step takes an element of it now and then, and its place in the step does "
        "not tell; repeatable (default: none)",
        (),
        in_marker=True,
        in_check=True,
        repeatable=True,
    ),
    Option(
        "never_resumes",
        "WHAT",
        choice("fail", "allow"),
        "'fail': a training that begins anew whenever it is started, although complete checkpoints are there, is "
        "'never-resumed', and one that saves nothing is 'unknown'; 'allow': for those that mean it (default: fail)",
        "fail",
        in_marker=True,
        in_check=True,
    ),
    Option(
        "timeout",
        "SECONDS",
        seconds(zero=False, remedy="give the seconds that a training may go without progress"),
        "seconds without progress (no element, save or output) after which a life is 'hung' and killed (default: 60)",
        60.0,
        in_marker=True,
        in_check=True,
    ),
    Option(
        "max_elements",
        "N",
        number(least=1, remedy="give the largest number of elements that a run may take"),
        "elements after which the reference run counts as endless and is killed (default: 1,000,000)",
        1_000_000,
        in_check=True,
    ),
    Option(
        "budget",
        "SECONDS",
        seconds(zero=False, remedy="give the seconds that trials may be started in, or leave it out"),
        "seconds after which no further trial is started; those left are skipped (default: no limit)",
    ),
    Option(
        "shrink",
        "SECONDS",
        seconds(zero=True, remedy="give the seconds that may be spent on each failed trial, or 0 to leave it as it is"),
        "seconds, for each random trial that fails, to look for the smallest schedule that fails in the same way: "
        "fewer kills, then earlier ones; 0: none (default: 10)",
        10.0,
        in_marker=True,
    ),
    Option(
        "explain",
        "",
        switch,
        "say of each check, before anything is killed, which stages its pipeline has, what of them no checkpoint "
        "holds, and how large their buffers can make one (default: off; a failure says by itself what may matter "
        "to it)",
        False,
        is_switch=True,
    ),
    Option(
        "model_step",
        "MODULE:NAME",
        parse_model_step,
        "function, or integer, that tells the model's step, where a check has no step= of its own; '__main__:STEP' is "
        "a name of the script itself (default: found in what is saved and restored)",
        None,
        in_marker=True,
    ),
    Option(
        "isolation",
        "HOW",
        choice("fork", "spawn"),
        "'fork': lives are forks of a process that has imported TensorFlow once; 'spawn': each life is a "
        "fresh interpreter, seconds slower (default: fork)",
        "fork",
    ),
    Option(
        "dataset",
        "MODULE:FUNCTION",
        parse_dataset,
        "check the tf.data.Dataset that this function returns, without any test code; repeatable (default: none)",
        (),
        repeatable=True,
    ),
    Option(
        "script",
        "COMMAND",
        parse_script,
        "check this training script, without any test code: 'train.py --model_dir={model_dir}', where "
        "{model_dir} becomes the checkpoint directory; it runs several times and is killed; repeatable "
        "(default: none)",
        (),
        repeatable=True,
    ),
    Option(
        "report",
        "FILE",
        parse_report,
        "write what was found into this file: 'report.html' is a page to look at, with a timeline of each trial, what "
        "was lost, and what checkpoints cost; 'report.json' has the same as data; repeatable (default: none)",
        (),
        repeatable=True,
    ),
)
MARKER_KEYWORDS = tuple(option.key for option in OPTIONS if option.in_marker)
CHECK_KEYWORDS = tuple(option.key for option in OPTIONS if option.in_check)
MARKER_LINE = (
    f"{MARKER}({', '.join(f'{key}=' for key in MARKER_KEYWORDS)}): how this test's trainings are preempted; "
    "each keyword means what --preempt-KEYWORD does."
)
"""For `config.addinivalue_line("markers", ...)`."""


def add_options(parser: pytest.Parser) -> None:
    """Registers the command line's options and the ini keys."""
    group = parser.getgroup(MARKER, "preemption safety of TensorFlow trainings")
    for option in OPTIONS:
        form: dict[str, Any] = {"action": "append" if option.repeatable else "store", "metavar": option.metavar}
        if option.is_switch:
            form = {"action": "store_const", "const": True}
        group.addoption(option.flag, default=None, dest=option.name, help=option.help, **form)
        if option.repeatable:
            parser.addini(option.name, f"default of {option.flag}, one a line", type="linelist", default=[])
        else:
            parser.addini(option.name, f"default of {option.flag}", type="string", default="")


def mentioned(config: pytest.Config, *, env: Mapping[str, str] = os.environ) -> bool:
    """Whether command line, environment or ini set anything; cheap, for a plugin that leaves early."""
    return any(
        config.getoption(option.name) is not None or env.get(option.variable) or config.getini(option.name)
        for option in OPTIONS
    )


def marker_keywords(marks: Iterable[pytest.Mark]) -> dict[str, object]:
    """The keywords of a test's `preempt` marks in one mapping.

    Args:
        marks: closest first, as `item.iter_markers("preempt")` gives them; the closest wins.

    Raises:
        PreemptUsageError: a mark has a positional argument.
    """
    keywords: dict[str, object] = {}
    for mark in marks:
        if mark.args:
            names = ", ".join(MARKER_KEYWORDS)
            raise refuse("@pytest.mark.preempt", mark.args[0], "has no keyword", f"give it one of {names}")
        keywords = {**mark.kwargs, **keywords}
    return keywords


def resolve(
    config: pytest.Config,
    *,
    marker: Mapping[str, object] | None = None,
    arguments: Mapping[str, object] | None = None,
    env: Mapping[str, str] = os.environ,
) -> Settings:
    """Decides every setting of a test. Values that something stronger overrides are not looked at.

    Args:
        config: pytest's configuration, for the command line and the ini file.
        marker: the keywords of the test's marker; see `marker_keywords`.
        arguments: those of the check. Here and in the marker None means that it was not given.
        env: the environment.

    Raises:
        PreemptUsageError: a value is not allowed, two contradict each other, or a keyword is not known.
    """
    from . import settings

    _refuse_unknown(marker or {}, MARKER_KEYWORDS, "@pytest.mark.preempt")
    _refuse_unknown(arguments or {}, CHECK_KEYWORDS, "the check")
    return settings.decide(config, marker or {}, arguments or {}, env)


def _refuse_unknown(keywords: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for keyword in keywords:
        if keyword not in known:
            raise refuse(where, keyword, "is not a keyword of it", f"give one of {', '.join(known)}")
