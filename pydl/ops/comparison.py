"""Comparisons, truth values and selection: what is bool, and `where`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pydl import _core
from pydl.errors import DTypeError
from pydl.graph.engine import apply, wrap
from pydl.graph.op import Op, Shape
from pydl.ops._common import MOVABLE, as_tensor, broadcast_shapes, empty, named, operands, promote, sum_to_shape
from pydl.ops._maps import empty_broadcast
from pydl.ops.convert import cast

__all__ = [
    "eq", "ge", "gt", "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not", "logical_or", "logical_xor", "lt",
    "masked_fill", "ne", "where",
]

Function: TypeAlias = Callable[[Any], Any]
BinaryFunction: TypeAlias = Callable[[Any, Any], Any]


def _pairwise(name: str, ufunc: Any, doc: str) -> BinaryFunction:
    def function(input: Any, other: Any) -> Any:
        a, b = operands(input, other)
        shape = broadcast_shapes(name, input=a.data.shape, other=b.data.shape)
        return wrap(ufunc(a.data, b.data, out=empty(shape, np.bool_)))

    return named(function, name, doc)


eq: BinaryFunction = _pairwise("eq", np.equal, "input == other, element by element: a bool tensor. Shapes broadcast.")
ne: BinaryFunction = _pairwise("ne", np.not_equal, "input != other, element by element: a bool tensor. Shapes broadcast.")
lt: BinaryFunction = _pairwise("lt", np.less, "input < other, element by element: a bool tensor. Shapes broadcast.")
le: BinaryFunction = _pairwise("le", np.less_equal, "input <= other, element by element: a bool tensor. Shapes broadcast.")
gt: BinaryFunction = _pairwise("gt", np.greater, "input > other, element by element: a bool tensor. Shapes broadcast.")
ge: BinaryFunction = _pairwise("ge", np.greater_equal, "input >= other, element by element: a bool tensor. Shapes broadcast.")


def _predicate(name: str, ufunc: Any, doc: str) -> Callable[[Any], Any]:
    def function(input: Any) -> Any:
        x = as_tensor(input).data
        return wrap(ufunc(x, out=empty(x.shape, np.bool_)))

    return named(function, name, doc)


isnan: Function = _predicate("isnan", np.isnan, "Whether each element is NaN.")
isinf: Function = _predicate("isinf", np.isinf, "Whether each element is +Inf or -Inf.")
isfinite: Function = _predicate("isfinite", np.isfinite, "Whether each element is neither NaN nor infinite.")
logical_not: Function = _predicate("logical_not", np.logical_not, "Whether each element is zero or False.")
logical_and: BinaryFunction = _pairwise("logical_and", np.logical_and, "And of truth values; shapes broadcast.")
logical_or: BinaryFunction = _pairwise("logical_or", np.logical_or, "Or of truth values; shapes broadcast.")
logical_xor: BinaryFunction = _pairwise("logical_xor", np.logical_xor, "Exclusive or of truth values; shapes broadcast.")


class Where(Op):
    """condition ? a : b."""

    name, backward_on_tensors = "where", True

    @staticmethod
    def shape(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> Shape:
        return broadcast_shapes("where", condition=condition.shape, input=a.shape, other=b.shape)

    @staticmethod
    def forward(ctx: Any, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        shape = Where.shape(condition, a, b)
        ctx.save(condition)
        ctx.shapes = a.shape, b.shape
        out = empty_broadcast(shape, (a, b))
        if out.dtype != a.dtype:
            out = empty(shape, a.dtype)
        if a.dtype in MOVABLE:
            _core.where(condition, a, b, out)
        else:
            np.copyto(out, np.where(condition, a, b))
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (condition,) = ctx.saved
        zero = wrap(np.zeros((), g.data.dtype))
        da = sum_to_shape(where(condition, g, zero), ctx.shapes[0]) if ctx.needs[1] else None
        db = sum_to_shape(where(condition, zero, g), ctx.shapes[1]) if ctx.needs[2] else None
        return None, da, db


def where(condition: Any, input: Any, other: Any) -> Any:
    """`input` where the condition holds, `other` elsewhere; all three broadcast."""
    condition = as_tensor(condition)
    if condition.data.dtype != np.bool_:
        raise DTypeError(f"[where] condition must be bool, got {condition.data.dtype}; compare it, e.g. x > 0")
    a, b = operands(input, other)
    dtype = promote(a.data.dtype, b.data.dtype)
    return apply(Where, condition, cast(a, dtype), cast(b, dtype))


def masked_fill(input: Any, mask: Any, value: float) -> Any:
    """The input with `value` where the mask is True; no gradient flows there."""
    return where(mask, as_tensor(value, input), input)
