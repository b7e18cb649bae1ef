"""The fixtures `preemption` and `training_process`: request -> engine."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from .errors import PreemptError, PreemptUsageError
from .state import State, settings_of, state_of
from .trials import ItemTrials, trial_ids, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .engine.model import Verdict
    from .scenario import Start

Order = Literal["exact", "any"]
_UNUSABLE = "unusable"
"""The id of the only item of a test whose marker can't be used."""


def parametrise(metafunc: pytest.Metafunc) -> None:
    """One item for each trial of a test that uses `preemption`."""
    try:
        ids = trial_ids(settings_of(metafunc.definition), workers(metafunc.config))
    except PreemptUsageError:
        ids = [_UNUSABLE]  # the fixture says why, and the other tests run
    metafunc.parametrize("preemption", range(len(ids)), ids=ids, indirect=True)


@pytest.fixture
def preemption(request: pytest.FixtureRequest) -> Preemption:
    """Kills and resumes a training in this test, and raises unless every element is seen exactly once.

    `check_dataset(make_dataset)`, `check_training(train)` and `check_script(argv)` each carry out one trial; pytest
    runs the test once for each trial (`--preempt-trials`).
    """
    node = request.node
    if not hasattr(request, "param"):
        pytest.fail(
            "preemption must be an argument of the test function itself, which runs once for each trial", pytrace=False
        )
    try:
        ids = trial_ids(settings_of(node), workers(request.config))
    except PreemptUsageError as error:
        pytest.fail(str(error), pytrace=False)
    preemption = Preemption(state_of(request.config), node, trial=request.param, ids=ids)
    if preemption.skipped:
        pytest.skip(preemption.skipped)
    return preemption


