"""Gradients by central differences, to judge the analytic ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, GraphError
from pydl.graph import engine
from pydl.graph.backward import grad


def numerical_grad(function: Callable[[], Any], array: np.ndarray, weights: np.ndarray, eps: float) -> np.ndarray:
    """d(sum(weights * function())) / d(array) by central differences; `array` is changed and restored in place."""
    result = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        original = array[index]
        array[index] = original + eps
        high = float((function().data * weights).sum())
        array[index] = original - eps
        low = float((function().data * weights).sum())
        array[index] = original
        result[index] = (high - low) / (2 * eps)
    return result


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of `function(*inputs)` with central differences in float64.

    The outputs are weighted with fixed random numbers, so that errors cannot cancel in a plain sum.

    Raises
    ------
    ArgumentError
        If no input is a float64 tensor that requires a gradient.
    GraphError
        If a gradient is wrong (or False is returned, when `raise_exception` is False).
    """
    tensors = inputs if isinstance(inputs, tuple | list) else (inputs,)
    checked = [t for t in tensors if isinstance(t, engine.TensorCore) and t.requires_grad]
    if not checked or any(t.data.dtype != np.float64 for t in checked):
        raise ArgumentError("gradcheck: inputs must be float64 tensors, at least one with requires_grad=True")
    out = function(*tensors)
    outs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]
    rng = np.random.default_rng(0)
    for k, o in enumerate(outs):
        weights = np.asarray(rng.uniform(0.5, 1.5, o.data.shape) * rng.choice([-1.0, 1.0], o.data.shape))
        analytic = grad(o, checked, engine.wrap(weights), retain_graph=True, allow_unused=True)

        def run(k: int = k) -> Any:
            value = function(*tensors)
            return [v for v in (value if isinstance(value, tuple) else (value,)) if v.requires_grad][k]

        for i, t in enumerate(checked):
            expected = numerical_grad(run, t.data, weights, eps)
            g = analytic[i]
            actual = np.zeros(t.data.shape) if g is None else g.data
            if not np.allclose(actual, expected, rtol=rtol, atol=atol, equal_nan=False):
                if not raise_exception:
                    return False
                worst = np.unravel_index(np.argmax(np.abs(actual - expected)), expected.shape)
                raise GraphError(
                    f"gradcheck: output {k}, input {i} of shape {t.data.shape}: at {tuple(map(int, worst))} the "
                    f"analytic gradient is {actual[worst]:.8g}, central differences give {expected[worst]:.8g}"
                )
    return True
