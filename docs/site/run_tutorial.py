"""Does what `docs/tutorial.md` tells the reader to do: `python docs/site/run_tutorial.py` prints what comes of it.

Blocks with a title are files, `console` blocks are commands with their output; `pip` is left out. In the page a line
`...` stands for any lines, and so do seconds and directories for those of another run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[1] / "tutorial.md"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    """One command of the page."""

    words: str
    shown: str
    """What the page says that it prints."""
    printed: str


def run(directory: Path) -> Iterator[Command]:
    """Follows the page in an empty directory."""
    for language, title, content in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if title:
            (directory / title).write_text(content, encoding="utf-8")
        elif language == "console":
            command, _, shown = content.removeprefix("$ ").partition("\n")
            if command.startswith("pytest"):
                yield Command(command, shown.strip("\n"), plain(_run(shlex.split(command), directory)))


def _run(words: list[str], directory: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PREEMPT_", "PYTEST_"))}
    environ |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "80"}
    # A file that is written anew within a second would else be read from the cache.
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--basetemp", str(directory / "base"), *words[1:]]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False).stdout


def plain(text: str) -> str:
    """What was printed without what differs from run to run."""
    text = re.sub(r"/\S*?/base/", "/tmp/pytest-of-me/pytest-0/", text)
    text = re.sub(r"in \d+\.\d+s(?: \(\S+\))?", "in 9.99s", text)
    return re.sub(r"(-0-)[0-9a-f]{8}\b", r"\g<1>0a1b2c3d", text).strip("\n")


def is_shown(command: Command) -> bool:
    """Whether the page shows what was printed."""
    lines = _settled(command.shown).split("\n")
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in lines)
    return re.fullmatch(pattern, _settled(command.printed) + "\n") is not None


def _settled(text: str) -> str:
    # How far lives are watched, and how many schedules are tried, depends a little on how fast they are.
    text = re.sub(r"\(of \d+ schedules? tried in [^)]*\)", "(of N schedules tried in N s)", plain(text))
    return re.sub(r"\d+ elements compared", "N elements compared", text)


def main() -> None:
    """Prints each command with its output."""
    with tempfile.TemporaryDirectory() as directory:
        for command in run(Path(directory)):
            print(f"$ {command.words}\n{command.printed}")
            print("" if is_shown(command) else "(the page shows something else)\n")


if __name__ == "__main__":
    main()
