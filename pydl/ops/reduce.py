"""Reductions over any axes (kernels: csrc/cpu/reduce.cpp)."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore, apply, wrap
from pydl.graph.op import Op, Shape
from pydl.ops import elementwise as _e
from pydl.ops._common import (
    FLOATS,
    check_float,
    contiguous,
    empty,
    fill,
    is_dense,
    memory_order,
    named,
    normalize_axes,
    normalize_axis,
)
from pydl.ops._maps import run_map
from pydl.ops.comparison import eq, masked_fill, ne, where
from pydl.ops.convert import cast, ones_like

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumsum", "logsumexp", "max", "mean", "min", "norm",
    "prod", "std", "sum", "var",
]

Dim = int | tuple[int, ...] | None


class ValuesIndices(NamedTuple):
    """What `max`, `min`, `sort`, `topk` along an axis return."""

    values: Any
    indices: Any


def _canonical(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, list[int]]:
    """The array as [outer, reduced, inner] in C order, and the kept axes in the order in which the result holds them.

    The axes are taken in memory order, so that channels-last data is reduced over N, H, W without a copy.
    """
    order = memory_order(x) if is_dense(x) else list(range(x.ndim))
    kept = [a for a in order if a not in axes]
    reduced = [a for a in order if a in axes]
    runs = [a in axes for a in order if x.shape[a] != 1]
    changes = builtins.sum(a != b for a, b in itertools.pairwise(runs))
    if changes > 2 or (changes == 2 and runs[0]):  # the axes alternate: gather the reduced ones at the end
        order, before = kept + reduced, kept
    else:
        first = next((i for i, a in enumerate(order) if a in axes and x.shape[a] != 1), len(order))
        before = [a for a in order[:first] if a not in axes]
    sizes = [math.prod([x.shape[a] for a in group]) for group in (before, reduced)]
    inner = math.prod([x.shape[a] for a in kept if a not in before])
    return contiguous(x.transpose(order)).reshape(sizes[0], sizes[1], inner), kept


def _reduce(kind: str, x: np.ndarray, axes: tuple[int, ...], keepdim: bool, dtype: Any = None) -> np.ndarray:
    """Run a native reduction; the result's axes are put back into the logical order (as a view)."""
    if len(axes) == x.ndim and x.flags.c_contiguous:  # the usual loss: nothing to put in order
        out = empty((1,) * x.ndim if keepdim else (), x.dtype if dtype is None else dtype)
        _core.reduce(_core.REDUCTIONS[kind], x.reshape(1, -1, 1), out.reshape(1, 1))
        return out
    canonical, kept = _canonical(x, axes)
    out = empty((canonical.shape[0], canonical.shape[2]), x.dtype if dtype is None else dtype)
    _core.reduce(_core.REDUCTIONS[kind], canonical, out)
    result = out.reshape([x.shape[a] for a in kept]).transpose(np.argsort(kept) if kept else ())
    return result.reshape(_kept_shape(x.shape, axes)) if keepdim else result


def _kept_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(shape: Shape, axes: tuple[int, ...]) -> int:
    """How many elements make one of the result."""
    return math.prod([shape[a] for a in axes])


def _reduced_shape(shape: Shape, axes: tuple[int, ...], keepdim: bool) -> Shape:
    return _kept_shape(shape, axes) if keepdim else tuple(n for i, n in enumerate(shape) if i not in axes)


