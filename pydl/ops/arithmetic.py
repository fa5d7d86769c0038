"""More of arithmetic, element by element: remainders, parts of numbers, special values, bits; and other names of functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl.errors import DTypeError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor, broadcast_shapes, empty, named, operands
from pydl.ops.comparison import eq, ge, gt, isnan, le, lt, masked_fill, ne, where
from pydl.ops.composed import logaddexp
from pydl.ops.convert import cast
from pydl.ops.elementwise import abs, add, ceil, clamp, div, erf, exp, floor, log, maximum, minimum, mul, neg, pow, sin, sqrt, sub

__all__ = [
    "absolute", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "clamp_max", "clamp_min", "copysign", "deg2rad", "divide", "erfc", "exp2", "fix", "float_power", "fmax", "fmin", "fmod",
    "frac", "greater", "greater_equal", "heaviside", "hypot", "isin", "isneginf", "isposinf", "less", "less_equal",
    "logaddexp2", "multiply", "nan_to_num", "negative", "not_equal", "positive", "rad2deg", "signbit", "sinc", "subtract",
    "true_divide", "trunc", "xlogy",
]

absolute, negative, subtract, multiply, divide, true_divide = abs, neg, sub, mul, div, div
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne


def positive(input: Any) -> Any:
    """The tensor itself."""
    return input


def exp2(input: Any) -> Any:
    """2^x. Shape: any -> the same."""
    return exp(mul(input, math.log(2)))


def erfc(input: Any) -> Any:
    """1 - erf(x), the complement of the error function; for x > 3 it loses digits. Shape: any -> the same."""
    return sub(1.0, erf(input))


def deg2rad(input: Any) -> Any:
    """Degrees as radians. Shape: any -> the same."""
    return mul(input, math.pi / 180)


def rad2deg(input: Any) -> Any:
    """Radians as degrees. Shape: any -> the same."""
    return mul(input, 180 / math.pi)


def trunc(input: Any) -> Any:
    """The integer part, towards 0; the gradient is 0. Shape: any -> the same."""
    return where(lt(input, 0), ceil(input), floor(input))


fix = trunc


def frac(input: Any) -> Any:
    """What `trunc` leaves: x - trunc(x), with the sign of x. Shape: any -> the same."""
    return sub(input, trunc(input))


def fmod(input: Any, other: Any) -> Any:
    """input - other * trunc(input / other), broadcast: the sign is that of `input` (of `remainder`, that of `other`)."""
    a, b = operands(input, other)
    if a.data.dtype.kind in "iu" and b.data.dtype.kind in "iu":
        return wrap(np.fmod(a.data, b.data))
    quotient = wrap(np.asarray(np.trunc(a.data / b.data)))  # a constant: it has no gradient
    return sub(a, mul(quotient, b))


def hypot(input: Any, other: Any) -> Any:
    """sqrt(input^2 + other^2), broadcast, without overflow of the squares."""
    a, b = operands(input, other)
    scale = maximum(abs(a), abs(b)).detach()
    scale = masked_fill(scale, eq(scale, 0.0), 1.0)
    x, y = div(a, scale), div(b, scale)
    return mul(sqrt(add(mul(x, x), mul(y, y))), scale)


def float_power(input: Any, exponent: Any) -> Any:
    """input ** exponent in float64, whatever the element types, broadcast."""
    a, b = operands(input, exponent)
    return pow(cast(a, np.float64), cast(b, np.float64))


def logaddexp2(input: Any, other: Any) -> Any:
    """log2(2^input + 2^other), broadcast, without overflow."""
    return div(logaddexp(mul(input, math.log(2)), mul(other, math.log(2))), math.log(2))


def xlogy(input: Any, other: Any) -> Any:
    """input * log(other), and 0 where input is 0 (unless other is NaN), broadcast."""
    x, y = operands(input, other)
    shape = broadcast_shapes("xlogy", input=x.data.shape, other=y.data.shape)
    nothing = wrap(np.broadcast_to(x.data == 0, shape) & ~np.isnan(np.broadcast_to(y.data, shape)))
    return masked_fill(mul(x, log(masked_fill(y, nothing, 1.0))), nothing, 0.0)


def sinc(input: Any) -> Any:
    """sin(pi x) / (pi x), and 1 at 0. Shape: any -> the same."""
    zero = eq(input, 0.0)
    angle = mul(masked_fill(input, zero, 1.0), math.pi)
    return masked_fill(div(sin(angle), angle), zero, 1.0)


def clamp_min(input: Any, min: Any) -> Any:
    """The larger of the element and `min`, a number or a tensor."""
    return clamp(input, min=min) if isinstance(min, int | float) else maximum(input, min)


def clamp_max(input: Any, max: Any) -> Any:
    """The smaller of the element and `max`, a number or a tensor."""
    return clamp(input, max=max) if isinstance(max, int | float) else minimum(input, max)


def _without_nan(name: str, better: Any, which: str) -> Any:
    def function(input: Any, other: Any) -> Any:
        a, b = operands(input, other)
        return where(isnan(b), a, where(isnan(a), b, better(a, b)))

    return named(function, name, f"The {which} of each pair; of a number and NaN the number. Shapes broadcast.")


fmax, fmin = _without_nan("fmax", maximum, "larger"), _without_nan("fmin", minimum, "smaller")


def copysign(input: Any, other: Any) -> Any:
    """The magnitude of `input` with the sign of `other` (of -0.0 too), broadcast. No gradient flows to `other`."""
    a, b = operands(input, other)
    flip = np.signbit(a.data) != np.signbit(b.data)
    return where(wrap(np.asarray(flip)), neg(a), a)


def signbit(input: Any) -> Any:
    """Whether the sign bit is set, of -0.0 too: a bool tensor."""
    return wrap(np.signbit(as_tensor(input).data))


def isposinf(input: Any) -> Any:
    """Whether each element is +Inf."""
    return eq(input, math.inf)


def isneginf(input: Any) -> Any:
    """Whether each element is -Inf."""
    return eq(input, -math.inf)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each element is among the others: a bool tensor of the shape of `elements`."""
    a, b = operands(elements, test_elements)
    return wrap(np.isin(a.data, b.data, assume_unique, invert))


