"""`--preempt-dataset` and `--preempt-script`: items with no test code at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import fixtures
from .errors import PreemptError
from .state import state_of
from .trials import trial_ids, workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .options import Settings


def take_over_arguments(config: pytest.Config, settings: Settings) -> None:
    """Runs only these items when no path was named: `pytest --preempt-script=...` is about that script.

    Raises:
        PreemptUsageError: a script does not exist.
    """
    for command in settings.script.value:
        fixtures.script_argv(command, settings.script.where)
    named_paths = config.args_source is pytest.Config.ArgsSource.ARGS
    if (settings.dataset.value or settings.script.value) and not named_paths:
        config.args = []


def items_from_options(session: pytest.Session) -> Iterator[pytest.Item]:
    """An item for each trial of each dataset and script."""
    settings = state_of(session.config).settings
    for flag, values in (("dataset", settings.dataset.value), ("script", settings.script.value)):
        for value in values:
            ids = trial_ids(settings, workers(session.config))
            for number, trial_id in enumerate(ids):
                name = f"--preempt-{flag}={value}[{trial_id}]"
                yield PreemptItem.from_parent(
                    session, name=name, nodeid=name, flag=flag, target=value, trial=number, ids=ids
                )


class PreemptItem(pytest.Item):
    """One trial of a dataset or a script that was named on the command line."""

    fixturenames = ("preemption",)  # as a test function that uses the fixture would have it

    def __init__(self, *, flag: str, target: str, trial: int, ids: Sequence[str], **keywords: Any) -> None:
        super().__init__(**keywords)
        self._flag = flag
        self._target = target
        self._trial = trial
        self._ids = ids

    def runtest(self) -> None:
        """Carries the trial out."""
        state = state_of(self.config)
        preemption = fixtures.Preemption(state, self, trial=self._trial, ids=self._ids)
        if preemption.skipped:
            pytest.skip(preemption.skipped)
        if self._flag == "dataset":
            preemption.check_reference(self._target)
        else:
            preemption.check_script(self._target)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the check said, without a traceback: there is no code of the user's in it."""
        if isinstance(excinfo.value, PreemptError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """The option, in place of a file and a line."""
        return f"--preempt-{self._flag}", None, self.name
