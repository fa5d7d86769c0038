"""Reading and writing by position: indexing as in NumPy, gather, scatter, selection, one-hot (kernels: csrc/cpu/index.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import TensorCore, apply, wrap
from pydl.graph.op import Op, Shape
from pydl.ops._common import MOVABLE, as_tensor, broadcast_shapes, copy, empty, fill, normalize_axis

__all__ = [
    "gather", "getitem", "index_add", "index_select", "masked_select", "nonzero", "one_hot", "scatter", "scatter_add",
    "setitem", "take_along_dim",
]

_ADDABLE = tuple(np.dtype(t) for t in (np.float32, np.float64, np.int64, np.int32, np.uint8))


# --------------------------------------------------------------------------- the two kernels on ndarrays


def _check_index(op: str, index: np.ndarray, size: int, dim: int) -> np.ndarray:
    if index.dtype.kind not in "iu":
        raise DTypeError(f"[{op}] index must be an integer tensor, got {index.dtype}")
    if index.size and (index.min() < 0 or index.max() >= size):
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise ArgumentError(f"[{op}] index {bad} is out of range for axis {dim} of size {size}; expected 0 to {size - 1}")
    return index.astype(np.int64, copy=False)


def _check_along(op: str, x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    if index.ndim != x.ndim or any(
        m > n for k, (m, n) in enumerate(zip(index.shape, x.shape, strict=True)) if k != dim
    ):
        raise ShapeError(
            f"[{op}] index of shape {index.shape} for an input of shape {x.shape}: the same number of axes is expected, and "
            f"no axis but dim={dim} may be longer"
        )
    return _check_index(op, index, x.shape[dim] if x.ndim else 1, dim)


def _along(index: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    """Full index arrays: `index` on axis `dim`, own positions on the others."""
    grids = np.ogrid[tuple(slice(n) for n in index.shape)] if index.ndim else []
    return tuple(index if k == dim else grids[k] for k in range(index.ndim))


def _flat_positions(shape: Shape, index: np.ndarray, dim: int) -> np.ndarray:
    """Where `_along` points in the flat order of an array of this shape."""
    return np.asarray(np.ravel_multi_index(np.broadcast_arrays(*_along(index, dim)), shape)) if index.ndim else index


def _planes(array: np.ndarray, dim: int) -> np.ndarray:
    """The array as [outer, n, inner]; a view where its memory allows it."""
    shape = array.shape
    return array.reshape(math.prod(shape[:dim]), shape[dim] if shape else 1, math.prod(shape[dim + 1 :]))


def _same_but(dim: int, a: Shape, b: Shape) -> bool:
    return a[:dim] == b[:dim] and a[dim + 1 :] == b[dim + 1 :]


def _gather(x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    if x.dtype not in MOVABLE:
        return np.asarray(x[_along(index, dim)])
    out = empty(index.shape, x.dtype)
    if _same_but(dim, x.shape, index.shape):
        _core.index_gather(_planes(x, dim), _planes(index, dim), _planes(out, dim))
    elif index.size:
        _core.index_gather(x.reshape(1, -1, 1), _flat_positions(x.shape, index, dim).reshape(1, -1, 1), out.reshape(1, -1, 1))
    return out


def _add_along(out: np.ndarray, dim: int, index: np.ndarray, values: np.ndarray) -> None:
    """out[.., index, ..] += values in the order of the values; `out` is C-ordered and ours."""
    if _same_but(dim, out.shape, index.shape):
        _core.index_scatter_add(_planes(out, dim), _planes(index, dim), _planes(values, dim))
    elif index.size:
        positions = _flat_positions(out.shape, index, dim).reshape(1, -1, 1)
        _core.index_scatter_add(out.reshape(1, -1, 1), positions, values.reshape(1, -1, 1))


def _rows(index: np.ndarray, array: np.ndarray, dim: int) -> np.ndarray:
    """One list of positions for all lines along `dim`, as the kernels take it."""
    planes = _planes(array, dim)
    return np.broadcast_to(index.reshape(1, -1, 1), (planes.shape[0], index.size, planes.shape[2]))


def _addable(op: str, x: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """A C-ordered copy of `x` to add to."""
    if x.dtype not in _ADDABLE or values.dtype != x.dtype:
        raise DTypeError(
            f"[{op}] input {x.dtype} and {name} {values.dtype}: expected one dtype of float32, float64, int64, int32 and uint8"
        )
    return copy(x, empty(x.shape, x.dtype))


def _zeros(shape: Shape, dtype: Any) -> np.ndarray:
    out = empty(shape, dtype)
    fill(out, 0)
    return out


# --------------------------------------------------------------------------- x[index]


def _plain(index: Any) -> Any:
    """The index with tensors and lists replaced by ndarrays."""
    if isinstance(index, tuple):
        return tuple(_plain(i) for i in index)
    if isinstance(index, TensorCore):
        index = index.data
    elif isinstance(index, list):
        index = np.asarray(_plain(tuple(index)) if any(isinstance(i, TensorCore) for i in index) else index)
        index = index.astype(np.int64) if index.size == 0 else index
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        raise DTypeError(f"[getitem] an index of type {index.dtype}; expected integers or booleans")
    return index


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        p is None or p is Ellipsis or isinstance(p, slice) or (isinstance(p, int | np.integer) and not isinstance(p, bool))
        for p in parts
    )


def _is_mask(index: Any) -> bool:
    return isinstance(index, np.ndarray) and index.dtype == np.bool_


def _select(x: np.ndarray, index: Any) -> np.ndarray:
    try:
        return np.asarray(x[index])
    except (IndexError, TypeError, ValueError) as error:
        raise ArgumentError(f"[getitem] index does not fit a tensor of shape {x.shape}: {error}") from None


def _one_axis(shape: Shape, index: Any) -> tuple[int, np.ndarray] | None:
    """(axis, integer array) of an index that takes whole slices along one axis: x[i], x[:, i], x[..., i]."""
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [p for p in parts if isinstance(p, np.ndarray)]
    if len(arrays) != 1 or arrays[0].dtype.kind not in "iu":
        return None
    if not all(p is arrays[0] or p is Ellipsis or (isinstance(p, slice) and p == slice(None)) for p in parts):
        return None
    dots = [k for k, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        return None
    if dots:
        parts[dots[0] : dots[0] + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    return next(k for k, p in enumerate(parts) if p is arrays[0]), arrays[0]


class GetItem(Op):
    name, backward_on_tensors, flops_per_element = "getitem", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, index: Any) -> np.ndarray:
        if ctx.needs[0] and not _is_basic(index):  # the caller may change an index array before backward
            index = tuple(np.copy(p) if isinstance(p, np.ndarray) else p for p in index) if isinstance(index, tuple) else (
                np.copy(index))
        ctx.original, ctx.index = x.shape, index
        return _select(x, index)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(PutItem, g, ctx.original, ctx.index)


class Slice(GetItem):
    """Basic indexing: a view."""

    name, is_view = "slice", True


def _place(array: np.ndarray, index: Any) -> np.ndarray:
    """The view that a basic index names; a single element too."""
    found = array[index]
    if isinstance(found, np.ndarray):
        return found
    return array[(*index, ...)] if isinstance(index, tuple) else array[index, ...]


class PutItem(Op):
    """Zeros with the values added at the indexed places: the gradient of indexing."""

    name, backward_on_tensors, flops_per_element = "putitem", True, 0

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, shape: Shape, index: Any) -> np.ndarray:
        ctx.index = index
        out = _zeros(shape, g.dtype)
        if _is_basic(index):
            copy(g, _place(out, index))
        elif _is_mask(index):
            out[index] = g
        else:  # one position may be named several times
            positions = np.arange(out.size).reshape(shape)[index].reshape(1, -1, 1)
            _core.index_scatter_add(out.reshape(1, -1, 1), positions, g.reshape(1, -1, 1))
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return getitem(g, ctx.index)


class IndexSelect(Op):
    """Whole slices along one axis; the index may have any shape, which takes the axis's place."""

    name, backward_on_tensors, flops_per_element = "index_select", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
        ctx.args = x.shape, dim
        ctx.save(index)
        index = index.astype(np.int64, copy=False)
        shape = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
        if x.dtype not in MOVABLE:
            return np.take(x, index, dim)
        out = empty(shape, x.dtype)
        planes = out.reshape(math.prod(x.shape[:dim]), index.size, math.prod(x.shape[dim + 1 :]))
        _core.index_gather(_planes(x, dim), _rows(index, x, dim), planes)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        shape, dim = ctx.args
        (index,) = ctx.saved
        return apply(IndexAdd, wrap(_zeros(shape, g.data.dtype)), dim, index, g)


