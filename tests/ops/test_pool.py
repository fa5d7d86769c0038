"""Pooling: every check of tests/ops/records.py, and what only pooling has: ties, NaN, indices, empty windows, unpooling."""

import itertools

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records, threads

import pydl
from pydl import nn
from pydl.errors import ArgumentError, DTypeError, ShapeError


def each(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def plain_windows(size, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    """For each axis a list of (positions inside, positions inside or padding) per output, from the definition."""
    n = len(size)
    kernel = each(kernel, n)
    stride = kernel if stride is None else each(stride, n)
    axes = []
    for m, k, s, p, d in zip(size, kernel, stride, each(padding, n), each(dilation, n), strict=True):
        windows = []
        for start in range(-p, m + p, s):
            positions = [start + i * d for i in range(k)]
            whole = positions[-1] < m + p
            if whole or (ceil_mode and start < m and start + d * (k - 1) - (s - 1) < m + p):
                windows.append(([i for i in positions if 0 <= i < m], [i for i in positions if i < m + p]))
        axes.append(windows)
    return axes


def adaptive_windows(size, out):
    axes = []
    for m, n in zip(size, each(out, len(size)), strict=True):
        parts = [list(range(int(np.floor(i * m / n)), int(np.ceil((i + 1) * m / n)))) for i in range(n)]
        axes.append([(p, p) for p in parts])
    return axes


def fold(x, axes, function):
    """function(elements of the window [N, C, ...], window size with padding) for every output position."""
    out = np.zeros((*x.shape[:2], *(len(a) for a in axes)))
    for index in np.ndindex(*out.shape[2:]):
        windows = [a[i] for a, i in zip(axes, index, strict=True)]
        part = x[(..., *np.ix_(*(w[0] for w in windows)))].reshape(*x.shape[:2], np.prod([len(w[0]) for w in windows]))
        out[(..., *index)] = function(part, int(np.prod([len(w[1]) for w in windows])))
    return out


def reference_max(x, *args, **options):
    return fold(x, plain_windows(x.shape[2:], *args, **options), lambda part, _: part.max(-1))


def reference_avg(x, *args, count_include_pad=True, divisor_override=None, **options):
    def mean(part, padded):
        return part.sum(-1) / (divisor_override or (padded if count_include_pad else part.shape[-1]))

    return fold(x, plain_windows(x.shape[2:], *args, **options), mean)


def reference_lp(x, p, *args, **options):
    size = np.prod(each(args[0], x.ndim - 2))
    return fold(x, plain_windows(x.shape[2:], *args, **options), lambda part, n: ((part**p).sum(-1) * size / n) ** (1 / p))


def distinct(*shape):
    """No two elements nearer than differences step: the gradient of a maximum is then well defined."""

    def make(rng):
        return rng.permutation(np.arange(np.prod(shape)) - np.prod(shape) // 3 + 0.3).reshape(shape) * 0.01

    return make


def record(name, function, reference, *shape, large=None, **options):
    return OpRecord(name, function, reference, (distinct(*shape),), zero_size=(draw(0, *shape[1:]),),
                    large=None if large is None else (draw(*large),), **options)


MAX = [  # sizes, arguments
    ((2, 3, 9), (2,), {}),
    ((1, 5, 9), (3, 2), {"padding": 1, "dilation": 2, "ceil_mode": True}),
    ((2, 3, 4, 4), (2,), {}),
    ((1, 3, 8), (2, 4), {"dilation": 2}),  # windows side by side, with holes
    ((1, 2, 5, 6), (3, 1), {"padding": 1}),
    ((1, 3, 6, 7), ((3, 2), (2, 3)), {"padding": (1, 0), "dilation": (1, 2), "ceil_mode": True}),
    ((1, 1, 7, 6), (3, 2), {"padding": 1}),
    ((1, 1, 4, 5, 3), ((2, 3, 2), (1, 2, 2)), {"padding": (0, 1, 1)}),
]
AVG = [
    ((2, 3, 9), (2,), {}),
    ((1, 5, 9), (4, 3), {"padding": 2, "ceil_mode": True, "count_include_pad": False}),
    ((2, 3, 4, 4), (2,), {}),
    ((1, 2, 5, 6), (3, 2), {"padding": 1, "ceil_mode": True}),
    ((1, 3, 6, 5), ((3, 2), (2, 1)), {"padding": (1, 0), "count_include_pad": False}),
    ((1, 2, 5, 6), (3, 2), {"padding": 1, "divisor_override": 5}),
    ((1, 1, 4, 5, 3), ((2, 3, 2), (1, 2, 2)), {"padding": (0, 1, 1)}),
]
ADAPTIVE = [((1, 3, 11), 4), ((1, 2, 5, 7), (3, 4)), ((1, 3, 4, 5), (1, 1)), ((1, 2, 2, 3), (3, 4)), ((1, 1, 3, 5, 4), (2, 3, 1))]


def bind(function, args, options):
    return lambda x: function(x, *args, **options)


def records():
    for i, (shape, args, options) in enumerate(MAX):
        name = f"max_pool{len(shape) - 2}d"
        large = ((2, 20, 50, 40) if i % 2 else (3, 3, 70, 60)) if len(shape) == 4 else None
        yield record(f"{name}-{i}", bind(getattr(pydl, name), args, options), bind(reference_max, args, options), *shape,
                     large=large, double_backward=i < 4)
    for i, (shape, args, options) in enumerate(AVG):
        name = f"avg_pool{len(shape) - 2}d"
        large = ((2, 20, 50, 40) if i % 2 else (3, 3, 70, 60)) if len(shape) == 4 else None
        yield record(f"{name}-{i}", bind(getattr(pydl, name), args, options), bind(reference_avg, args, options), *shape,
                     large=large, double_backward=i < 4)
    for i, (shape, size) in enumerate(ADAPTIVE):
        n = len(shape) - 2
        for kind, function in (("max", lambda part, _: part.max(-1)), ("avg", lambda part, _: part.mean(-1))):
            name = f"adaptive_{kind}_pool{n}d"
            yield record(f"{name}-{i}", bind(getattr(pydl, name), (size,), {}),
                         lambda x, size=size, f=function: fold(x, adaptive_windows(x.shape[2:], size), f), *shape,
                         double_backward=i < 2)
    for p, args, options in ((2, (3, 2), {}), (1, (2,), {}), (2.5, (2, 2), {"ceil_mode": True})):
        yield OpRecord(f"lp_pool2d-{p}", bind(pydl.lp_pool2d, (p, *args), options), bind(reference_lp, (p, *args), options),
                       (draw(1, 2, 5, 6, low=0.1),), double_backward=True)
    yield OpRecord("lp_pool1d-inf", lambda x: pydl.lp_pool1d(x, float("inf"), 3, 1), lambda x: reference_max(np.abs(x), 3, 1),
                   (distinct(1, 3, 7),), double_backward=True)
    yield OpRecord("lp_pool3d", lambda x: pydl.lp_pool3d(x, 3, 2), lambda x: reference_lp(x, 3, 2),
                   (draw(1, 1, 4, 5, 4, low=0.1),))
    yield OpRecord("global_avg_pool", pydl.global_avg_pool, lambda x: x.mean((2, 3)), (draw(2, 3, 4, 5),),
                   large=(draw(3, 70, 20, 21),), double_backward=True)
    yield OpRecord("global_max_pool", pydl.global_max_pool, lambda x: x.max((2, 3)), (distinct(2, 3, 4, 5),),
                   large=(draw(3, 70, 20, 21),), double_backward=True)
    yield OpRecord("unbatched", lambda x: pydl.max_pool2d(x, 2, 1), lambda x: reference_max(x[None], 2, 1)[0],
                   (distinct(3, 5, 6),))


test_ops = run_records(list(records()))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (5, 5, 2), ((2, 1), 1, 0), ((1, 6), 2, (0, 3))])
def test_every_channel_count(isa, dtype, window):
    """All tails of the vector loops, through small integers: exact in both dtypes, whatever the order of sums."""
    rng = np.random.default_rng(0)
    with instruction_set(isa):
        for c in (*range(1, 20), 31, 32, 33, 48, 63, 64, 65, 100, 129):
            x = rng.integers(-99, 99, (2, c, 6, 12)).astype(dtype)
            t = pydl.tensor(x, requires_grad=True)
            y, indices = pydl.max_pool2d(t, *window, return_indices=True)
            np.testing.assert_array_equal(y.detach().numpy(), reference_max(x, *window))
            picked = np.take_along_axis(x.reshape(2, c, -1), indices.numpy().reshape(2, c, -1), -1)
            np.testing.assert_array_equal(picked.reshape(y.shape), y.detach().numpy())
            g = rng.integers(-9, 9, y.shape)
            y.backward(pydl.tensor(g.astype(dtype)))
            expected = np.zeros((2, c, 72))
            for n, ch in itertools.product(range(2), range(c)):
                np.add.at(expected[n, ch], indices.numpy()[n, ch].ravel(), g[n, ch].ravel())
            np.testing.assert_array_equal(t.grad.numpy(), expected.reshape(x.shape))
            total = pydl.avg_pool2d(t, *window, divisor_override=1)
            np.testing.assert_array_equal(total.detach().numpy(), reference_avg(x, *window, divisor_override=1))


@pytest.mark.parametrize("channels", [2, 6, 40])
def test_first_of_equals_wins(channels):
    x = pydl.zeros(1, channels, 4, 4, requires_grad=True)
    y, indices = pydl.max_pool2d(x, 2, return_indices=True)
    assert indices[0, 1].tolist() == [[0, 2], [8, 10]]
    y.sum().backward()
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [1, 3, 16, 70])
def test_nan_and_infinity(isa, channels):
    nan, inf = np.nan, np.inf
    row = np.array([1, nan, 2, nan, 3, 4, -inf, -inf, -inf, inf, nan, inf], np.float32)
    x = np.broadcast_to(row, (1, channels, 12)).copy()
    with instruction_set(isa):
        y, indices = pydl.max_pool1d(pydl.tensor(x), 3, return_indices=True)
    for c in range(channels):
        np.testing.assert_array_equal(y.numpy()[0, c], [nan, nan, -inf, nan])
        assert indices[0, c].tolist() == [1, 3, 6, 10]


