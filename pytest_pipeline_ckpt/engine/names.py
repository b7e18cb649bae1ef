"""Which names of a directory a restore may read. Pure.

TensorFlow writes parts and state files under names that it draws, and never reads them again; nor does it read event
files and the graph. Others use such names too: whether `state_temp` is TensorFlow's is in the log of a whole run
(`Names`). A life that still runs is held before an operation by its names alone (`visible`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .operations import Act

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .operations import Operation

LOGS = r"(^|/)(events\.out\.tfevents|graph\.pbtxt$)"
"""What no restore reads, under whatever name."""
_PART = r"part-[0-9]{5}-of-[0-9]{5}(\.(index|data-[0-9]{5}-of-[0-9]{5}))?(\.tempstate[0-9]+)?"
_FINAL = re.compile(r"(?P<prefix>.*)\.(index|data-[0-9]{5}-of-[0-9]{5})$")
_DIRECTORY = re.compile(rf"(?P<prefix>.*)_temp(/{_PART})?$")
_IN_DIRECTORY = re.compile(r"(?P<directory>.*_temp)/(?P<name>.*)")
_BUNDLE = re.compile(r"(?P<prefix>.*)\.(index|data-[0-9]{5}-of-[0-9]{5})\.tempstate[0-9]+$")
_STATE = re.compile(r"(?P<directory>(.*/)?)checkpoint[^/.]*\.tmp[0-9a-f]{32}$")
_META = re.compile(r"(?P<prefix>.*)\.meta\.tmp[0-9a-f]{32}$")
_ANYWHERE = re.compile(rf"(^|/)(graph\.pbtxt|saved_model\.pb)\.tmp[0-9a-f]{{32}}$|{LOGS}")
_TEMPORARY = (_ANYWHERE, _DIRECTORY, _BUNDLE, _STATE, _META)
"""As TensorFlow's sources name them: `_temp` and `part-` in save_restore_v2_ops.cc and checkpoint's functional_saver,
`.tempstate` in tensor_bundle.cc, `.tmp` and 32 hexadecimal digits in `file_io.atomic_write_string_to_file`."""


def may_be_read(name: str) -> bool:
    """Whether a restore may read what has this name; by the name alone, as if TensorFlow had given it."""
    return not any(pattern.search(name) for pattern in _TEMPORARY)


def visible(operation: Operation) -> bool:
    """Whether a resume may be able to tell that an operation has happened; judged by its names alone."""
    return _may_tell(operation) and any(_is_visible(name, operation.act) for name in _named(operation))


def _is_visible(name: str, act: Act) -> bool:
    # TensorFlow makes and removes a directory of this name, and does nothing else with it.
    return bool(name) and (may_be_read(name) or (name.endswith("_temp") and act not in (Act.MKDIR, Act.RMDIR)))


def _may_tell(operation: Operation) -> bool:
    opens = operation.act is Act.CREATE and not (operation.creates or operation.truncates)
    return operation.act is not Act.FSYNC and not opens


def _named(operation: Operation) -> tuple[str, ...]:
    return (operation.path, operation.target if operation.act in (Act.RENAME, Act.LINK) else "")


class Names:
    """Which names are TensorFlow's temporary ones in a run, as its whole log shows.

    They are below a prefix that gets an index or data in the same run; a directory holds nothing but parts of those.

    Args:
        operations: of the log.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._prefixes: set[str] = set()
        self._foreign: set[str] = set()
        """Names like those of TensorFlow's temporary directories that are files, or hold something else."""
        self._known: dict[str, bool] = {}
        for operation in operations:
            if operation.act is not Act.FSYNC:
                for name in _named(operation):
                    self._note(name, operation.act)
        self._directories = {os.path.dirname(prefix) for prefix in self._prefixes}

    def may_be_read(self, name: str) -> bool:
        """Whether a restore may read what has this name."""
        if name not in self._known:
            self._known[name] = not self._is_temporary(name)
        return self._known[name]

    def tells(self, operation: Operation) -> bool:
        """Whether a resume may be able to tell that an operation has happened."""
        return _may_tell(operation) and any(name and self.may_be_read(name) for name in _named(operation))

    def _note(self, name: str, act: Act) -> None:
        if name.endswith("_temp") and act not in (Act.MKDIR, Act.RMDIR):
            self._foreign.add(name)
        elif inside := _IN_DIRECTORY.match(name):
            if not re.fullmatch(_PART, inside["name"]):
                self._foreign.add(inside["directory"])
        elif final := _FINAL.match(name):
            self._prefixes.add(final["prefix"])

    def _is_temporary(self, name: str) -> bool:
        if _ANYWHERE.search(name):
            return True
        if found := _DIRECTORY.match(name):
            return found["prefix"] in self._prefixes and f"{found['prefix']}_temp" not in self._foreign
        if found := _BUNDLE.match(name) or _META.match(name):
            return found["prefix"] in self._prefixes
        found = _STATE.match(name)
        return found is not None and found["directory"].rstrip("/") in self._directories


__all__ = ["LOGS", "Names", "may_be_read", "visible"]