class Preemption:
    """One trial of one test. Made by the fixture."""

    def __init__(self, state: State, node: Any, *, trial: int, ids: Sequence[str]) -> None:
        self._trials = ItemTrials(state, node, trial=trial, ids=ids)

    @property
    def skipped(self) -> str | None:
        """Why the trial is not started, if it is not."""
        return self._trials.skipped

    def check_dataset(
        self,
        make_dataset: Callable[[], Any],
        *,
        steps: int | None = None,
        save_every: int = 10,
        order: Order | None = None,
        runner: Literal["eager", "session"] = "eager",
        at: str | None = None,
        times: int | None = None,
        signal: str | None = None,
        grace: float | None = None,
        timeout: float | None = None,
        max_elements: int | None = None,
    ) -> Verdict:
        """Trains on a dataset with the plugin's own trainer, one element a step, kills it and resumes it.

        Args:
            make_dataset: returns the `tf.data.Dataset`; called anew in each life, in the training process.
            steps: of the whole run; None: until the dataset ends. An endless dataset needs it.
            save_every: steps between two checkpoints.
            order: `exact`, or `any` for a pipeline whose order is not meant to be reproducible.
            runner: `eager` saves step and iterator in one `tf.train.Checkpoint`, `session` saves both in one v1
                `Saver` by `SAVEABLE_OBJECTS`.
            at: a kill schedule, as in `--preempt-at`.
            times: how many lives are killed.
            signal: name of the signal that kills.
            grace: seconds between a catchable signal and SIGKILL.
            timeout: seconds without progress after which a life is hung.
            max_elements: largest number of elements of the reference run.

        Returns:
            The verdict, which is exact.

        Raises:
            PreemptionSafetyError: the resumed pipeline did not yield exactly the unseen elements, or it is not known.
            PreemptUsageError: a setting can't be used.
        """
        __tracebackhide__ = True
        _require(save_every >= 1, f"save_every={save_every} is less than 1: give the steps between two checkpoints")
        _require(steps is None or steps >= 1, f"steps={steps} is less than 1: give the steps of the whole run")
        _require(runner in ("eager", "session"), f"runner={runner!r} is neither 'eager' nor 'session'")
        arguments = {"steps": steps, "save_every": save_every, "runner": runner}
        work = functools.partial(_workload, "dataset", make_dataset, arguments=arguments, elements_per_step=1)
        given = _given(
            at=at,
            times=times,
            order=order,
            signal=signal,
            grace=grace,
            timeout=timeout,
            max_elements=max_elements,
        )
        return self._check(work, given)

    def check_training(
        self,
        train: Callable[[str], Any],
        *,
        step: Callable[[], int] | None = None,
        elements_per_step: int | None = None,
        compare_weights: bool | Literal["auto"] = "auto",
        order: Order | None = None,
        validation: Sequence[str] | None = None,
        never_resumes: Literal["fail", "allow"] | None = None,
        at: str | None = None,
        times: int | None = None,
        workers: int | None = None,
        restart: Literal["gang", "worker"] | None = None,
        signal: str | None = None,
        grace: float | None = None,
        timeout: float | None = None,
        max_elements: int | None = None,
    ) -> Verdict:
        """Runs a training function, kills it and resumes it.

        Args:
            train: `train(model_dir)` trains to its natural end whenever it is called, resuming from what it finds in
                `model_dir`. May be local, a lambda or a closure; runs in the training process.
            step: returns the model's step, in the training process; only where it can't be found (`global_step` of a
                session, `optimizer.iterations`, `step` in a `tf.train.Checkpoint`).
            elements_per_step: training elements a step; None: measured in the reference run.
            compare_weights: True: the variables of the last checkpoint must also be the reference run's, bit for bit.
                `"auto"`: they are looked at once a test, and fail only if counts in them differ, another resume ended
                bit-equal, or some were restored from no file; else a note tells. False: they are not looked at.
            workers: processes of the training; each finds its place in the environment variable `TF_CONFIG`, and they
                share one `model_dir`.
            validation: places of iterators that are for validation, `["train.py:57"]`: only where a step takes an
                element of one now and then, and its place in the step does not tell that it is no training data.
            never_resumes: `allow` for a training that is meant to begin anew whenever it is started.
            restart: who of them is started again when one was killed: the whole `gang`, or only that `worker`.
            order, at, times, signal, grace, timeout, max_elements: as for `check_dataset`.

        Returns:
            The verdict, which is exact.

        Raises:
            PreemptionSafetyError: as for `check_dataset`.
            PreemptUsageError: a setting can't be used.
        """
        __tracebackhide__ = True
        work = functools.partial(
            _workload,
            "training",
            train,
            step=step,
            elements_per_step=elements_per_step,
            compare_weights=compare_weights,
        )
        given = _given(
            at=at,
            times=times,
            workers=workers,
            restart=restart,
            order=order,
            validation=validation,
            never_resumes=never_resumes,
            signal=signal,
            grace=grace,
            timeout=timeout,
            max_elements=max_elements,
        )
        return self._check(work, given)

    def check_script(
        self,
        argv: Sequence[str] | str,
        *,
        step: Callable[[], int] | None = None,
        elements_per_step: int | None = None,
        compare_weights: bool | Literal["auto"] = "auto",
        order: Order | None = None,
        validation: Sequence[str] | None = None,
        never_resumes: Literal["fail", "allow"] | None = None,
        at: str | None = None,
        times: int | None = None,
        workers: int | None = None,
        restart: Literal["gang", "worker"] | None = None,
        signal: str | None = None,
        grace: float | None = None,
        timeout: float | None = None,
        max_elements: int | None = None,
    ) -> Verdict:
        """Runs a training script, kills it and resumes it. The script is not changed and imports nothing of ours.

        Args:
            argv: the script (or `-m`, a module) and its arguments, a list or one string; `{model_dir}` in it becomes
                the trial's checkpoint directory, `{scratch_dir}` a directory for what the pipeline keeps besides,
                `{worker}` the number of the worker.
            step, elements_per_step, compare_weights, validation, never_resumes, workers, restart: as for
                `check_training`.
            order, at, times, signal, grace, timeout, max_elements: as for `check_dataset`.

        Returns:
            The verdict, which is exact.

        Raises:
            PreemptionSafetyError: as for `check_dataset`.
            PreemptUsageError: no such script, no `{model_dir}`, or a setting that can't be used.
        """
        __tracebackhide__ = True
        words = script_argv(argv, "check_script")
        work = functools.partial(
            _workload,
            "script",
            None,
            arguments={"argv": words},
            step=step,
            elements_per_step=elements_per_step,
            compare_weights=compare_weights,
        )
        given = _given(
            at=at,
            times=times,
            workers=workers,
            restart=restart,
            order=order,
            validation=validation,
            never_resumes=never_resumes,
            signal=signal,
            grace=grace,
            timeout=timeout,
            max_elements=max_elements,
        )
        return self._check(work, given)

    def check_reference(self, reference: str) -> Verdict:
        """`--preempt-dataset`: `check_dataset` over `module:function`."""
        __tracebackhide__ = True
        arguments = {"steps": None, "save_every": 10, "runner": "eager"}
        work = functools.partial(_workload, "dataset", reference, arguments=arguments, elements_per_step=1)
        return self._check(work, {})

    def _check(self, work: Callable[[], Any], arguments: dict[str, object]) -> Verdict:
        __tracebackhide__ = True
        try:
            return self._trials.carry_out(work, arguments)
        except PreemptError as error:
            # Where in this package it was noticed is no help to the reader; the line of the test is.
            raise error.with_traceback(None) from None


