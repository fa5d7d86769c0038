"""Attention layers beyond what PyTorch has: the cache, additive and multiplicative attention, positions; and error messages."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, DTypeError, GraphError, ShapeError

RNG = np.random.default_rng


def randn(*shape, seed=0, grad=False):
    return pydl.tensor(RNG(seed).normal(size=shape), requires_grad=grad)


# ---------------------------------------------------------------- generation
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pieces", [(1,) * 7, (3, 1, 3), (7,)])
def test_cached_generation_equals_the_whole_sequence(batch_first, pieces):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8)).double()
    axis = 1 if batch_first else 0
    x = randn(*((3, 7, 8) if batch_first else (7, 3, 8)))
    with pydl.no_grad():
        whole = encoder(x, is_causal=True)
        cache, start, parts = encoder.make_cache(), 0, []
        for n in pieces:
            parts.append(encoder(pydl.narrow(x, axis, start, n), is_causal=True, cache=cache))
            start += n
    np.testing.assert_allclose(pydl.cat(parts, axis).numpy(), whole.numpy(), atol=1e-12)
    assert cache[0].length == 7


@pytest.mark.parametrize("batch_first", [False, True])
def test_cached_decoder_equals_the_whole_sequence(batch_first):
    model = nn.Transformer(8, 2, 1, 2, 16, 0.0, batch_first=batch_first).double()
    axis = 1 if batch_first else 0
    src, tgt = (randn(*((2, n, 8) if batch_first else (n, 2, 8)), seed=n) for n in (6, 5))
    padding = pydl.tensor(np.array([[False] * 6, [False] * 4 + [True] * 2]))
    with pydl.no_grad():
        memory = model.encoder(src, src_key_padding_mask=padding)
        whole = model.decoder(tgt, memory, tgt_is_causal=True, memory_key_padding_mask=padding)
        cache = model.decoder.make_cache()
        steps = [model.decoder(pydl.narrow(tgt, axis, i, 1), memory, tgt_is_causal=True, memory_key_padding_mask=padding,
                               cache=cache) for i in range(5)]
    np.testing.assert_allclose(pydl.cat(steps, axis).numpy(), whole.numpy(), atol=1e-12)


def test_cache_follows_the_beams():
    layer = nn.MultiheadAttention(8, 2).double()
    x = randn(4, 3, 8)
    beams = np.array([2, 0, 0])
    with pydl.no_grad():
        cache = nn.KeyValueCache()
        first = x[:3]
        layer(first, first, first, need_weights=False, is_causal=True, cache=cache)
        cache.select(beams)
        new = x[3:]
        out, _ = layer(new, new, new, need_weights=False, is_causal=True, cache=cache)
        rows = pydl.tensor(np.concatenate([x.numpy()[:3, beams], x.numpy()[3:]]))
        expected, _ = layer(rows, rows, rows, need_weights=False, is_causal=True)
    np.testing.assert_allclose(out.numpy()[0], expected.numpy()[3], atol=1e-12)


def test_cache_refuses_what_it_cannot_do():
    layer, x = nn.MultiheadAttention(8, 2), pydl.randn(1, 3, 8)
    with pytest.raises(GraphError, match="no_grad"):
        layer(x, x, x, cache=nn.KeyValueCache())
    cache = nn.KeyValueCache()
    with pydl.no_grad():
        layer(x, x, x, cache=cache)
        other = pydl.randn(1, 2, 8)
        with pytest.raises(ShapeError, match=r"holds \(batch, features\) = \(3, 16\), got \(2, 16\)"):
            layer(other, other, other, cache=cache)


# ---------------------------------------------------------------- multi-head attention
@pytest.mark.parametrize("need_weights", [True, False])
def test_fully_masked_rows_give_the_output_bias(need_weights):
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double()
    pydl.nn.init.normal_(layer.out_proj.bias)
    x = randn(2, 3, 8, grad=True)
    padding = pydl.tensor(np.array([[True, True, True], [False, False, True]]))
    out, weights = layer(x, x, x, key_padding_mask=padding, need_weights=need_weights)
    out.sum().backward()
    np.testing.assert_allclose(out.detach().numpy()[0], np.tile(layer.out_proj.bias.detach().numpy(), (3, 1)), atol=1e-12)
    assert np.isfinite(x.grad.numpy()).all()
    assert not x.grad.numpy()[0].any()
    assert x.grad.numpy()[1].any()
    if need_weights:
        assert not weights.detach().numpy()[0].any()
        np.testing.assert_allclose(weights.detach().numpy()[1].sum(-1), 1)


def test_dropout_of_weights_in_training_only():
    layer = nn.MultiheadAttention(16, 2, dropout=0.5)
    x = pydl.randn(9, 2, 16)
    pydl.manual_seed(0)
    first, second = (layer(x, x, x, need_weights=False)[0].detach().numpy() for _ in range(2))
    pydl.manual_seed(0)
    again = layer(x, x, x, need_weights=False)[0].detach().numpy()
    assert np.array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3
    layer.eval()
    plain, (with_weights, _) = layer(x, x, x, need_weights=False)[0], layer(x, x, x)
    np.testing.assert_allclose(plain.detach().numpy(), with_weights.detach().numpy(), atol=1e-6)


def test_weights_have_gradients():
    layer = nn.MultiheadAttention(4, 2).double()
    x = randn(3, 1, 4, grad=True)
    assert gradcheck(lambda x: layer(x, x, x), x)


# ---------------------------------------------------------------- recurrent encoder-decoders
def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scores_of(layer, q, k):
    """Query by query, key by key, as the papers write it."""
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    n, length, keys = q.shape[0], q.shape[1], k.shape[1]
    out = np.zeros((n, length, keys))
    for b, i, j in np.ndindex(n, length, keys):
        a, c = q[b, i], k[b, j]
        if isinstance(layer, nn.BahdanauAttention):
            hidden = np.tanh(w["query_layer.weight"] @ a + w["key_layer.weight"] @ c + w["key_layer.bias"])
            out[b, i, j] = w["score_layer.weight"][0] @ hidden
        elif layer.method == "dot":
            out[b, i, j] = a @ c
        elif layer.method == "general":
            out[b, i, j] = a @ w["weight"] @ c
        else:
            out[b, i, j] = w["score_layer.weight"][0] @ np.tanh(w["weight"] @ np.concatenate([a, c]))
    return out


@pytest.mark.parametrize("make", [
    lambda: nn.BahdanauAttention(4, 6, 5), lambda: nn.LuongAttention(4), lambda: nn.LuongAttention(4, 6, "general"),
    lambda: nn.LuongAttention(4, 6, "concat", 7),
], ids=["bahdanau", "dot", "general", "concat"])
def test_score_attention(make):
    layer = make().double()
    key_size = 4 if getattr(layer, "method", "") == "dot" else 6
    q, k, v = randn(2, 3, 4, grad=True), randn(2, 5, key_size, seed=1, grad=True), randn(2, 5, 3, seed=2, grad=True)
    blocked = np.array([[False, False, True, False, True], [False] * 5])
    context, weights = layer(q, k, v, pydl.tensor(blocked))
    scores = scores_of(layer, q.detach().numpy(), k.detach().numpy())
    expected = softmax(np.where(blocked[:, None], -np.inf, scores))
    np.testing.assert_allclose(weights.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(context.detach().numpy(), expected @ v.detach().numpy(), atol=1e-12)
    assert gradcheck(lambda *x: layer(*x, pydl.tensor(blocked)), (q, k, v))
    assert gradcheck(lambda *p: layer(q.detach(), k.detach()), tuple(layer.parameters())) if key_size == 6 else True
    step, step_weights = layer(q[:, 1], k, v, pydl.tensor(blocked), projected_keys=layer.project_keys(k))
    np.testing.assert_allclose(step.detach().numpy(), context.detach().numpy()[:, 1], atol=1e-12)
    assert step_weights.shape == (2, 5)
    dead, _ = layer(q, k, v, pydl.tensor(np.ones((2, 5), bool)))
    assert not dead.detach().numpy().any()


# ---------------------------------------------------------------- positions
def test_sinusoidal_positions():
    out = nn.PositionalEncoding(7, 50)(pydl.zeros(50, 1, 7)).numpy()[:, 0]
    for t, i in ((0, 0), (3, 0), (3, 1), (49, 4), (49, 5), (20, 6)):
        angle = t / 10000 ** (2 * (i // 2) / 7)
        assert out[t, i] == pytest.approx(np.cos(angle) if i % 2 else np.sin(angle), abs=1e-6)


@pytest.mark.parametrize("make", [nn.PositionalEncoding, nn.LearnedPositionalEncoding])
def test_added_positions(make):
    layer = make(6, 9, batch_first=True)
    whole = layer(pydl.zeros(2, 9, 6)).detach().numpy()
    np.testing.assert_array_equal(whole[0], whole[1])
    np.testing.assert_array_equal(layer(pydl.zeros(2, 3, 6), offset=4).detach().numpy(), whole[:, 4:7])
    sequence_first = make(6, 9)
    sequence_first.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(sequence_first(pydl.zeros(9, 2, 6)).detach().numpy().swapaxes(0, 1), whole)
    np.testing.assert_array_equal(sequence_first(pydl.zeros(9, 6)).detach().numpy(), whole[0])
    with pytest.raises(ShapeError, match=r"positions 4 to 9 .*max_len=9"):
        layer(pydl.zeros(2, 6, 6), offset=4)
    with pytest.raises(ShapeError, match="the last of 6 features"):
        layer(pydl.zeros(2, 6, 5))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_distance(interleaved):
    layer = nn.RotaryEmbedding(8, interleaved=interleaved)
    q, k = randn(1, 8).numpy(), randn(1, 8, seed=1).numpy()
    rows = layer(pydl.tensor(np.tile(q, (20, 1)))).numpy(), layer(pydl.tensor(np.tile(k, (20, 1)))).numpy()
    products = rows[0] @ rows[1].T
    for distance in (0, 3, 7):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-12)
    assert np.ptp(products) > 0.1
    assert products[0, 0] == pytest.approx((q @ k.T).item())
    np.testing.assert_allclose(layer(pydl.tensor(np.tile(q, (3, 1))), offset=5).numpy(), rows[0][5:8], atol=1e-12)
    pairs = [(0, 1), (6, 7)] if interleaved else [(0, 4), (3, 7)]
    frequencies = (1.0, 10000 ** (-6 / 8))
    for (a, b), f in zip(pairs, frequencies, strict=True):  # the paper's rotation by hand, at position 2
        c, s = np.cos(2 * f), np.sin(2 * f)
        np.testing.assert_allclose(rows[0][2, [a, b]], [c * q[0, a] - s * q[0, b], s * q[0, a] + c * q[0, b]], atol=1e-12)
    assert gradcheck(layer, randn(2, 3, 8, grad=True))


# ---------------------------------------------------------------- errors
def z(*shape):
    return pydl.zeros(*shape)


@pytest.mark.parametrize(("call", "kind", "pattern"), [
    (lambda: nn.MultiheadAttention(10, 3), ArgumentError, "embed_dim=10 must be a positive multiple of num_heads=3"),
    (lambda: nn.MultiheadAttention(8, 2, dropout=2), ArgumentError, "dropout=2"),
    (lambda: nn.MultiheadAttention(8, 2)(z(3, 1, 8), z(3, 1, 8), z(3, 1, 6)), ShapeError, r"must be \(8, 8, 8\)"),
    (lambda: nn.MultiheadAttention(8, 2)(z(3, 1, 8), z(3, 2, 8), z(3, 2, 8)), ShapeError, "the same batch on axis 1"),
    (lambda: nn.MultiheadAttention(8, 2)(z(3, 1, 8), z(3, 8), z(3, 8)), ShapeError, r"expected \(L, N, E\)"),
    (lambda: nn.MultiheadAttention(8, 2)(*[z(3, 1, 8)] * 3, key_padding_mask=pydl.tensor(np.zeros((1, 4), bool))), ShapeError,
     r"key_padding_mask of shape \(1, 4\); expected \(1, 3\)"),
    (lambda: nn.MultiheadAttention(8, 2)(*[z(3, 4, 8)] * 3, attn_mask=z(3, 4)), ShapeError,
     r"attn_mask of shape \(3, 4\); expected \(3, 3\) or \(8, 3, 3\)"),
    (lambda: nn.MultiheadAttention(8, 2)(*[z(3, 1, 8)] * 3, attn_mask=pydl.tensor(np.zeros((3, 3), int))), DTypeError, "int64"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanhh"), ArgumentError, "'relu', 'gelu' or a function"),
    (lambda: nn.Transformer(8, 2, 1, 1, 8)(z(3, 2, 8), z(3, 1, 8)), ShapeError, "same batch on axis 1"),
    (lambda: nn.Transformer(8, 2, 1, 1, 8)(z(3, 2, 6), z(3, 2, 6)), ShapeError, "need 8 features"),
    (lambda: nn.LuongAttention(4, 5), ArgumentError, "use 'general'"),
    (lambda: nn.LuongAttention(4, 5, "add"), ArgumentError, "'dot', 'general' or 'concat'"),
    (lambda: nn.BahdanauAttention(4, 4, 4)(z(2, 4), z(3, 5, 4)), ShapeError, "batch .axis 0."),
    (lambda: nn.BahdanauAttention(4, 4, 4)(z(2, 4), z(2, 5, 4), key_padding_mask=pydl.tensor(np.zeros((2, 4), bool))), ShapeError,
     r"expected booleans of shape \(2, 5\)"),
    (lambda: nn.RotaryEmbedding(5), ArgumentError, "even number"),
    (lambda: nn.RotaryEmbedding(4)(z(3, 6)), ShapeError, "expected head_dim=4"),
])
def test_errors(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


def test_layer_names_the_module_in_its_error():
    with pytest.raises(ShapeError, match=r"in module .*0.self_attn"):
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 1)(z(3, 1, 6))
