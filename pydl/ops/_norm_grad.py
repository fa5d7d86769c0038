"""Derivatives of normalisation's derivatives: the native gradients as an operation that can itself be differentiated.

Its backward writes the gradients once more with simple operations and differentiates those: slower, but only taken when
someone asks for second derivatives (gradient penalties).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pydl.errors import GraphError
from pydl.graph.backward import grad
from pydl.graph.engine import apply, is_grad_enabled, wrap
from pydl.graph.modes import enable_grad
from pydl.graph.op import Cost, Op, Shape
from pydl.ops.elementwise import add, mul, rsqrt, square, sub
from pydl.ops.reduce import mean, sum
from pydl.ops.shape import reshape


class NormGrad(Op):
    """Some of dx, dweight, dbias, as `native` gives them; `formula` gives all three as tensors."""

    name, backward_on_tensors = "norm_grad", True

    @staticmethod
    def forward(
        ctx: Any, g: np.ndarray, x: np.ndarray, weight: np.ndarray | None, native: Callable[..., Any],
        formula: Callable[..., Any], needs: Sequence[bool],
    ) -> tuple[np.ndarray, ...]:
        ctx.save(g, x, weight)
        ctx.formula, ctx.wanted = formula, needs
        return tuple(d for d in native(g, x, weight, needs) if d is not None)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        """Nothing of its own: it is the backward of a norm, whose ``backward_cost`` counts it."""
        return Cost(0, 0)

    @staticmethod
    def backward(ctx: Any, *gg: Any) -> Any:
        if is_grad_enabled():
            raise GraphError("[norm_grad] normalisation has no third derivatives (create_graph=True twice); "
                             "build this part from simpler operations")
        leaves = [None if t is None else wrap(t.data) for t in ctx.saved]
        inputs = [t for t in leaves if t is not None]
        for t in inputs:
            t.requires_grad = True
        with enable_grad():
            outs = [d for d, need in zip(ctx.formula(*leaves), ctx.wanted, strict=True) if need]
        found = iter(grad(outs, inputs, list(gg), allow_unused=True))
        return tuple(None if t is None else next(found) for t in leaves)


def gradients(
    g: Any, x: Any, weight: Any, native: Callable[..., Any], formula: Callable[..., Any], needs: Sequence[bool]
) -> list[Any]:
    """dx, dweight, dbias as tensors, None where not needed."""
    if not is_grad_enabled():
        found = native(g.data, x.data, None if weight is None else weight.data, needs)
        return [None if d is None else wrap(d) for d in found]
    found = iter(apply(NormGrad, g, x, weight, native, formula, tuple(needs)))
    return [next(found) if need else None for need in needs]


def _input_gradient(xhat: Any, rstd: Any, gw: Any, axes: tuple[int, ...], centred: bool) -> Any:
    """rstd (gw - mean(gw) - xhat mean(gw xhat)); the first mean is absent where the input was not centred."""
    inner = mul(xhat, mean(mul(gw, xhat), axes, keepdim=True))
    if centred:
        inner = add(inner, mean(gw, axes, keepdim=True))
    return mul(rstd, sub(gw, inner))


def channel_formula(
    g: Any, x: Any, weight: Any, statistics: tuple[np.ndarray, np.ndarray] | None, sets: int, joined: bool, eps: float
) -> tuple[Any, Any, Any]:
    """Of batch, instance and group norm; with `statistics` (mean, rstd of each channel) these are constants."""
    n, c = x.data.shape[:2]
    axes, shape = (0, 2) if joined else (2,), (n, sets, x.data.size // (n * sets))
    x3, g3 = reshape(x, shape), reshape(g, (n, c, x.data.size // (n * c)))
    if statistics is None:
        centred = sub(x3, mean(x3, axes, keepdim=True))
        rstd = rsqrt(add(mean(square(centred), axes, keepdim=True), eps))
    else:
        m, r = (wrap(s.astype(x.data.dtype).reshape(1, sets, 1)) for s in statistics)
        centred, rstd = sub(x3, m), r
    xhat = mul(centred, rstd)
    gw = reshape(g3 if weight is None else mul(g3, reshape(weight, (1, c, 1))), shape)
    dx = _input_gradient(xhat, rstd, gw, axes, True) if statistics is None else mul(gw, rstd)
    return reshape(dx, x.data.shape), sum(mul(g3, reshape(xhat, g3.data.shape)), (0, 2)), sum(g3, (0, 2))


def row_formula(
    g: Any, x: Any, weight: Any, normalized_shape: tuple[int, ...], centred: bool, eps: float
) -> tuple[Any, Any, Any]:
    """Of layer and RMS norm."""
    axes = tuple(range(x.data.ndim - len(normalized_shape), x.data.ndim))
    others = tuple(range(axes[0]))
    if centred:
        xc = sub(x, mean(x, axes, keepdim=True))
        rstd = rsqrt(add(mean(square(xc), axes, keepdim=True), eps))
    else:
        xc, rstd = x, rsqrt(add(mean(square(x), axes, keepdim=True), eps))
    xhat = mul(xc, rstd)
    gw = g if weight is None else mul(g, weight)
    dw, db = (sum(t, others) if others else t for t in (mul(g, xhat), g))
    return _input_gradient(xhat, rstd, gw, axes, centred), dw, db