def _expand_back(g: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    """The gradient of a reduced tensor, repeated (without a copy) to the shape before the reduction."""
    from pydl.ops.shape import expand, reshape

    return expand(reshape(g, _kept_shape(shape, axes)), shape)


class Sum(Op):
    name, backward_on_tensors = "sum", True

    @staticmethod
    def shape(x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> Shape:
        return _reduced_shape(x.shape, axes, keepdim)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        ctx.args = x.shape, axes
        return _reduce("sum", x, axes, keepdim)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _expand_back(g, *ctx.args)


def _converted(input: Any, dtype: Any) -> Any:
    return input if dtype is None else cast(input, dtype)


def _total(op: type[Op], input: Any, dim: Dim, keepdim: bool, dtype: Any) -> Any:
    """`sum` and `prod`: the op for floats, NumPy for integers."""
    input = _converted(input, dtype)
    axes = normalize_axes(op.name, dim, input.data.ndim)
    if input.data.dtype not in FLOATS:
        return wrap(np.asarray(getattr(input.data, op.name)(axis=axes, keepdims=keepdim, dtype=np.int64)))
    return apply(op, input, axes, keepdim)


def sum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over axes (all by default); integers and booleans give int64. Order of summation is fixed, pairwise over pieces."""
    return _total(Sum, input, dim, keepdim, dtype)


class Mean(Op):
    name, backward_on_tensors = "mean", True
    shape = Sum.shape

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        ctx.args = x.shape, axes
        y = _reduce("sum", x, axes, keepdim)
        count = _count(x.shape, axes)
        if count:
            _core.map(_core.MAPS["div"], (y, np.asarray(count, y.dtype)), y)
        else:
            fill(y, np.nan)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        shape, axes = ctx.args
        return _expand_back(_e.div(g, float(_count(shape, axes) or 1)), shape, axes)


def mean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Arithmetic mean over axes (all by default); of no elements, NaN."""
    input = _converted(input, dtype)
    check_float("mean", input.data)
    return apply(Mean, input, normalize_axes("mean", dim, input.data.ndim), keepdim)


def _root(total: Any, p: float) -> Any:
    """total^(1/p) whose gradient at 0 is taken as 0: the zeros are kept out of the recorded computation."""
    zero = eq(total, 0.0)
    if zero.data.any():
        return where(zero, _e.mul(total, 0.0), _e.pow(where(zero, ones_like(total), total), 1.0 / p))
    return _e.pow(total, 1.0 / p)


def _var(op: str, input: Any, dim: Dim, keepdim: bool, correction: float, unbiased: bool | None) -> Any:
    check_float(op, input.data)
    if unbiased is not None:
        correction = int(unbiased)
    axes = normalize_axes(op, dim, input.data.ndim)
    squares = sum(_e.square(_e.sub(input, mean(input, axes, keepdim=True))), axes, keepdim)
    count = _count(input.data.shape, axes) - correction
    return _e.mul(squares, 1.0 / count if count > 0 else float("inf"))


def var(input: Any, dim: Dim = None, keepdim: bool = False, *, correction: float = 1, unbiased: bool | None = None) -> Any:
    """Variance: sum((x - mean)^2) / (n - correction), in two passes. correction=1 (Bessel) by default, as in PyTorch.

    With n <= correction the divisor counts as 0: NaN for equal elements (a single one), infinity otherwise.
    """
    return _var("var", input, dim, keepdim, correction, unbiased)


def std(input: Any, dim: Dim = None, keepdim: bool = False, *, correction: float = 1, unbiased: bool | None = None) -> Any:
    """Standard deviation: the square root of `var`; the gradient where it is 0 is taken as 0."""
    return _root(_var("std", input, dim, keepdim, correction, unbiased), 2.0)


class Extremum(Op):
    """Largest or smallest element over axes; ties share the gradient equally."""

    name, backward_on_tensors = "amax", True

    @staticmethod
    def shape(kind: str, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> Shape:
        for a in axes:
            if x.shape[a] == 0:
                raise ArgumentError(f"[{kind}] axis {a} of shape {x.shape} is empty: it has no largest or smallest element")
        return _reduced_shape(x.shape, axes, keepdim)

    @staticmethod
    def forward(ctx: Any, kind: str, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        Extremum.shape(kind, x, axes, keepdim)
        y = _reduce(kind[-3:], x, axes, keepdim)  # max, amax: one kernel
        ctx.save(x, y)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved
        hit = (x.data == y.data.reshape(_kept_shape(x.data.shape, ctx.axes))).astype(x.data.dtype)
        hit /= np.maximum(hit.sum(axis=ctx.axes, keepdims=True), 1)
        return None, _e.mul(_expand_back(g, x.data.shape, ctx.axes), wrap(hit))


def _extremum(kind: str, input: Any, dim: Dim, keepdim: bool) -> Any:
    axes = normalize_axes(kind, dim, input.data.ndim)
    if input.data.dtype not in FLOATS:
        Extremum.shape(kind, input.data, axes, keepdim)
        return wrap(np.asarray(getattr(input.data, kind[-3:])(axis=axes, keepdims=keepdim)))
    return apply(Extremum, kind, input, axes, keepdim)


def _over_axes(kind: str, doc: str) -> Callable[..., Any]:
    def function(input: Any, dim: Dim = None, keepdim: bool = False) -> Any:
        return _extremum(kind, input, dim, keepdim)

    return named(function, kind, doc)


amax = _over_axes("amax", "Largest element over axes; NaN if there is one; ties share the gradient.")
amin = _over_axes("amin", "Smallest element over axes; NaN if there is one; ties share the gradient.")


def _arg(kind: str, input: Any, dim: int | None, keepdim: bool) -> Any:
    axes = normalize_axes(kind, dim, input.data.ndim)
    x = input.data
    Extremum.shape(kind, x, axes, keepdim)
    if x.dtype not in FLOATS:
        found = getattr(np, kind)(x, axis=dim, keepdims=keepdim)
        return wrap(np.asarray(found, np.int64))
    x = x if dim is not None else contiguous(x)  # the flat position counts in row-major order
    return wrap(_reduce(kind, x, axes, keepdim, np.int64))


def _position(kind: str, which: str) -> Callable[..., Any]:
    def function(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        return _arg(kind, input, dim, keepdim)

    doc = f"Position of the {which} element along an axis (in the flat order without one); the first of equals. int64."
    return named(function, kind, doc)


argmax, argmin = _position("argmax", "largest"), _position("argmin", "smallest")


def _with_indices(kind: str, input: Any, dim: Any, keepdim: bool) -> Any:
    from pydl.ops.index import take_along_dim
    from pydl.ops.shape import squeeze

    if dim is None:
        return _extremum(kind, input, None, keepdim)
    if isinstance(dim, TensorCore):
        return (_e.maximum if kind == "max" else _e.minimum)(input, dim)
    dim = normalize_axis(kind, dim, input.data.ndim)
    indices = _arg("arg" + kind, input, dim, True)
    values = take_along_dim(input, indices, dim)
    return ValuesIndices(values, indices) if keepdim else ValuesIndices(squeeze(values, dim), squeeze(indices, dim))


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Without `dim`: the largest element. With it: ``(values, indices)`` along the axis; the gradient goes to that element.

    With a tensor instead of `dim`: the larger of each pair (`maximum`).
    """
    return _with_indices("max", input, dim, keepdim)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Without `dim`: the smallest element. With it: ``(values, indices)`` along the axis."""
    return _with_indices("min", input, dim, keepdim)


class LogSumExp(Op):
    name, backward_on_tensors, flops_per_element = "logsumexp", True, 3  # subtract, exponential, add
    shape = Sum.shape

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        top = _reduce("max", x, axes, True) if x.size else np.zeros(_kept_shape(x.shape, axes), x.dtype)
        top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
        total = _reduce("sum", run_map("exp", run_map("sub", x, top)), axes, True)
        y = run_map("add", run_map("log", total), top).reshape(_reduced_shape(x.shape, axes, keepdim))
        ctx.save(x, y)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """The softmax; 0 for a group of only -inf, whose sum no finite change would move."""
        x, y = ctx.saved
        y = masked_fill(y, wrap(np.isneginf(y.data)), 0.0)
        shares = _e.exp(_e.sub(x, _expand_back(y, x.data.shape, ctx.axes)))
        return _e.mul(_expand_back(g, x.data.shape, ctx.axes), shares)


def logsumexp(input: Any, dim: Dim = None, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) with the maximum taken out first, so that nothing overflows; -inf where all are -inf."""
    check_float("logsumexp", input.data)
    return apply(LogSumExp, input, normalize_axes("logsumexp", dim, input.data.ndim), keepdim)


def norm(input: Any, p: float | str = 2.0, dim: Dim = None, keepdim: bool = False) -> Any:
    """Vector p-norm over axes: (sum |x|^p)^(1/p); p = inf the largest magnitude, p = 0 the count of non-zeros.

    The gradient of the 2-norm at the zero vector is taken as 0.
    """
    check_float("norm", input.data)
    axes = normalize_axes("norm", dim, input.data.ndim)
    p = 2.0 if p == "fro" else float(p)
    if p in _EASY_NORMS:
        reduce, magnitude = _EASY_NORMS[p]
        return reduce(magnitude(input), axes, keepdim)
    powers = _e.square(input) if p == 2 else _e.pow(_e.abs(input), p)
    return _root(sum(powers, axes, keepdim), p)


# p-norms that need no power and no root.
_EASY_NORMS: dict[float, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    math.inf: (amax, _e.abs), -math.inf: (amin, _e.abs), 1.0: (sum, _e.abs), 0.0: (sum, lambda x: cast(ne(x, 0.0), x.data.dtype)),
}


class Prod(Op):
    name = "prod"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        ctx.save(x)
        ctx.axes = axes
        return _reduce("prod", x, axes, keepdim)

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> np.ndarray:
        """The product of all the others: exclusive products from both ends, right with zeros too."""
        (x,) = ctx.saved
        kept = [a for a in range(x.ndim) if a not in ctx.axes]
        flat = x.transpose(kept + list(ctx.axes)).reshape([x.shape[a] for a in kept] + [-1])
        before, after = np.ones_like(flat), np.ones_like(flat)
        np.cumprod(flat[..., :-1], axis=-1, out=before[..., 1:])
        after[..., :-1] = np.cumprod(flat[..., :0:-1], axis=-1)[..., ::-1]
        others = (before * after).reshape([x.shape[a] for a in kept] + [x.shape[a] for a in ctx.axes])
        others = others.transpose(np.argsort(kept + list(ctx.axes)))
        return others * g.reshape(_kept_shape(x.shape, ctx.axes))


def prod(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Product over axes (all by default); of no elements, 1. Integers and booleans give int64."""
    return _total(Prod, input, dim, keepdim, dtype)


class Cumsum(Op):
    name, backward_on_tensors = "cumsum", True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int) -> np.ndarray:
        ctx.dim = dim
        x = contiguous(x)
        out = empty(x.shape, x.dtype)
        outer = math.prod(x.shape[:dim])
        shape = (outer, x.shape[dim], math.prod(x.shape[dim + 1 :]))
        _core.cumsum(x.reshape(shape), out.reshape(shape))
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.shape import flip

        return flip(cumsum(flip(g, ctx.dim), ctx.dim), ctx.dim)


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Running sum along an axis: y_i = x_0 + ... + x_i; integers and booleans give int64."""
    input = _converted(input, dtype)
    dim = normalize_axis("cumsum", dim, input.data.ndim)
    if input.data.dtype not in FLOATS:
        return wrap(np.cumsum(input.data, axis=dim, dtype=np.int64).reshape(input.data.shape))
    return apply(Cumsum, input, dim) if input.data.ndim else input


def _truth(name: str, reduce: Any, doc: str) -> Callable[..., Any]:
    def function(input: Any, dim: Dim = None, keepdim: bool = False) -> Any:
        axes = normalize_axes(name, dim, input.data.ndim)
        return wrap(np.asarray(reduce(input.data, axis=axes, keepdims=keepdim)))

    return named(function, name, doc)


any = _truth("any", np.any, "Whether any element over the axes is non-zero: a bool tensor.")
all = _truth("all", np.all, "Whether all elements over the axes are non-zero: a bool tensor.")


def count_nonzero(input: Any, dim: Dim = None) -> Any:
    """How many elements over the axes are not zero: int64."""
    axes = normalize_axes("count_nonzero", dim, input.data.ndim)
    return wrap(np.asarray(np.count_nonzero(input.data, axis=axes), np.int64))
