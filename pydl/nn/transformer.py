"""Transformer layers and stacks with PyTorch's names, arguments and numerics (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import wrap
from pydl.nn import init
from pydl.nn.attention import KeyValueCache, MultiheadAttention
from pydl.nn.containers import ModuleList
from pydl.nn.dropout import Dropout
from pydl.nn.fusion import linear_act
from pydl.nn.linear import Linear
from pydl.nn.module import Module
from pydl.nn.norm import LayerNorm

__all__ = [
    "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer",
]

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": ops.relu, "gelu": ops.gelu}


def _activation(activation: Any) -> Callable[[Any], Any]:
    if callable(activation):
        return activation
    if activation not in _ACTIVATIONS:
        raise ArgumentError(f"Transformer: activation={activation!r}; expected 'relu', 'gelu' or a function")
    return _ACTIVATIONS[activation]


def _is_causal(mask: Any, length: int, given: bool | None) -> bool:
    """Whether a mask is the causal one: as the caller says, else by comparing."""
    if given is not None:
        return bool(given)
    if mask is None:
        return False
    values = np.asarray(mask.data)
    if values.shape != (length, length):
        return False
    later = np.triu(np.ones((length, length), bool), 1)
    return bool(np.array_equal(values, later if values.dtype.kind == "b" else np.where(later, -np.inf, 0)))


class _Layer(Module):
    """What encoder and decoder layers share: attention under the names of `attentions`, the feed-forward part, and residual
    blocks with the norm before or after."""

    attentions: tuple[str, ...] = ()

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        for name in self.attentions:
            self.register_module(name, MultiheadAttention(d_model, nhead, dropout, bias=bias, batch_first=batch_first))
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias)
        blocks = range(1, len(self.attentions) + 2)
        for i in blocks:
            self.register_module(f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias))
        for i in blocks:
            self.register_module(f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation)

    def _feed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(linear_act(self.linear1, self.activation, x)))

    def _residual(self, i: int, x: Any, block: Callable[[Any], Any]) -> Any:
        """x + block(norm(x)), or norm(x + block(x)) (Xiong et al. 2020 compare the two)."""
        norm, dropout = self._modules[f"norm{i}"], self._modules[f"dropout{i}"]
        if self.norm_first:
            return x + dropout(block(norm(x)))
        return norm(x + dropout(block(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward part, each in a residual block.

    Shapes: (T, N, E) -> (T, N, E); (N, T, E) with ``batch_first``; (T, E) without a batch.

    With ``norm_first`` the norms stand before the blocks, else after the sums; `activation` is 'relu', 'gelu' or a function.
    """

    attentions = ("self_attn",)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Any:
        """Masks as in `MultiheadAttention`; with a cache, `src` holds the new positions only."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, need_weights=False, attn_mask=src_mask, is_causal=is_causal,
                                  cache=cache)[0]

        return self._residual(2, self._residual(1, src, attend), self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output (`memory`) and a feed-forward part, each in a residual block.

    Shapes: tgt (T, N, E), memory (S, N, E) -> (T, N, E); batch axis first with ``batch_first``.
    """

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: tuple[KeyValueCache, KeyValueCache] | None = None,
    ) -> Any:
        """Masks as in `MultiheadAttention`; `cache` holds earlier positions and the projected memory (`make_cache`)."""
        own, cross = cache or (None, None)

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, need_weights=False, attn_mask=tgt_mask,
                                  is_causal=tgt_is_causal, cache=own)[0]

        def look(x: Any) -> Any:
            return self.multihead_attn(x, memory, memory, memory_key_padding_mask, need_weights=False, attn_mask=memory_mask,
                                       is_causal=memory_is_causal, cache=cross)[0]

        x = self._residual(2, self._residual(1, tgt, attend), look)
        return self._residual(3, x, self._feed_forward)


class _Stack(Module):
    """`num_layers` copies of a layer, and a norm behind them or None."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.register_module("norm", norm)

    def _finish(self, x: Any) -> Any:
        return x if self.norm is None else self.norm(x)

    def _length(self, x: Any) -> int:
        first = self.layers[0].self_attn.batch_first if self.num_layers else False
        return x.data.shape[1 if first and x.data.ndim == 3 else 0]


class TransformerEncoder(_Stack):
    """A stack of encoder layers, each a copy of `encoder_layer`. `enable_nested_tensor` and `mask_check` are accepted and
    ignored."""

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None,
        cache: list[KeyValueCache] | None = None,
    ) -> Any:
        """Whether the mask is causal is found out when ``is_causal`` is None. With a cache (`make_cache`), `src` holds the new
        positions only: so a decoder-only model generates."""
        causal = _is_causal(mask, self._length(src), is_causal)
        for layer, kept in zip(self.layers, cache or (None,) * self.num_layers, strict=True):
            src = layer(src, mask, src_key_padding_mask, causal, cache=kept)
        return self._finish(src)

    def make_cache(self) -> list[KeyValueCache]:
        """An empty cache for each layer."""
        return [KeyValueCache() for _ in range(self.num_layers)]


class TransformerDecoder(_Stack):
    """A stack of decoder layers, each a copy of `decoder_layer`."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        cache: list[tuple[KeyValueCache, KeyValueCache]] | None = None,
    ) -> Any:
        """Whether tgt_mask is causal is found out when ``tgt_is_causal`` is None; `cache` as of `make_cache`."""
        causal = _is_causal(tgt_mask, self._length(tgt), tgt_is_causal)
        for layer, kept in zip(self.layers, cache or (None,) * self.num_layers, strict=True):
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, causal,
                        memory_is_causal, cache=kept)
        return self._finish(tgt)

    def make_cache(self) -> list[tuple[KeyValueCache, KeyValueCache]]:
        """For each layer an empty cache of its own positions and one of the projected memory."""
        return [(KeyValueCache(), KeyValueCache(fixed=True)) for _ in range(self.num_layers)]


class Transformer(Module):
    """Encoder and decoder, each with a norm at its end; weights start Xavier-uniform, as in PyTorch.

    Shapes: src (S, N, E), tgt (T, N, E) -> (T, N, E); batch axis first with ``batch_first``.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*options), num_encoder_layers, LayerNorm(d_model, eps=layer_norm_eps, bias=bias))
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*options), num_decoder_layers, LayerNorm(d_model, eps=layer_norm_eps, bias=bias))
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """Masks as in `MultiheadAttention`; `generate_square_subsequent_mask` makes the causal one of the decoder."""
        axis = 0 if self.batch_first else 1
        shapes = f"src {src.data.shape}, tgt {tgt.data.shape}"
        if src.data.ndim != tgt.data.ndim or (src.data.ndim == 3 and src.data.shape[axis] != tgt.data.shape[axis]):
            raise ShapeError(f"[transformer] src and tgt must have the same batch on axis {axis}; got {shapes}")
        if src.data.shape[-1] != self.d_model or tgt.data.shape[-1] != self.d_model:
            raise ShapeError(f"[transformer] src and tgt need {self.d_model} features (d_model) in the last axis; got {shapes}")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
                            memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = np.float32) -> Any:
        """(sz, sz): -inf above the diagonal, 0 elsewhere."""
        return wrap(np.triu(np.full((sz, sz), -np.inf, dtype), 1))
