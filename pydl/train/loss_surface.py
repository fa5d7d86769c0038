"""The loss around a trained network, on a plane through its weights (Li et al. 2018, "Visualizing the Loss Landscape")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.modes import no_grad

__all__ = ["filter_normalised_directions", "loss_surface"]

Direction = list[np.ndarray]


def filter_normalised_directions(model: Any, count: int = 2, seed: int = 0) -> list[Direction]:
    """Random directions in the space of a network's weights, each filter as long as the filter of the network.

    d[j] <- d[j] / |d[j]| * |w[j]| for each filter j (a row of a weight; its first axis), so that a step of 1 changes all
    filters by their own size, whatever the scale of the weights, to which a network with batch norm is indifferent.
    Biases and the parameters of norms (one axis) stay as they are: their directions are 0.

    Returns
    -------
    list of directions
        A direction is a list of arrays in the order of ``model.parameters()``.

    Source: Li et al. 2018, section 4.
    """
    rng = np.random.default_rng(seed)
    return [[_direction(p.data, rng) for p in model.parameters()] for _ in range(count)]


def _direction(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if weight.ndim < 2:
        return np.zeros_like(weight)
    d = rng.standard_normal(weight.shape)
    axes = tuple(range(1, weight.ndim))
    lengths = np.sqrt((np.asarray(weight, np.float64) ** 2).sum(axes, keepdims=True))
    return (d * lengths / (np.sqrt((d**2).sum(axes, keepdims=True)) + 1e-10)).astype(weight.dtype)


def loss_surface(
    model: Any, loss: Callable[[], Any], directions: Sequence[Direction], a: Sequence[float], b: Sequence[float] = (0.0,)
) -> np.ndarray:
    """The loss at w + a[i] * directions[0] + b[j] * directions[1], as an array (len(a), len(b)).

    Parameters
    ----------
    model : Module
        Its weights are moved, and are what they were, bit for bit, when the function returns.
    loss : callable
        Computes the loss of the model as it is, a number or a one-element tensor; called without a tape. Set the mode
        (``model.eval()``) before.
    directions : one or two directions
        See `filter_normalised_directions`; with one, `b` is (0,).

    Notes
    -----
    A network in training mode would change its running statistics at each point.
    """
    if len(directions) not in (1, 2):
        raise ArgumentError(f"loss_surface: {len(directions)} directions; expected one or two")
    if len(directions) == 1 and tuple(b) != (0.0,):
        raise ArgumentError("loss_surface: b needs a second direction")
    first, second = directions[0], directions[-1]
    out = np.empty((len(a), len(b)))
    with _weights(model, [first, second]) as (parameters, weights), no_grad():
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                for p, w, d, e in zip(parameters, weights, first, second, strict=True):
                    np.copyto(p.data, w + np.asarray(x, w.dtype) * d + np.asarray(y, w.dtype) * e)
                    p.bump_version()
                value = loss()
                out[i, j] = float(value.item()) if hasattr(value, "item") else float(value)
    return out


@contextmanager
def _weights(model: Any, directions: list[Direction]) -> Iterator[tuple[list[Any], list[np.ndarray]]]:
    """The parameters and copies of their values, which are put back at the end."""
    parameters = list(model.parameters())
    shapes = [p.data.shape for p in parameters]
    for direction in directions:
        if [d.shape for d in direction] != shapes:
            raise ShapeError("loss_surface: a direction has other shapes than the parameters of the model")
    weights = [p.data.copy() for p in parameters]
    try:
        yield parameters, weights
    finally:
        for p, w in zip(parameters, weights, strict=True):
            np.copyto(p.data, w)
            p.bump_version()
