"""Derivatives of functions as tensors: Jacobian, Hessian, and their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pydl.errors import ShapeError
from pydl.graph import enable_grad, grad
from pydl.graph.engine import TensorCore, wrap
from pydl.ops import reshape, stack, zeros_like

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _leaves(inputs: Any) -> tuple[tuple[Any, ...], bool]:
    """Fresh leaves of the inputs, and whether it was a single tensor."""
    single = isinstance(inputs, TensorCore)
    leaves = []
    for t in (inputs,) if single else inputs:
        leaf = wrap(t.data)
        leaf.requires_grad = True
        leaves.append(leaf)
    return tuple(leaves), single


def _gradients(output: Any, leaves: tuple[Any, ...], weight: Any, again: bool) -> list[Any]:
    if not output.requires_grad:
        return [zeros_like(x) for x in leaves]
    found = grad(output, list(leaves), weight, retain_graph=True, create_graph=again, allow_unused=True)
    return [zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def _unit(shape: tuple[int, ...], i: int, dtype: Any) -> Any:
    one = np.zeros(shape, dtype)
    one.reshape(-1)[i] = 1
    return wrap(one)


def _jacobian(output: Any, leaves: tuple[Any, ...], again: bool) -> list[Any]:
    """For each leaf a tensor of shape (output, leaf), one backward for each element of the output."""
    shape = output.data.shape
    rows = [_gradients(output, leaves, _unit(shape, i, output.data.dtype), again) for i in range(output.data.size)]
    return [reshape(stack([row[k] for row in rows]), (*shape, *x.data.shape)) for k, x in enumerate(leaves)]


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """The derivatives of each element of the output by each element of the input: shape (output, input).

    A tuple of inputs gives a tuple of Jacobians, a tuple of outputs a tuple for each.

    Examples
    --------
    >>> import pydl
    >>> pydl.autograd.functional.jacobian(lambda x: x * x, pydl.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    with enable_grad():
        leaves, single = _leaves(inputs)
        outputs = func(*leaves)
        found = []
        for out in (outputs,) if isinstance(outputs, TensorCore) else outputs:
            parts = _jacobian(out, leaves, create_graph)
            found.append(parts[0] if single else tuple(parts))
    return found[0] if isinstance(outputs, TensorCore) else tuple(found)


def _scalar(op: str, output: Any) -> None:
    if output.data.size != 1:
        raise ShapeError(f"[{op}] the function returned a tensor of shape {output.data.shape}; expected a scalar")


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """The second derivatives of a scalar function: shape (input, input); of several inputs a tuple of tuples.

    Every operation in it must support ``create_graph``.
    """
    with enable_grad():
        leaves, single = _leaves(inputs)
        output = func(*leaves)
        _scalar("hessian", output)
        rows = [tuple(_jacobian(g, leaves, create_graph)) for g in _gradients(output, leaves, None, True)]
    return rows[0][0] if single else tuple(rows)


def _vectors(op: str, v: Any, like: Any) -> tuple[Any, ...]:
    vectors = (v,) if isinstance(v, TensorCore) else tuple(v)
    expected = [t.data.shape for t in like]
    if [t.data.shape for t in vectors] != expected:
        raise ShapeError(f"[{op}] v of shapes {[t.data.shape for t in vectors]}; expected {expected}")
    return vectors


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """The output, and v^T J: one backward."""
    with enable_grad():
        leaves, single = _leaves(inputs)
        output = func(*leaves)
        weight = None if v is None else _vectors("vjp", v, (output,))[0]
        if v is None:
            _scalar("vjp", output)
        found = _gradients(output, leaves, weight, create_graph)
    return output if create_graph else output.detach(), found[0] if single else tuple(found)


def jvp(func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """The output, and J v, by two backwards: v^T J is linear in its v, and its derivative by that, times v, is J v."""
    with enable_grad():
        leaves, _ = _leaves(inputs)
        vectors = _vectors("jvp", v, leaves)
        output = func(*leaves)
        dummy = zeros_like(output).detach()
        dummy.requires_grad = True
        first = _gradients(output, leaves, dummy, True)
        total = sum((g * w).sum() for g, w in zip(first, vectors, strict=True))
        found = _gradients(total, (dummy,), None, create_graph)[0]
    return output if create_graph else output.detach(), found


def hvp(func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """The output of a scalar function, and H v."""
    with enable_grad():
        leaves, single = _leaves(inputs)
        vectors = _vectors("hvp", v, leaves)
        output = func(*leaves)
        _scalar("hvp", output)
        first = _gradients(output, leaves, None, True)
        total = sum((g * w).sum() for g, w in zip(first, vectors, strict=True))
        found = _gradients(total, leaves, None, create_graph)
    return output if create_graph else output.detach(), found[0] if single else tuple(found)


vhp = hvp  # the Hessian is symmetric
