"""Proximal gradient descent for a smooth function plus l1 * |w|_1: ISTA, and FISTA, which is faster by its momentum.

Source: Beck and Teboulle 2009, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydl.errors import ArgumentError
from pydl.graph.modes import enable_grad, no_grad
from pydl.ops import softshrink

__all__ = ["fista", "ista", "soft_threshold"]


def soft_threshold(input: Any, threshold: float) -> Any:
    """sign(x) * max(|x| - threshold, 0): the proximal map of threshold * |x|_1, which sets small numbers to exactly 0.

    Any shape; the result has the same. Source: Donoho 1995; Beck and Teboulle 2009, section 1.
    """
    if not threshold >= 0:
        raise ArgumentError(f"soft_threshold: threshold={threshold} must not be negative")
    return softshrink(input, threshold)


def ista(
    f: Callable[[Any], Any], start: Any, lr: float, l1: float, steps: int, *, penalise: Any = None
) -> tuple[Any, list[float]]:
    """Minimise F(w) = f(w) + l1 * |w|_1 by w <- soft_threshold(w - lr * f'(w), lr * l1).

    With lr <= 1 / L, L the Lipschitz constant of f', F(w_k) - F* <= L |w_0 - w*|^2 / (2 k).

    Parameters
    ----------
    f : callable
        From a tensor to a scalar tensor, differentiable; its gradient comes from the tape.
    start : Tensor
        w_0; it is left alone.
    lr, l1 : float
        Length of a step; weight of the penalty.
    steps : int
    penalise : Tensor, optional
        1 where the penalty applies and 0 where not (an intercept), in w's shape. Default: all of w.

    Returns
    -------
    Tensor, list of float
        The last w, and F(w_0) to F(w_steps).
    """
    return _descend("ista", f, start, lr, l1, steps, penalise, accelerated=False)


def fista(
    f: Callable[[Any], Any], start: Any, lr: float, l1: float, steps: int, *, penalise: Any = None
) -> tuple[Any, list[float]]:
    """`ista` with the gradient taken ahead: F(w_k) - F* <= 2 L |w_0 - w*|^2 / (k + 1)^2.

    y_1 = w_0; w_k = soft_threshold(y_k - lr * f'(y_k), lr * l1); t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2;
    y_{k+1} = w_k + (t_k - 1) / t_{k+1} * (w_k - w_{k-1}). Arguments and results as of `ista`; F need not fall at every step.
    """
    return _descend("fista", f, start, lr, l1, steps, penalise, accelerated=True)


def _descend(
    name: str, f: Callable[[Any], Any], start: Any, lr: float, l1: float, steps: int, mask: Any, accelerated: bool
) -> tuple[Any, list[float]]:
    if not lr > 0 or not l1 >= 0 or steps < 1:
        raise ArgumentError(f"{name}: lr={lr}, l1={l1}, steps={steps}; expected lr > 0, l1 >= 0, steps >= 1")
    w = y = start.detach().clone()
    values, t = [_objective(f, w, l1, mask)], 1.0
    for _ in range(steps):
        gradient = _gradient(name, f, y)
        with no_grad():
            moved = y - lr * gradient
            new = soft_threshold(moved, lr * l1)
            if mask is not None:
                new = new * mask + moved * (1 - mask)
            following = (1 + math.sqrt(1 + 4 * t * t)) / 2
            y = new + (t - 1) / following * (new - w) if accelerated else new
            w, t = new, following
        values.append(_objective(f, w, l1, mask))
    return w, values


def _gradient(name: str, f: Callable[[Any], Any], at: Any) -> Any:
    point = at.detach().clone()
    point.requires_grad = True
    with enable_grad():
        f(point).backward()
    if point.grad is None:
        raise ArgumentError(f"{name}: f does not depend on its argument, or leaves the tape")
    return point.grad


def _objective(f: Callable[[Any], Any], w: Any, l1: float, mask: Any) -> float:
    with no_grad():
        size = w.abs() if mask is None else w.abs() * mask
        return float(f(w).item()) + l1 * float(size.sum().item())
