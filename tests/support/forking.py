"""What the fork servers of these tests have in common: a job a line from stdin, a child for each, its status to stdout.

Imports nothing of the tests, and no TensorFlow: the servers import that, and run no op of it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def serve(make_job: Callable[..., Any], live: Callable[[Any], Mapping[str, Any] | None]) -> None:
    """Serves until stdin ends.

    Args:
        make_job: Makes a job of the keywords that come as JSON; it has `result`, the file that gets the outcome as
            JSON, and whose name with `.err` gets stderr.
        live: Lives a job in a child of its own. The outcome is what it returns, `error` (`NameOfError: message`), or
            `left` and `notice` of a SystemExit.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    for name in ("tensorflow", "absl", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for line in sys.stdin:
        job = make_job(**json.loads(line))
        child = os.fork()
        if child == 0:
            os.dup2(os.open(job.result + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            _live(job, live)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _live(job: Any, live: Callable[[Any], Mapping[str, Any] | None]) -> NoReturn:
    status = 0
    try:
        outcome = live(job) or {}
    except SystemExit as leaving:
        outcome = {"left": type(leaving).__name__, "notice": getattr(leaving, "notice", "")}
        status = leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # to say so
        outcome = {"error": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
        status = 1
    with open(job.result, "w") as file:
        json.dump(outcome, file)
    sys.stderr.flush()
    os._exit(status)
