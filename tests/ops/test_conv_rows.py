"""1x1 convolution and transposed convolution without overlap: exact on small integers, same bits for any number of threads."""

import numpy as np
import pytest
from records import EXACT_LEVELS, instruction_set, threads
from test_conv import check_exactly, whole_numbers

import pydl

# Rows and columns around panels and blocks; more than one block of the sum (512); rows that are copied apart (1024, 2048).
POINTWISE = [((2, 17, 5, 7), (33, 17, 1, 1)), ((1, 64, 13, 9), (64, 64, 1, 1)), ((3, 600, 3, 3), (40, 600, 1, 1)),
             ((1, 1024, 5, 3), (20, 1024, 1, 1)), ((2, 20, 31), (35, 20, 1)), ((1, 18, 3, 4, 5), (70, 18, 1, 1, 1)),
             ((1, 30, 1, 1), (3, 30, 1, 1))]  # fmt: skip
# Input (of the transposed convolution), weight (its input channels first), stride.
UNFOLDING = [((2, 33, 5, 6), (33, 16, 2, 2), 2), ((1, 64, 7, 9), (64, 47, 2, 3), (2, 3)), ((1, 520, 3, 4), (520, 33, 2, 2), 2),
             ((1, 1024, 2, 3), (1024, 17, 2, 2), 2), ((2, 5, 9), (5, 40, 4), 4), ((1, 3, 2, 3, 4), (3, 18, 2, 3, 1), (2, 3, 1)),
             ((1, 24, 40, 41), (24, 16, 1, 2), (1, 2))]  # fmt: skip
# Input, weight, stride, groups: weight gradients of few sums from many pixels, of an image in rows (from 8192 pixels on) or
# gathered (4096), in several blocks and pieces, the last ones not whole.
LONG = [((2, 70, 65, 65), (33, 70, 1, 1), 1, 1), ((1, 64, 91, 92), (96, 64, 1, 1), 1, 1),
        ((2, 20, 100, 99), (34, 20, 3, 3), 2, 1), ((2, 40, 97, 97), (36, 20, 3, 3), 2, 2),
        ((5, 160, 60, 60), (130, 160, 3, 3), 2, 1)]  # fmt: skip


def data(*shapes):
    rng = np.random.default_rng(sum(map(sum, shapes)))
    return [whole_numbers(rng, s) for s in shapes]


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("x", "w"), POINTWISE)
def test_pointwise_is_exact(x, w, isa):
    with instruction_set(isa):
        for dtype in (np.float32, np.float64):
            check_exactly(len(x) - 2, *data(x, w, w[:1]), dtype=dtype)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("x", "w", "stride"), UNFOLDING)
def test_unfolding_is_exact(x, w, stride, isa):
    with instruction_set(isa):
        for dtype in (np.float32, np.float64):
            check_exactly(len(x) - 2, *data(x, w, w[1:2]), dtype=dtype, stride=stride, transposed=True)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
def test_weights_in_any_memory_order(isa):
    x, w, b = (a.astype(np.float32) for a in data((2, 20, 4, 5), (20, 37, 2, 2), (37,)))
    expected = None
    with instruction_set(isa):
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1), (1, 3, 0, 2)):
            turned = np.ascontiguousarray(w.transpose(order)).transpose(np.argsort(order))
            y = pydl.conv_transpose2d(*(pydl.from_numpy(a) for a in (x, turned, b)), stride=2).numpy()
            expected = y if expected is None else expected
            np.testing.assert_array_equal(y, expected)
            square = pydl.conv2d(pydl.from_numpy(x), pydl.from_numpy(turned[:, :20, :1, :1])).numpy()
            np.testing.assert_array_equal(square, np.einsum("nchw,oc->nohw", x, w[:, :20, 0, 0]))


def weight_gradient(x, w, dy, stride, groups):
    tensors = [pydl.from_numpy(a.copy()).requires_grad_() for a in (x, w)]
    pydl.conv2d(*tensors, stride=stride, groups=groups).backward(pydl.from_numpy(dy))
    return tensors[1].grad.numpy()


def long_data(x, w, stride, numbers):
    size = [(n - k) // stride + 1 for n, k in zip(x[2:], w[2:], strict=True)]
    return [numbers(s) for s in (x, w, (x[0], w[0], *size))]


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("x", "w", "stride", "groups"), LONG)
def test_weight_gradient_of_many_pixels_is_exact(x, w, stride, groups, isa):
    rng = np.random.default_rng(0)
    x, w, dy = long_data(x, w, stride, lambda s: whole_numbers(rng, s))
    expected = np.empty(w.shape)
    (outputs, depth), (rows, columns) = (w.shape[0] // groups, w.shape[1]), dy.shape[2:]
    for g, i, j in np.ndindex(groups, *w.shape[2:]):
        seen = x[:, g * depth : (g + 1) * depth, i : i + stride * rows : stride, j : j + stride * columns : stride]
        own = slice(g * outputs, (g + 1) * outputs)
        expected[own, :, i, j] = np.tensordot(dy[:, own], seen[:, :, :rows, :columns], axes=([0, 2, 3], [0, 2, 3]))
    with instruction_set(isa):
        for dtype in (np.float32, np.float64):
            found = weight_gradient(*(a.astype(dtype) for a in (x, w, dy)), stride, groups)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("x", "w", "stride", "groups"), LONG)
def test_weight_gradient_of_many_pixels_has_the_same_bits_for_every_number_of_threads(x, w, stride, groups):
    rng = np.random.default_rng(0)
    arrays = long_data(x, w, stride, lambda s: rng.normal(size=s).astype(np.float32))
    results = []
    for count in (1, 2, 5):
        with threads(count):
            results.append(weight_gradient(*arrays, stride, groups))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_same_bits_for_every_number_of_threads():
    rng = np.random.default_rng(0)
    x, w, v = (rng.normal(size=s).astype(np.float32) for s in ((2, 70, 33, 31), (90, 70, 1, 1), (70, 40, 2, 2)))
    results = []
    for count in (1, 2, 5):
        with threads(count):
            tensors = [pydl.from_numpy(a.copy()).requires_grad_() for a in (x, w, v)]
            (pydl.conv2d(*tensors[:2]) ** 2).sum().backward()
            (pydl.conv_transpose2d(tensors[0], tensors[2], stride=2) ** 2).sum().backward()
            results.append([t.grad.numpy() for t in tensors])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_error_of_long_sums():
    """Sums are cut as in the matrix product: the error does not grow beyond it."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 2048, 6, 6)), rng.normal(size=(50, 2048, 1, 1))
    y = pydl.conv2d(pydl.from_numpy(x.astype(np.float32)), pydl.from_numpy(w.astype(np.float32))).numpy()
    x, w = x.astype(np.float32).astype(np.float64), w.astype(np.float32).astype(np.float64)
    expected = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])
    assert np.linalg.norm(y - expected) / np.linalg.norm(expected) < 6e-7