def getitem(input: Any, index: Any) -> Any:
    """``input[index]`` as in NumPy: integers, slices, None and ... give views; boolean and integer arrays copies."""
    plain = _plain(index)
    if _is_basic(plain):
        return apply(Slice, input, plain)
    found = _one_axis(input.data.shape, plain)
    if found is None:
        return apply(GetItem, input, plain)
    dim, array = found
    n = input.data.shape[dim]
    if array.size and (array.min() < -n or array.max() >= n):
        bad = array[(array < -n) | (array >= n)].flat[0]
        raise ArgumentError(f"[getitem] index {bad} is out of range for axis {dim} of a tensor of shape {input.data.shape}")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        return apply(IndexSelect, input, dim, wrap(np.where(array < 0, array + n, array)))
    parts = index if isinstance(index, tuple) else (index,)
    tensor = next((p for p in parts if isinstance(p, TensorCore) and p.data is array), None)
    return apply(IndexSelect, input, dim, wrap(np.copy(array)) if tensor is None else tensor)


def setitem(input: Any, index: Any, value: Any) -> None:
    """``input[index] = value`` in place; the caller checks that no gradient is lost."""
    index = _plain(index)
    value = value.data if isinstance(value, TensorCore) else value
    try:
        input.data[index] = value
    except (IndexError, ValueError, TypeError):
        part = _select(input.data, index)  # raises if it is the index that does not fit
        raise ShapeError(
            f"[setitem] value of shape {np.shape(value)} does not fit the indexed part of shape {part.shape}"
        ) from None


