"""Where in the sequence a vector stands: sinusoidal, learnt and rotary positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module

__all__ = ["LearnedPositionalEncoding", "PositionalEncoding", "RotaryEmbedding"]


class _AddedPositions(Module):
    """x + table[offset : offset + T], then dropout."""

    def __init__(self, embed_dim: int, max_len: int, dropout: float, batch_first: bool) -> None:
        super().__init__()
        if embed_dim < 1 or max_len < 1:
            raise ArgumentError(f"{type(self).__name__}: embed_dim={embed_dim} and max_len={max_len} must be positive")
        self.embed_dim, self.max_len, self.dropout, self.batch_first = embed_dim, max_len, dropout, batch_first

    def table(self) -> Any:
        raise NotImplementedError

    def forward(self, input: Any, offset: int = 0) -> Any:
        """Shapes: (T, N, E), or (N, T, E) with ``batch_first``, or (T, E); `offset` positions came before (generation)."""
        shape = input.data.shape
        if len(shape) not in (2, 3) or shape[-1] != self.embed_dim:
            raise ShapeError(f"[{type(self).__name__}] input of shape {shape}; expected two or three axes, the last of "
                             f"{self.embed_dim} features")
        first = self.batch_first or len(shape) == 2
        length = shape[-2] if first else shape[0]
        if offset < 0 or offset + length > self.max_len:
            raise ShapeError(f"[{type(self).__name__}] positions {offset} to {offset + length - 1} of input {shape}, but "
                             f"max_len={self.max_len}; make the encoding longer or the input shorter")
        rows = self.table()[offset : offset + length]
        out = input + (rows if first else ops.unsqueeze(rows, 1))
        return ops.dropout(out, self.dropout, self.training)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, max_len={self.max_len}, dropout={self.dropout}"


class PositionalEncoding(_AddedPositions):
    """Sines and cosines of geometrically falling frequencies added to the input; nothing is learnt (Vaswani et al. 2017).

    PE(t, 2i) = sin(t / 10000^(2i / E)), PE(t, 2i + 1) = cos(t / 10000^(2i / E)).
    """

    def __init__(self, embed_dim: int, max_len: int = 5000, dropout: float = 0.0, batch_first: bool = False) -> None:
        super().__init__(embed_dim, max_len, dropout, batch_first)
        angles = np.arange(max_len)[:, None] * 10000.0 ** (-np.arange(0, embed_dim, 2) / embed_dim)
        values = np.empty((max_len, embed_dim), np.float32)
        values[:, 0::2] = np.sin(angles)
        values[:, 1::2] = np.cos(angles)[:, : embed_dim // 2]
        self.register_buffer("pe", wrap(values), persistent=False)

    def table(self) -> Any:
        return self.pe


class LearnedPositionalEncoding(_AddedPositions):
    """A learnt vector for each of max_len positions, added to the input; starts normal with deviation 0.02 (GPT, BERT)."""

    def __init__(self, embed_dim: int, max_len: int, dropout: float = 0.0, batch_first: bool = False) -> None:
        super().__init__(embed_dim, max_len, dropout, batch_first)
        self.weight = new_parameter(max_len, embed_dim)
        init.normal_(self.weight, std=0.02)

    def table(self) -> Any:
        return self.weight


class RotaryEmbedding(Module):
    """Turns pairs of features by an angle that grows with the position: the product of a query and a key then depends on their
    distance (Su et al. 2021, RoFormer).

    Feature i is paired with i + D/2 (as in LLaMA), or 2i with 2i + 1 when ``interleaved`` (as in the paper); pair i turns by
    t * base^(-2i / D).
    """

    def __init__(self, head_dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if head_dim < 2 or head_dim % 2:
            raise ArgumentError(f"RotaryEmbedding: head_dim={head_dim}; expected an even number of features to pair")
        self.head_dim, self.base, self.interleaved = head_dim, base, interleaved

    def forward(self, input: Any, offset: int = 0) -> Any:
        """Shapes: (..., T, D) -> the same; `offset` positions came before (those in a cache)."""
        *lead, length, features = input.data.shape
        if features != self.head_dim:
            raise ShapeError(f"[RotaryEmbedding] input of shape {input.data.shape} has {features} features in its last axis, "
                             f"expected head_dim={self.head_dim}")
        frequency = self.base ** (-np.arange(0, features, 2) / features)
        angles = (offset + np.arange(length))[:, None] * frequency
        cos, sin = (wrap(f(angles).astype(input.data.dtype)) for f in (np.cos, np.sin))
        if self.interleaved:
            pairs = ops.reshape(input, (*lead, length, features // 2, 2))
            a, b = pairs[..., 0], pairs[..., 1]
            return ops.reshape(ops.stack([a * cos - b * sin, a * sin + b * cos], -1), (*lead, length, features))
        a, b = input[..., : features // 2], input[..., features // 2 :]
        return ops.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, base={self.base}, interleaved={self.interleaved}"
