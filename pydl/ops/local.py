"""Locally connected layers: like a convolution, but every output position has a filter of its own.

Built on the batched matrix product: the windows of a few rows at a time are gathered as matrices [position, N, kh kw C] and
multiplied with the filters [position, O, kh kw C], so that the gathered copy never grows with the image. Filters lie in
memory with the channels innermost, like the data: both sides are then read in long runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ShapeError
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape, SlidingWindow
from pydl.ops._common import channels_last, check_floating, contiguous, copy, empty, empty_channels_last, fill
from pydl.ops.conv import resolve_padding, tuple_of
from pydl.ops.elementwise import add
from pydl.ops.fold import Ints, Windows
from pydl.ops.pad import pad
from pydl.ops.shape import reshape, unsqueeze

__all__ = ["locally_connected2d"]

_ORDER = (0, 1, 2, 4, 5, 3)  # of a weight's axes in memory: H', W', O, kh, kw, C
_GATHERED_BYTES = 8 << 20  # how much memory the windows of one step may take


class LocallyConnected2d(Op):
    """x (N, C, H, W), weight (H', W', O, C, kh, kw) -> (N, O, H', W')."""

    name = "locally_connected2d"

    @staticmethod
    def shape(x: np.ndarray, weight: np.ndarray, windows: Windows) -> Shape:
        size = windows.fit("locally_connected2d", x.shape)
        if size != weight.shape[:2]:
            raise ShapeError(
                f"[locally_connected2d] weight of shape {weight.shape} has filters for {weight.shape[:2]} positions, an input of "
                f"{x.shape[2:]} (with its padding) has {size}; the input's size is fixed when the weight is made"
            )
        if x.shape[1] != weight.shape[3]:
            raise ShapeError(
                f"[locally_connected2d] input of shape {x.shape} has {x.shape[1]} channels, weight {weight.shape} "
                f"(H', W', O, C, kh, kw) expects {weight.shape[3]}"
            )
        return (x.shape[0], weight.shape[2], *size)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, weight: np.ndarray, windows: Windows) -> np.ndarray:
        shape = LocallyConnected2d.shape(x, weight, windows)
        check_floating("locally_connected2d", input=x, weight=weight)
        ctx.save(x, weight)
        ctx.windows = windows
        filters = _filters(weight)
        product = empty((filters.shape[0], shape[0], shape[1]), x.dtype)  # [position, N, O]
        for _, part, patches in _gathered(x, weight.shape, windows):
            _core.matmul(patches, filters[part].transpose(0, 2, 1), None, product[part])
        return copy(_as_image(product, shape), empty_channels_last(shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        x, weight = ctx.saved
        windows: Windows = ctx.windows
        filters = _filters(weight)
        grads = empty((filters.shape[0], g.shape[0], g.shape[1]), g.dtype)  # [position, N, O]
        copy(g, _as_image(grads, g.shape))
        dx = dw = None
        if ctx.needs[0]:
            dx = empty_channels_last(x.shape, x.dtype)
            fill(dx, 0)
        if ctx.needs[1]:
            dw = empty_filters(weight.shape, weight.dtype)
        for first, part, patches in _gathered(x, weight.shape, windows):
            if dw is not None:
                _core.matmul(grads[part].transpose(0, 2, 1), patches, None, _filters(dw)[part])
            if dx is not None:
                _core.matmul(grads[part], filters[part], None, patches)  # the gathered copy is not needed any more
                rows = (part.stop - part.start) // weight.shape[1]
                parts = patches.reshape(rows, weight.shape[1], x.shape[0], *windows.kernel, x.shape[1])
                windows.add(parts.transpose(0, 1, 2, 5, 3, 4), dx, first)
        return dx, dw

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, weight = args[0], args[1]
        elements = math.prod(out_shape)
        macs = elements * math.prod(weight.shape[3:])
        return Cost(2 * macs, x.nbytes + weight.nbytes + elements * x.itemsize)

    @staticmethod
    def window(*args: Any) -> SlidingWindow:
        return SlidingWindow(*args[2])


def empty_filters(shape: Shape, dtype: Any) -> np.ndarray:
    """An uninitialised weight (H', W', O, C, kh, kw) with the channels innermost in memory."""
    return _core.empty(shape, np.dtype(dtype), list(_ORDER))


def _filters(weight: np.ndarray) -> np.ndarray:
    """[position, O, kh kw C]; a view if the channels are innermost in memory."""
    h, w, o = weight.shape[:3]
    return contiguous(weight.transpose(_ORDER)).reshape(h * w, o, math.prod(weight.shape[3:]))


def _as_image(product: np.ndarray, shape: Shape) -> np.ndarray:
    """[position, N, O] seen as (N, O, H', W')."""
    return product.reshape(*shape[2:], *shape[:2]).transpose(2, 3, 0, 1)


def _gathered(x: np.ndarray, weight: Shape, windows: Windows) -> Iterator[tuple[int, slice, np.ndarray]]:
    """For a few rows at a time: the first row, its positions, and their windows as matrices [position, N, kh kw C]."""
    x = channels_last(x)
    rows, columns = weight[:2]
    features = math.prod(weight[3:])
    row_bytes = max(columns * x.shape[0] * features * x.itemsize, 1)
    step = min(max(_GATHERED_BYTES // row_bytes, 1), rows)
    buffer = empty((step, columns, x.shape[0], *windows.kernel, x.shape[1]), x.dtype)
    for first in range(0, rows, step):
        n = min(step, rows - first)
        patches = buffer[:n]
        copy(windows.view(x, first, n, columns).transpose(_ORDER), patches)
        yield first, slice(first * columns, (first + n) * columns), patches.reshape(n * columns, x.shape[0], features)


def locally_connected2d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1
) -> Any:
    """Convolution without weight sharing: y[n, o, i, j] = sum over (c, k) of weight[i, j, o, c, k] x[n, c, window(i, j), k].

    Shapes: input (N, C, H, W) or (C, H, W), weight (H', W', O, C, kh, kw), bias (O, H', W') -> (N, O, H', W'), where
    (H', W') is the output size of a convolution with the same stride, padding and dilation.

    Parameters
    ----------
    padding : int, pair of int, "valid", "same" or "full"
        Zeros around the input, as for `pydl.conv2d`.

    Raises
    ------
    ShapeError
        If the input's size or channels do not fit the weight.
    """
    op = "locally_connected2d"
    if weight.data.ndim != 6:
        raise ShapeError(f"[{op}] weight must be (H', W', O, C, kh, kw), got shape {weight.data.shape}")
    if input.data.ndim not in (3, 4):
        raise ShapeError(f"[{op}] input must be (N, C, H, W) or (C, H, W), got {input.data.shape}")
    expected = (weight.data.shape[2], *weight.data.shape[:2])
    if bias is not None and bias.data.shape != expected:
        raise ShapeError(f"[{op}] bias of shape {bias.data.shape}, expected one for each output: {expected}")
    windows = Windows(weight.data.shape[4:], tuple_of(op, "stride", stride, 2), tuple_of(op, "dilation", dilation, 2))
    (top, bottom), (left, right) = resolve_padding(op, padding, *windows)
    x = input if input.data.ndim == 4 else unsqueeze(input, 0)
    if top or bottom or left or right:
        x = pad(x, (left, right, top, bottom))
    out = apply(LocallyConnected2d, x, weight, windows)
    if bias is not None:
        out = add(out, bias)
    return out if input.data.ndim == 4 else reshape(out, out.data.shape[1:])