def test_large_windows_count_in_wider_numbers():
    x = np.random.default_rng(0).permutation(40 * 30 * 3).reshape(1, 3, 40, 30).astype(np.float32)
    t = pydl.tensor(x, requires_grad=True)
    y, indices = pydl.adaptive_max_pool2d(t, 1, return_indices=True)
    flat = x.reshape(3, -1)
    assert indices.reshape(3).tolist() == flat.argmax(1).tolist()
    y.sum().backward()
    assert np.flatnonzero(t.grad.numpy()).tolist() == [c * 1200 + i for c, i in enumerate(flat.argmax(1))]


def test_a_window_that_sees_nothing():
    x = pydl.ones(1, 1, 4, requires_grad=True)  # taps at -1 and 4
    y, indices = pydl.max_pool1d(x, 2, 1, padding=1, dilation=5, return_indices=True)
    assert y.tolist() == [[[-np.inf]]]
    assert indices.tolist() == [[[-1]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0, 0, 0, 0]]]


def test_a_window_far_larger_than_the_input():
    x = pydl.tensor([[[3.0, 1.0, 7.0, 5.0]]], requires_grad=True)
    y = pydl.max_pool1d(x, 2**29, padding=2**28)  # memory follows the input, not the window
    assert y.tolist() == [[[7]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0, 0, 1, 0]]]


