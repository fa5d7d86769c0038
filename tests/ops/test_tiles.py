"""Products on tiles (PYDL_ISA=amx): accuracy of split factors, and what tiles cannot compute comes out as float32 has it.

Without AMX these tests run where pydl was built with PYDL_EMULATE_TILES=ON (docs/performance.md). That blocks, panels and tails
are right is tested with whole numbers too: the tests of matmul and conv run at every level of `records.EXACT_LEVELS`.
"""

import numpy as np
import pytest
from records import instruction_set, threads

import pydl
from pydl import _core

pytestmark = pytest.mark.skipif("amx" not in _core.supported_isas(), reason="this CPU has no AMX, and tiles are not emulated")


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def error(found, exact):
    exact = exact.astype(np.float64)  # squares of small numbers too
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def product(a, b, isa="amx"):
    with instruction_set(isa):
        return pydl.matmul(pydl.from_numpy(a), pydl.from_numpy(b)).numpy()


@pytest.fixture(params=["highest", "high"])
def precision(request):
    pydl.set_float32_matmul_precision(request.param)
    yield request.param
    pydl.set_float32_matmul_precision("highest")


SHAPES = [(64, 64, 64), (65, 300, 97), (111, 513, 128), (300, 1025, 70), (64, 30_001, 65), (1000, 77, 130)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_accurate_as_float32(shape, precision):
    """Three pieces lose less than float32 sums do; two keep 16 bits, an error of about 4e-6."""
    m, k, n = shape
    a, b, g = draw(m, k), draw(k, n), draw(m, n)
    x, y = (pydl.from_numpy(v.copy()).requires_grad_() for v in (a, b))
    with instruction_set("amx"):
        out = x @ y
        out.backward(pydl.from_numpy(g))
    a, b, g = (v.astype(np.float64) for v in (a, b, g))
    for found, exact in ((out.detach(), a @ b), (x.grad, g @ b.T), (y.grad, a.T @ g)):
        if precision == "highest":
            assert error(found.numpy(), exact) < 3e-7
        else:
            assert 1e-6 < error(found.numpy(), exact) < 1e-5


def test_bfloat16():
    a, b = draw(150, 500), draw(500, 90)
    with instruction_set("amx"), pydl.autocast("bfloat16"):  # which other levels may refuse
        found = (pydl.from_numpy(a) @ pydl.from_numpy(b)).numpy()
    assert 1e-3 < error(found, a.astype(np.float64) @ b.astype(np.float64)) < 4e-3


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_and_nans_spread_as_in_float32(value, transposed, precision):
    """An infinite factor has no pieces: its row or column is computed in float32, whose zeros and signs decide."""
    a, b = draw(90, 300), draw(300, 100)
    a[50, 20] = value
    b[250, 70] = value
    b[20, 5] = 0.0  # 0 * inf
    b[20, 6] = -1.0
    with np.errstate(invalid="ignore"):
        expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    left = np.ascontiguousarray(a.T).T if transposed else a
    found = product(left, b)
    finite = np.isfinite(expected)
    assert finite.sum() == 89 * 99
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=5e-4 if precision == "high" else 1e-4)


def test_near_overflow():
    """Numbers that round up to infinity in bfloat16, and products of pieces that overflow where those of numbers do not."""
    largest = np.finfo(np.float32).max
    a, b = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    a[0, 0], b[0, 0] = largest, 1.0
    a[20, 3], b[3, 40] = 0.5, largest
    a[40, 9] = b[9, 20] = np.float32(1.8446742e19)  # squared: 0.99999 of the largest number; rounded and squared: infinite
    a[63, 10], b[10, 63] = largest, 2.0  # infinite in float32 too
    expected = np.zeros((64, 64), np.float64)
    for i, k, j in ((0, 0, 0), (20, 3, 40), (40, 9, 20), (63, 10, 63)):
        expected[i, j] = float(a[i, k]) * float(b[k, j])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(product(a, b), expected.astype(np.float32))


