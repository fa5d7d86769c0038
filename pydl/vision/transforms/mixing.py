"""Mixtures of the images of a batch, with labels in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl.data.collate import default_collate
from pydl.data.context import sample_generator
from pydl.errors import ArgumentError, ShapeError
from pydl.graph import TensorCore, wrap

__all__ = ["CutMix", "MixUp"]


class _Mixing:
    """Called with a batch (images, labels), or as the `collate_fn` of a `DataLoader` with its samples."""

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not alpha > 0:
            raise ArgumentError(f"[{type(self).__name__}] alpha={alpha}: expected a positive number")
        self.alpha, self.num_classes = float(alpha), num_classes

    def collate(self, samples: Sequence[Any]) -> tuple[Any, Any]:
        """Join samples (image, label), then mix: ``DataLoader(..., collate_fn=MixUp(num_classes=10).collate)``."""
        return self(*default_collate(samples))

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Images (N, ...) and labels (N,) of whole numbers, or (N, K) of shares, to images and labels (N, K) as float32."""
        x, y = (v.data if isinstance(v, TensorCore) else np.asarray(v) for v in (images, labels))
        if len(x) != len(y):
            raise ShapeError(f"[{type(self).__name__}] {len(x)} images and {len(y)} labels")
        rng = sample_generator()
        partner = np.roll(np.arange(len(x)), 1)
        x, share = self.mix(x, partner, float(rng.beta(self.alpha, self.alpha)), rng)
        shares = self._shares(y)
        y = np.float32(share) * shares + np.float32(1 - share) * shares[partner]
        return tuple(wrap(v) if isinstance(given, TensorCore) else v for v, given in ((x, images), (y, labels)))  # type: ignore[return-value]

    def _shares(self, labels: np.ndarray) -> np.ndarray:
        if labels.ndim == 2:
            return labels.astype(np.float32)
        if self.num_classes is None:
            raise ArgumentError(f"[{type(self).__name__}] num_classes is needed to mix labels that are class numbers")
        numbers = labels.ndim == 1 and labels.dtype.kind in "iu"
        if not numbers or (len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes):
            raise ArgumentError(
                f"[{type(self).__name__}] labels of shape {labels.shape}, {labels.dtype}; expected (N,) whole numbers from 0 to "
                f"{self.num_classes - 1}"
            )
        return np.eye(self.num_classes, dtype=np.float32)[labels]

    def mix(self, x: np.ndarray, partner: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        raise NotImplementedError


class MixUp(_Mixing):
    """Each image becomes s times itself plus (1 - s) times another of the batch, s ~ Beta(alpha, alpha) (Zhang et al. 2018).

    Parameters
    ----------
    alpha : float
        1 draws s evenly; small values mix little.
    num_classes : int, optional
        For labels that are class numbers.
    """

    def mix(self, x: np.ndarray, partner: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        if x.dtype.kind != "f":
            x = x.astype(np.float32) * np.float32(1 / 255)
        return x * x.dtype.type(share) + x[partner] * x.dtype.type(1 - share), share


class CutMix(_Mixing):
    """A rectangle of each image (N, C, H, W) comes from another of the batch; labels in proportion of area (Yun et al. 2019)."""

    def mix(self, x: np.ndarray, partner: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        if x.ndim != 4:
            raise ShapeError(f"[CutMix] images must be (N, C, H, W), got shape {x.shape}")
        h, w = x.shape[-2:]
        cy, cx = int(rng.integers(h)), int(rng.integers(w))
        half = 0.5 * np.sqrt(1 - share)
        top, bottom = max(int(cy - half * h), 0), min(int(cy + half * h), h)
        left, right = max(int(cx - half * w), 0), min(int(cx + half * w), w)
        x = x.copy()
        x[..., top:bottom, left:right] = x[partner, :, top:bottom, left:right]
        return x, 1 - (bottom - top) * (right - left) / (h * w)
