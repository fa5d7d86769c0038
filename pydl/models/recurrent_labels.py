"""Recurrent networks that label: one class for a sequence, or one for each of its steps.

Sources: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM" (2005); Huang, Xu and Yu,
"Bidirectional LSTM-CRF Models for Sequence Tagging" (2015), arXiv:1508.01991 (here without the CRF).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.ops.rnn import as_lengths

__all__ = ["RecurrentClassifier", "RecurrentTagger"]

_CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def _recurrent(
    name: str, cell: str, inputs: int, hidden_size: int, layers: int, bidirectional: bool, dropout: float
) -> nn.Module:
    if cell not in _CELLS:
        raise ArgumentError(f"{name}: cell={cell!r}; expected one of {', '.join(_CELLS)}")
    return _CELLS[cell](inputs, hidden_size, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0,
                        bidirectional=bidirectional)


class RecurrentClassifier(nn.Module):
    """One class for a sequence of any length.

    Shapes: input (N, T) integers with `vocab_size`, or (N, T, features) with `features`; lengths (N) -> (N, num_classes).

    Parameters
    ----------
    vocab_size, features : int
        One of them: the input is tokens, or vectors.
    num_classes : int
    embed_dim, hidden_size, layers : int
        Of the tokens' vectors; of the states; recurrent layers.
    cell : "lstm", "gru" or "rnn"
    bidirectional : bool
        A second network reads the sequence from its end.
    pool : "last", "mean" or "max"
        What of the sequence is classified: the last state of each direction, or the mean or maximum of the outputs over time.
    dropout : float
        Probability on the tokens' vectors, between layers and before the linear layer.
    padding_idx : int
        Token that fills up short sequences.

    With `lengths`, a sequence's result does not depend on how far it is padded.
    """

    def __init__(
        self, num_classes: int, vocab_size: int | None = None, features: int | None = None, embed_dim: int = 100,
        hidden_size: int = 128, layers: int = 1, cell: str = "lstm", bidirectional: bool = False, pool: str = "last",
        dropout: float = 0.5, padding_idx: int = 0,
    ) -> None:
        super().__init__()
        if (vocab_size is None) == (features is None):
            raise ArgumentError("RecurrentClassifier: give vocab_size (the input is tokens) or features (it is vectors)")
        if pool not in ("last", "mean", "max"):
            raise ArgumentError(f"RecurrentClassifier: pool={pool!r}; expected 'last', 'mean' or 'max'")
        self.embedding = None if vocab_size is None else nn.Embedding(vocab_size, embed_dim, padding_idx=padding_idx)
        self.rnn = _recurrent("RecurrentClassifier", cell, features or embed_dim, hidden_size, layers, bidirectional, dropout)
        self.pool, self.directions = pool, 2 if bidirectional else 1
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_size * self.directions, num_classes)

    def forward(self, input: Any, lengths: Any = None) -> Any:
        x = pydl.as_tensor(input)
        if x.ndim != (3 if self.embedding is None else 2):
            expected = "(N, T, features)" if self.embedding is None else "(N, T)"
            raise ShapeError(f"[recurrent_classifier] input of shape {x.shape}, expected {expected}")
        if self.embedding is not None:
            x = self.dropout(self.embedding(x))
        outputs, state = self.rnn(x, lengths=lengths)
        return self.fc(self.dropout(self._pool(outputs, state, lengths)))

    def _pool(self, outputs: Any, state: Any, lengths: Any) -> Any:
        if self.pool == "last":
            h = state[0] if isinstance(state, tuple) else state  # (layers * directions, N, H)
            return h[-1] if self.directions == 1 else pydl.cat([h[-2], h[-1]], 1)
        batch, steps = outputs.shape[:2]
        used = np.full(batch, steps) if lengths is None else as_lengths("recurrent_classifier", lengths, batch, steps)
        if self.pool == "mean":  # outputs beyond the lengths are zero
            return outputs.sum(1) / pydl.from_numpy(used[:, None].astype(outputs.data.dtype))
        outside = np.arange(steps) >= used[:, None]
        if outside.any():
            outputs = pydl.masked_fill(outputs, pydl.from_numpy(outside[:, :, None]), float("-inf"))
        return outputs.amax(1)


class RecurrentTagger(nn.Module):
    """One class for each step of a sequence, in the light of all the others.

    Shapes: tokens (N, T), or (N, T, F) for F tables, lengths (N) -> (N, num_tags, T), as `cross_entropy` takes it.

    Parameters
    ----------
    vocab_sizes : sequence of int
        Entries of each table: the words themselves, their endings, their shapes, and so on. The vectors stand side by side.
    num_tags : int
    embed_dims : sequence of int
        Of each table's vectors.
    hidden_size, layers, cell, bidirectional, dropout, padding_idx
        As of `RecurrentClassifier`.
    """

    def __init__(
        self, vocab_sizes: Sequence[int], num_tags: int, embed_dims: Sequence[int] = (100,), hidden_size: int = 128,
        layers: int = 1, cell: str = "lstm", bidirectional: bool = True, dropout: float = 0.5, padding_idx: int = 0,
    ) -> None:
        super().__init__()
        if not vocab_sizes or len(vocab_sizes) != len(embed_dims):
            raise ArgumentError(f"RecurrentTagger: vocab_sizes={tuple(vocab_sizes)} and embed_dims={tuple(embed_dims)}; expected "
                                "as many of each, at least one")
        self.embeddings = nn.ModuleList(
            nn.Embedding(n, d, padding_idx=padding_idx) for n, d in zip(vocab_sizes, embed_dims, strict=True)
        )
        self.rnn = _recurrent("RecurrentTagger", cell, sum(embed_dims), hidden_size, layers, bidirectional, dropout)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_size * (2 if bidirectional else 1), num_tags)

    def forward(self, tokens: Any, lengths: Any = None) -> Any:
        tokens, tables = pydl.as_tensor(tokens), len(self.embeddings)
        if tokens.ndim == 2 and tables == 1:
            tokens = pydl.unsqueeze(tokens, 2)
        if tokens.ndim != 3 or tokens.shape[2] != tables:
            raise ShapeError(f"[recurrent_tagger] tokens of shape {tokens.shape}, expected (N, T, {tables}): one number for each "
                             "table" + (", or (N, T)" if tables == 1 else ""))
        parts = [table(tokens[:, :, i]) for i, table in enumerate(self.embeddings)]
        x = self.dropout(parts[0] if tables == 1 else pydl.cat(parts, 2))
        outputs, _ = self.rnn(x, lengths=lengths)
        return pydl.transpose(self.fc(self.dropout(outputs)), 1, 2)
