"""What is in a directory, for comparisons."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def contents(root: Path) -> dict[str, Any]:
    """Everything below a directory: None for a directory, a string for a link, a file's bytes; nothing for a FIFO."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir() or path.is_file():
            found[name] = None if path.is_dir() else path.read_bytes()
    return found
