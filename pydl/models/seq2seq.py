"""Recurrent encoder-decoders: without attention (Cho et al. 2014; Sutskever et al. 2014), with additive attention (Bahdanau et
al. 2015) and with multiplicative attention (Luong et al. 2015).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pydl import nn, ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.ops._common import as_tensor

__all__ = ["DecoderState", "RecurrentEncoder", "Seq2Seq"]

ATTENTIONS = (None, "bahdanau", "dot", "general", "concat")


@dataclasses.dataclass(frozen=True)
class DecoderState:
    """What a decoder knows between two steps: its own state, the encoded source, and what it last put out.

    Attributes
    ----------
    hidden
        (h,) or (h, c), each (layers, N, H).
    memory, projected
        The encoder's outputs (N, S, K), and what attention makes of them once; without attention None.
    blocked
        (N, S), True at padding, or None.
    context
        (N, K): the encoder's summary (without attention, if it is fed at every step).
    fed
        (N, H): Luong's attentional vector, if it is fed to the next step.
    """

    hidden: tuple[Any, ...]
    memory: Any = None
    projected: Any = None
    blocked: Any = None
    context: Any = None
    fed: Any = None

    def select(self, index: Any) -> DecoderState:
        """These sequences in this order (the survivors of a beam search); one may come several times."""
        rows = np.asarray(getattr(index, "data", index))
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        picked = {k: None if v is None else wrap(v.data[rows]) for k, v in kept.items() if k != "hidden"}
        return DecoderState(tuple(wrap(np.ascontiguousarray(h.data[:, rows])) for h in self.hidden), **picked)


class RecurrentEncoder(nn.Module):
    """Embedding and a recurrent network over the source, one way or both.

    Shapes: source (N, S) integers, lengths (N) -> outputs (N, S, directions * H), and the last state of each layer as a tuple
    of (layers, N, directions * H): the states of both directions side by side.
    """

    def __init__(
        self, vocabulary: int, embed_dim: int, hidden_size: int, num_layers: int = 1, cell: str = "gru",
        bidirectional: bool = True, dropout: float = 0.0, padding_idx: int | None = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embed_dim, padding_idx=padding_idx)
        self.dropout = nn.Dropout(dropout)
        self.rnn = _recurrent(cell)(embed_dim, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional,
                                    dropout=dropout if num_layers > 1 else 0.0)
        self.output_size = hidden_size * (2 if bidirectional else 1)

    def forward(self, source: Any, lengths: Any = None) -> tuple[Any, tuple[Any, ...]]:
        outputs, last = self.rnn(self.dropout(self.embedding(source)), lengths=lengths)
        states = last if isinstance(last, tuple) else (last,)
        if self.rnn.bidirectional:  # (layers * 2, N, H) -> (layers, N, 2H)
            states = tuple(ops.cat([s[0::2], s[1::2]], -1) for s in states)
        return self.dropout(outputs), states


def _recurrent(cell: str) -> Any:
    kinds = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
    if cell not in kinds:
        raise ArgumentError(f"Seq2Seq: cell={cell!r}; expected one of {', '.join(kinds)}")
    return kinds[cell]


class Seq2Seq(nn.Module):
    """Encoder-decoder: the encoder reads the source, the decoder writes the target symbol by symbol.

    Shapes: source (N, S) and target (N, T) integers, lengths (N) -> logits (N, T, target_vocabulary); step t sees
    target[:, : t + 1] (which starts with the sign of the beginning) and tells the symbol after it.

    The decoder starts from tanh(W h) of the encoder's last states (from the states themselves where the sizes agree). With

    - ``attention=None`` it knows no more of the source, or, with ``feed_context``, also gets the encoder's last output at each
      step (Cho et al.);
    - ``"bahdanau"`` its previous state asks, the answer goes in beside the symbol: s_t = f(s_{t-1}, [y_{t-1}; c(s_{t-1})]), and
      the output layer reads tanh(W [s_t; c_t; y_{t-1}]);
    - ``"dot"``, ``"general"``, ``"concat"`` (Luong) its new state asks, and the output layer reads tanh(W [c(s_t); s_t]), which
      with ``input_feeding`` is also put in beside the next symbol.

    Without attention and with Luong's (unless fed back), all steps of training run in one call of the recurrent kernel.

    Parameters
    ----------
    source_vocabulary, target_vocabulary : int
        Numbers of symbols.
    embed_dim, hidden_size, num_layers
        Of encoder (`hidden_size` for each direction) and decoder.
    cell : "gru", "lstm" or "rnn"
    bidirectional : bool
        Whether the encoder reads both ways.
    dropout : float
        On embeddings, between layers, on the encoder's output and before the output layer.
    padding_idx : int
        The symbol of padding, in both vocabularies.
    scaled : bool
        Divide the scores of "dot" and "general" by the root of the keys' length, see `nn.LuongAttention`.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        embed_dim: int = 256,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = True,
        attention: str | None = "bahdanau",
        dropout: float = 0.0,
        feed_context: bool = False,
        input_feeding: bool = False,
        padding_idx: int = 0,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ArgumentError(f"Seq2Seq: attention={attention!r}; expected one of {', '.join(map(repr, ATTENTIONS))}")
        if feed_context and attention is not None:
            raise ArgumentError("Seq2Seq: feed_context is for decoders without attention, which makes a context of its own")
        if input_feeding and attention in (None, "bahdanau"):
            raise ArgumentError(f"Seq2Seq: input_feeding belongs to Luong's attention, not to attention={attention!r}")
        self.method, self.feed_context, self.input_feeding, self.padding_idx = attention, feed_context, input_feeding, padding_idx
        self.encoder = RecurrentEncoder(source_vocabulary, embed_dim, hidden_size, num_layers, cell, bidirectional, dropout,
                                        padding_idx)
        keys = self.encoder.output_size
        states = 2 if cell == "lstm" else 1
        self.bridge = nn.ModuleList([nn.Linear(keys, hidden_size) for _ in range(states)] if keys != hidden_size else [])
        self.embedding = nn.Embedding(target_vocabulary, embed_dim, padding_idx=padding_idx)
        self.dropout = nn.Dropout(dropout)
        beside = keys if feed_context or attention == "bahdanau" else hidden_size if input_feeding else 0
        self.rnn = _recurrent(cell)(embed_dim + beside, hidden_size, num_layers, batch_first=True,
                                    dropout=dropout if num_layers > 1 else 0.0)
        self.attention = _attention(attention, hidden_size, keys, scaled)
        readout = {None: 0, "bahdanau": hidden_size + keys + embed_dim}.get(attention, hidden_size + keys)
        self.register_module("readout", nn.Linear(readout, hidden_size, bias=attention == "bahdanau") if readout else None)
        self.output = nn.Linear(hidden_size, target_vocabulary)

    # ------------------------------------------------------------------ encoding
    def encode(self, source: Any, lengths: Any = None) -> DecoderState:
        """The decoder's state before its first step."""
        source = as_tensor(source)
        if source.data.ndim != 2:
            raise ShapeError(f"[Seq2Seq] source of shape {source.data.shape}; expected (N, S)")
        memory, states = self.encoder(source, lengths)
        context = states[0][-1] if self.feed_context else None  # the top layer's last outputs
        if len(self.bridge):
            states = tuple(ops.tanh(layer(s)) for layer, s in zip(self.bridge, states, strict=True))
        if self.attention is None:
            return DecoderState(states, context=context)
        n, steps = source.data.shape
        blocked = None if lengths is None else wrap(np.arange(steps) >= np.asarray(as_tensor(lengths).data)[:, None])
        fed = wrap(np.zeros((n, self.rnn.hidden_size), memory.data.dtype)) if self.input_feeding else None
        return DecoderState(states, memory, self.attention.project_keys(memory), blocked, fed=fed)

    # ------------------------------------------------------------------ decoding
    def step(self, ids: Any, state: DecoderState) -> tuple[Any, DecoderState]:
        """For `pydl.generation`: the next symbols (N, T) -> logits (N, V) of the one after them, and the state behind them;
        `encode` gives the first."""
        for symbols in np.asarray(as_tensor(ids).data).T:
            logits, state, _ = self._step(wrap(symbols), state)
        return logits, state

    def select(self, state: DecoderState, index: Any) -> DecoderState:
        """For `pydl.generation.beam_search`: the state of these sequences, in this order."""
        return state.select(index)

    def _step(self, symbols: Any, state: DecoderState) -> tuple[Any, DecoderState, Any]:
        """One step for each sequence: symbols (N) -> logits (N, V), the next state, alignment (N, S) (None without attention)."""
        embedded = self.dropout(self.embedding(symbols))
        top, context, alignment, state = self._advance(embedded, state)
        return self._read(top, context, embedded, state.fed), state, alignment

    def _advance(self, embedded: Any, state: DecoderState) -> tuple[Any, Any, Any, DecoderState]:
        """The recurrent part of a step: (top state, context, alignment, next state)."""
        context, alignment, beside = state.context, None, state.context
        if self.method == "bahdanau":
            context, alignment = self._look(state.hidden[0][-1], state)
            beside = context
        elif self.input_feeding:
            beside = state.fed
        x = embedded if beside is None else ops.cat([embedded, beside], -1)
        out, hidden = self._run(ops.unsqueeze(x, 1), state.hidden)
        top, fed = ops.squeeze(out, 1), None
        if self.method not in (None, "bahdanau"):
            context, alignment = self._look(top, state)
            fed = self._attentional(top, context) if self.input_feeding else None
        return top, context, alignment, dataclasses.replace(state, hidden=hidden, fed=fed)

    def _run(self, x: Any, hidden: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        out, last = self.rnn(x, hidden if isinstance(self.rnn, nn.LSTM) else hidden[0])
        return out, last if isinstance(last, tuple) else (last,)

    def _look(self, query: Any, state: DecoderState) -> tuple[Any, Any]:
        return self.attention(query, state.memory, key_padding_mask=state.blocked, projected_keys=state.projected)

    def _attentional(self, top: Any, context: Any) -> Any:
        return ops.tanh(self.readout(ops.cat([context, top], -1)))

    def _read(self, top: Any, context: Any, embedded: Any, fed: Any = None) -> Any:
        """Logits of one step or of all steps at once."""
        if self.method == "bahdanau":
            top = ops.tanh(self.readout(ops.cat([top, context, embedded], -1)))
        elif self.method is not None:
            top = self._attentional(top, context) if fed is None else fed
        return self.output(self.dropout(top))

    # ------------------------------------------------------------------ training
    def forward(self, source: Any, lengths: Any, target: Any, teacher_forcing: float = 1.0, need_weights: bool = False) -> Any:
        """Logits of all steps, and with ``need_weights`` the alignments (N, T, S) beside them (None without attention).

        With ``teacher_forcing`` below 1, each symbol after the first is the right one with that probability, else the one that
        the decoder itself found likeliest.
        """
        target = as_tensor(target)
        if target.data.ndim != 2 or not target.data.shape[1]:
            raise ShapeError(f"[Seq2Seq] target of shape {target.data.shape}; expected (N, T) with at least one step")
        if not 0 <= teacher_forcing <= 1:
            raise ArgumentError(f"[Seq2Seq] teacher_forcing={teacher_forcing}; expected a probability")
        state = self.encode(source, lengths)
        if state.hidden[0].data.shape[1] != target.data.shape[0]:
            raise ShapeError(f"[Seq2Seq] source {as_tensor(source).data.shape} and target {target.data.shape} need one batch "
                             "size (axis 0)")
        if teacher_forcing < 1:
            logits, weights = self._sampled(target, state, teacher_forcing)
        elif self.method == "bahdanau" or self.input_feeding:
            logits, weights = self._stepwise(target, state)
        else:
            logits, weights = self._at_once(target, state)
        return (logits, weights) if need_weights else logits

    def _at_once(self, target: Any, state: DecoderState) -> tuple[Any, Any]:
        embedded, context, weights = self.dropout(self.embedding(target)), None, None
        x = embedded
        if state.context is not None:
            n, steps, _ = embedded.data.shape
            x = ops.cat([embedded, ops.expand(ops.unsqueeze(state.context, 1), n, steps, -1)], -1)
        top, _ = self._run(x, state.hidden)
        if self.attention is not None:
            context, weights = self._look(top, state)
        return self._read(top, context, embedded), weights

    def _stepwise(self, target: Any, state: DecoderState) -> tuple[Any, Any]:
        """Step by step where the next needs the last one's context; the output layer runs once for all."""
        embedded = self.dropout(self.embedding(target))
        tops, contexts, weights, fed = [], [], [], []
        for x in ops.unbind(embedded, 1):
            top, context, alignment, state = self._advance(x, state)
            tops.append(top)
            contexts.append(context)
            weights.append(alignment)
            fed.append(state.fed)
        top, context, alignments = (ops.stack(parts, 1) for parts in (tops, contexts, weights))
        return self._read(top, context, embedded, ops.stack(fed, 1) if self.input_feeding else None), alignments

    def _sampled(self, target: Any, state: DecoderState, teacher_forcing: float) -> tuple[Any, Any]:
        from pydl.random import rand

        n, steps = target.data.shape
        told = rand(steps, n).data < teacher_forcing
        symbols, logits, weights = target.data[:, 0], [], []
        for t in range(steps):
            scores, state, alignment = self._step(wrap(symbols), state)
            logits.append(scores)
            weights.append(alignment)
            if t + 1 < steps:
                symbols = np.where(told[t + 1], target.data[:, t + 1], scores.data.argmax(-1))
        return ops.stack(logits, 1), None if weights[0] is None else ops.stack(weights, 1)


def _attention(method: str | None, query: int, keys: int, scaled: bool) -> Any:
    if scaled and method not in ("dot", "general"):
        raise ArgumentError(f"Seq2Seq: scaled=True is for attention='dot' and 'general', not for {method!r}")
    if method is None:
        return None
    if method == "bahdanau":
        return nn.BahdanauAttention(query, keys, query)
    return nn.LuongAttention(query, keys, method, scaled=scaled)
