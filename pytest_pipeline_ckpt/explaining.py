"""Where failures come from, for the items that had them; and what a pipeline is made of, on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine import runs
from .engine.diagnosis import Diagnostician, explained
from .engine.runner import Check, Lived, Trial, life_directory
from .reporting import count
from .survey_report import told_groups

if TYPE_CHECKING:
    from .engine.diagnosis import Diagnosis
    from .engine.every import Survey
    from .state import State


def diagnosis_of(check: Check, trial: Trial) -> Diagnosis | None:
    """Where the failure of a trial comes from; None: nothing is known beyond its verdict."""
    if check.workers > 1:
        return None
    lives = [Lived(life, life_directory(trial.directory, number)) for number, life in enumerate(trial.lives, 1)]
    return Diagnostician(check, _reference(check)).diagnose(trial.verdict, lives)


def diagnoses_of(check: Check, survey: Survey) -> list[Diagnosis | None]:
    """The same for each kind of failure that `every` tells of; for the recorded run where that has failed itself."""
    if survey.run is None:
        return []
    diagnostician = Diagnostician(check, Lived(survey.run, runs.recorded_directory(check)))
    if not survey.failures:
        return [diagnostician.diagnose(survey.verdict, ())]
    return [diagnostician.diagnose(group[0].verdict, group[0].lives) for group in told_groups(survey)]


def explain(state: State, test: str, check: Check, *, recorded: bool) -> None:
    """Says what the pipeline of a check is made of; the same words in each of a test's items, so they are said once.

    Args:
        state: of the session.
        test: its name.
        check: what is trained.
        recorded: whether the run that nobody kills is the recorded one of `every`.
    """
    reference = Lived(*runs.first_run(check)) if recorded else _reference(check)
    pipeline = Diagnostician(check, reference).walked()
    if pipeline is None:
        state.say(f"{test}: no iterator over a tf.data.Dataset was seen, so nothing is known of its pipeline")
        return
    stages = count(len(pipeline.stages), "stage")
    state.say("\n".join((f"{test}: the pipeline has {stages}", *explained(pipeline))))


def _reference(check: Check) -> Lived:
    return Lived(check.reference()[0], check.reference_directory())


__all__ = ["diagnoses_of", "diagnosis_of", "explain"]
