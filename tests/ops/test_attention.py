"""Attention against the plain formula in float64 NumPy: masks, sizes around every block, dropout, threads, memory, errors."""

import numpy as np
import pytest
from records import ISAS, OpRecord, assert_close, draw, instruction_set, run_records, threads

import pydl
from pydl import _core
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.ops import multi_head_attention, scaled_dot_product_attention, split_rows

sdpa = scaled_dot_product_attention


def plain(q, k, v, mask=None, causal=False, offset=0, factors=1.0, scale=None):
    """softmax(scale * Q K^T + mask) V, the whole matrix at once; `factors` are those of dropout."""
    repeats = q.shape[-3] // k.shape[-3] if q.ndim > 2 and k.shape[-3] else 1
    k, v = (np.repeat(x, repeats, axis=-3) if x.ndim > 2 else x for x in (k, v))
    s = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        i, j = np.indices(s.shape[-2:])
        s = np.where(j <= i + offset, s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isfinite(top), top, 0.0))
    total = e.sum(-1, keepdims=True)
    return np.where(total > 0, e / np.where(total > 0, total, 1.0), 0.0) * factors @ v


def qkv(*shape_q, s=None, f=None, g=None):
    """Makers of query (N, H, L, E), key (N, G, S, E), value (N, G, S, F)."""
    *lead, n, e = shape_q
    keys = n if s is None else s
    lead_k = lead if g is None else [*lead[:-1], g]
    return draw(*shape_q), draw(*lead_k, keys, e), draw(*lead_k, keys, e if f is None else f)


def masked(shape, keep=0.7, seed=3):
    mask = np.random.default_rng(seed).random(shape) < keep
    mask[..., 0] |= True
    return mask


BOOL = masked((2, 1, 3, 5))
DEAD = BOOL.copy()
DEAD[1, 0, 2] = False
BIAS = np.random.default_rng(5).normal(size=(2, 3, 5))
BIAS[0, 1, 2:] = -np.inf
HALF_DEAD = BIAS.copy()
HALF_DEAD[1, 2] = -np.inf
INPUTS = qkv(2, 2, 3, 2, s=5, f=3)


def record(name, inputs, mask=None, **options):
    reference = {"causal": options.get("is_causal", False), "offset": options.get("causal_offset", 0),
                 "scale": options.get("scale")}

    def run(q, k, v):
        return scaled_dot_product_attention(
            q, k, v, mask if mask is None or mask.dtype == bool else pydl.tensor(mask.astype(q.dtype)), **options)

    return OpRecord(name, run, lambda q, k, v: plain(q, k, v, mask, **reference), inputs, rtol=5e-6, large=LARGE.get(name))


