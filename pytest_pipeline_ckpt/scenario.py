"""Lives started by hand, for scenarios that no schedule describes."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine import checker, ledger, worker
from .engine.model import Ending, Kill, Kind, Ledger, Life, Verdict
from .errors import PreemptionSafetyError, PreemptUsageError
from .fixtures import script_argv
from .payload import pickled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .engine.process import TrainingProcess
    from .state import State


class Start:
    """Starts lives: what the fixture `training_process` gives."""

    def __init__(self, state: State, directory: Path) -> None:
        self._state = state
        self._directory = directory
        self._lives: list[TrainingLife] = []

    def __call__(
        self,
        train: Callable[[str], Any] | Sequence[str],
        model_dir: str | Path,
        *,
        step: Callable[[], int] | None = None,
        timeout: float | None = None,
    ) -> TrainingLife:
        """Starts one life; it waits at its first element until `wait_for`, `wait` or `terminate` lets it go on.

        Args:
            train: `train(model_dir)`, or the command line of a script with `{model_dir}` in it.
            model_dir: its checkpoint directory; kept, so that the next life resumes from it.
            step: as for `preemption.check_training`.
            timeout: seconds without progress after which it is killed; None: `--preempt-timeout`.
        """
        from .engine.runner import Workload

        if callable(train):
            workload = Workload(task="training", payload=pickled(train, step))
        else:
            argv = {"argv": script_argv(train, "training_process")}
            workload = Workload(task="script", payload=pickled(None, step), arguments=argv)
        number = len(self._lives)
        process = self._state.engine.start(
            workload, self._directory / f"life-{number + 1}", Path(model_dir), slot=number % 2, until=1
        )
        life = TrainingLife(process, timeout=timeout or self._state.settings.timeout.value)
        self._lives.append(life)
        return life

    def close(self) -> None:
        """Ends every life that still runs."""
        for life in self._lives:
            life.kill()


class TrainingLife:
    """One life of a training process. It moves only while one of the methods waits for it."""

    def __init__(self, process: TrainingProcess, *, timeout: float) -> None:
        self._process = process
        self._timeout = timeout
        self._ending: Ending | None = None
        self._held = 0

    def wait_for(self, *, elements: int) -> TrainingLife:
        """Lets it run until it has taken exactly `elements` elements from its iterators, and holds it there.

        Raises:
            PreemptUsageError: it is there already, or it ended before.
        """
        if elements <= self._held:
            raise PreemptUsageError(f"elements={elements}: the life has taken {self._held} elements already")
        if self._held:
            self._process.release(until=elements)
        for event in self._events():
            if event == "held":
                self._held = self.elements
                if self._held >= elements:
                    return self
                self._process.release(until=elements)
        raise PreemptUsageError(
            f"elements={elements}: the life ended after {self.elements} ({self._words()}); end of its output:\n"
            f"{self.stderr}"
        )

    def wait(self) -> TrainingLife:
        """Lets it run to its end."""
        if self._held:
            self._process.release()
        for event in self._events():
            if event == "held":
                self._process.release()
        return self

    def kill(self) -> TrainingLife:
        """SIGKILL to its whole process tree, now."""
        if self._process.ended is None:
            self._ending = Ending.KILLED
            self._process.kill()
        return self

    def terminate(self, *, grace: float = 5.0) -> TrainingLife:
        """SIGTERM to the training process, SIGKILL to the tree when `grace` seconds have passed."""
        if self._process.ended is None:
            self._ending = Ending.KILLED
            self._process.deadline = time.monotonic() + grace
            self._process.notify(signal.SIGTERM)
            for event in self._events():
                if event == "held":
                    self._process.release()
                elif event == "late":
                    self._process.kill()
        return self

    @property
    def ledger(self) -> Ledger:
        """What it has consumed so far."""
        return ledger.read(self._process.directory)

    @property
    def elements(self) -> int:
        """How many elements it has taken from all its iterators so far."""
        return int((self.ledger.records["kind"] == Kind.ELEMENT).sum())

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._read(worker.STDOUT)

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._read(worker.STDERR)

    @property
    def returncode(self) -> int | None:
        """Exit code, minus the signal's number, or None while it runs."""
        return None if self._process.ended is None else self._process.ended.returncode

    @property
    def life(self) -> Life:
        """The ended life as the checker sees it; one that still runs is ended first."""
        self.kill()
        ending = self._ending
        if ending is None:
            ending = Ending.FINISHED if self.returncode == 0 else Ending.CRASHED
        kill = Kill(max(1, self.elements)) if ending is Ending.KILLED else None
        return Life(self.ledger, ending, kill=kill, status=self._words(), stderr_tail=self.stderr[-4096:])

    def _events(self) -> Any:
        for event in self._process.events(timeout=self._timeout):
            if event == "hung":
                self._ending = Ending.HUNG
                self._process.kill()
            yield event

    def _words(self) -> str:
        return "still running" if self._process.ended is None else self._process.ended.words

    def _read(self, name: str) -> str:
        path = self._process.directory / name
        return path.read_text(errors="replace") if path.exists() else ""


def assert_resumes_exactly(
    reference: TrainingLife,
    lives: Sequence[TrainingLife],
    *,
    order: Any = "exact",
    elements_per_step: int | None = None,
) -> Verdict:
    """Judges lives that were started by hand, all but the last of them killed.

    Args:
        reference: a life that nobody killed, over another `model_dir`.
        lives: in order, over one `model_dir`.
        order, elements_per_step: as for `preemption.check_training`.

    Returns:
        The verdict, which is exact.

    Raises:
        PreemptionSafetyError: it is not exact.
    """
    __tracebackhide__ = True
    verdict = checker.judge(
        [reference.life], [life.life for life in lives], order=order, elements_per_step=elements_per_step
    )
    if not verdict.exact:
        raise PreemptionSafetyError(verdict)
    return verdict
