"""Environment variables that a runtime reads when it is imported: a process which has imported it is deaf to them.

The prefixes are of what TensorFlow 2.15 and 2.21, Keras, JAX and NumPy were seen to read while they are imported
(`os.environ`, and `getenv` of their libraries), and of what they may read there on a machine with accelerators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUNTIMES = (
    *("TF_", "TF2_", "KERAS_", "XLA_", "CUDA_", "JAX_", "JAX2TF_", "PJRT_", "TPU_", "NVIDIA_", "HIP_", "ROCM_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NPY_", "NUMPY_", "NUMEXPR_", "ZENDNN_"),
    *("HDF5_", "GCS_", "GRPC_", "PROTOCOL_BUFFERS_"),
)
_INTERPRETER = "PYTHON"
_NOT_AT_IMPORT = frozenset(
    {
        "TF_CONFIG",  # read when a cluster is resolved, and another one for each worker of a gang
        "PYTHONHASHSEED",  # another one for each server on purpose
        *("TF_CPP_MIN_LOG_LEVEL", "TF_CPP_MAX_LOG_LEVEL", "TF_CPP_MIN_VLOG_LEVEL", "TF_CPP_MAX_VLOG_LEVEL"),  # logging
        *("TF_CPP_VMODULE", "TF_CPP_LOG_THREAD_ID", "TF_CPP_VLOG_FILENAME", "JAX_LOGGING_LEVEL", "JAX_LOG_COMPILES"),
        *("JAX_DEBUG_LOG_MODULES", "GRPC_VERBOSITY", "GRPC_TRACE", "HDF5_DEBUG", "OPENBLAS_VERBOSE"),
        *("OMP_DISPLAY_ENV", "OMP_DISPLAY_AFFINITY", "GOMP_DEBUG"),
    }
)

Values = dict[str, str | None]
"""Variables by their names; None: it is not set."""


def of_runtimes(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that TensorFlow, Keras, JAX or NumPy read at import."""
    return {name: value for name, value in environ.items() if name.startswith(_RUNTIMES) and name not in _NOT_AT_IMPORT}


def at_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of the runtimes, and those that the interpreter reads when it starts."""
    own = {name: value for name, value in environ.items() if name.startswith(_INTERPRETER)}
    return {**of_runtimes(environ), **{name: value for name, value in own.items() if name not in _NOT_AT_IMPORT}}


def differing(there: Mapping[str, str], here: Mapping[str, str], *, by_imports: Mapping[str, str]) -> Values:
    """The runtimes' variables that have another value here than there, with the value here.

    Args:
        there: the environment of a process when it imported the runtimes.
        here: that of the code which imports them now.
        by_imports: what importing them sets itself; whoever has that value has not set anything.
    """
    theirs, ours = of_runtimes(there), of_runtimes(here)
    return {
        name: ours.get(name)
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name) and not (name in by_imports and ours.get(name) == by_imports[name])
    }


def with_values(environ: Mapping[str, str], values: Mapping[str, str | None]) -> dict[str, str]:
    """The environment in which these variables have these values."""
    merged = {**environ, **{name: value for name, value in values.items() if value is not None}}
    return {name: value for name, value in merged.items() if values.get(name, "") is not None}


__all__ = ["Values", "at_start", "differing", "of_runtimes", "with_values"]