LARGE = {"plain": qkv(2, 3, 300, 40, s=500), "causal": qkv(1, 2, 700, 33, s=700), "grouped": qkv(1, 4, 130, 16, s=500, g=2)}
RECORDS = [
    record("plain", INPUTS),
    record("causal", qkv(1, 1, 6, 3), is_causal=True),
    record("causal_wide", qkv(1, 1, 4, 3, s=6), is_causal=True),
    record("causal_tall", qkv(1, 1, 6, 3, s=4), is_causal=True),
    record("causal_offset", qkv(1, 1, 3, 3, s=9), is_causal=True, causal_offset=6),
    record("causal_nothing", qkv(1, 1, 6, 2, s=6), is_causal=True, causal_offset=-3),
    record("bool_mask", INPUTS, BOOL),
    record("key_mask", INPUTS, masked((2, 1, 1, 5))),
    record("row_mask", INPUTS, masked((3, 5))),
    record("dead_rows", INPUTS, DEAD),
    record("bias", INPUTS, BIAS),
    record("bias_dead", INPUTS, HALF_DEAD),
    record("mask_and_causal", qkv(2, 1, 4, 3, s=4), masked((2, 1, 1, 4)), is_causal=True),
    record("scale", INPUTS, scale=1.3),
    record("grouped", qkv(1, 4, 3, 2, s=4, g=2), enable_gqa=True),
    record("two_axes", (draw(5, 3), draw(6, 3), draw(6, 2))),
    record("three_axes", (draw(2, 5, 3), draw(2, 6, 3), draw(2, 6, 2)), masked((2, 5, 6))),
    record("five_axes", (draw(2, 1, 2, 3, 2), draw(2, 1, 2, 4, 2), draw(2, 1, 2, 4, 1)), masked((2, 1, 1, 3, 4))),
    record("one_query", qkv(1, 2, 1, 5, s=6)),
    record("one_key", qkv(1, 2, 6, 4, s=1)),
    record("one_of_all", (draw(1, 1, 1, 2), draw(1, 1, 1, 2), draw(1, 1, 1, 3))),
]
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("queries", "keys"), [(14, 224), (15, 225), (113, 241), (240, 31), (505, 260), (3, 900)])
@pytest.mark.parametrize("features", [(33, 70), (300, 5)])
@pytest.mark.parametrize("kind", ["plain", "causal", "mask"])
def test_sizes_around_the_blocks(isa, queries, keys, features, kind):
    rng = np.random.default_rng(queries + keys)
    q, k, v, g = (rng.standard_normal(s) for s in ((queries, features[0]), (keys, features[0]), (keys, features[1]),
                                                   (queries, features[1])))
    mask = rng.random((queries, keys)) < 0.3 if kind == "mask" else None
    s = q @ k.T * features[0] ** -0.5
    allowed = np.tril(np.ones_like(s, bool)) if kind == "causal" else mask
    e = np.exp(s - s.max()) * (1 if allowed is None else allowed)
    total = e.sum(1, keepdims=True)
    p = e / np.where(total, total, 1)
    ds = p * (g @ v.T - (g * (p @ v)).sum(1, keepdims=True)) * features[0] ** -0.5
    with instruction_set(isa):
        for dtype, tol in ((np.float32, 1e-5), (np.float64, 1e-12)):
            a, b, c = (pydl.tensor(x.astype(dtype), requires_grad=True) for x in (q, k, v))
            out = scaled_dot_product_attention(a, b, c, mask, is_causal=kind == "causal")
            out.backward(pydl.tensor(g.astype(dtype)))
            for actual, expected in zip((out.detach(), a.grad, b.grad, c.grad), (p @ v, ds @ k, ds.T @ q, p.T @ g), strict=True):
                assert_close(actual.numpy(), expected, tol)


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)])
def test_empty(shape):
    q, k, v = (pydl.zeros(*shape, requires_grad=True) for _ in range(3))
    out = scaled_dot_product_attention(q, k, v)
    out.sum().backward()
    assert out.shape == q.grad.shape == k.grad.shape == v.grad.shape == shape


def test_no_keys_give_zeros():
    q, k, v = pydl.ones(2, 2, 3, 4, requires_grad=True), pydl.ones(2, 2, 0, 4, requires_grad=True), pydl.ones(2, 2, 0, 5)
    out = scaled_dot_product_attention(q, k, v)
    out.sum().backward()
    assert out.shape == (2, 2, 3, 5)
    assert not out.detach().numpy().any()
    assert not q.grad.numpy().any()


def test_gradient_of_an_additive_mask():
    rng = np.random.default_rng(0)
    q, k, v = (pydl.tensor(rng.standard_normal((2, 2, n, 2)), requires_grad=True) for n in (3, 4, 4))
    for shape in ((2, 2, 3, 4), (2, 1, 4), (3, 1), (1, 1, 3, 4)):
        bias = pydl.tensor(rng.standard_normal(shape), requires_grad=True)
        for causal in (False, True):
            assert gradcheck(lambda *x, c=causal: scaled_dot_product_attention(*x, is_causal=c), (q, k, v, bias))


def test_extreme_scores():
    """Scores far beyond the range of exp: the largest wins, no NaN."""
    q = pydl.tensor(np.float32([[1e4, 0], [-1e4, 0], [0, 0]]))
    k = pydl.tensor(np.float32([[1e4, 0], [9e3, 0], [-1e4, 0]]))
    v = pydl.tensor(np.float32([[1.0], [2], [4]]))
    np.testing.assert_allclose(scaled_dot_product_attention(q, k, v).numpy(), [[1], [4], [7 / 3]], rtol=1e-6)
    nan = pydl.tensor(np.float32([[np.nan, 0], [1, 0], [0, 0]]))
    assert np.isnan(scaled_dot_product_attention(nan, k, v).numpy()).tolist() == [[True], [False], [False]]


