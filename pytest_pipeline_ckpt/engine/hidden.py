"""Child side: what the fork server has imported, out of sight until the user's code imports it.

A script that looks into `sys.modules`, or sets environment variables before its imports, finds what it would find in a
fresh interpreter; and its first import of a runtime is seen, with the environment at that moment. Nothing is loaded
again: the import puts the modules that are there back into `sys.modules`.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

_OURS = (__package__ or "").partition(".")[0]
_TENSORFLOW, _JAX, _NUMPY, _OTHER = "tensorflow", "jax", "numpy", "other"
_GROUPS = {
    **dict.fromkeys(("tensorflow", "keras", "tf_keras", "tensorflow_estimator"), _TENSORFLOW),
    **dict.fromkeys(("jax", "jaxlib"), _JAX),
    "numpy": _NUMPY,
    "xxhash": _OURS,
}
_NEEDS = {
    _TENSORFLOW: (_TENSORFLOW, _JAX, _OTHER, _NUMPY),  # TensorFlow imports Keras, and JAX where it is installed
    _JAX: (_JAX, _OTHER, _NUMPY),
    _OTHER: (_OTHER, _NUMPY),
    _NUMPY: (_NUMPY,),
    _OURS: (_OURS,),
}
"""The modules of a group refer to those of these groups, and may look for them in `sys.modules`."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What of an interpreter importing changes for all to see."""

    modules: frozenset[str]
    path: tuple[str, ...]
    environ: Mapping[str, str]
    filters: tuple[Any, ...]
    """Of `warnings`."""

    @staticmethod
    def now(modules: frozenset[str], path: tuple[str, ...]) -> Interpreter:
        """As it is, but for `modules` and `path`, which were those at its start."""
        return Interpreter(modules, path, dict(os.environ), tuple(warnings.filters))

    def set_since(self) -> dict[str, str]:
        """The environment variables that have been set or changed since."""
        return {name: value for name, value in os.environ.items() if self.environ.get(name) != value}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a training process was before it was forked."""

    before: Interpreter
    """The server, when it had imported nothing."""
    with_numpy: tuple[Any, ...]
    """The filters of `warnings` when it had imported NumPy."""
    by_imports: Mapping[str, str] | None
    """The environment variables that its imports have set; None: it imports nothing before the user's code does."""

    @property
    def own_path(self) -> tuple[str, ...]:
        """`sys.path` as the interpreter makes it, without the entry for the script."""
        return self.before.path if getattr(sys.flags, "safe_path", False) else self.before.path[1:]


class Hidden:
    """Hides what the server has imported, and shows it to whoever imports it.

    Args:
        origin: of this process.
        importing: called when something hidden is imported, before it is shown.
    """

    def __init__(self, origin: Origin, importing: Callable[[], None]) -> None:
        self._importing = importing
        self._by_imports = origin.by_imports or {}
        before = origin.before
        self._modules: dict[str, dict[str, ModuleType]] = {group: {} for group in _NEEDS}
        for name in [name for name in sys.modules if name not in before.modules and not _stays(name)]:
            if sys.modules[name] is not None:
                self._modules[group_of(name)][name] = sys.modules.pop(name)
        after_numpy, after_all = origin.with_numpy, tuple(warnings.filters)
        self._filters = {_NUMPY: _added(before.filters, after_numpy), _OTHER: _added(after_numpy, after_all)}
        _filter(before.filters)
        self._finder = _Finder(self)
        sys.meta_path.insert(0, self._finder)

    def module(self, name: str) -> ModuleType | None:
        """The hidden module of this name."""
        return self._modules[group_of(name)].get(name)

    def show(self, name: str) -> None:
        """Puts the modules of a name's group back, and those that it needs."""
        self._importing()
        for group in reversed(_NEEDS[group_of(name)]):
            modules, self._modules[group] = self._modules[group], {}
            sys.modules.update({name: module for name, module in modules.items() if name not in sys.modules})
            first, last = self._filters.pop(group, ((), ()))
            if first or last:
                _filter((*first, *warnings.filters, *last))
        if group_of(name) in (_TENSORFLOW, _JAX):
            for variable, value in self._by_imports.items():
                os.environ.setdefault(variable, value)
            self._by_imports = {}
        if not any(self._modules.values()):
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(self._finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds hidden modules; only loading one shows it, `importlib.util.find_spec` does not."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec as it is found without us, with a loader that brings the module itself."""
        module = self._hidden.module(fullname)
        if module is None:
            return None
        own = getattr(module, "__spec__", None)
        others = (each.find_spec(fullname, path, target) for each in sys.meta_path if each is not self)
        spec = next((each for each in others if each is not None), None)
        if spec is None:
            spec = importlib.machinery.ModuleSpec(fullname, None)
        elif own is not None and spec.origin != own.origin:
            return None  # another one of the same name, which the user's import path has first
        spec.loader = _Loader(self._hidden, fullname, module, own)
        return spec


class _Loader(importlib.abc.Loader):
    """Brings a module that is there."""

    def __init__(self, hidden: Hidden, name: str, module: ModuleType, spec: Any) -> None:
        self._hidden = hidden
        self._name = name
        self._module = module
        self._spec = spec

    def create_module(self, spec: object) -> ModuleType:  # noqa: ARG002 - importlib calls it
        """Shows it."""
        self._hidden.show(self._name)
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Gives it its own spec back, in place of ours."""
        module.__spec__ = self._spec


def group_of(name: str) -> str:
    """The group that the module of this name is shown with."""
    return _GROUPS.get(name.partition(".")[0], _OTHER)


def _stays(name: str) -> bool:
    """Whether a module is never hidden: ours, and those of the standard library, which nobody takes for a runtime."""
    top = name.partition(".")[0]
    return top == _OURS or top in sys.stdlib_module_names or top == "__main__"


def _added(before: Sequence[Any], after: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The filters that importing has put before and behind those that there were."""
    middle = after.index(before[0]) if before and before[0] in after else len(after)
    new = [[one for one in part if one not in before] for part in (after[:middle], after[middle:])]
    return new[0], new[1]


def _filter(filters: Sequence[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def is_installed(path: str) -> bool:
    """Whether a code's file is of a package that is installed; Debian's own are in `dist-packages`."""
    return "site-packages" in path or "dist-packages" in path


def user_modules(before: frozenset[str]) -> Iterator[ModuleType]:
    """The modules imported since that are the user's own: not installed, and not of the standard library."""
    for name in [name for name in sys.modules if name not in before]:
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        if file is not None and not _stays(name) and not is_installed(file):
            yield module


__all__ = ["Hidden", "Interpreter", "Origin", "group_of", "is_installed", "user_modules"]
