"""Linear filters of images: correlation and convolution in space, by matrices, and through the Fourier transform.

An image is anything of shape (..., H, W): a `Tensor` (filters are then differentiable, in the image and in the kernel) or
an array; each of the leading axes (channels, batch) is filtered by itself. Kernels are (KH, KW); their centre is element
(KH // 2, KW // 2). Whole numbers become float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydl import _core
from pydl.errors import ArgumentError, ShapeError
from pydl.graph import TensorCore, no_grad, wrap
from pydl.graph.engine import apply
from pydl.graph.op import Cost, Op, Shape
from pydl.ops._common import contiguous, empty
from pydl.ops.conv import conv2d
from pydl.ops.pad import pad as pad_op
from pydl.ops.shape import flip, reshape

__all__ = [
    "binomial", "box", "canny", "circulant", "circulant2d", "convolve2d", "correlate2d", "correlate_separable", "derivative",
    "fft_convolve2d", "gaussian", "gaussian_1d", "gradient", "identity", "laplacian", "laplacian_of_gaussian", "prewitt",
    "separate", "sharpen", "shift", "sobel", "toeplitz", "toeplitz2d",
]  # fmt: skip

_MODES = ("same", "valid", "full")


# --------------------------------------------------------------------------- kernels


def identity(size: int = 3) -> np.ndarray:
    """The kernel that changes nothing: 1 at the centre."""
    return shift(0, 0, size)


def shift(rows: int, columns: int, size: int | None = None) -> np.ndarray:
    """The kernel that moves the image down by `rows` and right by `columns` when convolved with it."""
    reach = max(abs(rows), abs(columns))
    size = 2 * reach + 1 if size is None else _size("shift", size)
    centre = size // 2
    if not (0 <= centre + rows < size and 0 <= centre + columns < size):
        raise ArgumentError(f"[shift] a kernel of size {size} cannot move by ({rows}, {columns}); size {2 * reach + 1} can")
    kernel = np.zeros((size, size), np.float32)
    kernel[centre + rows, centre + columns] = 1
    return kernel


def box(size: int = 3) -> np.ndarray:
    """The mean over a square."""
    return np.full((_size("box", size), size), 1 / size**2, np.float32)


def binomial(size: int = 3) -> np.ndarray:
    """A weighted mean: products of binomial coefficients, [1 2 1] x [1 2 1] / 16 for size 3."""
    row = np.ones(1)
    for _ in range(_size("binomial", size) - 1):
        row = np.convolve(row, [0.5, 0.5])
    return np.outer(row, row).astype(np.float32)


def gaussian_1d(sigma: float, size: int | None = None) -> np.ndarray:
    """exp(-t^2 / 2 sigma^2), normalised to sum 1; `size` defaults to three deviations on each side."""
    if not sigma > 0:
        raise ArgumentError(f"[gaussian] sigma={sigma}: expected a positive number")
    size = 2 * int(np.ceil(3 * sigma)) + 1 if size is None else _size("gaussian", size)
    t = np.arange(size) - (size - 1) / 2
    row = np.exp(-0.5 * (t / sigma) ** 2)
    return (row / row.sum()).astype(np.float32)


def gaussian(sigma: float, size: int | None = None) -> np.ndarray:
    """The Gaussian in two dimensions, the product of two of `gaussian_1d`."""
    row = gaussian_1d(sigma, size).astype(np.float64)
    return np.outer(row, row).astype(np.float32)


def sharpen(amount: float = 1.0, size: int = 3) -> np.ndarray:
    """(1 + amount) times the image less amount times its mean: what smoothing takes away is added."""
    return (1 + amount) * identity(size) - amount * box(size)


def sobel(axis: int = 1) -> np.ndarray:
    """The derivative along `axis` (0 down, 1 to the right), smoothed across by [1 2 1]; to be correlated with."""
    return _across(np.array([1, 2, 1]), axis)


def prewitt(axis: int = 1) -> np.ndarray:
    """The derivative along `axis` (0 down, 1 to the right), smoothed across by [1 1 1]; to be correlated with."""
    return _across(np.array([1, 1, 1]), axis)


def derivative(order: int = 1, axis: int = 1) -> np.ndarray:
    """Central differences along `axis`: [-1 0 1] / 2 for the first derivative, [1 -2 1] for the second; to correlate with."""
    if order not in (1, 2):
        raise ArgumentError(f"[derivative] order={order}: expected 1 or 2")
    row = np.array([-0.5, 0, 0.5] if order == 1 else [1, -2, 1], np.float32)
    return row.reshape((1, 3) if _axis("derivative", axis) == 1 else (3, 1))


def laplacian(diagonal: bool = False) -> np.ndarray:
    """The sum of the second derivatives along both axes; with `diagonal`, along the diagonals as well."""
    if diagonal:
        return np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]], np.float32)
    return np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)


def laplacian_of_gaussian(sigma: float, size: int | None = None) -> np.ndarray:
    """The Laplacian of a Gaussian, (r^2 - 2 sigma^2) / sigma^4 g(r), moved to sum 0 (Marr and Hildreth 1980)."""
    size = 2 * int(np.ceil(4 * sigma)) + 1 if size is None else _size("laplacian_of_gaussian", size)
    g = gaussian(sigma, size).astype(np.float64)
    t = np.arange(size) - (size - 1) / 2
    kernel = (t[:, None] ** 2 + t**2 - 2 * sigma**2) / sigma**4 * g
    return (kernel - kernel.mean()).astype(np.float32)


def _across(smooth: np.ndarray, axis: int) -> np.ndarray:
    kernel = np.outer(smooth, [-1, 0, 1]).astype(np.float32)
    return kernel if _axis("kernel", axis) == 1 else np.ascontiguousarray(kernel.T)


def _axis(op: str, axis: int) -> int:
    if axis not in (0, 1):
        raise ArgumentError(f"[{op}] axis={axis}: expected 0 (down) or 1 (to the right)")
    return axis


def _size(op: str, size: int) -> int:
    if not isinstance(size, int | np.integer) or size < 1:
        raise ArgumentError(f"[{op}] size={size}: expected a positive whole number")
    return int(size)


# --------------------------------------------------------------------------- in space


def correlate2d(image: Any, kernel: Any, mode: str = "same", padding: str = "constant") -> Any:
    """Slide the kernel over the image: y[i, j] = sum over u, v of k[u, v] x[i + u - KH // 2, j + v - KW // 2].

    Parameters
    ----------
    image : Tensor or array (..., H, W)
    kernel : Tensor or array (KH, KW)
    mode : {"same", "valid", "full"}
        Output of the image's size; only where the kernel lies inside; or wherever they touch.
    padding : {"constant", "reflect", "replicate", "circular"}
        What lies outside the image: zeros, its mirror image, its edge, or its other end.

    Returns
    -------
    Tensor if image or kernel is one, else ndarray.
    """
    return _filter("correlate2d", image, kernel, mode, padding, turn=False)


def convolve2d(image: Any, kernel: Any, mode: str = "same", padding: str = "constant") -> Any:
    """Correlation with the kernel turned by half a turn: y[i, j] = sum over u, v of k[u, v] x[i - u + KH // 2, j - v + KW // 2].

    Unlike correlation it is commutative and associative. Parameters as of `correlate2d`.
    """
    return _filter("convolve2d", image, kernel, mode, padding, turn=True)


def correlate_separable(image: Any, column: Any, row: Any, mode: str = "same", padding: str = "constant") -> Any:
    """`correlate2d` with the kernel ``outer(column, row)`` in two passes: KH + KW instead of KH KW products a pixel."""
    column, row = (v if isinstance(v, TensorCore) else np.asarray(v) for v in (column, row))
    if column.ndim != 1 or row.ndim != 1:
        raise ShapeError(f"[correlate_separable] column and row must have one axis, got shapes {column.shape} and {row.shape}")
    first = correlate2d(image, row.reshape(1, -1), mode, padding)
    return correlate2d(first, column.reshape(-1, 1), mode, padding)


def separate(kernel: Any, tolerance: float = 1e-5) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) whose outer product is the kernel, from its singular values.

    Raises
    ------
    ArgumentError
        If the kernel has a rank above 1: the second singular value exceeds `tolerance` times the first.
    """
    k = _kernel("separate", _data(kernel))
    u, s, v = np.linalg.svd(k.astype(np.float64), full_matrices=False)
    if len(s) > 1 and s[1] > tolerance * s[0]:
        raise ArgumentError(f"[separate] the kernel is not separable: its singular values are {np.array2string(s, precision=3)}")
    sign = np.sign(v[0, np.abs(v[0]).argmax()]) or 1.0
    root = np.sqrt(s[0])
    return (sign * root * u[:, 0]).astype(k.dtype), (sign * root * v[0]).astype(k.dtype)


class FilterPlanes(Op):
    """Correlation of planes (N, H, W) with one kernel, where it lies inside (kernel: csrc/cpu/filter.cpp)."""

    name, backward_on_tensors = "filter", True

    @staticmethod
    def shape(x: np.ndarray, kernel: np.ndarray) -> Shape:
        return (x.shape[0], x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1)

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        ctx.save(x, kernel)
        y = empty(FilterPlanes.shape(x, kernel), x.dtype)
        _core.filter_planes(contiguous(x), contiguous(kernel), y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> tuple[Any, Any]:
        x, kernel = ctx.saved
        kh, kw = kernel.data.shape
        dx = dk = None
        if ctx.needs[0]:
            dx = apply(FilterPlanes, pad_op(g, (kw - 1, kw - 1, kh - 1, kh - 1)), flip(kernel, (0, 1)))
        if ctx.needs[1]:  # the planes are channels of one image, the gradient a kernel as large as the output
            dk = reshape(conv2d(reshape(x, (1, *x.data.shape)), reshape(g, (1, *g.data.shape))), (kh, kw))
        return dx, dk

    @staticmethod
    def cost(out_shape: Shape, *args: Any) -> Cost:
        x, kernel = args[0], args[1]
        outputs = out_shape[0] * out_shape[1] * out_shape[2]
        return Cost(2 * outputs * kernel.size, x.nbytes + kernel.nbytes + outputs * x.itemsize)


def _filter(op: str, image: Any, kernel: Any, mode: str, padding: str, turn: bool) -> Any:
    if mode not in _MODES:
        raise ArgumentError(f"[{op}] mode={mode!r}; expected one of {', '.join(_MODES)}")
    if not isinstance(image, TensorCore) and not isinstance(kernel, TensorCore):
        with no_grad():
            return _filter(op, wrap(_floating(np.asarray(image))), wrap(np.asarray(kernel)), mode, padding, turn).numpy()
    x, k = (v if isinstance(v, TensorCore) else wrap(np.asarray(v)) for v in (image, kernel))
    x, k = _as_float(x), _as_float(k)
    if x.data.ndim < 2:
        raise ShapeError(f"[{op}] image must be (..., H, W), got shape {x.data.shape}")
    _kernel(op, k.data)
    if k.data.dtype != x.data.dtype:
        k = k.to(x.data.dtype)
    *lead, h, w = x.data.shape
    kh, kw = k.data.shape
    pads = _pads(mode, kw, turn) + _pads(mode, kh, turn)  # the last axis first
    x = reshape(x, (-1, h, w))
    if any(pads):
        x = pad_op(x, pads, padding)
    if x.data.shape[1] < kh or x.data.shape[2] < kw:
        raise ShapeError(f"[{op}] the kernel {k.data.shape} is larger than the image {(h, w)}: mode='valid' leaves nothing")
    y = apply(FilterPlanes, x, flip(k, (0, 1)) if turn else k)
    return reshape(y, (*lead, *y.data.shape[1:]))


def _pads(mode: str, size: int, turn: bool) -> tuple[int, int]:
    """Elements before and after; turning a kernel of even size moves its centre."""
    if mode != "same":
        return (0, 0) if mode == "valid" else (size - 1, size - 1)
    before = (size - 1) // 2 if turn else size // 2
    return before, size - 1 - before


def _data(value: Any) -> np.ndarray:
    return value.data if isinstance(value, TensorCore) else np.asarray(value)


def _floating(array: np.ndarray) -> np.ndarray:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _as_float(tensor: Any) -> Any:
    return tensor if tensor.data.dtype.kind == "f" else wrap(_floating(tensor.data))


def _kernel(op: str, kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ShapeError(f"[{op}] kernel must be (KH, KW), got shape {kernel.shape}")
    return _floating(kernel)


# --------------------------------------------------------------------------- as matrices


def toeplitz(kernel: Any, length: int, mode: str = "full") -> np.ndarray:
    """The matrix T with T x = convolution of x (length elements) with a kernel of one axis: its diagonals are constant.

    Shape (outputs, length), outputs as of `convolve2d` with zeros outside.
    """
    k = _row("toeplitz", kernel)
    outputs, start = _extent("toeplitz", mode, length, len(k))
    lag = np.arange(outputs)[:, None] + start - np.arange(length)  # y[i] = sum k[i - j] x[j]
    return np.where((lag >= 0) & (lag < len(k)), k[np.clip(lag, 0, len(k) - 1)], 0)


def circulant(kernel: Any, length: int) -> np.ndarray:
    """The matrix C with C x = circular convolution of x with the kernel: each column is the one before, shifted by one.

    Its eigenvectors are the Fourier modes and its eigenvalues the kernel's transform: the convolution theorem.
    """
    k = _row("circulant", kernel)
    if len(k) > length:
        raise ShapeError(f"[circulant] the kernel has {len(k)} elements, more than length={length}")
    column = np.zeros(length, k.dtype)
    column[: len(k)] = k
    return column[(np.arange(length)[:, None] - np.arange(length)) % length]


def toeplitz2d(kernel: Any, shape: Sequence[int], mode: str = "full") -> np.ndarray:
    """The matrix T with T vec(x) = vec(convolution of image x of `shape` with the kernel): Toeplitz blocks, arranged so too.

    Shape (outputs, H W), images row by row. For small images: it has H W entries for each output.
    """
    k, (h, w) = _kernel("toeplitz2d", _data(kernel)), shape
    rows = [toeplitz(line, w, mode) for line in k]  # one block for each line of the kernel
    outputs, start = _extent("toeplitz2d", mode, h, len(k))
    blocks = np.zeros((outputs, len(rows[0]), h, w), k.dtype)
    for i in range(outputs):
        for j in range(max(0, i + start - len(k) + 1), min(h, i + start + 1)):
            blocks[i, :, j] = rows[i + start - j]
    return blocks.reshape(-1, h * w)


def circulant2d(kernel: Any, shape: Sequence[int]) -> np.ndarray:
    """The matrix of the circular convolution in two dimensions: circulant blocks in a circulant arrangement, (H W, H W)."""
    k, (h, w) = _kernel("circulant2d", _data(kernel)), shape
    if k.shape[0] > h or k.shape[1] > w:
        raise ShapeError(f"[circulant2d] the kernel {k.shape} is larger than shape={tuple(shape)}")
    blocks = np.zeros((h, w, h, w), k.dtype)
    for u, line in enumerate(k):
        block = circulant(line, w)
        for j in range(h):
            blocks[(j + u) % h, :, j] = block
    return blocks.reshape(h * w, h * w)


def _row(op: str, kernel: Any) -> np.ndarray:
    k = _floating(_data(kernel))
    if k.ndim != 1 or not len(k):
        raise ShapeError(f"[{op}] kernel must have one axis, got shape {k.shape}; the matrix for an image is {op}2d")
    return k


def _extent(op: str, mode: str, length: int, taps: int) -> tuple[int, int]:
    """How many outputs, and which element of the full convolution is the first."""
    if mode not in _MODES:
        raise ArgumentError(f"[{op}] mode={mode!r}; expected one of {', '.join(_MODES)}")
    if mode == "valid" and taps > length:
        raise ShapeError(f"[{op}] a kernel of {taps} taps does not fit into {length} elements: mode='valid' leaves nothing")
    return {"full": (length + taps - 1, 0), "same": (length, taps // 2), "valid": (length - taps + 1, taps - 1)}[mode]


# --------------------------------------------------------------------------- through the Fourier transform


def fft_convolve2d(image: Any, kernel: Any, mode: str = "same") -> np.ndarray:
    """`convolve2d` by the convolution theorem: the transform of a convolution is the product of the transforms.

    H W log(H W) operations whatever the kernel's size; zeros lie outside the image. With mode "circular", the image goes on at
    its other end and the kernel's first element is the origin: the theorem itself. Gives an array, in double precision
    inside; not differentiable (use `convolve2d`).
    """
    x, k = _floating(_data(image)), _kernel("fft_convolve2d", _data(kernel))
    if any(isinstance(v, TensorCore) and v.requires_grad for v in (image, kernel)):
        raise ArgumentError("[fft_convolve2d] is not differentiable: use convolve2d, or detach() the tensor")
    if x.ndim < 2:
        raise ShapeError(f"[fft_convolve2d] image must be (..., H, W), got shape {x.shape}")
    sizes = x.shape[-2:]
    if mode == "circular":
        if any(n < m for n, m in zip(sizes, k.shape, strict=True)):
            raise ShapeError(f"[fft_convolve2d] the kernel {k.shape} is larger than the image {sizes}")
        return _by_spectrum(x, k, sizes)
    cuts = [_extent("fft_convolve2d", mode, n, m) for n, m in zip(sizes, k.shape, strict=True)]
    whole = _by_spectrum(x, k, [_smooth(n + m - 1) for n, m in zip(sizes, k.shape, strict=True)])
    rows, columns = (slice(start, start + n) for n, start in cuts)
    return np.ascontiguousarray(whole[..., rows, columns])


def _by_spectrum(x: np.ndarray, k: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    spectrum = np.fft.rfft2(x.astype(np.float64), sizes) * np.fft.rfft2(k.astype(np.float64), sizes)
    return np.fft.irfft2(spectrum, sizes).astype(x.dtype)


def _smooth(n: int) -> int:
    """The next length without prime factors above 5: quick to transform."""
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1


# --------------------------------------------------------------------------- edges


def gradient(image: Any, kernel: str = "sobel", padding: str = "replicate") -> tuple[Any, Any]:
    """The derivatives down and to the right, by Sobel's or Prewitt's kernels scaled to one pixel, or by "central" differences."""
    if kernel not in ("sobel", "prewitt", "central"):
        raise ArgumentError(f"[gradient] kernel={kernel!r}; expected sobel, prewitt or central")
    if kernel == "central":
        down, right = derivative(1, 0), derivative(1, 1)
    else:
        make, scale = (sobel, 8) if kernel == "sobel" else (prewitt, 6)
        down, right = make(0) / np.float32(scale), make(1) / np.float32(scale)
    return correlate2d(image, down, padding=padding), correlate2d(image, right, padding=padding)


def canny(image: Any, low: float, high: float, sigma: float = 1.4) -> np.ndarray:
    """Edges one pixel wide of a grey image (H, W), as bool (Canny 1986).

    Smoothed by a Gaussian; where the gradient's length is greatest across the edge and above `high`, or above `low` and
    connected (by any of 8 neighbours) to such a pixel. Lengths are in grey values a pixel.
    """
    grey = _floating(_data(image))
    if grey.ndim != 2:
        raise ShapeError(f"[canny] image must be grey (H, W), got shape {grey.shape}")
    if not 0 <= low <= high:
        raise ArgumentError(f"[canny] low={low}, high={high}: expected 0 <= low <= high")
    g = gaussian_1d(sigma)
    down, right = gradient(correlate_separable(grey, g, g, padding="replicate"))
    length = np.hypot(down, right)
    # Along the gradient's direction, rounded to one of four, no neighbour may be longer.
    sector = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    around = np.pad(length, 1)
    h, w = length.shape
    peak = np.zeros(length.shape, bool)
    for s, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead, behind = (around[1 + o * dy : 1 + o * dy + h, 1 + o * dx : 1 + o * dx + w] for o in (1, -1))
        peak |= (sector == s) & (length > ahead) & (length >= behind)
    weak, edges = peak & (length > low), peak & (length > high)
    while True:  # edges grow into their weak neighbours until nothing changes
        wide = np.pad(edges, 1)
        near = np.zeros_like(edges)
        for dy in range(3):
            for dx in range(3):
                near |= wide[dy : dy + h, dx : dx + w]
        grown = edges | (near & weak)
        if (grown == edges).all():
            return edges
        edges = grown
