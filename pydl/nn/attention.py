"""Attention layers: multi-head attention with PyTorch's names, its cache, additive and multiplicative attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, DTypeError, GraphError, ShapeError
from pydl.graph.engine import is_grad_enabled, wrap
from pydl.nn import init
from pydl.nn.linear import Linear, new_parameter
from pydl.nn.module import Module
from pydl.ops._common import as_tensor, empty

__all__ = [
    "BahdanauAttention", "KeyValueCache", "LuongAttention", "MultiheadAttention", "masked_softmax",
]


def masked_softmax(scores: Any, blocked: Any = None) -> Any:
    """Softmax over the last axis with the elements where `blocked` is True left out; a row without any left gives zeros."""
    if blocked is not None:
        scores = ops.masked_fill(scores, as_tensor(blocked), -math.inf)
    dead = np.isneginf(scores.data).all(-1, keepdims=True)
    if not dead.any():
        return ops.softmax(scores, -1)
    dead_rows = wrap(dead)
    return ops.masked_fill(ops.softmax(ops.masked_fill(scores, dead_rows, 0.0), -1), dead_rows, 0.0)


class KeyValueCache:
    """Projected keys and values of the positions seen so far: each step of a generation projects the new ones alone.

    With ``fixed=True`` the first call's keys (of an encoder's output) serve all later ones. Only under `pydl.no_grad`.
    """

    def __init__(self, fixed: bool = False) -> None:
        self.fixed = fixed
        self._rows: np.ndarray | None = None  # (capacity, N, 2E): keys beside values
        self.length = 0

    def append(self, rows: np.ndarray) -> np.ndarray:
        """Adds rows (positions, N, 2E) and returns all so far, as a view."""
        if is_grad_enabled():
            raise GraphError("KeyValueCache: cached keys have no gradient; generate under pydl.no_grad()")
        if self._rows is not None and self._rows.shape[1:] != rows.shape[1:]:
            raise ShapeError(f"KeyValueCache: holds (batch, features) = {self._rows.shape[1:]}, got {rows.shape[1:]}; start "
                             "a new cache, or keep the batch")
        total = self.length + rows.shape[0]
        if self._rows is None or self._rows.shape[0] < total:
            grown = empty((max(total, 2 * self.length, 16), *rows.shape[1:]), rows.dtype)
            if self._rows is not None:
                grown[: self.length] = self._rows[: self.length]
            self._rows = grown
        self._rows[self.length : total] = rows
        self.length = total
        return self._rows[:total]

    def all(self) -> np.ndarray:
        """All rows so far: (positions, N, 2E)."""
        if self._rows is None:
            raise ArgumentError("KeyValueCache: nothing cached yet")
        return self._rows[: self.length]

    def select(self, index: Any) -> None:
        """Keep these batch elements, in this order (the survivors of a beam search)."""
        if self._rows is not None:
            self._rows = np.ascontiguousarray(self._rows[:, np.asarray(index)])


def _boolean_or_float(name: str, mask: Any, shapes: list[tuple[int, ...]], like: Any) -> Any:
    """A mask tensor of one of these shapes, boolean or of the dtype of `like`."""
    mask = as_tensor(mask)
    if mask.data.dtype.kind not in "bf":
        raise DTypeError(f"[multi_head_attention] {name} of dtype {mask.data.dtype}; expected bool (True: left out) or floats "
                         "that are added to the scores")
    if mask.data.shape not in shapes:
        expected = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ShapeError(f"[multi_head_attention] {name} of shape {mask.data.shape}; expected {expected}")
    return mask if mask.data.dtype.kind == "b" else mask.to(like.data.dtype)


def _merge(first: Any, second: Any) -> Any:
    """Two masks (True: left out, or added) as one for the kernel: True where the pair takes part, or added."""
    masks = [m for m in (first, second) if m is not None]
    if not masks:
        return None
    if all(m.data.dtype.kind == "b" for m in masks):
        return wrap(~(masks[0].data if len(masks) == 1 else masks[0].data | masks[1].data))
    floats = next(m.data.dtype for m in masks if m.data.dtype.kind == "f")
    masks = [m if m.data.dtype.kind == "f" else wrap(np.where(m.data, -np.inf, 0).astype(floats)) for m in masks]
    return masks[0] if len(masks) == 1 else masks[0] + masks[1]


def _padded_mask(mask: Any, extra: int) -> Any:
    """The mask with `extra` keys at the end that everyone sees."""
    if mask is None or not extra:
        return mask
    free = wrap(np.zeros((*mask.data.shape[:-1], extra), mask.data.dtype))
    return ops.cat([mask, free], -1) if mask.data.dtype.kind == "f" else wrap(np.concatenate([mask.data, free.data], -1))


class MultiheadAttention(Module):
    """Several attentions side by side on learnt projections; names, defaults and numerics are PyTorch's.

    Shapes: query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E) and weights (N, L, S); without N for one sequence;
    (N, L, E) ... with ``batch_first``.

    out = concat(head_1 ... head_H) W_o, head_i = softmax(Q_i K_i^T / sqrt(E / H) + mask) V_i.

    Parameters
    ----------
    dropout
        Of the weights, in training.
    add_bias_kv, add_zero_attn
        One more key and value at the end: learnt, or zero.
    kdim, vdim
        Features of key and value where they differ from embed_dim; the projections are then three parameters, not one.

    Without ``need_weights`` (in `forward`) the weights are never in memory. A query that sees no key gets zeros from every head.
    Source: Vaswani et al. 2017.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ArgumentError(f"MultiheadAttention: embed_dim={embed_dim} must be a positive multiple of num_heads={num_heads}")
        if not 0.0 <= dropout <= 1.0:
            raise ArgumentError(f"MultiheadAttention: dropout={dropout}; expected a probability from 0 to 1")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        same, e = self._qkv_same_embed_dim, embed_dim
        self.register_parameter("in_proj_weight", new_parameter(3 * e, e) if same else None)
        self.register_parameter("q_proj_weight", None if same else new_parameter(e, e))
        self.register_parameter("k_proj_weight", None if same else new_parameter(e, self.kdim))
        self.register_parameter("v_proj_weight", None if same else new_parameter(e, self.vdim))
        self.register_parameter("in_proj_bias", new_parameter(3 * e) if bias else None)
        self.out_proj = Linear(e, e, bias=bias)
        self.register_parameter("bias_k", new_parameter(1, 1, e) if add_bias_kv else None)
        self.register_parameter("bias_v", new_parameter(1, 1, e) if add_bias_kv else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    # ------------------------------------------------------------------ projections
    def _project(self, query: Any, key: Any, value: Any) -> list[Any]:
        """Projections as few and as wide as the inputs allow: queries, keys and values side by side where they are one tensor."""
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is None:
            weights: tuple[Any, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key is value:
            return [ops.linear(query, self.in_proj_weight, bias)]
        else:
            weights = ops.split_rows(self.in_proj_weight, *((e, 2 * e) if key is value else (e, e, e)))
        biases = (None,) * 3 if bias is None else ops.split_rows(bias, *[w.data.shape[0] for w in weights])
        return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=False)]

    def _project_cached(self, query: Any, key: Any, value: Any, cache: KeyValueCache) -> list[Any]:
        """The new queries, and the keys and values of all positions so far."""
        e = self.embed_dim
        if cache.fixed and cache.length:
            weight = self.q_proj_weight if self.in_proj_weight is None else ops.split_rows(self.in_proj_weight, e, 2 * e)[0]
            bias = None if self.in_proj_bias is None else ops.split_rows(self.in_proj_bias, e, 2 * e)[0]
            q, rows = ops.linear(query, weight, bias), cache.all()
        else:
            q, *rest = self._project(query, key, value)
            parts = [x.data for x in rest] if rest else [q.data[..., e:]]
            q = q if rest else wrap(q.data[..., :e])
            new = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
            rows = cache.append(new.swapaxes(0, 1) if self.batch_first else new)
        return [q, wrap(rows.swapaxes(0, 1) if self.batch_first else rows)]

    def _with_extra_keys(self, projected: list[Any]) -> list[Any]:
        """The projections with the learnt and the zero key and value behind them."""
        e, axis = self.embed_dim, 1 if self.batch_first else 0
        parts: list[Any] = []
        for x in projected:
            parts += ops.split(x, e, -1)
        q, k, v = parts
        n = q.data.shape[1 - axis]
        shape = (n, 1, e) if self.batch_first else (1, n, e)
        more_k, more_v = [], []
        if self.bias_k is not None:
            more_k.append(ops.expand(self.bias_k, *shape))
            more_v.append(ops.expand(self.bias_v, *shape))
        if self.add_zero_attn:
            zero = wrap(np.zeros(shape, q.data.dtype))
            more_k.append(zero)
            more_v.append(zero)
        return [q, ops.cat([k, *more_k], axis), ops.cat([v, *more_v], axis)]

    # ------------------------------------------------------------------ forward
    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> tuple[Any, Any]:
        """The attended values and, with ``need_weights``, the weights (of the heads' mean unless ``average_attn_weights=False``).

        Parameters
        ----------
        key_padding_mask
            (N, S) or (S): True for keys to leave out, or floats that are added to the scores.
        attn_mask
            (L, S) or (N * num_heads, L, S), likewise. With ``is_causal`` it is taken to be the causal mask and not read.
        is_causal
            Query i sees keys 0 to i (and those cached before it); needs no attn_mask.
        cache
            Keys and values of earlier positions (see `KeyValueCache`), to which those of `key` and `value` are added.
        """
        self._check(query, key, value)
        batched = query.data.ndim == 3
        if not batched:
            axis = 0 if self.batch_first else 1
            same = query is key is value, key is value
            query = ops.unsqueeze(query, axis)
            key = query if same[0] else ops.unsqueeze(key, axis)
            value = key if same[1] else ops.unsqueeze(value, axis)
        if cache is None:
            projected, before = self._project(query, key, value), 0
        else:
            before = 0 if cache.fixed else cache.length
            projected = self._project_cached(query, key, value, cache)
        n_axis, t_axis = (0, 1) if self.batch_first else (1, 0)
        n, length, keys = query.data.shape[n_axis], query.data.shape[t_axis], projected[-1].data.shape[t_axis]
        extra = (self.bias_k is not None) + self.add_zero_attn
        if extra:
            projected = self._with_extra_keys(projected)
        if is_causal and (extra or need_weights):  # a causal kernel would hide the extra keys
            attn_mask, is_causal = wrap(np.triu(np.ones((length, keys), bool), 1 + before)), False
        mask = self._mask(key_padding_mask, None if is_causal else attn_mask, n, length, keys, extra, query)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            out, weights = self._attend_with_weights(projected, mask, dropout)
            weights = ops.mean(weights, 1) if average_attn_weights else weights
        else:
            out = ops.multi_head_attention(projected, self.num_heads, mask, dropout, is_causal, causal_offset=before,
                                           batch_first=self.batch_first)
        out = self.out_proj(out)
        if not batched:
            out = ops.squeeze(out, n_axis)
            weights = None if weights is None else ops.squeeze(weights, 0)
        return out, weights

    def _mask(self, padding: Any, attn: Any, n: int, length: int, keys: int, extra: int, like: Any) -> Any:
        """Both masks as one, (N or 1, heads or 1, L or 1, S)."""
        if padding is not None:
            shapes: list[tuple[int, ...]] = [(n, keys), *([(keys,)] if n == 1 else [])]
            padding = _boolean_or_float("key_padding_mask", padding, shapes, like)
            padding = ops.reshape(_padded_mask(padding, extra), (n, 1, 1, keys + extra))
        if attn is not None:
            attn = _boolean_or_float("attn_mask", attn, [(length, keys), (n * self.num_heads, length, keys)], like)
            heads = (n, self.num_heads) if attn.data.ndim == 3 else (1, 1)
            attn = ops.reshape(_padded_mask(attn, extra), (*heads, length, keys + extra))
        return _merge(padding, attn)

    def _heads(self, x: Any) -> Any:
        """(L, N, E) or (N, L, E) -> (N, H, L, D)."""
        split = ops.reshape(x, (*x.data.shape[:2], self.num_heads, self.head_dim))
        return ops.permute(split, (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3))

    def _attend_with_weights(self, projected: list[Any], mask: Any, dropout: float) -> tuple[Any, Any]:
        parts: list[Any] = []
        for x in projected:
            parts += ops.split(x, self.embed_dim, -1)
        q, k, v = (self._heads(x) for x in parts)
        scores = ops.matmul(q * (self.head_dim**-0.5), ops.transpose(k, -1, -2))
        if mask is not None and mask.data.dtype.kind == "f":
            scores, mask = scores + mask, None
        weights = masked_softmax(scores, None if mask is None else wrap(~mask.data))
        weights = ops.dropout(weights, dropout)
        out = ops.permute(ops.matmul(weights, v), (0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        return ops.reshape(out, (*out.data.shape[:2], self.embed_dim)), weights

    def _check(self, query: Any, key: Any, value: Any) -> None:
        name, shapes = "[multi_head_attention]", (query.data.shape, key.data.shape, value.data.shape)
        got = "query {}, key {}, value {}".format(*shapes)
        if len({len(s) for s in shapes}) > 1 or len(shapes[0]) not in (2, 3):
            layout = "(N, L, E)" if self.batch_first else "(L, N, E)"
            raise ShapeError(f"{name} expected {layout}, or (L, E) without a batch, for all three; got {got}")
        widths = (self.embed_dim, self.kdim, self.vdim)
        if tuple(s[-1] for s in shapes) != widths:
            raise ShapeError(f"{name} features of query, key and value must be {widths} (embed_dim, kdim, vdim); got {got}")
        axis = 0 if self.batch_first else 1
        if shapes[1][:-1] != shapes[2][:-1] or (len(shapes[0]) == 3 and shapes[0][axis] != shapes[1][axis]):
            raise ShapeError(f"{name} key and value need equal lengths, and all three the same batch on axis {axis}; got {got}")

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


# ---------------------------------------------------------------- attention of recurrent encoder-decoders
class _ScoreAttention(Module):
    """Context = sum of values weighted by softmax(score(query, key)). Subclasses say what the score is."""

    def project_keys(self, keys: Any) -> Any:
        """What `scores` needs of the keys: the same at every step of a decoder, so compute it once and hand it to `forward`."""
        return keys

    def scores(self, query: Any, projected: Any) -> Any:
        raise NotImplementedError

    def forward(
        self, query: Any, keys: Any, values: Any = None, key_padding_mask: Any = None, projected_keys: Any = None
    ) -> tuple[Any, Any]:
        """Shapes: query (N, Q) or (N, L, Q), keys (N, S, K), values (N, S, V) (the keys if None), key_padding_mask (N, S), True
        for keys to leave out -> context (N, V) or (N, L, V), weights (N, S) or (N, L, S)."""
        name, values = type(self).__name__, keys if values is None else values
        if query.data.ndim not in (2, 3) or keys.data.ndim != 3 or values.data.ndim != 3:
            raise ShapeError(f"[{name}] expected query (N, Q) or (N, L, Q), keys (N, S, K) and values (N, S, V); got "
                             f"{query.data.shape}, {keys.data.shape}, {values.data.shape}")
        if query.data.shape[0] != keys.data.shape[0] or keys.data.shape[:2] != values.data.shape[:2]:
            raise ShapeError(f"[{name}] batch (axis 0) and, of keys and values, positions (axis 1) must agree; got query "
                             f"{query.data.shape}, keys {keys.data.shape}, values {values.data.shape}")
        blocked = None
        if key_padding_mask is not None:
            blocked = as_tensor(key_padding_mask)
            if blocked.data.shape != keys.data.shape[:2] or blocked.data.dtype.kind != "b":
                raise ShapeError(f"[{name}] key_padding_mask of shape {blocked.data.shape} and dtype {blocked.data.dtype}; "
                                 f"expected booleans of shape {keys.data.shape[:2]}")
            blocked = ops.unsqueeze(blocked, 1)
        single = query.data.ndim == 2
        query = ops.unsqueeze(query, 1) if single else query
        projected = self.project_keys(keys) if projected_keys is None else projected_keys
        weights = masked_softmax(self.scores(query, projected), blocked)  # [N, L, S]
        context = ops.matmul(weights, values)
        return (ops.squeeze(context, 1), ops.squeeze(weights, 1)) if single else (context, weights)


class BahdanauAttention(_ScoreAttention):
    """Additive attention: score = v^T tanh(W_q query + W_k key) (Bahdanau et al. 2015)."""

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query_layer = Linear(query_size, hidden_size, bias=False)
        self.key_layer = Linear(key_size, hidden_size)
        self.score_layer = Linear(hidden_size, 1, bias=False)

    def project_keys(self, keys: Any) -> Any:
        return self.key_layer(keys)

    def scores(self, query: Any, projected: Any) -> Any:
        hidden = ops.tanh(ops.unsqueeze(self.query_layer(query), 2) + ops.unsqueeze(projected, 1))  # [N, L, S, hidden]
        return ops.squeeze(self.score_layer(hidden), -1)


class LuongAttention(_ScoreAttention):
    """Multiplicative attention (Luong et al. 2015): score = q^T k (``dot``), q^T W k (``general``) or v^T tanh(W [q; k])
    (``concat``).

    With `scaled` the scores of ``dot`` and ``general`` are divided by the root of key_size, as in Vaswani et al. 2017. Without it
    one step of Adam can move them so far, all entries of W together, that the softmax sees one key alone and stays there.
    """

    def __init__(
        self, query_size: int, key_size: int | None = None, method: str = "dot", hidden_size: int | None = None,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        key_size = query_size if key_size is None else key_size
        if method not in ("dot", "general", "concat"):
            raise ArgumentError(f"LuongAttention: method={method!r}; expected 'dot', 'general' or 'concat'")
        if method == "dot" and key_size != query_size:
            raise ArgumentError(f"LuongAttention: 'dot' needs query_size={query_size} and key_size={key_size} to be equal; use "
                                "'general'")
        if scaled and method == "concat":
            raise ArgumentError("LuongAttention: scaled=True is for 'dot' and 'general'; the scores of 'concat' are bounded by v")
        self.method, self.query_size, self.factor = method, query_size, key_size**-0.5 if scaled else 1.0
        if method == "general":
            self.weight = new_parameter(query_size, key_size)
        elif method == "concat":
            hidden = query_size if hidden_size is None else hidden_size
            self.weight = new_parameter(hidden, query_size + key_size)
            self.score_layer = Linear(hidden, 1, bias=False)
        if method != "dot":
            init.inv_sqrt_(self.weight)

    def project_keys(self, keys: Any) -> Any:
        if self.method == "dot":
            return keys
        return ops.linear(keys, self.weight if self.method == "general" else self.weight[:, self.query_size :])

    def scores(self, query: Any, projected: Any) -> Any:
        if self.method != "concat":
            scores = ops.matmul(query, ops.transpose(projected, 1, 2))
            return scores if self.factor == 1.0 else scores * self.factor
        q = ops.linear(query, self.weight[:, : self.query_size])  # W [q; k] = W_q q + W_k k
        return ops.squeeze(self.score_layer(ops.tanh(ops.unsqueeze(q, 2) + ops.unsqueeze(projected, 1))), -1)

    def extra_repr(self) -> str:
        return f"method={self.method!r}" + (", scaled=True" if self.factor != 1.0 else "")