def test_indices_need_no_gradient():
    with pydl.no_grad():
        y, indices = pydl.max_pool1d(pydl.tensor([[1.0, 3.0, 2.0, 5.0]]), 2, return_indices=True)
    assert (y.tolist(), indices.tolist()) == ([[3, 5]], [[1, 3]])
    y, indices = pydl.max_pool1d(pydl.tensor([[1.0, 3.0, 2.0, 5.0]], requires_grad=True), 2, return_indices=True)
    assert y.requires_grad
    assert not indices.requires_grad


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 20, 6, 8), (1, 2, 4, 5, 6)])
def test_unpool_puts_maxima_back(shape):
    n = len(shape) - 2
    x = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32) + 1
    y, indices = getattr(pydl, f"max_pool{n}d")(pydl.tensor(x), 2, return_indices=True)
    y = pydl.tensor(y.numpy(), requires_grad=True)
    back = getattr(pydl, f"max_unpool{n}d")(y, indices, 2, output_size=shape[2:])
    expected = np.zeros(shape, np.float32).reshape(*shape[:2], -1)
    np.put_along_axis(expected, indices.numpy().reshape(*shape[:2], -1), y.detach().numpy().reshape(*shape[:2], -1), -1)
    np.testing.assert_array_equal(back.detach().numpy(), expected.reshape(shape))
    g = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    back.backward(pydl.tensor(g))
    taken = np.take_along_axis(g.reshape(*shape[:2], -1), indices.numpy().reshape(*shape[:2], -1), -1)
    np.testing.assert_array_equal(y.grad.numpy(), taken.reshape(y.shape))


