"""Interpolation and pixel shuffling: every check of tests/ops/records.py, exact cases, errors."""

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl import nn
from pydl.errors import ArgumentError, DTypeError, ShapeError


def positions(m, n, align_corners, scale=None):
    if align_corners:
        return [o * (m - 1) / (n - 1) if n > 1 else 0.0 for o in range(n)]
    step = m / n if scale is None else 1 / scale
    return [(o + 0.5) * step - 0.5 for o in range(n)]


def keys(t, a=-0.75):
    t = abs(t)
    return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def along(x, axis, function):
    lines = np.moveaxis(x, axis, -1)
    length = len(function(np.zeros(x.shape[axis])))
    out = [function(line) for line in lines.reshape(-1, x.shape[axis])] if x.size else []
    return np.moveaxis(np.reshape(out, (*lines.shape[:-1], length)), -1, axis)


def reference(x, size, mode, align_corners=False, scale=None):
    """One axis after the other: NumPy's own linear interpolation, indexing, or Keys' four neighbours."""
    for axis, n in enumerate(size, start=2):
        m = x.shape[axis]
        at = positions(m, n, align_corners, scale)
        if mode == "nearest":
            x = x.take([min(int(o * m // n) if scale is None else int(o / scale), m - 1) for o in range(n)], axis)
        elif mode == "nearest-exact":
            x = x.take([min((2 * o + 1) * m // (2 * n), m - 1) for o in range(n)], axis)
        elif mode == "bicubic":
            def four(line, at=at, m=m):
                return [sum(line[min(max(int(np.floor(p)) + k, 0), m - 1)] * keys(np.floor(p) + k - p) for k in range(-1, 3))
                        for p in at]
            x = along(x, axis, four)
        else:
            x = along(x, axis, lambda line, at=at, m=m: np.interp(at, np.arange(m), line))
    return x


CASES = [  # input, output sizes, mode, align_corners
    ((2, 3, 5), (9,), "nearest", None),
    ((2, 3, 9), (4,), "nearest-exact", None),
    ((1, 2, 3, 5), (6, 7), "nearest", None),
    ((1, 2, 3, 2, 3), (4, 3, 2), "nearest", None),
    ((2, 3, 5), (9,), "linear", False),
    ((2, 3, 9), (4,), "linear", True),
    ((1, 3, 4, 5), (8, 10), "bilinear", False),
    ((1, 3, 4, 5), (7, 9), "bilinear", True),
    ((1, 2, 7, 6), (3, 4), "bilinear", False),
    ((1, 2, 7, 6), (3, 1), "bilinear", True),
    ((2, 1, 1, 4), (3, 5), "bilinear", False),
    ((1, 1, 3, 2, 3), (4, 3, 5), "trilinear", False),
    ((1, 1, 3, 2, 3), (2, 4, 5), "trilinear", True),
    ((1, 2, 4, 5), (7, 8), "bicubic", False),
    ((1, 2, 5, 3), (4, 6), "bicubic", True),
]


def records():
    for i, (shape, size, mode, align) in enumerate(CASES):
        large = (draw(2, 20, 40, 30),) if len(shape) == 4 and i % 2 else (draw(2, 2, 60, 50),) if len(shape) == 4 else None
        yield OpRecord(
            f"{mode}-{i}",
            lambda x, size=size, mode=mode, align=align: pydl.interpolate(x, size, mode=mode, align_corners=align),
            lambda x, size=size, mode=mode, align=align: reference(x, size, mode, align),
            (draw(*shape),), zero_size=(draw(0, *shape[1:]),), large=large, double_backward=i in (2, 6))
    yield OpRecord("scale", lambda x: pydl.interpolate(x, scale_factor=1.7, mode="bilinear"),
                   lambda x: reference(x, (6, 8), "bilinear", scale=1.7), (draw(1, 2, 4, 5),))
    yield OpRecord("recomputed", lambda x: pydl.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
                   lambda x: reference(x, (6, 8), "bilinear"), (draw(1, 2, 4, 5),))
    yield OpRecord("area", lambda x: pydl.interpolate(x, (2, 3), mode="area"),
                   lambda x: x.reshape(1, 2, 2, 2, 3, 3).mean((3, 5)), (draw(1, 2, 4, 9),))
    yield OpRecord("antialias", lambda x: pydl.interpolate(x, (2, 4), mode="bilinear", antialias=True),
                   lambda x: triangle(triangle(x, 2, 2), 3, 4), (draw(1, 2, 8, 7),), large=(draw(2, 20, 60, 50),))
    yield OpRecord("pixel_shuffle", lambda x: pydl.pixel_shuffle(x, 2), shuffled, (draw(2, 8, 2, 3),), double_backward=True)
    yield OpRecord("pixel_unshuffle", lambda x: pydl.pixel_unshuffle(pydl.pixel_shuffle(x, 3), 3) * x, lambda x: x * x,
                   (draw(2, 18, 2, 3),))
    yield OpRecord("channel_shuffle", lambda x: pydl.channel_shuffle(x, 2), lambda x: x[:, [0, 3, 1, 4, 2, 5]],
                   (draw(2, 6, 2, 3),))


def triangle(x, axis, n):
    """Shrinking by triangles two output pixels wide, cut at the border."""
    m = x.shape[axis]
    step = m / n
    matrix = np.array([[max(0.0, 1 - abs((i + 0.5) / step - (o + 0.5))) for i in range(m)] for o in range(n)])
    return np.moveaxis(np.moveaxis(x, axis, -1) @ (matrix / matrix.sum(1, keepdims=True)).T, -1, axis)


def shuffled(x):
    n, c, h, w = x.shape
    out = np.zeros((n, c // 4, 2 * h, 2 * w))
    for k in range(c):
        out[:, k // 4, (k % 4) // 2 :: 2, k % 2 :: 2] = x[:, k]
    return out


test_ops = run_records(list(records()))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_channel_count_is_exact(isa, dtype):
    """Doubling with corners not aligned has the weights 1/4 and 3/4: exact on small integers."""
    rng = np.random.default_rng(0)
    with instruction_set(isa):
        for c in (*range(1, 20), 31, 33, 64, 65, 130):
            x = rng.integers(-64, 64, (2, c, 4, 5)).astype(dtype)
            t = pydl.tensor(x, requires_grad=True)
            y = pydl.interpolate(t, scale_factor=2, mode="bilinear")
            np.testing.assert_array_equal(y.detach().numpy(), reference(x, (8, 10), "bilinear"))
            g = rng.integers(-64, 64, y.shape).astype(dtype)
            y.backward(pydl.tensor(g))
            # The adjoint: <g, A x> = <A^T g, x> for every unit vector x, here for a few.
            for index in [(0, 0, 0, 0), (1, c - 1, 3, 4), (1, c // 2, 2, 0)]:
                unit = np.zeros_like(x)
                unit[index] = 1
                assert t.grad.numpy()[index] == (reference(unit, (8, 10), "bilinear") * g).sum()


def test_nearest_copies_special_values():
    x = pydl.tensor([[[np.nan, np.inf, -1.5]]])
    y = pydl.interpolate(x, 6).numpy()[0, 0]
    np.testing.assert_array_equal(y, np.float32([np.nan, np.nan, np.inf, np.inf, -1.5, -1.5]))


def test_same_size_is_the_identity():
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 7)).astype(np.float32)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        np.testing.assert_array_equal(pydl.interpolate(pydl.tensor(x), (6, 7), mode=mode).numpy(), x)


def test_unused_inputs_have_no_gradient():
    x = pydl.zeros(1, 1, 8, requires_grad=True)
    pydl.interpolate(x, 2).sum().backward()
    assert x.grad.tolist() == [[[1, 0, 0, 0, 1, 0, 0, 0]]]


IMAGE = pydl.zeros(2, 3, 4, 5)
ERRORS = [
    (lambda: pydl.interpolate(IMAGE), ArgumentError, r"\[interpolate\].*exactly one"),
    (lambda: pydl.interpolate(IMAGE, 3, 2), ArgumentError, r"exactly one"),
    (lambda: pydl.interpolate(IMAGE, (3,)), ArgumentError, r"size=\(3,\).*or 2 for an input of shape \(2, 3, 4, 5\)"),
    (lambda: pydl.interpolate(IMAGE, 0), ArgumentError, r"size=0"),
    (lambda: pydl.interpolate(IMAGE, scale_factor=0.1), ArgumentError, r"scale_factor=0.1"),
    (lambda: pydl.interpolate(IMAGE, 3, mode="linear"), ShapeError, r"mode='linear' needs input \(N, C, L\).*'bilinear'"),
    (lambda: pydl.interpolate(pydl.zeros(4, 5), 3), ShapeError, r"batch axis"),
    (lambda: pydl.interpolate(IMAGE, 3, mode="cubic"), ArgumentError, r"mode='cubic'.*bicubic"),
    (lambda: pydl.interpolate(IMAGE, 3, align_corners=True), ArgumentError, r"align_corners is for"),
    (lambda: pydl.interpolate(IMAGE, 3, antialias=True), ArgumentError, r"antialias"),
    (lambda: pydl.interpolate(pydl.zeros(2, 3, 0, 5), 3), ShapeError, r"empty"),
    (lambda: pydl.interpolate(pydl.tensor(np.zeros((1, 1, 4), np.int64)), 3), DTypeError, r"int64"),
    (lambda: pydl.pixel_shuffle(IMAGE, 2), ShapeError, r"\[pixel_shuffle\].*3 channels.*= 4"),
    (lambda: pydl.pixel_shuffle(IMAGE, 0), ArgumentError, r"upscale_factor=0"),
    (lambda: pydl.pixel_unshuffle(IMAGE, 2), ShapeError, r"\[pixel_unshuffle\].*no multiples of downscale_factor=2"),
    (lambda: pydl.pixel_shuffle(pydl.zeros(4, 4), 2), ShapeError, r"\(\.\.\., C, H, W\)"),
    (lambda: pydl.channel_shuffle(IMAGE, 2), ShapeError, r"groups=2"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, pattern = ERRORS[case]
    with pytest.raises(kind, match=pattern):
        call()


def test_kernel_refuses_tables_that_read_outside():
    x, y = np.zeros((1, 1, 1, 4, 2), np.float32), np.zeros((1, 1, 1, 2, 2), np.float32)
    one = (np.zeros(1, np.int64), np.ones(1, np.int64), np.ones((1, 1)))
    for start, count in ([0, 4], [1, 1]), ([0, -1], [1, 1]), ([0, 1], [1, 3]), ([1, 0], [1, 1]):
        table = (np.array(start), np.array(count), np.ones((2, 2)))
        with pytest.raises(pydl._core.NativeError, match="table"):
            pydl._core.resample(x, y, [one, one, table])


@pytest.mark.parametrize(("module", "function", "shape"), [
    (nn.Upsample(scale_factor=2), lambda x: pydl.interpolate(x, scale_factor=2), (1, 2, 5)),
    (nn.Upsample((7, 9), mode="bilinear", align_corners=True),
     lambda x: pydl.interpolate(x, (7, 9), mode="bilinear", align_corners=True), (1, 2, 4, 5)),
    (nn.UpsamplingNearest2d(scale_factor=2), lambda x: pydl.interpolate(x, scale_factor=2), (1, 2, 4, 5)),
    (nn.UpsamplingBilinear2d((8, 8)), lambda x: pydl.interpolate(x, 8, mode="bilinear", align_corners=True), (1, 2, 4, 5)),
    (nn.PixelShuffle(2), lambda x: pydl.pixel_shuffle(x, 2), (1, 8, 3, 3)),
    (nn.PixelUnshuffle(2), lambda x: pydl.pixel_unshuffle(x, 2), (1, 2, 4, 6)),
    (nn.ChannelShuffle(4), lambda x: pydl.channel_shuffle(x, 4), (1, 8, 3)),
])
def test_modules(module, function, shape):
    x = pydl.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    np.testing.assert_array_equal(module(x).numpy(), function(x).numpy())
    assert repr(module).startswith(type(module).__name__ + "(")
