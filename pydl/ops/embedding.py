"""Rows of a table by index, and bags of rows (kernels: csrc/cpu/embedding.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import as_tensor, check_floating, contiguous, empty

__all__ = ["embedding", "embedding_bag", "embedding_dots"]

_MODES = ("sum", "mean", "max")
_NO_PADDING = -1


# ---------------------------------------------------------------- arguments
def _flat_index(index: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(index, np.int64).reshape(-1)


def _check_table(op: str, weight: np.ndarray, index: np.ndarray, *more: np.ndarray | None) -> None:
    check_floating(op, weight=weight, **{f"argument {i}": a for i, a in enumerate(more)})
    if weight.ndim != 2:
        raise ShapeError(f"[{op}] weight of shape {weight.shape}; expected (rows, features)")
    if index.dtype.kind not in "iu":
        raise DTypeError(f"[{op}] input must hold integers, got {index.dtype}; the arguments are (input, weight)")


def _fail_outside(op: str, index: np.ndarray, bad: int, rows: int) -> None:
    """Raise if the kernel found an index out of range at this position."""
    if bad < 0:
        return
    at = tuple(int(i) for i in np.unravel_index(bad, index.shape))
    raise ArgumentError(f"[{op}] index {index.reshape(-1)[bad]} at position {at} of input {index.shape} is out of range for a "
                        f"weight of {rows} rows; expected 0 to {rows - 1}")


def _padding_row(op: str, padding_idx: int | None, rows: int) -> int:
    if padding_idx is None:
        return _NO_PADDING
    if not -rows <= padding_idx < rows:
        raise ArgumentError(f"[{op}] padding_idx={padding_idx} is out of range for a weight of {rows} rows")
    return padding_idx % rows


def _refuse_sparse(op: str, sparse: bool) -> None:
    if sparse:
        raise ArgumentError(f"[{op}] sparse=True: sparse gradients are not available; sparse=False gives the same numbers")


def _limit_norm(op: str, weight: Any, index: np.ndarray, max_norm: float, norm_type: float) -> None:
    """Scale the named rows down to max_norm, in place, as PyTorch does (not recorded on the tape)."""
    table = weight.data
    used = np.unique(index)
    if used.size == 0:
        return
    if used[0] < 0 or used[-1] >= len(table):
        bad = int(np.flatnonzero((index.reshape(-1) < 0) | (index.reshape(-1) >= len(table)))[0])
        _fail_outside(op, index, bad, len(table))
    norms = np.linalg.norm(table[used], norm_type, axis=1)
    large = norms > max_norm
    if large.any():
        table[used[large]] *= (max_norm / (norms[large] + 1e-7))[:, None].astype(table.dtype)
        weight.bump_version()


# ---------------------------------------------------------------- one row for each index
class Embedding(Op):
    name, backward_on_tensors = "embedding", True

    @staticmethod
    def forward(ctx: Any, index: np.ndarray, weight: np.ndarray, padding: int, by_frequency: bool) -> np.ndarray:
        _check_table("embedding", weight, index)
        out = empty((*index.shape, weight.shape[1]), weight.dtype)
        bad = _core.embedding(contiguous(weight), _flat_index(index), out.reshape(index.size, weight.shape[1]))
        _fail_outside("embedding", index, bad, weight.shape[0])
        ctx.save(index)
        ctx.constants = weight.shape[0], padding, by_frequency
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (index,) = ctx.saved
        return None, apply(EmbeddingGrad, g, index, *ctx.constants)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(0, 2 * math.prod(out_shape) * args[1].itemsize + args[0].nbytes)


class EmbeddingGrad(Op):
    """The gradient rows added up per table row, in the order of the indices; the padding row gets zeros."""

    name, backward_on_tensors = "embedding_grad", True

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, index: np.ndarray, rows: int, padding: int, by_frequency: bool) -> np.ndarray:
        flat = _flat_index(index)
        out = empty((rows, g.shape[-1]), g.dtype)
        _core.embedding_backward(contiguous(g).reshape(flat.size, g.shape[-1]), flat, None, None, out, padding, by_frequency)
        ctx.save(index)
        ctx.constants = padding, by_frequency
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.elementwise import mul

        (index,), (padding, by_frequency) = ctx.saved, ctx.constants
        out = apply(Embedding, index, g, _NO_PADDING, False)
        factor = (index.data != padding).astype(g.data.dtype)
        if by_frequency and index.data.size:
            factor /= np.bincount(_flat_index(index.data))[index.data]
        return mul(out, wrap(factor[..., None]))


def embedding(
    input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Any:
    """The rows of a table that integers name.

    Shapes: input (...), weight (V, D) -> (..., D).

    Parameters
    ----------
    padding_idx: this row gets no gradient (negative counts from the end); its values are read like any others.
    max_norm: named rows with a larger norm are scaled down to it first, in place.
    scale_grad_by_freq: divide each row's gradient by how often the row is named.

    >>> import pydl
    >>> pydl.embedding([2, 0], pydl.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    tensor([[4., 5.],
            [0., 1.]])

    Raises `ArgumentError` that names the first index out of range and its position.
    """
    _refuse_sparse("embedding", sparse)
    input = as_tensor(input)
    _check_table("embedding", weight.data, input.data)
    padding = _padding_row("embedding", padding_idx, weight.data.shape[0])
    if max_norm is not None:
        _limit_norm("embedding", weight, input.data, max_norm, norm_type)
    return apply(Embedding, input, weight, padding, scale_grad_by_freq)


# ---------------------------------------------------------------- bags of rows
class EmbeddingBag(Op):
    name = "embedding_bag"

    @staticmethod
    def forward(
        ctx: Any, index: np.ndarray, weight: np.ndarray, offsets: np.ndarray, scale: np.ndarray | None, mode: str, padding: int,
        by_frequency: bool,
    ) -> np.ndarray:
        table, flat = contiguous(weight), _flat_index(index)
        factors = None if scale is None else contiguous(scale).reshape(-1)
        shape = (offsets.size - 1, weight.shape[1])
        out = empty(shape, weight.dtype)
        largest = empty(shape, np.int64) if mode == "max" else None
        bad = _core.embedding_bag(_MODES.index(mode), table, flat, offsets, factors, padding, out, largest)
        _fail_outside("embedding_bag", index, bad, weight.shape[0])
        ctx.save(weight if ctx.needs[3] else None, scale, flat, offsets, largest)
        ctx.constants = weight.shape, mode, padding, by_frequency
        return out

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        weight, scale, index, offsets, largest = ctx.saved
        shape, mode, padding, by_frequency = ctx.constants
        g = contiguous(g)
        bag = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))  # the bag of each position
        dw = ds = None
        if ctx.needs[1]:
            dw = empty(shape, g.dtype)
            if mode == "max":
                _core.embedding_max_backward(g, largest, index, dw)
            else:
                factors = None if scale is None else contiguous(scale).reshape(-1)
                if mode == "mean":
                    counts = np.bincount(bag[index != padding], minlength=offsets.size - 1)
                    factors = (1 / np.maximum(counts, 1))[bag].astype(g.dtype)
                _core.embedding_backward(g, index, bag, factors, dw, padding, by_frequency)
        if ctx.needs[3]:
            ds = empty(index.shape, g.dtype)
            _core.embedding_dots(g, contiguous(weight), index, bag, ds, padding)
            ds = ds.reshape(scale.shape)
        return None, dw, None, ds

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        read = args[0].size * out_shape[1]
        return Cost(read, (read + math.prod(out_shape)) * args[1].itemsize + args[0].nbytes)


def _bag_limits(index: np.ndarray, offsets: Any, include_last_offset: bool) -> np.ndarray:
    """Where each bag begins, and the end of the last: rows of a matrix, or as `offsets` say."""
    if index.ndim == 2:
        if offsets is not None:
            raise ArgumentError(f"[embedding_bag] offsets are for a vector; the rows of input {index.shape} are the bags")
        return np.arange(index.shape[0] + 1, dtype=np.int64) * index.shape[1]
    if index.ndim != 1:
        raise ShapeError(f"[embedding_bag] input of shape {index.shape}; expected a vector with offsets or a matrix of bags")
    if offsets is None:
        raise ArgumentError("[embedding_bag] a vector of indices needs offsets: where each bag begins")
    limits = as_tensor(offsets).data
    if limits.ndim != 1 or limits.dtype.kind not in "iu":
        raise ArgumentError(f"[embedding_bag] offsets of shape {limits.shape} and type {limits.dtype}; expected a vector of "
                            "integers")
    limits = limits.astype(np.int64)
    if not include_last_offset:
        limits = np.append(limits, index.size)
    if limits.size == 0 or limits[0] != 0 or (np.diff(limits) < 0).any() or limits[-1] > index.size:
        raise ArgumentError(f"[embedding_bag] offsets {as_tensor(offsets).data.tolist()} for {index.size} indices; expected "
                            "rising numbers that begin with 0 and stay within the input")
    return limits


def embedding_bag(
    input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Any = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> Any:
    """The sum, mean or maximum of the rows that each bag of integers names, without making the rows.

    Shapes: input (B, n), or (n) with offsets (B); weight (V, D) -> (B, D). An empty bag gives 0.

    >>> import pydl
    >>> pydl.embedding_bag([[0, 1], [1, 1]], pydl.tensor([[0.0], [4.0]]))
    tensor([[2.],
            [4.]])

    Parameters
    ----------
    offsets: where each bag begins in a vector; with `include_last_offset` also where the last one ends.
    per_sample_weights: factors of the rows, of the shape of input; only for ``mode="sum"``.
    padding_idx: indices that do not count; see `embedding` for the others.
    """
    _refuse_sparse("embedding_bag", sparse)
    input = as_tensor(input)
    if mode not in _MODES:
        raise ArgumentError(f"[embedding_bag] mode={mode!r}; expected sum, mean or max")
    scale = None if per_sample_weights is None else per_sample_weights.data
    _check_table("embedding_bag", weight.data, input.data, scale)
    if scale is not None and (mode != "sum" or scale.shape != input.data.shape):
        raise ArgumentError(f"[embedding_bag] per_sample_weights of shape {scale.shape} with mode={mode!r}; expected "
                            f"{input.data.shape} and mode='sum'")
    if scale_grad_by_freq and mode == "max":
        raise ArgumentError("[embedding_bag] scale_grad_by_freq does not go with mode='max'")
    limits = _bag_limits(input.data, offsets, include_last_offset)
    padding = _padding_row("embedding_bag", padding_idx, weight.data.shape[0])
    if max_norm is not None:
        _limit_norm("embedding_bag", weight, input.data, max_norm, norm_type)
    used = input if limits[-1] == input.data.size else input[: int(limits[-1])]
    if per_sample_weights is not None and used is not input:
        per_sample_weights = per_sample_weights[: int(limits[-1])]
    return apply(EmbeddingBag, used, weight, limits, per_sample_weights, mode, padding, scale_grad_by_freq)


# ---------------------------------------------------------------- products with rows
class EmbeddingDots(Op):
    name = "embedding_dots"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        flat, source = _flat_index(index), np.repeat(np.arange(len(index)), index.shape[1])
        outside = (flat < 0) | (flat >= len(weight))
        _fail_outside("embedding_dots", index, int(outside.argmax()) if outside.any() else -1, len(weight))
        out = empty(flat.shape, weight.dtype)
        _core.embedding_dots(contiguous(x), contiguous(weight), flat, source, out, _NO_PADDING)
        ctx.save(x, weight, flat, source)
        return out.reshape(index.shape)

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        x, weight, flat, source = ctx.saved
        scale, dx, dw = contiguous(g).reshape(-1), None, None
        if ctx.needs[0]:
            dx = empty(x.shape, x.dtype)
            limits = np.arange(len(x) + 1, dtype=np.int64) * g.shape[1]
            _core.embedding_bag(_MODES.index("sum"), contiguous(weight), flat, limits, scale, _NO_PADDING, dx, None)
        if ctx.needs[2]:
            dw = empty(weight.shape, weight.dtype)
            _core.embedding_backward(contiguous(x), flat, source, scale, dw, _NO_PADDING, False)
        return dx, None, dw

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, index = args[0], args[1]
        return Cost(2 * math.prod(out_shape) * x.shape[1], (math.prod(out_shape) * (x.shape[1] + 1) + x.size) * x.itemsize
                    + index.nbytes)


def embedding_dots(input: Any, index: Any, weight: Any) -> Any:
    """The scalar product of each vector with each row of a table that its integers name, without making those rows.

    Shapes: input (N, D), index (N, K), weight (V, D) -> (N, K). out[n, k] = input[n] . weight[index[n, k]].

    >>> import pydl
    >>> pydl.embedding_dots(pydl.tensor([[1.0, 2.0]]), [[1, 0]], pydl.tensor([[3.0, 0.0], [0.0, 5.0]]))
    tensor([[10.,  3.]])

    Raises `ArgumentError` that names the first index out of range and its position. It scores a few of many words, as
    negative sampling does (Mikolov et al. 2013).
    """
    index = as_tensor(index)
    _check_table("embedding_dots", weight.data, index.data, input.data)
    shapes = input.data.shape, index.data.shape, weight.data.shape
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][0] or shapes[0][1] != shapes[2][1]:
        raise ShapeError(f"[embedding_dots] input {shapes[0]}, index {shapes[1]}, weight {shapes[2]}; expected (N, D), (N, K) "
                         "and (V, D)")
    return apply(EmbeddingDots, input, index, weight)
