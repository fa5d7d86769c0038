"""The Transformer for translation: encoder and decoder of attention alone (Vaswani et al. 2017)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor

__all__ = ["TransformerSeq2Seq", "TransformerState"]


@dataclasses.dataclass(frozen=True)
class TransformerState:
    """What the decoder keeps between steps: the encoded source, and keys and values of the positions so far.

    A step fills the caches in place: a state is used for one step, then its successor.
    """

    memory: Any
    blocked: Any
    cache: list[Any]
    position: int = 0

    def select(self, index: Any) -> TransformerState:
        """These sequences in this order; one may come several times."""
        rows = np.asarray(getattr(index, "data", index))
        for pair in self.cache:
            for kept in pair:
                kept.select(rows)
        blocked = None if self.blocked is None else wrap(self.blocked.data[rows])
        return dataclasses.replace(self, memory=wrap(self.memory.data[rows]), blocked=blocked)


class TransformerSeq2Seq(nn.Module):
    """Symbols in, logits of the next symbol out: embeddings times sqrt(d_model), sinusoidal positions, `nn.Transformer`, and an
    output layer.

    Shapes: source (N, S) and target (N, T) integers, lengths (N) -> logits (N, T, target_vocabulary); step t sees
    target[:, : t + 1]. The defaults are the paper's base model.

    Parameters
    ----------
    tie : None, "output" or "all"
        "output": the output layer is the target's embedding; "all": the source's too (one vocabulary for both), as in the paper.
    norm_first : bool
        Norms before the blocks (easier to train: no warm-up needed) or after them, as in the paper.
    max_len : int
        Longest sequence.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
        tie: str | None = None,
        padding_idx: int = 0,
        max_len: int = 512,
    ) -> None:
        super().__init__()
        if tie not in (None, "output", "all"):
            raise ArgumentError(f"TransformerSeq2Seq: tie={tie!r}; expected None, 'output' or 'all'")
        if tie == "all" and source_vocabulary != target_vocabulary:
            raise ArgumentError(f"TransformerSeq2Seq: tie='all' needs one vocabulary, got {source_vocabulary} and "
                                f"{target_vocabulary} symbols")
        self.padding_idx, self.scale = padding_idx, math.sqrt(d_model)
        self.transformer = nn.Transformer(d_model, nhead, num_encoder_layers, num_decoder_layers, dim_feedforward, dropout,
                                          activation, batch_first=True, norm_first=norm_first)
        self.source_embedding = nn.Embedding(source_vocabulary, d_model, padding_idx=padding_idx)
        self.target_embedding = nn.Embedding(target_vocabulary, d_model, padding_idx=padding_idx)
        self.positions = nn.PositionalEncoding(d_model, max_len, dropout, batch_first=True)
        self.output = nn.Linear(d_model, target_vocabulary, bias=tie is None)
        for table in (self.source_embedding, self.target_embedding):
            nn.init.normal_(table.weight, std=d_model**-0.5)
        nn.init.xavier_uniform_(self.output.weight)
        if tie is not None:
            self.output.weight = self.target_embedding.weight
        if tie == "all":
            self.source_embedding.weight = self.target_embedding.weight

    def _embed(self, table: Any, symbols: Any, offset: int = 0) -> Any:
        return self.positions(table(symbols) * self.scale, offset)

    def encode(self, source: Any, lengths: Any = None) -> TransformerState:
        """The decoder's state before its first step."""
        source = as_tensor(source)
        if source.data.ndim != 2:
            raise ShapeError(f"[TransformerSeq2Seq] source of shape {source.data.shape}; expected (N, S)")
        steps, blocked = source.data.shape[1], None
        if lengths is not None:
            blocked = wrap(np.arange(steps) >= np.asarray(as_tensor(lengths).data)[:, None])
        memory = self.transformer.encoder(self._embed(self.source_embedding, source), src_key_padding_mask=blocked)
        return TransformerState(memory, blocked, self.transformer.decoder.make_cache())

    def forward(self, source: Any, lengths: Any, target: Any) -> Any:
        """Logits of all steps at once."""
        target = as_tensor(target)
        state = self.encode(source, lengths)
        if target.data.ndim != 2 or target.data.shape[0] != state.memory.data.shape[0]:
            raise ShapeError(f"[TransformerSeq2Seq] target of shape {target.data.shape}; expected (N, T) with the source's "
                             f"batch N={state.memory.data.shape[0]}")
        out = self.transformer.decoder(self._embed(self.target_embedding, target), state.memory, tgt_is_causal=True,
                                       memory_key_padding_mask=state.blocked)
        return self.output(out)

    def step(self, ids: Any, state: TransformerState) -> tuple[Any, TransformerState]:
        """For `pydl.generation`, under `pydl.no_grad`: the next symbols (N, T) -> logits (N, V) of the one after them, and the
        state behind them; `encode` gives the first."""
        ids = as_tensor(ids)
        x = self._embed(self.target_embedding, ids, state.position)
        out = self.transformer.decoder(x, state.memory, tgt_is_causal=True, memory_key_padding_mask=state.blocked,
                                       cache=state.cache)
        return self.output(out[:, -1]), dataclasses.replace(state, position=state.position + ids.data.shape[1])

    def select(self, state: TransformerState, index: Any) -> TransformerState:
        """For `pydl.generation.beam_search`: the state of these sequences, in this order."""
        return state.select(index)

    def alignments(self, source: Any, lengths: Any, target: Any, layer: int = -1, average: bool = True) -> Any:
        """Where each step of the target looks in the source: the weights of one decoder layer's cross-attention.

        Shapes: (N, T, S), the mean of the heads, or (N, heads, T, S) with ``average=False``.
        """
        attention = self.transformer.decoder.layers[layer].multihead_attn
        seen: list[tuple[Any, ...]] = []
        with attention.register_forward_pre_hook(lambda module, args: seen.append(args)):
            self(source, lengths, target)
        query, key, value, blocked = seen[0]
        return attention(query, key, value, blocked, need_weights=True, average_attn_weights=average)[1]
