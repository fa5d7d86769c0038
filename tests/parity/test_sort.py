"""Order along an axis against PyTorch: random shapes and axes, ties, NaN, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")


def compare(ours, theirs, x, indices=True):
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, t = ours(mine), theirs(peer)
    values, expected = (y.values, t.values) if hasattr(y, "values") else (y, t)
    assert values.shape == tuple(expected.shape)
    np.testing.assert_array_equal(values.detach().numpy(), expected.detach().numpy())
    if indices and hasattr(y, "values"):
        np.testing.assert_array_equal(y.indices.numpy(), t.indices.numpy())
    g = np.asarray(np.random.default_rng(1).standard_normal(values.shape))
    values.backward(pydl.tensor(g))
    expected.backward(torch.tensor(g))
    if indices:
        np.testing.assert_array_equal(mine.grad.numpy(), peer.grad.numpy())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_random(seed, ties):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 12, rng.integers(0, 4)))
    x = np.asarray(rng.standard_normal(shape))
    if ties:
        x = np.asarray(np.round(x))
        x[x == 0] = 0.0  # -0 and 0 are equal
        if x.size > 6:
            x.ravel()[rng.integers(0, x.size, 3)] = np.nan
    dim = int(rng.integers(-max(len(shape), 1), max(len(shape), 1)))
    n = shape[dim] if shape else 1
    k, down = int(rng.integers(1, n + 1)), bool(rng.integers(2))
    compare(lambda t: pydl.sort(t, dim, down), lambda t: torch.sort(t, dim=dim, descending=down, stable=True), x)
    compare(lambda t: pydl.topk(t, k, dim, down), lambda t: torch.topk(t, k, dim, down), x, indices=not ties)
    compare(lambda t: pydl.kthvalue(t, k, dim, down), lambda t: torch.kthvalue(t, k, dim, down), x, indices=not ties)
    compare(lambda t: pydl.median(t, dim, down), lambda t: torch.median(t, dim, down), x, indices=not ties)
    compare(pydl.median, torch.median, x, indices=not ties)
    order = torch.argsort(torch.tensor(x), dim=dim, descending=down, stable=True)
    np.testing.assert_array_equal(pydl.argsort(pydl.tensor(x), dim, down).numpy(), order.numpy())


@pytest.mark.parametrize("seed", range(8))
def test_unique(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, tuple(int(n) for n in rng.integers(1, 6, 2))).astype(rng.choice([np.int64, np.float32]))
    for dim in (None, 0, 1):
        ours = pydl.unique(pydl.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        theirs = torch.unique(torch.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
