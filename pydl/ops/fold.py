"""Sliding windows: cut out as columns (unfold, "im2col") and added back (fold, "col2im")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ShapeError
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import check_floating, copy, empty, fill
from pydl.ops._maps import MAPS
from pydl.ops.conv import output_size, tuple_of
from pydl.ops.pad import pad
from pydl.ops.shape import reshape, unsqueeze

__all__ = ["fold", "unfold"]

Ints = int | Sequence[int]


class Windows(NamedTuple):
    """Which windows of an image (N, C, H, W): the kernel's size, and the distances between windows and inside one."""

    kernel: Shape
    stride: Shape
    dilation: Shape

    def fit(self, op: str, shape: Shape) -> Shape:
        """How many windows fit along H and W."""
        sizes = [output_size(n, k, s, 0, 0, d) for n, k, s, d in zip(shape[2:], *self, strict=True)]
        if min(sizes) < 1:
            raise ShapeError(f"[{op}] input of shape {shape} (with its padding) is smaller than the window: kernel "
                             f"{self.kernel}, dilation {self.dilation}; enlarge the input or the padding")
        return tuple(sizes)

    def view(self, x: np.ndarray, first: int, rows: int, columns: int) -> np.ndarray:
        """All windows of `rows` rows from row `first`: [rows, columns, N, C, kh, kw] over the memory of x (N, C, H, W)."""
        n, c, h, w = x.strides
        (kh, kw), (sh, sw), (dh, dw) = self
        return np.lib.stride_tricks.as_strided(
            x[:, :, first * sh :], (rows, columns, *x.shape[:2], kh, kw), (h * sh, w * sw, n, c, h * dh, w * dw)
        )

    def add(self, parts: np.ndarray, x: np.ndarray, first: int) -> None:
        """x[window] += part for parts [rows, columns, N, C, kh, kw], one kernel position after the other."""
        rows, columns = parts.shape[:2]
        (kh, kw), (sh, sw), (dh, dw) = self
        for i in range(kh):
            for j in range(kw):
                top, left = first * sh + i * dh, j * dw
                target = x[:, :, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]
                _core.map(MAPS["add"], (target, parts[..., i, j].transpose(2, 3, 0, 1)), target, ())


def windows_of(op: str, kernel_size: Ints, stride: Ints, dilation: Ints) -> Windows:
    return Windows(tuple_of(op, "kernel_size", kernel_size, 2), tuple_of(op, "stride", stride, 2),
                   tuple_of(op, "dilation", dilation, 2))


class Unfold(Op):
    """(N, C, H, W) -> (N, C kh kw, windows)."""

    name, backward_on_tensors = "unfold", True

    @staticmethod
    def shape(x: np.ndarray, windows: Windows) -> Shape:
        rows, columns = windows.fit("unfold", x.shape)
        return (x.shape[0], x.shape[1] * windows.kernel[0] * windows.kernel[1], rows * columns)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, windows: Windows) -> np.ndarray:
        shape = Unfold.shape(x, windows)
        check_floating("unfold", input=x)
        ctx.args = x.shape, windows
        rows, columns = windows.fit("unfold", x.shape)
        out = empty((*x.shape[:2], *windows.kernel, rows, columns), x.dtype)
        copy(windows.view(x, 0, rows, columns).transpose(2, 3, 4, 5, 0, 1), out)
        return out.reshape(shape)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        shape, windows = ctx.args
        return apply(Fold, g, shape, windows)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(0, args[0].nbytes + args[0].itemsize * math.prod(out_shape))


class Fold(Op):
    """(N, C kh kw, windows) -> (N, C, H, W): overlapping windows are added up."""

    name, backward_on_tensors = "fold", True

    @staticmethod
    def shape(x: np.ndarray, shape: Shape, windows: Windows) -> Shape:
        rows, columns = windows.fit("fold", shape)
        expected = (shape[0], shape[1] * windows.kernel[0] * windows.kernel[1], rows * columns)
        if x.shape != expected:
            raise ShapeError(f"[fold] input of shape {x.shape}, expected {expected} (N, C kh kw, windows) for {rows} x {columns} "
                             f"windows of {windows.kernel}; check output_size, kernel_size, stride, padding")
        return shape

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, shape: Shape, windows: Windows) -> np.ndarray:
        Fold.shape(x, shape, windows)
        check_floating("fold", input=x)
        ctx.windows = windows
        out = empty(shape, x.dtype)  # NCHW in memory, as the columns are: both are walked along W
        fill(out, 0)
        parts = x.reshape(*shape[:2], *windows.kernel, *windows.fit("fold", shape)).transpose(4, 5, 0, 1, 2, 3)
        windows.add(parts, out, 0)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(Unfold, g, ctx.windows)


def unfold(input: Any, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Any:
    """Every window of an image as one column ("im2col").

    Shapes: input (N, C, H, W) or (C, H, W) -> (N, C kh kw, windows), the windows in row-major order.

    Raises
    ------
    ShapeError
        If the input is no image, or smaller than the window.
    """
    if input.data.ndim not in (3, 4):
        raise ShapeError(f"[unfold] input must be (N, C, H, W) or (C, H, W), got {input.data.shape}")
    windows = windows_of("unfold", kernel_size, stride, dilation)
    top, left = tuple_of("unfold", "padding", padding, 2, 0)
    if top or left:
        input = pad(input, (left, left, top, top))
    if input.data.ndim == 3:
        return reshape(out := apply(Unfold, unsqueeze(input, 0), windows), out.data.shape[1:])
    return apply(Unfold, input, windows)


def fold(
    input: Any, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
) -> Any:
    """Columns put back as windows of an image, overlaps added: the transpose of `unfold`.

    Shapes: input (N, C kh kw, windows) or (C kh kw, windows) -> (N, C, H, W) with (H, W) = output_size.

    Raises
    ------
    ShapeError
        If the number of columns or of windows does not fit.
    """
    single = input.data.ndim == 2
    if input.data.ndim not in (2, 3):
        raise ShapeError(f"[fold] input must be (N, C kh kw, windows) or (C kh kw, windows), got {input.data.shape}")
    windows = windows_of("fold", kernel_size, stride, dilation)
    h, w = tuple_of("fold", "output_size", output_size, 2)
    top, left = tuple_of("fold", "padding", padding, 2, 0)
    area = windows.kernel[0] * windows.kernel[1]
    x = unsqueeze(input, 0) if single else input
    if x.data.shape[1] % area:
        raise ShapeError(f"[fold] input of shape {input.data.shape}: {x.data.shape[1]} rows are no multiple of the window's "
                         f"{windows.kernel[0]} x {windows.kernel[1]} elements")
    shape = (x.data.shape[0], x.data.shape[1] // area, h + 2 * top, w + 2 * left)
    out = apply(Fold, x, shape, windows)
    if top or left:
        out = pad(out, (-left, -left, -top, -top))
    return reshape(out, out.data.shape[1:]) if single else out
