"""Direct convolution for few channels and strides: exact on small integers, and the same bits for every number of threads."""

import numpy as np
import pytest
from records import EXACT_LEVELS, instruction_set, threads
from test_conv import check_exactly, whole_numbers

import pydl

# input, weight, options: the first layers of known networks (smaller batch), then odd sizes, tails, strides, paddings.
SHAPES = [
    ((3, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    ((2, 6, 14, 14), (16, 6, 5, 5), {}),
    ((20, 1, 40), (15, 1, 3), {"stride": 2}),
    ((20, 15, 19), (15, 15, 3), {"stride": 2}),
    ((20, 15, 9), (15, 15, 3), {"stride": 2}),
    ((1, 3, 30, 61), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 9, 40), (64, 3, 3, 3), {"padding": 1}),
    ((1, 3, 31, 35), (96, 3, 11, 11), {"stride": 4, "padding": 2}),
    ((1, 2, 9, 8), (5, 2, 3, 2), {"stride": (2, 3), "padding": (1, 0), "dilation": (2, 1)}),
    ((5, 16, 5, 6), (33, 16, 2, 3), {"stride": (1, 2), "padding": (2, 1)}),
    ((2, 15, 3, 4), (7, 15, 3, 4), {"stride": (3, 1), "padding": (1, 2)}),
    ((1, 3, 150, 10), (8, 3, 3, 3), {"padding": 1}),
    ((2, 1, 40, 30), (3, 1, 3, 3), {"stride": (3, 1), "padding": 1}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((3, 2, 7), (33, 2, 5), {"padding": 4}),
    ((1, 1, 3), (1, 1, 3), {}),
    ((7, 3, 50), (20, 3, 4), {"stride": 3, "padding": 2}),
    # Many channels, at least 1024 output pixels: forward always, the data gradient with strides and whole blocks of channels.
    ((2, 32, 48, 50), (40, 32, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 64, 70, 33), (33, 64, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (2, 1)}),
    ((1, 40, 36, 34), (24, 40, 1, 5), {"padding": (0, 2)}),
    ((2, 17, 1100), (32, 17, 3), {"stride": 2, "padding": 1}),
]
NAMES = ["x".join(map(str, w)) + f"@{x[-1]}" for x, w, _ in SHAPES]


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=NAMES)
def test_exact(x, w, options, isa):
    rng = np.random.default_rng(sum(x) + sum(w))
    data = [whole_numbers(rng, s) for s in (x, w, w[:1])]
    with instruction_set(isa):
        for dtype in (np.float32, np.float64):
            check_exactly(len(x) - 2, *data, dtype=dtype, **options)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("x", "w", "options"), SHAPES[:8:2], ids=NAMES[:8:2])
def test_exact_transposed(x, w, options, isa):
    rng = np.random.default_rng(sum(x) + sum(w))
    data = [whole_numbers(rng, s) for s in ((x[0], w[0], *x[2:]), w, w[1:2])]
    with instruction_set(isa):
        check_exactly(len(x) - 2, *data, transposed=True, **options)


@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=NAMES)
def test_same_bits_for_every_number_of_threads(x, w, options):
    rng = np.random.default_rng(1)
    n = len(x) - 2
    a, k, b = (rng.normal(size=s).astype(np.float32) for s in (x, w, w[:1]))
    results = []
    for count in (1, 2, 5):
        with threads(count):
            tensors = [pydl.from_numpy(v.copy()).requires_grad_() for v in (a, k, b)]
            y = getattr(pydl, f"conv{n}d")(*tensors, **options)
            (y * y).sum().backward()
            results.append([y.detach().numpy(), *(t.grad.numpy() for t in tensors)])
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
def test_not_a_number_stays_where_its_window_is(isa):
    with instruction_set(isa):
        x = np.ones((1, 3, 12, 12), np.float32)
        x[0, 1, 6, 6] = np.nan
        w, x = (pydl.from_numpy(v).requires_grad_() for v in (np.ones((20, 3, 3, 3), np.float32), x))
        y = pydl.conv2d(x, w)
        seen = np.isnan(y.detach().numpy())
        assert seen[:, :, 4:7, 4:7].all()
        assert seen.sum() == 20 * 9
        g = np.ones(y.shape, np.float32)
        g[0, 3, 5, 5] = np.inf
        y.backward(pydl.from_numpy(g))
        spread = ~np.isfinite(x.grad.numpy())
        assert spread[:, :, 5:8, 5:8].all()
        assert spread.sum() == 3 * 9


def test_extreme_sizes_are_left_to_the_general_kernels():
    x = pydl.from_numpy(np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4))
    w = pydl.from_numpy(np.ones((1, 1, 2, 2), np.float32))
    y = pydl.conv2d(x, w, stride=1 << 30).numpy()
    np.testing.assert_array_equal(y, [[[[10.0]]]])
