"""What one item carries out: settings -> engine -> row and message."""

from __future__ import annotations

import dataclasses
import functools
import os
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from .errors import PreemptionSafetyError, PreemptUsageError
from .memory import CheckMemory, is_first, judged
from .progress import Progress
from .state import ROWS, State, settings_of, without_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine.checker import ReferenceFacts
    from .engine.diagnosis import Diagnosis
    from .engine.every import Extent
    from .engine.model import KillSchedule, Verdict
    from .engine.runner import Check, Trial
    from .options import Settings
    from .report.records import Who
    from .reporting import Reproduction, Row
    from .smaller import Smallest


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


class GangSettings(NamedTuple):
    """Of how many processes a check's training is, and who of them is started again."""

    workers: int
    restart: Literal["gang", "worker"]


def gang_of(workload: Any, settings: Settings) -> GangSettings:
    """What applies to a check.

    Raises:
        PreemptUsageError: several processes and `every`, or a schedule that names a worker which there is not.
    """
    from .engine.plan import ensure_known

    # The plugin's own trainer, which reads a dataset, is one process, whatever a session's other trainings are.
    workers = 1 if workload.task == "dataset" else settings.workers.value
    restart = settings.restart.value
    if settings.every is not None and workers > 1:
        raise PreemptUsageError(
            f"{settings.at.where}: {str(settings.at.value)!r} records one process, but {settings.workers.where} gives "
            f"the training {workers}: use 'random' or 'step:', or train with one worker here (workers=1)"
        )
    if settings.schedule is not None:
        ensure_known(settings.schedule, settings.at.where, workers=workers, apart=workers > 1 and restart == "worker")
    return GangSettings(workers, restart)


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
        self._check_name = self._test
        """Of the check that is made: the same in every run and for every trial."""

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
                diagnosis=earlier.diagnosis,
            )
        settings = settings_of(self._node, arguments=arguments)
        self._skip_repetition(settings)
        workload = work()
        if workload.model_step is None and workload.task != "dataset":
            workload = dataclasses.replace(workload, model_step=settings.model_step.value)
        gang = gang_of(workload, settings)
        check = self._prepare(workload, settings, gang)
        self._check_name = f"{self._test}#{self._checks}" if self._checks else self._test
        self._checks += 1
        if settings.explain.value:
            from .explaining import explain

            explain(self._state, self._test.removesuffix("[]"), check, recorded=settings.every is not None)
        carry_out = self._trial_of if settings.every is None else self._survey_of
        verdict, row, error = carry_out(check, settings)
        self._node.stash.setdefault(ROWS, []).append(row)
        self._tell_properties()
        if error is None:
            return verdict
        self._state.failures[key] = error
        raise error

    def _skip_repetition(self, settings: Settings) -> None:
        if self._trial and settings.schedule is not None and settings.at.where == "the argument at=":
            pytest.skip(f"{settings.at.where} fixes the kill: this trial would repeat the first")

    def _prepare(self, workload: Any, settings: Settings, gang: GangSettings) -> Check:
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
                validation=settings.validation.value,
                never_resumes=settings.never_resumes.value,
            ),
            directory=store.check_directory(self._state.directory, f"{self._test}#{self._checks}"),
            workers=gang.workers,
            restart=gang.restart,
        )

    def _trial_of(self, check: Check, settings: Settings) -> tuple[Verdict, Row, PreemptionSafetyError | None]:
        """One schedule, live: the verdict, its row, and what is raised if it is not exact."""
        from . import reporting
        from .explaining import diagnosis_of

        memory = CheckMemory(self._state.memory, self._node, self._check_name, self._state.say)
        trial = self._replayed(check, settings, memory)
        if trial is None:
            trial = check.trial(f"trial-{self._trial}", functools.partial(self._schedule, settings, check))
        self._tell_cost(check)
        reproduction = self._reproduction(settings, check)
        smallest = diagnosis = None
        if not trial.verdict.exact:
            smallest = self._shrink(check, trial, settings, memory)
            diagnosis = diagnosis_of(check, trial)
        row = self._row(trial, reproduction, smallest, diagnosis)
        if trial.verdict.exact:
            return trial.verdict, row, None
        replayed = memory.replayed is not None
        message = reporting.failure_message(
            trial, reproduction, smallest=smallest, replayed=replayed, diagnosis=diagnosis
        )
        return trial.verdict, row, PreemptionSafetyError(trial.verdict, message=message, diagnosis=diagnosis)

    def _row(
        self, trial: Trial, reproduction: Reproduction, smallest: Smallest | None, diagnosis: Diagnosis | None
    ) -> Row:
        """What the end of the run, and the reports, say of a trial."""
        from . import reporting
        from .report import records

        again = None if trial.schedule is None else reproduction.line(trial.schedule)
        smaller = None if smallest is None or smallest.trial is trial else smallest.trial.schedule
        record = records.trial_record(
            trial,
            self._who(self._ids[self._trial]),
            again,
            smallest=None if smaller is None else reproduction.line(smaller),
            diagnosis=() if diagnosis is None else diagnosis.sentences(),
        )
        return reporting.row_of(trial.verdict, reporting.trial_text(trial), record)

    def _replayed(self, check: Check, settings: Settings, memory: CheckMemory) -> Trial | None:
        """What failed in an earlier run and fails again: the first of a test's random trials tries it."""
        if not settings.random or not is_first(self._node, self._ids[self._trial], self._ids):
            return None
        return memory.replay(check, f"trial-{self._trial}-replayed")

    def _shrink(self, check: Check, trial: Trial, settings: Settings, memory: CheckMemory) -> Smallest | None:
        """The smallest schedule that fails like a random trial, which is remembered; None: it was not looked for."""
        if not settings.random or trial.schedule is None or not judged(trial.verdict):
            return None
        seconds, limit = self._seconds_to_shrink(settings)
        smallest = None
        known = memory.replayed is not None and memory.replayed.smallest
        if seconds > 0 and not known:
            from .smaller import find_smallest

            tried = self._state.tried.setdefault(check.directory, {})
            smallest = find_smallest(check, trial, tried, seconds=seconds, limit=limit)
        shown = trial if smallest is None else smallest.trial
        assert shown.schedule is not None
        memory.keep(shown.schedule, smallest=known or (smallest is not None and smallest.complete))
        return smallest

    def _seconds_to_shrink(self, settings: Settings) -> tuple[float, str]:
        """How long a failed trial may be shrunk, and what says so."""
        seconds, budget = settings.shrink.value, settings.budget.value
        if budget is not None and budget - self._state.seconds < seconds:
            return budget - self._state.seconds, f"{settings.budget.where} ({budget:g} s in all)"
        where = "--preempt-shrink" if settings.shrink.where == "default" else settings.shrink.where
        return seconds, f"{where} ({seconds:g} s)"

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

    def _reproduction(self, settings: Settings, check: Check) -> Reproduction:
        from . import reporting

        explicit = settings.signal.where != "default"
        others = ""
        if check.workers > 1:
            others = f" --preempt-workers={check.workers}"
            others += "" if check.restart == "gang" else f" --preempt-restart={check.restart}"
        if settings.model_step.where.startswith(("--", "environment")):  # marker and ini hold for the pasted line too
            others += f" --preempt-model-step={settings.model_step.value}"
        return reporting.Reproduction(self._node.nodeid, self._ids[self._trial], explicit=explicit, others=others)

    def _schedule(self, settings: Settings, check: Check, facts: ReferenceFacts) -> KillSchedule:
        from .engine.plan import draw_gang_schedule, draw_schedule, ensure_reachable

        if settings.schedule is not None:
            elements = [one.elements for one in facts.of_workers]
            ensure_reachable(settings.schedule, settings.at.where, elements=elements)
            return settings.schedule
        if facts.gang:
            return draw_gang_schedule(
                self._state.seed,
                self._test,
                self._trial,
                facts=facts.gang,
                times=settings.times.value,
                signal=settings.signal.value,
                apart=check.restart == "worker",
                where=settings.times.where,
            )
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

    def _survey_of(self, check: Check, settings: Settings) -> tuple[Verdict, Row, PreemptionSafetyError | None]:
        """This item's share of every instant: the verdict, its row, and what is raised if it is not exact."""
        from . import reporting, survey_report
        from .engine.every import EveryInstant
        from .explaining import diagnoses_of
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
        reproduction = self._reproduction(settings, check)
        diagnoses = [] if survey.verdict.exact else diagnoses_of(check, survey)
        first = diagnoses[0] if diagnoses else None
        told = () if first is None else first.sentences()
        record = records.survey_record(survey, self._who(str(settings.every)), reproduction.line, diagnosis=told)
        row = reporting.row_of(survey.verdict, survey_report.survey_text(survey), record)
        if not survey.verdict.exact:
            message = survey_report.survey_message(survey, reproduction, diagnoses)
            return survey.verdict, row, PreemptionSafetyError(survey.verdict, message=message, diagnosis=first)
        if survey.judged < survey.mine:
            judged = f"{survey.judged} of {survey.mine} states were judged, all exact"
            judged = judged if survey.judged else f"none of {survey.mine} states was judged"
            pytest.skip(f"{settings.budget.where}: {settings.budget.value:g} s are used up; {judged}")
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