def heaviside(input: Any, values: Any) -> Any:
    """0 below 0, 1 above, `values` at 0, broadcast; the gradient to `input` is 0."""
    x, v = operands(input, values)
    above = cast(gt(x, 0), v.data.dtype)
    return where(isnan(x), x, where(eq(x, 0), v, above))


def nan_to_num(input: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """Numbers in the place of NaN and of the infinities (by default the largest and smallest finite ones).

    No gradient flows where a number was put.
    """
    if input.data.dtype.kind != "f":
        return input
    limits = np.finfo(input.data.dtype)
    x = masked_fill(input, isnan(input), nan)
    x = masked_fill(x, isposinf(x), float(limits.max) if posinf is None else posinf)
    return masked_fill(x, isneginf(x), float(limits.min) if neginf is None else neginf)


# --------------------------------------------------------------------------- bits


def _bitwise(name: str, ufunc: Any, doc: str) -> Any:
    def function(input: Any, other: Any) -> Any:
        a, b = operands(input, other)
        for argument, x in (("input", a.data), ("other", b.data)):
            if x.dtype.kind not in "iub":
                raise DTypeError(f"[{name}] {argument} is {x.dtype}; expected integers or bool")
        broadcast_shapes(name, input=a.data.shape, other=b.data.shape)
        return wrap(np.asarray(ufunc(a.data, b.data)))

    return named(function, name, f"{doc}, of integers or bool. Shapes broadcast.")


bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "The bits that are set in both")
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "The bits that are set in either")
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, "The bits that are set in one of the two")
bitwise_left_shift = _bitwise("bitwise_left_shift", np.left_shift, "input * 2^other")
bitwise_right_shift = _bitwise("bitwise_right_shift", np.right_shift, "floor(input / 2^other)")


def bitwise_not(input: Any) -> Any:
    """All bits the other way round, of integers or bool. Shape: any -> the same."""
    x = as_tensor(input).data
    if x.dtype.kind not in "iub":
        raise DTypeError(f"[bitwise_not] input is {x.dtype}; expected integers or bool")
    return wrap(np.bitwise_not(x, out=empty(x.shape, x.dtype)))
