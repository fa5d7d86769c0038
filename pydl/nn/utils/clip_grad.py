"""Gradient clipping."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, NonFiniteError
from pydl.graph.engine import TensorCore, wrap
from pydl.graph.modes import no_grad
from pydl.ops.reduce import norm

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _with_gradients(parameters: Any) -> list[Any]:
    parameters = [parameters] if isinstance(parameters, TensorCore) else list(parameters)
    return [p for p in parameters if p.grad is not None]


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Any:
    """The norm of all tensors, taken as one long vector: a scalar tensor. See `clip_grad_norm_`."""
    tensors = [tensors] if isinstance(tensors, TensorCore) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return wrap(np.zeros((), np.float32))
    norms = [float(norm(t, norm_type).item()) for t in tensors]
    largest = builtins.max(norms)
    if math.isinf(norm_type):
        total = math.nan if any(map(math.isnan, norms)) else largest
    else:  # by the largest, so that no power overflows
        total = largest * sum((n / largest) ** norm_type for n in norms) ** (1 / norm_type) if 0 < largest < math.inf else largest
        total = math.nan if any(map(math.isnan, norms)) else total
    if error_if_nonfinite and not math.isfinite(total):
        raise NonFiniteError(
            f"clip_grad_norm_: the norm of the gradients is {total}, they cannot be scaled; find the first operation that "
            "made it with pydl.autograd.detect_anomaly(), or lower the learning rate"
        )
    return wrap(np.asarray(total, tensors[0].data.dtype))


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any) -> None:
    """Multiply all gradients in place by min(1, max_norm / (total_norm + 1e-6))."""
    scale = max_norm / (float(total_norm) + 1e-6)
    if not scale >= 1:
        with no_grad():
            for p in _with_gradients(parameters):
                p.grad.mul_(scale)


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Any:
    """Scale all gradients in place so that their norm, taken as one long vector, is at most `max_norm`.

    Every gradient is multiplied by min(1, max_norm / (norm + 1e-6)) (Pascanu et al. 2013, "On the difficulty of training
    recurrent neural networks").

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are left out.
    norm_type : float
        p of the p-norm; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool
        Raise `NonFiniteError` if the norm is NaN or infinite; otherwise the gradients are scaled by it all the same.

    Returns
    -------
    Tensor
        The norm before clipping, a scalar.
    """
    with_gradients = _with_gradients(parameters)
    total = get_total_norm([p.grad for p in with_gradients], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(with_gradients, max_norm, total)
    return total


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clamp every element of the gradients in place to [-clip_value, clip_value]."""
    if not clip_value > 0:
        raise ArgumentError(f"clip_grad_value_: clip_value={clip_value}, expected a positive number")
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad.clamp_(-clip_value, clip_value)
