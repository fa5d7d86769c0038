"""Tensors put together, taken apart and turned: short compositions of the functions in shape.py and index.py."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.ops._common import as_tensor, named, normalize_axis
from pydl.ops._common import broadcast_shapes as _broadcast
from pydl.ops.comparison import masked_fill, where
from pydl.ops.composed import diag
from pydl.ops.elementwise import add, mul, sub
from pydl.ops.index import IndexSelect, index_add, index_select, scatter_add
from pydl.ops.matmul import matmul, outer
from pydl.ops.pad import pad
from pydl.ops.shape import (
    broadcast_to,
    cat,
    flatten,
    flip,
    movedim,
    narrow,
    reshape,
    split,
    stack,
    transpose,
    unsqueeze,
)

__all__ = [
    "addmv", "addr", "argwhere", "atleast_1d", "atleast_2d", "atleast_3d", "baddbmm", "block_diag", "broadcast_shapes",
    "broadcast_tensors", "cartesian_prod", "column_stack", "combinations", "concat", "concatenate", "cross", "diag_embed",
    "diagflat", "dsplit", "dstack", "fliplr", "flipud", "ger", "hsplit", "index_copy", "index_fill", "inner", "matrix_power",
    "moveaxis", "ravel", "rot90", "row_stack", "scatter_reduce", "select", "split_with_sizes", "swapdims", "take",
    "tensor_split", "tril_indices",
    "triu_indices", "unfold_windows", "vander", "vdot", "vsplit",
]

moveaxis, swapdims, ger, concat, concatenate = movedim, transpose, outer, cat, cat


def ravel(input: Any) -> Any:
    """All elements as a vector."""
    return flatten(input)


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape to which these broadcast together."""
    return _broadcast("broadcast_shapes", **{f"shape{i}": tuple(s) for i, s in enumerate(shapes)})


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """The tensors repeated, without a copy, to the shape to which they broadcast together."""
    shape = broadcast_shapes(*(t.data.shape for t in tensors))
    return tuple(broadcast_to(t, shape) for t in tensors)


# --------------------------------------------------------------------------- turned


def _flipped(name: str, axis: int, doc: str) -> Callable[[Any], Any]:
    def function(input: Any) -> Any:
        if input.data.ndim <= axis:
            raise ShapeError(f"[{name}] input of shape {input.data.shape}; expected at least {axis + 1} axes")
        return flip(input, axis)

    return named(function, name, doc)


fliplr = _flipped("fliplr", 1, "Left and right exchanged: axis 1 reversed.")
flipud = _flipped("flipud", 0, "Up and down exchanged: axis 0 reversed.")


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """k quarter turns from the first towards the second of two axes."""
    a, b = (normalize_axis("rot90", d, input.data.ndim, "dims") for d in dims)
    if a == b:
        raise ArgumentError(f"[rot90] dims={tuple(dims)} names an axis twice")
    k %= 4
    if k == 2:
        return flip(input, a, b)
    turned = flip(input, b) if k == 1 else input
    turned = transpose(turned, a, b) if k else turned
    return flip(turned, b) if k == 3 else turned


# --------------------------------------------------------------------------- put together


def _at_least(n: int, place: Callable[[Any], Any]) -> Callable[..., Any]:
    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
            tensors = tuple(tensors[0])
        out = tuple(place(t) if t.data.ndim < n else t for t in tensors)
        return out[0] if len(out) == 1 else out

    return named(function, f"atleast_{n}d", f"The tensor, or each of several, with axes of size 1 added up to {n}.")


def _three(t: Any) -> Any:
    return unsqueeze(t, 2) if t.data.ndim == 2 else reshape(t, (1, -1, 1))


atleast_1d, atleast_2d = _at_least(1, lambda t: reshape(t, (1,))), _at_least(2, lambda t: reshape(t, (1, -1)))
atleast_3d = _at_least(3, _three)


def row_stack(tensors: Sequence[Any]) -> Any:
    """Tensors one below the other; vectors become rows."""
    return cat([atleast_2d(t) for t in tensors], 0)


def column_stack(tensors: Sequence[Any]) -> Any:
    """Tensors side by side along axis 1; vectors become columns."""
    return cat([reshape(t, (-1, 1)) if t.data.ndim < 2 else t for t in tensors], 1)


