"""Winograd convolution against the defining sum in float64: values, both gradients, tails, threads, special values."""

import itertools
from contextlib import contextmanager

import numpy as np
import pytest
from records import EXACT_LEVELS, ISAS, instruction_set, threads
from test_conv import conv_reference, whole_numbers

import pydl
from pydl import _core
from pydl.errors import ArgumentError

BOUND = {"gemm": 2e-6, "winograd2": 2e-6, "winograd4": 5e-6}  # relative L2 error; winograd_tile.h has the analysis
TILES = ("winograd2", "winograd4")


@contextmanager
def method(name):
    previous = _core.conv_method()
    _core.set_conv_method(name)
    try:
        yield
    finally:
        _core.set_conv_method(previous)


def gradients(x, w, g, padding):
    """The gradients of <g, conv(x, w)>, tap by tap, in float64."""
    image = np.pad(x, [(0, 0), (0, 0), *padding])
    dx, dw = np.zeros_like(image), np.zeros_like(w)
    for u, v in np.ndindex(w.shape[2:]):
        window = (..., slice(u, u + g.shape[2]), slice(v, v + g.shape[3]))
        dw[:, :, u, v] = np.einsum("nohw,nchw->oc", g, image[window])
        dx[window] += np.einsum("nohw,oc->nchw", g, w[:, :, u, v])
    (top, _), (left, _) = padding
    return dx[:, :, top:top + x.shape[2], left:left + x.shape[3]], dw


def run(x, w, b, g, padding):
    tensors = [pydl.tensor(a.astype(np.float32), requires_grad=True) for a in (x, w, b)]
    y = pydl.conv2d(*tensors, padding=padding)
    y.backward(pydl.tensor(g.astype(np.float32)))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def error(actual, expected):
    """The relative error in the 2-norm. Of data of size 1, a few outputs may be small by chance: they count as 0.3 each."""
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 0.3 * np.sqrt(expected.size), 1e-30)


def case(n, c, o, size, padding, numbers=None, kernel=3):
    """Inputs of a convolution as float64 arrays that are exact in float32, and its padding as pairs."""
    rng = np.random.default_rng([n, c, o, *size])
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else [(p, p) for p in padding]
    out = [s + a + b - kernel + 1 for s, (a, b) in zip(size, pads, strict=True)]
    make = numbers or (lambda rng, shape: rng.standard_normal(shape).astype(np.float32).astype(np.float64))
    return [make(rng, s) for s in ((n, c, *size), (o, c, kernel, kernel), (o,), (n, o, *out))], pads


def expected_of(arrays, pads):
    x, w, b, g = arrays
    image = np.pad(x, [(0, 0), (0, 0), *pads])
    return [conv_reference(image, w, b), *gradients(x, w, g, pads), g.sum((0, 2, 3))]


# Sizes around whole tiles, vectors, panels (14 or 6 rows, two vectors of columns) and blocks of channels (256); tiny images.
CASES = [
    (2, 16, 16, (8, 8), 1), (1, 1, 1, (1, 1), 1), (1, 2, 3, (3, 3), 0), (2, 3, 5, (4, 5), 0), (1, 7, 9, (1, 6), 2),
    (3, 5, 4, (2, 2), 2), (1, 15, 17, (7, 9), 1), (2, 33, 31, (9, 7), 1), (1, 70, 47, (13, 5), 1), (1, 64, 70, (6, 11), 2),
    (2, 130, 33, (7, 7), 1), (1, 270, 65, (5, 6), 1), (1, 65, 270, (6, 5), (1, 0)), (1, 8, 8, (5, 6), (0, 3)),
    (1, 4, 4, (6, 5), (4, 5)), (0, 4, 5, (6, 6), 1), (2, 300, 290, (8, 8), 1),
    (3, 300, 110, (28, 27), 1), (9, 17, 14, (16, 15), 1), (1, 9, 12, (40, 3), 1),
]  # fmt: skip


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize(("n", "c", "o", "size", "padding"), CASES)
def test_against_float64(n, c, o, size, padding, name):
    arrays, pads = case(n, c, o, size, padding)
    expected = expected_of(arrays, pads)
    for isa in ISAS:
        with instruction_set(isa), method(name):
            for what, a, e in zip(("y", "dx", "dw", "db"), run(*arrays, padding), expected, strict=True):
                assert error(a, e) <= BOUND[name], (isa, what)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("n", "c", "o", "size", "padding"), [
    (2, 16, 16, (8, 8), 2), (1, 1, 1, (1, 1), 2), (1, 2, 3, (5, 5), 0), (1, 7, 9, (3, 6), 3), (2, 33, 31, (9, 7), 2),
    (1, 70, 47, (13, 5), 2), (1, 270, 65, (5, 6), 2), (1, 65, 270, (8, 7), (1, 0)), (1, 4, 4, (6, 5), (4, 5)),
    (0, 4, 5, (6, 6), 2), (2, 200, 190, (7, 8), 2), (9, 17, 14, (16, 15), 2),
])  # fmt: skip
def test_filters_of_five(n, c, o, size, padding, isa):
    arrays, pads = case(n, c, o, size, padding, kernel=5)
    with instruction_set(isa), method("winograd2"):
        for what, a, e in zip(("y", "dx", "dw", "db"), run(*arrays, padding), expected_of(arrays, pads), strict=True):
            assert error(a, e) <= BOUND["winograd4"], what


