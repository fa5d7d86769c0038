"""Several networks as one, by the average of their predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.modes import no_grad
from pydl.ops import softmax

__all__ = ["average_predictions"]


def average_predictions(models: Iterable[Callable[..., Any]], *inputs: Any, probabilities: bool = True) -> Any:
    """The mean of what several networks say about the same inputs, each in evaluation mode and without gradients.

    Shapes: as one network's output, (N, classes, ...).

    Parameters
    ----------
    models : iterable of Module or callable
        At least one; their modes are put back afterwards.
    inputs : tensors
        What each of them is called with.
    probabilities : bool
        Average softmax(output) over axis 1, for classifiers; False averages the outputs themselves, for regression.

    Source: Hansen and Salamon 1990, "Neural Network Ensembles".
    """
    total, count = None, 0
    with no_grad():
        for model in models:
            out = _evaluate(model, inputs)
            if probabilities:
                out = softmax(out, 1)
            if total is not None and out.shape != total.shape:
                raise ShapeError(f"average_predictions: model {count} gives shape {out.shape}, those before it {total.shape}")
            total, count = out if total is None else total + out, count + 1
        if total is None:
            raise ArgumentError("average_predictions: got no models")
        return total / count


def _evaluate(model: Any, inputs: tuple[Any, ...]) -> Any:
    if not hasattr(model, "modules"):
        return model(*inputs)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        return model(*inputs)
    finally:
        for m, mode in modes:
            object.__setattr__(m, "training", mode)
