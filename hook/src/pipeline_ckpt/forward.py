"""Brings iterators from where a checkpoint has them to the model's step: by reading on, where that is right."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .errors import FastForwardError

if TYPE_CHECKING:
    from .marks import Mark
    from .pipelines import Pipelines
    from .policy import Policy
    from .progress import Progress
    from .restore import Restorer

logger = logging.getLogger("pipeline_ckpt")


class FastForward:
    """Reads and drops elements; refuses to where that would land elsewhere.

    Args:
        pipelines: the iterators.
        policy: what to do where there is a choice.
        progress: what the training takes of them.
        restorer: has restored the checkpoint.
    """

    def __init__(self, pipelines: Pipelines, policy: Policy, progress: Progress, restorer: Restorer) -> None:
        self._pipelines = pipelines
        self._policy = policy
        self._progress = progress
        self._restorer = restorer
        self.began = 0
        """The step at which the data began, or began anew."""

    def begins_anew(self, mark: Mark | None) -> bool:
        """Whether a checkpoint stands for the beginning of the data."""
        return mark is None or (mark.ended and self._policy.at_end == "restart")

    def go_to(self, mark: Mark | None) -> None:
        """Brings the iterators to where a checkpoint has them."""
        self.began = 0 if mark is None else mark.step if self.begins_anew(mark) else mark.began
        if mark is None or mark.holds == "iterator" or self.begins_anew(mark):
            return
        self._pipelines.pass_over(mark.extra.get("passes", 0) - mark.extra.get("ended", False))
        if self.began < mark.step:
            self._check_reproducible(mark.began, mark.step, fresh=True)
            self._pipelines.skip(self._position_of(mark))

    def _position_of(self, mark: Mark) -> tuple[int, ...]:
        if mark.taken is not None:
            return mark.taken
        per_step = mark.elements_per_step or self._progress.given
        if per_step is None:
            raise self._uncounted(mark.began, mark.step)
        return tuple(count * (mark.step - mark.began) for count in per_step)

    def go_on(self, mark: Mark | None, step: int) -> tuple[int, ...] | None:
        """Takes, and drops, the elements of the steps from a checkpoint's to `step`.

        Returns:
            How many elements of each iterator were taken since the data began, where that is known.
        """
        start = 0 if mark is None else mark.step
        per_step = self._per_step_of(mark)
        anew = self.begins_anew(mark)
        taken = (0,) * len(self._pipelines.names) if anew or mark is None else mark.taken
        if start < step:
            if per_step is None:
                raise self._uncounted(start, step)
            self._check_reproducible(start, step, fresh=anew or (mark is not None and mark.holds == "position"))
            can_wrap = not self._pipelines.graph.unreproducible or self._policy.on_nondeterminism == "warn"
            wraps = (self._policy.at_end == "restart" or self._pipelines.goes_on) and can_wrap
            began = self._pipelines.advance(start=start, stop=step, per_step=per_step, wraps=wraps)
            if began > start:
                self.began, start, taken = began, began, (0,) * len(per_step)
        if taken is None and per_step is not None and mark is not None:
            taken = tuple(count * (mark.step - mark.began) for count in per_step)  # TensorFlow's hook counted nothing
        if taken is None or per_step is None:
            return taken
        return tuple(before + count * (step - start) for before, count in zip(taken, per_step, strict=True))

    def _per_step_of(self, mark: Mark | None) -> tuple[int, ...] | None:
        """What a step took when a checkpoint was written."""
        if mark is not None and mark.elements_per_step is not None:
            return mark.elements_per_step
        if mark is not None and mark.varies:
            return self._progress.given
        return self._progress.given or self._pipelines.assumed()

    def _uncounted(self, start: int, step: int) -> FastForwardError:
        return FastForwardError(
            f"How many elements a step takes of the iterators {', '.join(self._pipelines.names)} is not known, "
            f"and the pipeline must be brought from step {start} to the model's step {step}. Pass "
            "elements_per_step= with one number for each of them (0: not used in training)."
        )

    def _check_reproducible(self, start: int, step: int, *, fresh: bool) -> None:
        """Within an epoch the state of an unseeded shuffle is in the checkpoint; from the beginning nothing is."""
        found = self._pipelines.graph.unreproducible
        if not fresh:
            found = tuple(name for name in found if "deterministic" in name or name == self._pipelines.graph.unknown)
        why, remedy = "", "Make it reproducible"
        if self._restorer.changed:
            why, remedy = f"is not the one that wrote {self._restorer.changed}", "Go back to that one"
        elif found:
            why = f"does not yield the same elements in the same order each time: {', '.join(found)}"
        if why:
            sentence = f"The pipeline must be brought from step {start} to the model's step {step}, and {why}"
            if self._policy.on_nondeterminism == "error":
                raise FastForwardError(
                    f'{sentence}. {remedy}, or pass on_nondeterminism="warn" if repeated and lost elements do not '
                    "matter."
                )
            logger.warning("%s: elements may be repeated or lost", sentence)
        elif self._pipelines.graph.reshuffles:
            logger.warning(
                "the pipeline is brought from step %d to %d by reading on: should an epoch end in between, its "
                "unseeded shuffle draws the next one anew; seed it to be sure",
                *(start, step),
            )


__all__ = ["FastForward"]