def dropout_factors(p, n, h, length, keys, seed, offset=0):
    """The factors as the kernel's contract says: element (row, key) is number key % 4 of block row * ceil(keys / 4) + key / 4."""
    blocks = -(-keys // 4)
    numbers = np.array([_core.philox_block(seed, offset + i, 0) for i in range(n * h * length * blocks)], np.uint32)
    u = numbers.reshape(n, h, length, 4 * blocks)[..., :keys]
    return np.where(u < np.uint32(p * 2**32), 0.0, 1 / (1 - p))


def test_dropout_is_exactly_the_stream():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 2, n, 5)) for n in (9, 233, 233)]
    factors = dropout_factors(0.3, 2, 2, 9, 233, seed=11)
    assert 0.25 < (factors == 0).mean() < 0.35
    generator = pydl.Generator(11)
    out = scaled_dot_product_attention(*[pydl.tensor(a) for a in arrays], dropout_p=0.3, generator=generator)
    assert_close(out.numpy(), plain(*arrays, factors=factors), 1e-12)
    assert generator.get_state()["offset"] == 2 * 2 * 9 * 59
    again = scaled_dot_product_attention(*[pydl.tensor(a) for a in arrays], dropout_p=0.3, generator=generator)
    assert np.abs(again.numpy() - out.numpy()).max() > 0.01


def test_dropout_gradient():
    rng = np.random.default_rng(0)
    tensors = tuple(pydl.tensor(rng.standard_normal((1, 2, n, 3)), requires_grad=True) for n in (5, 6, 6))
    bias = pydl.tensor(rng.standard_normal((5, 6)), requires_grad=True)
    assert gradcheck(lambda *x: scaled_dot_product_attention(*x, dropout_p=0.4, generator=pydl.Generator(3)), (*tensors, bias))
    assert not scaled_dot_product_attention(*tensors, dropout_p=1.0).detach().numpy().any()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_threads_change_no_bit(batch, causal):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((batch, 2, n, 24)).astype(np.float32) for n in (333, 700, 700)]
    found = []
    for n in (1, 2, 5):
        with threads(n):
            q, k, v = (pydl.tensor(a, requires_grad=True) for a in arrays)
            out = scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=0.2, generator=pydl.Generator(1))
            (out * out).sum().backward()
            found.append([x.numpy().tobytes() for x in (out.detach(), q.grad, k.grad, v.grad)])
    assert found[0] == found[1] == found[2]


# ---------------------------------------------------------------- products in bfloat16
needs_bfloat16 = pytest.mark.skipif(bool(_core.why_no_bfloat16()), reason=f"autocast: {_core.why_no_bfloat16()}")
MASK = masked((2, 1, 150, 171))
MASK[1, 0, 3] = False
BFLOAT16_CASES = [
    ((2, 2, 100, 64), (2, 2, 230, 64), 64, {}), ((1, 2, 300, 64), (1, 2, 301, 64), 70, {"is_causal": True}),
    ((1, 1, 65, 300), (1, 1, 77, 300), 33, {}), ((1, 4, 130, 31), (1, 2, 241, 31), 65, {"enable_gqa": True}),
    ((2, 2, 150, 40), (2, 2, 171, 40), 48, {"attn_mask": MASK}),
    ((2, 2, 150, 40), (2, 2, 171, 40), 48, {"attn_mask": MASK, "is_causal": True, "causal_offset": 21, "dropout_p": 0.3}),
]  # fmt: skip


def attend(arrays, g, dtype=np.float32, autocast=False, **options):
    """The output and the gradients of all arrays: query, key, value, and an additive mask where there are four."""
    q, k, v, *bias = (pydl.from_numpy(a.astype(dtype)).requires_grad_() for a in arrays)
    if bias:
        options["attn_mask"] = bias[0]
    with pydl.autocast(enabled=autocast):
        out = sdpa(q, k, v, **options, generator=pydl.Generator(5))
    out.backward(pydl.from_numpy(g.astype(dtype)))
    return [x.numpy() for x in (out.detach(), q.grad, k.grad, v.grad, *(b.grad for b in bias))]


