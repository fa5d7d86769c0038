"""Everyday functions that are short compositions of other operations, so that they differentiate by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.ops._common import as_tensor
from pydl.ops.comparison import eq, isinf, logical_and, masked_fill, where
from pydl.ops.elementwise import abs, add, clamp, div, exp, floor, log, log1p, maximum, mul, neg, sqrt, square, sub
from pydl.ops.index import index_select
from pydl.ops.matmul import matmul
from pydl.ops.pad import pad
from pydl.ops.reduce import norm, sum
from pydl.ops.shape import cat, reshape, transpose, unsqueeze
from pydl.ops.shape import diagonal as _diagonal

__all__ = [
    "addcdiv", "addcmul", "allclose", "cdist", "clip", "diag", "dist", "equal", "floor_divide", "hstack", "is_tensor",
    "isclose", "lerp", "log10", "log2", "logaddexp", "logit", "numel", "pdist", "remainder", "trace", "vstack",
]

clip = clamp


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a `pydl.Tensor`."""
    return isinstance(obj, TensorCore)


def numel(input: Any) -> int:
    """The number of elements."""
    return int(input.data.size)


def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and the same elements; NaN equals nothing."""
    return bool(np.array_equal(as_tensor(input).data, as_tensor(other).data))


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """|input - other| <= atol + rtol * |other|, element by element: a bool tensor. Shapes broadcast."""
    return as_tensor(np.isclose(as_tensor(input).data, as_tensor(other).data, rtol, atol, equal_nan))


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds for all elements."""
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


def log2(input: Any) -> Any:
    """Logarithm to base 2. Shape: any -> the same."""
    return mul(log(input), 1 / math.log(2))


def log10(input: Any) -> Any:
    """Logarithm to base 10. Shape: any -> the same."""
    return mul(log(input), 1 / math.log(10))


def logaddexp(input: Any, other: Any) -> Any:
    """log(e^input + e^other), broadcast, without overflow; two infinities of one sign stay what they are."""
    input = as_tensor(input)
    other = as_tensor(other, input)
    same = logical_and(isinf(input), eq(input, other))  # there inf - inf would make NaN
    a, b = masked_fill(input, same, 0.0), masked_fill(other, same, 0.0)
    return where(same, input, add(maximum(a, b), log1p(exp(neg(abs(sub(a, b)))))))


def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)), the inverse of sigmoid; `eps` keeps x within [eps, 1 - eps]. Shape: any -> the same."""
    x = as_tensor(input) if eps is None else clamp(as_tensor(input), eps, 1 - eps)
    return log(div(x, sub(1.0, x)))


def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight * (end - input), broadcast; `weight` is a number or a tensor."""
    return add(input, mul(sub(end, input), weight))


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """input + value * tensor1 * tensor2, broadcast."""
    return add(input, mul(mul(tensor1, tensor2), value))


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """input + value * tensor1 / tensor2, broadcast."""
    return add(input, mul(div(tensor1, tensor2), value))


def floor_divide(input: Any, other: Any) -> Any:
    """floor(input / other), broadcast; integers stay integers. The gradient is 0."""
    input, other = as_tensor(input), as_tensor(other)
    if input.data.dtype.kind in "iu" and other.data.dtype.kind in "iu":
        return as_tensor(np.floor_divide(input.data, other.data))
    return floor(div(input, other))


def remainder(input: Any, other: Any) -> Any:
    """input - other * floor(input / other), broadcast: the sign is that of `other`, as of Python's %."""
    return sub(input, mul(floor_divide(input, other), other))


def trace(input: Any) -> Any:
    """The sum of the diagonal. Shape: (n, m) -> scalar."""
    if input.data.ndim != 2:
        raise ShapeError(f"[trace] input of shape {input.data.shape}; expected a matrix (n, m)")
    return sum(_diagonal(input))


def diag(input: Any, diagonal: int = 0) -> Any:
    """A vector as the diagonal of a square matrix of zeros, or the diagonal of a matrix; `diagonal` > 0 lies above.

    Shapes: (n,) -> (n + |diagonal|, same); (n, m) -> (length of that diagonal,).
    """
    if input.data.ndim == 2:
        return _diagonal(input, diagonal)
    if input.data.ndim != 1:
        raise ShapeError(f"[diag] input of shape {input.data.shape}; expected a vector or a matrix")
    n = input.data.shape[0]
    square_matrix = mul(unsqueeze(input, 1), as_tensor(np.eye(n, dtype=input.data.dtype)))
    above, below = max(diagonal, 0), max(-diagonal, 0)
    return pad(square_matrix, (above, below, below, above))


def hstack(tensors: Sequence[Any]) -> Any:
    """Tensors side by side: along axis 1, vectors along axis 0."""
    return cat([reshape(t, (1,)) if t.data.ndim == 0 else t for t in tensors], 0 if tensors[0].data.ndim < 2 else 1)


def vstack(tensors: Sequence[Any]) -> Any:
    """Tensors one below the other; vectors become rows."""
    return cat([reshape(t, (1, -1)) if t.data.ndim < 2 else t for t in tensors], 0)


def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of input - other. Shapes: any two that broadcast -> scalar."""
    return norm(sub(input, other), p)


def cdist(x1: Any, x2: Any, p: float = 2) -> Any:
    """Distances between all rows of two collections, by the p-norm.

    For p = 2 through |a|^2 + |b|^2 - 2ab, one matrix product: distances much smaller than the vectors lose digits.
    Shapes: (..., n, d), (..., m, d) -> (..., n, m).
    """
    a, b = x1.data.shape, x2.data.shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-1]:
        raise ShapeError(f"[cdist] x1 of shape {a} and x2 of shape {b}; expected (..., n, d) and (..., m, d) of the same d")
    if p <= 0:
        raise ArgumentError(f"[cdist] p={p}; expected a positive number")
    if p != 2:
        return norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)
    squares = add(sum(square(x1), -1, keepdim=True), unsqueeze(sum(square(x2), -1), -2))
    return sqrt(clamp(sub(squares, mul(matmul(x1, transpose(x2, -2, -1)), 2.0)), min=0.0))


def pdist(input: Any, p: float = 2.0) -> Any:
    """Distances between all pairs of rows, by the p-norm, in the order (0, 1), (0, 2) ...: (n, d) -> (n (n - 1) / 2,)."""
    if input.data.ndim != 2:
        raise ShapeError(f"[pdist] input of shape {input.data.shape}; expected (n, d)")
    first, second = (wrap(i.astype(np.int64)) for i in np.triu_indices(input.data.shape[0], 1))
    return norm(sub(index_select(input, 0, first), index_select(input, 0, second)), p, -1)
