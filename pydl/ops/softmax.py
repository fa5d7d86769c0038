"""Softmax and log-softmax along an axis (kernels: csrc/cpu/softmax.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import check_floating, contiguous, empty_like, is_dense, memory_order, normalize_axis
from pydl.ops.elementwise import neg

__all__ = ["log_softmax", "softmax", "softmin"]


def _planes(x: np.ndarray, dim: int, order: list[int]) -> np.ndarray:
    """The array as [outer, n, inner], axes in `order`; a view when it is dense in that order."""
    x = x.transpose(order)
    if not order:  # a scalar is one softmax of one element
        return contiguous(x).reshape(1, 1, 1)
    at = order.index(dim)
    outer = math.prod(x.shape[:at])
    return contiguous(x).reshape(outer, x.shape[at], math.prod(x.shape[at + 1 :]))


class Softmax(Op):
    name = "softmax"
    log = False

    @staticmethod
    def shape(x: np.ndarray, dim: int) -> Shape:
        return x.shape

    @classmethod
    def forward(cls, ctx: Any, x: np.ndarray, dim: int) -> np.ndarray:
        check_floating(cls.name, input=x)
        order = memory_order(x) if is_dense(x) else list(range(x.ndim))
        source = _planes(x, dim, order)
        y = empty_like(source)
        _core.softmax(source, y, cls.log)
        out = y.reshape([x.shape[a] for a in order]).transpose(np.argsort(order))
        ctx.save(out)
        ctx.dim, ctx.order = dim, order
        return out

    @classmethod
    def backward(cls, ctx: Any, g: np.ndarray) -> np.ndarray:
        (y,) = ctx.saved
        dim, order = ctx.dim, ctx.order
        result = _planes(y, dim, order)
        dx = empty_like(result)
        _core.softmax_backward(_planes(g, dim, order), result, dx, cls.log)
        return dx.reshape([y.shape[a] for a in order]).transpose(np.argsort(order))

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        elements = math.prod(out_shape)
        return Cost(5 * elements, 2 * args[0].nbytes)


class LogSoftmax(Softmax):
    name, log = "log_softmax", True


def softmax(input: Any, dim: int = -1, dtype: Any = None) -> Any:
    """exp(x_i) / sum_j exp(x_j) along an axis, the maximum taken out first. A row of only -inf gives NaN, as in PyTorch."""
    input = input if dtype is None else input.to(dtype)
    return apply(Softmax, input, normalize_axis("softmax", dim, input.data.ndim))


def log_softmax(input: Any, dim: int = -1, dtype: Any = None) -> Any:
    """x_i - log(sum_j exp(x_j)) along an axis, without overflow."""
    input = input if dtype is None else input.to(dtype)
    return apply(LogSoftmax, input, normalize_axis("log_softmax", dim, input.data.ndim))


def softmin(input: Any, dim: int = -1) -> Any:
    """softmax(-x)."""
    return softmax(neg(input), dim)
