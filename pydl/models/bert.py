"""BERT: a Transformer encoder with learnt positions; and sentence embeddings, the mean of its outputs.

Sources: Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding" (2018), arXiv:1810.04805; Reimers and Gurevych, "Sentence-BERT" (2019), arXiv:1908.10084; Wang et al.,
"MiniLM" (2020), arXiv:2002.10957.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pydl
from pydl import nn
from pydl._extras import require
from pydl.errors import ArgumentError, ShapeError
from pydl.models.weights import load_weights

__all__ = ["Bert", "BertEmbeddings", "SentenceEncoder"]


class BertEmbeddings(nn.Module):
    """The sum of a vector of the token, one of its position and one of its segment, normalised. (N, T) -> (N, T, E)."""

    def __init__(self, vocab_size: int, hidden_size: int, positions: int, types: int, dropout: float, eps: float,
                 padding_idx: int | None) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=padding_idx)
        self.position_embeddings = nn.Embedding(positions, hidden_size)
        self.token_type_embeddings = nn.Embedding(types, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Any, token_type_ids: Any = None) -> Any:
        steps, positions = input_ids.data.shape[1], self.position_embeddings.weight
        if steps > positions.data.shape[0]:
            raise ShapeError(f"[bert] input_ids of shape {input_ids.data.shape}: {steps} tokens, but positions are learnt for "
                             f"{positions.data.shape[0]}; cut the text (the tokenizer's truncation)")
        types = self.token_type_embeddings
        first = types.weight[0] if token_type_ids is None else types(token_type_ids)
        return self.dropout(self.LayerNorm(self.word_embeddings(input_ids) + positions[:steps] + first))


class Bert(nn.Module):
    """Transformer encoder over tokens of text, read in both directions.

    Shapes: input_ids (N, T) integers, attention_mask (N, T), 0 for padding -> (N, T, hidden_size). Outputs at padding mean
    nothing.

    Parameters
    ----------
    vocab_size, hidden_size, layers, heads, intermediate_size : int
        The defaults are those of BERT base: 109,482,240 parameters with the pooler.
    positions, types : int
        Longest text; segments.
    dropout : float
        Probability in embeddings and blocks, and of the attention's weights.
    eps : float
        Of the norms.
    padding_idx : int
        Token whose vector gets no gradient.

    Source: Devlin et al. 2018. `load_weights` takes files with Hugging Face's names.
    """

    def __init__(
        self, vocab_size: int = 30522, hidden_size: int = 768, layers: int = 12, heads: int = 12,
        intermediate_size: int = 3072, positions: int = 512, types: int = 2, dropout: float = 0.1, eps: float = 1e-12,
        padding_idx: int | None = 0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.embeddings = BertEmbeddings(vocab_size, hidden_size, positions, types, dropout, eps, padding_idx)
        block = nn.TransformerEncoderLayer(hidden_size, heads, intermediate_size, dropout, "gelu", eps, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, layers)
        self.pooler = nn.Linear(hidden_size, hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal with deviation 0.02, biases zero (Devlin et al. 2018)."""
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, 0, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Bert:
        """The network that a ``config.json`` of Hugging Face describes, its weights not set yet."""
        for name, value in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if config.get(name, value) != value:
                raise ArgumentError(f"Bert.from_config: {name}={config[name]!r}, expected {value!r}; this network is not BERT as "
                                    "published")
        names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                 "max_position_embeddings", "type_vocab_size")  # fmt: skip
        missing = [name for name in names if name not in config]
        if missing:
            raise ArgumentError(f"Bert.from_config: no {', '.join(missing)} in the configuration")
        with nn.init.skip():
            vocab_size, hidden_size, layers, heads, intermediate_size, positions, types = (config[name] for name in names)
            return cls(vocab_size, hidden_size, layers, heads, intermediate_size, positions, types,
                       config.get("hidden_dropout_prob", 0.1), config.get("layer_norm_eps", 1e-12), config.get("pad_token_id", 0))

    @staticmethod
    def published_state(values: Mapping[str, Any]) -> dict[str, Any]:
        """A published file's tensors under the names here; queries, keys and values become one matrix."""
        values = {_published_name(key): value for key, value in values.items()
                  if not key.startswith("cls.") and not key.endswith("position_ids")}  # fmt: skip
        for key in [k for k in values if ".self_attn.query." in k]:
            parts = [key.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            if all(part in values for part in parts):
                fused = np.concatenate([np.asarray(values.pop(part).data) for part in parts])
                values[key.replace(".query.", ".in_proj_")] = pydl.from_numpy(fused)
        return values

    def forward(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None) -> Any:
        ids, mask = pydl.as_tensor(input_ids), None
        if ids.ndim != 2 or 0 in ids.shape:
            raise ShapeError(f"[bert] input_ids of shape {ids.shape}, expected (N, T), at least one token; pad texts "
                             "to one length")
        for name, given in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            if given is not None and tuple(given.shape) != ids.shape:
                raise ShapeError(f"[bert] {name} of shape {tuple(given.shape)}, expected that of input_ids, {ids.shape}")
        if attention_mask is not None:
            padding = pydl.as_tensor(attention_mask).data == 0
            mask = pydl.from_numpy(padding) if padding.any() else None
        return self.encoder(self.embeddings(ids, token_type_ids), src_key_padding_mask=mask, is_causal=False)

    def pool(self, outputs: Any) -> Any:
        """tanh of a linear layer of the first token's output: (N, T, E) -> (N, E), for classification of the text."""
        return pydl.tanh(self.pooler(outputs[:, 0]))


_NAMES = (
    (r"^bert\.", ""), (r"\.gamma$", ".weight"), (r"\.beta$", ".bias"), (r"^pooler\.dense\.", "pooler."),
    (r"^encoder\.layer\.", "encoder.layers."), (r"\.attention\.self\.", ".self_attn."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."), (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".linear1."), (r"(layers\.\d+)\.output\.dense\.", r"\1.linear2."),
    (r"(layers\.\d+)\.output\.LayerNorm\.", r"\1.norm2."),
)  # fmt: skip


def _published_name(key: str) -> str:
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


class SentenceEncoder(nn.Module):
    """A text as one vector of length 1: the mean of the outputs of `Bert` over the tokens. Cosines compare meanings.

    Shapes: input_ids (N, T), attention_mask (N, T) -> (N, hidden_size). `encode` takes texts.

    Parameters
    ----------
    bert : Bert
        The encoder.
    tokenizer
        Of the package tokenizers; needed by `encode` and `tokenize`.
    max_length : int
        Tokens after which a text is cut.

    Source: Reimers and Gurevych 2019.
    """

    def __init__(self, bert: Bert, tokenizer: Any = None, max_length: int = 256) -> None:
        super().__init__()
        self.bert, self.tokenizer, self.max_length = bert, tokenizer, max_length
        if tokenizer is not None:
            tokenizer.enable_truncation(max_length)
            tokenizer.no_padding()

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> SentenceEncoder:
        """From ``config.json``, ``tokenizer.json``, ``model.safetensors`` and maybe ``sentence_bert_config.json``."""
        folder = Path(folder)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ArgumentError(f"SentenceEncoder.from_folder: no {name} in {folder}")
        bert = load_weights(Bert.from_config(json.loads((folder / "config.json").read_text())), folder / "model.safetensors")
        tokenizer = require("tokenizers", "text", "reading tokenizer.json").Tokenizer.from_file(str(folder / "tokenizer.json"))
        options, length = folder / "sentence_bert_config.json", 256
        if options.is_file():
            length = json.loads(options.read_text()).get("max_seq_length", length)
        return cls(bert, tokenizer, length).eval()

    def tokenize(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """(input_ids, attention_mask), int64, padded to the longest text."""
        if self.tokenizer is None:
            raise ArgumentError("SentenceEncoder: it has no tokenizer; give one, or call it with input_ids")
        if isinstance(texts, str):
            raise ArgumentError("SentenceEncoder: texts is one text; expected a list of texts")
        rows = [e.ids for e in self.tokenizer.encode_batch(list(texts))]
        longest = max((len(r) for r in rows), default=0)
        ids, mask = (np.zeros((len(rows), longest), np.int64) for _ in range(2))
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        return pydl.from_numpy(ids), pydl.from_numpy(mask)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        x = self.bert(input_ids, attention_mask)
        if attention_mask is None:
            return pydl.normalize(x.mean(1), dim=1)
        weights = pydl.as_tensor(attention_mask).data.astype(x.data.dtype)
        if (weights.sum(1) == 0).any():
            raise ArgumentError(f"[sentence_encoder] attention_mask leaves no token in row {int(weights.sum(1).argmin())}")
        weights /= weights.sum(1, keepdims=True)
        return pydl.normalize((x * pydl.from_numpy(weights[:, :, None])).sum(1), dim=1)

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Vectors of texts, (len(texts), hidden_size) float32, without dropout or gradients; like lengths share a batch."""
        if isinstance(texts, str):
            raise ArgumentError("SentenceEncoder: texts is one text; expected a list of texts")
        order = np.argsort([-len(t) for t in texts], kind="stable")
        out = np.empty((len(texts), self.bert.hidden_size), np.float32)
        training = self.training
        self.eval()
        try:
            with pydl.no_grad():
                for start in range(0, len(order), batch_size):
                    rows = order[start : start + batch_size]
                    out[rows] = self(*self.tokenize([texts[i] for i in rows])).numpy()
        finally:
            self.train(training)
        return out