def test_unpool_keeps_the_later_of_two():
    x, indices = pydl.tensor([[[1.0, 2.0, 3.0]]]), pydl.tensor(np.array([[[4, 0, 4]]]))
    assert pydl.max_unpool1d(x, indices, 2).tolist() == [[[2, 0, 0, 0, 3, 0]]]


def test_unpool_threads():
    x = np.random.default_rng(0).standard_normal((3, 40, 30, 30)).astype(np.float32)
    results = []
    for k in (1, 2, 3):
        with threads(k):
            y, indices = pydl.max_pool2d(pydl.tensor(x), 3, 2, return_indices=True)
            results.append(pydl.max_unpool2d(y, indices, 3, 2, output_size=(30, 30)).numpy().tobytes())
    assert results[0] == results[1] == results[2]


def test_lp_gradient_is_zero_at_zero():
    x = pydl.zeros(1, 1, 4, requires_grad=True)
    pydl.lp_pool1d(x, 2, 2).sum().backward()
    assert x.grad.tolist() == [[[0, 0, 0, 0]]]


def test_long_averages_stay_accurate():
    x = np.random.default_rng(0).uniform(1, 2, (1, 2, 700, 700)).astype(np.float32)
    np.testing.assert_allclose(pydl.global_avg_pool(pydl.tensor(x)).numpy(), x.mean((2, 3), dtype=np.float64), rtol=1e-6)


