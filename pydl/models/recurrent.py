"""The shapes that a recurrent network can have (Karpathy 2015): a vector from a sequence, a sequence from a vector, an output for
each step. The fourth, encoder and decoder, is `Seq2Seq`."""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.generation import select_rows
from pydl.models.language import recurrent

__all__ = ["SequenceToSequence", "SequenceToVector", "VectorToSequence"]


class _Reader(nn.Module):
    """Tokens through an embedding, or vectors as they are, into recurrent layers."""

    def __init__(
        self, input_size: int | None, vocabulary_size: int | None, embed_dim: int, hidden_size: int, num_layers: int, cell: str,
        bidirectional: bool, dropout: float, padding_idx: int | None,
    ) -> None:
        super().__init__()
        if (input_size is None) == (vocabulary_size is None):
            raise ArgumentError(f"{type(self).__name__}: give input_size (vectors) or vocabulary_size (tokens), one of the two")
        self.embedding = nn.Embedding(vocabulary_size, embed_dim, padding_idx) if vocabulary_size is not None else None
        self.rnn = recurrent(cell, input_size or embed_dim, hidden_size, num_layers, dropout, bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.features = hidden_size * (2 if bidirectional else 1)

    def read(self, input: Any, lengths: Any) -> tuple[Any, Any]:
        """The outputs of the last layer (B, T, D H), zero behind the lengths, and its last h, both directions side by side."""
        x = input if self.embedding is None else self.dropout(self.embedding(input))
        outputs, state = self.rnn(x, lengths=lengths)
        h = state[0] if isinstance(state, tuple) else state  # (layers * directions, B, H)
        last = pydl.cat([h[-2], h[-1]], -1) if self.rnn.bidirectional else h[-1]
        return outputs, last


class SequenceToVector(_Reader):
    """One output for a whole sequence: classification, regression.

    Shapes: tokens (B, T) or vectors (B, T, input_size), lengths (B,) or None -> (B, outputs).

    Parameters
    ----------
    outputs : int
        Scores or numbers to put out.
    input_size : int, optional
        Features of a step of vectors.
    vocabulary_size, embed_dim : int
        For tokens instead.
    hidden_size, num_layers, cell, bidirectional, dropout
        Of the recurrent layers ("rnn", "lstm" or "gru"); dropout also of embeddings and before the output.
    pool : "last", "mean" or "max"
        What represents the sequence: the last state (both ways: the two ends), or the mean or maximum of the outputs over its
        steps.
    padding_idx : int, optional
        The token that pads; its vector stays zero.
    """

    def __init__(
        self, outputs: int, input_size: int | None = None, vocabulary_size: int | None = None, embed_dim: int = 64,
        hidden_size: int = 128, num_layers: int = 1, cell: str = "lstm", bidirectional: bool = False, dropout: float = 0.0,
        pool: str = "last", padding_idx: int | None = None,
    ) -> None:
        super().__init__(input_size, vocabulary_size, embed_dim, hidden_size, num_layers, cell, bidirectional, dropout,
                         padding_idx)
        if pool not in ("last", "mean", "max"):
            raise ArgumentError(f"SequenceToVector: pool={pool!r}; expected 'last', 'mean' or 'max'")
        self.pool = pool
        self.output = nn.Linear(self.features, outputs)

    def forward(self, input: Any, lengths: Any = None) -> Any:
        steps, last = self.read(input, lengths)
        if self.pool == "mean":
            last = steps.mean(1) if lengths is None else steps.sum(1) / lengths.to(steps.dtype).unsqueeze(1)
        elif self.pool == "max":
            if lengths is not None:
                behind = np.arange(steps.shape[1]) >= lengths.numpy()[:, None]  # (B, T)
                steps = pydl.masked_fill(steps, pydl.from_numpy(behind[:, :, None]), -np.inf)
            last = steps.amax(1)
        return self.output(self.dropout(last))


class SequenceToSequence(_Reader):
    """One output for every step: tagging, labels for frames, the next value.

    Shapes: tokens (B, T) or vectors (B, T, input_size), lengths (B,) or None -> (B, T, outputs). Parameters as of
    `SequenceToVector`.
    """

    def __init__(
        self, outputs: int, input_size: int | None = None, vocabulary_size: int | None = None, embed_dim: int = 64,
        hidden_size: int = 128, num_layers: int = 1, cell: str = "lstm", bidirectional: bool = False, dropout: float = 0.0,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(input_size, vocabulary_size, embed_dim, hidden_size, num_layers, cell, bidirectional, dropout,
                         padding_idx)
        self.output = nn.Linear(self.features, outputs)

    def forward(self, input: Any, lengths: Any = None) -> Any:
        return self.output(self.dropout(self.read(input, lengths)[0]))


class VectorToSequence(nn.Module):
    """A sequence of tokens from one vector: a caption from an image's features, a name from a class.

    The vector becomes the first hidden state. Shapes: vector (B, input_size), tokens (B, T) that begin with <sos> -> scores
    (B, T, V). To generate: ``generate(model, [[sos]] * B, max_length, eos=eos, state=model.start(vector))``.

    Parameters
    ----------
    input_size : int
        Features of the vector.
    vocabulary_size, embed_dim, hidden_size, num_layers, cell, dropout
        As of `RNNLanguageModel`.
    """

    def __init__(
        self, input_size: int, vocabulary_size: int, embed_dim: int = 64, hidden_size: int = 128, num_layers: int = 1,
        cell: str = "lstm", dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size
        self.first = nn.Linear(input_size, num_layers * hidden_size)
        self.embedding = nn.Embedding(vocabulary_size, embed_dim)
        self.rnn = recurrent(cell, embed_dim, hidden_size, num_layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocabulary_size)

    def start(self, vector: Any) -> Any:
        """The state before the first token: tanh of a linear map for h, zero for the cell of an LSTM."""
        if vector.ndim != 2:
            raise ShapeError(f"VectorToSequence: vector of shape {tuple(vector.shape)}; expected (B, {self.first.in_features})")
        h = pydl.tanh(self.first(vector)).reshape(-1, self.num_layers, self.hidden_size).transpose(0, 1)
        return (h, pydl.zeros_like(h)) if isinstance(self.rnn, nn.LSTM) else h

    def forward(self, vector: Any, tokens: Any) -> Any:
        hidden, _ = self.rnn(self.dropout(self.embedding(tokens)), self.start(vector))
        return self.output(self.dropout(hidden))

    def step(self, ids: Any, state: Any) -> tuple[Any, Any]:
        """Scores (B, V) of the token after ids (B, T): see `pydl.generation`."""
        hidden, state = self.rnn(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(hidden[:, -1])), state

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The states of these sequences."""
        return select_rows(state, index)
