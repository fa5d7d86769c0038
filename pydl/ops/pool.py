"""Max, average and L-p pooling with 1 to 3 spatial axes, adaptive and global forms, unpooling (kernels: csrc/cpu/pool.cpp).

Letters: N batch, C channels, L or D, H, W space, K window. Data is channels-last in memory under the shape (N, C, spatial...);
the batch axis may be left out. A window that reaches over the border sees only what is inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError, TooSmallError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape, SlidingWindow
from pydl.ops._common import channel_rows, channels_last, check_floating, empty_channels_last
from pydl.ops.comparison import where
from pydl.ops.conv import _lift, tuple_of
from pydl.ops.elementwise import abs, mul, pow, sqrt, square
from pydl.ops.shape import flatten, squeeze, unsqueeze

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "global_avg_pool", "global_max_pool", "lp_pool1d",
    "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d",
]

Ints = int | Sequence[int]
OptionalInts = int | None | Sequence[int | None]
_AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


def _check_input(op: str, x: np.ndarray, axes: int) -> None:
    if x.ndim != axes + 2:
        batch = x.shape[1:] if x.shape[:1] == (1,) and x.ndim > 1 else x.shape  # unbatched inputs were given a 1 in front
        raise ShapeError(f"[{op}] input must have shape (N, C, {_AXES[axes]}) or (C, {_AXES[axes]}), got {tuple(batch)}")
    check_floating(op, input=x)
    if 0 in x.shape[2:]:
        raise ShapeError(f"[{op}] input of shape {x.shape} has an empty spatial axis; only the batch may be empty")


@dataclass(frozen=True)
class Window:
    """The windows of a pooling call: size, step, border and spacing per spatial axis."""

    op: str
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil_mode: bool

    def sizes(self, x: np.ndarray) -> Shape:
        """Output sizes: floor((n + 2 p - d (K - 1) - 1) / s) + 1; ceil_mode rounds up, but no window starts after the input."""
        _check_input(self.op, x, len(self.kernel))
        out = []
        for axis, (n, k, s, p, d) in enumerate(
            zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        ):
            if 2 * p > k:
                raise ArgumentError(
                    f"[{self.op}] padding={self.padding} is more than half of kernel_size={self.kernel}: windows would see "
                    "only padding"
                )
            size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (size - 1) * s >= n + p:
                size -= 1
            if size < 1:
                raise TooSmallError(
                    f"[{self.op}] input of shape {x.shape} is too small on axis {axis + 2}: size {n} with padding {p}, the "
                    f"window covers {d * (k - 1) + 1}; use a smaller kernel_size, or fewer pooling layers before this one"
                )
            out.append(size)
        return tuple(out)

    @cached_property
    def native(self) -> list[tuple[int, int, int, int]]:
        axes = list(zip(self.kernel, self.stride, self.padding, self.dilation, strict=True))
        return [(1, 1, 0, 1)] * (3 - len(axes)) + axes

    def taps(self, x: Shape) -> int:
        return math.prod(self.kernel)

    def sliding(self, x: Shape) -> SlidingWindow:
        return SlidingWindow(self.kernel, self.stride, self.dilation)


@dataclass(frozen=True)
class Adaptive:
    """Windows cut so that the output has a given size: output i of n sees [floor(i m / n), ceil((i + 1) m / n))."""

    op: str
    size: tuple[int | None, ...]  # None keeps the input's size

    def sizes(self, x: np.ndarray) -> Shape:
        _check_input(self.op, x, len(self.size))
        return tuple(n if size is None else size for n, size in zip(x.shape[2:], self.size, strict=True))

    @cached_property
    def native(self) -> list[tuple[int, int, int, int]]:
        axes = [(0, 1, 0, 1)] * len(self.size)
        return [(1, 1, 0, 1)] * (3 - len(axes)) + axes

    def taps(self, x: Shape) -> int:
        """At most this many elements per window."""
        return math.prod([n // (size or n) + 2 for n, size in zip(x[2:], self.size, strict=True)])

    def sliding(self, x: Shape) -> SlidingWindow | None:
        """Equal windows side by side, where the sizes divide; None where they differ in size."""
        sizes = [size or n for n, size in zip(x[2:], self.size, strict=True)]
        if any(n % size for n, size in zip(x[2:], sizes, strict=True)):
            return None
        steps = tuple(n // size for n, size in zip(x[2:], sizes, strict=True))
        return SlidingWindow(steps, steps, (1,) * len(steps))


Geometry = Window | Adaptive


class _Pool(Op):
    """What max and average pooling share: shape, cost and window follow from the geometry, the second argument."""

    backward_on_tensors = True

    @staticmethod
    def shape(x: np.ndarray, geometry: Geometry, *options: Any) -> Shape:
        return (*x.shape[:2], *geometry.sizes(x))

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, geometry = args[:2]
        elements = math.prod(out_shape)
        return Cost(elements * geometry.taps(x.shape), x.nbytes + elements * x.itemsize)

    @staticmethod
    def window(*args: Any) -> SlidingWindow | None:
        return args[1].sliding(args[0].shape)


class MaxPool(_Pool):
    """The largest of each window, and on request where it was. Of equal elements the first counts; NaN beats all."""

    name = "max_pool"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, geometry: Geometry, return_indices: bool) -> Any:
        shape = MaxPool.shape(x, geometry)
        x, y, native = channels_last(x), empty_channels_last(shape, x.dtype), geometry.native
        if not (ctx.needs[0] or return_indices):
            _core.max_pool_forward(_lift(x), _lift(y), None, native)
            return y
        # Which tap won fits one byte for all but very large windows.
        taps = empty_channels_last(shape, np.uint8 if geometry.taps(x.shape) <= 255 else np.int32)
        _core.max_pool_forward(_lift(x), _lift(y), _lift(taps), native)
        ctx.save(taps)
        ctx.geometry, ctx.input_shape, ctx.materialize_grads = geometry, x.shape, False
        if not return_indices:
            return y
        indices = empty_channels_last(shape, np.int64)
        _core.max_pool_indices(_lift(x), _lift(indices), _lift(taps), native)
        return y, indices

    @staticmethod
    def backward(ctx: Any, g: Any, *_: Any) -> Any:
        return apply(MaxScatter, g, ctx.saved[0], ctx.geometry, ctx.input_shape) if g is not None else None


class MaxScatter(Op):
    """The gradient of max pooling: each element goes back to where it came from."""

    name = "max_pool_backward"
    backward_on_tensors = True

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, taps: np.ndarray, geometry: Geometry, shape: Shape) -> np.ndarray:
        dx = empty_channels_last(shape, g.dtype)
        _core.max_pool_scatter(_lift(dx), _lift(channels_last(g)), _lift(taps), geometry.native)
        ctx.save(taps)
        ctx.geometry = geometry
        return dx

    @staticmethod
    def backward(ctx: Any, gg: Any) -> Any:
        return apply(MaxGather, gg, ctx.saved[0], ctx.geometry)


class MaxGather(Op):
    """The elements that max pooling chose; linear, the adjoint of `MaxScatter`."""

    name = "max_pool_gather"
    backward_on_tensors = True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, taps: np.ndarray, geometry: Geometry) -> np.ndarray:
        y = empty_channels_last(taps.shape, x.dtype)
        _core.max_pool_gather(_lift(channels_last(x)), _lift(y), _lift(taps), geometry.native)
        ctx.save(taps)
        ctx.geometry, ctx.input_shape = geometry, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(MaxScatter, g, ctx.saved[0], ctx.geometry, ctx.input_shape)


class AvgPool(_Pool):
    """The sum of each window over its size: of the whole window, of what is inside, or a given divisor."""

    name = "avg_pool"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, geometry: Geometry, include_pad: bool, divisor: int) -> np.ndarray:
        y = empty_channels_last(AvgPool.shape(x, geometry), x.dtype)
        _core.avg_pool_forward(_lift(channels_last(x)), _lift(y), geometry.native, include_pad, divisor)
        ctx.arguments, ctx.input_shape = (geometry, include_pad, divisor), x.shape
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(AvgSpread, g, ctx.input_shape, *ctx.arguments)


class AvgSpread(Op):
    """The gradient of average pooling: each element is shared out over its window; linear, so its gradient is `AvgPool`."""

    name = "avg_pool_backward"
    backward_on_tensors = True

    @staticmethod
    def forward(
        ctx: Any, g: np.ndarray, shape: Shape, geometry: Geometry, include_pad: bool, divisor: int
    ) -> np.ndarray:
        dx = empty_channels_last(shape, g.dtype)
        _core.avg_pool_backward(_lift(dx), _lift(channels_last(g)), geometry.native, include_pad, divisor)
        ctx.arguments = (geometry, include_pad, divisor)
        return dx

    @staticmethod
    def backward(ctx: Any, gg: Any) -> Any:
        return apply(AvgPool, gg, *ctx.arguments)


class MaxUnpool(Op):
    """Values put back at flat positions; everything else is 0. Where two share a position, the later one stays."""

    name = "max_unpool"

    @staticmethod
    def shape(op: str, x: np.ndarray, indices: np.ndarray, size: Shape) -> Shape:
        _check_input(op, x, len(size))
        if indices.shape != x.shape:
            raise ShapeError(f"[{op}] indices must have the input's shape {x.shape}, got {indices.shape}")
        if indices.dtype != np.int64:
            raise DTypeError(f"[{op}] indices must be int64 (from max_pool with return_indices=True), got {indices.dtype}")
        positions = math.prod(size)
        if indices.size and not (indices.min() >= 0 and indices.max() < positions):
            raise ArgumentError(
                f"[{op}] indices from {indices.min()} to {indices.max()} do not fit an output of size {size} "
                f"({positions} positions); give the size of the pooled input as output_size"
            )
        return (*x.shape[:2], *size)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, indices: np.ndarray, op: str, size: Shape) -> np.ndarray:
        y = empty_channels_last(MaxUnpool.shape(op, x, indices, size), x.dtype)
        x, indices = channels_last(x), channels_last(indices)
        _core.max_unpool_forward(channel_rows(x), channel_rows(indices), channel_rows(y))
        ctx.save(indices)
        return y

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        (indices,) = ctx.saved
        dx = empty_channels_last(indices.shape, g.dtype)
        _core.max_unpool_backward(channel_rows(dx), channel_rows(indices), channel_rows(channels_last(g)))
        return dx


def _batched(function: Callable[..., Any], axes: int, *inputs: Any) -> Any:
    """Inputs without the batch axis are a batch of one."""
    if inputs[0].data.ndim != axes + 1:
        return function(*inputs)
    out = function(*(unsqueeze(x, 0) for x in inputs))
    return tuple(squeeze(o, 0) for o in out) if isinstance(out, tuple) else squeeze(out, 0)


def _window(
    n: int, op: str, kernel: Ints, stride: Ints | None, padding: Ints = 0, dilation: Ints = 1, ceil_mode: bool = False
) -> Window:
    values = (kernel, stride, padding, dilation)
    return _make_window(n, op, bool(ceil_mode), *(tuple(v) if isinstance(v, list) else v for v in values))


@lru_cache(maxsize=512)
def _make_window(
    n: int, op: str, ceil_mode: bool, kernel: Ints, stride: Ints | None, padding: Ints, dilation: Ints
) -> Window:
    sizes = tuple_of(op, "kernel_size", kernel, n)
    steps = sizes if stride is None else tuple_of(op, "stride", stride, n)
    return Window(op, sizes, steps, tuple_of(op, "padding", padding, n, 0), tuple_of(op, "dilation", dilation, n), ceil_mode)


def _adaptive(n: int, op: str, output_size: OptionalInts) -> Adaptive:
    single = output_size is None or isinstance(output_size, int | np.integer)
    sizes: Any = (output_size,) * n if single else tuple(output_size)  # type: ignore[arg-type]
    if len(sizes) != n or any(s is not None and s < 1 for s in sizes):
        raise ArgumentError(f"[{op}] output_size={output_size}: expected a positive number or None, or {n} of them")
    return Adaptive(op, tuple(None if s is None else int(s) for s in sizes))


def _max_pool(
    n: int, input: Any, kernel: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool, indices: bool
) -> Any:
    window = _window(n, f"max_pool{n}d", kernel, stride, padding, dilation, ceil_mode)
    return _batched(lambda x: apply(MaxPool, x, window, indices), n, input)


def max_pool1d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of each window along one axis: (N, C, L) -> (N, C, L'). See `max_pool2d`."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of each window: y[n, c, i, j] = max over u, v of x[n, c, i s + u d - p, j s + v d - p].

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H', W') with H' = floor((H + 2p - d (K - 1) - 1) / s) + 1. Of equal elements
    the first gets the gradient; a NaN in the window gives NaN.

    Parameters
    ----------
    kernel_size, stride : int or tuple
        Size of the window; its step (None: the size).
    padding : int or tuple
        Border on each side, at most half of the window; it never wins.
    dilation : int or tuple
        Distance between the elements of a window.
    ceil_mode : bool
        Round the output size up, so that the last window may reach over the end.
    return_indices : bool
        Also return where each was, as flat int64 positions i W + j of the input's plane (for `max_unpool2d`).

    Raises
    ------
    ShapeError
        If the input has other axes, or is smaller than the window.
    ArgumentError
        If the padding is more than half of the window.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The largest of each window over D, H, W: (N, C, D, H, W) -> (N, C, D', H', W'). See `max_pool2d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(
    n: int, input: Any, kernel: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool, include_pad: bool,
    divisor: int | None,
) -> Any:
    window = _window(n, f"avg_pool{n}d", kernel, stride, padding, 1, ceil_mode)
    if divisor == 0:
        raise ArgumentError(f"[{window.op}] divisor_override=0; expected a number other than 0, or None")
    return _batched(lambda x: apply(AvgPool, x, window, bool(include_pad), divisor or 0), n, input)


def avg_pool1d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Any:
    """The mean of each window along one axis: (N, C, L) -> (N, C, L'). See `avg_pool2d`."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """The mean of each window: y[n, c, i, j] = (sum over u, v of x[n, c, i s + u - p, j s + v - p]) / divisor.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H', W') with H' = floor((H + 2p - K) / s) + 1.

    Parameters
    ----------
    kernel_size, stride : int or tuple
        Size of the window; its step (None: the size).
    padding : int or tuple
        Zeros on each side, at most half of the window.
    ceil_mode : bool
        Round the output size up, so that the last window may reach over the end.
    count_include_pad : bool
        Whether the padding counts in the divisor.
    divisor_override : int, optional
        This divisor instead of the number of elements.

    Raises
    ------
    ShapeError
        If the input has other axes, or is smaller than the window.
    ArgumentError
        If the padding is more than half of the window, or the divisor is 0.
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Any:
    """The mean of each window over D, H, W: (N, C, D, H, W) -> (N, C, D', H', W'). See `avg_pool2d`."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(n: int, input: Any, norm_type: float, kernel: Ints, stride: Ints | None, ceil_mode: bool) -> Any:
    p = float(norm_type)
    if not p > 0:
        raise ArgumentError(f"[lp_pool{n}d] norm_type={norm_type}: expected a positive number")
    window = _window(n, f"lp_pool{n}d", kernel, stride, ceil_mode=ceil_mode)
    if p == float("inf"):
        return _batched(lambda x: apply(MaxPool, abs(x), window, False), n, input)
    powers = input if p == 1 else square(input) if p == 2 else pow(input, p)
    mean = _batched(lambda x: apply(AvgPool, x, window, True, 0), n, powers)
    total = mul(mean, window.taps(()))
    if p == 1:
        return total
    zero = wrap(total.data == 0)  # the root has no gradient there: 0, as in PyTorch
    inside = where(zero, 1.0, total)
    return where(zero, 0.0, sqrt(inside) if p == 2 else pow(inside, 1 / p))


def lp_pool1d(input: Any, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False) -> Any:
    """The p-norm of each window along one axis: (N, C, L) -> (N, C, L'). See `lp_pool2d`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False) -> Any:
    """The p-norm of each window: (sum over the window of x^p)^(1/p); p = 1 is the sum, p = inf the largest magnitude.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, H', W') with H' = floor((H - K) / s) + 1. As in PyTorch, powers are of x, not of
    its magnitude (an odd p is for x >= 0), a window cut off by ceil_mode counts as if it were whole, and where
    the sum is 0 the gradient is 0.

    Parameters
    ----------
    norm_type : float
        The p > 0 of the norm.
    kernel_size, stride : int or tuple
        Size of the window; its step (None: the size).
    ceil_mode : bool
        Round the output size up, so that the last window may reach over the end.
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False) -> Any:
    """The p-norm of each window over D, H, W: (N, C, D, H, W) -> (N, C, D', H', W'). See `lp_pool2d`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _adaptive_max(n: int, input: Any, output_size: OptionalInts, return_indices: bool) -> Any:
    windows = _adaptive(n, f"adaptive_max_pool{n}d", output_size)
    return _batched(lambda x: apply(MaxPool, x, windows, return_indices), n, input)


def adaptive_max_pool1d(input: Any, output_size: OptionalInts, return_indices: bool = False) -> Any:
    """The largest of each of `output_size` parts of the axis: (N, C, L) -> (N, C, output_size). See `adaptive_avg_pool2d`."""
    return _adaptive_max(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: OptionalInts, return_indices: bool = False) -> Any:
    """The largest of each part of the plane: (N, C, H, W) -> (N, C, *output_size). See `adaptive_avg_pool2d`, `max_pool2d`."""
    return _adaptive_max(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: OptionalInts, return_indices: bool = False) -> Any:
    """The largest of each part of the volume: (N, C, D, H, W) -> (N, C, *output_size). See `adaptive_avg_pool2d`."""
    return _adaptive_max(3, input, output_size, return_indices)


def _adaptive_avg(n: int, input: Any, output_size: OptionalInts) -> Any:
    windows = _adaptive(n, f"adaptive_avg_pool{n}d", output_size)
    return _batched(lambda x: apply(AvgPool, x, windows, True, 0), n, input)


def adaptive_avg_pool1d(input: Any, output_size: OptionalInts) -> Any:
    """The mean of each of `output_size` parts of the axis: (N, C, L) -> (N, C, output_size). See `adaptive_avg_pool2d`."""
    return _adaptive_avg(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: OptionalInts) -> Any:
    """The mean of each part of the plane, cut so that the output has the given size whatever the input's.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, *output_size). Output i of n sees rows floor(i H / n) up to ceil((i + 1) H / n),
    so that parts may overlap by one row when n does not divide H.

    Parameters
    ----------
    output_size : int, None or tuple
        A number for each axis, or one for all; None keeps the input's size.
    """
    return _adaptive_avg(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: OptionalInts) -> Any:
    """The mean of each part of the volume: (N, C, D, H, W) -> (N, C, *output_size). See `adaptive_avg_pool2d`."""
    return _adaptive_avg(3, input, output_size)


def _global(function: Callable[..., Any], op: str, input: Any, keepdim: bool) -> Any:
    axes = input.data.ndim - 2
    if axes not in _AXES:
        raise ShapeError(f"[{op}] input must have shape (N, C, L), (N, C, H, W) or (N, C, D, H, W), got {input.data.shape}")
    out = function(axes, input, 1)
    return out if keepdim else flatten(out, 1)


def global_avg_pool(input: Any, keepdim: bool = False) -> Any:
    """The mean over all of space: (N, C, spatial...) -> (N, C), or (N, C, 1, ...) with keepdim (arXiv:1312.4400)."""
    return _global(_adaptive_avg, "global_avg_pool", input, keepdim)


def global_max_pool(input: Any, keepdim: bool = False) -> Any:
    """The largest over all of space: (N, C, spatial...) -> (N, C), or (N, C, 1, ...) with keepdim."""
    return _global(lambda n, x, size: _adaptive_max(n, x, size, False), "global_max_pool", input, keepdim)


def _max_unpool(
    n: int, input: Any, indices: Any, kernel: Ints, stride: Ints | None, padding: Ints, output_size: Sequence[int] | None
) -> Any:
    op = f"max_unpool{n}d"
    w = _window(n, op, kernel, stride, padding)
    if input.data.ndim not in (n + 1, n + 2):
        raise ShapeError(f"[{op}] input must have shape (N, C, {_AXES[n]}) or (C, {_AXES[n]}), got {input.data.shape}")
    usual = tuple(
        (m - 1) * s - 2 * p + k for m, s, p, k in zip(input.data.shape[-n:], w.stride, w.padding, w.kernel, strict=True)
    )
    size = usual if output_size is None else tuple(int(m) for m in output_size)[-n:]
    given = n if output_size is None else len(output_size)
    if given not in (n, n + 1, n + 2) or any(not -s < m - u < s for m, u, s in zip(size, usual, w.stride, strict=True)):
        raise ArgumentError(
            f"[{op}] output_size={output_size}: expected {n} sizes less than the stride {w.stride} away from {usual}"
        )
    return _batched(lambda x, i: apply(MaxUnpool, x, i, op, size), n, input, indices)


def max_unpool1d(input: Any, indices: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0,
                 output_size: Sequence[int] | None = None) -> Any:
    """Puts maxima back along one axis: (N, C, L') and indices -> (N, C, L). See `max_unpool2d`."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Any, indices: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0,
                 output_size: Sequence[int] | None = None) -> Any:
    """The maxima of `max_pool2d` put back where they were; 0 everywhere else (arXiv:1311.2901).

    Shapes: input and indices (N, C, H', W') or (C, H', W') -> (N, C, H, W) with H = (H' - 1) s - 2p + K, or `output_size`,
    which several sizes of the pooled input make necessary.

    Raises
    ------
    ArgumentError
        If an index lies outside the output.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Any, indices: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0,
                 output_size: Sequence[int] | None = None) -> Any:
    """Puts maxima back over D, H, W: (N, C, D', H', W') and indices -> (N, C, D, H, W). See `max_unpool2d`."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
