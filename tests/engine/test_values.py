"""What is seen of the values of weights; the trainings are in `evidence_scenarios.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tapped import Runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
HAS_JAX = importlib.util.find_spec("flax") is not None
GROUPS = (
    ("looked_at", "seldom", "table", "large", "looked_at_in_a_session", "built_in_its_step"),
    ("looked_at_in_jax",),
)
SCENARIOS = Path(__file__).with_name("evidence_scenarios.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The scenarios' results."""
    return Runs(SCENARIOS, GROUPS, tmp_path_factory.mktemp("values"))


def _of(runs: Runs, name: str) -> dict[str, list[int]]:
    """By the weights' names, and their ordinals among those of the same name, what each look found."""
    evidence = runs.ledger(name).evidence
    return {
        f"{one.name}#{one.ordinal}".removesuffix("#1"): [
            look.values[number] for look in evidence.looks if number in look.values
        ]
        for number, one in enumerate(evidence.weights)
    }


def test_small_weights_are_looked_at_before_each_element(runs: Runs) -> None:
    """Of the first 64, and at saves; the one that is trained is another each time, and known to be a weight."""
    evidence = runs.ledger("looked_at").evidence
    assert [one.why for one in evidence.looks] == ["element"] * 64 + ["save"]
    found = _of(runs, "looked_at")
    assert len(found) == 3  # two variables, and what the optimizer has beside one of them; no scalar
    assert sorted(len(set(values)) for values in found.values()) == [1, 64, 65]
    users = [one for one in evidence.weights if one.users]
    assert [one.known for one in users] == [True, True]
    assert [one.known for one in evidence.weights if not one.users] == [False]


def test_large_weights_are_looked_at_now_and_then(runs: Runs) -> None:
    """Before the first, the second and the ninth element, and at saves."""
    looks = runs.ledger("large").evidence.looks
    assert [(one.why, one.at) for one in looks[:3]] == [("element", 0), ("element", 2), ("element", 16)]
    assert [one.why for one in looks[3:]] == ["save"]
    assert [len(set(values)) for values in _of(runs, "large").values()] == [4]


def test_arrays_that_change_seldom(runs: Runs) -> None:
    """They are looked at all along, and found among what else there is in an object."""
    assert [len(set(values)) for values in _of(runs, "seldom").values()] == [3]
    assert [len(values) for values in _of(runs, "seldom").values()] == [30]


def test_large_data(runs: Runs) -> None:
    """What has not changed by the ninth element is not looked at any more; the tenth tells if the rest is small."""
    found = _of(runs, "table")
    assert {name: (len(one), len(set(one))) for name, one in found.items()} == {"w": (4, 2), "data": (3, 1)}
    rounded = [one.rounded for one in runs.ledger("table").evidence.looks]
    assert rounded == [{0, 1}, set(), set(), set()]


def test_what_a_narrower_type_has(runs: Runs) -> None:
    """Whole numbers are some that half precision has; what a step made of a layer's first ones is not."""
    assert [one.rounded for one in runs.ledger("large").evidence.looks] == [{0}] * 4
    first, *later = runs.ledger("built_in_its_step").evidence.looks
    assert first.rounded == first.values.keys()
    assert not any(one.rounded for one in later)


def test_a_model_that_its_first_step_builds(runs: Runs) -> None:
    """It is looked at before it is applied first: what it was made with, or was restored to."""
    evidence = runs.ledger("built_in_its_step").evidence
    first, *later = evidence.looks
    assert (first.why, first.at) == ("apply", 2)
    assert [(one.why, one.at) for one in later] == [("element", 2), ("element", 4)]
    assert all(evidence.weights[number].applied for number in first.values)
    assert [len({one.values[number] for one in evidence.looks}) for number in first.values] == [3, 3]


def test_variables_of_a_session(runs: Runs) -> None:
    """Before each run that takes an element, and at saves, as far as they are initialised; no scalars."""
    evidence = runs.ledger("looked_at_in_a_session").evidence
    assert [one.why for one in evidence.looks] == ["element"] * 12 + ["save"]
    found = _of(runs, "looked_at_in_a_session")
    assert {name: (len(values), len(set(values))) for name, values in found.items()} == {
        "trained": (13, 13),
        "frozen": (13, 1),
        "sums": (13, 13),
    }
    told = {one.name: (one.known, one.applied, one.users) for one in evidence.weights}
    assert told == {
        "trained": (True, True, False),
        "frozen": (True, False, False),
        "sums": (False, False, True),
    }


@pytest.mark.skipif(not HAS_JAX, reason="JAX or Flax is not installed")
def test_arrays_of_jax_in_the_variables_of_functions(runs: Runs) -> None:
    """Parameters of a state that is another one after each step, and sums of gradients; nothing else that is optax'."""
    found = _of(runs, "looked_at_in_jax")
    assert len(found["state/params/w"]) == 13
    assert len(set(found["state/params/w"])) == 11  # the first element is 0, and so is its gradient
    assert len(set(found["kept/acc_grads/v"])) == 10  # it is 0 in the beginning, and behind each fourth element
    assert sorted(found) == ["data/x", "data/y", "kept/acc_grads/v", "state/params/w"]
    assert len(found["data/x"]) == 13
    assert len(set(found["data/x"])) == 1
