"""What one item carries out: settings -> engine -> row and message."""

from __future__ import annotations

import functools
import os
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest

from .errors import PreemptionSafetyError
from .progress import Progress
from .state import ROWS, State, settings_of, without_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine.checker import ReferenceFacts
    from .engine.every import Extent
    from .engine.model import KillSchedule, Verdict
    from .engine.runner import Check
    from .options import Settings
    from .report.records import Who
    from .reporting import Reproduction, Row


def workers(config: pytest.Config) -> int:
    """How many processes pytest-xdist has for the tests; 1 without it."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))


def trial_ids(settings: Settings, shards: int) -> list[str]:
    """The ids of the trials; they do not depend on the seed, so that `--last-failed` finds them again.

    `every` has one item, or with pytest-xdist one for each of its processes: `shards`.
    """
    if settings.never:
        return ["never"]
    if settings.every is not None:
        at = str(settings.every)
        return [at] if shards == 1 else [f"{at}-{number}of{shards}" for number in range(1, shards + 1)]
    trials = settings.trials.value
    if settings.schedule is not None and trials == 1:
        return [str(settings.schedule)]
    return [f"{settings.at.value}-{number}" for number in range(trials)]


class ItemTrials:
    """The trial of one item, for each check that its test makes.

    Args:
        state: of the session.
        node: the item.
        trial: its number among the test's items.
        ids: of all of them.
    """

    def __init__(self, state: State, node: Any, *, trial: int, ids: Sequence[str]) -> None:
        self._state = state
        self._node = node
        self._trial = trial
        self._ids = ids
        self._test = without_trial(node.nodeid, ids[trial])
        self._checks = 0

    @property
    def skipped(self) -> str | None:
        """Why the trial is not started, if it is not."""
        settings = settings_of(self._node)
        if settings.never:
            return f"{settings.at.where} says never"
        budget = settings.budget.value
        if budget is not None and self._state.seconds > budget:
            return f"{settings.budget.where}: {budget:g} s are used up, no trial is started any more"
        return None

    def carry_out(self, work: Callable[[], Any], arguments: dict[str, object]) -> Verdict:
        """Makes one check.

        Args:
            work: returns the `engine.runner.Workload`.
            arguments: settings that the check was given.

        Raises:
            PreemptionSafetyError: it is not exact.
            PreemptUsageError: a setting can't be used.
        """
        key = f"{self._node.nodeid}#{self._checks}"
        earlier = self._state.failures.get(key)
        if earlier is not None:
            raise PreemptionSafetyError(
                earlier.verdict,
                message=f"{earlier}\n  note:      this trial failed before; a rerun cannot undo that",
            )
        settings = settings_of(self._node, arguments=arguments)
        self._skip_repetition(settings)
        check = self._prepare(work(), settings)
        self._checks += 1
        carry_out = self._trial_of if settings.every is None else self._survey_of
        verdict, row, message = carry_out(check, settings)
        self._node.stash.setdefault(ROWS, []).append(row)
        self._tell_properties()
        if message is None:
            return verdict
        error = PreemptionSafetyError(verdict, message=message)
        self._state.failures[key] = error
        raise error

    def _skip_repetition(self, settings: Settings) -> None:
        if self._trial and settings.schedule is not None and settings.at.where == "the argument at=":
            pytest.skip(f"{settings.at.where} fixes the kill: this trial would repeat the first")

    def _prepare(self, workload: Any, settings: Settings) -> Check:
        from .engine import store
        from .engine.runner import Check, Conditions

        return Check(
            engine=self._state.engine,
            workload=workload,
            conditions=Conditions(
                timeout=settings.timeout.value,
                grace=settings.grace.value,
                max_elements=settings.max_elements.value,
                order=settings.order.value,
            ),
            directory=store.check_directory(self._state.directory, f"{self._test}#{self._checks}"),
        )

    def _trial_of(self, check: Check, settings: Settings) -> tuple[Verdict, Row, str | None]:
        """One schedule, live: the verdict, its row, and the message if it is not exact."""
        from . import reporting
        from .report import records

        trial = check.trial(f"trial-{self._trial}", functools.partial(self._schedule, settings))
        self._tell_cost(check)
        reproduction = self._reproduction(settings)
        again = None if trial.schedule is None else reproduction.line(trial.schedule)
        record = records.trial_record(trial, self._who(self._ids[self._trial]), again)
        row = reporting.row_of(trial.verdict, reporting.trial_text(trial), record)
        message = None
        if not trial.verdict.exact:
            message = reporting.failure_message(trial, reproduction)
        return trial.verdict, row, message

    def _who(self, trial_id: str) -> Who:
        """Which check a record is about; `trial_id`: the same however many processes there are."""
        from .report.records import Who

        node = trial_id.join(self._node.nodeid.rsplit(self._ids[self._trial], 1))
        return Who(id=node, test=self._test, trial=trial_id, number=self._trial, check=self._checks - 1)

    def _tell_properties(self) -> None:
        """Lets the item carry what its checks came to, for JUnit XML and whatever else reads properties."""
        from .report.properties import properties, without_ours

        known = [pair for row in self._node.stash[ROWS] for pair in properties(row.record, self._state.seed)]
        self._node.user_properties[:] = [*without_ours(self._node.user_properties), *known]

    def _reproduction(self, settings: Settings) -> Reproduction:
        from . import reporting

        explicit = settings.signal.where != "default"
        return reporting.Reproduction(self._node.nodeid, self._ids[self._trial], explicit=explicit)

    def _schedule(self, settings: Settings, facts: ReferenceFacts) -> KillSchedule:
        from .engine.plan import draw_schedule, ensure_reachable

        if settings.schedule is not None:
            ensure_reachable(settings.schedule, settings.at.where, elements=facts.elements)
            return settings.schedule
        return draw_schedule(
            self._state.seed,
            self._test,
            self._trial,
            elements=facts.elements,
            boundaries=facts.boundaries,
            saves=facts.saves,
            times=settings.times.value,
            signal=settings.signal.value,
            where=settings.times.where,
        )

    def _tell_cost(self, check: Check) -> None:
        _, seconds = check.reference()
        # A trial trains once what the reference trains, plus what is replayed, plus a start for each life.
        expected = 1.5 * seconds * len(self._ids)
        if expected > 60:
            self._state.say(
                f"{self._test}: the reference run took {seconds:.0f} s, so its trials take about {expected / 60:.0f} "
                "minutes; --preempt-trials and --preempt-budget limit that"
            )

    def _survey_of(self, check: Check, settings: Settings) -> tuple[Verdict, Row, str | None]:
        """This item's share of every instant: the verdict, its row, and the message if it is not exact."""
        from . import reporting, survey_report
        from .engine.every import EveryInstant
        from .report import records

        if settings.signal.value is not SIGKILL:
            name = settings.signal.value.name
            self._state.say(
                f"every looks at what SIGKILL leaves: {settings.signal.where} ({name}) does not apply to it"
            )
        progress = Progress(self._state, f"{check.directory.name}-{self._trial}")
        try:
            survey = EveryInstant(check, self._extent(settings), progress).survey()
        finally:
            progress.close()
        reproduction = self._reproduction(settings)
        record = records.survey_record(survey, self._who(str(settings.every)), reproduction.line)
        row = reporting.row_of(survey.verdict, survey_report.survey_text(survey), record)
        if not survey.verdict.exact:
            return survey.verdict, row, survey_report.survey_message(survey, reproduction)
        if survey.judged < survey.mine:
            pytest.skip(
                f"{settings.budget.where}: {settings.budget.value:g} s are used up; {survey.judged} of "
                f"{survey.mine} states were judged, all exact"
            )
        return survey.verdict, row, None

    def _extent(self, settings: Settings) -> Extent:
        from .engine.every import Extent

        assert settings.every is not None
        budget = settings.budget.value
        return Extent(
            stride=settings.every.stride,
            all_states=settings.states.value == "all",
            power=settings.loss.value == "power",
            times=settings.times.value or 1,
            seed=f"{self._state.seed}:{self._test}",
            shard=self._trial,
            shards=len(self._ids),
            parallel=max(1, len(os.sched_getaffinity(0)) // workers(self._node.config)),
            deadline=None if budget is None else self._state.started + budget,
        )
