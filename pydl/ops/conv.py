"""Convolution and transposed convolution with 1 to 3 spatial axes (kernels: csrc/cpu/conv*.cpp).

Letters: N batch, C channels in, O channels out, G groups; spatial axes D, H, W. Data is channels-last in memory under the
shape (N, C, spatial...). "Convolution" is the field's: a cross-correlation, the filter is not flipped.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, GraphError, ShapeError, TooSmallError
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape, SlidingWindow
from pydl.ops._common import (
    _CHANNELS_LAST_ORDER,
    channels_last,
    check_floating,
    contiguous,
    empty,
    empty_channels_last,
    empty_like,
)
from pydl.ops.shape import squeeze, unsqueeze

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_norm", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "get_conv_precision", "set_conv_precision",
]  # fmt: skip

Ints = int | Sequence[int]
_AXES = {1: "(L)", 2: "(H, W)", 3: "(D, H, W)"}


_METHODS = {"fast": "automatic", "exact": "gemm"}


def set_conv_precision(precision: str) -> None:
    """Choose how float32 convolutions may be computed: "fast" (default) or "exact"; for all threads of the process.

    "fast" lets 3x3 and 5x5 convolutions of stride 1 use Winograd's method where it is faster: up to four times fewer products.
    Its relative error in the 2-norm (against float64) stays below 5e-6, about 1e-6 as a rule; but errors are relative to the
    largest values of a tile, so that single outputs near zero have fewer correct digits, and a NaN or an infinity in the input
    reaches (as NaN) the whole tile of up to 4 x 4 outputs. "exact" sums products in float32 as they stand: exact on small
    integers, special values as in plain arithmetic. float64 is always computed in that way.

    Raises
    ------
    ArgumentError
        For another name.
    """
    if precision not in _METHODS:
        raise ArgumentError(f"[set_conv_precision] precision={precision!r}: expected 'fast' or 'exact'")
    _core.set_conv_method(_METHODS[precision])


def get_conv_precision() -> str:
    """The name given to `set_conv_precision`: "fast" or "exact"."""
    return "exact" if _core.conv_method() == "gemm" else "fast"


def tuple_of(op: str, name: str, value: Ints, n: int, least: int = 1) -> tuple[int, ...]:
    """A number for each of n spatial axes."""
    values = (value,) * n if isinstance(value, int | np.integer) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(values) != n or not all(isinstance(v, int | np.integer) for v in values):
        raise ArgumentError(f"[{op}] {name}={value!r}: expected one number or {n}")
    if not all(least <= v < 1 << 31 for v in values):
        raise ArgumentError(f"[{op}] {name}={value}: expected at least {least} and less than 2**31")
    return tuple(int(v) for v in values)


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """floor((size + before + after - dilation (kernel - 1) - 1) / stride) + 1."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def resolve_padding(
    op: str, padding: Any, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis from numbers or "valid" (none), "same" (size kept), "full" (every overlap)."""
    if isinstance(padding, str):
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if padding == "valid":
            return tuple((0, 0) for _ in reach)
        if padding == "full":
            return tuple((r, r) for r in reach)
        if padding == "same":
            if any(s != 1 for s in stride):
                raise ArgumentError(f"[{op}] padding='same' needs stride 1, got stride {stride}; give the padding as numbers")
            return tuple((r // 2, r - r // 2) for r in reach)
        raise ArgumentError(f"[{op}] padding={padding!r}; expected a number, numbers, 'valid', 'same' or 'full'")
    return tuple((p, p) for p in tuple_of(op, "padding", padding, len(kernel), 0))


def _lift(array: np.ndarray) -> np.ndarray:
    """(N, C, spatial...) channels-last -> the same memory as [N, D, H, W, C]."""
    x = array.transpose(_CHANNELS_LAST_ORDER[array.ndim])
    return x.reshape(x.shape[0], *(1,) * (5 - x.ndim), *x.shape[1:])


class Geometry:
    """The numbers of a convolution, also in the form that the kernels take; shared by all calls with the same ones."""

    __slots__ = ("checked", "dilation", "groups", "native", "pads", "stride")

    def __init__(self, stride: Shape, pads: tuple[tuple[int, int], ...], dilation: Shape, groups: int) -> None:
        self.stride, self.pads, self.dilation, self.groups = stride, pads, dilation, groups
        self.native = _core.ConvNumbers(stride, [p[0] for p in pads], dilation, groups)
        self.checked: dict[Any, Shape] = {}  # shapes and dtypes that have passed the checks -> the shape of the output

    def forward_shape(self, x: Shape, weight: Shape) -> Shape:
        sizes = tuple(
            output_size(n, k, s, p[0], p[1], d)
            for n, k, s, p, d in zip(x[2:], weight[2:], self.stride, self.pads, self.dilation, strict=True)
        )
        return (x[0], weight[0], *sizes)

    # The three products, each writing a new array.
    def forward(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, shape: Shape, relu: bool = False
    ) -> np.ndarray:
        y = empty_channels_last(shape, x.dtype)
        _core.conv_forward(x, weight, None if bias is None else contiguous(bias), y, self.native, relu)
        return y

    def data_gradient(self, shape: Shape, weight: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        x = empty_channels_last(shape, y.dtype)
        _core.conv_data_gradient(x, weight, None if bias is None else contiguous(bias), y, self.native)
        return x

    def weight_gradient(self, x: np.ndarray, like: np.ndarray, y: np.ndarray) -> np.ndarray:
        weight = empty_like(like)
        _core.conv_weight_gradient(x, weight, None, y, self.native)
        return weight


def _sum_positions(g: np.ndarray) -> np.ndarray:
    """The bias gradient: the sum over batch and space of channels-last data."""
    channels = g.shape[1]
    out = empty((channels,), g.dtype)
    rows = g.transpose(_CHANNELS_LAST_ORDER[g.ndim]).reshape(1, math.prod((g.shape[0], *g.shape[2:])), channels)
    _core.reduce(_core.REDUCTIONS["sum"], rows, out.reshape(1, channels))
    return out


def _behind_relu(g: np.ndarray, y: np.ndarray, bias: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The gradient where the result y of a ReLU is positive, else 0; and with `bias` its sum over batch and space."""
    masked = empty_channels_last(g.shape, g.dtype)
    sums = empty((g.shape[1],), g.dtype) if bias else None
    _core.conv_relu_gradient(g, y, masked, sums)
    return masked, sums


