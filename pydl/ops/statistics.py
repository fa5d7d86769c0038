"""Statistics: quantiles, variation without NaN, covariance, counts and histograms, places in a sorted row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor, check_float, normalize_axis
from pydl.ops.comparison import isnan, logical_not, masked_fill
from pydl.ops.composed import lerp
from pydl.ops.convert import cast
from pydl.ops.elementwise import clamp, div, mul, sqrt, sub
from pydl.ops.index import gather, index_select
from pydl.ops.matmul import matmul
from pydl.ops.reduce import Dim, ValuesIndices, amax, amin, mean, std, sum, var
from pydl.ops.shape import diagonal, flatten, movedim, reshape, squeeze, transpose, unsqueeze
from pydl.ops.sort import median, sort

__all__ = [
    "aminmax", "bincount", "bucketize", "corrcoef", "cov", "histc", "mode", "msort", "nanmean", "nanmedian", "nanquantile",
    "nansum", "quantile", "searchsorted", "std_mean", "unique_consecutive", "var_mean",
]


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Any
    max: Any


def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest element, of all or along an axis: ``(min, max)``."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


def var_mean(input: Any, dim: Dim = None, keepdim: bool = False, *, correction: float = 1) -> tuple[Any, Any]:
    """`var` and `mean` over the same axes."""
    return var(input, dim, keepdim, correction=correction), mean(input, dim, keepdim)


def std_mean(input: Any, dim: Dim = None, keepdim: bool = False, *, correction: float = 1) -> tuple[Any, Any]:
    """`std` and `mean` over the same axes."""
    return std(input, dim, keepdim, correction=correction), mean(input, dim, keepdim)


def nansum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum over axes with NaN counted as 0."""
    return sum(masked_fill(input, isnan(input), 0.0), dim, keepdim, dtype=dtype)


def nanmean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over axes of what is not NaN; NaN where nothing is."""
    counts = sum(cast(logical_not(isnan(input)), input.data.dtype), dim, keepdim)
    return div(nansum(input, dim, keepdim, dtype=dtype), counts)


# --------------------------------------------------------------------------- order


_BETWEEN = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(
    op: str, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool
) -> Any:
    check_float(op, input.data)
    if interpolation not in _BETWEEN:
        raise ArgumentError(f"[{op}] interpolation={interpolation!r}; expected one of {', '.join(_BETWEEN)}")
    wanted = np.asarray(q if isinstance(q, int | float) else as_tensor(q).data, np.float64)
    if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ArgumentError(f"[{op}] q={q}; expected a number from 0 to 1, or a vector of them")
    if not input.data.size:
        raise ShapeError(f"[{op}] input of shape {input.data.shape} is empty: it has no quantile")
    axis = normalize_axis(op, dim, input.data.ndim) if dim is not None else 0
    line = flatten(input) if dim is None or not input.data.ndim else movedim(input, axis, -1)
    ordered = sort(line, -1).values  # NaN stands last
    missing = np.isnan(line.data).sum(-1, keepdims=True)
    last = line.data.shape[-1] - 1 - (missing if ignore_nan else 0)
    place = np.broadcast_to(wanted.reshape(-1) * np.maximum(last, 0), (*line.data.shape[:-1], wanted.size))
    low, high = np.floor(place), np.ceil(place)
    if interpolation == "nearest":
        low = high = np.round(place)
    low, high = (high if interpolation == "higher" else low), (low if interpolation == "lower" else high)
    share = np.full_like(place, 0.5) if interpolation == "midpoint" else place - low
    below, above = (gather(ordered, -1, wrap(i.astype(np.int64))) for i in (low, high))
    out = lerp(below, above, wrap(share.astype(line.data.dtype)))
    if not ignore_nan:
        out = masked_fill(out, wrap(np.broadcast_to(missing > 0, out.data.shape)), float("nan"))
    out = movedim(out, -1, 0)
    if keepdim:
        out = reshape(out, (-1, *(1,) * input.data.ndim)) if dim is None else unsqueeze(out, axis + 1)
    return out if wanted.ndim else squeeze(out, 0)


def quantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """The value below which the share q of the elements lies, of all or along an axis; NaN where there is a NaN.

    With a vector q the quantiles stand along a new first axis. `interpolation` ("linear", "lower", "higher", "midpoint",
    "nearest") says what lies between two elements.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """`quantile` of what is not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of what is not NaN: of an even number of elements the lower of the two in the middle; NaN if all are.

    Without `dim` a scalar tensor; with it ``(values, indices)``.
    """
    axis = normalize_axis("nanmedian", dim, input.data.ndim) if dim is not None else 0
    line = flatten(input) if dim is None else input
    if not line.data.ndim:
        return median(line, dim, keepdim)
    order = np.argsort(line.data, axis, kind="stable")
    count = np.isfinite(line.data) | np.isinf(line.data)
    middle = np.maximum(count.sum(axis, keepdims=True) - 1, 0) // 2
    places = wrap(np.take_along_axis(order, middle, axis))
    values = gather(line, axis, places)
    if dim is None:
        return squeeze(values, 0)
    return ValuesIndices(values, places) if keepdim else ValuesIndices(squeeze(values, axis), squeeze(places, axis))


