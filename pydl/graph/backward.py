"""Entry points of the backward pass: `backward` (fills `.grad`) and `grad` (returns gradients)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.errors import GraphError, ShapeError
from pydl.graph import engine
from pydl.graph.engine import TensorCore


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _initial_grads(name: str, roots: list[TensorCore], grads: list[Any]) -> list[TensorCore]:
    if len(grads) != len(roots):
        raise GraphError(f"{name}: {len(roots)} outputs but {len(grads)} initial gradients; give one for each")
    result = []
    for root, grad in zip(roots, grads, strict=True):
        if not root.requires_grad:
            raise GraphError(
                f"{name}: the tensor (shape {root.data.shape}) does not require a gradient and no recorded operation "
                "made it; set requires_grad=True on an input, and do not compute it under no_grad"
            )
        if grad is None:
            if root.data.size != 1:
                raise GraphError(
                    f"{name}: only a scalar has an implicit gradient, this output has shape {root.data.shape}; "
                    "reduce it with .sum() or .mean(), or pass gradient= of that shape"
                )
            grad = engine.wrap(np.ones(root.data.shape, root.data.dtype))
        elif not isinstance(grad, TensorCore):
            grad = engine.wrap(np.asarray(grad, root.data.dtype))
        if grad.data.shape != root.data.shape:
            raise ShapeError(f"{name}: gradient of shape {grad.data.shape} for an output of shape {root.data.shape}")
        result.append(grad)
    return result


def backward(
    tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Add the gradients of `tensors` to `.grad` of every leaf that they were computed from.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        Where to start; scalars unless `grad_tensors` is given.
    grad_tensors : Tensor or sequence of Tensor, optional
        The gradient at each start, of the same shape.
    retain_graph : bool, optional
        Keep the saved arrays for another backward. Default: the value of `create_graph`.
    create_graph : bool
        Record the backward pass itself, for derivatives of higher order.
    """
    roots = _as_list(tensors)
    grads = [None] * len(roots) if grad_tensors is None else _as_list(grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    engine.run_backward(roots, _initial_grads("backward", roots, grads), keep, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Gradients of `outputs` with respect to `inputs`, returned and not stored in `.grad`.

    Raises
    ------
    GraphError
        If an input does not influence the outputs and `allow_unused` is False.
    """
    roots: Sequence[Any] = _as_list(outputs)
    targets = _as_list(inputs)
    starts = [None] * len(roots) if grad_outputs is None else _as_list(grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    for i, t in enumerate(targets):
        if not t.requires_grad:
            raise GraphError(f"grad: inputs[{i}] does not require a gradient; set requires_grad=True before computing")
    results = engine.run_backward(list(roots), _initial_grads("grad", list(roots), starts), keep, create_graph, targets)
    for i, g in enumerate(results):
        if g is None and not allow_unused:
            raise GraphError(f"grad: inputs[{i}] was not used to compute the outputs; pass allow_unused=True for None")
    return tuple(results)
