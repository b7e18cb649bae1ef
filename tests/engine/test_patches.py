"""Replaced attributes stand where the originals stood, and go back there."""

from __future__ import annotations

import inspect
import pickle
import types
from typing import Any

import pytest

from pytest_pipeline_ckpt.engine.patches import Patches


class Base:
    """Has the method."""

    def method(self, value: int = 1, *, more: str = "") -> tuple[int, str]:
        """What it is called with."""
        return value, more


class Middle(Base):
    """Inherits it."""


class Leaf(Middle):
    """Inherits it from further away."""


def counted(calls: list[Any]) -> Any:
    """Makes a wrap that counts."""

    def make(original: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(args[0])
            return original(*args, **kwargs)

        return wrapped

    return make


def test_an_inherited_method_is_replaced_in_the_class_that_defines_it() -> None:
    """No class gets an attribute that it had not, so `Leaf.method is Base.method` as before."""
    names = [set(vars(each)) for each in (Base, Middle, Leaf)]
    calls: list[Any] = []
    patches = Patches()
    patches.wrap(Leaf, "method", counted(calls))
    try:
        same = Leaf.method is Base.method
        after = [set(vars(each)) for each in (Base, Middle, Leaf)]
        result = Leaf().method(2, more="x")
    finally:
        patches.undo()
    assert same
    assert after == names
    assert result == (2, "x")
    assert len(calls) == 1


def test_a_replaced_method_looks_like_the_original() -> None:
    """Signature, source, documentation, annotations and pickle are the original's."""
    patches = Patches()
    seen = [_looks(Leaf.method)]
    patches.wrap(Leaf, "method", counted([]))
    try:
        seen.append(_looks(Leaf.method))
        assert pickle.loads(pickle.dumps(Leaf.method)) is Base.method
    finally:
        patches.undo()
    assert seen[0] == seen[1]


def _looks(function: Any) -> list[object]:
    return [
        inspect.signature(function),
        inspect.getsource(function),
        function.__doc__,
        function.__qualname__,
        function.__module__,
        function.__annotations__,
        pickle.dumps(function),
    ]


@pytest.mark.parametrize("kind", ["class", "module"])
def test_undoing_puts_the_very_same_object_back(kind: str) -> None:
    """Twice wrapped and undone, the original stands where it stood."""
    owner: Any = types.ModuleType("made")
    owner.method = Base.method
    if kind == "class":
        owner = Leaf
    original = owner.method
    patches = Patches()
    patches.wrap(owner, "method", counted([]))
    patches.wrap(owner, "method", counted([]))
    assert owner.method is not original
    patches.undo()
    assert owner.method is original
    assert "method" not in vars(Leaf)
