"""Softmax and log-softmax against PyTorch: random shapes, axes, memory orders and magnitudes, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize("seed", range(12))
def test_random(seed, name, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 40 if seed % 3 else 7, rng.integers(0, 5 if seed % 3 == 0 else 3)))
    order = rng.permutation(len(shape))
    x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3)).astype(dtype)
    x = np.asarray(np.ascontiguousarray(x.transpose(order)).reshape([shape[i] for i in order]).transpose(np.argsort(order)))
    dim = int(rng.integers(-max(len(shape), 1), max(len(shape), 1)))
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = getattr(pydl, name)(mine, dim)
    t = getattr(torch.nn.functional, name)(peer, dim=dim)
    tolerance = {"rtol": 3e-6, "atol": 3e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tolerance)
    g = rng.standard_normal(shape).astype(dtype)
    y.backward(pydl.tensor(np.asarray(g)))
    t.backward(torch.tensor(g))
    tolerance["atol"] *= 10
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), **tolerance)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1])
def test_special_rows(dim, name):
    rows = np.array(
        [
            [np.nan, 1, 2, 3],
            [np.inf, 1, 2, 3],
            [-np.inf] * 4,
            [-np.inf, 0, 1, 2],
            [np.inf, np.inf, 0, 1],
            [1e38, -1e38, 1e38, 0],
            [1e4, 1e4 - 1, 0, 0],
        ],
        np.float32,
    )
    x = rows if dim else rows.T.copy()
    ours = getattr(pydl, name)(pydl.tensor(x), dim)
    theirs = getattr(torch, name)(torch.tensor(x), dim)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