def _given(**arguments: object) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if value is not None}


def _require(condition: bool, message: str) -> None:
    __tracebackhide__ = True
    if not condition:
        raise PreemptUsageError(message)


def script_argv(argv: Sequence[str] | str, where: str) -> list[str]:
    """The words of a training script's command line, without the interpreter.

    Raises:
        PreemptUsageError: no such script, or no `{model_dir}`.
    """
    __tracebackhide__ = True
    words = shlex.split(argv) if isinstance(argv, str) else [os.fspath(word) for word in argv]
    if words and Path(words[0]).name.startswith("python") and not Path(words[0]).suffix:
        words = words[1:]
    _require(bool(words), f"{where}: there is no script in {argv!r}: give the script and its arguments")
    _require(
        any("{model_dir}" in word for word in words),
        f"{where}: {shlex.join(words)!r} has no {{model_dir}}: write it where the script takes its checkpoint "
        "directory, as in --model_dir={model_dir}; each trial gets a directory of its own",
    )
    _require(
        words[0] == "-m" or Path(words[0]).is_file(),
        f"{where}: there is no script {words[0]!r} in {Path.cwd()}",
    )
    return words


def _workload(
    task: Literal["training", "dataset", "script"],
    function: Any,
    *,
    arguments: dict[str, Any] | None = None,
    step: Callable[[], int] | None = None,
    elements_per_step: int | None = None,
    compare_weights: bool | Literal["auto"] = False,
) -> Any:
    from .engine.model_step import GIVEN
    from .engine.runner import Workload
    from .payload import pickled

    _require(
        elements_per_step is None or elements_per_step >= 1,
        f"elements_per_step={elements_per_step} is less than 1: give the training elements of one step",
    )
    _require(
        compare_weights in (True, False, "auto"),
        f"compare_weights={compare_weights!r} is neither True nor False nor 'auto'",
    )
    return Workload(
        task=task,
        payload=pickled(function, step),
        arguments=arguments or {},
        elements_per_step=elements_per_step,
        compare_weights=compare_weights,
        model_step=None if step is None else GIVEN,
    )


@pytest.fixture
def training_process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts lives of a training by hand: `training_process(train, model_dir)`; what still runs is ended."""
    from .scenario import Start

    start = Start(state_of(request.config), tmp_path)
    try:
        yield start
    finally:
        start.close()


__all__ = ["Preemption", "parametrise", "preemption", "training_process"]
