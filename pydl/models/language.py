"""Language models: the next token from those before it, by a recurrent network or by a Transformer's decoder.

Both map tokens (B, T) and a state to (scores (B, T, V), state) and take part in `pydl.generation`. Sources: Mikolov et al. 2010
(recurrent language model); Press and Wolf 2017 (one table for both ends); Radford et al. 2019 (GPT-2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.generation import select_rows

__all__ = ["RNNLanguageModel", "TransformerLanguageModel"]

_CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def recurrent(cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float, bidirectional: bool = False) -> Any:
    """The recurrent layers of this name, batch first; dropout between layers if there are several."""
    if cell not in _CELLS:
        raise ArgumentError(f"cell={cell!r}; expected one of {', '.join(_CELLS)}")
    return _CELLS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0,
                        bidirectional=bidirectional)


class RNNLanguageModel(nn.Module):
    """Embedding, recurrent layers, a linear map to scores.

    Shapes: tokens (B, T) int64, state (h, or (h, c) of an LSTM; None: zeros) -> scores (B, T, V), state.

    Parameters
    ----------
    vocabulary_size : int
        V.
    embed_dim, hidden_size, num_layers : int
        Features of a token; units of a layer; layers.
    cell : "rnn", "lstm" or "gru"
    dropout : float
        Of the embeddings, between layers and before the output (Zaremba et al. 2014).
    tied : bool
        Let the output layer use the embedding's table; needs ``embed_dim == hidden_size``.
    """

    def __init__(
        self, vocabulary_size: int, embed_dim: int = 128, hidden_size: int = 256, num_layers: int = 1, cell: str = "lstm",
        dropout: float = 0.0, tied: bool = False,
    ) -> None:
        super().__init__()
        if tied and embed_dim != hidden_size:
            raise ArgumentError(f"RNNLanguageModel: tied=True needs embed_dim={embed_dim} and hidden_size={hidden_size} to be "
                                "equal")
        self.embedding = nn.Embedding(vocabulary_size, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.rnn = recurrent(cell, embed_dim, hidden_size, num_layers, dropout)
        self.decoder = nn.Linear(hidden_size, vocabulary_size)
        nn.init.zeros_(self.decoder.bias)
        if tied:  # scores of standard normal vectors would be too large
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            self.decoder.weight = self.embedding.weight

    def forward(self, input: Any, state: Any = None) -> tuple[Any, Any]:
        hidden, state = self.rnn(self.dropout(self.embedding(input)), state)
        return self.decoder(self.dropout(hidden)), state

    def step(self, ids: Any, state: Any) -> tuple[Any, Any]:
        """Scores (B, V) of the token after ids (B, T): see `pydl.generation`."""
        hidden, state = self.rnn(self.dropout(self.embedding(ids)), state)
        return self.decoder(self.dropout(hidden[:, -1])), state

    def select(self, state: Any, index: np.ndarray) -> Any:
        """The states of these sequences."""
        return select_rows(state, index)


class Context:
    """What a Transformer remembers while it generates: the tokens so far, and each layer's keys and values of them."""

    def __init__(self, ids: np.ndarray, caches: list[nn.KeyValueCache]) -> None:
        self.ids, self.caches = ids, caches

    def select(self, index: Any) -> None:
        """Keep these sequences, in this order."""
        self.ids = self.ids[np.asarray(index)]
        for cache in self.caches:
            cache.select(index)


class TransformerLanguageModel(nn.Module):
    """A Transformer in which each position sees itself and what stands before it (GPT): tokens and learnt positions, blocks with
    the norm before attention and perceptron, a norm, scores by the transposed table of tokens.

    Shapes: tokens (B, T) int64, T at most max_len -> scores (B, T, V), None.

    Parameters
    ----------
    vocabulary_size : int
        V.
    embed_dim, num_heads, num_layers : int
        Features; attention heads; blocks.
    feedforward : int, optional
        Hidden units of the perceptrons; default four times embed_dim.
    max_len : int
        The longest input; generation goes on beyond it with the later half of the text.
    dropout : float
        Everywhere.
    tied : bool
        Use the table of tokens for the output too.

    Weights start normal with deviation 0.02, those that add to the residual path with 0.02 / sqrt(2 num_layers).
    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """

    def __init__(
        self, vocabulary_size: int, embed_dim: int = 128, num_heads: int = 4, num_layers: int = 4, feedforward: int | None = None,
        max_len: int = 256, dropout: float = 0.1, tied: bool = True,
    ) -> None:
        super().__init__()
        self.max_len = max_len
        self.embedding = nn.Embedding(vocabulary_size, embed_dim)
        self.positions = nn.LearnedPositionalEncoding(embed_dim, max_len, dropout, batch_first=True)
        block = nn.TransformerEncoderLayer(embed_dim, num_heads, feedforward or 4 * embed_dim, dropout, "gelu", batch_first=True,
                                           norm_first=True)
        self.blocks = nn.TransformerEncoder(block, num_layers, nn.LayerNorm(embed_dim))
        self.decoder = nn.Linear(embed_dim, vocabulary_size, bias=False)
        if tied:
            self.decoder.weight = self.embedding.weight
        for name, p in self.named_parameters():
            if p.ndim > 1:
                adds = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(p, std=0.02 / (2 * num_layers) ** 0.5 if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def _features(self, ids: Any, caches: list[nn.KeyValueCache] | None, offset: int) -> Any:
        """Of each position (B, T, E)."""
        x = self.positions(self.embedding(ids), offset)
        return self.blocks(x, is_causal=True, cache=caches)

    def forward(self, input: Any, state: None = None) -> tuple[Any, None]:
        if input.ndim != 2:
            raise ShapeError(f"TransformerLanguageModel: input of shape {tuple(input.shape)}; expected tokens (B, T)")
        if state is not None:
            raise ArgumentError("TransformerLanguageModel: it carries no state from batch to batch; generation uses step")
        return self.decoder(self._features(input, None, 0)), None

    def step(self, ids: Any, state: Context | None) -> tuple[Any, Context]:
        """Scores (B, V) of the token after ids (B, T): see `pydl.generation`."""
        new = ids.numpy()
        past = np.zeros((len(new), 0), np.int64) if state is None else state.ids
        text = np.concatenate([past, new], 1)
        if state is None or text.shape[1] > self.max_len:
            if text.shape[1] > self.max_len:  # positions are absolute: what is kept must be read again
                text = text[:, -max(self.max_len // 2, 1) :]
            state, new = Context(text[:, :0], self.blocks.make_cache()), text
        features = self._features(pydl.from_numpy(np.ascontiguousarray(new)), state.caches, text.shape[1] - new.shape[1])
        state.ids = text
        return self.decoder(features[:, -1]), state

    def select(self, state: Context, index: np.ndarray) -> Context:
        """The states of these sequences."""
        return select_rows(state, index)
