"""Reductions against PyTorch: random shapes, axes and layouts, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")

DIFFERENTIABLE = ["sum", "mean", "var", "std", "amax", "amin", "logsumexp"]


def case(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 5)))
    order = rng.permutation(len(shape))
    x = rng.normal(size=shape).transpose(order).copy().transpose(np.argsort(order))
    axes = tuple(int(a) for a in rng.choice(len(shape), rng.integers(1, len(shape) + 1), replace=False))
    return rng, x, axes, bool(rng.integers(2))


def compare(ours, theirs, x, rng, rtol=1e-9):
    mine, peer = pydl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, t = ours(mine), theirs(peer)
    assert y.shape == tuple(t.shape)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=rtol, atol=1e-12)
    g = rng.normal(size=y.shape)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), rtol=rtol, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom.*")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("seed", range(8))
def test_over_axes(name, seed):
    rng, x, axes, keepdim = case(seed)
    compare(lambda t: getattr(pydl, name)(t, dim=axes, keepdim=keepdim),
            lambda t: getattr(torch, name)(t, dim=axes, keepdim=keepdim), x, rng)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, float("inf"), -float("inf")])
@pytest.mark.parametrize("seed", range(3))
def test_norms(p, seed):
    rng, x, axes, keepdim = case(seed)
    vector_norm = torch.linalg.vector_norm
    compare(lambda t: pydl.norm(t, p, axes, keepdim), lambda t: vector_norm(t, p, axes, keepdim), x, rng)
    zeros = np.where(x > 0, x, 0)
    assert pydl.norm(pydl.tensor(zeros), 0).item() == vector_norm(torch.tensor(zeros), 0).item()


@pytest.mark.parametrize("name", ["max", "min", "prod", "cumsum"])
@pytest.mark.parametrize("seed", range(6))
def test_along_one_axis(name, seed):
    rng, x, axes, keepdim = case(seed)
    args = (axes[0],) if name == "cumsum" else (axes[0], keepdim)

    def first(result):
        return result[0] if isinstance(result, tuple) else result

    compare(lambda t: first(getattr(pydl, name)(t, *args)), lambda t: first(getattr(torch, name)(t, *args)), x, rng)


@pytest.mark.parametrize("seed", range(4))
def test_positions(seed):
    _, x, axes, keepdim = case(seed)
    x = np.round(x)  # many ties
    x[x == 0] = 0.0
    for name in ("argmax", "argmin"):
        for dim in (None, axes[0]):
            ours = getattr(pydl, name)(pydl.tensor(x), dim, keepdim)
            theirs = getattr(torch, name)(torch.tensor(x), dim, keepdim)
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_special_rows():
    rows = np.array([[1.0, np.nan, 2.0], [np.inf, 1.0, -np.inf], [-np.inf] * 3, [3.0, 3.0, 3.0]])
    for name in ("sum", "mean", "var", "amax", "amin", "logsumexp", "prod"):
        ours = getattr(pydl, name)(pydl.tensor(rows), dim=1)
        theirs = getattr(torch, name)(torch.tensor(rows), dim=1)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, err_msg=name)
