"""All operations, one file per family. Public functions carry PyTorch's names, argument order and defaults."""

from __future__ import annotations

import importlib
import importlib.util

FAMILIES = (
    "elementwise", "reduce", "shape", "index", "matmul", "einsum", "activation", "softmax", "loss", "conv",
    "conv_transpose", "local", "pool", "norm", "resample", "dropout", "embedding", "sort",
)

__all__: list[str] = []
for _family in FAMILIES:
    if importlib.util.find_spec(f"pydl.ops.{_family}") is None:
        continue
    _module = importlib.import_module(f"pydl.ops.{_family}")
    for _name in _module.__all__:
        globals()[_name] = getattr(_module, _name)
    __all__ += _module.__all__
