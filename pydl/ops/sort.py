"""Order along an axis: sort, top-k, k-th value, median, distinct values. The order is NumPy's, the values are gathered."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor, normalize_axis
from pydl.ops.index import gather
from pydl.ops.reduce import ValuesIndices
from pydl.ops.shape import flatten, reshape, squeeze

__all__ = ["argsort", "kthvalue", "median", "sort", "topk", "unique"]


def _order(x: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """Stable in both directions: equal elements keep their order; NaN counts as the largest."""
    if x.ndim == 0:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    reverse = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(reverse, dim)


def _pick(input: Any, dim: int, indices: np.ndarray) -> ValuesIndices:
    """The values at the indices, differentiable, beside the indices."""
    positions = wrap(np.ascontiguousarray(indices, np.int64).reshape(indices.shape))
    if input.data.ndim == 0:
        return ValuesIndices(reshape(input, ()), positions)
    return ValuesIndices(gather(input, dim, positions), positions)


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The indices that sort along an axis; always stable, NaN last (first when descending). Shape: the input's, int64."""
    input = as_tensor(input)
    order = _order(input.data, normalize_axis("argsort", dim, input.data.ndim), descending)
    return wrap(np.ascontiguousarray(order, np.int64).reshape(order.shape))


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """The elements in order along an axis, and where they were: ``(values, indices)``, both of the input's shape.

    Always stable, whatever `stable` says; NaN counts as the largest. The gradient goes back to where each value was.
    """
    input = as_tensor(input)
    dim = normalize_axis("sort", dim, input.data.ndim)
    return _pick(input, dim, _order(input.data, dim, descending))


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The k largest (or smallest) elements along an axis and their positions: ``(values, indices)``.

    Shape: (..., n, ...) -> (..., k, ...). Sorted from the best; among equal elements in the result the earlier one comes
    first, which of several equal ones is left out at the border is not specified. NaN counts as the largest.
    """
    input = as_tensor(input)
    x = input.data
    dim = normalize_axis("topk", dim, x.ndim)
    n = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= n:
        raise ArgumentError(f"[topk] k={k} for an axis of size {n} (input of shape {x.shape}); expected 0 to {n}")
    if x.ndim == 0 or k == 0 or k == n:
        order = _order(x, dim, largest)
        return _pick(input, dim, order if x.ndim == 0 else _head(order, dim, k))
    part = np.argpartition(x, n - k if largest else k - 1, axis=dim)
    best = np.take(part, np.arange(n - k, n) if largest else np.arange(k), axis=dim)
    if sorted:
        best.sort(axis=dim)  # by position first, so that the stable sort leaves ties in this order
        values = np.take_along_axis(x, best, dim)
        best = np.take_along_axis(best, _order(values, dim, largest), dim)
    return _pick(input, dim, best)


def _head(order: np.ndarray, dim: int, k: int) -> np.ndarray:
    return order[(slice(None),) * dim + (slice(0, k),)]


def _kth(x: np.ndarray, k: int, dim: int) -> np.ndarray:
    """The position of the k-th smallest (from 0) along an axis, keeping the axis; the earliest of equal elements."""
    value = np.take(np.partition(x, k, axis=dim), [k], axis=dim)
    equal = (x == value) | (np.isnan(x) & np.isnan(value)) if x.dtype.kind == "f" else x == value
    return equal.argmax(axis=dim, keepdims=True)


def _along(name: str, input: Any, dim: int, k: int | None, keepdim: bool) -> ValuesIndices:
    """`kthvalue` and `median` (k is None): one element of each line along `dim`."""
    x = input.data
    dim = normalize_axis(name, dim, x.ndim)
    n = x.shape[dim] if x.ndim else 1
    if n == 0:
        raise ArgumentError(f"[{name}] axis {dim} of input {x.shape} is empty")
    if x.ndim == 0:
        return _pick(input, 0, np.zeros((), np.int64))
    indices = _kth(x, (n - 1) // 2 if k is None else k, dim)
    if k is None and x.dtype.kind == "f":  # NaN anywhere makes the median NaN, as in PyTorch
        nan = np.isnan(x)
        indices = np.where(nan.any(axis=dim, keepdims=True), nan.argmax(axis=dim, keepdims=True), indices)
    values, positions = _pick(input, dim, indices)
    return ValuesIndices(values, positions) if keepdim else ValuesIndices(squeeze(values, dim), squeeze(positions, dim))


def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The k-th smallest element (from 1) along an axis and its position: ``(values, indices)``, without that axis."""
    input = as_tensor(input)
    n = input.data.shape[normalize_axis("kthvalue", dim, input.data.ndim)] if input.data.ndim else 1
    if not 1 <= k <= n:
        raise ArgumentError(f"[kthvalue] k={k} for an axis of size {n}; expected 1 to {n}")
    return _along("kthvalue", input, dim, k - 1, keepdim)


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element: of an even number the lower of the two, as in PyTorch; NaN if there is one.

    Without `dim` over all elements, a scalar tensor; with `dim` ``(values, indices)`` along that axis. The gradient goes
    to the element chosen.
    """
    input = as_tensor(input)
    if dim is None:
        return _along("median", flatten(input), 0, None, False).values
    return _along("median", input, dim, None, keepdim)


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements (or, with `dim`, the distinct slices) in ascending order, whatever `sorted` says.

    Returns the values, or a tuple with the index of each input element among them (`return_inverse`) and how often each
    occurs (`return_counts`). Not differentiable.
    """
    x = as_tensor(input).data
    axis = None if dim is None else normalize_axis("unique", dim, x.ndim)
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, axis=axis)
    result = [values]
    if return_inverse:
        result.append(inverse.reshape(x.shape if axis is None else -1))
    if return_counts:
        result.append(counts)
    tensors = tuple(wrap(r) for r in result)
    return tensors if builtins.len(tensors) > 1 else tensors[0]
