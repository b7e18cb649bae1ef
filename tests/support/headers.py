"""What the kernel's headers call the system calls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def numbers(machine: str) -> dict[str, int]:
    """By name; skips the test where the headers are not installed."""
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    return {name: int(number) for name, number in defined}
