"""What an ordinary user sees in a container: with Docker's default profile, and where seccomp is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import contained
import container
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tensorflow,
    pytest.mark.skipif(container.hindrance() is not None, reason=str(container.hindrance())),
]

TEST = """
def make_dataset():
    import tensorflow as tf

    return tf.data.Dataset.range(40).batch(2)

def test_good(preemption):
    preemption.check_dataset(make_dataset, steps=20, save_every=5)
"""
REFUSED = "seccomp was refused"


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the container's user may write."""
    with contained.home() as here:
        yield here


def check_every(profile: str, home: Path) -> str:
    """Judges every sixth instant of a training that is right, and nothing is wrong; returns what the run says."""
    (home / "test_good.py").write_text(TEST)
    options = ("-p", "no:randomly", f"--basetemp={home / 'basetemp'}", "--preempt-at=every:6")
    result = contained.python(profile, home, "-m", "pytest", *options)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_every_instant(home: Path) -> None:
    """The plugin records and judges as it does elsewhere."""
    said = check_every("docker", home)
    assert REFUSED not in said
    assert "file operations leave" in said


def test_every_instant_without_seccomp(home: Path) -> None:
    """Where nothing can be recorded the plugin looks between elements, and says why it had to and what it missed."""
    said = check_every("no-seccomp", home)
    assert f"the inside of saves was not covered, only the states between elements: {REFUSED}" in said
    assert "file operation" not in said
