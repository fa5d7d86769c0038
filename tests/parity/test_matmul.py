"""Matrix products against PyTorch: random shapes and memory orders, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
F = torch.nn.functional


def in_some_order(rng, array):
    """The same numbers in a random axis order in memory, sometimes as every second element."""
    order = rng.permutation(array.ndim)
    out = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    if rng.random() < 0.3:
        big = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        out = big[..., ::2]
        out[...] = array
    return out


def compare(ours, theirs, arrays, rng):
    mine = [pydl.from_numpy(a) for a in arrays]
    peer = [torch.tensor(a, requires_grad=True) for a in arrays]
    for t in mine:
        t.requires_grad = True
    y, t = ours(*mine), theirs(*peer)
    assert y.shape == tuple(t.shape)
    single = arrays[0].dtype == np.float32
    tolerance = {"rtol": 1e-4, "atol": 2e-4} if single else {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tolerance)
    g = rng.standard_normal(y.shape).astype(arrays[0].dtype)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        assert a.grad.shape == tuple(b.grad.shape)
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **tolerance)


def product_shapes(rng):
    m, k, n = (int(v) for v in rng.integers(1, 40, 3))
    batch = [int(v) for v in rng.integers(1, 4, rng.integers(0, 3))]
    left = [b if rng.random() < 0.7 else 1 for b in batch][int(rng.integers(0, len(batch) + 1)) :]
    right = [b if rng.random() < 0.7 else 1 for b in batch][int(rng.integers(0, len(batch) + 1)) :]
    a, b = [*left, m, k], [*right, k, n]
    kind = rng.integers(5)
    return (a[-1:] if kind == 0 else a), (b[-2:-1] if kind == 1 else b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(40))
def test_matmul(seed, dtype):
    rng = np.random.default_rng(seed)
    arrays = [in_some_order(rng, rng.standard_normal(s).astype(dtype)) for s in product_shapes(rng)]
    compare(pydl.matmul, torch.matmul, arrays, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(15))
def test_linear(seed, dtype):
    rng = np.random.default_rng(seed)
    lead = [int(v) for v in rng.integers(0, 5, rng.integers(0, 4))]
    k, n = (int(v) for v in rng.integers(1, 70, 2))
    shapes = [[*lead, k], [n, k], [n]][: 2 + seed % 2]
    compare(pydl.linear, F.linear, [in_some_order(rng, rng.standard_normal(s).astype(dtype)) for s in shapes], rng)


@pytest.mark.parametrize("seed", range(5))
def test_the_named_products(seed):
    rng = np.random.default_rng(seed)
    b, m, k, n = (int(v) for v in rng.integers(1, 20, 4))
    for name, shapes in [
        ("mm", [(m, k), (k, n)]),
        ("bmm", [(b, m, k), (b, k, n)]),
        ("mv", [(m, k), (k,)]),
        ("dot", [(k,), (k,)]),
        ("outer", [(m,), (n,)]),
        ("kron", [(m, 2), (k, 3)]),
    ]:
        compare(getattr(pydl, name), getattr(torch, name), [rng.standard_normal(s) for s in shapes], rng)
    compare(
        lambda c, x, y: pydl.addmm(c, x, y, beta=0.3, alpha=1.7),
        lambda c, x, y: torch.addmm(c, x, y, beta=0.3, alpha=1.7),
        [rng.standard_normal(s) for s in ((n,), (m, k), (k, n))],
        rng,
    )


@pytest.mark.parametrize(
    "shapes",
    [
        ((0, 3), (3, 4)),
        ((3, 0), (0, 4)),
        ((2, 0, 3), (3, 4)),
        ((2, 3, 0), (0, 4)),
        ((0, 2, 3), (0, 3, 4)),
        ((0,), (0,)),
        ((3,), (3, 0)),
        ((2, 3, 4), (4, 0)),
    ],
    ids=str,
)
def test_empty(shapes):
    compare(pydl.matmul, torch.matmul, [np.ones(s) for s in shapes], np.random.default_rng(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values(value):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, (17, 33)).astype(np.float32), rng.integers(-3, 4, (33, 20)).astype(np.float32)
    a[3, 5], b[8, 2] = value, -value
    np.testing.assert_array_equal(
        pydl.matmul(pydl.tensor(a), pydl.tensor(b)).numpy(), torch.matmul(torch.tensor(a), torch.tensor(b)).numpy()
    )


def test_integers():
    rng = np.random.default_rng(0)
    for dtype in (np.int64, np.int32, np.uint8):
        a, b = rng.integers(0, 9, (2, 5, 3)).astype(dtype), rng.integers(0, 9, (3, 4)).astype(dtype)
        ours, theirs = pydl.matmul(pydl.tensor(a), pydl.tensor(b)), torch.matmul(torch.tensor(a), torch.tensor(b))
        assert ours.dtype == theirs.numpy().dtype
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
