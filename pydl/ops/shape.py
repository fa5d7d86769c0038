"""Changing shapes: views where NumPy can make one, native copies otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape, SlidingWindow
from pydl.ops._common import (
    channels_last,
    copy,
    empty,
    empty_channels_last,
    is_channels_last,
    normalize_axes,
    normalize_axis,
    sum_to_shape,
)
from pydl.ops._common import (
    contiguous as _contiguous_array,
)

__all__ = [
    "broadcast_to", "cat", "chunk", "concat", "contiguous", "diagonal", "expand", "expand_as", "flatten", "flip",
    "meshgrid", "movedim", "narrow", "pad", "permute", "repeat", "repeat_interleave", "reshape", "roll", "split",
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


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """``f(x, 2, 3)`` and ``f(x, (2, 3))`` mean the same."""
    if len(sizes) == 1 and not isinstance(sizes[0], int | np.integer):
        sizes = tuple(sizes[0])
    return tuple(int(s) for s in sizes)


class Reshape(_ViewOp):
    name = "reshape"

    @staticmethod
    def shape(x: np.ndarray, shape: Shape) -> Shape:
        known = [n for n in shape if n != -1]
        count = int(np.prod(known, dtype=np.int64))
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
        try:
            return x.reshape(shape, copy=False)
        except ValueError:  # the axes' order in memory forbids a view
            return _contiguous_array(x).reshape(shape)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return reshape(g, ctx.original)


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements in row-major order under another shape; -1 stands for the size that is left.

    A view if the memory allows it, else a copy.
    """
    return apply(Reshape, input, _sizes(shape))