def dstack(tensors: Sequence[Any]) -> Any:
    """Tensors behind each other, along axis 2."""
    return cat([atleast_3d(t) for t in tensors], 2)


def block_diag(*tensors: Any) -> Any:
    """Matrices along the diagonal of a matrix of zeros; vectors count as rows."""
    blocks = [atleast_2d(t) for t in tensors]
    width, left, rows = builtins.sum(b.data.shape[1] for b in blocks), 0, []
    for b in blocks:
        rows.append(pad(b, (left, width - left - b.data.shape[1])))
        left += b.data.shape[1]
    return cat(rows, 0)


def cartesian_prod(*tensors: Any) -> Any:
    """All ways to take one element of each vector, as rows: sizes n, m ... -> (n m ..., number of vectors)."""
    grids = np.meshgrid(*(np.arange(t.data.shape[0]) for t in tensors), indexing="ij")
    columns = [index_select(t, 0, wrap(g.ravel())) for t, g in zip(tensors, grids, strict=True)]
    return stack(columns, 1) if len(columns) > 1 else columns[0]


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of r elements of a vector in their order, as rows."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(input.data.shape[0]), r)), np.int64).reshape(-1, r)
    return reshape(index_select(input, 0, wrap(places.ravel())), places.shape)


def diagflat(input: Any, offset: int = 0) -> Any:
    """All elements on a diagonal of a square matrix of zeros."""
    return diag(flatten(input), offset)


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The last axis as a diagonal of square matrices of zeros, whose axes are `dim1` and `dim2`: (..., n) -> (..., n, n)."""
    n = input.data.shape[-1]
    matrix = mul(unsqueeze(input, -1), wrap(np.eye(n, dtype=input.data.dtype)))
    above, below = max(offset, 0), max(-offset, 0)
    return movedim(pad(matrix, (above, below, below, above)), (-2, -1), (dim1, dim2))


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Powers of a vector as columns, falling from N - 1 to 0 (rising with ``increasing``): (n,) -> (n, N or n)."""
    n = x.data.shape[-1] if N is None else N
    columns = [wrap(np.ones(x.data.shape, x.data.dtype))][:n]
    while len(columns) < n:
        columns.append(mul(columns[-1], x))
    return stack(columns if increasing else columns[::-1], -1)


# --------------------------------------------------------------------------- taken apart