def relative_errors(found, exact):
    return [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, exact, strict=True)]


@needs_bfloat16
@pytest.mark.parametrize(("q", "k", "f", "options"), BFLOAT16_CASES)
def test_products_in_bfloat16(q, k, f, options):
    """Factors are rounded (2^-9 at most), softmax and sums are float32: as accurate as other products of bfloat16 numbers."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in (q, k, (*k[:3], f))]
    g = rng.standard_normal((*q[:3], f))
    exact = attend(arrays, g, np.float64, **options)
    for e in relative_errors(attend(arrays, g, autocast=True, **options), exact):
        assert 5e-4 < e < 8e-3
    for e in relative_errors(attend(arrays, g, autocast=False, **options), exact):
        assert e < 2e-6


@needs_bfloat16
def test_bfloat16_with_an_additive_mask():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((2, 2, 90, 64), (2, 2, 99, 64), (2, 2, 99, 64), (2, 1, 90, 99))]
    arrays[3][0, 0, 5], arrays[3][1, 0, :, 60:] = -np.inf, -np.inf
    g = rng.standard_normal((2, 2, 90, 64))
    found, exact = attend(arrays, g, autocast=True), attend(arrays, g, np.float64)
    for e in relative_errors(found, exact):
        assert 5e-4 < e < 8e-3
    assert not found[0][0, :, 5].any()
    assert not found[4][1, 0, :, 60:].any()


@needs_bfloat16
def test_bfloat16_with_scores_far_apart():
    """Backward takes the scores of forward, rounded as there: probabilities add up to 1, whatever the scores."""
    rng = np.random.default_rng(0)
    q, k = (10 * rng.standard_normal((1, 1, 90, 64)) for _ in range(2))
    v, g = np.ones((1, 1, 90, 64)), np.full((1, 1, 90, 64), 2.0)
    out, *_, dv = attend([q, k, v], g, autocast=True)
    np.testing.assert_allclose(out, 1.0, rtol=4e-3)  # weights are rounded, their sum is not
    np.testing.assert_allclose(dv.sum(), g.sum(), rtol=4e-3)


@needs_bfloat16
def test_few_queries_or_keys_stay_in_float32():
    rng = np.random.default_rng(0)
    for queries, keys in ((40, 200), (200, 40)):
        arrays = [rng.standard_normal((1, 2, n, 64)) for n in (queries, keys, keys)]
        g = rng.standard_normal((1, 2, queries, 64))
        for low, high in zip(attend(arrays, g, autocast=True), attend(arrays, g), strict=True):
            np.testing.assert_array_equal(low, high)


@needs_bfloat16
@pytest.mark.parametrize("options", [{}, {"is_causal": True, "dropout_p": 0.2}])
def test_threads_change_no_bit_in_bfloat16(options):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 2, n, 64)) for n in (333, 500, 500)]
    g = rng.standard_normal((2, 2, 333, 64))
    results = []
    for n in (1, 2, 5):
        with threads(n):
            results.append([x.tobytes() for x in attend(arrays, g, autocast=True, **options)])
    assert results[0] == results[1] == results[2]


@needs_bfloat16
def test_multi_head_in_bfloat16():
    """On projections, heads side by side, as by single heads."""
    projected = np.random.default_rng(0).standard_normal((2, 80, 3 * 128)).astype(np.float32)
    with pydl.autocast():
        found = multi_head_attention([pydl.from_numpy(projected)], 2, batch_first=True).numpy()
        q, k, v = projected.reshape(2, 80, 3, 2, 64).transpose(2, 0, 3, 1, 4)
        heads = sdpa(*(pydl.from_numpy(np.ascontiguousarray(x)) for x in (q, k, v))).numpy()
    np.testing.assert_array_equal(found, heads.transpose(0, 2, 1, 3).reshape(2, 80, 128))


def test_memory_grows_linearly():
    def peak(length):
        q, k, v = (pydl.randn(1, 2, length, 32, requires_grad=True) for _ in range(3))
        pydl.memory.reset_peak()
        before = pydl.memory.current()
        scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        return pydl.memory.peak() - before

    with threads(1):  # with more, it depends on how many tasks happen to run at the same time
        peaks = [peak(n) for n in (512, 1024, 2048, 4096)]
    assert peaks[3] < 2 * 4096 * 4096 * 4 / 8  # far from two matrices of 4096 x 4096 floats
    assert peaks[3] - peaks[2] < 2.5 * (peaks[2] - peaks[1])
    each = [peak / n for peak, n in zip(peaks, (512, 1024, 2048, 4096), strict=True)]
    assert max(each) < 1.4 * min(each)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_multi_head_on_projections(batch_first, parts):
    rng = np.random.default_rng(parts)
    n, queries, heads, width = 2, 5, 3, 12
    keys = queries if parts == 1 else 7
    widths = {1: [3 * width], 2: [width, 2 * width], 3: [width] * 3}[parts]
    arrays = [rng.standard_normal((n, queries if i == 0 else keys, w)) for i, w in enumerate(widths)]
    mask = masked((n, 1, 1, keys))

    def reference(*xs):
        q, k, v = np.split(xs[0], 3, 2) if parts == 1 else (xs[0], *np.split(xs[1], 2, 2)) if parts == 2 else xs
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
        return plain(q, k, v, mask).transpose(0, 2, 1, 3).reshape(n, queries, width)

    def run(*tensors):
        if not batch_first:
            tensors = [t.transpose(0, 1) for t in tensors]
        out = multi_head_attention(tensors, heads, pydl.tensor(mask), batch_first=batch_first)
        return out if batch_first else out.transpose(0, 1)

    tensors = tuple(pydl.tensor(a, requires_grad=True) for a in arrays)
    assert_close(run(*tensors).detach().numpy(), reference(*arrays), 1e-12)
    assert gradcheck(run, tensors)


def test_split_rows():
    x = pydl.tensor(np.arange(10.0).reshape(5, 2), requires_grad=True)
    a, b = split_rows(x, 2, 3)
    (a.sum() + (b * b).sum()).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 1], [1, 1], [8, 10], [12, 14], [16, 18]])
    with pytest.raises(ShapeError, match=r"\[split_rows\] sizes \(2, 2\) add up to 4"):
        split_rows(x, 2, 2)


def z(*shape, **options):
    return pydl.zeros(*shape, **options)


@pytest.mark.parametrize(("call", "kind", "pattern"), [
    (lambda: sdpa(z(2, 3, 4), z(2, 3, 5), z(2, 3, 5)), ShapeError, r"query .* has 4 features, key .* has 5"),
    (lambda: sdpa(z(2, 3, 4), z(2, 6, 4), z(2, 5, 4)), ShapeError, r"key .* and value .* must agree"),
    (lambda: sdpa(z(4), z(4), z(4)), ShapeError, "at least two axes"),
    (lambda: sdpa(z(2, 2, 3, 4), z(3, 2, 3, 4), z(3, 2, 3, 4)), ShapeError, "cannot be broadcast"),
    (lambda: sdpa(z(2, 4, 3, 4), z(2, 3, 3, 4), z(2, 3, 3, 4), enable_gqa=True), ShapeError, "multiple of"),
    (lambda: sdpa(z(3, 4), z(5, 4), z(5, 4), z(3, 4)), ShapeError,
     r"attn_mask of shape \(3, 4\) does not broadcast.*\(1, 1, 3, 5\)"),
    (lambda: sdpa(z(3, 4), z(5, 4), z(5, 4), z(3, 5, dtype=np.int64)), DTypeError, "attn_mask of dtype int64"),
    (lambda: sdpa(z(3, 4), z(5, 4), z(5, 4, dtype=np.float64)), DTypeError, "value float64"),
    (lambda: sdpa(z(3, 4), z(5, 4), z(5, 4), dropout_p=1.5), ArgumentError, "dropout_p=1.5"),
    (lambda: multi_head_attention([z(2, 3, 10)], 2), ShapeError, "do not divide into 2 heads"),
    (lambda: multi_head_attention([z(2, 3, 4), z(2, 3, 5), z(2, 3, 4)], 2), ShapeError, r"expected widths \[4, 4, 4\]"),
    (lambda: multi_head_attention([z(2, 3)], 2), ShapeError, "three axes"),
])
def test_errors(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()
