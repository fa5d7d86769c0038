"""Counting as a baseline: n-gram language models with interpolated Kneser-Ney smoothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl.errors import ArgumentError
from pydl.graph.engine import TensorCore

__all__ = ["NGramModel"]


def _array(ids: Any) -> np.ndarray:
    return np.asarray(ids.data if isinstance(ids, TensorCore) else ids).astype(np.int64).ravel()


class NGramModel:
    """The next token from the n - 1 before it, by counting; interpolated Kneser-Ney smoothing (Chen and Goodman 1998).

    What neural language models must beat. Below the highest order, a token counts once for each different token before it. A
    discount D = n1 / (n1 + 2 n2) is taken from every count of an order (n1, n2: how many n-grams have count 1, 2) and given to
    the next lower order; the lowest is interpolated with equal probabilities.

    Parameters
    ----------
    order : int
        n; 1 is the plain frequency.
    size : int
        Tokens in the vocabulary.

    Examples
    --------
    >>> model = NGramModel(order=2, size=3).fit([0, 1, 0, 1, 0, 2])
    >>> round(float(model.probabilities([0]).sum()), 6)
    1.0
    """

    def __init__(self, order: int, size: int) -> None:
        if order < 1 or size < 1:
            raise ArgumentError(f"NGramModel: order={order} and size={size} must be positive")
        self.order, self.size = order, size
        self._counts: list[dict[Any, dict[int, int]]] = []
        self._sums: list[dict[Any, tuple[int, int]]] = []  # {context: (sum of the counts, different tokens)} for each order
        self._discounts: list[float] = []

    def fit(self, ids: Any) -> NGramModel:
        """Count a text."""
        tokens = _array(ids)
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.size):
            raise ArgumentError(f"NGramModel: tokens from {tokens.min()} to {tokens.max()}; expected 0 to {self.size - 1}")
        if len(tokens) < self.order:
            raise ArgumentError(f"NGramModel: {len(tokens)} tokens are too few for order {self.order}")
        grams, counts = self._count(tokens)
        self._counts, self._discounts = [], []
        for n in range(self.order, 0, -1):
            n1, n2 = int((counts == 1).sum()), int((counts == 2).sum())
            self._discounts.insert(0, n1 / (n1 + 2 * n2) if n1 and n2 else 0.5)
            self._counts.insert(0, self._table(grams, counts))
            if n > 1:  # a shorter n-gram counts once for each different token before it
                grams, counts = self._distinct(grams[:, 1:])
        self._sums = [{c: (sum(f.values()), len(f)) for c, f in table.items()} for table in self._counts]
        return self

    def _count(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        windows = np.lib.stride_tricks.sliding_window_view(tokens, self.order)
        return self._distinct(windows)

    def _distinct(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The different rows and how often each comes."""
        n = grams.shape[1]
        if self.size**n >= 2**62:
            return np.unique(grams, axis=0, return_counts=True)
        powers = self.size ** np.arange(n - 1, -1, -1, dtype=np.int64)  # a row as one number: sorts much faster
        codes, counts = np.unique(grams @ powers, return_counts=True)
        return codes[:, None] // powers % self.size, counts

    @staticmethod
    def _table(grams: np.ndarray, counts: np.ndarray) -> dict[Any, dict[int, int]]:
        """{context: {token: count}}."""
        table: dict[Any, dict[int, int]] = {}
        for (*context, token), count in zip(grams.tolist(), counts.tolist(), strict=True):
            table.setdefault(tuple(context), {})[token] = count
        return table

    def probability(self, context: Any, token: int) -> float:
        """Of a token after the last order - 1 tokens of `context`."""
        sums = self._sums
        if not sums:
            raise ArgumentError("NGramModel: fit it first")
        known = tuple(context)
        p = 1.0 / self.size
        for n in range(1, min(self.order, len(known) + 1) + 1):
            history = known[len(known) - n + 1 :]
            if history not in sums[n - 1]:
                break  # longer contexts are unknown as well
            total, kinds = sums[n - 1][history]
            discount = self._discounts[n - 1]
            count = self._counts[n - 1][history].get(token, 0)
            p = (max(count - discount, 0.0) + discount * kinds * p) / total
        return p

    def probabilities(self, context: Any) -> np.ndarray:
        """Of all tokens after `context`."""
        return np.array([self.probability(context, t) for t in range(self.size)])

    def negative_log_likelihood(self, ids: Any) -> float:
        """The mean over the tokens of a text, in nats; each token sees those before it."""
        tokens = _array(ids).tolist()
        if not tokens:
            raise ArgumentError("NGramModel: the text is empty")
        n = self.order - 1
        return -sum(math.log(self.probability(tokens[max(i - n, 0) : i], t)) for i, t in enumerate(tokens)) / len(tokens)
