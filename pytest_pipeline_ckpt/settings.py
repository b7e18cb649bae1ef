"""Who wins: from what every source says to the settings of one test.

Command line > argument of the check > marker > environment > ini > default. So a pasted line always takes
effect. But a schedule that names its kill (`step:`) beats `random` and `every` wherever either comes from, so that a
test about one kill stays about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .engine import plan
from .errors import PreemptUsageError
from .options import OPTIONS, Option
from .values import parse_at

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping

    import pytest

T = TypeVar("T")
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A value and where it comes from, in the words that messages use."""

    value: T
    where: str
    """`--preempt-at`, `the argument at=`, `@pytest.mark.preempt(at=...)`, `environment PREEMPT_AT`,
    `ini preempt_at` or `default`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one test, each with its source."""

    at: Sourced[plan.Schedule]
    trials: Sourced[int]
    """1 for a `step:` schedule, unless somebody asked for more."""
    seed: Sourced[int | None]
    """None: not given, to be drawn."""
    times: Sourced[int | None]
    """None: drawn for each trial. A `step:` schedule fixes it."""
    workers: Sourced[int]
    restart: Sourced[Literal["gang", "worker"]]
    states: Sourced[Literal["distinct", "all"]]
    loss: Sourced[Literal["kill", "power"]]
    signal: Sourced[signal.Signals]
    grace: Sourced[float]
    order: Sourced[Literal["exact", "any"]]
    validation: Sourced[tuple[str, ...]]
    never_resumes: Sourced[Literal["fail", "allow"]]
    timeout: Sourced[float]
    max_elements: Sourced[int]
    budget: Sourced[float | None]
    shrink: Sourced[float]
    explain: Sourced[bool]
    model_step: Sourced[str | None]
    """`module:name` of what tells the model's step; None: it is found."""
    isolation: Sourced[Literal["fork", "spawn"]]
    dataset: Sourced[tuple[str, ...]]
    script: Sourced[tuple[str, ...]]
    report: Sourced[tuple[str, ...]]

    @property
    def schedule(self) -> plan.KillSchedule | None:
        """The kills that somebody named; None where they are drawn, or where nothing is killed."""
        return self.at.value if isinstance(self.at.value, plan.KillSchedule) else None

    @property
    def random(self) -> bool:
        """Whether kills are drawn."""
        return isinstance(self.at.value, plan.Random)

    @property
    def every(self) -> plan.Every | None:
        """That every instant is asked for."""
        return self.at.value if isinstance(self.at.value, plan.Every) else None

    @property
    def never(self) -> bool:
        """Whether the test is to be skipped."""
        return isinstance(self.at.value, plan.Never)


def decide(
    config: pytest.Config,
    marker: Mapping[str, object],
    arguments: Mapping[str, object],
    env: Mapping[str, str],
) -> Settings:
    """See `options.resolve`, which has checked the keywords."""
    given = {option.key: _sources(option, config, marker, arguments, env) for option in OPTIONS}
    decided = {option.key: _strongest(option, given[option.key]) for option in OPTIONS if option.key != "at"}
    decided["at"] = _decide_at(given["at"], decided["signal"].value)
    _fix_by_schedule(decided, given)
    return Settings(**decided)


def _sources(
    option: Option,
    config: pytest.Config,
    marker: Mapping[str, object],
    arguments: Mapping[str, object],
    env: Mapping[str, str],
) -> list[Sourced[Any] | None]:
    """What each source says, the strongest first; None where it says nothing."""
    key = option.key
    variable: Any = env.get(option.variable)
    if variable and option.repeatable:
        variable = [line for line in variable.splitlines() if line.strip()]
    values = (
        (config.getoption(option.name), option.flag),
        (arguments.get(key), f"the argument {key}="),
        (marker.get(key), f"@pytest.mark.preempt({key}=...)"),
        # CI sets a variable to nothing to unset it, and an ini key without a value is empty too.
        (variable or None, f"environment {option.variable}"),
        (config.getini(option.name) or None, f"ini {option.name}"),
    )
    said = [None if value is None else Sourced(value, where) for value, where in values]
    return [*said, Sourced(option.default, _DEFAULT)]


def _strongest(option: Option, sources: list[Sourced[Any] | None]) -> Sourced[Any]:
    given = next(source for source in sources if source is not None)
    if given.value is None:
        return given
    if option.repeatable:
        values = [given.value] if isinstance(given.value, str) else given.value
        return Sourced(tuple(option.parse(value, given.where) for value in values), given.where)
    return Sourced(option.parse(given.value, given.where), given.where)


def _decide_at(sources: list[Sourced[Any] | None], default_signal: signal.Signals) -> Sourced[plan.Schedule]:
    """The strongest schedule; but the strongest `step:` where that one is `random` or `every`."""
    strongest: Sourced[plan.Schedule] | None = None
    for source in sources:
        if source is None:
            continue
        schedule = parse_at(source.value, source.where, default_signal=default_signal)
        if strongest is None:
            strongest = Sourced(schedule, source.where)
            if not isinstance(schedule, (plan.Random, plan.Every)):
                break
        elif isinstance(schedule, plan.KillSchedule):
            return Sourced(schedule, source.where)
    assert strongest is not None, "the table has a default for it"
    return strongest


def _fix_by_schedule(decided: dict[str, Sourced[Any]], given: Mapping[str, list[Sourced[Any] | None]]) -> None:
    """A `step:` schedule fixes how many lives are killed, and one trial of it is enough.

    More trials are repetitions of the same kill, which only the source of the schedule itself can ask for. The
    number of kills it fixes against weaker sources: a pasted line must take effect whatever the marker or the ini
    say. Against its own and stronger ones a differing number is a contradiction.
    """
    at = decided["at"]
    kills = getattr(at.value, "kills", None)
    if kills is None:
        return
    rank = [source and source.where for source in given["at"]].index(at.where)
    if given["trials"][rank] is None:
        decided["trials"] = Sourced(1, at.where)
    if decided["times"].where == _DEFAULT or all(source is None for source in given["times"][: rank + 1]):
        decided["times"] = Sourced(len(kills), at.where)
    times = decided["times"]
    if times.value != len(kills):
        raise PreemptUsageError(
            f"{times.where}: {times.value} contradicts {str(at.value)!r} ({at.where}), which fixes "
            f"the killed lives to {len(kills)}: leave one of them out, or give the schedule as many numbers"
        )