def msort(input: Any) -> Any:
    """The elements in rising order along the first axis."""
    return sort(input, 0).values


def mode(input: Any, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The most frequent element along an axis, the smallest of several, and its last position: ``(values, indices)``."""
    axis = normalize_axis("mode", dim, input.data.ndim)
    if not input.data.ndim:
        return ValuesIndices(input, wrap(np.zeros((), np.int64)))
    lines = np.moveaxis(input.data, axis, -1)
    places = np.empty((*lines.shape[:-1], 1), np.int64)
    for at in np.ndindex(lines.shape[:-1]):
        values, counts = np.unique(lines[at], return_counts=True)
        places[at] = np.flatnonzero(lines[at] == values[counts.argmax()])[-1]
    indices = wrap(np.ascontiguousarray(np.moveaxis(places, -1, axis)))
    found = gather(input, axis, indices)
    return ValuesIndices(found, indices) if keepdim else ValuesIndices(squeeze(found, axis), squeeze(indices, axis))


# --------------------------------------------------------------------------- covariance


def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """Covariances of variables (rows) over observations (columns): (v, n) -> (v, v); a vector gives its variance.

    Parameters
    ----------
    correction : int
        The sum of products is divided by n - correction.
    fweights, aweights : Tensor (n,), optional
        How often each observation counts; how much it weighs.
    """
    if input.data.ndim > 2:
        raise ShapeError(f"[cov] input of shape {input.data.shape}; expected (variables, observations) or a vector")
    x = input if input.data.ndim == 2 else reshape(input, (1, -1))
    n = x.data.shape[1]
    frequency = np.ones(n) if fweights is None else np.asarray(as_tensor(fweights).data, np.float64)
    importance = np.ones(n) if aweights is None else np.asarray(as_tensor(aweights).data, np.float64)
    for name, w in (("fweights", frequency), ("aweights", importance)):
        if w.shape != (n,) or (w < 0).any():
            raise ArgumentError(f"[cov] {name} of shape {w.shape}; expected {n} numbers that are not negative")
    weights = frequency * importance
    total = weights.sum()
    divisor = total - correction * (weights * importance).sum() / total if aweights is not None else total - correction
    w = wrap(weights.astype(x.data.dtype))
    centred = sub(x, div(sum(mul(x, w), 1, keepdim=True), float(total)))
    out = div(matmul(mul(centred, w), transpose(centred, 0, 1)), float(max(divisor, 0)))
    return out if input.data.ndim == 2 else reshape(out, ())


def corrcoef(input: Any) -> Any:
    """Correlation coefficients of variables (rows) over observations (columns): (v, n) -> (v, v), within [-1, 1]."""
    c = cov(input)
    if not c.data.ndim:
        return div(c, c)
    deviation = sqrt(diagonal(c))
    return clamp(div(div(c, unsqueeze(deviation, 1)), unsqueeze(deviation, 0)), -1.0, 1.0)


# --------------------------------------------------------------------------- counts


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each number from 0 occurs in a vector of integers: int64; or the sum of the weights of its places."""
    x = input.data
    if x.ndim != 1 or x.dtype.kind not in "iub":
        raise DTypeError(f"[bincount] input of shape {x.shape} and type {x.dtype}; expected a vector of integers")
    if x.size and x.min() < 0:
        raise ArgumentError(f"[bincount] input holds {x.min()}; expected numbers from 0")
    counts = np.bincount(x, minlength=minlength)
    if weights is None:
        return wrap(counts.astype(np.int64))
    if weights.data.shape != x.shape:
        raise ShapeError(f"[bincount] weights of shape {weights.data.shape}; expected that of input, {x.shape}")
    from pydl.ops.index import index_add

    return index_add(wrap(np.zeros(len(counts), weights.data.dtype)), 0, input, weights)


def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements lie in each of `bins` equal parts of [min, max] (of the range of the elements if both are 0)."""
    check_float("histc", input.data)
    if bins < 1 or min > max:
        raise ArgumentError(f"[histc] bins={bins}, min={min}, max={max}; expected bins > 0 and min <= max")
    x = input.data.ravel()
    if min == max == 0 and x.size:
        min, max = float(x.min()), float(x.max())
    if min == max:
        min, max = min - 1, max + 1
    return wrap(np.histogram(x, bins, (min, max))[0].astype(x.dtype))


def searchsorted(
    sorted_sequence: Any, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
) -> Any:
    """Where values would have to be put to keep a row in order: before equal elements, or behind them with ``right``.

    Shapes: (n,) and any -> that of `values`; (..., n) and (..., m) with the same axes in front -> (..., m). int64.
    """
    row, v = sorted_sequence.data, np.asarray(as_tensor(values, sorted_sequence).data)
    if side not in (None, "left", "right"):
        raise ArgumentError(f"[searchsorted] side={side!r}; expected 'left' or 'right'")
    where: Any = "right" if right or side == "right" else "left"
    dtype = np.int32 if out_int32 else np.int64
    if row.ndim == 1:
        return wrap(np.asarray(np.searchsorted(row, v, where), dtype))
    if row.shape[:-1] != v.shape[:-1]:
        raise ShapeError(f"[searchsorted] sorted_sequence {row.shape} and values {v.shape}; expected all axes but the last equal")
    out = np.empty(v.shape, dtype)
    for at in np.ndindex(row.shape[:-1]):
        out[at] = np.searchsorted(row[at], v[at], where)
    return wrap(out)


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between `boundaries` (rising) in which each element lies; see `searchsorted`."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements (or slices along `dim`) without those that equal the one before.

    Returns the values, or a tuple with the number of the run that each belongs to and the lengths of the runs.
    """
    axis = normalize_axis("unique_consecutive", dim, input.data.ndim) if dim is not None else 0
    x = flatten(input) if dim is None else input
    n = x.data.shape[axis]
    rows = np.moveaxis(x.data, axis, 0).reshape(n, -1)
    first = np.ones(n, bool)
    first[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(first)
    result = [index_select(x, axis, wrap(starts))]
    if return_inverse:
        inverse = np.cumsum(first, dtype=np.int64) - 1
        result.append(wrap(inverse.reshape(input.data.shape) if dim is None else inverse))
    if return_counts:
        result.append(wrap(np.diff(np.append(starts, n)).astype(np.int64)))
    return tuple(result) if len(result) > 1 else result[0]
