"""Reading and writing by position: indexing as in NumPy, gather, scatter, selection, one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import TensorCore, apply, wrap
from pydl.graph.op import Op, Shape
from pydl.ops._common import as_tensor, empty, empty_like, normalize_axis

__all__ = [
    "gather", "getitem", "index_add", "index_select", "masked_select", "nonzero", "one_hot", "scatter", "scatter_add",
    "setitem", "take_along_dim",
]


def _plain(index: Any) -> Any:
    """The index with tensors and lists replaced by ndarrays."""
    if isinstance(index, tuple):
        return tuple(_plain(i) for i in index)
    if isinstance(index, TensorCore):
        index = index.data
    elif isinstance(index, list):
        index = np.asarray(index, None if index else np.int64)
    if isinstance(index, np.ndarray) and index.dtype.kind == "f":
        raise DTypeError(f"[getitem] an index of type {index.dtype}; expected integers or booleans")
    return index


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        p is None or p is Ellipsis or isinstance(p, slice) or (isinstance(p, int | np.integer) and not isinstance(p, bool))
        for p in parts
    )


def _select(x: np.ndarray, index: Any) -> np.ndarray:
    try:
        return x[index]
    except IndexError as error:
        raise ArgumentError(f"[getitem] index does not fit a tensor of shape {x.shape}: {error}") from None


class GetItem(Op):
    name, backward_on_tensors, flops_per_element = "getitem", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, index: Any) -> np.ndarray:
        ctx.original, ctx.index = x.shape, index
        return np.asarray(_select(x, index))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(PutItem, g, ctx.original, ctx.index)


class Slice(GetItem):
    """Basic indexing: a view."""

    name, is_view = "slice", True


class PutItem(Op):
    """Zeros with the values added at the indexed places: the gradient of indexing."""

    name, backward_on_tensors, flops_per_element = "putitem", True, 0

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, shape: Shape, index: Any) -> np.ndarray:
        ctx.index = index
        out = empty(shape, g.dtype)
        out.fill(0)
        if _is_basic(index) or (isinstance(index, np.ndarray) and index.dtype == np.bool_):
            out[index] = g
        else:
            np.add.at(out, index, g)  # one position may be named several times; added in order
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return getitem(g, ctx.index)


def getitem(input: Any, index: Any) -> Any:
    """``input[index]`` as in NumPy: integers, slices, None and ... give views; boolean and integer arrays copies."""
    index = _plain(index)
    return apply(Slice if _is_basic(index) else GetItem, input, index)


def setitem(input: Any, index: Any, value: Any) -> None:
    """``input[index] = value`` in place; the caller checks that no gradient is lost."""
    index = _plain(index)
    value = value.data if isinstance(value, TensorCore) else value
    _select(input.data, index)
    try:
        input.data[index] = value
    except ValueError:
        raise ShapeError(
            f"[setitem] value of shape {np.shape(value)} does not fit the indexed part of shape {input.data[index].shape}"
        ) from None


def _check_index(op: str, index: np.ndarray, size: int, dim: int) -> np.ndarray:
    if index.dtype.kind not in "iu":
        raise DTypeError(f"[{op}] index must be an integer tensor, got {index.dtype}")
    if index.size and (index.min() < 0 or index.max() >= size):
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise ArgumentError(f"[{op}] index {bad} is out of range for axis {dim} of size {size}; expected 0 to {size - 1}")
    return index.astype(np.int64, copy=False)


def _along(shape: Shape, index: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    """Full index arrays: `index` on axis `dim`, own positions on the others."""
    grids = np.ogrid[tuple(slice(n) for n in index.shape)] if index.ndim else []
    return tuple(index if k == dim else grids[k] for k in range(index.ndim))


def _check_along(op: str, x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    if index.ndim != x.ndim or any(
        m > n for k, (m, n) in enumerate(zip(index.shape, x.shape, strict=True)) if k != dim
    ):
        raise ShapeError(
            f"[{op}] index of shape {index.shape} for an input of shape {x.shape}: the same number of axes is expected, and "
            f"no axis but dim={dim} may be longer"
        )
    return _check_index(op, index, x.shape[dim] if x.ndim else 1, dim)


class Gather(Op):
    name, backward_on_tensors, flops_per_element = "gather", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
        index = _check_along("gather", x, index, dim)
        ctx.args = x.shape, dim, index
        return x[_along(x.shape, index, dim)] if index.size else empty(index.shape, x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        shape, dim, index = ctx.args
        zeros = empty(shape, g.data.dtype)
        zeros.fill(0)
        return apply(ScatterAdd, wrap(zeros), dim, wrap(index), g)


def gather(input: Any, dim: int, index: Any) -> Any:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim = 1. Shape: that of `index`."""
    return apply(Gather, input, normalize_axis("gather", dim, input.data.ndim), index)


