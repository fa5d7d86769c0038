"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydl.errors import ShapeError
from pydl.graph.modes import no_grad
from pydl.ops import cat, reshape

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters, flattened and joined into one vector; gradients flow through."""
    return cat([reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Copy slices of a vector into the parameters, in order.

    Raises
    ------
    ShapeError
        If the vector's length is not the number of elements of all parameters.
    """
    parameters = list(parameters)
    needed = sum(p.data.size for p in parameters)
    if vec.data.shape != (needed,):
        raise ShapeError(f"vector_to_parameters: vec has shape {vec.data.shape}, the parameters have {needed} elements in all")
    start = 0
    with no_grad():
        for p in parameters:
            p.copy_(reshape(vec[start : start + p.data.size], p.data.shape))
            start += p.data.size
