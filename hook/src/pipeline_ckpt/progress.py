"""How far a training has come in its data, and what a step takes of it. Pure: knows nothing of TensorFlow."""

from __future__ import annotations


class Progress:
    """How many elements the training takes of each iterator.

    Args:
        given: What a step takes, as the user says.
    """

    def __init__(self, given: tuple[int, ...] | None) -> None:
        self.given = given
        self.has_observed = False
        """Whether a step has been seen."""
        self.began_at = 0
        """The step at which this life went on."""
        self.taken: tuple[int, ...] | None = None
        """Since the data began; None where it cannot be known."""
        self.varies = False
        """Whether a step does not always take the same, or what it takes cannot be counted."""
        self._base: tuple[int, ...] | None = None
        self._counts: tuple[int, ...] | None = None
        self._vain: tuple[int, ...] | None = None
        """What was asked for by runs that got nothing, because the data had ended: it is counted too."""
        self._step = 0
        self.measured: tuple[int, ...] | None = None
        """What a step has taken, where that was a whole number."""

    def begin(self, step: int, taken: tuple[int, ...] | None, *, varies: bool) -> None:
        """A resume has come to step `step`, with so many elements taken; `varies` of the lives before."""
        self.taken = self._base = taken
        self._step = self.began_at = step
        self._counts = self._vain = None
        self.measured, self.varies, self.has_observed = None, varies, False

    def observe(self, step: int, counts: tuple[int, ...] | None) -> None:
        """At step `step` the training has taken `counts` elements since the resume; None: that cannot be counted."""
        if counts is None:
            self.taken, self.has_observed, self.varies = None, True, self.given is None
            if self.given is not None and self._base is not None:
                self.taken = tuple(a + (step - self._step) * b for a, b in zip(self._base, self.given, strict=True))
                self._base, self._step = self.taken, step
            return
        before = self._counts or (0,) * len(counts)
        if self._vain is not None:
            counts = tuple(now - vain for now, vain in zip(counts, self._vain, strict=True))
        if step > self._step:
            self._compare(step - self._step, [now - then for now, then in zip(counts, before, strict=True)])
            self._step, self._counts, self.has_observed = step, counts, True
        if self._base is not None:
            self.taken = tuple(base + count for base, count in zip(self._base, counts, strict=True))

    def failed(self, step: int, counts: tuple[int, ...]) -> None:
        """At step `step` a run has failed, and `counts` elements were asked for: what the steps do not account for."""
        if self.per_step is None:
            return
        before, steps = self._counts or (0,) * len(counts), step - self._step
        surplus = tuple(
            now - then - steps * each for now, then, each in zip(counts, before, self.per_step, strict=True)
        )
        if min(surplus) >= 0:
            self._vain = surplus

    def _compare(self, steps: int, taken: list[int]) -> None:
        found = tuple(count // steps for count in taken)
        whole = all(count % steps == 0 for count in taken) and any(taken)
        if not whole or (self.measured is not None and self.measured != found):
            self.varies = True
        self.measured = found if whole else None

    @property
    def per_step(self) -> tuple[int, ...] | None:
        """What a step takes; None where that is not known, or not always the same."""
        return self.given or (None if self.varies else self.measured)

    @property
    def trained(self) -> tuple[bool, ...] | None:
        """Which iterators the training takes elements of, if any has been seen."""
        counts = self.given or self._counts
        return tuple(map(bool, counts)) if counts is not None and any(counts) else None