@pytest.mark.parametrize(("left", "right"), [(1e-30, 1e30), (1e-36, 1e36), (3e-40, 1e30), (1e-20, 1e-15), (1e25, 1e-40)])
def test_small_numbers_keep_their_bits(left, right):
    """Tiles take what is below 2^-126 for zero, pieces of small numbers too: such rows and columns are computed in float32."""
    a, b = draw(80, 200), draw(200, 70)
    a[16] *= np.float32(left)
    b *= np.float32(right)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found, in_float32 = product(a, b), product(a, b, "avx512")
    others = np.r_[0:16, 17:80]
    for rows in (16, others):
        assert error(found[rows], exact[rows]) <= max(3e-7, error(in_float32[rows], exact[rows]))


def test_zeros_give_zeros():
    a, b = np.zeros((70, 80), np.float32), draw(80, 90)
    np.testing.assert_array_equal(product(a, b), np.zeros((70, 90)))
    np.testing.assert_array_equal(product(b.T.copy(), np.zeros((80, 64), np.float32)), np.zeros((90, 64)))


def test_the_same_bits_for_any_number_of_threads():
    a, b = draw(700, 600), draw(600, 300)
    a[111, 5] = np.inf
    a[300] *= np.float32(1e-30)
    results = []
    for n in (1, 2, 5):
        with threads(n):
            results.append((product(a, b), product(np.ascontiguousarray(a.T[:, :96]).T, b),
                            product(draw(64, 9000), draw(9000, 64))))  # fmt: skip
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_bias_and_relu():
    """In the epilogue of the sums: `Sequential` makes one pass of the two layers."""
    layers, x = pydl.nn.Sequential(pydl.nn.Linear(90, 100), pydl.nn.ReLU()), draw(130, 90)
    with instruction_set("amx"):
        y = layers(pydl.from_numpy(x)).detach().numpy()
    exact = layers.double()(pydl.from_numpy(x.astype(np.float64))).detach().numpy()
    assert error(y, exact) < 3e-7
    assert (y[exact == 0] == 0).all()


@pytest.mark.parametrize(("x", "w", "options"), [
    ((2, 64, 20, 22), (256, 64, 1, 1), {}), ((2, 256, 14, 14), (64, 256, 1, 1), {}), ((4, 128, 6, 6), (130, 128, 1, 1), {}),
    ((2, 128, 11, 13), (160, 128, 3, 3), {"stride": 2, "padding": 1}), ((3, 129, 9, 40), (131, 129, 1, 3), {"padding": (0, 1)}),
    ((2, 72, 80), (70, 72, 5), {"padding": 2, "dilation": 2}), ((2, 128, 10, 10), (192, 64, 3, 3), {"groups": 2}),
], ids=str)  # fmt: skip
def test_convolution(x, w, options):
    arrays = draw(*x), draw(*w)
    conv = pydl.conv1d if len(x) == 3 else pydl.conv2d

    def run(dtype):
        inputs = [pydl.from_numpy(a.astype(dtype)).requires_grad_() for a in arrays]
        y = conv(*inputs, **options)
        y.backward(pydl.from_numpy(draw(*y.shape).astype(dtype)))
        return [y.detach().numpy(), *(i.grad.numpy() for i in inputs)]

    exact = run(np.float64)
    with instruction_set("amx"):
        found = run(np.float32)
    with instruction_set("avx512"):
        vectors = run(np.float32)
    for low, value in zip(found, exact, strict=True):
        assert error(low, value) < 4e-7
    assert any(not np.array_equal(low, other) for low, other in zip(found, vectors, strict=True)), "nothing ran on tiles"


