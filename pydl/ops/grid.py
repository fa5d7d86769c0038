"""Images read at any places: `affine_grid` says where, `grid_sample` reads (Jaderberg et al. 2015, "Spatial Transformer")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.ops._common import check_floating
from pydl.ops.comparison import where
from pydl.ops.elementwise import abs, add, clamp, floor, mul, round, sub
from pydl.ops.index import gather
from pydl.ops.matmul import matmul
from pydl.ops.shape import expand, reshape, transpose

__all__ = ["affine_grid", "grid_sample"]


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool = False) -> Any:
    """Places for `grid_sample`: the affine map of each pixel of the output.

    Shapes: theta (N, 2, 3) -> (N, H, W, 2), pairs (x, y), where -1 and 1 are the borders of the image (with
    ``align_corners`` the centres of its outermost pixels).

    Parameters
    ----------
    size : (N, C, H, W)
        Of the output.
    """
    if theta.data.ndim != 3 or theta.data.shape[1:] != (2, 3) or len(size) != 4 or size[0] != theta.data.shape[0]:
        raise ShapeError(f"[affine_grid] theta of shape {theta.data.shape}, size={tuple(size)}; expected (N, 2, 3) and "
                         "(N, C, H, W)")
    n, _, h, w = size
    y, x = (np.linspace(-1, 1, m) * (1 if align_corners else (m - 1) / m) if m > 1 else np.zeros(1) for m in (h, w))
    places = np.stack([*np.meshgrid(x, y), np.ones((h, w))], -1).reshape(h * w, 3)
    return reshape(matmul(wrap(places.astype(theta.data.dtype)), transpose(theta, 1, 2)), (n, h, w, 2))


def _mirrored(x: Any, low: float, high: float) -> Any:
    """Mirrored at both borders as often as need be."""
    if high <= low:
        return mul(x, 0.0)
    distance = abs(sub(x, low))
    times = np.floor(distance.data / (high - low))
    rest = sub(distance, wrap((times * (high - low)).astype(x.data.dtype)))
    return where(wrap(times % 2 == 0), add(rest, low), sub(high, rest))


def _pixels(x: Any, n: int, padding_mode: str, align_corners: bool) -> Any:
    """Places from -1 to 1 as positions among n pixels."""
    x = mul(add(x, 1.0), (n - 1) / 2) if align_corners else sub(mul(add(x, 1.0), n / 2), 0.5)
    if padding_mode == "reflection":
        x = _mirrored(x, 0.0, n - 1.0) if align_corners else _mirrored(x, -0.5, n - 0.5)
    return x if padding_mode == "zeros" else clamp(x, 0.0, n - 1.0)


def _read(planes: Any, x: Any, y: Any, h: int, w: int) -> Any:
    """Pixels at whole positions, 0 outside: (N, C, H W) and (N, P) -> (N, C, P)."""
    column, row = x.data, y.data
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    flat = np.where(inside, row * w + column, 0).astype(np.int64)
    n, c, _ = planes.data.shape
    found = gather(planes, 2, expand(wrap(flat[:, None]), (n, c, flat.shape[1])))
    return found if inside.all() else where(wrap(inside[:, None]), found, 0.0)


def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Any:
    """The image at the places of a grid; gradients for both.

    Shapes: input (N, C, H, W), grid (N, H', W', 2) of pairs (x, y) from -1 to 1 -> (N, C, H', W').

    Parameters
    ----------
    mode : {"bilinear", "nearest"}
        Between the four pixels around, or the nearest one (halves to the even one).
    padding_mode : {"zeros", "border", "reflection"}
        What lies outside: 0, the pixel at the border, or the image mirrored.
    align_corners : bool
        Whether -1 and 1 are the centres of the outermost pixels, or their outer edges.
    """
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border", "reflection"):
        raise ArgumentError(f"[grid_sample] mode={mode!r}, padding_mode={padding_mode!r}; expected 'bilinear' or 'nearest', "
                            "'zeros', 'border' or 'reflection'")
    a, b = input.data.shape, grid.data.shape
    if len(a) != 4 or len(b) != 4 or a[0] != b[0] or b[3] != 2 or 0 in a[2:]:
        raise ShapeError(f"[grid_sample] input {a} and grid {b}; expected (N, C, H, W) and (N, H', W', 2) with the same N")
    check_floating("grid_sample", input=input.data, grid=grid.data)
    n, c, h, w = a
    planes, places = reshape(input, (n, c, h * w)), reshape(grid, (n, -1, 2))
    x = _pixels(places[:, :, 0], w, padding_mode, align_corners)
    y = _pixels(places[:, :, 1], h, padding_mode, align_corners)
    shape = (n, c, *b[1:3])
    if mode == "nearest":
        return reshape(_read(planes, round(x), round(y), h, w), shape)
    left, top = floor(x).detach(), floor(y).detach()
    parts = []
    for dy in (0, 1):
        for dx in (0, 1):
            weight_x = sub(x, left) if dx else sub(1.0, sub(x, left))
            weight_y = sub(y, top) if dy else sub(1.0, sub(y, top))
            weight = reshape(mul(weight_x, weight_y), (n, 1, -1))
            parts.append(mul(_read(planes, add(left, float(dx)), add(top, float(dy)), h, w), weight))
    return reshape(add(add(parts[0], parts[1]), add(parts[2], parts[3])), shape)