def _check_weight(op: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, channel_axis: int, groups: int) -> None:
    n = weight.ndim - 2
    if x.ndim != n + 2:
        raise ShapeError(f"[{op}] input must have shape (N, C, {_AXES[n][1:-1]}), got {x.shape}")
    expected = weight.shape[1] * groups if channel_axis == 1 else weight.shape[0]
    if x.shape[1] != expected:
        raise ShapeError(
            f"[{op}] input of shape {x.shape} has {x.shape[1]} channels, weight {weight.shape} with groups={groups} expects "
            f"{expected}; check in_channels, or whether the axes are (N, C, {_AXES[n][1:-1]})"
        )
    if weight.shape[0] % groups:
        raise ShapeError(f"[{op}] weight {weight.shape}: its first axis ({weight.shape[0]}) is no multiple of groups={groups}")
    outputs = weight.shape[0] if channel_axis == 1 else weight.shape[1] * groups
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"[{op}] bias of shape {bias.shape}, expected ({outputs},)")
    if 0 in weight.shape[2:]:
        raise ShapeError(f"[{op}] weight {weight.shape} has an empty kernel")
    check_floating(op, input=x, weight=weight, bias=bias)


class _Sliding(Op):
    """What convolutions cost to go back through."""

    @classmethod
    def backward_cost(cls, forward: Cost, needs: tuple[bool, ...], *args: Any) -> Cost:
        """The data gradient and the weight gradient each take as many operations as the forward."""
        factor = needs[0] + needs[1]
        return Cost(factor * forward.flops, factor * forward.bytes)