IMAGE = pydl.zeros(2, 3, 4, 5)
ERRORS = [
    (lambda: pydl.max_pool2d(pydl.zeros(4, 5), 2), ShapeError, r"\[max_pool2d\].*\(N, C, H, W\).*got \(4, 5\)"),
    (lambda: pydl.max_pool1d(IMAGE, 2), ShapeError, r"\[max_pool1d\].*\(N, C, L\)"),
    (lambda: pydl.max_pool2d(IMAGE, 5), ShapeError, r"\[max_pool2d\].*\(2, 3, 4, 5\).*axis 2.*covers 5"),
    (lambda: pydl.max_pool2d(IMAGE, 2, dilation=5), ShapeError, r"covers 6"),
    (lambda: pydl.max_pool2d(IMAGE, 2, padding=2), ArgumentError, r"padding=\(2, 2\).*more than half.*\(2, 2\)"),
    (lambda: pydl.avg_pool2d(IMAGE, 3, padding=2), ArgumentError, r"\[avg_pool2d\].*half"),
    (lambda: pydl.avg_pool2d(IMAGE, 2, divisor_override=0), ArgumentError, r"divisor_override=0"),
    (lambda: pydl.avg_pool2d(IMAGE, (1, 2, 3)), ArgumentError, r"kernel_size=\(1, 2, 3\): expected one number or 2"),
    (lambda: pydl.avg_pool2d(IMAGE, 0), ArgumentError, r"kernel_size=0"),
    (lambda: pydl.avg_pool2d(IMAGE, 2, 0), ArgumentError, r"stride=0"),
    (lambda: pydl.lp_pool2d(IMAGE, 0, 2), ArgumentError, r"\[lp_pool2d\] norm_type=0"),
    (lambda: pydl.adaptive_avg_pool2d(IMAGE, 0), ArgumentError, r"\[adaptive_avg_pool2d\] output_size=0"),
    (lambda: pydl.adaptive_max_pool2d(IMAGE, (1, 2, 3)), ArgumentError, r"output_size=\(1, 2, 3\)"),
    (lambda: pydl.max_pool2d(pydl.zeros(2, 3, 0, 5), 1), ShapeError, r"empty spatial axis"),
    (lambda: pydl.max_pool2d(pydl.tensor(np.zeros((1, 1, 4, 4), np.int64)), 2), DTypeError, r"int64"),
    (lambda: pydl.global_avg_pool(pydl.zeros(2, 3)), ShapeError, r"\[global_avg_pool\].*\(2, 3\)"),
    (lambda: pydl.max_unpool2d(IMAGE, pydl.tensor(np.full((2, 3, 4, 5), 80)), 2), ArgumentError, r"from 80 to 80.*80 positions"),
    (lambda: pydl.max_unpool2d(IMAGE, pydl.tensor(np.full((2, 3, 4, 5), -1)), 2), ArgumentError, r"from -1"),
    (lambda: pydl.max_unpool2d(IMAGE, pydl.zeros(2, 3, 4, 5), 2), DTypeError, r"indices must be int64"),
    (lambda: pydl.max_unpool2d(IMAGE, pydl.tensor(np.zeros((2, 3, 4), np.int64)), 2), ShapeError, r"indices must have.*shape"),
    (lambda: pydl.max_unpool2d(IMAGE, pydl.tensor(np.zeros(IMAGE.shape, np.int64)), 2, output_size=(10, 10)), ArgumentError,
     r"output_size=\(10, 10\)"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, pattern = ERRORS[case]
    with pytest.raises(kind, match=pattern):
        call()


@pytest.mark.parametrize(("module", "function", "shape"), [
    (nn.MaxPool1d(2, padding=1), lambda x: pydl.max_pool1d(x, 2, padding=1), (2, 3, 8)),
    (nn.MaxPool2d(3, 2, ceil_mode=True), lambda x: pydl.max_pool2d(x, 3, 2, ceil_mode=True), (2, 3, 8, 8)),
    (nn.MaxPool3d(2), lambda x: pydl.max_pool3d(x, 2), (1, 2, 4, 4, 4)),
    (nn.AvgPool1d(2, 1), lambda x: pydl.avg_pool1d(x, 2, 1), (2, 3, 8)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), lambda x: pydl.avg_pool2d(x, 3, 2, 1, False, False), (2, 3, 8, 8)),
    (nn.AvgPool3d(2, divisor_override=3), lambda x: pydl.avg_pool3d(x, 2, divisor_override=3), (1, 2, 4, 4, 4)),
    (nn.LPPool1d(2, 3), lambda x: pydl.lp_pool1d(x, 2, 3), (2, 3, 8)),
    (nn.LPPool2d(2, 3, 1), lambda x: pydl.lp_pool2d(x, 2, 3, 1), (2, 3, 8, 8)),
    (nn.LPPool3d(2, 2), lambda x: pydl.lp_pool3d(x, 2, 2), (1, 2, 4, 4, 4)),
    (nn.AdaptiveAvgPool1d(3), lambda x: pydl.adaptive_avg_pool1d(x, 3), (2, 3, 8)),
    (nn.AdaptiveAvgPool2d((None, 2)), lambda x: pydl.adaptive_avg_pool2d(x, (8, 2)), (2, 3, 8, 8)),
    (nn.AdaptiveAvgPool3d(2), lambda x: pydl.adaptive_avg_pool3d(x, 2), (1, 2, 4, 4, 4)),
    (nn.AdaptiveMaxPool1d(3), lambda x: pydl.adaptive_max_pool1d(x, 3), (2, 3, 8)),
    (nn.AdaptiveMaxPool2d(3), lambda x: pydl.adaptive_max_pool2d(x, 3), (2, 3, 8, 8)),
    (nn.AdaptiveMaxPool3d(2), lambda x: pydl.adaptive_max_pool3d(x, 2), (1, 2, 4, 4, 4)),
    (nn.GlobalAvgPool(), pydl.global_avg_pool, (2, 3, 8, 8)),
    (nn.GlobalMaxPool(keepdim=True), lambda x: pydl.global_max_pool(x, True), (2, 3, 8)),
])
def test_modules(module, function, shape):
    x = pydl.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    np.testing.assert_array_equal(module(x).numpy(), function(x).numpy())
    assert repr(module).startswith(type(module).__name__ + "(")


def test_module_returns_indices_for_unpooling():
    pool, unpool = nn.MaxPool2d(2, stride=2, return_indices=True), nn.MaxUnpool2d(2, stride=2)
    x = pydl.tensor(np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4))
    y, indices = pool(x)
    assert unpool(y, indices)[0, 0].tolist() == [[0, 0, 0, 0], [0, 5, 0, 7], [0, 0, 0, 0], [0, 13, 0, 15]]
    assert repr(pool) == "MaxPool2d(kernel_size=2, stride=2, return_indices=True)"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_long_rows_of_few_channels(isa, channels, stride):
    """Rows longer than one thread takes at a time; small integers, exact."""
    x = np.random.default_rng(0).integers(-99, 99, (1, channels, 2, 2600)).astype(np.float32)
    with instruction_set(isa):
        t = pydl.tensor(x, requires_grad=True)
        y, indices = pydl.max_pool2d(t, 2, stride, 1, return_indices=True)
        total = pydl.avg_pool2d(t, 2, stride, 1, divisor_override=1)
        (y * 2 + total).sum().backward()
    np.testing.assert_array_equal(y.detach().numpy(), reference_max(x, 2, stride, 1))
    np.testing.assert_array_equal(total.detach().numpy(), reference_avg(x, 2, stride, 1, divisor_override=1))
    expected = np.zeros((channels, 5200))
    for c in range(channels):
        np.add.at(expected[c], indices.numpy()[0, c].ravel(), 2)
    expected = expected.reshape(x.shape) + (4 if stride == 1 else 1)
    np.testing.assert_array_equal(t.grad.numpy(), expected)