@pytest.mark.parametrize(("n", "c", "o", "size"), [(4, 130, 160, (23, 22)), (1, 300, 260, (32, 34)), (3, 256, 128, (30, 28))])
@pytest.mark.parametrize("method", ["winograd2", "winograd4"])
def test_convolution_by_winograd(n, c, o, size, method):
    """No less accurate than with float32 products; infinities and tiny numbers come out as there."""
    x, w = draw(n, c, *size), draw(o, c, 3, 3)
    special = x.copy()
    special[0, 3, 5, 6], special[0, :, 12:, :] = np.inf, special[0, :, 12:, :] * np.float32(1e-32)

    def run(isa, x, dtype=np.float32, name=method):
        arrays = [pydl.from_numpy(v.astype(dtype)).requires_grad_() for v in (x, w)]
        _core.set_conv_method(name)
        try:
            with instruction_set(isa):
                y = pydl.conv2d(*arrays, padding=1)
                y.backward(pydl.from_numpy(draw(*y.shape).astype(dtype)))
        finally:
            _core.set_conv_method("automatic")
        return [y.detach().numpy(), *(array.grad.numpy() for array in arrays)]

    exact, vectors = run("avx512", x, np.float64, "gemm"), run("avx512", x)
    found = run("amx", x)
    for low, other, value in zip(found, vectors, exact, strict=True):
        assert not np.array_equal(low, other), "not on tiles"
        assert error(low, value) < 1.1 * error(other, value)
    found, vectors = run("amx", special), run("avx512", special)
    for low, other in zip(found, vectors, strict=True):
        np.testing.assert_array_equal(np.isfinite(low), np.isfinite(other))
    tiny = np.s_[0, :, 14:]
    assert error(found[0][tiny], vectors[0][tiny]) < 1e-5
    assert np.isnan(found[2][:, 3]).any()
    np.testing.assert_allclose(found[2][:, 4:], vectors[2][:, 4:], atol=1e-5 * np.abs(vectors[2][:, 4:]).max())


def test_convolution_with_norm():
    """The epilogue of inference: scale, bias and ReLU on the sums of tiles."""
    conv = pydl.nn.Conv2d(96, 128, 3, stride=2, padding=1, bias=False)
    block = pydl.nn.Sequential(conv, pydl.nn.BatchNorm2d(128), pydl.nn.ReLU())
    block.eval()
    block[1].running_mean.copy_(pydl.from_numpy(draw(128)))
    block[1].running_var.copy_(pydl.from_numpy(np.abs(draw(128, seed=1)) + 0.5))
    x = draw(2, 96, 18, 18)
    with pydl.no_grad():
        with instruction_set("amx"):
            found = block(pydl.from_numpy(x)).numpy()
        exact = block.double()(pydl.from_numpy(x.astype(np.float64))).numpy()
    assert error(found, exact) < 4e-7


RECURRENT = {
    "tanh": (pydl.nn.RNN, {"bias": False}), "relu": (pydl.nn.RNN, {"nonlinearity": "relu", "bias": False}),
    "lstm": (pydl.nn.LSTM, {}), "projected": (pydl.nn.LSTM, {"proj_size": 65}),
    "both ways": (pydl.nn.LSTM, {"bidirectional": True}), "gru": (pydl.nn.GRU, {}),
    "reset before": (pydl.nn.GRU, {"reset_after": False}),
}  # fmt: skip
BATCH, ODD = 37, 20  # one sequence may have unusual numbers