class Conv(_Sliding):
    """Convolution of any number of spatial axes, then perhaps ReLU; the gradients are native kernels."""

    name = "conv"

    @staticmethod
    def shape(
        x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry, relu: bool = False
    ) -> Shape:
        signature = x.shape, weight.shape, None if bias is None else bias.shape, x.dtype, weight.dtype, bias is None or bias.dtype
        known = geometry.checked.get(signature)
        if known is not None:
            return known
        op = f"conv{weight.ndim - 2}d"
        _check_weight(op, x, weight, bias, 1, geometry.groups)
        shape = geometry.forward_shape(x.shape, weight.shape)
        for axis, n in enumerate(shape[2:]):
            if n < 1:
                reach = geometry.dilation[axis] * (weight.shape[axis + 2] - 1) + 1
                raise TooSmallError(
                    f"[{op}] input of shape {x.shape} is too small on axis {axis + 2}: size {x.shape[axis + 2]} with padding "
                    f"{geometry.pads[axis]}, the kernel (with dilation) covers {reach}; enlarge the input or the padding"
                )
        if len(geometry.checked) < 64:
            geometry.checked[signature] = shape
        return shape

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry, relu: bool = False
    ) -> np.ndarray:
        shape = Conv.shape(x, weight, bias, geometry)
        x = channels_last(x)
        y = geometry.forward(x, weight, bias, shape, relu)
        ctx.save(x, weight, y if relu else None)
        ctx.geometry = geometry
        return y

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        x, weight, y = ctx.saved
        geometry: Geometry = ctx.geometry
        g = channels_last(g)
        db = None
        if y is not None:
            g, db = _behind_relu(g, y, ctx.needs[2])
        elif ctx.needs[2]:
            db = _sum_positions(g)
        dx = geometry.data_gradient(x.shape, weight, g) if ctx.needs[0] else None
        dw = geometry.weight_gradient(x, weight, g) if ctx.needs[1] else None
        return dx, dw, db

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, weight = args[0], args[1]
        elements = math.prod(out_shape)
        macs = elements * math.prod(weight.shape[1:])
        return Cost(2 * macs + (elements if args[2] is not None else 0), x.nbytes + weight.nbytes + elements * x.itemsize)

    @staticmethod
    def window(*args: Any) -> SlidingWindow:
        weight, geometry = args[1], args[3]
        return SlidingWindow(weight.shape[2:], geometry.stride, geometry.dilation)


class ConvNorm(Conv):
    """Convolution, batch norm by given statistics, perhaps a residual and ReLU, in one pass over memory: for inference, it
    has no gradient."""

    name = "conv_norm"

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry, mean: np.ndarray,
        var: np.ndarray, norm_weight: np.ndarray | None, norm_bias: np.ndarray | None, eps: float,
        residual: np.ndarray | None, relu: bool,
    ) -> np.ndarray:
        if any(ctx.needs):
            raise GraphError("[conv_norm] has no gradient; call it under pydl.no_grad(), or convolution and batch norm apart")
        shape = Conv.shape(x, weight, bias, geometry)
        vectors = {"running_mean": mean, "running_var": var, "norm_weight": norm_weight, "norm_bias": norm_bias}
        for name, v in vectors.items():
            if v is not None and v.shape != shape[1:2]:
                raise ShapeError(f"[conv_norm] {name} of shape {v.shape}; expected {shape[1:2]}, one number a channel")
        if residual is not None and residual.shape != shape:
            raise ShapeError(f"[conv_norm] residual of shape {residual.shape}; expected {shape} as the output")
        check_floating("conv_norm", input=x, residual=residual, **vectors)
        norm = (*(None if v is None else contiguous(v) for v in (norm_weight, norm_bias, mean, var)), eps)
        y = empty_channels_last(shape, x.dtype)
        last = None if residual is None else channels_last(residual)
        bias = None if bias is None else contiguous(bias)
        _core.conv_forward(channels_last(x), weight, bias, y, geometry.native, relu, norm, last)
        return y

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        flops, moved = Conv.cost(out_shape, *args)
        elements = math.prod(out_shape)
        residual = args[9]
        return Cost(flops + (2 if residual is None else 3) * elements, moved + (0 if residual is None else residual.nbytes))