# --------------------------------------------------------------------------- gather, scatter


class Gather(Op):
    name, backward_on_tensors, flops_per_element = "gather", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
        ctx.args = x.shape, dim
        ctx.save(index)
        return _gather(x, dim, _check_along("gather", x, index, dim))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        shape, dim = ctx.args
        (index,) = ctx.saved
        return apply(ScatterAdd, wrap(_zeros(shape, g.data.dtype)), dim, index, g)


def gather(input: Any, dim: int, index: Any) -> Any:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim = 1. Shape: that of `index`."""
    return apply(Gather, input, normalize_axis("gather", dim, input.data.ndim), as_tensor(index))


def _part(op: str, index: np.ndarray, src: np.ndarray) -> np.ndarray:
    """The part of src that the index covers."""
    if index.ndim != src.ndim or any(m > n for m, n in zip(index.shape, src.shape, strict=True)):
        raise ShapeError(f"[{op}] index of shape {index.shape} is larger than src of shape {src.shape}")
    return src[tuple(slice(n) for n in index.shape)]


def _source_gradient(g: Any, dim: int, index: Any, shape: Shape) -> Any:
    """The gradient gathered, with zeros for the part of src that the index did not cover."""
    from pydl.ops.pad import pad

    d_src = gather(g, dim, index)
    extra = [v for n, m in reversed(list(zip(index.data.shape, shape, strict=True))) for v in (0, m - n)]
    return pad(d_src, extra) if any(extra) else d_src


class ScatterAdd(Op):
    name, backward_on_tensors = "scatter_add", True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        ctx.args = dim, src.shape
        ctx.save(index)
        index = _check_along("scatter_add", x, index, dim)
        used = _part("scatter_add", index, src)
        out = _addable("scatter_add", x, src, "src")
        _add_along(out, dim, index, used)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        dim, shape = ctx.args
        (index,) = ctx.saved
        return g, None, None, _source_gradient(g, dim, index, shape) if ctx.needs[3] else None


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """input with src added: out[i][index[i][j][k]][k] += src[i][j][k] for dim = 1; added in a fixed order."""
    return apply(ScatterAdd, input, normalize_axis("scatter_add", dim, input.data.ndim), as_tensor(index), src)


class Scatter(Op):
    name, backward_on_tensors, flops_per_element = "scatter", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        if src.dtype != x.dtype:
            raise DTypeError(f"[scatter] input {x.dtype} and src {src.dtype} must have one dtype; convert one with .to(...)")
        ctx.args = dim, src.shape
        ctx.save(index)
        index = np.ascontiguousarray(_check_along("scatter", x, index, dim))  # NumPy writes in the order of its memory
        out = copy(x, empty(x.shape, x.dtype))
        out[_along(index, dim)] = np.ascontiguousarray(_part("scatter", index, src)) if src.ndim else src
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.elementwise import mul

        dim, shape = ctx.args
        (index,) = ctx.saved
        at = _along(np.ascontiguousarray(index.data), dim)
        dx = d_src = None
        if ctx.needs[0]:
            keep = np.ones(g.data.shape, g.data.dtype)
            keep[at] = 0
            dx = mul(g, wrap(keep))
        if ctx.needs[3]:  # where several elements were written to one place, the last one stayed
            writer = np.empty(g.data.shape, np.int64)
            own = np.arange(index.data.size).reshape(index.data.shape)
            writer[at] = own
            stayed = _zeros(shape or index.data.shape, g.data.dtype)
            stayed[tuple(slice(n) for n in index.data.shape)] = writer[at] == own
            d_src = mul(_source_gradient(g, dim, index, shape or index.data.shape), wrap(stayed))
            d_src = d_src if shape else d_src.sum()
        return dx, None, None, d_src


def scatter(input: Any, dim: int, index: Any, src: Any) -> Any:
    """input with elements replaced: out[i][index[i][j][k]][k] = src[i][j][k] for dim = 1; src may be a number.

    Of several elements for one place the last in row-major order stays.
    """
    return apply(Scatter, input, normalize_axis("scatter", dim, input.data.ndim), as_tensor(index), as_tensor(src, input))


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """The elements that `argmax(keepdim=True)` or `argsort` name; over the flat order without `dim`.

    All axes but `dim` broadcast.
    """
    from pydl.ops.shape import expand

    indices = as_tensor(indices)
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    x, i = input.data.shape, indices.data.shape
    dim = normalize_axis("take_along_dim", dim, len(x))
    if len(x) != len(i):
        raise ShapeError(f"[take_along_dim] indices of shape {i} for an input of shape {x}; expected the same number of axes")
    if _same_but(dim, x, i):
        return gather(input, dim, indices)
    common = broadcast_shapes("take_along_dim", input=(*x[:dim], 1, *x[dim + 1 :]), indices=(*i[:dim], 1, *i[dim + 1 :]))
    return gather(expand(input, (*common[:dim], x[dim], *common[dim + 1 :])), dim,
                  expand(indices, (*common[:dim], i[dim], *common[dim + 1 :])))


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices along an axis that a vector of integers names, in its order."""
    dim = normalize_axis("index_select", dim, input.data.ndim)
    index = as_tensor(index)
    if index.data.ndim > 1:
        raise ShapeError(f"[index_select] index must be a vector, got shape {index.data.shape}")
    if not input.data.ndim:
        raise ShapeError("[index_select] a scalar has no axis to select from; use .reshape(1)")
    _check_index("index_select", index.data, input.data.shape[dim], dim)
    return apply(IndexSelect, input, dim, index.reshape(-1))


