"""Lives started by hand, for scenarios that no schedule describes."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine import checker, gang_verdict, ledger, worker
from .engine.gang import Gang, held_ports, incarnation
from .engine.model import Ending, Kill, Kind, Ledger, Life, Verdict
from .errors import PreemptionSafetyError, PreemptUsageError
from .fixtures import script_argv
from .payload import pickled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .engine.process import TrainingProcess
    from .engine.runner import Workload
    from .state import State


class Start:
    """Starts lives: what the fixture `training_process` gives."""

    def __init__(self, state: State, directory: Path) -> None:
        self._state = state
        self._directory = directory
        self._lives: list[TrainingLife] = []
        self._gangs: list[TrainingGang] = []
        self._ports = contextlib.ExitStack()

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
        number = len(self._lives)
        process = self._state.engine.start(
            self._workload(train, step),
            self._directory / f"life-{number + 1}",
            Path(model_dir),
            slot=number % 2,
            until=1,
        )
        life = TrainingLife(process, timeout=timeout or self._state.settings.timeout.value)
        self._lives.append(life)
        return life

    def gang(
        self,
        train: Callable[[str], Any] | Sequence[str],
        model_dir: str | Path,
        *,
        workers: int,
        step: Callable[[], int] | None = None,
        timeout: float | None = None,
    ) -> TrainingGang:
        """Starts an incarnation of a training of several processes, which `TF_CONFIG` tells their place.

        Each waits at its first element, as a single life does.

        Args:
            train, model_dir, step, timeout: as for a single life; the workers share one `model_dir`.
            workers: how many they are.
        """
        if workers < 2:
            raise PreemptUsageError(f"workers={workers}: a gang has at least 2: call training_process itself for one")
        number = len(self._gangs)
        ports = self._ports.enter_context(held_ports(workers))
        workload = self._workload(train, step)
        gang = TrainingGang(timeout=timeout or self._state.settings.timeout.value)
        self._gangs.append(gang)
        for index in range(workers):
            process = self._state.engine.start(
                workload,
                self._directory / f"gang-{number + 1}" / f"worker-{index}",
                Path(model_dir),
                slot=(number + index) % 2,
                until=1,
                worker_index=index,
                environ=ports.environ(index),
            )
            gang.add(process)
        return gang

    def _workload(self, train: Callable[[str], Any] | Sequence[str], step: Callable[[], int] | None) -> Workload:
        from .engine.model_step import GIVEN
        from .engine.runner import Workload

        model_step = self._state.settings.model_step.value if step is None else GIVEN
        if callable(train):
            return Workload(task="training", payload=pickled(train, step), model_step=model_step)
        argv = {"argv": script_argv(train, "training_process")}
        return Workload(task="script", payload=pickled(None, step), arguments=argv, model_step=model_step)

    def close(self) -> None:
        """Ends every life that still runs."""
        for life in self._lives:
            life.kill()
        for gang in self._gangs:
            gang.kill()
        self._ports.close()


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
                if self._reached(elements):
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

    def _reached(self, elements: int) -> bool:
        """Whether it, which is held now, has taken so many."""
        self._held = self.elements
        return self._held >= elements

    def _end(self, ending: Ending = Ending.KILLED) -> None:
        """SIGKILL to its whole process tree, without waiting for that."""
        if self._process.ended is None:
            self._ending = self._ending or ending
            self._process.end()

    def kill(self) -> TrainingLife:
        """SIGKILL to its whole process tree, now."""
        if self._process.ended is None:
            self._ending = self._ending or Ending.KILLED
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


class TrainingGang:
    """An incarnation of a training of several processes. They move only while one of the methods waits for them."""

    def __init__(self, *, timeout: float) -> None:
        self.workers: list[TrainingLife] = []
        """The life of each worker: to read its `ledger`, `elements`, `stdout`, `stderr` and `returncode`."""
        self._processes: list[TrainingProcess] = []
        self._killed = False
        self._timeout = timeout

    def add(self, process: TrainingProcess) -> None:
        """Takes a worker in that has been started."""
        self._processes.append(process)
        self.workers.append(TrainingLife(process, timeout=self._timeout))

    def wait_for(self, *, elements: int, worker: int = 0) -> TrainingGang:
        """Lets all run until a worker has taken exactly `elements` elements from its iterators, and holds it there.

        The others are not held; but they do not get far if they wait for it.

        Raises:
            PreemptUsageError: it is there already, or it ended before.
        """
        awaited = self.workers[worker]
        if elements <= awaited._held:
            raise PreemptUsageError(f"elements={elements}: worker {worker} has taken {awaited._held} elements already")
        self._release(worker, elements)
        for index, event in self._events():
            if event == "held" and index == worker and awaited._reached(elements):
                return self
            if event == "held":
                self._processes[index].release(until=elements if index == worker else None)
            elif event == "ended" and index == worker:
                break
        raise PreemptUsageError(
            f"elements={elements}: worker {worker} ended after {awaited.elements}; end of its output:\n{awaited.stderr}"
        )

    def wait(self) -> TrainingGang:
        """Lets all run to their ends."""
        self._release(None, None)
        for index, event in self._events():
            if event == "held":
                self._processes[index].release()
        return self

    def kill(self, *, worker: int | None = None) -> TrainingGang:
        """SIGKILL to the whole process tree of a worker, or of all at once, now."""
        self._killed = True
        named = self.workers if worker is None else [self.workers[worker]]
        for life in named:
            life._end()
        for life in named:
            life.kill()
        return self

    @property
    def life(self) -> Life:
        """The ended incarnation as the checker sees it; workers that still run are ended first."""
        self.kill()
        return incarnation([life.life for life in self.workers])

    def _release(self, worker: int | None, until: int | None) -> None:
        for index, process in enumerate(self._processes):
            if process.ended is None and process.held:
                process.release(until=until if index == worker else None)

    def _events(self) -> Iterator[tuple[int, str]]:
        """What happens; a worker that fails, or a gang that makes no progress, ends all of it."""
        for index, event in Gang(self._processes).events(timeout=self._timeout):
            failed = event == "ended" and self.workers[index].returncode != 0
            if failed and self._killed:
                self.workers[index]._ending = self.workers[index]._ending or Ending.KILLED  # it found another one gone
            if failed or event == "hung":
                for life in self.workers:
                    life._end(Ending.HUNG if event == "hung" and not self._killed else Ending.KILLED)
            if event != "stalled":
                yield index, event


def assert_resumes_exactly(
    reference: TrainingLife | TrainingGang,
    lives: Sequence[TrainingLife] | Sequence[TrainingGang],
    *,
    order: Any = "exact",
    elements_per_step: int | None = None,
) -> Verdict:
    """Judges lives that were started by hand, all but the last of them killed.

    Args:
        reference: a life that nobody killed, over another `model_dir`.
        lives: in order, over one `model_dir`. With a gang as the reference: gangs.
        order, elements_per_step: as for `preemption.check_training`.

    Returns:
        The verdict, which is exact.

    Raises:
        PreemptionSafetyError: it is not exact.
    """
    __tracebackhide__ = True
    judge = gang_verdict.judge if isinstance(reference, TrainingGang) else checker.judge
    verdict = judge([reference.life], [life.life for life in lives], order=order, elements_per_step=elements_per_step)
    if not verdict.exact:
        raise PreemptionSafetyError(verdict)
    return verdict