def conv_norm(
    input: Any, weight: Any, bias: Any, stride: Ints, padding: Any, dilation: Ints, groups: int, running_mean: Any,
    running_var: Any, norm_weight: Any = None, norm_bias: Any = None, eps: float = 1e-5, *, residual: Any = None,
    relu: bool = False,
) -> Any:
    """Batch norm by running statistics of a convolution, plus a residual, then perhaps ReLU: one pass over memory, no gradient.

    Shapes: input (N, C, spatial...), weight (O, C/groups, spatial...), vectors (O), residual as the output (N, O, spatial...).

        y = (conv(x) - mean) / sqrt(var + eps) * norm_weight + norm_bias + residual

    Each sum is multiplied by norm_weight / sqrt(var + eps) and shifted before it is stored: within rounding the result of
    `conv2d`, `batch_norm` and what follows.
    """
    geometry = _geometry("conv_norm", weight.data.shape[2:], stride, padding, dilation, groups)
    return apply(ConvNorm, input, weight, bias, geometry, running_mean, running_var, norm_weight, norm_bias, float(eps), residual,
                 relu)


def _geometry(op: str, kernel: Shape, stride: Ints, padding: Any, dilation: Ints, groups: int) -> Geometry:
    """The numbers of a call, made once for each combination."""
    numbers = (tuple(v) if isinstance(v, list) else v for v in (stride, padding, dilation))
    try:
        return _shared_geometry(op, kernel, *numbers, groups)
    except TypeError:  # something that cannot be a key, and no number either
        return _shared_geometry.__wrapped__(op, kernel, stride, padding, dilation, groups)


@functools.lru_cache(1024, typed=True)
def _shared_geometry(op: str, kernel: Shape, stride: Any, padding: Any, dilation: Any, groups: Any) -> Geometry:
    steps, holes = tuple_of(op, "stride", stride, len(kernel)), tuple_of(op, "dilation", dilation, len(kernel))
    if not isinstance(groups, int | np.integer) or groups < 1:
        raise ArgumentError(f"[{op}] groups={groups!r}: expected an integer of at least 1")
    return Geometry(steps, resolve_padding(op, padding, kernel, steps, holes), holes, int(groups))


