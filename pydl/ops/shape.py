"""Changing shapes: views where NumPy can make one, native copies otherwise."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import (
    MOVABLE,
    channels_last,
    copy,
    empty,
    empty_channels_last,
    fill,
    is_channels_last,
    normalize_axes,
    normalize_axis,
    reshaped,
    sizes_of,
    sum_to_shape,
)
from pydl.ops._common import (
    contiguous as _contiguous_array,
)

__all__ = [
    "broadcast_to", "cat", "chunk", "concat", "contiguous", "diagonal", "expand", "expand_as", "flatten", "flip",
    "meshgrid", "movedim", "narrow", "permute", "repeat", "repeat_interleave", "reshape", "roll", "split",
    "squeeze", "stack", "swapaxes", "t", "tile", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze", "view",
]

Ints = int | Sequence[int]


class _ViewOp(Op):
    """Shares its input's memory: costs nothing, and its gradient is made of ops."""

    is_view = True
    backward_on_tensors = True

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(0, 0)


class Reshape(_ViewOp):
    name = "reshape"

    @staticmethod
    def shape(x: np.ndarray, shape: Shape) -> Shape:
        known = [n for n in shape if n != -1]
        count = math.prod(known)
        if len(shape) - len(known) > 1 or any(n < -1 for n in shape):
            raise ArgumentError(f"[reshape] shape {shape}: at most one -1, and no other negative size")
        if len(known) < len(shape):
            if count == 0 or x.size % count:
                raise ShapeError(
                    f"[reshape] input of shape {x.shape} ({x.size} elements) cannot become {shape}: "
                    f"{x.size} is no multiple of {count}"
                )
            return tuple(x.size // count if n == -1 else n for n in shape)
        if count != x.size:
            raise ShapeError(
                f"[reshape] input of shape {x.shape} has {x.size} elements, shape {shape} needs {count}; "
                "use -1 for one axis to have it computed"
            )
        return shape

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, shape: Shape) -> np.ndarray:
        shape = Reshape.shape(x, shape)
        ctx.original = x.shape
        return reshaped(x, shape)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return reshape(g, ctx.original)


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements in row-major order under another shape; -1 stands for the size that is left.

    A view if the memory allows it, else a copy.
    """
    return apply(Reshape, input, sizes_of(shape))


def view(input: Any, *shape: Any) -> Any:
    """Like `reshape`, but never copies: an error says so when the memory layout forbids a view."""
    sizes = Reshape.shape(input.data, sizes_of(shape))
    try:
        input.data.reshape(sizes, copy=False)
    except ValueError:
        raise ShapeError(
            f"[view] a tensor of shape {input.data.shape} and strides {input.stride()} cannot be seen as {sizes} without a "
            "copy; use .reshape"
        ) from None
    return apply(Reshape, input, sizes)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Axes start_dim to end_dim merged into one. Shape: (N, C, H, W), start_dim=1 -> (N, C*H*W)."""
    n = input.data.ndim
    first, last = normalize_axis("flatten", start_dim, n, "start_dim"), normalize_axis("flatten", end_dim, n, "end_dim")
    if first > last:
        raise ArgumentError(f"[flatten] start_dim={start_dim} comes after end_dim={end_dim}")
    shape = input.data.shape
    merged = math.prod(shape[first : last + 1])
    return reshape(input, (*shape[:first], merged, *shape[last + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """One axis cut into several: (N, C*H*W), dim=1, (C, H, W) -> (N, C, H, W)."""
    _need_axis("unflatten", input)
    dim = normalize_axis("unflatten", dim, input.data.ndim)
    inner = Reshape.shape(np.broadcast_to(np.int8(0), (input.data.shape[dim],)), tuple(sizes))
    return reshape(input, (*input.data.shape[:dim], *inner, *input.data.shape[dim + 1 :]))


class Permute(_ViewOp):
    name = "permute"

    @staticmethod
    def shape(x: np.ndarray, dims: Shape) -> Shape:
        if sorted(dims) != list(range(x.ndim)):
            raise ArgumentError(f"[permute] dims {dims} must name each of the {x.ndim} axes of shape {x.shape} once")
        return tuple(x.shape[d] for d in dims)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dims: Shape) -> np.ndarray:
        Permute.shape(x, dims)
        ctx.dims = dims
        return x.transpose(dims)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return permute(g, tuple(int(i) for i in np.argsort(ctx.dims)))


def permute(input: Any, *dims: Any) -> Any:
    """The axes in another order, as a view. ``permute(x, 0, 2, 3, 1)``: (N, C, H, W) -> (N, H, W, C)."""
    n = input.data.ndim
    return apply(Permute, input, tuple(normalize_axis("permute", d, n) for d in sizes_of(dims)))


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Two axes swapped, as a view."""
    n = input.data.ndim
    order = list(range(n))
    a, b = normalize_axis("transpose", dim0, n, "dim0"), normalize_axis("transpose", dim1, n, "dim1")
    if n:
        order[a], order[b] = order[b], order[a]
    return apply(Permute, input, tuple(order))


swapaxes = transpose


def t(input: Any) -> Any:
    """The transpose of a matrix; vectors and scalars as they are."""
    if input.data.ndim > 2:
        raise ShapeError(f"[t] expected at most 2 axes, got shape {input.data.shape}; use .transpose or .permute")
    return transpose(input, 0, 1) if input.data.ndim == 2 else input


def movedim(input: Any, source: Ints, destination: Ints) -> Any:
    """Axes moved to other places, the rest in order, as a view."""
    n = input.data.ndim
    src = [source] if isinstance(source, int) else list(source)
    dst = [destination] if isinstance(destination, int) else list(destination)
    if len(src) != len(dst):
        raise ArgumentError(f"[movedim] {len(src)} source axes but {len(dst)} destinations")
    src = [normalize_axis("movedim", d, n, "source") for d in src]
    dst = [normalize_axis("movedim", d, n, "destination") for d in dst]
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ArgumentError(f"[movedim] source {source} or destination {destination} names an axis twice")
    order = [d for d in range(n) if d not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return apply(Permute, input, tuple(order))


def squeeze(input: Any, dim: Any = None) -> Any:
    """Without the axes of size 1 (all, or those named; a named axis of another size stays)."""
    axes = normalize_axes("squeeze", dim, input.data.ndim)
    return reshape(input, tuple(n for i, n in enumerate(input.data.shape) if not (i in axes and n == 1)))


def unsqueeze(input: Any, dim: int) -> Any:
    """With a new axis of size 1 at `dim`."""
    dim = normalize_axis("unsqueeze", dim, input.data.ndim + 1)
    return reshape(input, (*input.data.shape[:dim], 1, *input.data.shape[dim:]))


class Expand(_ViewOp):
    name = "expand"

    @staticmethod
    def shape(x: np.ndarray, shape: Shape) -> Shape:
        extra = len(shape) - x.ndim
        sizes = tuple(x.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(shape))
        if extra < 0 or any(n < 0 for n in sizes) or any(
            m not in (1, n) for m, n in zip(x.shape, sizes[extra:], strict=True)
        ):
            raise ShapeError(f"[expand] input of shape {x.shape} cannot be repeated to {shape}: only axes of size 1 can")
        return sizes

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, shape: Shape) -> np.ndarray:
        ctx.original = x.shape
        return np.broadcast_to(x, Expand.shape(x, shape))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return sum_to_shape(g, ctx.original)


def expand(input: Any, *sizes: Any) -> Any:
    """Axes of size 1 repeated without a copy (a read-only view); -1 keeps an axis."""
    return apply(Expand, input, sizes_of(sizes))


def expand_as(input: Any, other: Any) -> Any:
    """Repeated to the shape of `other`."""
    return apply(Expand, input, other.data.shape)


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """The input repeated to a shape that it broadcasts to, as a read-only view."""
    return apply(Expand, input, tuple(size))


class Flip(_ViewOp):
    name = "flip"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, dims: Shape) -> np.ndarray:
        ctx.dims = dims
        return np.flip(x, dims)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return flip(g, ctx.dims)


def flip(input: Any, *dims: Any) -> Any:
    """The order along these axes reversed."""
    return apply(Flip, input, normalize_axes("flip", sizes_of(dims), input.data.ndim))


def roll(input: Any, shifts: Ints, dims: Any = None) -> Any:
    """Elements moved along axes, those that leave come in again at the other end; without dims, over the flat order."""
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), input.data.shape)
    steps, axes = [shifts] if isinstance(shifts, int) else list(shifts), [dims] if isinstance(dims, int) else list(dims)
    if len(steps) != len(axes) or not input.data.ndim:
        raise ArgumentError(f"[roll] shifts={shifts}, dims={dims} for {input.data.ndim} axes: give one shift for each axis")
    for shift, dim in zip(steps, axes, strict=True):
        dim = normalize_axis("roll", dim, input.data.ndim)
        n = input.data.shape[dim]
        k = shift % n if n else 0
        if k:
            input = cat([narrow(input, dim, n - k, k), narrow(input, dim, 0, n - k)], dim)
    return input


class Contiguous(Op):
    name, backward_on_tensors, flops_per_element = "contiguous", True, 0

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, last: bool) -> np.ndarray:
        return channels_last(x) if last else _contiguous_array(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


def contiguous(input: Any, memory_format: str = "contiguous") -> Any:
    """The tensor in C order, or with ``memory_format="channels_last"`` with channels adjacent; itself if it is already."""
    if memory_format not in ("contiguous", "channels_last"):
        raise ArgumentError(f"[contiguous] memory_format={memory_format!r}; expected 'contiguous' or 'channels_last'")
    last = memory_format == "channels_last"
    if last and not 3 <= input.data.ndim <= 5:
        raise ShapeError(f"[contiguous] channels_last needs shape (N, C, spatial...), got {input.data.shape}")
    done = is_channels_last(input.data) if last else input.data.flags.c_contiguous
    return input if done else apply(Contiguous, input, last)


class Cat(Op):
    name, backward_on_tensors, flops_per_element = "cat", True, 0

    @staticmethod
    def shape(dim: int, *xs: np.ndarray) -> Shape:
        first = xs[0]
        if not first.ndim:
            raise ShapeError("[cat] tensors[0] is a scalar, which has no axis to join along; use stack")
        before, after, total = first.shape[:dim], first.shape[dim + 1 :], 0
        for i, x in enumerate(xs):
            shape = x.shape
            if x.ndim != first.ndim or shape[:dim] != before or shape[dim + 1 :] != after:
                raise ShapeError(
                    f"[cat] tensors[{i}] has shape {shape}, tensors[0] has {first.shape}; all axes but dim={dim} must agree"
                )
            total += shape[dim]
        return (*before, total, *after)

    @staticmethod
    def forward(ctx: Any, dim: int, *xs: np.ndarray) -> np.ndarray:
        shape = Cat.shape(dim, *xs)
        last = 3 <= len(shape) <= 5 and not xs[0].flags.c_contiguous and all(is_channels_last(x) for x in xs)
        out = (empty_channels_last if last else empty)(shape, xs[0].dtype)
        rows = out.dtype in MOVABLE and out.size and (dim == 1 or not last)  # dense memory: one kernel lays it side by side
        if not (rows and _core.join(xs, out, dim, last)):
            start = 0
            for x in xs:
                stop = start + x.shape[dim]
                copy(x, out[(slice(None),) * dim + (slice(start, stop),)])
                start = stop
        ctx.dim, ctx.sizes = dim, [x.shape[dim] for x in xs]
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        starts = itertools.accumulate(ctx.sizes, initial=0)
        return (None, *[
            narrow(g, ctx.dim, start, n) if need else None
            for start, n, need in zip(starts, ctx.sizes, ctx.needs[1:], strict=False)
        ])


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors joined along an existing axis; all other axes must agree, dtypes are promoted to a common one."""
    from pydl.ops._common import as_tensor, promote
    from pydl.ops.convert import cast

    tensors = [as_tensor(x) for x in tensors]
    if not tensors:
        raise ArgumentError("[cat] expected at least one tensor, got an empty list")
    dtype = tensors[0].data.dtype
    if any(x.data.dtype != dtype for x in tensors):
        for x in tensors[1:]:
            dtype = promote(dtype, x.data.dtype)
        tensors = [cast(x, dtype) for x in tensors]
    dim = normalize_axis("cat", dim, tensors[0].data.ndim)
    return apply(Cat, dim, *tensors)


concat = cat


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors of one shape joined along a new axis."""
    if not tensors:
        raise ArgumentError("[stack] expected at least one tensor, got an empty list")
    from pydl.ops._common import as_tensor

    tensors = [as_tensor(x) for x in tensors]
    shapes = {x.data.shape for x in tensors}
    if len(shapes) > 1:
        raise ShapeError(f"[stack] all tensors must have one shape, got {sorted(shapes)}")
    return cat([unsqueeze(x, dim) for x in tensors], normalize_axis("stack", dim, tensors[0].data.ndim + 1))


def _need_axis(op: str, input: Any) -> None:
    if not input.data.ndim:
        raise ShapeError(f"[{op}] a scalar has no axis to cut; use .reshape(1)")


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """`length` elements from `start` along one axis, as a view."""
    from pydl.ops.index import getitem

    _need_axis("narrow", input)
    dim = normalize_axis("narrow", dim, input.data.ndim)
    n = input.data.shape[dim]
    if start < 0:
        start += n
    if not 0 <= start <= start + length <= n:
        raise ArgumentError(f"[narrow] start={start}, length={length} leave axis {dim} of size {n}")
    return getitem(input, (slice(None),) * dim + (slice(start, start + length),))


def split(input: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Cut along an axis: pieces of one size (the last may be smaller), or of the listed sizes. Views."""
    _need_axis("split", input)
    dim = normalize_axis("split", dim, input.data.ndim)
    n = input.data.shape[dim]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        if sizes < 0 or (sizes == 0 and n):
            raise ArgumentError(f"[split] split_size must be positive, got {sizes}")
        sizes = [min(sizes, n - s) for s in range(0, n, sizes or 1)] or [0]
    elif sum(sizes) != n:
        raise ArgumentError(f"[split] sections {list(sizes)} add up to {sum(sizes)}, axis {dim} has size {n}")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return tuple(narrow(input, dim, int(s), int(k)) for s, k in zip(starts[:-1], sizes, strict=True))


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """Cut along an axis into at most `chunks` pieces of equal size (the last may be smaller). Views."""
    if chunks < 1:
        raise ArgumentError(f"[chunk] chunks must be positive, got {chunks}")
    _need_axis("chunk", input)
    n = input.data.shape[normalize_axis("chunk", dim, input.data.ndim)]
    return split(input, -(-n // chunks) if n else [0] * chunks, dim)


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """All slices along an axis, without that axis. Views."""
    from pydl.ops.index import getitem

    _need_axis("unbind", input)
    dim = normalize_axis("unbind", dim, input.data.ndim)
    return tuple(getitem(input, (slice(None),) * dim + (i,)) for i in range(input.data.shape[dim]))


def repeat(input: Any, *repeats: Any) -> Any:
    """The tensor laid out several times along each axis; new axes come in front."""
    counts = sizes_of(repeats)
    if len(counts) < input.data.ndim:
        raise ArgumentError(f"[repeat] {len(counts)} counts for {input.data.ndim} axes; give one for each")
    if any(c < 0 for c in counts):
        raise ArgumentError(f"[repeat] repeats {counts} must not be negative")
    shape = (1,) * (len(counts) - input.data.ndim) + input.data.shape
    x = reshape(input, tuple(v for n in shape for v in (1, n)))
    x = expand(x, tuple(v for c, n in zip(counts, shape, strict=True) for v in (c, n)))
    return reshape(x, tuple(c * n for c, n in zip(counts, shape, strict=True)))


def tile(input: Any, dims: Sequence[int]) -> Any:
    """Like `repeat`; missing counts in front are 1."""
    dims = tuple(dims)
    return repeat(input, (1,) * (input.data.ndim - len(dims)) + dims)


def repeat_interleave(input: Any, repeats: Any, dim: int | None = None) -> Any:
    """Each element repeated next to itself along an axis (over the flat order without one).

    ``repeats`` is a number, or a vector with a number for each element of the axis.
    """
    from pydl.ops._common import as_tensor
    from pydl.ops.index import index_select

    if dim is None or not input.data.ndim:
        input, dim = flatten(input), 0
    dim = normalize_axis("repeat_interleave", dim, input.data.ndim)
    counts = as_tensor(repeats).data
    n = input.data.shape[dim]
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or counts.size not in (1, n) or (counts < 0).any():
        raise ArgumentError(f"[repeat_interleave] repeats={repeats}: expected a number that is not negative, or {n} of them")
    return index_select(input, dim, wrap(np.repeat(np.arange(n), counts)))


class PutDiagonal(Op):
    """Zeros with the values on a diagonal: the gradient of `diagonal`."""

    name, backward_on_tensors, flops_per_element = "put_diagonal", True, 0

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, shape: Shape, offset: int, dim1: int, dim2: int) -> np.ndarray:
        ctx.args = offset, dim1, dim2
        out = empty(shape, g.dtype)
        fill(out, 0)
        target = np.diagonal(out, offset, dim1, dim2)
        target.flags.writeable = True  # NumPy marks the view read-only; `out` is ours
        copy(g, target)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return diagonal(g, *ctx.args)


class Diagonal(_ViewOp):
    name = "diagonal"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, offset: int, dim1: int, dim2: int) -> np.ndarray:
        ctx.original, ctx.args = x.shape, (offset, dim1, dim2)
        return np.diagonal(x, offset, dim1, dim2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(PutDiagonal, g, ctx.original, *ctx.args)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The elements where the two axes' indices differ by `offset`, as a read-only view; the new axis is last."""
    n = input.data.ndim
    first, second = normalize_axis("diagonal", dim1, n, "dim1"), normalize_axis("diagonal", dim2, n, "dim2")
    if first == second:
        raise ArgumentError(f"[diagonal] dim1={dim1} and dim2={dim2} name one axis of shape {input.data.shape}")
    return apply(Diagonal, input, offset, first, second)


def _triangle(op: str, input: Any, below: bool, diagonal: int) -> Any:
    from pydl.ops.comparison import where

    if input.data.ndim < 2:
        raise ShapeError(f"[{op}] expected at least 2 axes, got shape {input.data.shape}")
    rows, columns = input.data.shape[-2:]
    distance = np.arange(columns) - np.arange(rows)[:, None]
    diagonal = operator.index(diagonal)
    mask = distance <= diagonal if below else distance >= diagonal
    return where(wrap(mask), input, wrap(np.zeros((), input.data.dtype)))


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two axes, zeros above the diagonal."""
    return _triangle("tril", input, True, diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two axes, zeros below the diagonal."""
    return _triangle("triu", input, False, diagonal)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Coordinate grids of 1-D tensors, as views."""
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy") or any(x.data.ndim > 1 for x in tensors):
        raise ArgumentError(
            f"[meshgrid] tensors of shapes {[x.data.shape for x in tensors]}, indexing={indexing!r}; expected vectors, and "
            "'ij' or 'xy'"
        )
    shape = tuple(x.data.size for x in tensors)
    grids = [
        expand(reshape(x, tuple(-1 if k == i else 1 for k in range(len(shape)))), shape) for i, x in enumerate(tensors)
    ]
    return tuple(transpose(g, 0, 1) if indexing == "xy" and len(shape) > 1 else g for g in grids)
