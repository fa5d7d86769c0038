"""Attention: softmax(scale * Q K^T + mask) V without the L x S matrix (kernels: csrc/cpu/attention.cpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import broadcast_shapes, check_floating, empty, memory_order, sum_to_shape
from pydl.ops.convert import cast
from pydl.ops.shape import cat, expand, reshape

__all__ = ["multi_head_attention", "scaled_dot_product_attention", "split_rows"]


class AttentionOptions(NamedTuple):
    """What the kernel needs beside the tensors; the place in the random stream (seed and offset) fixes the dropout mask."""

    scale: float
    causal_offset: int | None = None
    dropout_p: float = 0.0
    place: tuple[int, int] = (0, 0)


def _new_rows(like: np.ndarray, features: int | None = None) -> np.ndarray:
    """An array of shape (N, H, L, features) with the axis order of `like` in memory, features adjacent."""
    order = [a for a in memory_order(like) if a != 3] + [3]
    return _core.empty((*like.shape[:3], like.shape[3] if features is None else features), like.dtype, order)


def _mask_on_heads(op: str, mask: np.ndarray | None, full: Shape) -> np.ndarray | None:
    """The mask with four axes, or `ShapeError`."""
    if mask is None:
        return None
    try:
        fits = np.broadcast_shapes(mask.shape, full) == full
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"[{op}] attn_mask of shape {mask.shape} does not broadcast to (batch, heads, queries, keys) = {full}; a mask of the "
            "keys alone needs shape (batch, 1, 1, keys)"
        )
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def _attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, o: AttentionOptions, out: np.ndarray
) -> np.ndarray:
    """Fills `out`; returns the log2-sums of the exponentials, all that backward needs beside the inputs."""
    log_sum = empty(q.shape[:3], q.dtype)
    _core.attention(q, k, v, mask, o.scale, o.causal_offset, o.dropout_p, *o.place, out, log_sum)
    return log_sum


def _cost(q: Shape, k: Shape, v: Shape, causal: bool, itemsize: int) -> Cost:
    pairs = q[0] * q[1] * q[2] * k[2] // (2 if causal else 1)
    moved = math.prod(q) + math.prod(k) + math.prod(v) + math.prod(q[:3]) * v[3]
    return Cost(2 * pairs * (q[3] + v[3]), moved * itemsize)


class ScaledDotProductAttention(Op):
    """(N, H, L, E) x (N, G, S, E) x (N, G, S, F) -> (N, H, L, F); H a multiple of G."""

    name = "scaled_dot_product_attention"

    @classmethod
    def shape(cls, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, options: AttentionOptions) -> Shape:
        _check_shapes(q.shape, k.shape, v.shape)
        _mask_on_heads(cls.name, mask, (*q.shape[:3], k.shape[2]))
        return (*q.shape[:3], v.shape[3])

    @classmethod
    def forward(
        cls, ctx: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, options: AttentionOptions
    ) -> np.ndarray:
        cls.shape(q, k, v, mask, options)
        check_floating(cls.name, query=q, key=k, value=v)
        out = _new_rows(q, v.shape[3])
        log_sum = _attend(q, k, v, _mask_on_heads(cls.name, mask, (*q.shape[:3], k.shape[2])), options, out)
        ctx.save(q, k, v, mask, out, log_sum)
        ctx.options = options
        return out

    @classmethod
    def backward(cls, ctx: Any, g: np.ndarray) -> Any:
        q, k, v, mask, out, log_sum = ctx.saved
        dq, dk, dv = _new_rows(q), _new_rows(k), _new_rows(v)
        full = (*q.shape[:3], k.shape[2])
        dmask = empty(full, q.dtype) if ctx.needs[3] else None
        o = ctx.options
        _core.attention_backward(q, k, v, _mask_on_heads(cls.name, mask, full), o.scale, o.causal_offset, o.dropout_p, *o.place,
                                 out, log_sum, g, dq, dk, dv, dmask)
        return dq, dk, dv, None if dmask is None else _sum_array(dmask, mask.shape)

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        q, k, v, _, options = args
        return _cost(q.shape, k.shape, v.shape, options.causal_offset is not None, q.itemsize)

    @classmethod
    def backward_cost(cls, forward: Cost, needs: tuple[bool, ...], *args: Any) -> Cost:
        """Five products for the forward's two: the scores again, and the gradients of weights, q, k and v."""
        return Cost(5 * forward.flops // 2, 2 * forward.bytes)


def _sum_array(array: np.ndarray, shape: Shape) -> np.ndarray:
    from pydl.graph.engine import wrap

    return sum_to_shape(wrap(array), shape).data


def _check_shapes(q: Shape, k: Shape, v: Shape) -> None:
    name = "[scaled_dot_product_attention]"
    if q[-1] != k[-1]:
        raise ShapeError(f"{name} query {q} has {q[-1]} features, key {k} has {k[-1]}; they must agree")
    if k[:-1] != v[:-1]:
        raise ShapeError(f"{name} key {k} and value {v} must agree in all axes but the last (batch, heads, positions)")
    if q[0] != k[0] or (k[1] and q[1] % k[1]) or (q[1] and not k[1]):
        raise ShapeError(
            f"{name} query {q} and key {k}: the batch axes must agree, and the heads of query be a multiple of those of key"
        )


def _check_options(name: str, dropout_p: float) -> None:
    if not 0.0 <= dropout_p <= 1.0:
        raise ArgumentError(f"[{name}] dropout_p={dropout_p}; expected a probability from 0 to 1")


def _mask_tensor(name: str, mask: Any, like: Any) -> Any:
    """A boolean mask as it is, another as floats of the query's dtype."""
    from pydl.ops._common import as_tensor

    if mask is None:
        return None
    mask = as_tensor(mask)
    kind = mask.data.dtype.kind
    if kind == "b":
        return mask
    if kind != "f":
        raise DTypeError(
            f"[{name}] attn_mask of dtype {mask.data.dtype}; expected bool (True: the pair takes part) or floats that are added; "
            "convert with .to(pydl.bool)"
        )
    return cast(mask, like.data.dtype)


def draw_options(scale: float, causal_offset: int | None, dropout_p: float, generator: Any, rows: int, keys: int) -> Any:
    """Options with a piece of the random stream for the dropout mask, when there is dropout."""
    if not dropout_p or not rows * keys:
        return AttentionOptions(scale, causal_offset)
    from pydl.random import default_generator

    place = (generator or default_generator).reserve(_core.attention_random_blocks(rows, keys))
    return AttentionOptions(scale, causal_offset, dropout_p, place)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    causal_offset: int = 0,
    generator: Any = None,
) -> Any:
    """softmax(scale * Q K^T + mask) V, in blocks: memory grows with L + S, not with L * S.

    Products follow `pydl.autocast` and `pydl.set_float32_matmul_precision`; softmax is float32.

    Shapes: query (..., H, L, E), key (..., H, S, E), value (..., H, S, F) -> (..., H, L, F); the leading axes broadcast.

    Parameters
    ----------
    attn_mask
        Broadcasts to (..., H, L, S). Boolean: True where the query may look at the key. Floating: added to the scores (and
        differentiated). A query that sees no key gives zeros.
    dropout_p
        Probability of dropping each weight; the rest is divided by 1 - dropout_p.
    is_causal
        Query i sees keys 0 to i + causal_offset only; together with attn_mask, both hold.
    scale
        1 / sqrt(E) if None.
    enable_gqa
        Let groups of H / G query heads share each of G heads of key and value (Ainslie et al. 2023).
    causal_offset
        How many keys come before the first query (those of a cache, when text is generated).
    generator
        Source of the dropout mask; the default generator if None.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Naming the argument that does not fit.

    Source: Vaswani et al. 2017; the blockwise algorithm is that of Dao et al. 2022 (FlashAttention).
    """
    name = "scaled_dot_product_attention"
    _check_options(name, dropout_p)
    shapes = {"query": query.data.shape, "key": key.data.shape, "value": value.data.shape}
    ndim = max(len(s) for s in shapes.values())
    if min(len(s) for s in shapes.values()) < 2:
        raise ShapeError(f"[{name}] expected (..., positions, features) with at least two axes, got {shapes}")
    heads_apart = enable_gqa and ndim > 2
    if not heads_apart and ndim > 2 and len({s[:-2] for s in shapes.values()}) > 1:
        lead = broadcast_shapes(name, **{k: s[:-2] for k, s in shapes.items()})
        query, key, value = (expand(x, *lead, *x.data.shape[-2:]) for x in (query, key, value))
    lead = query.data.shape[:-2]
    mask = _mask_tensor(name, attn_mask, query)
    if ndim != 4:
        query, key, value = (_four(x) for x in (query, key, value))
        if mask is not None and ndim > 4 and mask.data.ndim > 2:
            full = mask.data.shape[-2:]
            mask = _four(expand(mask, *np.broadcast_shapes(mask.data.shape[:-2], lead), *full))
        elif mask is not None and ndim == 3 and mask.data.ndim == 3:  # (N, L, S): the axis before L counts the batch
            mask = _four(mask)
    _check_shapes(query.data.shape, key.data.shape, value.data.shape)
    if not enable_gqa and query.data.shape[1] != key.data.shape[1]:
        raise ShapeError(f"[{name}] query has {query.data.shape[1]} heads, key {key.data.shape[1]}; set enable_gqa=True")
    scale = 1 / math.sqrt(max(query.data.shape[-1], 1)) if scale is None else float(scale)
    n, h, rows = query.data.shape[:3]
    options = draw_options(scale, int(causal_offset) if is_causal else None, float(dropout_p), generator, n * h * rows,
                           key.data.shape[2])
    out = apply(ScaledDotProductAttention, query, key, value, mask, options)
    return out if ndim == 4 else reshape(out, (*lead, *out.data.shape[-2:]))


