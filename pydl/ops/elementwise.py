"""Element-wise arithmetic with broadcasting (kernels: csrc/cpu/elementwise.cpp)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pydl.errors import DTypeError
from pydl.graph.engine import MapRule, TensorCore, apply, apply_map, is_grad_enabled, set_operators, wrap
from pydl.graph.op import Op, Shape
from pydl.ops._common import FLOATS, as_tensor, broadcast_shapes, check_float, named, operands, promote, sum_to_shape
from pydl.ops._maps import run_map
from pydl.ops.comparison import where
from pydl.ops.convert import cast, ones_like

__all__ = [
    "abs", "add", "ceil", "clamp", "cos", "div", "erf", "exp", "expm1", "floor", "log", "log1p", "maximum", "minimum", "mul",
    "neg", "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "sub", "tanh",
]

Tensor: TypeAlias = TensorCore
Function: TypeAlias = Callable[[Any], Any]


# --------------------------------------------------------------------------- unary functions: one record each


class Unary(Op):
    """y = f(x). Subclasses are made from the records below: the kernel, its gradient, and what the gradient needs."""

    backward_on_tensors = True
    gradient: Callable[..., Any]
    saves = "input"

    @staticmethod
    def shape(x: np.ndarray, *params: float) -> Shape:
        return x.shape

    @classmethod
    def forward(cls, ctx: Any, x: np.ndarray, *params: float) -> np.ndarray:
        check_float(cls.name, x)
        y = run_map(cls.name, x, params=params)
        if cls.saves != "nothing":
            ctx.save(x if cls.saves == "input" else y)
        ctx.params = params
        return y

    @classmethod
    def backward(cls, ctx: Any, grad: Any) -> Any:
        return cls.gradient(grad, ctx.saved[0] if ctx.saved else None, *ctx.params)


class MapGradient(Op):
    """g * f'(x) by one fused kernel; never recorded, as `_fused` takes ops where a second derivative may be wanted."""

    name = "elementwise_backward"

    @staticmethod
    def forward(ctx: Any, kernel: str, g: np.ndarray, saved: np.ndarray, params: tuple[float, ...]) -> np.ndarray:
        return run_map(kernel, g, saved, params=params)


