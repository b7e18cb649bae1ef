"""What `import pipeline_ckpt` brings with it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.tensorflow


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_imports_neither_pytest_nor_the_plugin() -> None:
    """Importing the package imports neither pytest nor the verifier."""
    unwanted = "{'pytest', '_pytest', 'pytest_pipeline_ckpt'}"
    result = _run(f"import sys, pipeline_ckpt; print(sorted({unwanted} & set(sys.modules)))")
    assert (result.returncode, result.stdout) == (0, "[]\n")


def test_says_how_to_get_tensorflow() -> None:
    """Without TensorFlow the import fails with one sentence that says what to install."""
    result = _run("import sys; sys.modules['tensorflow'] = None\nimport pipeline_ckpt")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: pipeline_ckpt needs TensorFlow 2.15 or later, which is not installed: "
        "pip install 'pipeline-ckpt[tensorflow]'"
    )


def test_keras_on_jax_is_refused() -> None:
    """At construction, by name, and with what to do instead."""
    pytest.importorskip("jax", reason="the environment py311-jax has it")
    code = """
        import os
        os.environ["KERAS_BACKEND"] = "jax"
        from pipeline_ckpt.keras import CheckpointInputPipeline
        CheckpointInputPipeline("unused", save_steps=1)
    """
    result = _run(textwrap.dedent(code))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "pipeline_ckpt.errors.HookUsageError: Keras runs on the jax backend, whose fit has no iterator of TensorFlow's "
        "to be saved: set KERAS_BACKEND=tensorflow, or write the loop yourself, with "
        "pipeline_ckpt.InputPipelineCheckpoint."
    )
