"""What all op files share: allocation in the pool, dtype promotion, layouts, shape checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import TensorCore, wrap
from pydl.graph.op import Shape

F = TypeVar("F", bound=Callable[..., Any])

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# What the kernels can move about; other dtypes are NumPy's business.
MOVABLE = tuple(np.dtype(t) for t in (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_))

# The axis order in memory, slowest first, of channels-last data under an N, C, spatial... shape.
_CHANNELS_LAST_ORDER = {n: [0, *range(2, n), 1] for n in range(2, 17)}


def empty(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised C-ordered array in pooled memory."""
    return _core.empty(shape, np.dtype(dtype))


def empty_channels_last(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised array of shape (N, C, spatial...) whose channels are adjacent in memory."""
    return _core.empty(shape, np.dtype(dtype), _CHANNELS_LAST_ORDER[len(shape)])


def memory_order(array: np.ndarray) -> list[int]:
    """The axes of an array from slowest to fastest in memory."""
    return sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]) if array.shape[i] > 1 else 0)


def is_dense(array: np.ndarray) -> bool:
    """Whether the elements fill their memory without gaps or overlap, in any axis order."""
    if array.flags.c_contiguous:
        return True
    expected = array.itemsize
    for stride, n in sorted((s, n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= n
    return True


def empty_like(array: np.ndarray, dtype: Any = None, shape: Sequence[int] | None = None) -> np.ndarray:
    """An uninitialised array of the same shape and axis order in memory (NCHW stays NCHW, channels-last stays so)."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    shape = array.shape if shape is None else shape
    if array.flags.c_contiguous:
        return _core.empty(shape, dtype)
    order = sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))
    return _core.empty(shape, dtype, order)


def copy(array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """A native copy into `out`, or into a new array of the same axis order."""
    if out is None:
        out = empty_like(array)
    if array.dtype not in MOVABLE:
        np.copyto(out, array)
    else:
        _core.copy(array, out)
    return out


def fill(array: np.ndarray, value: Any) -> np.ndarray:
    """The array, natively filled with one value."""
    if array.dtype in MOVABLE:
        _core.fill(array, np.asarray(value, array.dtype))
    else:
        array.fill(value)
    return array


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array itself if C-contiguous, else a C-ordered copy."""
    return array if array.flags.c_contiguous else copy(array, empty(array.shape, array.dtype))


def reshaped(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The elements in C order under another shape: a view where the memory allows it, else a native copy."""
    try:
        return array.reshape(shape, copy=False)
    except ValueError:
        return contiguous(array).reshape(shape)


def is_channels_last(array: np.ndarray) -> bool:
    """Whether channels (axis 1) are adjacent and the array dense, for shapes (N, C, spatial...)."""
    return _core.is_channels_last(array)


def channels_last(array: np.ndarray) -> np.ndarray:
    """The array itself if it is channels-last in memory, else such a copy; the shape stays (N, C, spatial...)."""
    return array if is_channels_last(array) else copy(array, empty_channels_last(array.shape, array.dtype))


def channel_rows(array: np.ndarray, joined: bool = False) -> np.ndarray:
    """A channels-last array as [N, positions, C], or [1, N * positions, C] when the batch is joined; a view."""
    return _core.channel_rows(array, joined)


def as_tensor(value: Any, like: TensorCore | None = None) -> TensorCore:
    """The tensor itself, or a constant of the other operand's kind from a number or an array."""
    if isinstance(value, TensorCore):
        return value
    if isinstance(value, bool | int | float):
        if like is not None:
            dtype = like.data.dtype
            if dtype.kind == "f" or (dtype.kind in "iu" and isinstance(value, int) and not isinstance(value, bool)):
                return wrap(np.asarray(value, dtype))
        return wrap(np.asarray(value, np.float32 if isinstance(value, float) else None))
    array = np.asarray(value)
    return wrap(array.astype(np.float32) if array.dtype == np.float64 and not isinstance(value, np.ndarray) else array)


def operands(a: Any, b: Any) -> tuple[Any, Any]:
    """Both as tensors, a number or array of the kind of the other."""
    if not isinstance(a, TensorCore):
        b = as_tensor(b)
        return as_tensor(a, b), b
    return a, b if isinstance(b, TensorCore) else as_tensor(b, a)


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of a result of two operands: floating beats integer (float32 stays float32 beside int64)."""
    if a == b:
        return a
    if a.kind == "f" and b.kind != "f":
        return a
    if b.kind == "f" and a.kind != "f":
        return b
    return np.promote_types(a, b)


def check_floating(op: str, **arrays: np.ndarray | None) -> np.dtype:
    """All arrays float32 or all float64; returns that dtype, or raises `DTypeError` naming each."""
    dtypes = {a.dtype for a in arrays.values() if a is not None}
    if len(dtypes) == 1 and (only := next(iter(dtypes))) in FLOATS:
        return only
    got = ", ".join(f"{name} {a.dtype}" for name, a in arrays.items() if a is not None)
    raise DTypeError(f"[{op}] expected all tensors float32 or all float64, got {got}; convert with .to(pydl.float32)")


def check_float(op: str, x: np.ndarray) -> None:
    """Float32 or float64, or `DTypeError`."""
    if x.dtype not in FLOATS:
        raise DTypeError(f"[{op}] expected a float32 or float64 tensor, got {x.dtype}; convert with .to(pydl.float32)")


def broadcast_shapes(op: str, **shapes: Shape) -> Shape:
    """The common shape by NumPy's rule, or `ShapeError` naming each argument's shape."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        got = ", ".join(f"{name} {tuple(s)}" for name, s in shapes.items())
        raise ShapeError(
            f"[{op}] shapes cannot be broadcast together: {got}; aligned from the right, axes must be equal or 1"
        ) from None


def sizes_of(sizes: tuple[Any, ...]) -> Shape:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(sizes) == 1 and not isinstance(sizes[0], int | np.integer):
        sizes = tuple(sizes[0])
    return tuple(int(n) for n in sizes)


def normalize_axis(op: str, axis: int, ndim: int, name: str = "dim") -> int:
    """A non-negative axis, or `ArgumentError`."""
    limit = max(ndim, 1)
    if not isinstance(axis, int | np.integer) or not -limit <= axis < limit:
        raise ArgumentError(f"[{op}] {name}={axis} for a tensor of {ndim} axes; expected {-limit} to {limit - 1}")
    return int(axis) % limit


def normalize_axes(op: str, axes: Any, ndim: int, name: str = "dim") -> tuple[int, ...]:
    """Sorted non-negative axes; None means all. Axis 0 or -1 of a scalar is allowed, as in PyTorch, and names nothing."""
    if axes is None:
        return tuple(range(ndim))
    if isinstance(axes, int | np.integer):
        axes = (axes,)
    result = sorted(normalize_axis(op, a, ndim, name) for a in axes)
    if len(set(result)) != len(result):
        raise ArgumentError(f"[{op}] {name}={tuple(axes)} names an axis twice")
    return tuple(result) if ndim else ()


def sum_to_shape(grad: Any, shape: Shape) -> Any:
    """Sum a broadcast gradient (tensor) back to the shape of the operand it belongs to."""
    if grad.data.shape == tuple(shape):
        return grad
    from pydl.ops.reduce import sum as sum_

    extra = grad.data.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and grad.data.shape[i + extra] != 1
    )
    grad = sum_(grad, axes, keepdim=True)
    if extra:
        from pydl.ops.shape import reshape

        grad = reshape(grad, tuple(shape))
    return grad


def named(function: F, name: str, doc: str) -> F:
    """The function under the name by which users know it, with its docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function
