"""Streaming metrics: `update` with each batch, `compute` at the end of the epoch; and a function of the same name for one go.

What a classifier puts out is read by its shape, against a target of class numbers (N, ...):

- (N, C, ...): scores of C classes, the largest wins (the first of equals);
- (N, ...) or (N, 1, ...), floating: the probability of class 1, or a logit with ``threshold=0``;
- (N, ...) of integers or booleans: the predicted classes themselves.

Figures are float64 and do not depend on how the data is cut into batches, but for rounding. Before the first sample they are
NaN. Metrics take tensors or arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import TensorCore

__all__ = [
    "Accuracy", "ConfusionMatrix", "FScore", "Mean", "MeanAbsoluteError", "MeanSquaredError", "Metric", "Precision", "R2Score",
    "Recall", "TopKAccuracy", "accuracy", "confusion_matrix", "f_score", "mean_absolute_error", "mean_squared_error",
    "precision", "r2_score", "recall", "top_k_accuracy",
]  # fmt: skip

_NAN = float("nan")


class Metric:
    """Base of metrics. A metric of one's own sets its counts in `reset`, as the attributes that `counts` names."""

    counts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    def update(self, output: Any, target: Any) -> None:
        """Take a batch into account."""
        raise NotImplementedError

    def compute(self) -> Any:
        """The figure over all batches since `reset`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What has been counted so far: numbers and arrays."""
        return {name: copy.copy(getattr(self, name)) for name in self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from a state."""
        if set(state) != set(self.counts):
            raise ArgumentError(
                f"{type(self).__name__}: a state with {sorted(state)}, expected {sorted(self.counts)}; it is of another metric"
            )
        for name in self.counts:
            mine, value = getattr(self, name), state[name]
            if isinstance(mine, np.ndarray):
                value = np.array(value, mine.dtype)
                if self.fixed(name) and value.shape != mine.shape:
                    raise ShapeError(f"{type(self).__name__}: {name} of shape {value.shape}, expected {mine.shape}")
            setattr(self, name, value)

    def fixed(self, name: str) -> bool:
        """Whether the shape of a count is known before the first batch."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.compute()})"


def _array(name: str, what: str, value: Any) -> np.ndarray:
    array = value.data if isinstance(value, TensorCore) else np.asarray(value)
    if array.dtype.name in ("bfloat16", "float16"):
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"[{name}] {what} of dtype {array.dtype}; expected numbers")
    return array


def _once(metric: Metric, *batch: Any) -> Any:
    metric.update(*batch)
    return metric.compute()


# --------------------------------------------------------------------------- classification