def view(input: Any, *shape: Any) -> Any:
    """Like `reshape`, but never copies: an error says so when the memory layout forbids a view."""
    sizes = Reshape.shape(input.data, _sizes(shape))
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
    merged = int(np.prod(shape[first : last + 1], dtype=np.int64))
    return reshape(input, (*shape[:first], merged, *shape[last + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """One axis cut into several: (N, C*H*W), dim=1, (C, H, W) -> (N, C, H, W)."""
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
    return apply(Permute, input, tuple(normalize_axis("permute", d, n) for d in _sizes(dims)))


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
    return apply(Expand, input, _sizes(sizes))


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
    return apply(Flip, input, normalize_axes("flip", _sizes(dims), input.data.ndim))


def roll(input: Any, shifts: Ints, dims: Any = None) -> Any:
    """Elements moved along axes, those that leave come in again at the other end; without dims, over the flat order."""
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), input.data.shape)
    pairs = zip([shifts] if isinstance(shifts, int) else shifts, [dims] if isinstance(dims, int) else dims, strict=True)
    for shift, dim in pairs:
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
        for i, x in enumerate(xs):
            if x.ndim != first.ndim or any(
                a != b for k, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if k != dim
            ):
                raise ShapeError(
                    f"[cat] tensors[{i}] has shape {x.shape}, tensors[0] has {first.shape}; all axes but dim={dim} must agree"
                )
        return tuple(sum(x.shape[k] for x in xs) if k == dim else n for k, n in enumerate(first.shape))

    @staticmethod
    def forward(ctx: Any, dim: int, *xs: np.ndarray) -> np.ndarray:
        shape = Cat.shape(dim, *xs)
        last = 3 <= len(shape) <= 5 and all(is_channels_last(x) for x in xs) and not xs[0].flags.c_contiguous
        out = (empty_channels_last if last else empty)(shape, xs[0].dtype)
        start = 0
        for x in xs:
            stop = start + x.shape[dim]
            copy(x, out[(slice(None),) * dim + (slice(start, stop),)])
            start = stop
        ctx.dim, ctx.sizes = dim, [x.shape[dim] for x in xs]
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        starts = np.concatenate([[0], np.cumsum(ctx.sizes)])
        return (None, *[
            narrow(g, ctx.dim, int(s), n) if need else None
            for s, n, need in zip(starts[:-1], ctx.sizes, ctx.needs[1:], strict=True)
        ])


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors joined along an existing axis; all other axes must agree, dtypes are promoted to a common one."""
    from pydl.ops._common import as_tensor, promote
    from pydl.ops.elementwise import cast

    tensors = [as_tensor(x) for x in tensors]
    if not tensors:
        raise ArgumentError("[cat] expected at least one tensor, got an empty list")
    dtype = tensors[0].data.dtype
    for x in tensors[1:]:
        dtype = promote(dtype, x.data.dtype)
    dim = normalize_axis("cat", dim, tensors[0].data.ndim)
    return apply(Cat, dim, *[cast(x, dtype) for x in tensors])


concat = cat


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors of one shape joined along a new axis."""
    if not tensors:
        raise ArgumentError("[stack] expected at least one tensor, got an empty list")
    shapes = {x.data.shape for x in tensors}
    if len(shapes) > 1:
        raise ShapeError(f"[stack] all tensors must have one shape, got {sorted(shapes)}")
    return cat([unsqueeze(x, dim) for x in tensors], normalize_axis("stack", dim, tensors[0].data.ndim + 1))


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """`length` elements from `start` along one axis, as a view."""
    from pydl.ops.index import getitem

    dim = normalize_axis("narrow", dim, input.data.ndim)
    n = input.data.shape[dim]
    if start < 0:
        start += n
    if not 0 <= start <= start + length <= n:
        raise ArgumentError(f"[narrow] start={start}, length={length} leave axis {dim} of size {n}")
    return getitem(input, (slice(None),) * dim + (slice(start, start + length),))


def split(input: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Cut along an axis: pieces of one size (the last may be smaller), or of the listed sizes. Views."""
    dim = normalize_axis("split", dim, input.data.ndim)
    n = input.data.shape[dim]
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        if sizes < 1:
            raise ArgumentError(f"[split] split_size must be positive, got {sizes}")
        sizes = [min(sizes, n - s) for s in range(0, n, sizes)] or [0]
    elif sum(sizes) != n:
        raise ArgumentError(f"[split] sections {list(sizes)} add up to {sum(sizes)}, axis {dim} has size {n}")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return tuple(narrow(input, dim, int(s), int(k)) for s, k in zip(starts[:-1], sizes, strict=True))


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """Cut along an axis into at most `chunks` pieces of equal size (the last may be smaller). Views."""
    if chunks < 1:
        raise ArgumentError(f"[chunk] chunks must be positive, got {chunks}")
    n = input.data.shape[normalize_axis("chunk", dim, input.data.ndim)]
    return split(input, max(1, -(-n // chunks)), dim)


def unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """All slices along an axis, without that axis. Views."""
    from pydl.ops.index import getitem

    dim = normalize_axis("unbind", dim, input.data.ndim)
    return tuple(getitem(input, (slice(None),) * dim + (i,)) for i in range(input.data.shape[dim]))


def repeat(input: Any, *repeats: Any) -> Any:
    """The tensor laid out several times along each axis; new axes come in front."""
    counts = _sizes(repeats)
    if len(counts) < input.data.ndim:
        raise ArgumentError(f"[repeat] {len(counts)} counts for {input.data.ndim} axes; give one for each")
    shape = (1,) * (len(counts) - input.data.ndim) + input.data.shape
    x = reshape(input, tuple(v for n in shape for v in (1, n)))
    x = expand(x, tuple(v for c, n in zip(counts, shape, strict=True) for v in (c, n)))
    return reshape(x, tuple(c * n for c, n in zip(counts, shape, strict=True)))


def tile(input: Any, dims: Sequence[int]) -> Any:
    """Like `repeat`; missing counts in front are 1."""
    dims = tuple(dims)
    return repeat(input, (1,) * (input.data.ndim - len(dims)) + dims)


def repeat_interleave(input: Any, repeats: int, dim: int | None = None) -> Any:
    """Each element repeated next to itself along an axis (over the flat order without one)."""
    if dim is None:
        input, dim = flatten(input), 0
    dim = normalize_axis("repeat_interleave", dim, input.data.ndim)
    shape = input.data.shape
    x = expand(unsqueeze(input, dim + 1), (*shape[: dim + 1], repeats, *shape[dim + 1 :]))
    return reshape(x, (*shape[:dim], shape[dim] * repeats, *shape[dim + 1 :]))


class Diagonal(_ViewOp):
    name = "diagonal"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, offset: int, dim1: int, dim2: int) -> np.ndarray:
        ctx.original, ctx.args = x.shape, (offset, dim1, dim2)
        return np.diagonal(x, offset, dim1, dim2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        out = np.zeros(ctx.original, g.data.dtype)
        diagonal_view = np.diagonal(out, *ctx.args)
        diagonal_view.flags.writeable = True  # NumPy marks the view read-only; `out` is ours
        diagonal_view[...] = g.data
        return wrap(out)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The elements where the two axes' indices differ by `offset`, as a read-only view; the new axis is last."""
    n = input.data.ndim
    return apply(Diagonal, input, offset, normalize_axis("diagonal", dim1, n, "dim1"),
                 normalize_axis("diagonal", dim2, n, "dim2"))


def _triangle(input: Any, mask: np.ndarray) -> Any:
    from pydl.ops.elementwise import where

    return where(wrap(mask), input, 0.0 if input.data.dtype.kind == "f" else 0)


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two axes, zeros above the diagonal."""
    return _triangle(input, np.tril(np.ones(input.data.shape[-2:], np.bool_), diagonal))


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two axes, zeros below the diagonal."""
    return _triangle(input, np.triu(np.ones(input.data.shape[-2:], np.bool_), diagonal))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Coordinate grids of 1-D tensors, as views."""
    shape = tuple(x.data.size for x in tensors)
    grids = [
        expand(reshape(x, tuple(-1 if k == i else 1 for k in range(len(shape)))), shape) for i, x in enumerate(tensors)
    ]
    return tuple(transpose(g, 0, 1) if indexing == "xy" and len(shape) > 1 else g for g in grids)


# --------------------------------------------------------------------------- padding

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Pad(Op):
    name, backward_on_tensors, flops_per_element = "pad", True, 0

    @staticmethod
    def window(*args: Any) -> SlidingWindow:
        ones = (1,) * max(args[0].ndim - 2, 0)  # nothing is mixed
        return SlidingWindow(ones, ones, ones)

    @staticmethod
    def shape(x: np.ndarray, pads: tuple[tuple[int, int], ...], mode: str, value: float) -> Shape:
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pads, strict=True))
        for axis, (n, (a, b)) in enumerate(zip(x.shape, pads, strict=True)):
            limit = {"reflect": n - 1, "circular": n}.get(mode)
            if limit is not None and max(a, b) > limit:
                raise ShapeError(f"[pad] {mode} padding ({a}, {b}) on axis {axis} of size {n}: at most {limit} on each side")
            if shape[axis] < 0 or (mode == "replicate" and n == 0 and a + b > 0):
                raise ShapeError(f"[pad] padding ({a}, {b}) does not fit axis {axis} of size {n}")
        return shape

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, pads: tuple[tuple[int, int], ...], mode: str, value: float) -> np.ndarray:
        shape = Pad.shape(x, pads, mode, value)
        ctx.args = x.shape, pads, mode
        last = 3 <= x.ndim <= 5 and is_channels_last(x) and not x.flags.c_contiguous
        out = (empty_channels_last if last else empty)(shape, x.dtype)
        if mode != "constant":
            np.copyto(out, x[np.ix_(*_sources(x.shape, pads, mode))])
            return out
        out.fill(value)
        inner, source = _overlap(x.shape, pads)
        copy(x[source], out[inner])
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        from pydl.ops.index import getitem, index_add

        shape, pads, mode = ctx.args
        if mode == "constant":
            inner, source = _overlap(shape, pads)
            g = getitem(g, inner)
            back = tuple((s.start, n - s.stop) for s, n in zip(source, shape, strict=True))
            return g if all(p == (0, 0) for p in back) else apply(Pad, g, back, "constant", 0.0)
        for axis, positions in enumerate(_sources(shape, pads, mode)):
            if pads[axis] != (0, 0):
                size = (*g.data.shape[:axis], shape[axis], *g.data.shape[axis + 1 :])
                g = index_add(wrap(np.zeros(size, g.data.dtype)), axis, wrap(positions), g)
        return g


def _overlap(shape: Shape, pads: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the input lies in the output, and which part of it (negative padding crops)."""
    inner = tuple(slice(max(a, 0), max(a, 0) + n + min(a, 0) + min(b, 0)) for n, (a, b) in zip(shape, pads, strict=True))
    source = tuple(slice(max(-a, 0), n + min(b, 0)) for n, (a, b) in zip(shape, pads, strict=True))
    return inner, source


def _sources(shape: Shape, pads: Any, mode: str) -> list[np.ndarray]:
    """For each axis, the input index that each output index copies."""
    result = []
    for n, (a, b) in zip(shape, pads, strict=True):
        i = np.arange(-a, n + b)
        if mode == "replicate":
            i = np.clip(i, 0, n - 1)
        elif mode == "circular":
            i %= max(n, 1)
        else:
            i = np.abs(i)
            i = np.where(i >= n, 2 * (n - 1) - i, i)
        result.append(i)
    return result


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Any:
    """Border added to (or, negative, cut from) the last axes.

    Parameters
    ----------
    pad : sequence of int
        Pairs (before, after), the last axis first: ``(left, right, top, bottom)`` pads W, then H.
    mode : {"constant", "reflect", "replicate", "circular"}
        What the border holds: `value`, the mirror image without the edge, the edge, or the other end.
    """
    if mode not in _PAD_MODES:
        raise ArgumentError(f"[pad] mode={mode!r}; expected one of {', '.join(_PAD_MODES)}")
    if len(pad) % 2 or len(pad) > 2 * input.data.ndim:
        raise ArgumentError(
            f"[pad] pad={tuple(pad)}: expected pairs (before, after) for at most {input.data.ndim} axes, last axis first"
        )
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)][::-1]
    if mode != "constant" and any(p < 0 for pair in pairs for p in pair):
        raise ArgumentError(f"[pad] negative padding {tuple(pad)} only with mode='constant'")
    pads = ((0, 0),) * (input.data.ndim - len(pairs)) + tuple(pairs)
    return apply(Pad, input, pads, mode, float(value))