def test_filters_of_five_in_any_memory_order_and_number_of_threads():
    (x, w, b, g), pads = case(3, 40, 33, (13, 12), 2, kernel=5)
    expected, results = expected_of((x, w, b, g), pads), []
    for count in (1, 2, 5):
        with threads(count):
            results.append([a.tobytes() for a in run(x, w, b, g, 2)])
    assert results[0] == results[1] == results[2]
    with method("gemm"):
        assert run(x, w, b, g, 2)[0].tobytes() != results[0][0]  # a layer of this size is worth the transforms
    for order in itertools.permutations(range(4)):
        turned = np.ascontiguousarray(w.astype(np.float32).transpose(order)).transpose(np.argsort(order))
        weight, image = pydl.from_numpy(turned).requires_grad_(), pydl.tensor(x.astype(np.float32), requires_grad=True)
        y = pydl.conv2d(image, weight, pydl.tensor(b.astype(np.float32)), padding=2)
        y.backward(pydl.tensor(g.astype(np.float32)))
        for a, e in zip((y.detach(), image.grad, weight.grad), expected, strict=False):
            assert error(a.numpy(), e) <= BOUND["winograd4"]


@pytest.mark.parametrize("name", TILES)
def test_every_number_of_channels(name):
    for channels, isa in itertools.product(range(1, 71), ISAS):
        (arrays, pads), other = case(1, channels, 71 - channels, (5, 3), 1), ISAS[channels % len(ISAS)]
        if isa != other:
            continue
        with instruction_set(isa), method(name):
            for a, e in zip(run(*arrays, 1), expected_of(arrays, pads), strict=True):
                assert error(a, e) <= BOUND[name], (channels, isa)


@pytest.mark.parametrize("isa", EXACT_LEVELS)
@pytest.mark.parametrize(("n", "c", "o", "size", "padding"), [CASES[i] for i in (2, 4, 7, 9, 12, 13, 14, 16, 17, 18)])
def test_tiles_of_two_are_exact_on_whole_numbers(n, c, o, size, padding, isa):
    """Their transforms add, subtract and halve: small integers pass without rounding."""
    arrays, pads = case(n, c, o, size, padding, whole_numbers)
    with instruction_set(isa), method("winograd2"):
        for a, e in zip(run(*arrays, padding), expected_of(arrays, pads), strict=True):
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("isa", ISAS)
def test_weights_of_any_memory_order(isa, name):
    (x, w, _, _), _ = case(1, 18, 21, (7, 6), 1)
    expected = conv_reference(x, w, padding=1)
    with instruction_set(isa), method(name):
        for order in itertools.permutations(range(4)):
            turned = np.ascontiguousarray(w.astype(np.float32).transpose(order)).transpose(np.argsort(order))
            weight = pydl.from_numpy(turned).requires_grad_(True)
            y = pydl.conv2d(pydl.tensor(x.astype(np.float32)), weight, padding=1)
            assert error(y.detach().numpy(), expected) <= BOUND[name]
            y.sum().backward()
            _, dw = gradients(x, w, np.ones_like(expected), [(1, 1), (1, 1)])
            assert error(weight.grad.numpy(), dw) <= BOUND[name]


