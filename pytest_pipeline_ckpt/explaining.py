"""Where failures come from, for the items that had them; and what a pipeline is made of, on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine import runs, store
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
    worker = trial.verdict.worker
    if trial.reference is None or (check.workers > 1 and worker is None):
        return None
    lives = [
        Lived(life, life_directory(trial.directory, number, worker))
        for number, incarnation in enumerate(trial.lives, 1)
        if (life := incarnation if worker is None else incarnation.gang[worker]) is not None
    ]
    return Diagnostician(check, _reference(check, worker), worker=worker or 0).diagnose(trial.verdict, lives)


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
    reference = Lived(*runs.first_run(check)) if recorded else _reference(check, 0 if check.workers > 1 else None)
    pipeline = Diagnostician(check, reference).walked()
    if pipeline is None:
        state.say(f"{test}: no iterator over a tf.data.Dataset was seen, so nothing is known of its pipeline")
        return
    stages = count(len(pipeline.stages), "stage")
    state.say("\n".join((f"{test}: the pipeline has {stages}", *explained(pipeline))))


def _reference(check: Check, worker: int | None) -> Lived:
    """The run that nobody killed; of a gang one worker's."""
    life, _ = check.reference()
    if worker is None:
        return Lived(life, check.reference_directory())
    of_worker = life.gang[worker]
    assert of_worker is not None, "nobody is killed in it, so each worker has one life"
    return Lived(of_worker, store.worker_directory(check.reference_directory(), worker))


__all__ = ["diagnoses_of", "diagnosis_of", "explain"]
