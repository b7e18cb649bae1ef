"""The properties of each test in JUnit XML, as `record_property` would set them. Their names stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Judgement

PREFIX = "preempt_"


def properties(record: Judgement, seed: int) -> list[tuple[str, str]]:
    """Name and value of each property; those that do not apply are left out."""
    scope = record["scope"]
    found: dict[str, str | int | None] = {"verdict": record["outcome"], "reason": record["reason"], "seed": seed}
    if record["kind"] == "survey":
        first = record["failures"][0] if record["failures"] else None
        found["schedule"] = None if first is None else first["schedule"]
        found["reproduce"] = None if first is None else first["reproduce"]
        found["states_judged"] = record["judged"]
        found["states_failed"] = len({one["number"] for one in record["failures"]})
    else:
        found["schedule"] = record["schedule"]
        found["reproduce"] = record["measured"]["smallest"] or record["reproduce"]
    found["kills_landed"] = scope["kills_landed"]
    found["saves_crossed"] = scope["saves_crossed"]
    found["elements_compared"] = scope["elements_compared"]
    found["elements_replayed"] = scope["elements_replayed"]
    return [(PREFIX + name, str(value)) for name, value in found.items() if value is not None]


def without_ours(known: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
    """The properties that an item has besides: a rerun of it brings its own."""
    return [(name, value) for name, value in known if not name.startswith(PREFIX)]


__all__ = ["PREFIX", "properties", "without_ours"]
