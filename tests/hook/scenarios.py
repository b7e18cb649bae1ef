"""Runs scenarios, each in a fork of the interpreter that has imported this; what was wrong with each, as JSON."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def print_outcomes(scenarios: Sequence[Callable[[], None]]) -> None:
    """Prints `{name: error}`; an empty error for a scenario that went well."""
    json.dump({scenario.__name__: _outcome(scenario) for scenario in scenarios}, sys.stdout)


def _outcome(scenario: Callable[[], None]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            scenario()
        except BaseException:
            os.write(writer, traceback.format_exc(limit=-3).encode()[-3000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or ("" if status == 0 else f"ended with {status}")
