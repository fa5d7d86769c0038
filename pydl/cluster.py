"""k-means: groups of points around their means, or of box shapes around typical boxes (anchors for detectors)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl.errors import ArgumentError, ShapeError
from pydl.graph import TensorCore
from pydl.ops.matmul import gemm

__all__ = ["KMeans", "box_iou_wh"]

_ROWS = 1 << 14  # points whose distances to all centres are in memory at a time


class KMeans:
    """Lloyd's algorithm from k-means++ starts: points move to the nearest centre, centres to the mean of their points.

    Parameters
    ----------
    n_clusters : int
    init : "k-means++", "random" or array (K, D)
        Starting centres: points drawn with probability in proportion to their cost so far, the best of 2 + log K drawn
        each time (Arthur and Vassilvitskii 2007); any points; or given ones.
    n_init : int
        Starts; the result with the least cost stays.
    max_iter : int
    tol : float
        Stop when the squared distance that the centres move, added up, is at most this share of the points' mean variance. It
        stops in any case when no point changes its cluster.
    seed : int, optional
        Default: pydl's generator (`pydl.manual_seed`).
    distance : {"euclidean", "iou"}
        Cost of a point: its squared distance to the centre; or, for boxes (width, height) with one corner in common,
        1 - intersection / union, so that large boxes count no more than small ones (Redmon and Farhadi 2017).

    Attributes
    ----------
    cluster_centers_ : array (K, D)
    labels_ : array (N,) of int64
    inertia_ : float
        Sum of all points' costs.
    n_iter_ : int
    history_ : list of float
        The cost before each step: it never grows with "euclidean".
    """

    cluster_centers_: np.ndarray
    labels_: np.ndarray
    inertia_: float
    n_iter_: int
    history_: list[float]

    def __init__(
        self, n_clusters: int = 8, init: Any = "k-means++", n_init: int = 1, max_iter: int = 300, tol: float = 1e-4,
        seed: int | None = None, distance: str = "euclidean",
    ) -> None:  # fmt: skip
        if n_clusters < 1 or n_init < 1 or max_iter < 1:
            raise ArgumentError(f"KMeans: n_clusters={n_clusters}, n_init={n_init}, max_iter={max_iter}: all must be at least 1")
        if isinstance(init, str) and init not in ("k-means++", "random"):
            raise ArgumentError(f"KMeans: init={init!r}; expected 'k-means++', 'random' or an array")
        if distance not in ("euclidean", "iou"):
            raise ArgumentError(f"KMeans: distance={distance!r}; expected 'euclidean' or 'iou'")
        self.n_clusters, self.init, self.n_init, self.max_iter, self.tol = n_clusters, init, n_init, max_iter, tol
        self.seed, self.distance = seed, distance

    def fit(self, X: Any) -> KMeans:
        """Find the centres of points (N, D)."""
        x = self._points("fit", X)
        if len(x) < self.n_clusters:
            raise ArgumentError(f"KMeans.fit: {len(x)} points for n_clusters={self.n_clusters}")
        rng = np.random.default_rng(self.seed) if self.seed is not None else _default_rng()
        # Distances come from differences of squares: near the origin they lose the fewest digits.
        middle = x.mean(0, dtype=np.float64).astype(x.dtype) if self.distance == "euclidean" else np.zeros(x.shape[1], x.dtype)
        x = x - middle
        best: tuple[Any, ...] | None = None
        for _ in range(1 if not isinstance(self.init, str) else self.n_init):
            found = self._lloyd(x, self._start(x, middle, rng))
            if best is None or found[2] < best[2]:
                best = found
        assert best is not None
        centres, self.labels_, self.inertia_, self.n_iter_, self.history_ = best
        self.cluster_centers_ = centres + middle
        return self

    def fit_predict(self, X: Any) -> np.ndarray:
        return self.fit(X).labels_

    def predict(self, X: Any) -> np.ndarray:
        """The nearest centre of each point, (N,)."""
        return self._nearest(self._points("predict", X), self._fitted("predict"))[0]

    def transform(self, X: Any) -> np.ndarray:
        """(N, K): the Euclidean distance to each centre, or 1 - intersection / union."""
        cost = self._costs(self._points("transform", X), self._fitted("transform"))
        return np.sqrt(cost) if self.distance == "euclidean" else cost

    # ----------------------------------------------------------------------- steps

    def _lloyd(self, x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, int, list[float]]:
        enough = self.tol * float(x.var(0, dtype=np.float64).mean())
        labels, costs = self._nearest(x, centres)
        history = [float(costs.sum(dtype=np.float64))]
        for _ in range(self.max_iter):
            before, centres = centres, self._means(x, labels, costs)
            old, (labels, costs) = labels, self._nearest(x, centres)
            history.append(float(costs.sum(dtype=np.float64)))
            moved = float(((centres - before).astype(np.float64) ** 2).sum())
            if np.array_equal(labels, old) or moved <= enough:
                break
        return centres, labels, history[-1], len(history) - 1, history

    def _means(self, x: np.ndarray, labels: np.ndarray, costs: np.ndarray) -> np.ndarray:
        counts = np.bincount(labels, minlength=self.n_clusters)
        sums = np.stack([np.bincount(labels, column, self.n_clusters) for column in x.T], 1)  # in float64
        if (empty := np.flatnonzero(counts == 0)).size:  # a centre without points starts again at the costliest ones
            far = np.argsort(costs)[::-1][: len(empty)]
            np.subtract.at(sums, labels[far], x[far])
            np.subtract.at(counts, labels[far], 1)
            sums[empty], counts[empty] = x[far], 1
        return (sums / np.maximum(counts, 1)[:, None]).astype(x.dtype)

    def _start(self, x: np.ndarray, middle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not isinstance(self.init, str):
            given = np.asarray(self.init, x.dtype)
            if given.shape != (self.n_clusters, x.shape[1]):
                raise ShapeError(f"[KMeans] init must be ({self.n_clusters}, {x.shape[1]}), got shape {given.shape}")
            return given - middle
        if self.init == "random":
            return x[rng.choice(len(x), self.n_clusters, replace=False)]
        centres = [x[int(rng.integers(len(x)))]]
        cost = self._costs(x, centres[0][None])[:, 0].astype(np.float64)
        tries = 2 + int(math.log(self.n_clusters))
        for _ in range(1, self.n_clusters):
            total = cost.cumsum()
            drawn = np.searchsorted(total, rng.random(tries) * total[-1]) if total[-1] > 0 else rng.integers(len(x), size=tries)
            drawn = np.minimum(drawn, len(x) - 1)
            lower = np.minimum(self._costs(x, x[drawn]), cost[:, None])
            best = int(lower.sum(0).argmin())
            centres.append(x[drawn[best]])
            cost = lower[:, best]
        return np.stack(centres)

    def _nearest(self, x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The number of the nearest centre, the first of equals, and the cost."""
        labels, costs = np.empty(len(x), np.int64), np.empty(len(x), x.dtype)
        for begin in range(0, len(x), _ROWS):
            rows = slice(begin, begin + _ROWS)
            table = self._costs(x[rows], centres)
            labels[rows] = table.argmin(1)
            costs[rows] = np.take_along_axis(table, labels[rows, None], 1)[:, 0]
        return labels, costs

    def _costs(self, x: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """(N, K)."""
        if self.distance == "iou":
            return 1 - box_iou_wh(x, centres)
        table = gemm(np.ascontiguousarray(x), np.ascontiguousarray(centres.T * x.dtype.type(-2)))
        table += (centres * centres).sum(1)
        table += (x * x).sum(1)[:, None]
        return np.maximum(table, 0, out=table)

    # ----------------------------------------------------------------------- arguments

    def _points(self, where: str, X: Any) -> np.ndarray:
        x = X.data if isinstance(X, TensorCore) else np.asarray(X)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
        if x.ndim != 2 or x.shape[1] == 0:
            raise ShapeError(f"[KMeans.{where}] X must be (N, D), got shape {x.shape}")
        if not np.isfinite(x).all():
            raise ArgumentError(f"KMeans.{where}: X has values that are NaN or infinite")
        if self.distance == "iou" and (x.shape[1] != 2 or not (x > 0).all()):
            raise ShapeError(f"[KMeans.{where}] with distance='iou', X must be positive widths and heights (N, 2), got {x.shape}")
        return x

    def _fitted(self, where: str) -> np.ndarray:
        if not hasattr(self, "cluster_centers_"):
            raise ArgumentError(f"KMeans.{where}: there are no centres yet; call fit before")
        return self.cluster_centers_


def box_iou_wh(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N, K) of boxes (N, 2) and (K, 2) given by width and height, laid upon each other at one corner."""
    overlap = np.minimum(a[:, None], b).prod(-1)
    return overlap / (a.prod(-1)[:, None] + b.prod(-1) - overlap)


def _default_rng() -> np.random.Generator:
    from pydl.random import default_generator

    return default_generator.numpy()
