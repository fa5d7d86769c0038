"""What is wrong with a model: learning and validation curves, choice over a grid, bias and variance, gradients by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl.data.dataset import Subset
from pydl.data.loader import DataLoader
from pydl.errors import ArgumentError
from pydl.graph.modes import no_grad

__all__ = [
    "CurvePoint", "Reading", "Trial", "error_rate", "gradient_norms", "grid_search", "learning_curve", "read_errors",
    "trials_table", "validation_curve",
]

Score = Callable[[Any, Any], float]


class CurvePoint(NamedTuple):
    """Errors at one size of the training set, or at one value of a hyper-parameter."""

    value: Any
    train: float
    dev: float


class Trial(NamedTuple):
    """One choice of all hyper-parameters, and its errors."""

    options: dict[str, Any]
    train: float
    dev: float


class Reading(NamedTuple):
    """Where the error comes from."""

    bias: float  # error on the training set above that of humans
    variance: float  # error on the development set above that on the training set
    dev_overfit: float | None  # error on the test set above that on the development set
    verdict: str
    advice: str


def error_rate(model: Any, dataset: Any, batch_size: int = 1000) -> float:
    """Share of samples (input, class) that a classifier gets wrong, in evaluation mode; its mode is put back."""
    if not len(dataset):
        raise ArgumentError("error_rate: the data set is empty")
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            wrong = sum(int((model(x).data.argmax(1) != np.asarray(y.data)).sum()) for x, y in DataLoader(dataset, batch_size))
    finally:
        for m, mode in modes:
            object.__setattr__(m, "training", mode)
    return wrong / len(dataset)


def learning_curve(
    fit: Callable[[Any], Any], train: Any, dev: Any, sizes: Sequence[int], score: Score = error_rate, seed: int = 0
) -> list[CurvePoint]:
    """Errors of models that learnt from more and more of the training set; each part contains those before it.

    Parameters
    ----------
    fit : callable
        From a data set to a trained model.
    train, dev : Dataset
    sizes : sequence of int
    score : callable
        ``score(model, dataset)``, an error.
    seed : int
        Of the order in which samples are taken.

    Returns
    -------
    list of CurvePoint
        ``train`` is the error on the samples that the model learnt from.
    """
    bad = [n for n in sizes if not 1 <= n <= len(train)]
    if bad:
        raise ArgumentError(f"learning_curve: size {bad[0]} of a training set of {len(train)} samples")
    order = np.random.default_rng(seed).permutation(len(train))
    points = []
    for n in sizes:
        part = Subset(train, order[:n])
        model = fit(part)
        points.append(CurvePoint(n, float(score(model, part)), float(score(model, dev))))
    return points


def validation_curve(
    fit: Callable[[Any, Any], Any], values: Sequence[Any], train: Any, dev: Any, score: Score = error_rate
) -> list[CurvePoint]:
    """Errors by the value of one hyper-parameter: ``fit(train, value)`` gives the trained model."""
    points = []
    for value in values:
        model = fit(train, value)
        points.append(CurvePoint(value, float(score(model, train)), float(score(model, dev))))
    return points


def grid_search(
    fit: Callable[..., Any], grid: Mapping[str, Sequence[Any]], train: Any, dev: Any, score: Score = error_rate
) -> list[Trial]:
    """Every combination of the options: ``fit(train, **options)`` gives the trained model. Least error on `dev` first.

    The best error on `dev` was chosen among many and is too small: report the chosen model's error on a test set.
    """
    empty = [name for name, values in grid.items() if not len(values)]
    if not grid or empty:
        raise ArgumentError(f"grid_search: no values for {empty[0]!r}" if empty else "grid_search: the grid is empty")
    trials = []
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        model = fit(train, **options)
        trials.append(Trial(options, float(score(model, train)), float(score(model, dev))))
    return sorted(trials, key=lambda t: math.inf if math.isnan(t.dev) else t.dev)


def trials_table(trials: Sequence[Trial], digits: int = 4) -> str:
    """The trials as a table in Markdown, in their order."""
    if not trials:
        raise ArgumentError("trials_table: got no trials")
    head = [*trials[0].options, "train error", "dev error"]
    rows = [[*map(str, t.options.values()), f"{t.train:.{digits}f}", f"{t.dev:.{digits}f}"] for t in trials]
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def read_errors(train: float, dev: float, human: float = 0.0, test: float | None = None, tolerance: float = 0.01) -> Reading:
    """What errors on the training, development and test sets say beside the error of humans.

    Avoidable bias = train - human, variance = dev - train. The larger one is the one to work on; where both are within the
    tolerance the model is as good as it need be.

    Parameters
    ----------
    train, dev, test : float
        Errors, all in the same unit.
    human : float
        The least error that can be had, for which that of humans stands in.
    tolerance : float
        Differences up to this do not matter.

    Source: Ng, "Machine Learning Yearning" (2018), chapters 20 to 27.
    """
    bias, variance = train - human, dev - train
    overfit = None if test is None else test - dev
    large_bias, large_variance = bias > tolerance, variance > tolerance
    if large_bias and large_variance:
        verdict = f"bias and variance, {'bias' if bias >= variance else 'variance'} most"
    else:
        verdict = "bias" if large_bias else "variance" if large_variance else "neither bias nor variance"
    cures = []
    if large_bias:
        cures.append((-bias, "a larger network, longer training, a better optimizer or architecture"))
    if large_variance:
        cures.append((-variance, "more data, augmentation, regularisation (L2, dropout, early stopping), a smaller network"))
    advice = [cure for _, cure in sorted(cures)]  # the larger part first
    if overfit is not None and overfit > tolerance:
        advice.append("a larger development set: the choice was fitted to this one")
    return Reading(bias, variance, overfit, verdict, "; then ".join(advice) or "done, or a harder goal")


def gradient_norms(model: Any, per_weight: bool = False) -> dict[str, float]:
    """|gradient| of each weight of two or more axes after a backward pass, in the order of the network.

    Vanishing and exploding show as a line that falls or rises by the same factor from layer to layer.

    Parameters
    ----------
    per_weight : bool
        The root of the mean of squares instead of the norm, which grows with the size of a layer.
    """
    norms = {}
    for name, p in model.named_parameters():
        if p.data.ndim < 2:
            continue
        if p.grad is None:
            raise ArgumentError(f"gradient_norms: {name} has no gradient; call backward on a loss first")
        g = np.asarray(p.grad.data, np.float64)
        norms[name] = float(np.sqrt((g**2).mean() if per_weight else (g**2).sum()))
    if not norms:
        raise ArgumentError("gradient_norms: the model has no weights of two or more axes")
    return norms
