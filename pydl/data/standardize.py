"""`Standardizer`: features with mean 0 and variance 1, by the statistics of the training set alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import TensorCore, wrap

__all__ = ["Standardizer"]


class Standardizer:
    """(x - mean) / std of each feature, mean and std being those of the samples that it was fitted on.

    Fit it on the training set and apply it to all sets: figures of held-out data that enter the input make their error too
    small. A feature that is constant is only shifted. Results have the dtype of what is given, arrays stay arrays and
    tensors tensors (without a gradient); integers become float32.

    Parameters
    ----------
    axis : int or tuple of int
        Axes that are averaged over: 0 for features in columns, (0, 2, 3) for the channels of images (N, C, H, W).
    """

    def __init__(self, axis: int | tuple[int, ...] = 0) -> None:
        self.axis = axis
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None

    def fit(self, x: Any) -> Standardizer:
        """Take mean and standard deviation (of the population, in float64) from the training samples."""
        x = np.asarray(x.data if isinstance(x, TensorCore) else x)
        if x.ndim == 0 or not x.size:
            raise ShapeError(f"Standardizer.fit: x of shape {x.shape}; expected at least one sample along axis 0")
        if not np.isfinite(x).all():
            raise ArgumentError(f"Standardizer.fit: {int((~np.isfinite(x)).sum())} of {x.size} numbers are NaN or infinite")
        self.mean = x.mean(self.axis, keepdims=True, dtype=np.float64)
        std = x.std(self.axis, keepdims=True, dtype=np.float64)
        # The deviation of equal numbers may be a rounding error instead of 0.
        self.std = np.where(std > 1e-12 * np.maximum(1, np.abs(self.mean)), std, 1.0)
        return self

    def __call__(self, x: Any) -> Any:
        """Standardised samples."""
        return self._apply(x, lambda a, mean, std: (a - mean) / std)

    transform = __call__

    def fit_transform(self, x: Any) -> Any:
        """`fit`, and the same samples standardised."""
        return self.fit(x)(x)

    def inverse(self, x: Any) -> Any:
        """Back to the units of the data."""
        return self._apply(x, lambda a, mean, std: a * std + mean)

    def _apply(self, x: Any, rule: Any) -> Any:
        if self.mean is None:
            raise ArgumentError("Standardizer: not fitted; call fit with the training samples first")
        array = np.asarray(x.data if isinstance(x, TensorCore) else x)
        if array.ndim != self.mean.ndim or any(m not in (1, n) for m, n in zip(self.mean.shape, array.shape, strict=True)):
            raise ShapeError(f"Standardizer: x of shape {array.shape} does not fit statistics of shape {self.mean.shape}")
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        out = rule(array.astype(np.float64), self.mean, self.std).astype(dtype)
        return wrap(out) if isinstance(x, TensorCore) else out

    def state_dict(self) -> dict[str, Any]:
        """Mean and std as arrays, to save beside a network."""
        if self.mean is None or self.std is None:
            raise ArgumentError("Standardizer: not fitted; there is nothing to save")
        return {"mean": self.mean.copy(), "std": self.std.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean, self.std = (np.asarray(state[k], np.float64).copy() for k in ("mean", "std"))
