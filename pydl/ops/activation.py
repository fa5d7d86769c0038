"""Activation functions with PyTorch's names and defaults; most are one native map (csrc/cpu/elementwise.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Op
from pydl.ops._common import check_floating, normalize_axis, sum_to_shape
from pydl.ops._maps import run_map
from pydl.ops.comparison import where
from pydl.ops.elementwise import clamp, div, log, mul, neg, sigmoid, sub, tanh, unary

__all__ = [
    "celu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "silu", "softplus", "softshrink",
    "softsign", "step", "tanhshrink", "threshold",
]


def relu(input: Any, inplace: bool = False) -> Any:
    """max(0, x); the gradient at 0 is 0. `inplace` is accepted and ignored: the pool makes the copy cheap."""
    return unary("relu", input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x for x > 0, negative_slope * x otherwise."""
    return unary("leaky_relu", input, float(negative_slope))


class PReLU(Op):
    name = "prelu"

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        check_floating("prelu", input=x, weight=weight)
        channels = x.shape[1] if x.ndim > 1 else 1
        if weight.ndim != 1 or weight.shape[0] not in (1, channels):
            raise ShapeError(f"[prelu] weight of shape {weight.shape}; expected (1,) or ({channels},) for input {x.shape}")
        slopes = weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight.reshape((1,) * x.ndim)
        ctx.save(x, slopes)
        ctx.weight_shape = weight.shape
        return run_map("prelu", x, slopes)

    @staticmethod
    def backward(ctx: Any, g: np.ndarray) -> Any:
        x, slopes = ctx.saved
        dx = run_map("prelu_grad", g, x, slopes, params=(0.0,)) if ctx.needs[0] else None
        dw = None
        if ctx.needs[1]:
            dw = sum_to_shape(wrap(run_map("prelu_grad", g, x, slopes, params=(1.0,))), slopes.shape).data
            dw = dw.reshape(ctx.weight_shape)
        return dx, dw


def prelu(input: Any, weight: Any) -> Any:
    """x for x > 0, weight * x otherwise, with one learnt slope or one for each channel (axis 1) (He et al. 2015)."""
    return apply(PReLU, input, weight)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x for x > 0, alpha (e^x - 1) otherwise (Clevert et al. 2015)."""
    return unary("elu", input, float(alpha))


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x for x > 0, alpha (e^(x/alpha) - 1) otherwise."""
    return mul(elu(div(input, alpha)), alpha)


def selu(input: Any, inplace: bool = False) -> Any:
    """scale * elu(x, alpha) with the constants of self-normalising networks (Klambauer et al. 2017)."""
    return unary("selu", input)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x Phi(x) with the normal distribution function, or its tanh approximation (Hendrycks and Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"[gelu] approximate={approximate!r}; expected 'none' or 'tanh'")
    return unary("gelu_tanh" if approximate == "tanh" else "gelu", input)


def silu(input: Any, inplace: bool = False) -> Any:
    """x sigmoid(x), also called swish."""
    return unary("silu", input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + e^(beta x)) / beta; the identity where beta x > threshold."""
    return unary("softplus", input, float(beta), float(threshold))


def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    return unary("softsign", input)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x cut off at min_val and max_val; the gradient at a bound is 0."""
    return unary("hardtanh", input, float(min_val), float(max_val))


def relu6(input: Any, inplace: bool = False) -> Any:
    """min(max(0, x), 6); the gradient at 0 and 6 is 0."""
    return unary("hardtanh", input, 0.0, 6.0)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """relu6(x + 3) / 6."""
    return unary("hardsigmoid", input)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """x relu6(x + 3) / 6 (Howard et al. 2019, MobileNetV3)."""
    return unary("hardswish", input)


def mish(input: Any, inplace: bool = False) -> Any:
    """x tanh(softplus(x))."""
    return mul(input, tanh(softplus(input)))


def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)) = -softplus(-x)."""
    return neg(softplus(neg(input), threshold=math.inf))


def tanhshrink(input: Any) -> Any:
    """x - tanh(x)."""
    return sub(input, tanh(input))


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """x moved towards 0 by lambd, 0 within."""
    return sub(input, clamp(input, -lambd, lambd))


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """x outside [-lambd, lambd], 0 within."""
    return where((input >= -lambd) & (input <= lambd), 0.0, input)


def rrelu(input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Any:
    """x for x > 0, else a slope times x: drawn for each element from [lower, upper) in training, their mean otherwise."""
    if not 0 <= lower <= upper:
        raise ArgumentError(f"[rrelu] lower={lower}, upper={upper}; expected 0 <= lower <= upper")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    from pydl.random import uniform

    return where(input >= 0, input, mul(input, uniform(lower, upper, input.data.shape, dtype=input.data.dtype)))


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A sample of a category as a vector through which gradients flow: softmax((logits + Gumbel noise) / tau).

    With `hard` exactly one element is 1, with the gradient of the soft sample. `eps` is accepted and ignored, as in PyTorch.
    Source: Jang et al. 2016.
    """
    from pydl.ops.softmax import softmax
    from pydl.random import uniform

    smallest = np.finfo(logits.data.dtype).tiny
    noise = neg(log(neg(log(uniform(smallest, 1.0, logits.data.shape, dtype=logits.data.dtype)))))
    soft = softmax(div(logits + noise, tau), dim)
    if not hard:
        return soft
    dim = normalize_axis("gumbel_softmax", dim, logits.data.ndim)
    places = np.expand_dims(soft.data.argmax(dim), dim)
    one = np.zeros(soft.data.shape, soft.data.dtype)
    np.put_along_axis(one, places, 1, dim)
    return wrap(one - soft.data) + soft


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x above the threshold, `value` otherwise."""
    return where(input <= threshold, value, input)


def step(input: Any) -> Any:
    """1 for x > 0, else 0: the perceptron's activation; its gradient is 0 everywhere."""
    return unary("step", input)


def glu(input: Any, dim: int = -1) -> Any:
    """a sigmoid(b) where a, b are the halves of the input along `dim`."""
    from pydl.ops.shape import chunk

    dim = normalize_axis("glu", dim, input.data.ndim)
    if not input.data.ndim or input.data.shape[dim] % 2:
        raise ShapeError(f"[glu] axis {dim} of input {input.data.shape} must be even to be halved")
    a, b = chunk(input, 2, dim)
    return mul(a, sigmoid(b))
