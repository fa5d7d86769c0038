"""Changing the resolution of images: interpolation and pixel shuffling (kernel: csrc/cpu/resample.cpp).

Along each axis, every output is a weighted sum of a few neighbouring inputs. Which ones, and the weights, stand in a table
made once per size; all modes are one kernel, and the gradient is the same kernel with the tables transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape, SlidingWindow
from pydl.ops._common import channels_last, check_floating, empty_channels_last
from pydl.ops.conv import _lift
from pydl.ops.pool import _adaptive_avg
from pydl.ops.shape import permute, reshape

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]


@dataclass(frozen=True, eq=False)
class Table:
    """A sparse matrix [outputs, inputs] whose rows hold neighbouring elements: one axis of a resampling."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    outputs: int
    inputs: int

    @cached_property
    def native(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(start, count, weights[outputs, taps]) as the kernel wants them; weights on one element are added up."""
        start, end = np.full(self.outputs, self.inputs), np.zeros(self.outputs, np.int64)
        np.minimum.at(start, self.rows, self.columns)
        np.maximum.at(end, self.rows, self.columns + 1)
        count = np.maximum(end - start, 0)
        start = np.minimum(np.maximum.accumulate(np.where(count > 0, start, 0)), self.inputs - count)
        weights = np.zeros((self.outputs, max(int(count.max()), 1)))
        np.add.at(weights, (self.rows, self.columns - start[self.rows]), self.values)
        return start, count, weights

    @cached_property
    def transposed(self) -> Table:
        return Table(self.columns, self.rows, self.values, self.inputs, self.outputs)


# ---- the tables of the modes: functions (inputs m, outputs n, step) -> positions in the input, one row per output
def _centres(n: int, step: float) -> np.ndarray:
    """Where the outputs' pixel centres lie, in input pixels: (o + 1/2) step - 1/2."""
    return (np.arange(n) + 0.5) * step - 0.5


def _nearest(m: int, n: int, step: float, offset: float) -> Table:
    # In float32, as PyTorch does: on exact ratios rounding decides.
    positions = np.floor((np.arange(n, dtype=np.float32) + np.float32(offset)) * np.float32(step)).astype(np.int64)
    return Table(np.arange(n), np.minimum(positions, m - 1), np.ones(n), n, m)


def _linear(position: np.ndarray, m: int) -> Table:
    position = np.maximum(position, 0.0)
    left = np.minimum(np.floor(position).astype(np.int64), m - 1)
    share = np.clip(position - left, 0.0, 1.0)
    right = np.minimum(left + 1, m - 1)
    n = len(position)
    return Table(np.tile(np.arange(n), 2), np.concatenate([left, right]), np.concatenate([1 - share, share]), n, m)


def _cubic_weight(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _cubic(position: np.ndarray, m: int) -> Table:
    left = np.floor(position).astype(np.int64)
    taps = np.arange(-1, 3)[:, None] + left
    weights = _cubic_weight(taps - position, -0.75)
    n = len(position)
    return Table(np.tile(np.arange(n), 4), np.clip(taps, 0, m - 1).ravel(), weights.ravel(), n, m)


def _antialiased(m: int, n: int, step: float, reach: int, kernel: Callable[[np.ndarray], np.ndarray]) -> Table:
    """The kernel stretched over `step` inputs when shrinking, cut at the border and normalised to sum 1."""
    stretch = max(step, 1.0)
    centre = (np.arange(n) + 0.5) * step
    first = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), m)
    width = int((last - first).max())
    columns = first[:, None] + np.arange(width)
    weights = np.where(columns < last[:, None], kernel((columns - centre[:, None] + 0.5) / stretch), 0.0)
    weights /= weights.sum(1, keepdims=True)
    inside = (columns < last[:, None]).ravel()
    rows = np.repeat(np.arange(n), width)
    return Table(rows[inside], columns.ravel()[inside], weights.ravel()[inside], n, m)


@lru_cache(maxsize=512)
def _table(mode: str, m: int, n: int, scale: float | None, align_corners: bool, antialias: bool) -> Table:
    """How n outputs are made from m inputs; `scale` is the factor that the caller gave, if it counts."""
    step = m / n if scale is None else 1.0 / scale
    if mode == "nearest":
        return _nearest(m, n, step, 0.0)
    if mode == "nearest-exact":
        return _nearest(m, n, step, 0.5)
    if align_corners:
        step = (m - 1) / (n - 1) if n > 1 else 0.0
    cubic = mode == "bicubic"
    if antialias:
        if cubic:
            return _antialiased(m, n, step, 2, lambda x: _cubic_weight(x, -0.5))
        return _antialiased(m, n, step, 1, lambda x: np.maximum(1 - np.abs(x), 0.0))
    position = np.arange(n) * step if align_corners else _centres(n, step)
    return _cubic(position, m) if cubic else _linear(position, m)


