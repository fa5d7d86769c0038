"""Convolutions over words for the classification of sentences.

Source: Kim, "Convolutional Neural Networks for Sentence Classification" (2014), arXiv:1408.5882, figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.ops.rnn import as_lengths

__all__ = ["TextCNN"]


class TextCNN(nn.Module):
    """Kernels of several widths side by side over the words' vectors, ReLU, each map's maximum over time, a linear layer.

    Shapes: tokens (N, T) integers, lengths (N) -> (N, num_classes).

    Parameters
    ----------
    vocab_size, num_classes : int
    embed_dim : int
        Of the words' vectors.
    widths : sequence of int
        Words that a kernel sees.
    maps : int
        Kernels of each width.
    dropout : float
        Probability before the linear layer.
    padding_idx : int
        Token that fills up short texts; its vector is zero.
    embeddings : Tensor, optional
        Vectors (vocab_size, embed_dim) to start from.
    static : bool
        Leave the vectors as they are.

    With `lengths`, a text's result does not depend on how far it is padded: a kernel's places beyond the text do not count
    (of a text shorter than the kernel the first place does).

    Source: Kim 2014, whose widths are 3, 4 and 5 with 100 maps each.
    """

    def __init__(
        self, vocab_size: int, num_classes: int, embed_dim: int = 100, widths: Sequence[int] = (3, 4, 5), maps: int = 100,
        dropout: float = 0.5, padding_idx: int = 0, embeddings: Any = None, static: bool = False,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1 or maps < 1:
            raise ArgumentError(f"TextCNN: widths={tuple(widths)}, maps={maps}; expected positive numbers, at least one width")
        if embeddings is None:
            self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=padding_idx)
        else:
            self.embedding = nn.Embedding.from_pretrained(embeddings, freeze=static, padding_idx=padding_idx)
            vocab_size, embed_dim = self.embedding.num_embeddings, self.embedding.embedding_dim
        self.padding_idx, self.widths = padding_idx, tuple(widths)
        self.convs = nn.ModuleList(nn.Conv1d(embed_dim, maps, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(maps * len(self.widths), num_classes)

    def forward(self, tokens: Any, lengths: Any = None) -> Any:
        tokens = pydl.as_tensor(tokens)
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise ShapeError(f"[text_cnn] tokens of shape {tokens.shape}, expected (N, T), at least one of each")
        batch, steps = tokens.shape
        missing = max(self.widths) - steps
        if missing > 0:
            tokens = nn.functional.pad(tokens, [0, missing], value=self.padding_idx)
        if lengths is None and missing > 0:  # narrow kernels must not see what wide ones need
            lengths = [steps] * batch
        used = None if lengths is None else as_lengths("text_cnn", lengths, batch, steps)
        x = pydl.transpose(self.embedding(tokens), 1, 2)  # (N, E, T), with the channels innermost in memory
        return self.fc(self.dropout(pydl.cat([self._strongest(conv, x, used) for conv in self.convs], 1)))

    def _strongest(self, conv: nn.Module, x: Any, lengths: np.ndarray | None) -> Any:
        """The maximum over time of each map: (N, E, T) -> (N, maps)."""
        y = pydl.relu(conv(x))
        if lengths is not None:
            places = np.maximum(lengths - conv.kernel_size[0] + 1, 1)
            outside = np.arange(y.shape[2]) >= places[:, None]
            if outside.any():
                y = pydl.masked_fill(y, pydl.from_numpy(outside[:, None, :]), 0.0)  # never above a ReLU's output
        return y.amax(2)
