"""Filters against float64 loops, against SciPy, and by what a linear, shift-equivariant system must do."""

import numpy as np
import pytest

import pydl
from pydl.errors import ArgumentError, ShapeError
from pydl.vision import filters as f

rng = np.random.default_rng(0)


def loops(x, k, convolve):
    """The definition, with zeros outside."""
    kh, kw = k.shape
    y = np.zeros(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for u in range(kh):
                for v in range(kw):
                    a, b = (i - u + kh // 2, j - v + kw // 2) if convolve else (i + u - kh // 2, j + v - kw // 2)
                    if 0 <= a < x.shape[0] and 0 <= b < x.shape[1]:
                        y[i, j] += k[u, v] * x[a, b]
    return y


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 3), (4, 4), (1, 5), (5, 2)])
def test_definition_for_odd_and_even_kernels(shape):
    x, k = rng.integers(-9, 9, (9, 7)).astype(np.float64), rng.integers(-9, 9, shape).astype(np.float64)
    assert np.array_equal(f.correlate2d(x, k), loops(x, k, convolve=False))
    assert np.array_equal(f.convolve2d(x, k), loops(x, k, convolve=True))


SCIPY_BORDER = {"constant": "constant", "replicate": "nearest", "reflect": "mirror", "circular": "wrap"}


