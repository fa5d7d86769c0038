"""Interpolation and shuffling against PyTorch: random configurations, values and gradients."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
F = torch.nn.functional
MODES = {1: ["nearest", "nearest-exact", "linear", "area"],
         2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
         3: ["nearest", "nearest-exact", "trilinear", "area"]}


def configurations(count=120):
    rng = np.random.default_rng(0)
    for i in range(count):
        n = int(rng.integers(1, 4))
        mode = str(rng.choice(MODES[n]))
        shape = (int(rng.integers(1, 3)), int(rng.choice([1, 3, 7, 17, 33])), *(int(m) for m in rng.integers(1, 12, n)))
        options = {"mode": mode}
        if "linear" in mode or "cubic" in mode:
            options["align_corners"] = bool(rng.random() < 0.5)
            if n == 2 and rng.random() < 0.3:
                options["antialias"] = True
        if rng.random() < 0.5:
            options["size"] = tuple(int(m) for m in rng.integers(1, 20, n))
        else:
            scales = zip(rng.uniform(0.3, 3.3, n), shape[2:], strict=True)
            options["scale_factor"] = tuple(float(max(s, 1.01 / m)) for s, m in scales)
            if rng.random() < 0.5:
                options["recompute_scale_factor"] = True
        yield pytest.param(shape, options, id=f"{i}-{mode}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "options"), list(configurations()))
def test_interpolate(shape, options, dtype):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, t = pydl.interpolate(mine, **options), F.interpolate(peer, **options)
    assert y.shape == tuple(t.shape)
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tolerance)
    if options["mode"] == "nearest" and any(a in (b, 2 * b) for a, b in zip(y.shape[2:], x.shape[2:], strict=True)):
        return  # PyTorch's backward then ignores the scale factor that its forward used
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), **{**tolerance, "atol": tolerance["atol"] * 10})


@pytest.mark.parametrize(("m", "n"), [(64, 128), (128, 64), (100, 37), (37, 100), (224, 1000), (7, 343), (3, 300), (98, 2)])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_longer_axes(m, n, mode):
    x = np.random.default_rng(0).standard_normal((1, 2, m)).astype(np.float32)
    expected = F.interpolate(torch.tensor(x), n, mode=mode).numpy()
    np.testing.assert_allclose(pydl.interpolate(pydl.tensor(x), n, mode=mode).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("r", [1, 2, 3])
def test_shuffles(r):
    x = np.random.default_rng(0).standard_normal((2, 2 * r * r, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(pydl.pixel_shuffle(pydl.tensor(x), r).numpy(), F.pixel_shuffle(torch.tensor(x), r).numpy())
    x = np.random.default_rng(0).standard_normal((2, 4, 3 * r, 2 * r)).astype(np.float32)
    np.testing.assert_array_equal(pydl.pixel_unshuffle(pydl.tensor(x), r).numpy(), F.pixel_unshuffle(torch.tensor(x), r).numpy())
    x = np.random.default_rng(0).standard_normal((2, 3 * r, 5)).astype(np.float32)
    expected = F.channel_shuffle(torch.tensor(x[..., None]), r).numpy()[..., 0]
    np.testing.assert_array_equal(pydl.channel_shuffle(pydl.tensor(x), r).numpy(), expected)
