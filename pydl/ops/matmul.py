"""Matrix products (kernels: csrc/cpu/matmul.cpp, csrc/cpu/gemm.h)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ShapeError
from pydl.graph.engine import apply, is_grad_enabled, run_observed, wrap
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import as_tensor, check_floating, contiguous, empty, promote, reshaped, sum_to_shape
from pydl.ops.convert import cast
from pydl.ops.elementwise import mul
from pydl.ops.shape import reshape, squeeze, transpose, unsqueeze

__all__ = ["addmm", "bmm", "dot", "linear", "matmul", "mm", "mv", "outer"]


def gemm(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """a[..., M, K] x b[..., K, N] (+ bias[N], then ReLU) on ndarrays; leading axes broadcast, any strides."""
    if a.ndim == 2 and b.ndim == 2:
        out = empty((a.shape[0], b.shape[1]), a.dtype)
        _core.matmul(a, b, bias, out, relu)
        return out
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, n = a.shape[-2], b.shape[-1]
    out = empty((*batch, m, n), a.dtype)
    count = math.prod(batch)

    def stacked(x: np.ndarray) -> np.ndarray:  # [count, rows, columns]; a repeated matrix keeps stride 0
        if x.shape[:-2] == batch:
            return reshaped(x, (count, *x.shape[-2:]))
        if all(s == 1 for s in x.shape[:-2]):
            return np.broadcast_to(x.reshape(x.shape[-2:]), (count, *x.shape[-2:]))
        return reshaped(np.broadcast_to(x, (*batch, *x.shape[-2:])), (count, *x.shape[-2:]))

    _core.matmul(stacked(a), stacked(b), bias, out.reshape(count, m, n), relu)
    return out


def _product_shape(a: Shape, b: Shape) -> Shape:
    """The shape of a product of matrices, stacks or vectors."""
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        axis = "last but one axis" if len(b) > 1 else "only axis"
        raise ShapeError(
            f"[matmul] input {a} x other {b}: the last axis of input ({a[-1]}) must equal the {axis} of other ({inner}); "
            "transpose one of them?"
        )
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ShapeError(f"[matmul] the leading axes of input {a} and other {b} cannot be broadcast together") from None
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


class Matmul(Op):
    """[..., M, K] x [..., K, N] -> [..., M, N]; leading axes broadcast."""

    name, backward_on_tensors = "matmul", True

    @staticmethod
    def shape(a: np.ndarray, b: np.ndarray) -> Shape:
        return _product_shape(a.shape, b.shape)

    @staticmethod
    def forward(ctx: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        Matmul.shape(a, b)
        check_floating("matmul", input=a, other=b)
        ctx.save(a, b)
        return gemm(a, b)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, b = ctx.saved
        da = db = None
        if ctx.needs[0]:
            da = sum_to_shape(apply(Matmul, g, transpose(b, -1, -2)), a.data.shape)
        if ctx.needs[1]:
            if b.data.ndim == 2 and a.data.ndim > 2:  # one matrix for the whole batch: one long product, no sum after
                a, g = (reshape(x, (math.prod(x.data.shape[:-1]), x.data.shape[-1])) for x in (a, g))
            db = sum_to_shape(apply(Matmul, transpose(a, -1, -2), g), b.data.shape)
        return da, db

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        a, b = args
        elements = math.prod(out_shape)
        return Cost(2 * elements * a.shape[-1], a.nbytes + b.nbytes + elements * a.itemsize)


def matmul(input: Any, other: Any) -> Any:
    """Matrix product.

    Shapes: (K) x (K) -> (); (M, K) x (K) -> (M); (K) x (K, N) -> (N); (..., M, K) x (..., K, N) -> (..., M, N) with leading
    axes broadcast.

    Raises
    ------
    ShapeError
        If the inner sizes differ or the leading axes do not broadcast.
    """
    input, other = as_tensor(input), as_tensor(other)
    if not input.data.ndim or not other.data.ndim:
        raise ShapeError(f"[matmul] input {input.data.shape} x other {other.data.shape}: scalars are multiplied with *")
    _product_shape(input.data.shape, other.data.shape)
    dtype = promote(input.data.dtype, other.data.dtype)
    if dtype.kind in "iub":
        return wrap(np.asarray(np.matmul(input.data, other.data)))
    a, b = cast(input, dtype), cast(other, dtype)
    if a.data.ndim > 2 and b.data.ndim == 2 and a.data.size:  # one tall product instead of many
        flat = apply(Matmul, reshape(a, (-1, a.data.shape[-1])), b)
        return reshape(flat, (*a.data.shape[:-1], b.data.shape[-1]))
    row, column = a.data.ndim == 1, b.data.ndim == 1
    if not (row or column):
        return apply(Matmul, a, b)
    out = apply(Matmul, unsqueeze(a, 0) if row else a, unsqueeze(b, 1) if column else b)
    return squeeze(out, tuple(i for i, on in ((-2, row), (-1, column)) if on))


def _expect(op: str, input: Any, other: Any, axes: tuple[int, int]) -> None:
    if (input.data.ndim, other.data.ndim) != axes:
        raise ShapeError(
            f"[{op}] expected tensors of {axes[0]} and {axes[1]} axes, got shapes {input.data.shape} and {other.data.shape}; "
            "matmul broadcasts"
        )


def mm(input: Any, mat2: Any) -> Any:
    """Product of two matrices: (M, K) x (K, N) -> (M, N)."""
    _expect("mm", input, mat2, (2, 2))
    return matmul(input, mat2)


def bmm(input: Any, mat2: Any) -> Any:
    """Product of two stacks of matrices: (B, M, K) x (B, K, N) -> (B, M, N)."""
    _expect("bmm", input, mat2, (3, 3))
    return matmul(input, mat2)


def mv(input: Any, vec: Any) -> Any:
    """Matrix times vector: (M, K) x (K) -> (M)."""
    _expect("mv", input, vec, (2, 1))
    return matmul(input, vec)


def dot(input: Any, other: Any) -> Any:
    """Inner product of two vectors: (K) x (K) -> ()."""
    _expect("dot", input, other, (1, 1))
    return matmul(input, other)


def outer(input: Any, vec2: Any) -> Any:
    """Outer product of two vectors: (M), (N) -> (M, N)."""
    _expect("outer", input, vec2, (1, 1))
    return mul(unsqueeze(input, 1), unsqueeze(vec2, 0))


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """beta * input + alpha * (mat1 x mat2)."""
    return mul(input, beta) + mul(mm(mat1, mat2), alpha)


def behind_relu(g: np.ndarray, y: np.ndarray, in_place: bool) -> np.ndarray:
    """The gradient where the result y of a ReLU is positive, else 0."""
    source = contiguous(g)
    masked = source if in_place or source is not g else empty(g.shape, g.dtype)
    _core.map(_RELU_GRAD, (source, y), masked)
    return masked


class BehindReLU(Op):
    """`behind_relu`, to be differentiated again."""

    name, backward_on_tensors = "behind_relu", True

    @staticmethod
    def forward(ctx: Any, g: np.ndarray, y: np.ndarray) -> np.ndarray:
        ctx.save(y)
        return behind_relu(g, y, False)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return apply(BehindReLU, g, ctx.saved[0])


class Linear(Op):
    """y = x W^T + b with the bias added in the product's last step, then perhaps ReLU."""

    name, backward_on_tensors = "linear", True

    @staticmethod
    def shape(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool = False) -> Shape:
        if weight.ndim != 2:
            raise ShapeError(f"[linear] weight must be (out_features, in_features), got shape {weight.shape}")
        if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
            raise ShapeError(
                f"[linear] input of shape {x.shape} has {x.shape[-1] if x.ndim else 'no'} features in its last axis, weight "
                f"{weight.shape} expects {weight.shape[1]}; flatten the input or change in_features"
            )
        if bias is not None and bias.shape != (weight.shape[0],):
            raise ShapeError(f"[linear] bias of shape {bias.shape}, expected ({weight.shape[0]},)")
        return (*x.shape[:-1], weight.shape[0])

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool = False) -> np.ndarray:
        shape = Linear.shape(x, weight, bias)
        check_floating("linear", input=x, weight=weight, bias=bias)
        rows = reshaped(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        y = gemm(rows, weight.T, None if bias is None else contiguous(bias), relu).reshape(shape)
        ctx.save(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, weight, y = ctx.saved
        if not is_grad_enabled():  # nobody will differentiate this again
            found = run_observed(LinearGradients, g.data, x.data, weight.data, ctx.needs, None if y is None else y.data,
                                 ctx.owns_gradient)
            return tuple(None if d is None else wrap(d) for d in found)
        dx = dw = db = None
        if y is not None:
            g = apply(BehindReLU, g, y)
        rows = reshape(g, (math.prod(g.data.shape[:-1]), g.data.shape[-1]))
        if ctx.needs[0]:
            dx = reshape(apply(Matmul, rows, weight), x.data.shape)
        if ctx.needs[1]:
            dw = apply(Matmul, transpose(rows, 0, 1), reshape(x, (rows.data.shape[0], x.data.shape[-1])))
        if ctx.needs[2]:
            db = rows.sum(0)
        return dx, dw, db

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, weight = args[0], args[1]
        elements = math.prod(out_shape)
        return Cost(elements * (2 * weight.shape[1] + 1), x.nbytes + weight.nbytes + elements * x.itemsize)


class LinearGradients(Op):
    """The gradients of `Linear` for input, weight and bias, on arrays; None where one is not wanted. Behind ReLU its result is
    given too, and whether the gradient that came may be written to."""

    name = "linear_backward"

    @staticmethod
    def forward(
        ctx: Any, g: np.ndarray, x: np.ndarray, weight: np.ndarray, needs: tuple[bool, ...], y: np.ndarray | None = None,
        in_place: bool = False,
    ) -> tuple[np.ndarray | None, ...]:
        outputs, inputs = weight.shape
        dx = dw = db = None
        if y is not None:
            g = behind_relu(g, y, in_place)
        rows = g if g.ndim == 2 else reshaped(g, (g.size // outputs if outputs else math.prod(g.shape[:-1]), outputs))
        if needs[0]:
            dx = gemm(rows, weight)
            dx = dx if x.ndim == 2 else dx.reshape(x.shape)
        if needs[1]:
            dw = gemm(rows.T, x if x.ndim == 2 else reshaped(x, (rows.shape[0], inputs)))
        if needs[2]:
            db = sum_rows(rows)
        return dx, dw, db

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        g, x, weight, needs = args[:4]
        flops = 2 * g.size * weight.shape[1] * (needs[0] + needs[1]) + g.size * needs[2]
        arrays = needs[0] * (g.nbytes + weight.nbytes + x.nbytes) + needs[1] * (g.nbytes + weight.nbytes + x.nbytes)
        return Cost(flops, arrays + g.nbytes * needs[2])


def sum_rows(rows: np.ndarray) -> np.ndarray:
    """[M, N] -> [N]."""
    rows = contiguous(rows)
    out = empty((1, rows.shape[1]), rows.dtype)
    _core.reduce(_SUM, rows[None], out)
    return out.reshape(rows.shape[1])


_SUM, _RELU_GRAD = _core.REDUCTIONS["sum"], _core.MAPS["relu_grad"]


def linear(input: Any, weight: Any, bias: Any = None, *, relu: bool = False) -> Any:
    """y = x W^T + b; with ``relu`` negative results become 0 in the same pass over memory.

    Shapes: input (..., in_features), weight (out_features, in_features), bias (out_features) -> (..., out_features).
    """
    return apply(Linear, input, weight, bias, relu)