def recurrent(kind, isa, dtype=np.float32, factor=1.0, unit=0.1):
    """Output, last states, gradients of input and of weights, of a layer whose products with the input are too small for tiles.

    The input, first states and gradients of the odd sequence are multiplied by `factor`, and one unit of its state is `unit`.
    """
    pydl.manual_seed(0)
    layer, options = RECURRENT[kind]
    model = layer(16, 96, **options).to(dtype)
    width = options.get("proj_size", 96)

    def values(*shape):
        x = draw(*shape)
        x[:, ODD] *= np.float32(factor)
        return x.astype(dtype)

    x = pydl.from_numpy(values(5, BATCH, 16)).requires_grad_()
    h0 = values(2 if options.get("bidirectional") else 1, BATCH, width)
    h0[:, ODD, 7] = unit * factor
    hx = pydl.from_numpy(h0)
    if layer is pydl.nn.LSTM:
        hx = hx, pydl.from_numpy(values(*h0.shape[:2], 96))
    with instruction_set(isa):
        out, state = model(x, hx, lengths=[5] * (BATCH - 8) + [4, 3, 3, 2, 1, 1, 1, 1])
        results = [out, *(state if isinstance(state, tuple) else (state,))]
        pydl.autograd.backward(results, [pydl.from_numpy(values(*r.shape)) for r in results])
    return [v.detach().numpy() for v in (*results, x.grad, *(p.grad for p in model.parameters()))]


def by_sequence(results):
    """Those of the results that have sequences as their second axis: all but the gradients of the weights."""
    return [v for v in results if v.ndim == 3]


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_steps(kind, precision):
    exact, found, vectors = recurrent(kind, "avx512", np.float64), recurrent(kind, "amx"), recurrent(kind, "avx512")
    for low, other, value in zip(found, vectors, exact, strict=True):
        if precision == "highest":
            assert error(low, value) < 1.3 * error(other, value) + 1e-8
        else:
            assert error(low, value) < 2e-5
    for low, other in zip(by_sequence(found), by_sequence(vectors), strict=True):
        assert not np.array_equal(low, other), "not on tiles"


def test_recurrent_steps_in_bfloat16():
    exact = recurrent("lstm", "avx512", np.float64)
    with instruction_set("amx"), pydl.autocast("bfloat16"):
        found = recurrent("lstm", "amx")
    for low, value in zip(found, exact, strict=True):
        assert 1e-4 < error(low, value) < 1e-2


@pytest.mark.parametrize("odd", [{"unit": np.inf}, {"unit": np.nan}, {"factor": 1e-36}, {"factor": 1e37}], ids=str)
@pytest.mark.parametrize("kind", ["relu", "tanh", "gru"])
def test_recurrent_steps_of_an_odd_sequence(kind, odd):
    """It comes out as in float32, others keep their bits, with any number of threads."""
    found, vectors, plain = recurrent(kind, "amx", **odd), recurrent(kind, "avx512", **odd), recurrent(kind, "amx")
    others = np.r_[0:ODD, ODD + 1 : BATCH]
    for low, other, usual in zip(*map(by_sequence, (found, vectors, plain)), strict=True):
        np.testing.assert_array_equal(low[:, others], usual[:, others])
        low, other = low[:, ODD], other[:, ODD]
        finite = np.isfinite(other)
        np.testing.assert_array_equal(low[~finite], other[~finite])
        if other[finite].any():
            assert error(low[finite], other[finite]) < 1e-5
    for n in (2, 3):
        with threads(n):
            for one, other in zip(found, recurrent(kind, "amx", **odd), strict=True):
                np.testing.assert_array_equal(one, other)


def attend(isa, arrays, g, dtype=np.float32, **options):
    """The output of attention and the gradients of query, key and value."""
    q, k, v = (pydl.from_numpy(a.astype(dtype)).requires_grad_() for a in arrays)
    with instruction_set(isa):
        out = pydl.ops.scaled_dot_product_attention(q, k, v, **options, generator=pydl.Generator(5))
        out.backward(pydl.from_numpy(g.astype(dtype)))
    return [x.numpy() for x in (out.detach(), q.grad, k.grad, v.grad)]


