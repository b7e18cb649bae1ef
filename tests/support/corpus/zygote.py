"""A process that has imported TensorFlow and forks a life for each line of its input: truth is to be had in minutes.

No part of the plugin: it forks, runs the script as `python SCRIPT` would, and says how that ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import traceback

SECONDS = 120
"""A life that takes longer is ended by SIGALRM."""


def live(argv: list[str], environ: dict[str, str], output: str) -> int:
    """In the child: runs the script, and returns its exit status."""
    signal.alarm(SECONDS)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environ)
    sys.argv[:] = argv
    sys.path[0] = os.path.dirname(argv[0])
    status = 0
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def main() -> None:
    """Imports the modules that are named, then serves."""
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            # Nothing of the server's is to be cleaned up by the child.
            os._exit(live(order["argv"], order["environ"], order["output"]))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


main()