def _classes(
    name: str, output: Any, target: Any, threshold: float, ignore_index: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """(predicted classes, true classes, number of classes as far as the output tells), both flat."""
    scores, truth = _array(name, "output", output), _array(name, "target", target)
    truth = _whole(name, truth)
    if truth.ndim and scores.ndim == truth.ndim + 1:
        if scores.shape[1] == 1:  # one logit or probability, not a choice of one
            scores = scores[:, 0]
        elif scores.shape[:1] + scores.shape[2:] == truth.shape and scores.shape[1]:
            predicted, truth = _flat(scores.argmax(1), truth, ignore_index)
            _check_range(name, truth, scores.shape[1], "target")
            return predicted, truth, scores.shape[1]
    if scores.shape != truth.shape:
        raise ShapeError(
            f"[{name}] output {scores.shape} and target {truth.shape} do not fit; expected scores (N, C, ...) or predictions "
            "(N, ...), and class numbers (N, ...) as target (of one-hot targets take .argmax(1))"
        )
    if scores.dtype.kind != "f":
        return *_flat(scores.astype(np.int64), truth, ignore_index), 0
    predicted, truth = _flat((scores > threshold).astype(np.int64), truth, ignore_index)
    if not np.isin(truth, (0, 1)).all():
        raise ArgumentError(
            f"[{name}] one score for each target means two classes, but the targets go from {truth.min()} to {truth.max()}; "
            "expected scores (N, C, ...), or predicted classes as integers"
        )
    return predicted, truth, 2


def _whole(name: str, truth: np.ndarray) -> np.ndarray:
    if truth.dtype.kind == "f":
        if not (truth == np.floor(truth)).all():
            raise DTypeError(f"[{name}] target of dtype {truth.dtype} with fractions; expected class numbers")
        return truth.astype(np.int64)
    return truth


def _flat(predicted: np.ndarray, truth: np.ndarray, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = predicted.reshape(-1), truth.astype(np.int64, copy=False).reshape(-1)
    if ignore_index is None:
        return predicted, truth
    keep = truth != ignore_index
    return predicted[keep], truth[keep]


class Accuracy(Metric):
    """The fraction of samples (or pixels) whose class is right.

    Parameters
    ----------
    threshold : float
        For outputs of one score a sample: above it is class 1. 0.5 for probabilities, 0 for logits.
    ignore_index : int, optional
        Samples with this target do not count.
    """

    counts = ("correct", "total")

    def __init__(self, threshold: float = 0.5, ignore_index: int | None = None) -> None:
        self.threshold, self.ignore_index = threshold, ignore_index
        super().__init__()

    def reset(self) -> None:
        self.correct, self.total = 0, 0

    def update(self, output: Any, target: Any) -> None:
        predicted, truth, _ = _classes("accuracy", output, target, self.threshold, self.ignore_index)
        self.correct += int((predicted == truth).sum())
        self.total += len(truth)

    def compute(self) -> float:
        return self.correct / self.total if self.total else _NAN


class TopKAccuracy(Metric):
    """The fraction of samples whose class is among the k with the highest scores; of equal scores the first count as higher.

    Shape: output (N, C, ...), target (N, ...). A NaN as the score of the right class counts as wrong.
    """

    counts = ("correct", "total")

    def __init__(self, k: int = 5, ignore_index: int | None = None) -> None:
        if k < 1:
            raise ArgumentError(f"TopKAccuracy: k={k}, expected at least 1")
        self.k, self.ignore_index = k, ignore_index
        super().__init__()

    def reset(self) -> None:
        self.correct, self.total = 0, 0

    def update(self, output: Any, target: Any) -> None:
        scores = _array("top_k_accuracy", "output", output)
        truth = _whole("top_k_accuracy", _array("top_k_accuracy", "target", target))
        if scores.ndim < 2 or scores.shape[:1] + scores.shape[2:] != truth.shape:
            raise ShapeError(
                f"[top_k_accuracy] output {scores.shape} and target {truth.shape} do not fit; expected scores (N, C, ...) and "
                "class numbers (N, ...)"
            )
        rows = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
        truth = truth.astype(np.int64, copy=False).reshape(-1)
        if self.ignore_index is not None:
            keep = truth != self.ignore_index
            rows, truth = rows[keep], truth[keep]
        _check_range("top_k_accuracy", truth, scores.shape[1], "target")
        own = rows[np.arange(len(rows)), truth][:, None]
        before = np.arange(rows.shape[1]) < truth[:, None]
        higher = (rows > own) | ((rows == own) & before) | np.isnan(rows)
        self.correct += int(((higher.sum(1) < self.k) & ~np.isnan(own[:, 0])).sum())
        self.total += len(truth)

    def compute(self) -> float:
        return self.correct / self.total if self.total else _NAN


def _check_range(name: str, classes: np.ndarray, n: int, what: str) -> None:
    if len(classes) and not 0 <= classes.min() <= classes.max() < n:
        raise ArgumentError(f"[{name}] {what} has classes from {classes.min()} to {classes.max()}; expected 0 to {n - 1}")


class ConfusionMatrix(Metric):
    """How often a sample of class i was taken for class j. Shape of the figure: (num_classes, num_classes).

    Parameters
    ----------
    normalize : "true", "pred", "all" or None
        Divide by the samples of the true class (each row adds up to 1), of the predicted class (each column), or all; what
        would be 0/0 is 0. None: counts, int64.
    """

    counts = ("matrix",)

    def __init__(
        self, num_classes: int, normalize: str | None = None, threshold: float = 0.5, ignore_index: int | None = None
    ) -> None:
        if num_classes < 2 or normalize not in (None, "true", "pred", "all"):
            raise ArgumentError(
                f"ConfusionMatrix: num_classes={num_classes}, normalize={normalize!r}; expected at least 2, and 'true', 'pred', "
                "'all' or None"
            )
        self.num_classes, self.normalize, self.threshold, self.ignore_index = num_classes, normalize, threshold, ignore_index
        super().__init__()

    def reset(self) -> None:
        self.matrix = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, output: Any, target: Any) -> None:
        n = self.num_classes
        predicted, truth, _ = _classes("confusion_matrix", output, target, self.threshold, self.ignore_index)
        _check_range("confusion_matrix", truth, n, "target")
        _check_range("confusion_matrix", predicted, n, "output")
        self.matrix += np.bincount(truth * n + predicted, minlength=n * n).reshape(n, n)

    def compute(self) -> np.ndarray:
        if self.normalize is None:
            return self.matrix.copy()
        axis: Any = {"true": 1, "pred": 0, "all": None}[self.normalize]
        sums = self.matrix.sum(axis, keepdims=True)
        return self.matrix / np.where(sums == 0, 1, sums)


class _PerClass(Metric):
    """Counts of each class: right ones, predicted ones, true ones."""

    counts = ("right", "predicted", "actual")
    name = ""

    def __init__(
        self, average: str | None = "macro", num_classes: int | None = None, threshold: float = 0.5,
        ignore_index: int | None = None, zero_division: float = 0.0,
    ) -> None:  # fmt: skip
        if average not in ("micro", "macro", "weighted", None):
            raise ArgumentError(f"{type(self).__name__}: average={average!r}; expected 'micro', 'macro', 'weighted' or None")
        self.average, self.num_classes, self.threshold = average, num_classes, threshold
        self.ignore_index, self.zero_division = ignore_index, zero_division
        super().__init__()

    def reset(self) -> None:
        self.right, self.predicted, self.actual = (np.zeros(self.num_classes or 0, np.int64) for _ in range(3))

    def fixed(self, name: str) -> bool:
        return self.num_classes is not None

    def update(self, output: Any, target: Any) -> None:
        predicted, truth, n = _classes(self.name, output, target, self.threshold, self.ignore_index)
        if self.num_classes is None:
            n = max(n, len(self.right), *(int(c.max(initial=-1)) + 1 for c in (predicted, truth)))
            self.right, self.predicted, self.actual = (
                np.concatenate([c, np.zeros(n - len(c), np.int64)]) for c in (self.right, self.predicted, self.actual)
            )
        n = len(self.right)
        _check_range(self.name, truth, n, "target")
        _check_range(self.name, predicted, n, "output")
        self.right += np.bincount(truth[predicted == truth], minlength=n)
        self.predicted += np.bincount(predicted, minlength=n)
        self.actual += np.bincount(truth, minlength=n)

    def ratio(self, right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def compute(self) -> Any:
        if not self.actual.sum():
            return _NAN if self.average else np.full(len(self.actual), _NAN)
        right, predicted, actual = self.right, self.predicted, self.actual
        if self.average == "micro":
            return float(self.ratio(right.sum(), predicted.sum(), actual.sum()))
        each = self.ratio(right, predicted, actual)
        if self.average is None:
            return each
        if self.average == "weighted":
            return float((each * actual).sum() / actual.sum())
        return float(each[(predicted + actual) > 0].mean())

    def divide(self, a: Any, b: Any) -> Any:
        return np.where(b == 0, self.zero_division, a / np.where(b == 0, 1, b))


_PER_CLASS = """

    Parameters
    ----------
    average : "macro", "micro", "weighted" or None
        The mean over the classes that occur (as targets or as predictions); one figure from the counts of all classes
        together; the mean weighted by the classes' true samples; or None for one figure a class.
    num_classes : int, optional
        Default: as many as the scores or the largest class number tell.
    threshold, ignore_index
        As of `Accuracy`.
    zero_division : float
        The figure of a class where it would be 0/0.
    """


class Precision(_PerClass):
    __doc__ = "Of the samples taken for a class, the fraction that is of it: right / predicted." + _PER_CLASS
    name = "precision"

    def ratio(self, right: Any, predicted: Any, actual: Any) -> Any:
        return self.divide(right, predicted)


class Recall(_PerClass):
    __doc__ = "Of the samples of a class, the fraction that is found: right / actual." + _PER_CLASS
    name = "recall"

    def ratio(self, right: Any, predicted: Any, actual: Any) -> Any:
        return self.divide(right, actual)


class FScore(_PerClass):
    __doc__ = (
        "The harmonic mean of precision and recall, recall `beta` times as important:\n"
        "    (1 + beta^2) right / (beta^2 actual + predicted)." + _PER_CLASS
    )
    name = "f_score"

    def __init__(
        self, beta: float = 1.0, average: str | None = "macro", num_classes: int | None = None, threshold: float = 0.5,
        ignore_index: int | None = None, zero_division: float = 0.0,
    ) -> None:  # fmt: skip
        if not beta > 0:
            raise ArgumentError(f"FScore: beta={beta}, expected a positive number")
        self.beta = beta
        super().__init__(average, num_classes, threshold, ignore_index, zero_division)

    def ratio(self, right: Any, predicted: Any, actual: Any) -> Any:
        b = self.beta**2
        return self.divide((1 + b) * right, b * actual + predicted)


# --------------------------------------------------------------------------- regression


def _pair(name: str, output: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = _array(name, "output", output), _array(name, "target", target)
    if a.shape != b.shape:
        raise ShapeError(
            f"[{name}] output {a.shape} and target {b.shape} must have one shape; squeeze or unsqueeze an axis of one"
        )
    return a.astype(np.float64), b.astype(np.float64)


class MeanSquaredError(Metric):
    """The mean of (output - target)^2 over all elements; with ``squared=False`` its root."""

    counts = ("total", "count")

    def __init__(self, squared: bool = True) -> None:
        self.squared = squared
        super().__init__()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        a, b = _pair("mean_squared_error", output, target)
        self.total += float(np.square(a - b).sum())
        self.count += a.size

    def compute(self) -> float:
        mean = self.total / self.count if self.count else _NAN
        return mean if self.squared else float(mean**0.5)


class MeanAbsoluteError(Metric):
    """The mean of |output - target| over all elements."""

    counts = ("total", "count")

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        a, b = _pair("mean_absolute_error", output, target)
        self.total += float(np.abs(a - b).sum())
        self.count += a.size

    def compute(self) -> float:
        return self.total / self.count if self.count else _NAN


class R2Score(Metric):
    """The part of the targets' variance that is explained: 1 - sum (target - output)^2 / sum (target - mean)^2.

    Shape: (N,) or (N, D), each column a quantity of its own. The variance is kept by the means of Chan, Golub and LeVeque
    (1979), not as a difference of two large sums. A quantity that never changes scores 1 if it is met exactly, else 0;
    fewer than two samples give NaN.

    Parameters
    ----------
    multioutput : "uniform_average", "variance_weighted" or "raw_values"
        Mean over the columns, mean weighted by their variances, or a figure a column.
    """

    counts = ("count", "mean", "variation", "residual")

    def __init__(self, multioutput: str = "uniform_average") -> None:
        if multioutput not in ("uniform_average", "variance_weighted", "raw_values"):
            raise ArgumentError(
                f"R2Score: multioutput={multioutput!r}; expected 'uniform_average', 'variance_weighted' or 'raw_values'"
            )
        self.multioutput = multioutput
        super().__init__()

    def reset(self) -> None:
        self.count = 0
        self.mean, self.variation, self.residual = np.zeros(0), np.zeros(0), np.zeros(0)

    def fixed(self, name: str) -> bool:
        return False

    def update(self, output: Any, target: Any) -> None:
        a, b = _pair("r2_score", output, target)
        if a.ndim not in (1, 2):
            raise ShapeError(f"[r2_score] output of shape {a.shape}; expected (N,) or (N, D)")
        a, b = a.reshape(len(a), -1) if a.size else a.reshape(0, 1), b.reshape(len(b), -1) if b.size else b.reshape(0, 1)
        if not len(b):
            return
        if not self.count:
            self.mean, self.variation, self.residual = (np.zeros(a.shape[1]) for _ in range(3))
        if a.shape[1] != len(self.mean):
            raise ShapeError(f"[r2_score] {a.shape[1]} columns after batches with {len(self.mean)}")
        mean, n = b.mean(0), len(b)
        step, total = mean - self.mean, self.count + n
        self.variation += np.square(b - mean).sum(0) + np.square(step) * self.count * n / total
        self.mean += step * n / total
        self.residual += np.square(b - a).sum(0)
        self.count = total

    def compute(self) -> Any:
        if self.count < 2:
            return _NAN
        constant = self.variation == 0
        each = 1 - self.residual / np.where(constant, 1, self.variation)
        each = np.where(constant, (self.residual == 0).astype(np.float64), each)
        if self.multioutput == "raw_values":
            return each
        if self.multioutput == "variance_weighted" and self.variation.any():
            return float(np.average(each, weights=self.variation))
        return float(each.mean())


class Mean(Metric):
    """The mean of numbers, weighted: ``update(loss, batch_size)``. An array counts with each element."""

    counts = ("total", "weight")

    def reset(self) -> None:
        self.total, self.weight = 0.0, 0.0

    def update(self, output: Any, target: Any = 1.0) -> None:
        """Take values (the first argument) with weights (the second, broadcast to the values) into account."""
        values = _array("mean", "value", output).astype(np.float64)
        weights = np.broadcast_to(_array("mean", "weight", target), values.shape)
        self.total += float((values * weights).sum())
        self.weight += float(weights.sum())

    def compute(self) -> float:
        return self.total / self.weight if self.weight else _NAN


# --------------------------------------------------------------------------- in one go


def accuracy(output: Any, target: Any, threshold: float = 0.5, ignore_index: int | None = None) -> float:
    """See `Accuracy`."""
    return float(_once(Accuracy(threshold, ignore_index), output, target))


def top_k_accuracy(output: Any, target: Any, k: int = 5, ignore_index: int | None = None) -> float:
    """See `TopKAccuracy`."""
    return float(_once(TopKAccuracy(k, ignore_index), output, target))


def confusion_matrix(
    output: Any, target: Any, num_classes: int, normalize: str | None = None, threshold: float = 0.5,
    ignore_index: int | None = None,
) -> np.ndarray:  # fmt: skip
    """See `ConfusionMatrix`."""
    return np.asarray(_once(ConfusionMatrix(num_classes, normalize, threshold, ignore_index), output, target))


def precision(output: Any, target: Any, average: str | None = "macro", **options: Any) -> Any:
    """See `Precision`, which takes the same options."""
    return _once(Precision(average, **options), output, target)


def recall(output: Any, target: Any, average: str | None = "macro", **options: Any) -> Any:
    """See `Recall`, which takes the same options."""
    return _once(Recall(average, **options), output, target)


def f_score(output: Any, target: Any, beta: float = 1.0, average: str | None = "macro", **options: Any) -> Any:
    """See `FScore`, which takes the same options."""
    return _once(FScore(beta, average, **options), output, target)


def mean_squared_error(output: Any, target: Any, squared: bool = True) -> float:
    """See `MeanSquaredError`."""
    return float(_once(MeanSquaredError(squared), output, target))


def mean_absolute_error(output: Any, target: Any) -> float:
    """See `MeanAbsoluteError`."""
    return float(_once(MeanAbsoluteError(), output, target))


def r2_score(output: Any, target: Any, multioutput: str = "uniform_average") -> Any:
    """See `R2Score`."""
    return _once(R2Score(multioutput), output, target)