@pytest.mark.parametrize("name", TILES)
def test_error_of_many_channels_and_of_offset_data(name):
    """A mean far from zero makes the transforms cancel: the bound holds for relative L2 all the same."""
    (x, w, b, g), pads = case(1, 512, 64, (12, 12), 1)
    for shift in (0.0, 2.0):
        arrays = [np.float32(x + shift).astype(np.float64), w, b, np.float32(g + shift).astype(np.float64)]
        with method(name):
            for a, e in zip(run(*arrays, 1), expected_of(arrays, pads), strict=True):
                assert error(a, e) <= BOUND[name], shift


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize(("c", "o", "size"), [(33, 40, 21), (290, 300, 6)])
def test_threads_do_not_change_a_bit(c, o, size, name):
    arrays, _ = case(3, c, o, (size, size), 1)
    results = []
    for n in (1, 2, 5):
        with threads(n), method(name):
            results.append([a.tobytes() for a in run(*arrays, 1)])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("name", "tile"), [("winograd2", 2), ("winograd4", 4)])
def test_special_values_reach_the_whole_of_their_tiles_and_no_other(name, tile, value):
    (x, w, b, _), _ = case(2, 20, 18, (14, 14), 1)
    with method(name):
        clean = pydl.conv2d(*(pydl.tensor(a.astype(np.float32)) for a in (x, w, b)), padding=1).numpy()
        x[1, 3, 6, 7] = value
        y = pydl.conv2d(*(pydl.tensor(a.astype(np.float32)) for a in (x, w, b)), padding=1).numpy()
    touched = np.zeros((14, 14), bool)
    for i, j in itertools.product(range(0, 14, tile), repeat=2):  # tile (i, j) sees the inputs from i - 1 to i + tile
        touched[i:i + tile, j:j + tile] = i - 1 <= 6 <= i + tile and j - 1 <= 7 <= j + tile
    assert touched[5:8, 6:9].all()
    assert not np.isfinite(y[1][:, 5:8, 6:9]).any()
    np.testing.assert_array_equal(y[0], clean[0])
    np.testing.assert_array_equal(y[1][:, ~touched], clean[1][:, ~touched])


def test_precision_is_a_switch():
    (x, w, b, g), pads = case(2, 64, 64, (24, 24), 1)
    assert pydl.get_conv_precision() == "fast"
    fast = run(x, w, b, g, 1)
    pydl.set_conv_precision("exact")
    try:
        assert pydl.get_conv_precision() == "exact"
        exact = run(x, w, b, g, 1)
        with method("gemm"):
            plain = run(x, w, b, g, 1)
    finally:
        pydl.set_conv_precision("fast")
    for a, f, p, e in zip(exact, fast, plain, expected_of((x, w, b, g), pads), strict=True):
        assert a.tobytes() == p.tobytes()
        assert error(a, e) < 2e-6
        assert error(f, e) < 5e-6
    assert fast[0].tobytes() != exact[0].tobytes()  # a layer of this size is worth the transforms
    with pytest.raises(ArgumentError, match=r"set_conv_precision.*'half'.*'fast' or 'exact'"):
        pydl.set_conv_precision("half")


def test_what_does_not_fit_is_unchanged():
    """Strides, dilation, groups, other kernels and float64 keep their path, whatever the method."""
    rng = np.random.default_rng(0)
    options = [((4, 4, 3, 3), {"stride": 2}), ((4, 4, 3, 3), {"dilation": 2}), ((4, 2, 3, 3), {"groups": 2}), ((4, 4, 3, 1), {}),
               ((4, 4, 1, 3), {})]
    for weight, o in options:
        x, w = whole_numbers(rng, (2, 4, 9, 8)), whole_numbers(rng, weight)
        with method("winograd4"):
            y = pydl.conv2d(pydl.tensor(x.astype(np.float32)), pydl.tensor(w.astype(np.float32)), **o)
        np.testing.assert_array_equal(y.numpy(), conv_reference(x, w, **o))
    x, w = whole_numbers(rng, (2, 4, 9, 8)), whole_numbers(rng, (4, 4, 3, 3))
    with method("winograd4"):
        y = pydl.conv2d(pydl.tensor(x.astype(np.float64)), pydl.tensor(w.astype(np.float64)))
    np.testing.assert_array_equal(y.numpy(), conv_reference(x, w))
    x, w = whole_numbers(rng, (2, 4, 3, 9, 8)), whole_numbers(rng, (4, 4, 1, 3, 3))
    with method("winograd2"):
        y = pydl.conv3d(pydl.tensor(x.astype(np.float32)), pydl.tensor(w.astype(np.float32)), padding=(0, 1, 1))
    np.testing.assert_array_equal(y.numpy(), conv_reference(x, w, padding=(0, 1, 1)))
