"""Convolution against PyTorch: random configurations, forward and all gradients."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
F = torch.nn.functional


def configurations(count=40):
    rng = np.random.default_rng(0)
    for i in range(count):
        n = int(rng.integers(1, 4))
        groups = int(rng.choice([1, 1, 2, 3]))
        depthwise = rng.random() < 0.2
        c, o = groups * int(rng.integers(1, 9)), groups * int(rng.integers(1, 20))
        if depthwise:
            groups = c = o = int(rng.integers(2, 20))
        kernel = tuple(int(k) for k in rng.integers(1, 5, n))
        stride, dilation = (tuple(int(k) for k in rng.integers(1, 4, n)) for _ in range(2))
        padding = tuple(int(k) for k in rng.integers(0, 3, n))
        size = tuple(int(d * (k - 1) + 1 + rng.integers(0, 9)) for d, k in zip(dilation, kernel, strict=True))
        yield pytest.param(n, c, o, groups, kernel, stride, dilation, padding, size, id=f"{i}")


def compare(ours, theirs, inputs, dtype):
    rng = np.random.default_rng(1)
    mine = [pydl.tensor(a.astype(dtype), requires_grad=True) for a in inputs]
    peer = [torch.tensor(a.astype(dtype), requires_grad=True) for a in inputs]
    y, t = ours(*mine), theirs(*peer)
    assert y.shape == tuple(t.shape)
    tol = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tol)
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **{**tol, "atol": tol["atol"] * 10})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "c", "o", "groups", "kernel", "stride", "dilation", "padding", "size"), list(configurations()))
def test_conv(n, c, o, groups, kernel, stride, dilation, padding, size, dtype):
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((2, c, *size)), rng.standard_normal((o, c // groups, *kernel)), rng.standard_normal(o)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    compare(lambda x, w, b: getattr(pydl, f"conv{n}d")(x, w, b, **options),
            lambda x, w, b: getattr(F, f"conv{n}d")(x, w, b, **options), inputs, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "c", "o", "groups", "kernel", "stride", "dilation", "padding", "size"), list(configurations()))
def test_conv_transpose(n, c, o, groups, kernel, stride, dilation, padding, size, dtype):
    rng = np.random.default_rng(3)
    size = tuple(max(s // 2, 3) for s in size)
    padding = tuple(min(p, d * (k - 1)) for p, d, k in zip(padding, dilation, kernel, strict=True))
    output_padding = tuple(max(s, d) - 1 for s, d in zip(stride, dilation, strict=True))
    inputs = [rng.standard_normal((2, c, *size)), rng.standard_normal((c, o // groups, *kernel)), rng.standard_normal(o)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_padding": output_padding}
    compare(lambda x, w, b: getattr(pydl, f"conv_transpose{n}d")(x, w, b, **options),
            lambda x, w, b: getattr(F, f"conv_transpose{n}d")(x, w, b, **options), inputs, dtype)
