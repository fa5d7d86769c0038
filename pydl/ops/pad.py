"""Borders around a tensor: constant, mirrored, repeated edge, circular."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Op, Shape, SlidingWindow
from pydl.ops._common import copy, empty, empty_channels_last, fill, is_channels_last
from pydl.ops.index import getitem, index_add

__all__ = ["pad"]

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
            if limit is not None and max(a, b) > max(limit, 0):
                raise ShapeError(f"[pad] {mode} padding ({a}, {b}) on axis {axis} of size {n}: at most {limit} on each side")
            if min(n + a, n + b, shape[axis]) < 0 or (mode == "replicate" and n == 0 and a + b > 0):
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
        fill(out, value)
        inner, source = _overlap(x.shape, pads)
        copy(x[source] if x.ndim else x, out[inner] if x.ndim else out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
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