ATTENTION = [
    ((2, 2, 100, 64), (2, 2, 230, 64), 64, {}), ((1, 2, 300, 64), (1, 2, 300, 64), 70, {"is_causal": True}),
    ((1, 1, 65, 300), (1, 1, 77, 300), 65, {}), ((1, 4, 130, 66), (1, 2, 241, 66), 64, {"enable_gqa": True}),
    ((1, 2, 90, 64), (1, 2, 120, 64), 64, {"attn_mask": draw(90, 120) > -0.5, "dropout_p": 0.3, "is_causal": True,
                                            "causal_offset": 30}),
]  # fmt: skip


@pytest.mark.parametrize(("q", "k", "f", "options"), ATTENTION)
def test_attention(q, k, f, options, precision):
    arrays, g = (draw(*q), draw(*k, seed=1), draw(*k[:3], f, seed=2)), draw(*q[:3], f, seed=3)
    exact = attend("avx512", arrays, g, np.float64, **options)
    vectors, found = (attend(isa, arrays, g, **options) for isa in ("avx512", "amx"))
    for low, other, value in zip(found, vectors, exact, strict=True):
        assert not np.array_equal(low, other), "not on tiles"
        if precision == "highest":
            assert error(low, value) < error(other, value)
        else:
            assert 1e-6 < error(low, value) < 1.5e-5


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38])
@pytest.mark.parametrize("factor", range(4))
@pytest.mark.parametrize("causal", [False, True])
def test_attention_to_infinities(value, factor, causal, precision):
    """In one element of query, key, value or the gradient: what becomes infinite or NaN is what does in float32."""
    arrays = [draw(1, 1, n, 64, seed=i) for i, n in enumerate((100, 250, 250, 100))]
    arrays[factor][0, 0, 70, 20] = value
    found, vectors = (attend(isa, arrays[:3], arrays[3], is_causal=causal) for isa in ("amx", "avx512"))
    for low, other in zip(found, vectors, strict=True):
        finite = np.isfinite(other)
        np.testing.assert_array_equal(low[~finite], other[~finite])
        if not np.isfinite(value):  # with the largest numbers, gradients are what cancelling them left
            np.testing.assert_allclose(low[finite], other[finite], rtol=1e-4, atol=1e-3 if precision == "high" else 1e-4)


@pytest.mark.parametrize("scales", [(1e-30, 1e30, 1, 1), (1, 1, 1e-30, 1), (1, 1, 1, 1e-25), (1, 1, 1e-20, 1e-15),
                                    (3e-40, 1, 1, 1)])
def test_attention_to_small_numbers(scales):
    """Query, key, value and gradient, some of their rows, so small that their pieces would be 0."""
    arrays = [draw(1, 1, n, 64, seed=i) for i, n in enumerate((100, 90, 90, 100))]
    for a, scale in zip(arrays, scales, strict=True):
        if scale > 1:
            a *= np.float32(scale)
        else:
            a[:, :, 10:40] *= np.float32(scale)
    if scales[1] > 1:
        arrays[0][:, :, :10] *= np.float32(scales[0])
        arrays[0][:, :, 40:] *= np.float32(scales[0])
    exact = attend("avx512", arrays[:3], arrays[3], np.float64)
    found, vectors = (attend(isa, arrays[:3], arrays[3]) for isa in ("amx", "avx512"))
    for low, other, value in zip(found, vectors, exact, strict=True):
        for rows in (np.s_[10:40], np.s_[41:]):
            assert error(low[0, 0, rows], value[0, 0, rows]) < max(1e-6, 1.5 * error(other[0, 0, rows], value[0, 0, rows]))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_has_the_same_bits_for_any_number_of_threads(causal, precision):
    arrays, g = [draw(1, 2, n, 64, seed=i) for i, n in enumerate((150, 500, 500))], draw(1, 2, 150, 64, seed=3)
    arrays[2][0, 1, 300, 5] = np.inf
    results = []
    for n in (1, 2, 5):
        with threads(n):
            results.append([x.tobytes() for x in attend("amx", arrays, g, is_causal=causal, dropout_p=0.1)])
    assert results[0] == results[1] == results[2]
