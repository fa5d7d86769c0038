"""pydl: a compiled deep-learning framework with PyTorch-shaped names."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as _np

from pydl import _core, errors, memory
from pydl.graph import (
    autocast,
    checkpoint,
    enable_grad,
    get_float32_matmul_precision,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_float32_matmul_precision,
    set_grad_enabled,
)
from pydl.ops import *
from pydl.tensor import (
    Tensor,
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    tensor,
    zeros,
)

asarray = as_tensor
__version__: str = _core.__version__

float32, float64 = _np.dtype(_np.float32), _np.dtype(_np.float64)
int64, int32, int16, int8, uint8, bool = (_np.dtype(t) for t in (_np.int64, _np.int32, _np.int16, _np.int8, _np.uint8, _np.bool_))
pi, e, inf, nan, newaxis = _np.pi, _np.e, _np.inf, _np.nan, None

# Imported when first used: `import pydl` stays fast.
_LAZY_MODULES = frozenset({
    "autograd", "cluster", "data", "environment", "generation", "metrics", "models", "nn", "optim", "profiler", "random",
    "summary", "text", "train", "vision", "viz",
})
_RANDOM = (
    "Generator", "manual_seed", "initial_seed", "get_rng_state", "set_rng_state", "rand", "randn", "randint", "randperm",
    "normal", "bernoulli", "rand_like", "randn_like", "multinomial",
)  # fmt: skip
_LAZY_NAMES = dict.fromkeys(_RANDOM, "pydl.random") | dict.fromkeys(("save", "load"), "pydl.train.checkpoint")
_LAZY_NAMES |= dict.fromkeys(("capture", "CaptureWarning"), "pydl.graph.capture")
# Not defined as such, because `int` and `float` would then mean something else in this file.
_DTYPE_NAMES = {"float": float32, "double": float64, "long": int64, "int": int32, "short": int16}


def set_num_threads(n: int) -> None:
    """Use `n` threads in kernels; results do not depend on it."""
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """How many threads kernels use: set_num_threads, PYDL_NUM_THREADS, OMP_NUM_THREADS, or the CPUs this process has."""
    return int(_core.num_threads())


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"pydl.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(_LAZY_NAMES[name]), name)
    if name in _DTYPE_NAMES:
        return _DTYPE_NAMES[name]
    if name == "bfloat16":
        import ml_dtypes

        return _np.dtype(ml_dtypes.bfloat16)
    raise AttributeError(f"module 'pydl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES, *_LAZY_NAMES, *_DTYPE_NAMES})
