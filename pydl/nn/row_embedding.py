"""Tables of vectors of which a step touches few rows: gradient and update cost as much as those rows, not as the table."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl import _core, ops
from pydl.errors import ArgumentError, DTypeError
from pydl.graph import is_grad_enabled
from pydl.graph.engine import TensorCore, wrap
from pydl.nn.embedding import Embedding
from pydl.ops._common import empty

__all__ = ["RowEmbedding"]


def take_rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copies of rows, in pooled memory."""
    out = empty((len(rows), *table.shape[1:]), table.dtype)
    _core.take_rows(np.ascontiguousarray(table), rows, out)
    return out


class RowEmbedding(Embedding):
    """As `Embedding`, for large tables: trained by `pydl.optim.SparseAdam` alone.

    When gradients are recorded, `forward` copies the rows that the input names into a small tensor, and the gradient stays
    with that; `weight.grad` is never made, and other optimizers do not see the table (it does not require a gradient).
    PyTorch has this as ``nn.Embedding(sparse=True)``.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.weight.requires_grad = False
        self.touched: list[tuple[np.ndarray, Any]] = []  # numbers of rows, and the tensor that holds their copies
        self._older = 0  # so many of them are from before the last `forget`
        self._place = np.empty(num_embeddings, np.int64)

    def forward(self, input: Any) -> Any:
        return ops.embedding(*self._used(input))

    def bag(self, input: Any, weights: Any) -> Any:
        """The sums of rows times weights: input and weights (N, W) -> (N, embedding_dim), without making the rows."""
        index, table = self._used(input)
        return ops.embedding_bag(index, table, mode="sum", per_sample_weights=weights)

    def dots(self, vectors: Any, input: Any) -> Any:
        """The products of vectors (N, embedding_dim) with rows, input (N, K) -> (N, K); see `pydl.embedding_dots`."""
        index, table = self._used(input)
        return ops.embedding_dots(vectors, index, table)

    def _used(self, input: Any) -> tuple[Any, Any]:
        """The input's numbers and the table they are for: the copies while gradients are recorded."""
        index = input.data if isinstance(input, TensorCore) else np.asarray(input)
        if not (self.training and is_grad_enabled()):
            return wrap(index), self.weight
        self._check(index)
        rows = self._distinct(index)
        copies = wrap(take_rows(self.weight.data, rows))
        copies.requires_grad = True
        self.touched.append((rows, copies))
        return wrap(self._place[index]), copies

    def _check(self, index: np.ndarray) -> None:
        if index.dtype.kind not in "iu":
            raise DTypeError(f"[row_embedding] input must hold integers, got {index.dtype}")
        if index.size and not (index.min() >= 0 and index.max() < self.num_embeddings):
            raise ArgumentError(f"[row_embedding] indices from {index.min()} to {index.max()}, expected 0 to "
                                f"{self.num_embeddings - 1}")

    def _distinct(self, index: np.ndarray) -> np.ndarray:
        """The rows that the input names; `_place` then tells where each of them stands."""
        named = np.zeros(self.num_embeddings, bool)
        named[index.reshape(-1)] = True
        rows = np.flatnonzero(named)
        self._place[rows] = np.arange(len(rows))
        return rows

    def gradient(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(rows, their gradients) of all passes since `forget`; None if there is none."""
        parts = [(rows, copies.grad.data) for rows, copies in self.touched if copies.grad is not None]
        if len(parts) <= 1:
            return parts[0] if parts else None
        rows = self._distinct(np.concatenate([r for r, _ in parts]))
        total = np.zeros((len(rows), self.embedding_dim), self.weight.dtype)
        for own, grad in parts:  # the rows of one pass are distinct
            total[self._place[own]] += grad
        return rows, total

    def forget(self) -> None:
        """Let go of the gradients, and of the passes before the last call: those since then may yet be followed by backward,
        as in ``loss = ...; optimizer.zero_grad(); loss.backward()``."""
        del self.touched[: self._older]
        self._older = len(self.touched)
        for _, copies in self.touched:
            copies.grad = None