@pytest.mark.parametrize("padding", SCIPY_BORDER)
@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (4, 4)])
def test_borders_as_scipy(padding, shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    x, k = rng.integers(-9, 9, (11, 8)).astype(np.float64), rng.integers(-9, 9, shape).astype(np.float64)
    for ours, theirs in ((f.correlate2d, ndimage.correlate), (f.convolve2d, ndimage.convolve)):
        assert np.array_equal(ours(x, k, padding=padding), theirs(x, k, mode=SCIPY_BORDER[padding]))


@pytest.mark.parametrize("mode", ["full", "valid"])
def test_modes_as_scipy(mode):
    signal = pytest.importorskip("scipy.signal")
    x, k = rng.integers(-9, 9, (11, 8)).astype(np.float64), rng.integers(-9, 9, (4, 3)).astype(np.float64)
    assert np.array_equal(f.convolve2d(x, k, mode), signal.convolve2d(x, k, mode))
    assert np.array_equal(f.correlate2d(x, k, mode), signal.correlate2d(x, k, mode))


KERNELS = {
    "identity": f.identity(), "shift": f.shift(1, -2), "box": f.box(5), "binomial": f.binomial(5), "gaussian": f.gaussian(1.2),
    "sharpen": f.sharpen(), "sobel": f.sobel(), "prewitt": f.prewitt(0), "first": f.derivative(1), "second": f.derivative(2, 0),
    "laplacian": f.laplacian(), "diagonal": f.laplacian(diagonal=True), "log": f.laplacian_of_gaussian(1.4),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_linear_and_shift_equivariant(name):
    k = KERNELS[name]
    a, b = rng.normal(size=(2, 3, 20, 24))
    together = f.convolve2d(2 * a - 3 * b, k)
    assert np.abs(together).max() > 0.1
    np.testing.assert_allclose(together, 2 * f.convolve2d(a, k) - 3 * f.convolve2d(b, k), atol=1e-12)
    moved = f.convolve2d(np.roll(a, (3, -5), (1, 2)), k, padding="circular")
    np.testing.assert_allclose(moved, np.roll(f.convolve2d(a, k, padding="circular"), (3, -5), (1, 2)), atol=1e-12)


def test_sums_of_kernels():
    for name in ("identity", "shift", "box", "binomial", "gaussian", "sharpen"):
        assert KERNELS[name].sum(dtype=np.float64) == pytest.approx(1, abs=1e-6), name
    for name in ("sobel", "prewitt", "first", "second", "laplacian", "diagonal", "log"):
        assert abs(KERNELS[name].sum(dtype=np.float64)) < 1e-6, name
        assert np.abs(KERNELS[name]).max() > 0.01


def test_known_kernels():
    assert np.array_equal(f.binomial(3) * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert np.array_equal(f.sobel(1), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    assert np.array_equal(f.sobel(0), f.sobel(1).T)
    np.testing.assert_allclose(f.sharpen() * 9, [[-1, -1, -1], [-1, 17, -1], [-1, -1, -1]], rtol=1e-6)
    assert f.gaussian(1.0).shape == (7, 7)


def test_derivatives_of_polynomials_are_exact():
    y, x = np.mgrid[:10, :12].astype(np.float64)
    image = 3 * x + 5 * y + 2 * x * x - y * y
    inner = (slice(1, -1), slice(1, -1))
    assert np.array_equal(f.correlate2d(image, f.derivative(1, 1))[inner], (3 + 4 * x)[inner])
    assert np.array_equal(f.correlate2d(image, f.derivative(2, 0))[inner], np.full((8, 10), -2.0))
    assert np.array_equal(f.correlate2d(image, f.laplacian())[inner], np.full((8, 10), 2.0))
    for kernel in ("sobel", "prewitt", "central"):
        down, right = f.gradient(image, kernel)
        np.testing.assert_allclose(down[inner], (5 - 2 * y)[inner], atol=1e-5)
        np.testing.assert_allclose(right[inner], (3 + 4 * x)[inner], atol=1e-5)


def test_shift_moves_the_image():
    x = rng.integers(0, 9, (8, 9)).astype(np.float32)
    assert np.array_equal(f.convolve2d(x, f.shift(2, -1), padding="circular"), np.roll(x, (2, -1), (0, 1)))
    assert np.array_equal(f.correlate2d(x, f.identity(5)), x)


def test_laplacian_of_gaussian_is_the_laplacian_of_the_gaussian():
    analytic = f.laplacian_of_gaussian(2.0, 17).astype(np.float64)
    numeric = f.convolve2d(f.gaussian(2.0, 19).astype(np.float64), f.laplacian(), "valid")
    assert np.linalg.norm(analytic - numeric) < 0.12 * np.linalg.norm(analytic)


def test_separable():
    x = rng.normal(size=(2, 20, 30))
    for kernel in (f.gaussian(1.3), f.box(5), f.binomial(4), f.sobel(0)):
        column, row = f.separate(kernel)
        np.testing.assert_allclose(np.outer(column, row), kernel, atol=1e-6)
        for mode in ("same", "valid", "full"):
            np.testing.assert_allclose(f.correlate_separable(x, column, row, mode), f.correlate2d(x, kernel, mode), atol=1e-5)
    with pytest.raises(ArgumentError, match="not separable"):
        f.separate(f.laplacian())


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_toeplitz_is_convolution(mode):
    x, k = rng.integers(-9, 9, 10).astype(np.float64), rng.integers(-9, 9, 4).astype(np.float64)
    matrix = f.toeplitz(k, 10, mode)
    assert np.array_equal(matrix @ x, f.convolve2d(x[None], k[None], mode)[0] if mode == "same" else np.convolve(x, k, mode))
    assert all(len(set(np.diagonal(matrix, d))) == 1 for d in range(-len(matrix) + 1, 10))
    image, kernel = rng.integers(-9, 9, (6, 5)).astype(np.float64), rng.integers(-9, 9, (2, 3)).astype(np.float64)
    expected = f.convolve2d(image, kernel, mode)
    assert np.array_equal((f.toeplitz2d(kernel, (6, 5), mode) @ image.ravel()).reshape(expected.shape), expected)


def test_circulant_and_the_convolution_theorem():
    x, k = rng.normal(size=12), rng.normal(size=5)
    matrix = f.circulant(k, 12)
    direct = np.array([sum(k[j] * x[(i - j) % 12] for j in range(5)) for i in range(12)])
    np.testing.assert_allclose(matrix @ x, direct, atol=1e-12)
    modes = np.exp(2j * np.pi * np.outer(np.arange(12), np.arange(12)) / 12)
    np.testing.assert_allclose(matrix @ modes, modes * np.fft.fft(k, 12), atol=1e-12)  # eigenvectors and eigenvalues
    image, kernel = rng.normal(size=(6, 7)), rng.normal(size=(3, 2))
    by_matrix = (f.circulant2d(kernel, (6, 7)) @ image.ravel()).reshape(6, 7)
    np.testing.assert_allclose(by_matrix, f.fft_convolve2d(image, kernel, "circular"), atol=1e-12)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (1, 2)])
def test_fft_is_convolution(mode, shape):
    x, k = rng.normal(size=(2, 17, 13)), rng.normal(size=shape)
    np.testing.assert_allclose(f.fft_convolve2d(x, k, mode), f.convolve2d(x, k, mode), atol=1e-12)


def test_gradients_of_image_and_kernel():
    x = pydl.tensor(rng.normal(size=(2, 6, 7)), requires_grad=True)
    k = pydl.tensor(rng.normal(size=(3, 2)), requires_grad=True)
    for padding in ("constant", "reflect", "replicate", "circular"):
        assert pydl.autograd.gradcheck(lambda a, b, p=padding: f.convolve2d(a, b, padding=p), (x, k))


def test_dtypes_and_kinds():
    grey = rng.integers(0, 255, (8, 9)).astype(np.uint8)
    assert f.correlate2d(grey, f.box(3)).dtype == np.float32
    assert f.correlate2d(grey.astype(np.float64), f.box(3)).dtype == np.float64
    assert isinstance(f.correlate2d(pydl.tensor(grey), f.box(3)), pydl.Tensor)
    assert f.correlate2d(np.zeros((4, 3, 8, 9), np.float32), f.box(3), "valid").shape == (4, 3, 6, 7)


def test_canny_outlines_a_square():
    image = np.zeros((40, 40), np.float32)
    image[10:30, 12:28] = 1
    edges = f.canny(image, 0.05, 0.15)
    ring = np.zeros(image.shape, bool)
    ring[8:32, 10:30] = True
    ring[12:28, 14:26] = False
    assert edges[ring].sum() >= 60
    assert not edges[~ring].any()
    assert edges[15:25].sum(1).max() == 2  # one pixel wide on either side


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: f.correlate2d(np.zeros(5), f.box()), ShapeError, r"image must be \(..., H, W\)"),
        (lambda: f.correlate2d(np.zeros((5, 5)), np.zeros(3)), ShapeError, r"kernel must be \(KH, KW\)"),
        (lambda: f.correlate2d(np.zeros((5, 5)), f.box(), mode="half"), ArgumentError, "same, valid, full"),
        (lambda: f.correlate2d(np.zeros((2, 2)), f.box(), mode="valid"), ShapeError, "larger than the image"),
        (lambda: f.correlate2d(np.zeros((5, 5)), f.box(), padding="mirror"), ArgumentError, "reflect"),
        (lambda: f.gaussian(0), ArgumentError, "sigma"),
        (lambda: f.shift(2, 0, 3), ArgumentError, "size 5"),
        (lambda: f.sobel(2), ArgumentError, "axis"),
        (lambda: f.toeplitz(np.zeros((2, 2)), 5), ShapeError, "toeplitz2d"),
        (lambda: f.circulant(np.zeros(6), 5), ShapeError, "more than length"),
        (lambda: f.fft_convolve2d(pydl.ones(4, 4, requires_grad=True), f.box()), ArgumentError, "not differentiable"),
        (lambda: f.canny(np.zeros((3, 4, 4)), 1, 2), ShapeError, "grey"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_results_do_not_depend_on_threads():
    x = rng.normal(size=(3, 150, 201)).astype(np.float32)
    threads = pydl.get_num_threads()
    try:
        results = []
        for n in (1, 3):
            pydl.set_num_threads(n)
            results.append(f.convolve2d(x, f.gaussian(2.0)))
    finally:
        pydl.set_num_threads(threads)
    assert np.array_equal(*results)


@pytest.mark.parametrize("width", [1, 7, 8, 15, 16, 17, 33, 64, 65, 131])
def test_widths_around_the_vectors(width):
    x, k = rng.integers(-9, 9, (5, width)).astype(np.float32), rng.integers(-9, 9, (3, 4)).astype(np.float32)
    assert np.array_equal(f.correlate2d(x, k), loops(x, k, convolve=False))
