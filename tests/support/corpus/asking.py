"""The plugin, asked as a user asks it: by pytest's command line, in a process of its own; its JSON report read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def ask(
    arguments: list[str], *, cwd: Path, scratch: Path, seconds: float, environ: dict[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """The report's trials and surveys, and what pytest printed.

    Args:
        arguments: Options and tests, after those that every call has.
        cwd: Where pytest runs.
        scratch: An empty directory; lives leave their files in `lives` below it.
        seconds: After which pytest is interrupted: it reports what it knows, and ends its lives.
        environ: Beside the inherited variables, and this checkout's `PYTHONPATH`.
    """
    report = scratch / "report.json"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"),
        *("--preempt-shrink=0", f"--preempt-report={report}", f"--basetemp={scratch / 'lives'}", *arguments),
    ]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hook' / 'src'}", **environ}
    with (scratch / "output").open("w+") as output:
        pytest = subprocess.Popen(command, cwd=cwd, env=environ, stdout=output, stderr=output)
        try:
            pytest.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.send_signal(signal.SIGINT)
            pytest.wait()
        output.seek(0)
        printed = output.read()
    found = json.loads(report.read_text()) if report.exists() else {"trials": [], "surveys": []}
    return [*found["trials"], *found["surveys"]], printed
