"""Dropout of elements and of whole channels (kernel: csrc/cpu/dropout.cpp).

Which elements are dropped follows from the generator's seed and counter and from the order of the elements in memory, not
from threads; backward draws the same numbers again, so no mask is stored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import check_floating, contiguous, empty, is_dense, memory_order
from pydl.ops.elementwise import add, mul
from pydl.random import Generator, default_generator

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

_SELU_FLOOR = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717  # SELU of minus infinity


class Dropout(Op):
    """x * scale + shift where kept, fill where dropped; its gradient is the same map of the gradient without constants."""

    name, backward_on_tensors = "dropout", True

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, p: float, scale: float, shift: float, fill: float, state: tuple[int, int], order: list[int]
    ) -> np.ndarray:
        check_floating("dropout", input=x)
        source = contiguous(x.transpose(order))
        y = empty(source.shape, x.dtype)
        _core.dropout(source, y, p, scale, shift, fill, *state)
        ctx.constants = p, scale, state, order
        return y.transpose(np.argsort(order))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        p, scale, state, order = ctx.constants
        return apply(Dropout, g, p, scale, 0.0, 0.0, state, order)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        return Cost(2 * math.prod(out_shape), 2 * args[0].nbytes)


def _check_probability(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(f"[{op}] p={p}; dropout probability has to be between 0 and 1")


def _draw(x: np.ndarray, generator: Generator | None) -> tuple[tuple[int, int], list[int]]:
    order = memory_order(x) if is_dense(x) else list(range(x.ndim))
    return (generator or default_generator).reserve(_core.dropout_blocks(x.size)), order


def dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """Each element set to 0 with probability p; the others are divided by 1 - p, so that the expectation stays.

    Shapes: any -> the same. Without `training`, or with p = 0, the input itself. A dropped NaN or Inf becomes 0. `inplace` is
    accepted and ignored: the pool makes the copy cheap. Source: Srivastava et al. 2014 (JMLR 15).
    """
    _check_probability("dropout", p)
    if not training or p == 0:
        return input
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return apply(Dropout, input, float(p), scale, 0.0, 0.0, *_draw(input.data, generator))


def _alpha_map(p: float) -> tuple[float, float, float]:
    """Scale and shift of kept elements and the value of dropped ones that leave mean 0 and variance 1 as they are."""
    if p == 1:
        return 0.0, 0.0, 0.0
    scale = ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5
    shift = -scale * _SELU_FLOOR * p
    return scale, shift, scale * _SELU_FLOOR + shift


def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """Dropout for SELU networks: dropped elements take SELU's lower limit, and an affine map keeps mean 0 and variance 1.

    Shapes: any -> the same. Source: Klambauer et al. 2017 (arXiv:1706.02515).
    """
    _check_probability("alpha_dropout", p)
    if not training or p == 0:
        return input
    return apply(Dropout, input, float(p), *_alpha_map(p), *_draw(input.data, generator))


# ---------------------------------------------------------------- whole channels
def _keep_channels(x: np.ndarray, p: float, generator: Generator | None) -> np.ndarray:
    """1 for the channels that stay, 0 for the others, to be broadcast over the positions."""
    kept = np.ones(x.shape[:2], x.dtype)
    state, _ = _draw(kept, generator)
    _core.dropout(kept, kept, p, 1.0, 0.0, 0.0, *state)
    return kept.reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


def _channel_dropout(
    op: str, input: Any, p: float, training: bool, axes: tuple[int, ...], single: int | None, generator: Generator | None
) -> Any:
    from pydl.ops.shape import squeeze, unsqueeze

    _check_probability(op, p)
    if input.data.ndim not in axes:
        raise ShapeError(f"[{op}] input of shape {input.data.shape}; expected {' or '.join(map(str, axes))} axes, (N, C, ...)")
    if not training or p == 0:
        return input
    if input.data.ndim == single:
        return squeeze(_channel_dropout(op, unsqueeze(input, 0), p, training, axes, None, generator), 0)
    check_floating(op, input=input.data)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return mul(input, wrap(_keep_channels(input.data, p, generator) * input.data.dtype.type(scale)))


def dropout1d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """Whole channels set to 0 with probability p, the others divided by 1 - p. Shapes: (N, C, L) or (C, L)."""
    return _channel_dropout("dropout1d", input, p, training, (2, 3), 2, generator)


def dropout2d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """Whole channels set to 0 with probability p, the others divided by 1 - p. Shapes: (N, C, H, W); (N, C, L) as in PyTorch.

    Neighbouring pixels are alike, so dropping single ones would hide little. Source: Tompson et al. 2015 (arXiv:1411.4280).
    """
    return _channel_dropout("dropout2d", input, p, training, (3, 4), None, generator)


def dropout3d(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """Whole channels set to 0 with probability p, the others divided by 1 - p. Shapes: (N, C, D, H, W) or (C, D, H, W)."""
    return _channel_dropout("dropout3d", input, p, training, (4, 5), 4, generator)


def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, generator: Generator | None = None
) -> Any:
    """`alpha_dropout` of whole channels. Shapes: (N, C, ...) -> the same."""
    _check_probability("feature_alpha_dropout", p)
    if input.data.ndim < 2:
        raise ShapeError(f"[feature_alpha_dropout] input of shape {input.data.shape}; expected (N, C, ...)")
    if not training or p == 0:
        return input
    check_floating("feature_alpha_dropout", input=input.data)
    scale, shift, fill = _alpha_map(p)
    kept = _keep_channels(input.data, p, generator)
    dtype = input.data.dtype.type
    return add(mul(input, wrap(kept * dtype(scale))), wrap(np.where(kept > 0, dtype(shift), dtype(fill))))
