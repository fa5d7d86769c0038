"""Embedding and bags against PyTorch: random configurations, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(16))
def test_embedding(seed, dtype):
    rng = np.random.default_rng(seed)
    rows, features = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    index = rng.integers(0, rows, tuple(rng.integers(1, 7, rng.integers(0, 4))))
    weight = rng.standard_normal((rows, features)).astype(dtype)
    options = {"padding_idx": int(rng.integers(-rows, rows)) if seed % 2 else None, "scale_grad_by_freq": bool(seed % 3 == 0)}
    if seed % 4 == 0:
        options |= {"max_norm": 1.5, "norm_type": float(rng.choice([1.0, 2.0]))}
    w, t = pydl.tensor(weight, requires_grad=True), torch.tensor(weight, requires_grad=True)
    y = pydl.embedding(pydl.tensor(index), w, **options)
    u = F.embedding(torch.tensor(index), t, **options)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=1e-6)
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(pydl.tensor(g))
    u.backward(torch.tensor(g))
    np.testing.assert_allclose(w.detach().numpy(), t.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), t.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("seed", range(12))
def test_embedding_bag(seed, mode):
    rng = np.random.default_rng(seed)
    rows, features = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    weight = rng.standard_normal((rows, features))
    options = {"mode": mode, "padding_idx": int(rng.integers(0, rows)) if seed % 2 else None}
    if seed % 3 == 0:
        index, limits = rng.integers(0, rows, (5, int(rng.integers(1, 6)))), None
    else:
        index = rng.integers(0, rows, 30)
        limits = np.sort(np.concatenate([[0], rng.integers(0, 31, 6)]))
        if seed % 3 == 1:
            options["include_last_offset"] = True
            limits = np.append(limits, 30)
    inputs = [weight] + ([rng.standard_normal(index.shape)] if mode == "sum" and seed % 4 < 2 else [])
    mine = [pydl.tensor(a, requires_grad=True) for a in inputs]
    peer = [torch.tensor(a, requires_grad=True) for a in inputs]
    y = pydl.embedding_bag(pydl.tensor(index), mine[0], None if limits is None else pydl.tensor(limits),
                           per_sample_weights=mine[1] if mine[1:] else None, **options)
    u = F.embedding_bag(torch.tensor(index), peer[0], None if limits is None else torch.tensor(limits),
                        per_sample_weights=peer[1] if peer[1:] else None, **options)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = rng.standard_normal(y.shape)
    y.backward(pydl.tensor(g))
    u.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-12)