class IndexAdd(Op):
    name, backward_on_tensors = "index_add", True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        expected = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
        if src.shape != expected:
            raise ShapeError(f"[index_add] source of shape {src.shape}, expected {expected}")
        ctx.dim = dim
        ctx.save(index)
        index = _check_index("index_add", index, x.shape[dim], dim)
        out = _addable("index_add", x, src, "source")
        planes = src.reshape(math.prod(x.shape[:dim]), index.size, math.prod(x.shape[dim + 1 :]))
        _core.index_scatter_add(_planes(out, dim), _rows(index, x, dim), planes)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (index,) = ctx.saved
        return g, None, None, apply(IndexSelect, g, ctx.dim, index) if ctx.needs[3] else None


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """input with alpha times slice i of source added to its slice index[i], along an axis; added in order."""
    from pydl.ops.elementwise import mul

    dim = normalize_axis("index_add", dim, input.data.ndim)
    index = as_tensor(index)
    if index.data.ndim != 1 or not input.data.ndim:
        raise ShapeError(
            f"[index_add] input {input.data.shape}, index {index.data.shape}: expected at least one axis and a vector of indices"
        )
    return apply(IndexAdd, input, dim, index, source if alpha == 1 else mul(source, alpha))


# --------------------------------------------------------------------------- masks and classes


def masked_select(input: Any, mask: Any) -> Any:
    """The elements where the mask is True (both broadcast), as a vector in row-major order."""
    from pydl.ops.shape import expand

    mask = as_tensor(mask).data
    if mask.dtype != np.bool_:
        raise DTypeError(f"[masked_select] mask must be bool, got {mask.dtype}")
    shape = broadcast_shapes("masked_select", input=input.data.shape, mask=mask.shape)
    if input.data.shape != shape:
        input = expand(input, shape)
    return apply(GetItem, input, np.broadcast_to(mask, shape))


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
    if num_classes < -1 or (num_classes == -1 and not x.size):
        raise ArgumentError(f"[one_hot] num_classes={num_classes} for classes of shape {x.shape}; give the number of classes")
    n = int(x.max()) + 1 if num_classes == -1 else num_classes
    if x.size and (x.min() < 0 or x.max() >= n):
        bad = x[(x < 0) | (x >= n)].flat[0]
        raise ArgumentError(f"[one_hot] class {bad} is out of range; expected 0 to {n - 1}")
    out = np.zeros((*x.shape, n), np.int64)
    np.put_along_axis(out, x[..., None].astype(np.int64), 1, axis=-1)
    return wrap(out)
