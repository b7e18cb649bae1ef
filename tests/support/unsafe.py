"""Checks that must fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_pipeline_ckpt import Outcome, PreemptionSafetyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pipeline_ckpt.fixtures import Preemption


def failure(preemption: Preemption, train: Callable[[str], Any], **settings: Any) -> tuple[Outcome, str]:
    """The verdict's outcome and the whole message of a training that is not safe."""
    with pytest.raises(PreemptionSafetyError) as caught:
        preemption.check_training(train, **settings)
    return caught.value.verdict.outcome, str(caught.value)