def _four(x: Any) -> Any:
    """(..., H, T, D) as (N, H, T, D); (N, T, D) as (N, 1, T, D)."""
    shape = x.data.shape
    if len(shape) <= 3:
        return reshape(x, (*shape[:-2], *(1,) * (4 - len(shape)), *shape[-2:]))
    return reshape(x, (math.prod(shape[:-3]), *shape[-3:]))


def _on_heads(x: np.ndarray, heads: int, batch_first: bool, parts: int = 1, part: int = 0) -> np.ndarray:
    """A view (N, H, T, D) of part `part` of the last axis of (T, N, parts * H * D), or of (N, T, parts * H * D)."""
    a, b, width = x.shape
    split = x.reshape(a, b, parts, heads, width // (parts * heads))[:, :, part]
    return split.transpose((0, 2, 1, 3) if batch_first else (1, 2, 0, 3))


class MultiHeadAttention(Op):
    """Attention on projections as a linear layer leaves them: heads side by side in the last axis, nothing is copied.

    One array holds queries, keys and values side by side; or two: queries, and keys beside values; or three.
    """

    name = "multi_head_attention"

    @staticmethod
    def shape(heads: int, batch_first: bool, options: AttentionOptions, mask: Any, *projected: np.ndarray) -> Shape:
        width = projected[0].shape[-1] // (3 if len(projected) == 1 else 1)
        return (*projected[0].shape[:2], width)

    @staticmethod
    def _heads(projected: Sequence[np.ndarray], heads: int, batch_first: bool) -> list[np.ndarray]:
        """Views (N, H, T, D) of queries, keys and values."""
        parts = {1: (3,), 2: (1, 2), 3: (1, 1, 1)}[len(projected)]
        return [_on_heads(x, heads, batch_first, n, i) for x, n in zip(projected, parts, strict=True) for i in range(n)]

    @classmethod
    def forward(
        cls, ctx: Any, heads: int, batch_first: bool, options: AttentionOptions, mask: np.ndarray | None, *projected: np.ndarray
    ) -> np.ndarray:
        check_floating(cls.name, **{f"projected[{i}]": x for i, x in enumerate(projected)})
        q, k, v = cls._heads(projected, heads, batch_first)
        _check_shapes(q.shape, k.shape, v.shape)
        out = empty(cls.shape(heads, batch_first, options, mask, *projected), q.dtype)
        full = (*q.shape[:3], k.shape[2])
        log_sum = _attend(q, k, v, _mask_on_heads(cls.name, mask, full), options, _on_heads(out, heads, batch_first))
        ctx.save(mask, out, log_sum, *projected)
        ctx.settings = heads, batch_first, options
        return out

    @classmethod
    def backward(cls, ctx: Any, g: np.ndarray) -> Any:
        mask, out, log_sum, *projected = ctx.saved
        heads, batch_first, o = ctx.settings
        q, k, v = cls._heads(projected, heads, batch_first)
        grads = [empty(x.shape, x.dtype) for x in projected]
        dq, dk, dv = cls._heads(grads, heads, batch_first)
        rows, dout = (_on_heads(x, heads, batch_first) for x in (out, g))
        full = (*q.shape[:3], k.shape[2])
        dmask = empty(full, q.dtype) if ctx.needs[3] else None
        _core.attention_backward(q, k, v, _mask_on_heads(cls.name, mask, full), o.scale, o.causal_offset, o.dropout_p, *o.place,
                                 rows, log_sum, dout, dq, dk, dv, dmask)
        return (None, None, None, None if dmask is None else _sum_array(dmask, mask.shape), *grads)

    @classmethod
    def cost(cls, out_shape: Shape, *args: Any) -> Cost:
        heads, batch_first, options, _, *projected = args
        q, k, v = cls._heads(projected, heads, batch_first)
        return _cost(q.shape, k.shape, v.shape, options.causal_offset is not None, q.itemsize)


def multi_head_attention(
    projected: Any, num_heads: int, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, *,
    causal_offset: int = 0, batch_first: bool = False, generator: Any = None,
) -> Any:
    """Attention of several heads on projections whose last axis holds the heads side by side: no transposes, no copies.

    Shapes: `projected` is a list of one tensor (L, N, 3E) (queries, keys, values), of two, (L, N, E) and (S, N, 2E), or of
    three, (L, N, E), (S, N, E) and (S, N, E) -> (L, N, E). With ``batch_first`` the first two axes are swapped. The mask
    broadcasts to (N, num_heads, L, S) and follows `scaled_dot_product_attention`.

    Raises
    ------
    ShapeError, ArgumentError
        If the widths do not divide into heads or the mask does not fit.
    """
    name = "multi_head_attention"
    _check_options(name, dropout_p)
    shapes = [x.data.shape for x in projected]
    if not 1 <= len(shapes) <= 3 or any(len(s) != 3 for s in shapes):
        raise ShapeError(f"[{name}] expected one to three projections of three axes, got shapes {shapes}")
    width = shapes[0][-1] // (3 if len(shapes) == 1 else 1)
    expected = {1: [3 * width], 2: [width, 2 * width], 3: [width] * 3}[len(shapes)]
    if [s[-1] for s in shapes] != expected or num_heads < 1 or width % num_heads:
        raise ShapeError(
            f"[{name}] projections of shapes {shapes} do not divide into {num_heads} heads; expected widths {expected}"
        )
    batch, queries = (0, 1) if batch_first else (1, 0)
    rows = shapes[0][batch] * num_heads * shapes[0][queries]
    options = draw_options(1 / math.sqrt(max(width // num_heads, 1)), int(causal_offset) if is_causal else None, float(dropout_p),
                           generator, rows, shapes[-1][queries])
    return apply(MultiHeadAttention, num_heads, batch_first, options, _mask_tensor(name, attn_mask, projected[0]), *projected)


class SplitRows(Op):
    """One tensor as several blocks of rows; their gradients are joined at once, not added one by one."""

    name, backward_on_tensors, is_view = "split_rows", True, True

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *sizes: int) -> Any:
        if sum(sizes) != x.shape[0]:
            raise ShapeError(
                f"[split_rows] sizes {sizes} add up to {sum(sizes)}, the tensor of shape {x.shape} has {x.shape[0]} rows"
            )
        return tuple(np.split(x, np.cumsum(sizes)[:-1]))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return cat(list(grads))


def split_rows(input: Any, *sizes: int) -> tuple[Any, ...]:
    """Consecutive blocks of rows, as views: ``split_rows(x, 2, 3)`` gives x[:2] and x[2:5]."""
    return tuple(apply(SplitRows, input, *sizes))
