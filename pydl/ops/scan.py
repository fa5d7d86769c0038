"""Running results along an axis, and differences of neighbours. `cumsum` is with the sums in reduce.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import wrap
from pydl.ops._common import FLOATS, named, normalize_axis
from pydl.ops.comparison import ne
from pydl.ops.composed import logaddexp
from pydl.ops.convert import cast
from pydl.ops.elementwise import add, mul, sub
from pydl.ops.index import gather
from pydl.ops.reduce import ValuesIndices, sum
from pydl.ops.shape import cat, narrow

__all__ = ["cummax", "cummin", "cumprod", "diff", "logcumsumexp", "trapezoid", "trapz"]


def _scan(combine: Callable[[Any, Any], Any], x: Any, dim: int) -> Any:
    """y_i = x_0 . x_1 . ... . x_i in log2(n) passes over the whole axis (Hillis and Steele 1986)."""
    n, reach = x.data.shape[dim], 1
    while reach < n:
        later = combine(narrow(x, dim, reach, n - reach), narrow(x, dim, 0, n - reach))
        x = cat([narrow(x, dim, 0, reach), later], dim)
        reach *= 2
    return x


def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Running product along an axis: y_i = x_0 x_1 ... x_i; integers and booleans give int64. Zeros have right gradients."""
    input = input if dtype is None else cast(input, dtype)
    dim = normalize_axis("cumprod", dim, input.data.ndim)
    if input.data.dtype not in FLOATS:
        return wrap(np.cumprod(input.data, axis=dim, dtype=np.int64).reshape(input.data.shape))
    return _scan(mul, input, dim) if input.data.ndim else input


def logcumsumexp(input: Any, dim: int) -> Any:
    """Running log(e^x_0 + ... + e^x_i) along an axis, without overflow."""
    dim = normalize_axis("logcumsumexp", dim, input.data.ndim)
    return _scan(logaddexp, input, dim) if input.data.ndim else input


def _running(name: str, better: Any, doc: str) -> Callable[..., ValuesIndices]:
    def function(input: Any, dim: int) -> ValuesIndices:
        axis = normalize_axis(name, dim, input.data.ndim)
        if input.data.ndim == 0:
            return ValuesIndices(input, wrap(np.zeros((), np.int64)))
        best = better.accumulate(input.data, axis=axis)
        line = np.arange(input.data.shape[axis]).reshape(-1, *(1,) * (input.data.ndim - 1 - axis))
        here = (input.data == best) | np.isnan(input.data)  # the last place so far that holds the extremum
        places = wrap(np.maximum.accumulate(np.where(here, line, 0), axis=axis))
        return ValuesIndices(gather(input, axis, places), places)

    return named(function, name, doc)


cummax = _running("cummax", np.maximum, "Running largest element along an axis and its position (the last of equals): "
                  "``(values, indices)``. NaN beats all.")
cummin = _running("cummin", np.minimum, "Running smallest element along an axis and its position (the last of equals): "
                  "``(values, indices)``. NaN beats all.")


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """x_(i+1) - x_i along an axis, n times. Shape: (..., m, ...) -> (..., m - n, ...). Of bool tensors: whether they differ."""
    if n < 0:
        raise ArgumentError(f"[diff] n={n}; expected how often to take differences, at least 0")
    dim = normalize_axis("diff", dim, input.data.ndim)
    parts = [t for t in (prepend, input, append) if t is not None]
    x = cat(parts, dim) if len(parts) > 1 else input
    for _ in range(min(n, x.data.shape[dim])):
        m = max(x.data.shape[dim] - 1, 0)
        later, earlier = narrow(x, dim, x.data.shape[dim] - m, m), narrow(x, dim, 0, m)
        x = ne(later, earlier) if x.data.dtype == np.bool_ else sub(later, earlier)
    return x


def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    """The area under points y at places x, or at distance dx: the sum of (x_(i+1) - x_i) (y_i + y_(i+1)) / 2."""
    dim = normalize_axis("trapezoid", dim, y.data.ndim)
    n = y.data.shape[dim]
    heights = mul(add(narrow(y, dim, 1, max(n - 1, 0)), narrow(y, dim, 0, max(n - 1, 0))), 0.5)
    if x is None:
        return sum(mul(heights, dx), dim)
    widths = diff(x, dim=dim if x.data.ndim > 1 else 0)
    if x.data.ndim == 1:
        widths = widths.reshape(-1, *(1,) * (y.data.ndim - 1 - dim))
    return sum(mul(heights, widths), dim)


trapz = trapezoid
