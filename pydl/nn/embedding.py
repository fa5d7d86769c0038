"""Tables of learnt vectors."""

from __future__ import annotations

from typing import Any

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.modes import no_grad
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module, Parameter

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, max_norm: float | None, norm_type: float,
        scale_grad_by_freq: bool, sparse: bool, weight: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(f"{name}: padding_idx={padding_idx} is out of range for num_embeddings={num_embeddings}")
        if sparse:
            raise ArgumentError(f"{name}: sparse=True: sparse gradients are not available; sparse=False gives the same numbers")
        if weight is not None and tuple(weight.shape) != (num_embeddings, embedding_dim):
            raise ShapeError(f"{name}: weight of shape {tuple(weight.shape)}; expected {(num_embeddings, embedding_dim)}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        if weight is None:
            self.weight = new_parameter(num_embeddings, embedding_dim)
            self.reset_parameters()
        else:
            self.weight = Parameter(weight)

    def reset_parameters(self) -> None:
        """Standard normal; the padding row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def extra_repr(self) -> str:
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}
        changed = [f"{k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *changed])


class Embedding(_Table):
    """The vector of each integer: (...) -> (..., embedding_dim); see `pydl.embedding`."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False, _weight: Any = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight)

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
    ) -> Embedding:
        """A layer with given vectors (V, D), copied; not learnt further if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: embeddings of shape {tuple(embeddings.shape)}; expected (rows, features)")
        rows, features = embeddings.shape
        layer = cls(rows, features, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings)
        layer.weight.requires_grad = not freeze
        return layer

    def forward(self, input: Any) -> Any:
        return ops.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)


class EmbeddingBag(_Table):
    """The mean, sum or maximum of the vectors of each bag of integers: (B, n) -> (B, embedding_dim); see `pydl.embedding_bag`."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, _weight: Any = None,
        include_last_offset: bool = False, padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight)
        if mode not in ("sum", "mean", "max"):
            raise ArgumentError(f"EmbeddingBag: mode={mode!r}; expected sum, mean or max")
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """A layer with given vectors (V, D), copied; not learnt further if `freeze`."""
        if embeddings.ndim != 2:
            raise ShapeError(f"from_pretrained: embeddings of shape {tuple(embeddings.shape)}; expected (rows, features)")
        rows, features = embeddings.shape
        layer = cls(rows, features, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, include_last_offset,
                    padding_idx)
        layer.weight.requires_grad = not freeze
        return layer

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        return ops.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode,
            per_sample_weights=per_sample_weights, include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