def test_kernels_refuse_what_does_not_fit():
    def array(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    x, y, plain = array(1, 1, 4, 4, 2), array(1, 1, 2, 2, 2), [(1, 1, 0, 1), (2, 2, 0, 1), (2, 2, 0, 1)]
    taps = array(1, 1, 2, 2, 2, dtype=np.uint8)
    core = pydl._core
    core.max_pool_forward(x, y, taps, plain)
    refused = [
        lambda: core.max_pool_forward(x, y, array(1, 1, 2, 2, 1, dtype=np.uint8), plain),
        lambda: core.max_pool_forward(x, y, array(1, 1, 2, 2, 2, dtype=np.int64), plain),
        lambda: core.max_pool_forward(x, y, taps, [(1, 1, 0, 1), (16, 2, 8, 1), (16, 2, 8, 1)]),  # 256 taps in a byte
        lambda: core.max_pool_forward(x, array(1, 1, 2, 2, 3), None, plain),
        lambda: core.max_pool_forward(x, y.astype(np.float64), None, plain),
        lambda: core.max_pool_forward(x, y, None, [(1, 1, 0, 1), (2, 0, 0, 1), (2, 2, 0, 1)]),
        lambda: core.max_pool_forward(x, y, None, [(1, 1, 0, 1), (2, 2, 0, 0), (2, 2, 0, 1)]),
        lambda: core.avg_pool_forward(x.transpose(0, 1, 3, 2, 4), y, plain, True, 0),
        lambda: core.avg_pool_backward(x, array(2, 1, 2, 2, 2), plain, True, 0),
        lambda: core.max_pool_indices(x, y, taps, plain),
        lambda: core.max_unpool_forward(array(1, 4, 2), array(1, 3, 2, dtype=np.int64), array(1, 9, 2)),
        lambda: core.max_unpool_forward(array(1, 4, 2), array(1, 4, 2, dtype=np.int32), array(1, 9, 2)),
    ]
    for call in refused:
        with pytest.raises(core.NativeError):
            call()
    taps[...] = 255  # no such tap: nothing is read or written there
    core.max_pool_gather(x + 1, y, taps, plain)
    assert not y.any()
    assert not core.max_unpool_backward(array(1, 4, 2), array(1, 4, 2, dtype=np.int64) + 9, array(1, 9, 2))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "ceil"), [
    (3, 2, 1, 1, False), (3, 1, 1, 1, False), (3, 2, 0, 1, True), (2, 1, 0, 1, False), ((5, 2), (3, 1), (2, 1), 1, False),
    ((2, 4), (1, 5), (1, 2), (3, 1), False), (4, 3, 2, 2, True),
])  # fmt: skip
def test_max_pool_without_places_has_the_same_bits(kernel, stride, padding, dilation, ceil, dtype, isa):
    """Which element won is kept for a gradient only: the results are the same without."""
    rng = np.random.default_rng(0)
    data = rng.integers(-3, 3, (2, 37, 21, 19)).astype(dtype)
    data[data == 0] = rng.choice(np.array([0.0, -0.0], dtype), np.count_nonzero(data == 0))
    data[rng.random(data.shape) < 0.02] = np.nan
    data[rng.random(data.shape) < 0.3] = -np.inf
    x = pydl.from_numpy(data)
    pool = pydl.nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    with instruction_set(isa):
        for count in (1, 3):
            with threads(count), pydl.no_grad():
                found = pool(x).numpy()
            kept = pool(x.detach().requires_grad_()).detach().numpy()
            np.testing.assert_array_equal(*(np.ascontiguousarray(y).view(np.uint8) for y in (found, kept)))
    assert np.isnan(kept).any()
    assert np.isfinite(kept).mean() > 0.1
