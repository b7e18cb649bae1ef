"""Between which runs of a session the model is between two steps. Pure: knows nothing of TensorFlow."""

from __future__ import annotations

_LEARN = 16
"""So many runs show whether a step takes several."""


class RunsOfSteps:
    """Whether the run that is ending has made a step.

    A step may take several runs: one takes the element, the next one trains on it. Between them the element has left
    the iterator and is in no model, so nothing must be saved. Where each run makes a step, as most do, the step need
    not be read after each.
    """

    def __init__(self) -> None:
        self._step = 0
        self._runs = 0
        self._several = False
        self._is_known = self._is_exact = False
        """Whether the steps behind this run and before it are known."""
        self._has_advanced = True

    def begin(self, step: int) -> None:
        """A training goes on at step `step`, before its first run."""
        self._step, self._runs, self._several, self._has_advanced = step, 0, False, True

    def begin_run(self, step: int | None) -> None:
        """A run begins, at step `step` if that was read: it need be where something may be saved behind the run."""
        self._is_known, self._is_exact = False, step is not None or self.wants_step
        self._step = self._step if step is None else step

    @property
    def wants_step(self) -> bool:
        """Whether the step must be read after this run."""
        return self._several or self._runs < _LEARN

    def saw(self, seen: int, *, before: int) -> None:
        """What was read within a run, before or behind its own increment, and within the one before."""
        self._several |= seen == before and self._runs > 0

    def end_run(self, step: int) -> None:
        """A run has ended at step `step`; once a run, whoever reads it first."""
        if self._is_known:
            return
        self._is_known = True
        self._has_advanced = step > self._step
        self._several |= self._is_exact and not self._has_advanced
        self._step = step
        self._runs += 1

    def is_between_steps(self, step: int, *, surely: bool = False) -> bool:
        """Whether the model, at step `step` now, has been trained on all that was taken, as far as the steps tell.

        Args:
            step: the model's.
            surely: not only because no step was seen yet that takes several runs.
        """
        self.end_run(step)
        return self._has_advanced if self._is_exact else not (self._several or surely)


__all__ = ["RunsOfSteps"]