def split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Parts of the given sizes along an axis; together they are the axis."""
    return split(input, list(split_sizes), dim)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """So many parts of nearly equal size along an axis (the first ones larger), or cuts before the given positions."""
    axis = normalize_axis("tensor_split", dim, input.data.ndim)
    n = input.data.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise ArgumentError(f"[tensor_split] indices_or_sections={indices_or_sections}; expected at least 1 part")
        size, rest = divmod(n, indices_or_sections)
        cuts = [i * size + min(i, rest) for i in range(1, indices_or_sections)]
    else:
        cuts = [builtins.int(i) for i in np.asarray(as_tensor(indices_or_sections).data)]
    bounds = [0, *(min(max(c + n if c < 0 else c, 0), n) for c in cuts), n]
    return tuple(narrow(input, axis, a, max(b - a, 0)) for a, b in itertools.pairwise(bounds))


def _splitter(name: str, least: int, axis: int, doc: str) -> Callable[[Any, Any], Any]:
    def function(input: Any, indices_or_sections: Any) -> Any:
        if input.data.ndim < least:
            raise ShapeError(f"[{name}] input of shape {input.data.shape}; expected at least {least} axes")
        dim = 0 if input.data.ndim == 1 else axis
        if isinstance(indices_or_sections, int) and input.data.shape[dim] % indices_or_sections:
            raise ArgumentError(f"[{name}] axis {dim} of shape {input.data.shape} cannot be cut into {indices_or_sections} equal "
                                "parts; use tensor_split")
        return tensor_split(input, indices_or_sections, dim)

    return named(function, name, doc)


hsplit = _splitter("hsplit", 1, 1, "Parts along axis 1 (of a vector, axis 0): equal ones, or cuts at positions.")
vsplit = _splitter("vsplit", 2, 0, "Parts along axis 0: equal ones, or cuts at positions.")
dsplit = _splitter("dsplit", 3, 2, "Parts along axis 2: equal ones, or cuts at positions.")


def select(input: Any, dim: int, index: int) -> Any:
    """The slice at one position of an axis, without that axis: a view."""
    axis = normalize_axis("select", dim, input.data.ndim)
    n = input.data.shape[axis] if input.data.ndim else 0
    if not -n <= index < n:
        raise ArgumentError(f"[select] index={index} for axis {axis} of shape {input.data.shape}; expected {-n} to {n - 1}")
    return input[(slice(None),) * axis + (index,)]


def take(input: Any, index: Any) -> Any:
    """Elements by their positions in the flattened tensor. Shape: that of `index`."""
    positions = index.data
    n = input.data.size
    if positions.size and not (-n <= positions.min() and positions.max() < n):
        raise ArgumentError(f"[take] index holds numbers from {positions.min()} to {positions.max()}; expected {-n} to {n - 1}")
    return apply(IndexSelect, flatten(input), 0, np.where(positions < 0, positions + n, positions).astype(np.int64))


def unfold_windows(input: Any, dimension: int, size: int, step: int) -> Any:
    """Windows of `size` elements, `step` apart, along an axis; they become a new last axis (``Tensor.unfold``)."""
    axis = normalize_axis("unfold", dimension, input.data.ndim, "dimension")
    n = input.data.shape[axis]
    if not 0 < size <= n or step < 1:
        raise ArgumentError(f"[unfold] size={size}, step={step} along an axis of size {n}; expected 1 to {n}, and at least 1")
    starts = np.arange(0, n - size + 1, step)
    windows = apply(IndexSelect, input, axis, (starts[:, None] + np.arange(size)).astype(np.int64))
    return movedim(windows, axis + 1, -1)


def argwhere(input: Any) -> Any:
    """Positions of the elements that are not 0, as rows: (count, axes), int64."""
    return wrap(np.argwhere(input.data).astype(np.int64))


def _triangle(corner: Callable[..., Any]) -> Callable[..., Any]:
    def function(row: int, col: int, offset: int = 0) -> Any:
        return wrap(np.stack(corner(row, offset, col)).astype(np.int64))

    return function


tril_indices = named(_triangle(np.tril_indices), "tril_indices",
                     "Rows and columns of the lower triangle of a (row, col) matrix: (2, count), int64.")
triu_indices = named(_triangle(np.triu_indices), "triu_indices",
                     "Rows and columns of the upper triangle of a (row, col) matrix: (2, count), int64.")


# --------------------------------------------------------------------------- changed at places


def _slices(op: str, input: Any, dim: int, index: Any) -> tuple[int, Any]:
    """The axis, and a mask (n, 1, ...) of the slices that the index names."""
    axis = normalize_axis(op, dim, input.data.ndim)
    n = input.data.shape[axis]
    places = index.data
    if places.ndim > 1 or (places.size and not (-n <= places.min() and places.max() < n)):
        raise ArgumentError(f"[{op}] index of shape {places.shape}: expected a vector of numbers from {-n} to {n - 1}")
    mask = np.zeros(n, bool)
    mask[places] = True
    return axis, wrap(mask.reshape(-1, *(1,) * (input.data.ndim - 1 - axis)))


def index_fill(input: Any, dim: int, index: Any, value: float) -> Any:
    """The tensor with `value` in the slices of an axis that the index names; no gradient flows there."""
    _, mask = _slices("index_fill", input, dim, index)
    return masked_fill(input, mask, value)


def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """The tensor with slice index[i] of an axis replaced by slice i of `source`; indices must differ."""
    axis, mask = _slices("index_copy", input, dim, index)
    if len(np.unique(index.data)) != index.data.size:
        raise ArgumentError("[index_copy] index names a slice twice; which one should stay?")
    return index_add(masked_fill(input, mask, 0.0), axis, index, source)


def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """Elements of `src` gathered at places of the input along an axis and reduced there with what was there.

    out[i][index[i][j]] = reduce(input[i][index[i][j]], src[i][j], ...) for dim = 1. Ties of extrema share the gradient.

    Parameters
    ----------
    reduce : {"sum", "mean", "amax", "amin"}
    include_self : bool
        Whether the elements of the input count where something of `src` arrives.
    """
    if reduce not in ("sum", "mean", "amax", "amin"):
        raise ArgumentError(f"[scatter_reduce] reduce={reduce!r}; expected 'sum', 'mean', 'amax' or 'amin'")
    dim = normalize_axis("scatter_reduce", dim, input.data.ndim)
    dtype = input.data.dtype
    ones = wrap(np.ones(index.data.shape, dtype))
    part = src[tuple(slice(n) for n in index.data.shape)]
    arrived = scatter_add(wrap(np.zeros(input.data.shape, dtype)), dim, index, ones)
    start = input if include_self else masked_fill(input, wrap(arrived.data > 0), 0.0)
    if reduce in ("sum", "mean"):
        total = scatter_add(start, dim, index, part)
        if reduce == "sum":
            return total
        counts = arrived.data + 1 if include_self else np.maximum(arrived.data, 1)
        return mul(total, wrap(1 / counts).to(dtype))
    return _scatter_extremum(input, dim, index, part, np.maximum if reduce == "amax" else np.minimum, arrived.data > 0,
                             include_self)


def _scatter_extremum(input: Any, dim: int, index: Any, src: Any, better: Any, arrived: Any, include_self: bool) -> Any:
    """Which elements win is found first; the result is their sum over their number, so that gradients follow."""
    worst = -np.inf if better is np.maximum else np.inf
    best = input.data.copy() if include_self else np.where(arrived, worst, input.data).astype(input.data.dtype)
    places = np.ix_(*(np.arange(n) for n in index.data.shape))
    at = (*places[:dim], index.data, *places[dim + 1 :])
    better.at(best, at, src.data)
    own = wrap((input.data == best) & (include_self | ~arrived))
    won = wrap(src.data == best[at])
    zero = wrap(np.zeros((), input.data.dtype))
    total = scatter_add(where(own, input, zero), dim, index, where(won, src, zero))
    count = scatter_add(own.to(input.data.dtype), dim, index, won.to(input.data.dtype))
    return mul(total, wrap(1 / np.maximum(count.data, 1)))


# --------------------------------------------------------------------------- products


def inner(input: Any, other: Any) -> Any:
    """Products over the last axes: (..., k), (...', k) -> (..., ...'); with a scalar its multiple."""
    if not input.data.ndim or not other.data.ndim:
        return mul(input, other)
    a, b = input.data.shape, other.data.shape
    if a[-1] != b[-1]:
        raise ShapeError(f"[inner] input {a} and other {b}: expected last axes of one size")
    flat = matmul(reshape(input, (-1, a[-1])), transpose(reshape(other, (-1, b[-1])), 0, 1))
    return reshape(flat, (*a[:-1], *b[:-1]))


def vdot(input: Any, other: Any) -> Any:
    """Inner product of two vectors of real numbers."""
    return matmul(input, other)


def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """Vector product along an axis of size 3 (by default the first such), broadcast: perpendicular to both."""
    shape = broadcast_shapes(input.data.shape, other.data.shape)
    axes = [i for i, n in enumerate(shape) if n == 3] if dim is None else [normalize_axis("cross", dim, len(shape))]
    if not axes or shape[axes[0]] != 3:
        raise ShapeError(f"[cross] shapes {input.data.shape} and {other.data.shape}, dim={dim}: expected an axis of size 3")
    a, b = ([select(broadcast_to(t, shape), axes[0], i) for i in range(3)] for t in (input, other))
    return stack([sub(mul(a[i], b[j]), mul(a[j], b[i])) for i, j in ((1, 2), (2, 0), (0, 1))], axes[0])


def _plus(input: Any, product: Any, beta: float, alpha: float) -> Any:
    product = product if alpha == 1 else mul(product, alpha)
    return product if beta == 0 else add(input if beta == 1 else mul(input, beta), product)


def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta input + alpha (mat @ vec)."""
    return _plus(input, matmul(mat, vec), beta, alpha)


def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta input + alpha (outer product of the vectors)."""
    return _plus(input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta input + alpha (batch1 @ batch2), stacks of matrices."""
    return _plus(input, matmul(batch1, batch2), beta, alpha)


def matrix_power(input: Any, n: int) -> Any:
    """A square matrix, or each of a stack, multiplied n times by itself; n = 0 gives the identity."""
    shape = input.data.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or n < 0:
        raise ShapeError(f"[matrix_power] input of shape {shape}, n={n}; expected square matrices (..., m, m) and n >= 0")
    if n == 0:
        return broadcast_to(wrap(np.eye(shape[-1], dtype=input.data.dtype)), shape)
    result, square = None, input
    while n:
        if n & 1:
            result = square if result is None else matmul(result, square)
        n >>= 1
        square = matmul(square, square) if n else square
    return result