class ScatterAdd(Op):
    name, backward_on_tensors = "scatter_add", True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        index = _check_along("scatter_add", x, index, dim)
        if any(m > n for m, n in zip(index.shape, src.shape, strict=True)):
            raise ShapeError(f"[scatter_add] index of shape {index.shape} is larger than src of shape {src.shape}")
        ctx.args = dim, index, src.shape
        out = empty_like(x)
        np.copyto(out, x)
        used = src[tuple(slice(n) for n in index.shape)]
        np.add.at(out, _along(x.shape, index, dim), used)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.shape import pad

        dim, index, shape = ctx.args
        d_src = gather(g, dim, wrap(index))
        extra = [v for n, m in reversed(list(zip(index.shape, shape, strict=True))) for v in (0, m - n)]
        return g, None, None, pad(d_src, extra) if any(extra) else d_src


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """input with src added: out[i][index[i][j][k]][k] += src[i][j][k] for dim = 1; added in a fixed order."""
    return apply(ScatterAdd, input, normalize_axis("scatter_add", dim, input.data.ndim), index, src)


class Scatter(Op):
    name, backward_on_tensors, flops_per_element = "scatter", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        index = _check_along("scatter", x, index, dim)
        ctx.args = dim, index
        out = empty_like(x)
        np.copyto(out, x)
        out[_along(x.shape, index, dim)] = src[tuple(slice(n) for n in index.shape)] if src.ndim else src
        ctx.source_shape = src.shape
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.elementwise import mul
        from pydl.ops.shape import pad

        dim, index = ctx.args
        keep = np.ones(g.data.shape, g.data.dtype)
        keep[_along(keep.shape, index, dim)] = 0
        d_src = None
        if ctx.needs[3]:
            d_src = gather(g, dim, wrap(index))
            if not ctx.source_shape:
                d_src = d_src.sum()
            else:
                extra = [v for n, m in reversed(list(zip(index.shape, ctx.source_shape, strict=True))) for v in (0, m - n)]
                d_src = pad(d_src, extra) if any(extra) else d_src
        return mul(g, wrap(keep)), None, None, d_src


def scatter(input: Any, dim: int, index: Any, src: Any) -> Any:
    """input with elements replaced: out[i][index[i][j][k]][k] = src[i][j][k] for dim = 1; src may be a number."""
    return apply(Scatter, input, normalize_axis("scatter", dim, input.data.ndim), index, as_tensor(src, input))


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """The elements that `argmax(keepdim=True)` or `argsort` name; over the flat order without `dim`."""
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    return gather(input, dim, indices)


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices along an axis that a vector of integers names, in its order."""
    dim = normalize_axis("index_select", dim, input.data.ndim)
    index = as_tensor(index).data
    if index.ndim > 1:
        raise ShapeError(f"[index_select] index must be a vector, got shape {index.shape}")
    index = _check_index("index_select", index, input.data.shape[dim], dim)
    return apply(GetItem, input, (slice(None),) * dim + (index,))


class IndexAdd(Op):
    name, backward_on_tensors = "index_add", True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        index = _check_index("index_add", index, x.shape[dim], dim)
        expected = (*x.shape[:dim], index.size, *x.shape[dim + 1 :])
        if src.shape != expected:
            raise ShapeError(f"[index_add] source of shape {src.shape}, expected {expected}")
        ctx.args = dim, index
        out = empty_like(x)
        np.copyto(out, x)
        np.add.at(np.moveaxis(out, dim, 0), index, np.moveaxis(src, dim, 0))
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        dim, index = ctx.args
        return g, None, None, index_select(g, dim, wrap(index))


def index_add(input: Any, dim: int, index: Any, source: Any) -> Any:
    """input with slice i of source added to its slice index[i], along an axis; added in order."""
    return apply(IndexAdd, input, normalize_axis("index_add", dim, input.data.ndim), as_tensor(index), source)


def masked_select(input: Any, mask: Any) -> Any:
    """The elements where the (broadcast) mask is True, as a vector in row-major order."""
    mask = as_tensor(mask).data
    if mask.dtype != np.bool_:
        raise DTypeError(f"[masked_select] mask must be bool, got {mask.dtype}")
    return apply(GetItem, input, np.broadcast_to(mask, input.data.shape))


def nonzero(input: Any) -> Any:
    """The positions of the non-zero elements. Shape: (count, axes), int64."""
    return wrap(np.argwhere(input.data))


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """A new last axis with 1 at the class and 0 elsewhere. Shape: (...) -> (..., num_classes), int64.

    ``num_classes=-1`` takes the largest class plus one.
    """
    x = tensor.data
    if x.dtype.kind not in "iu":
        raise DTypeError(f"[one_hot] classes must be integers, got {x.dtype}")
    n = int(x.max()) + 1 if num_classes == -1 and x.size else num_classes
    _check_index("one_hot", x, n, -1)
    out = np.zeros((*x.shape, n), np.int64)
    np.put_along_axis(out, x[..., None].astype(np.int64), 1, axis=-1)
    return wrap(out)
