"""The two distributions of this repository belong together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def read(path: str, pattern: str) -> str:
    """What the only match of `pattern` in a file says."""
    (found,) = re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("hook/pyproject.toml", r'^version = "(.*)"$'),
        ("pytest_pipeline_ckpt/__init__.py", r'^__version__ = "(.*)"$'),
        ("hook/src/pipeline_ckpt/__init__.py", r'^__version__ = "(.*)"$'),
    ],
)
def test_versions(path: str, pattern: str) -> None:
    """Both distributions and their packages have one version."""
    assert read(path, pattern) == read("pyproject.toml", r'^version = "(.*)"$')


@pytest.mark.parametrize("path", ["CHANGELOG.md", "hook/CHANGELOG.md"])
def test_changelogs(path: str) -> None:
    """Each distribution's changelog has an entry for that version."""
    version = read("pyproject.toml", r'^version = "(.*)"$')
    assert re.search(rf"^## \[?{re.escape(version)}\b", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", ["pyproject.toml", "hook/pyproject.toml"])
def test_tensorflow_is_an_extra(path: str) -> None:
    """Users have their own build of TensorFlow, so it is an extra of both, from the same version on."""
    assert read(path, r"^tensorflow = \[(.*)\]$") == '"tensorflow>=2.15"'