def _conv(
    n: int, input: Any, weight: Any, bias: Any, stride: Ints, padding: Any, dilation: Ints, groups: int, relu: bool
) -> Any:
    op = f"conv{n}d"
    if weight.data.ndim != n + 2:
        raise ShapeError(f"[{op}] weight must be (O, C/groups, {_AXES[n][1:-1]}), got shape {weight.data.shape}")
    geometry = _geometry(op, weight.data.shape[2:], stride, padding, dilation, groups)
    if input.data.ndim == n + 1:  # without the batch axis: a batch of one
        return squeeze(apply(Conv, unsqueeze(input, 0), weight, bias, geometry, relu), 0)
    return apply(Conv, input, weight, bias, geometry, relu)


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1,
           groups: int = 1, *, relu: bool = False) -> Any:
    """Convolution over one axis: input (N, C, L), weight (O, C/groups, K), bias (O) -> (N, O, L'). See `conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, relu)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1,
           groups: int = 1, *, relu: bool = False) -> Any:
    """Convolution over H and W: y[n, o, i, j] = b[o] + sum over c, u, v of w[o, c, u, v] x[n, c, i s + u d - p, j s + v d - p].

    Shapes: input (N, C, H, W), weight (O, C/groups, KH, KW), bias (O) -> (N, O, H', W') with
    H' = floor((H + 2p - d (KH - 1) - 1) / s) + 1.

    Parameters
    ----------
    stride, dilation : int or tuple
        Step of the filter; distance between its taps.
    padding : int, tuple, "valid", "same" or "full"
        Zeros around the input: a number on both sides, none, as many as keep the size (stride 1), or K - 1.
    groups : int
        Channels are cut into groups that do not see each other; groups = C = O is depthwise convolution.
    relu : bool
        Negative results become 0 in the same pass over memory.

    Raises
    ------
    ShapeError
        If channels, groups or sizes do not fit.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, relu)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1,
           groups: int = 1, *, relu: bool = False) -> Any:
    """Convolution over D, H, W: input (N, C, D, H, W), weight (O, C/groups, KD, KH, KW) -> (N, O, D', H', W'). See `conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, relu)


class ConvTranspose(_Sliding):
    """The data gradient of a convolution as a forward operation: input (N, O, ...) -> (N, C, ...)."""

    name = "conv_transpose"

    @staticmethod
    def shape(
        x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry, output_padding: Shape
    ) -> Shape:
        op = f"conv_transpose{weight.ndim - 2}d"
        _check_weight(op, x, weight, bias, 0, geometry.groups)
        for extra, s, d in zip(output_padding, geometry.stride, geometry.dilation, strict=True):
            if extra >= max(s, d):
                raise ArgumentError(
                    f"[{op}] output_padding={output_padding} must be smaller than stride {geometry.stride} or dilation "
                    f"{geometry.dilation}"
                )
        sizes = tuple(
            (n - 1) * s - p[0] - p[1] + d * (k - 1) + e + 1
            for n, s, p, d, k, e in zip(
                x.shape[2:], geometry.stride, geometry.pads, geometry.dilation, weight.shape[2:], output_padding, strict=True
            )
        )
        if any(n < 1 for n in sizes):
            raise ShapeError(f"[{op}] input of shape {x.shape} gives an output of size {sizes}; reduce the padding")
        return (x.shape[0], weight.shape[1] * geometry.groups, *sizes)

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry, output_padding: Shape
    ) -> np.ndarray:
        shape = ConvTranspose.shape(x, weight, bias, geometry, output_padding)
        x = channels_last(x)
        ctx.save(x, weight)
        ctx.geometry = geometry
        return geometry.data_gradient(shape, weight, x, bias)

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        x, weight = ctx.saved
        geometry: Geometry = ctx.geometry
        g = channels_last(g)
        dx = None
        if ctx.needs[0]:
            dx = empty_channels_last(x.shape, x.dtype)
            _core.conv_forward(g, weight, None, dx, geometry.native)
        dw = geometry.weight_gradient(g, weight, x) if ctx.needs[1] else None
        return dx, dw, _sum_positions(g) if ctx.needs[2] else None

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, weight = args[0], args[1]
        macs = x.size * math.prod(weight.shape[1:])
        elements = math.prod(out_shape)
        return Cost(2 * macs + (elements if args[2] is not None else 0), x.nbytes + weight.nbytes + elements * x.itemsize)

    @staticmethod
    def window(*args: Any) -> SlidingWindow:
        weight, geometry = args[1], args[3]
        return SlidingWindow(weight.shape[2:], geometry.stride, geometry.dilation, transposed=True)


def _conv_transpose(
    n: int, input: Any, weight: Any, bias: Any, stride: Ints, padding: Ints, output_padding: Ints, groups: int, dilation: Ints
) -> Any:
    op = f"conv_transpose{n}d"
    if weight.data.ndim != n + 2:
        raise ShapeError(f"[{op}] weight must be (C, O/groups, {_AXES[n][1:-1]}), got shape {weight.data.shape}")
    pads = tuple_of(op, "padding", padding, n, 0)
    extra = tuple_of(op, "output_padding", output_padding, n, 0)
    geometry = _geometry(op, weight.data.shape[2:], stride, pads, dilation, groups)
    if input.data.ndim == n + 1:
        return squeeze(apply(ConvTranspose, unsqueeze(input, 0), weight, bias, geometry, extra), 0)
    return apply(ConvTranspose, input, weight, bias, geometry, extra)


def conv_transpose1d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Any:
    """Transposed convolution over one axis: input (N, C, L), weight (C, O/groups, K) -> (N, O, L')."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Any:
    """Transposed convolution: each input element adds a scaled copy of the filter to the output.

    Shapes: input (N, C, H, W), weight (C, O/groups, KH, KW), bias (O) -> (N, O, H', W') with
    H' = (H - 1) s - 2p + d (KH - 1) + output_padding + 1. It is the gradient of `conv2d` for its input
    (Dumoulin and Visin 2016, arXiv:1603.07285).
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Any:
    """Transposed convolution over D, H, W: input (N, C, D, H, W), weight (C, O/groups, KD, KH, KW). See `conv_transpose2d`."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
