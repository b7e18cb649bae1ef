"""From what a user wrote to a setting's value. Each parser takes the value and its source, for its message.

Strings come from the command line, the environment and ini files, Python values from markers and arguments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import PreemptUsageError

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from .engine.plan import Schedule

    Parse: TypeAlias = Callable[[object, str], Any]


def refuse(where: str, value: object, limit: str, remedy: str) -> PreemptUsageError:
    """The error for a value that can't be used."""
    return PreemptUsageError(f"{where}: {value!r} {limit}: {remedy}")


def parse_at(value: object, where: str, *, default_signal: signal.Signals | None = None) -> Schedule:
    """A schedule in the grammar of `engine.plan`, or one of its objects; see there for `default_signal`."""
    from signal import SIGKILL

    from .engine import plan

    if isinstance(value, (plan.KillSchedule, plan.Random, plan.Every, plan.Never)):
        return value
    if not isinstance(value, str):
        raise refuse(where, value, "is not a kill schedule", "give a string such as 'random' or 'step:40'")
    return plan.parse_schedule(value, where, default_signal=default_signal or SIGKILL)


def parse_signal(value: object, where: str) -> signal.Signals:
    """A signal by name, or a `signal.Signals`."""
    from .engine import plan

    return plan.parse_signal(value, where)


def number(*, least: int, remedy: str) -> Parse:
    """The parser of a whole number; a bool is none."""

    def parse(value: object, where: str) -> int:
        try:
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise TypeError
            number = int(value)
        except (TypeError, ValueError):
            raise refuse(where, value, "is not a whole number", remedy) from None
        if number < least:
            raise refuse(where, value, f"is less than {least}", remedy)
        return number

    return parse


def seconds(*, zero: bool, remedy: str) -> Parse:
    """The parser of a finite number of seconds; a bool is none."""

    def parse(value: object, where: str) -> float:
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise TypeError
            seconds = float(value)
        except (TypeError, ValueError, OverflowError):
            raise refuse(where, value, "is not a number of seconds", remedy) from None
        if not math.isfinite(seconds):
            raise refuse(where, value, "is not a finite number of seconds", remedy)
        if seconds < 0 or (seconds == 0 and not zero):
            raise refuse(where, value, "is less than 0" if zero else "is not more than 0", remedy)
        return seconds

    return parse


def switch(value: object, where: str) -> bool:
    """On or off: Python's bool, or a word as ini files have them."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise refuse(where, value, "is neither on nor off", f"give one of {', '.join(words)}")
    return words[value.lower()]


def choice(*choices: str) -> Parse:
    """The parser of one of some words."""

    def parse(value: object, where: str) -> str:
        if value not in choices:
            raise refuse(where, value, "is not known", f"give {' or '.join(choices)}")
        return str(value)

    return parse


def parse_dataset(value: object, where: str) -> str:
    """`MODULE:FUNCTION`; whether they exist is found out in the training process."""
    module, _, function = str(value).strip().partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        raise refuse(
            where,
            value,
            "does not name a function",
            "give MODULE:FUNCTION, as in my_package.input:make_dataset, where the function takes no argument",
        )
    return f"{module}:{function}"


def parse_place(value: object, where: str) -> str:
    """`FILE:LINE`, as labels of streams begin."""
    file, _, line = str(value).strip().rpartition(":")
    if not file or not line.isdigit():
        remedy = "give FILE:LINE as a failure names it, as in train.py:57"
        raise refuse(where, value, "does not name a line of a file", remedy)
    return f"{file.rpartition('/')[2]}:{line}"


def parse_model_step(value: object, where: str) -> str:
    """`MODULE:NAME`; whether they exist is found out in the training process."""
    module, _, name = str(value).strip().partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise refuse(
            where,
            value,
            "does not name a function or an integer",
            "give MODULE:NAME, as in my_package.train:current_step, or __main__:STEP for a name of the script",
        )
    return f"{module}:{name}"


def parse_report(value: object, where: str) -> str:
    """A file whose suffix says what is written into it."""
    if not str(value).lower().endswith((".html", ".json")):
        raise refuse(where, value, "ends neither in .html nor in .json", "give 'report.html', 'report.json' or both")
    return str(value)


def parse_script(value: object, where: str) -> str:
    """A command line with `{model_dir}` in one of its arguments."""
    import shlex

    try:
        words = shlex.split(str(value))
    except ValueError:
        raise refuse(where, value, "has a quotation mark without its partner", "quote it as for a shell") from None
    if not words:
        raise refuse(where, value, "names no script", "give one, as in 'train.py --model_dir={model_dir}'")
    if not any("{model_dir}" in word for word in words[1:]):
        raise refuse(
            where,
            value,
            "has no {model_dir}",
            "write it where the script takes its directory, as in 'train.py --model_dir={model_dir}'",
        )
    return str(value)
