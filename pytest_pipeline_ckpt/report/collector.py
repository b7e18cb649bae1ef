"""Collects what the trials came to, in the process that the user started, and writes it where people look.

The controller of each xdist run imports this module, so it imports the rest, and the engine, when there is something.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .. import reporting
from ..state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .document import NotJudged, Report
    from .records import Judgement

NAME = "preempt-collector"
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-macos")


def collect(config: pytest.Config, files: Sequence[str] = ()) -> None:
    """Registers the collector, once; not in an xdist worker, whose reports the controller gets.

    Args:
        config: pytest's.
        files: to be written, `.html` or `.json`.

    Raises:
        pytest.UsageError: one of them cannot be written.
    """
    if hasattr(config, "workerinput") or config.pluginmanager.has_plugin(NAME):
        return
    paths = [config.invocation_params.dir / file for file in files]
    for path in paths:
        _ensure_possible(path)
    config.pluginmanager.register(Collector(config, paths), NAME)


def _ensure_possible(path: Path) -> None:
    """Fails before anything is run, not behind hours of training."""
    if path.suffix.lower() == ".html":
        try:
            import jinja2  # noqa: F401 - whether it is there
        except ImportError:
            raise pytest.UsageError(
                f"--preempt-report={path.name}: the page is made with Jinja2, which is not installed: "
                'pip install "pytest-pipeline-ckpt[report]", or ask for a .json file'
            ) from None
    why = None
    if path.is_dir():
        why = "it is a directory"
    elif not path.parent.is_dir():
        why = f"there is no directory {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = "permission denied"
    if why is not None:
        raise pytest.UsageError(f"--preempt-report={path}: it can't be written: {why}; name a file that can be")


class Collector:
    """The hooks.

    Args:
        config: pytest's.
        paths: files to write.
    """

    def __init__(self, config: pytest.Config, paths: Sequence[Path]) -> None:
        self._config = config
        self._paths = paths
        self._records: list[Judgement] = []
        self._left: list[NotJudged] = []
        self._started = time.time()
        self._told: list[str] = []
        self._pages = config.getoption("htmlpath", None) is not None

    @pytest.hookimpl(tryfirst=True)  # before pytest-html takes the extras
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes what a report carries."""
        content = json.loads(getattr(report, reporting.REPORT_ATTRIBUTE, "{}"))
        rows: list[dict[str, Any]] = content.get("rows", [])
        records: list[Any] = [{**row["record"], "passed": content["passed"]} for row in rows]
        self._records += records
        left: str | None = getattr(report, reporting.NOT_JUDGED, None)
        if left is not None:
            self._left.append(json.loads(left))
        if records and self._pages:
            from .page import extras

            # pytest-html's own records of it: https://pytest-html.readthedocs.io/en/latest/user_guide.html
            found = [*getattr(report, "extras", []), *extras(records)]
            setattr(report, "extras", found)  # noqa: B010 - pytest does not know it

    @pytest.hookimpl(tryfirst=True)  # what is written here is named in the terminal's summary
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Writes everything, also when the run was interrupted."""
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if not self._paths and not (summary and (self._records or self._left)):
            return
        from . import document, markdown

        state = state_of(self._config)
        report = document.report(
            self._records,
            self._left,
            at=str(state.settings.at.value),
            seed=state.seed,
            interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
            measured=self._measured(),
        )
        for path in self._paths:
            self._try(path, functools.partial(_write, report, path))
        if summary:
            self._try(Path(summary), functools.partial(markdown.append, report, Path(summary)))

    def _try(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._told.append(f"{path} could not be written: {error.strerror}")
        else:
            if path in self._paths:
                self._told.append(f"report: {path}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Says where the report is."""
        for line in self._told:
            terminalreporter.write_line(f"preempt: {line}")

    def _measured(self) -> dict[str, Any]:
        import datetime
        import platform

        began = datetime.datetime.fromtimestamp(self._started, datetime.timezone.utc)
        return {
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(time.time() - self._started, 1),
            "python": platform.python_version(),
            "tensorflow": next(filter(None, map(_version, _TENSORFLOWS)), None),
            "pytest_pipeline_ckpt": _version("pytest-pipeline-ckpt"),
        }


def _version(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _write(report: Report, path: Path) -> None:
    """Writes one file: complete, or not at all."""
    if path.suffix.lower() == ".json":
        text = json.dumps(report, indent=1, ensure_ascii=False)
    else:
        from .page import page

        text = page(report)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


__all__ = ["NAME", "Collector", "collect"]