_IDENTITY = Table(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1), 1, 1)
IDENTITY = _IDENTITY.native  # for axes of size 1


def table(mode: str, inputs: int, outputs: int, antialias: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the kernel wants to know of one axis, for code that calls it on arrays of its own layout."""
    return _table(mode, inputs, outputs, None, False, antialias).native


class Resample(Op):
    """Weighted sums of neighbours by one table per axis; linear, its gradient has the tables transposed."""

    name = "interpolate"
    backward_on_tensors = True

    @staticmethod
    def shape(x: np.ndarray, tables: tuple[Table, ...]) -> Shape:
        return (*x.shape[:2], *(t.outputs for t in tables))

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, tables: tuple[Table, ...]) -> np.ndarray:
        y = empty_channels_last(Resample.shape(x, tables), x.dtype)
        native = [t.native for t in (*(_IDENTITY,) * (3 - len(tables)), *tables)]
        _core.resample(_lift(channels_last(x)), _lift(y), native)
        ctx.tables = tables
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(Resample, g, tuple(t.transposed for t in ctx.tables))

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, tables = args[0], args[1]
        elements = math.prod(out_shape)
        taps = sum(t.native[2].shape[1] for t in tables)  # axis by axis
        return Cost(2 * elements * taps, x.nbytes + elements * x.itemsize)

    @staticmethod
    def window(*args: Any) -> SlidingWindow | None:
        """For whole factors on all axes: as many inputs for each output as the table has weights."""
        tables = args[1]
        taps = tuple(max(int(t.native[1].max()), 1) for t in tables)
        ones = (1,) * len(tables)
        if all(t.outputs % t.inputs == 0 for t in tables):
            factors = tuple(t.outputs // t.inputs for t in tables)
            return SlidingWindow(tuple(k * f for k, f in zip(taps, factors, strict=True)), factors, ones, transposed=True)
        if all(t.inputs % t.outputs == 0 for t in tables):
            return SlidingWindow(taps, tuple(t.inputs // t.outputs for t in tables), ones)
        return None


_MODES = {  # numbers of spatial axes
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,), "bilinear": (2,), "bicubic": (2,),
    "trilinear": (3,),
}
_ALIGNED = ("linear", "bilinear", "bicubic", "trilinear")


def _check_arguments(shape: Shape, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _MODES:
        raise ArgumentError(f"[interpolate] mode={mode!r}; expected one of {', '.join(_MODES)}")
    axes = len(shape) - 2
    if axes not in _MODES[mode]:
        need = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
        fitting = [m for m, a in _MODES.items() if axes in a]
        hint = f"; for this input use mode={', '.join(map(repr, fitting))}" if fitting else "; the batch axis may not be left out"
        raise ShapeError(
            f"[interpolate] mode={mode!r} needs input {' or '.join(need[a] for a in _MODES[mode])}, got {tuple(shape)}{hint}"
        )
    if align_corners is not None and mode not in _ALIGNED:
        raise ArgumentError(f"[interpolate] align_corners is for {', '.join(_ALIGNED)}, not mode={mode!r}; leave it None")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(f"[interpolate] antialias is for bilinear and bicubic, not mode={mode!r}")
    if 0 in shape[1:]:
        raise ShapeError(f"[interpolate] input of shape {tuple(shape)} is empty; only the batch may be")


def _sizes(shape: Shape, size: Any, scale_factor: Any) -> tuple[list[int], list[float | None]]:
    """Output sizes, and the scale of each axis if given as such."""
    axes = len(shape) - 2
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"[interpolate] size={size}, scale_factor={scale_factor}: expected exactly one of them")

    def each(name: str, value: Any) -> list[Any]:
        values = [value] * axes if isinstance(value, int | float | np.number) else list(value)
        if len(values) != axes or any(not v > 0 for v in values):
            raise ArgumentError(
                f"[interpolate] {name}={value}: expected a positive number, or {axes} for an input of shape {tuple(shape)}"
            )
        return values

    if size is not None:
        return [int(s) for s in each("size", size)], [None] * axes
    scales = [float(s) for s in each("scale_factor", scale_factor)]
    sizes = [math.floor(n * s) for n, s in zip(shape[2:], scales, strict=True)]
    if any(n < 1 for n in sizes):
        raise ArgumentError(
            f"[interpolate] scale_factor={scale_factor} leaves nothing of input of shape {tuple(shape)}: size {tuple(sizes)}"
        )
    return sizes, list(scales)


def interpolate(
    input: Any, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """The input at another resolution: (N, C, spatial...) -> (N, C, *size), by size or by factor.

    Output pixel o lies at (o + 1/2) s - 1/2 in input pixels with s = input size / output size, or, with align_corners, at
    o (m - 1) / (n - 1), so that the corner pixels' centres coincide.

    Parameters
    ----------
    size : int or tuple
        Output size; or
    scale_factor : float or tuple
        output size as a factor, rounded down. The factor itself sets the distance of the samples, unless
        `recompute_scale_factor` takes it from the rounded size.
    mode : str
        "nearest" (floor(o s), as in old libraries), "nearest-exact" (the centre's pixel), "linear", "bilinear", "trilinear" (2
        neighbours an axis), "bicubic" (4 neighbours, Keys 1981 with a = -3/4), "area" (the mean, as `adaptive_avg_pool2d`).
    align_corners : bool, optional
        For the linear and cubic modes.
    antialias : bool
        Widen the kernel when shrinking, so that every input counts ("bilinear", "bicubic" with a = -1/2).

    Raises
    ------
    ShapeError
        If the mode does not fit the input's number of axes.
    ArgumentError
        If both or neither of size and scale_factor are given, or an option does not fit the mode.
    """
    x = input.data
    _check_arguments(x.shape, mode, align_corners, antialias)
    check_floating("interpolate", input=x)
    sizes, scales = _sizes(x.shape, size, scale_factor)
    if mode == "area":
        return _adaptive_avg(len(sizes), input, sizes)
    if recompute_scale_factor:
        scales = [None] * len(sizes)
    tables = tuple(
        _table(mode, m, n, s, bool(align_corners), bool(antialias)) for m, n, s in zip(x.shape[2:], sizes, scales, strict=True)
    )
    return apply(Resample, input, tables)


def _check_shuffle(op: str, shape: Shape, factor: int, name: str) -> None:
    if len(shape) < 3:
        raise ShapeError(f"[{op}] input must have shape (..., C, H, W), got {tuple(shape)}")
    if not isinstance(factor, int | np.integer) or factor < 1:
        raise ArgumentError(f"[{op}] {name}={factor}: expected a positive integer")


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Channels to space: (..., C r^2, H, W) -> (..., C, H r, W r); sub-pixel convolution's last step (arXiv:1609.05158)."""
    shape, r = input.data.shape, upscale_factor
    _check_shuffle("pixel_shuffle", shape, r, "upscale_factor")
    *lead, c, h, w = shape
    if c % (r * r):
        raise ShapeError(f"[pixel_shuffle] input of shape {shape} has {c} channels: no multiple of upscale_factor^2 = {r * r}")
    k = len(lead)
    split = reshape(input, (*lead, c // (r * r), r, r, h, w))  # [..., C, r, r, H, W]
    return reshape(permute(split, (*range(k + 1), k + 3, k + 1, k + 4, k + 2)), (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """Space to channels, the inverse of `pixel_shuffle`: (..., C, H r, W r) -> (..., C r^2, H, W)."""
    shape, r = input.data.shape, downscale_factor
    _check_shuffle("pixel_unshuffle", shape, r, "downscale_factor")
    *lead, c, h, w = shape
    if h % r or w % r:
        raise ShapeError(f"[pixel_unshuffle] input of shape {shape}: height and width are no multiples of downscale_factor={r}")
    k = len(lead)
    split = reshape(input, (*lead, c, h // r, r, w // r, r))  # [..., C, H, r, W, r]
    return reshape(permute(split, (*range(k + 1), k + 2, k + 4, k + 1, k + 3)), (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Any, groups: int) -> Any:
    """Channels of G groups interleaved: channel g K + k becomes k G + g, for (N, C, ...) with C = G K (arXiv:1707.01083)."""
    shape = input.data.shape
    if len(shape) < 2 or not isinstance(groups, int | np.integer) or groups < 1 or shape[1] % groups:
        raise ShapeError(f"[channel_shuffle] groups={groups} must divide the channels (axis 1) of input {shape}")
    split = reshape(input, (shape[0], groups, shape[1] // groups, *shape[2:]))
    return reshape(permute(split, (0, 2, 1, *range(3, len(shape) + 1))), shape)
