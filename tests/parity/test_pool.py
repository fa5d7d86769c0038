"""Pooling against PyTorch: random configurations, values, indices and gradients."""

import numpy as np
import pytest

import pydl
from pydl.errors import PydlError

torch = pytest.importorskip("torch")
F = torch.nn.functional


def configurations(count, seed):
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = int(rng.integers(1, 4))
        kernel = tuple(int(k) for k in rng.integers(1, 5, n))
        options = {
            "kernel_size": kernel,
            "stride": tuple(int(s) for s in rng.integers(1, 4, n)) if rng.random() < 0.8 else None,
            "padding": tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel),
            "ceil_mode": bool(rng.random() < 0.5),
        }
        size = tuple(int(k + rng.integers(0, 9)) for k in kernel)
        shape = (int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 6, 8, 17, 33])), *size)
        if rng.random() < 0.2:
            shape = shape[1:]
        yield pytest.param(n, shape, options, int(rng.integers(0, 2**31)), id=str(i))


def values(shape, seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.integers(-1, 2, shape).astype(np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "nan":
        x[rng.random(shape) < 0.1] = np.nan
    return x


def compare(ours, theirs, x, tolerance=0.0):
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    a, b = ours(mine), theirs(peer)
    if isinstance(b, tuple):
        np.testing.assert_array_equal(a[1].numpy(), b[1].numpy())
        a, b = a[0], b[0]
    assert a.shape == tuple(b.shape)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.random.default_rng(1).integers(-8, 9, a.shape).astype(x.dtype)
    a.backward(pydl.tensor(g))
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["normal", "ties", "nan"])
@pytest.mark.parametrize(("n", "shape", "options", "seed"), list(configurations(40, 0)))
def test_max_pool(n, shape, options, seed, kind):
    dilation = int(np.random.default_rng(seed).integers(1, 3))
    size = tuple(m + (dilation - 1) * (k - 1) for m, k in zip(shape[-n:], options["kernel_size"], strict=True))
    x = values((*shape[:-n], *size), seed, kind)
    options = {**options, "dilation": dilation, "return_indices": True}
    compare(lambda t: getattr(pydl, f"max_pool{n}d")(t, **options), lambda t: getattr(F, f"max_pool{n}d")(t, **options), x)


@pytest.mark.parametrize(("n", "shape", "options", "seed"), list(configurations(60, 1)))
def test_avg_pool(n, shape, options, seed):
    rng = np.random.default_rng(seed)
    options = {**options, "count_include_pad": bool(rng.random() < 0.5)}
    if n > 1 and rng.random() < 0.3:
        options["divisor_override"] = int(rng.choice([3, 7, -2]))
    compare(lambda t: getattr(pydl, f"avg_pool{n}d")(t, **options), lambda t: getattr(F, f"avg_pool{n}d")(t, **options),
            values(shape, seed, "normal"), 1e-5)


@pytest.mark.parametrize("p", [1, 2, 3, 1.5])
@pytest.mark.parametrize(("n", "shape", "options", "seed"), list(configurations(15, 2)))
def test_lp_pool(n, shape, options, seed, p):
    options = {k: v for k, v in options.items() if k != "padding"}
    if n == 1:
        options["kernel_size"] = options["kernel_size"][0]  # PyTorch takes no tuple here
    x = np.abs(values(shape, seed, "normal"))
    compare(lambda t: getattr(pydl, f"lp_pool{n}d")(t, p, **options), lambda t: getattr(F, f"lp_pool{n}d")(t, p, **options),
            x, 1e-4)


@pytest.mark.parametrize("kind", ["normal", "ties", "nan"])
@pytest.mark.parametrize(("n", "shape", "options", "seed"), list(configurations(25, 3)))
def test_adaptive(n, shape, options, seed, kind):
    rng = np.random.default_rng(seed)
    size = tuple(None if rng.random() < 0.1 else int(m) for m in rng.integers(1, 7, n))
    if n == 1 and size[0] is None:
        size = (3,)
    x = values(shape, seed, kind)
    name = f"adaptive_max_pool{n}d"
    compare(lambda t: getattr(pydl, name)(t, size, True), lambda t: getattr(F, name)(t, size, True), x)
    name = f"adaptive_avg_pool{n}d"
    compare(lambda t: getattr(pydl, name)(t, size), lambda t: getattr(F, name)(t, size), x, 1e-5)


@pytest.mark.parametrize(("n", "shape", "options", "seed"), list(configurations(25, 4)))
def test_max_unpool(n, shape, options, seed):
    options.pop("ceil_mode")
    x = values(shape, seed, "normal")
    pooled, indices = getattr(F, f"max_pool{n}d")(torch.tensor(x), **options, return_indices=True)
    positions = pydl.tensor(indices.numpy())
    size = x.shape[-n:]
    compare(lambda t: getattr(pydl, f"max_unpool{n}d")(t, positions, **options, output_size=size),
            lambda t: getattr(F, f"max_unpool{n}d")(t, indices, **options, output_size=size), pooled.numpy())


@pytest.mark.parametrize("case", range(200))
def test_same_inputs_are_refused(case):
    """Sizes at and beyond the limits: both refuse, or both give the same shape."""
    rng = np.random.default_rng(case)
    size, k, s, p, d = (int(rng.integers(low, 7)) for low in (1, 1, 1, 0, 1))
    ceil = bool(rng.random() < 0.5)

    def attempt(function, x, error):
        try:
            return tuple(function(x, k, s, p, d, ceil).shape)
        except error:
            return None

    x = np.zeros((1, 1, size, size), np.float32)
    assert attempt(pydl.max_pool2d, pydl.tensor(x), PydlError) == attempt(F.max_pool2d, torch.tensor(x), RuntimeError)