def _fused(kernel: str, smooth: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient by a native kernel; `smooth` is the same formula in ops, used when it is to be differentiated."""

    def gradient(g: Tensor, saved: Tensor, *params: float) -> Any:
        if (g.requires_grad or saved.requires_grad) and is_grad_enabled():
            return smooth(g, saved, *params)
        return apply(MapGradient, kernel, g, saved, params)

    return _native(kernel, gradient)


def _native(kernel: str, gradient: Any) -> Any:
    """Name the kernel that computes the same gradient from g and what was saved."""
    gradient.kernel = kernel
    return gradient


def _mask(condition: np.ndarray, like: Tensor) -> Tensor:
    return wrap(condition.astype(like.data.dtype))


def _inside(x: np.ndarray) -> np.ndarray:
    """Where the hard sigmoid rises."""
    return (x > -3) & (x < 3)


# Derivatives of activations in ops, for those who differentiate twice; the kernels hold the same formulas.


def _selu_gradient(g: Tensor, x: Tensor) -> Any:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return mul(mul(g, scale), where(wrap(x.data > 0), 1.0, mul(exp(clamp(x, max=0.0)), alpha)))


def _gelu_gradient(g: Tensor, x: Tensor) -> Any:
    density = mul(exp(mul(mul(x, x), -0.5)), (2 * np.pi) ** -0.5)
    return mul(g, add(mul(add(erf(mul(x, 0.5**0.5)), 1.0), 0.5), mul(x, density)))


def _gelu_tanh_gradient(g: Tensor, x: Tensor) -> Any:
    c = (2 / np.pi) ** 0.5
    square_x = mul(x, x)
    t = tanh(mul(mul(x, add(mul(square_x, 0.044715), 1.0)), c))
    slope = mul(add(mul(square_x, 3 * 0.044715), 1.0), c)
    return mul(mul(g, 0.5), add(add(t, 1.0), mul(mul(x, sub(1.0, mul(t, t))), slope)))


def _silu_gradient(g: Tensor, x: Tensor) -> Any:
    s = sigmoid(x)
    return mul(g, mul(s, add(mul(x, sub(1.0, s)), 1.0)))


# name, what is saved, gradient(g, saved, *params) in terms of tensors
_UNARY: list[tuple[str, str, Callable[..., Any]]] = [
    ("neg", "nothing", _native("neg", lambda g, _: neg(g))),
    ("abs", "input", lambda g, x: mul(g, wrap(np.sign(x.data)))),
    ("sign", "nothing", lambda g, _: mul(g, 0.0)),
    ("exp", "output", _native("mul", lambda g, y: mul(g, y))),
    ("expm1", "output", lambda g, y: mul(g, add(y, 1.0))),
    ("log", "input", _native("div", lambda g, x: div(g, x))),
    ("log1p", "input", lambda g, x: div(g, add(x, 1.0))),
    ("sqrt", "output", lambda g, y: div(mul(g, 0.5), y)),
    ("rsqrt", "output", lambda g, y: mul(mul(g, -0.5), mul(y, mul(y, y)))),
    ("square", "input", lambda g, x: mul(mul(g, 2.0), x)),
    ("reciprocal", "output", lambda g, y: neg(mul(g, mul(y, y)))),
    ("sin", "input", lambda g, x: mul(g, cos(x))),
    ("cos", "input", lambda g, x: neg(mul(g, sin(x)))),
    ("floor", "nothing", lambda g, _: mul(g, 0.0)),
    ("ceil", "nothing", lambda g, _: mul(g, 0.0)),
    ("round", "nothing", lambda g, _: mul(g, 0.0)),
    ("tanh", "output", _fused("tanh_grad", lambda g, y: mul(g, sub(1.0, mul(y, y))))),
    ("sigmoid", "output", _fused("sigmoid_grad", lambda g, y: mul(g, mul(y, sub(1.0, y))))),
    ("erf", "input", _fused("erf_grad", lambda g, x: mul(mul(g, 2.0 / np.pi**0.5), exp(neg(mul(x, x)))))),
    ("relu", "output", _fused("relu_grad", lambda g, y: mul(g, _mask(y.data > 0, y)))),
    ("leaky_relu", "input", _fused("leaky_relu_grad", lambda g, x, a: mul(g, _mask(np.where(x.data > 0, 1.0, a), x)))),
    ("elu", "input", _fused("elu_grad", lambda g, x, a: mul(g, where(wrap(x.data > 0), 1.0, mul(exp(clamp(x, max=0.0)), a))))),
    ("selu", "input", _fused("selu_grad", _selu_gradient)),
    ("gelu", "input", _fused("gelu_grad", _gelu_gradient)),
    ("gelu_tanh", "input", _fused("gelu_tanh_grad", _gelu_tanh_gradient)),
    ("silu", "input", _fused("silu_grad", _silu_gradient)),
    ("softplus", "input", _fused("softplus_grad", lambda g, x, b, t: mul(g, sigmoid(mul(x, b))))),
    ("softsign", "input", _fused("softsign_grad", lambda g, x: div(g, square(add(abs(x), 1.0))))),
    ("hardtanh", "input", _fused("hardtanh_grad", lambda g, x, lo, hi: mul(g, _mask((x.data > lo) & (x.data < hi), x)))),
    ("hardsigmoid", "input", _fused("hardsigmoid_grad", lambda g, x: mul(g, _mask(_inside(x.data) / 6, x)))),
    ("hardswish", "input", _fused("hardswish_grad", lambda g, x: mul(g, add(
        mul(add(div(x, 3.0), 0.5), _mask(_inside(x.data), x)), _mask(x.data >= 3, x))))),
    ("clamp", "input", _fused("clamp_grad", lambda g, x, lo, hi: mul(g, _mask((x.data >= lo) & (x.data <= hi), x)))),
    ("step", "nothing", lambda g, _: mul(g, 0.0)),
    ("scale_shift", "nothing", lambda g, _, a, b: mul(g, a)),
]

UNARY_OPS: dict[str, type[Unary]] = {
    name: type(name.title().replace("_", ""), (Unary,), {"name": name, "saves": saves, "gradient": staticmethod(gradient)})
    for name, saves, gradient in _UNARY
}


def _unary_rule(op: type[Unary]) -> MapRule:
    kernel = getattr(op.gradient, "kernel", None)
    saves = "inputs" if op.saves == "input" else op.saves
    return MapRule(op, saves, kernel and (kernel, None if saves == "nothing" else 0))


_UNARY_RULES = {name: _unary_rule(op) for name, op in UNARY_OPS.items()}


def unary(name: str, input: Any, *params: float) -> Any:
    """The element-wise function of this name; `params` are its constants."""
    out = apply_map(_UNARY_RULES[name], input, None, params)
    return apply(UNARY_OPS[name], as_tensor(input), *params) if out is None else out


def _unary(name: str, doc: str) -> Callable[[Any], Any]:
    op, rule = UNARY_OPS[name], _UNARY_RULES[name]

    def function(input: Any) -> Any:
        out = apply_map(rule, input)
        return apply(op, as_tensor(input)) if out is None else out

    return named(function, name, doc)


neg: Function = _unary("neg", "-x, element by element. Shape: any -> the same.")
abs: Function = _unary("abs", "|x|; the gradient at 0 is 0. Shape: any -> the same.")
sign: Function = _unary("sign", "-1, 0 or 1; its gradient is 0. Shape: any -> the same.")
exp: Function = _unary("exp", "e^x. Shape: any -> the same.")
expm1: Function = _unary("expm1", "e^x - 1, accurate near 0. Shape: any -> the same.")
log: Function = _unary("log", "Natural logarithm; -inf at 0, NaN below. Shape: any -> the same.")
log1p: Function = _unary("log1p", "log(1 + x), accurate near 0. Shape: any -> the same.")
sqrt: Function = _unary("sqrt", "Square root; NaN below 0. Shape: any -> the same.")
rsqrt: Function = _unary("rsqrt", "1 / sqrt(x). Shape: any -> the same.")
square: Function = _unary("square", "x^2. Shape: any -> the same.")
reciprocal: Function = _unary("reciprocal", "1 / x. Shape: any -> the same.")
sin: Function = _unary("sin", "Sine of an angle in radians. Shape: any -> the same.")
cos: Function = _unary("cos", "Cosine of an angle in radians. Shape: any -> the same.")
floor: Function = _unary("floor", "Largest integer not above x; gradient 0. Shape: any -> the same.")
ceil: Function = _unary("ceil", "Smallest integer not below x; gradient 0. Shape: any -> the same.")
round: Function = _unary("round", "Nearest integer, halves to even; gradient 0. Shape: any -> the same.")
tanh: Function = _unary("tanh", "Hyperbolic tangent; derivative 1 - y^2. Shape: any -> the same.")
sigmoid: Function = _unary("sigmoid", "1 / (1 + e^-x); derivative y (1 - y). Shape: any -> the same.")
erf: Function = _unary("erf", "Error function; derivative 2/sqrt(pi) e^(-x^2). Shape: any -> the same.")


def clamp(input: Any, min: float | None = None, max: float | None = None) -> Any:
    """min(max(x, lo), hi); the gradient passes where lo <= x <= hi. Shape: any -> the same."""
    lo = -np.inf if min is None else float(min)
    hi = np.inf if max is None else float(max)
    return unary("clamp", input, lo, hi)


# --------------------------------------------------------------------------- binary functions


class Binary(Op):
    """z = f(a, b) with broadcasting; gradients are summed back to each operand's shape."""

    backward_on_tensors = True
    saves = True

    @classmethod
    def shape(cls, a: np.ndarray, b: np.ndarray) -> Shape:
        return broadcast_shapes(cls.name, input=a.shape, other=b.shape)

    @classmethod
    def forward(cls, ctx: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.shape != b.shape:
            cls.shape(a, b)
        if cls.saves:
            ctx.save(a, b)
        ctx.shapes = a.shape, b.shape
        return run_map(cls.name, a, b)


class Add(Binary):
    name, saves = "add", False

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.shapes
        return sum_to_shape(g, a) if ctx.needs[0] else None, sum_to_shape(g, b) if ctx.needs[1] else None


class Sub(Binary):
    name, saves = "sub", False

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.shapes
        return sum_to_shape(g, a) if ctx.needs[0] else None, sum_to_shape(neg(g), b) if ctx.needs[1] else None


class Mul(Binary):
    name = "mul"

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.saved
        da = sum_to_shape(mul(g, b), a.data.shape) if ctx.needs[0] else None
        db = sum_to_shape(mul(g, a), b.data.shape) if ctx.needs[1] else None
        return da, db


class Div(Binary):
    name = "div"

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.saved
        da = div(g, b)
        db = sum_to_shape(neg(mul(da, div(a, b))), b.data.shape) if ctx.needs[1] else None
        return sum_to_shape(da, a.data.shape) if ctx.needs[0] else None, db


class Pow(Binary):
    name = "pow"

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.saved
        da = db = None
        if ctx.needs[0]:  # b a^(b-1), and 0 where b is 0 (0^-1 would make NaN)
            da = mul(mul(g, b), pow(a, sub(b, 1.0)))
            da = where(wrap(np.broadcast_to(b.data == 0, da.data.shape)), mul(g, 0.0), da)
            da = sum_to_shape(da, a.data.shape)
        if ctx.needs[1]:  # a^b log a, and 0 where a is 0 and b > 0
            zero = wrap((a.data == 0) & (b.data >= 0))
            logs = log(where(zero, ones_like(a), a)) if not zero.data.all() else mul(a, 0.0)
            db = sum_to_shape(mul(mul(g, pow(a, b)), logs), b.data.shape)
        return da, db


class _Extremum(Binary):
    """Larger or smaller of two; ties share the gradient equally."""

    wins: Callable[..., Any]

    @classmethod
    def backward(cls, ctx: Any, g: Any) -> Any:
        a, b = ctx.saved
        share = np.where(a.data == b.data, 0.5, cls.wins(a.data, b.data)).astype(a.data.dtype)
        da = sum_to_shape(mul(g, wrap(share)), a.data.shape) if ctx.needs[0] else None
        db = sum_to_shape(mul(g, wrap(1 - share)), b.data.shape) if ctx.needs[1] else None
        return da, db


class Maximum(_Extremum):
    name, wins = "maximum", np.greater


class Minimum(_Extremum):
    name, wins = "minimum", np.less


_NUMPY_BINARY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "pow": np.power, "maximum": np.maximum, "minimum": np.minimum,
}


# The gradients that the short way knows: "pass" is the incoming one, numbers name the operand that a kernel needs.
_ADD = MapRule(Add, "nothing", "pass", "pass")
_SUB = MapRule(Sub, "nothing", "pass", ("neg", None))
_MUL = MapRule(Mul, "inputs", ("mul", 1), ("mul", 0))
_DIV = MapRule(Div, "inputs", ("div", 1), None)
_POW, _MAXIMUM, _MINIMUM = (MapRule(op, "inputs", None, None) for op in (Pow, Maximum, Minimum))


def _binary(rule: MapRule, a: Any, b: Any) -> Any:
    """Bring both operands to one dtype; integers are NumPy's business, floats the native kernels'."""
    out = apply_map(rule, a, b)
    if out is not None:
        return out
    op = rule.op
    a, b = operands(a, b)
    x, y = a.data, b.data
    if x.dtype == y.dtype and x.dtype in FLOATS:
        return apply(op, a, b)
    dtype = promote(x.dtype, y.dtype)
    if dtype.kind != "f" and op is Div:
        dtype = np.dtype(np.float32)
    if dtype in FLOATS:
        return apply(op, cast(a, dtype), cast(b, dtype))
    op.shape(x, y)
    if dtype.kind not in "iub":
        raise DTypeError(f"[{op.name}] no arithmetic on {x.dtype} and {y.dtype}; convert with .to(pydl.float32)")
    return wrap(_NUMPY_BINARY[op.name](x.astype(dtype, copy=False), y.astype(dtype, copy=False)))


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input + alpha * other, broadcast. Shapes: any two that broadcast -> their common shape."""
    return _binary(_ADD, input, other if alpha == 1 else mul(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """input - alpha * other, broadcast."""
    return _binary(_SUB, input, other if alpha == 1 else mul(other, alpha))


def mul(input: Any, other: Any) -> Any:
    """input * other, broadcast."""
    return _binary(_MUL, input, other)


def div(input: Any, other: Any) -> Any:
    """input / other, broadcast; integers give float32."""
    return _binary(_DIV, input, other)


def pow(input: Any, exponent: Any) -> Any:
    """input ** exponent, broadcast; squares, roots and reciprocals take their own faster kernels."""
    if isinstance(exponent, int | float) and isinstance(input, TensorCore) and input.data.dtype in FLOATS:
        special = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt"}.get(exponent)
        if special:
            return unary(special, input)
    return _binary(_POW, input, exponent)


set_operators((_ADD, add), (_SUB, sub), (_MUL, mul), (_DIV, div))


def maximum(input: Any, other: Any) -> Any:
    """The larger of each pair, broadcast; NaN if either is NaN; ties share the gradient."""
    return _binary(_MAXIMUM, input, other)


def minimum(input: Any, other: Any) -> Any:
    """The smaller of each pair, broadcast; NaN if either is NaN; ties share the gradient."""
    return _binary(_MINIMUM, input, other)
