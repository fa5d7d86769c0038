"""The same tensor anew: of another element type, in other memory, or its shape full of zeros or ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.graph.engine import apply, wrap
from pydl.graph.op import Op
from pydl.ops._common import copy, empty_like, fill

__all__ = ["cast", "clone", "ones_like", "zeros_like"]


class Cast(Op):
    """Conversion between element types; gradients are converted back."""

    name, backward_on_tensors, flops_per_element = "to", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        ctx.dtype = x.dtype
        out = empty_like(x, dtype) if dtype.kind in "fiub" else np.empty(x.shape, dtype)
        np.copyto(out, x, casting="unsafe")
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return cast(g, ctx.dtype)


def cast(input: Any, dtype: Any) -> Any:
    """The tensor with another element type; the tensor itself if it has it already."""
    dtype = np.dtype(dtype)
    return input if input.data.dtype == dtype else apply(Cast, input, dtype)


class Clone(Op):
    """A copy of its own memory, with the same axis order."""

    name, backward_on_tensors, flops_per_element = "clone", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        return copy(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


def clone(input: Any) -> Any:
    """A copy of the tensor; the gradient flows to the original."""
    return apply(Clone, input)


def zeros_like(input: Any, dtype: Any = None) -> Any:
    """Zeros of the same shape, dtype and axis order."""
    out = empty_like(input.data, dtype)
    fill(out, 0)
    return wrap(out)


def ones_like(input: Any, dtype: Any = None) -> Any:
    """Ones of the same shape, dtype and axis order."""
    out = empty_like(input.data, dtype)
    fill(out, 1)
    return wrap(out)
