"""Tangent, hyperbolic functions and their inverses, each from the native exponential, logarithm, sine and cosine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pydl import _core
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Op, Shape
from pydl.ops._common import as_tensor, broadcast_shapes, check_float, check_floating, empty_like, named, operands, sum_to_shape
from pydl.ops._maps import run_map
from pydl.ops.comparison import masked_fill
from pydl.ops.convert import cast
from pydl.ops.elementwise import add, cos, div, mul, neg, rsqrt, square, sub

__all__ = [
    "acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan",
    "atan2", "atanh", "cosh", "sinh", "tan",
]

Function = Callable[[Any], Any]
_LN2 = math.log(2)
_LARGE = 1e9  # from here on the 1 under the roots below is less than a rounding error, and squares are still finite


def _line(x: np.ndarray, a: float, b: float = 0.0) -> np.ndarray:
    """a x + b."""
    return run_map("scale_shift", x, params=(a, b))


def _choose(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = empty_like(a)
    _core.where(condition, a, b, out)
    return out


def _with_sign(x: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """An odd function from its values for |x|; at 0 the sign of the zero stays."""
    return _choose(x == 0, x, run_map("mul", run_map("sign", x), magnitude))


def _tan(x: np.ndarray) -> np.ndarray:
    return run_map("div", run_map("sin", x), run_map("cos", x))


def _atan(x: np.ndarray) -> np.ndarray:
    """A guess y within 0.005 of the answer for z = x or 1/x, then atan z = y + atan t, t = (z - tan y) / (1 + z tan y), of
    which three terms of the series are enough for float64."""
    small = run_map("abs", x) <= 1
    z = _choose(small, x, run_map("reciprocal", x))
    y = run_map("mul", z, _line(run_map("abs", z), -0.273, math.pi / 4 + 0.273))
    s, c = run_map("sin", y), run_map("cos", y)
    t = run_map("div", run_map("sub", run_map("mul", z, c), s), run_map("add", c, run_map("mul", z, s)))
    t2 = run_map("square", t)
    series = _line(run_map("mul", t2, _line(t2, 0.2, -1 / 3)), 1.0, 1.0)  # 1 - t^2/3 + t^4/5
    y = run_map("add", y, run_map("mul", t, series))
    y = _choose(small, y, run_map("sub", _line(run_map("sign", x), math.pi / 2), y))
    return _choose(x == 0, x, y)  # the zero keeps its sign


def _asin(x: np.ndarray) -> np.ndarray:
    root = run_map("sqrt", run_map("mul", _line(x, -1.0, 1.0), _line(x, 1.0, 1.0)))
    return _atan(run_map("div", x, root))


def _acos(x: np.ndarray) -> np.ndarray:
    return _line(_atan(run_map("sqrt", run_map("div", _line(x, -1.0, 1.0), _line(x, 1.0, 1.0)))), 2.0)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """e^|x| / 2 and e^-|x| / 2, the first finite for as long as it can be."""
    root = run_map("exp", _line(run_map("abs", x), 0.5))
    small = run_map("reciprocal", root)
    return run_map("mul", _line(root, 0.5), root), run_map("mul", _line(small, 0.5), small)


def _sinh(x: np.ndarray) -> np.ndarray:
    a = run_map("abs", x)
    rise = run_map("expm1", run_map("minimum", a, np.ones_like(a)))  # near 0 the two exponentials would cancel
    near = _line(run_map("add", rise, run_map("div", rise, _line(rise, 1.0, 1.0))), 0.5)
    return _with_sign(x, _choose(a < 1, near, run_map("sub", *_halves(x))))


def _cosh(x: np.ndarray) -> np.ndarray:
    return run_map("add", *_halves(x))


def _far(x: np.ndarray) -> np.ndarray:
    """log(2 x)."""
    return _line(run_map("log", x), 1.0, _LN2)


def _asinh(x: np.ndarray) -> np.ndarray:
    a = run_map("abs", x)
    b = run_map("clamp", a, params=(0.0, _LARGE))
    squares = run_map("square", b)
    fraction = run_map("div", squares, _line(run_map("sqrt", _line(squares, 1.0, 1.0)), 1.0, 1.0))
    return _with_sign(x, _choose(a > _LARGE, _far(a), run_map("log1p", run_map("add", b, fraction))))


def _acosh(x: np.ndarray) -> np.ndarray:
    t = _line(run_map("clamp", x, params=(1.0, _LARGE)), 1.0, -1.0)
    near = run_map("log1p", run_map("add", t, run_map("sqrt", run_map("mul", t, _line(t, 1.0, 2.0)))))
    return _choose(x >= 1, _choose(x > _LARGE, _far(x), near), np.full_like(x, np.nan))


def _atanh(x: np.ndarray) -> np.ndarray:
    a = run_map("abs", x)
    return _with_sign(x, _line(run_map("log1p", run_map("div", _line(a, 2.0), _line(a, -1.0, 1.0))), 0.5))


class _Unary(Op):
    """y = f(x), whose gradient is made of other ops."""

    backward_on_tensors = True
    flops_per_element = 10
    formula: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[Any, Any], Any]

    @staticmethod
    def shape(x: np.ndarray) -> Shape:
        return x.shape

    @classmethod
    def forward(cls, ctx: Any, x: np.ndarray) -> np.ndarray:
        check_float(cls.name, x)
        ctx.save(x)
        return cls.formula(x)

    @classmethod
    def backward(cls, ctx: Any, g: Any) -> Any:
        return cls.gradient(g, ctx.saved[0])


def _unary(name: str, formula: Any, gradient: Any, doc: str) -> Callable[[Any], Any]:
    members = {"name": name, "formula": staticmethod(formula), "gradient": staticmethod(gradient)}
    op = type(name.title(), (_Unary,), members)

    def function(input: Any) -> Any:
        return apply(op, as_tensor(input))

    return named(function, name, f"{doc} Shape: any -> the same.")


tan: Function = _unary("tan", _tan, lambda g, x: div(g, square(cos(x))), "Tangent of an angle in radians.")
asin: Function = _unary("asin", _asin, lambda g, x: mul(g, rsqrt(sub(1.0, square(x)))),
              "The angle in [-pi/2, pi/2] with this sine; NaN outside [-1, 1].")
acos: Function = _unary("acos", _acos, lambda g, x: neg(mul(g, rsqrt(sub(1.0, square(x))))),
              "The angle in [0, pi] with this cosine; NaN outside [-1, 1].")
atan: Function = _unary("atan", _atan, lambda g, x: div(g, add(square(x), 1.0)), "The angle in [-pi/2, pi/2] with this tangent.")
sinh: Function = _unary("sinh", _sinh, lambda g, x: mul(g, cosh(x)), "Hyperbolic sine, (e^x - e^-x) / 2.")
cosh: Function = _unary("cosh", _cosh, lambda g, x: mul(g, sinh(x)), "Hyperbolic cosine, (e^x + e^-x) / 2.")
asinh = _unary("asinh", _asinh, lambda g, x: mul(g, rsqrt(add(square(x), 1.0))), "Inverse hyperbolic sine.")
acosh = _unary("acosh", _acosh, lambda g, x: mul(g, rsqrt(sub(square(x), 1.0))),
               "Inverse hyperbolic cosine, not negative; NaN below 1.")
atanh = _unary("atanh", _atanh, lambda g, x: div(g, sub(1.0, square(x))),
               "Inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond.")
arcsin, arccos, arctan, arcsinh, arccosh, arctanh = asin, acos, atan, asinh, acosh, atanh


class Atan2(Op):
    """The angle of the point (other, input)."""

    name, backward_on_tensors, flops_per_element = "atan2", True, 10

    @staticmethod
    def shape(y: np.ndarray, x: np.ndarray) -> Shape:
        return broadcast_shapes("atan2", input=y.shape, other=x.shape)

    @staticmethod
    def forward(ctx: Any, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        check_floating("atan2", input=y, other=x)
        shape = Atan2.shape(y, x)
        ctx.save(y, x)
        y, x = np.broadcast_to(y, shape), np.broadcast_to(x, shape)
        slope = run_map("div", y, x)
        slope[(y == 0) & (x == 0)] = 0
        both = np.isinf(y) & np.isinf(x)
        slope[both] = np.sign(y[both]) * np.sign(x[both])
        half_turn = np.copysign(np.asarray(math.pi, slope.dtype), y)
        angle = _choose(np.signbit(x), run_map("add", _atan(slope), half_turn), _atan(slope))
        return _choose((y == 0) & ~np.signbit(x) & ~np.isnan(x), y, angle)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        y, x = ctx.saved
        origin = wrap((y.data == 0) & (x.data == 0))  # no direction there: the gradient is 0
        scaled = masked_fill(div(g, masked_fill(add(square(y), square(x)), origin, 1.0)), origin, 0.0)
        dy = sum_to_shape(mul(scaled, x), y.data.shape) if ctx.needs[0] else None
        dx = sum_to_shape(neg(mul(scaled, y)), x.data.shape) if ctx.needs[1] else None
        return dy, dx


def atan2(input: Any, other: Any) -> Any:
    """The angle in [-pi, pi] of the point whose height is `input` and whose abscissa is `other`. Shapes broadcast."""
    y, x = operands(input, other)
    return apply(Atan2, y, cast(x, y.data.dtype) if x.data.dtype.kind != "f" else x)


arctan2 = atan2
