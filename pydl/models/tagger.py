"""Recurrent network that labels every step of a sequence: parts of speech, names, and the like.

Sources: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM" (2005); Huang, Xu and Yu,
"Bidirectional LSTM-CRF Models for Sequence Tagging" (2015), arXiv:1508.01991 (here without the CRF).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.models.language import recurrent

__all__ = ["RecurrentTagger"]


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
    hidden_size, layers, cell, bidirectional
        Of the recurrent layers ("lstm", "gru" or "rnn").
    dropout : float
        Probability on the vectors, between layers and before the linear layer.
    padding_idx : int
        Entry of all tables that fills up short sequences.

    With `lengths`, the scores of a sequence do not depend on how far it is padded.
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
        self.rnn = recurrent(cell, sum(embed_dims), hidden_size, layers, dropout, bidirectional)
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
