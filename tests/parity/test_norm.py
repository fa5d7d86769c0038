"""Normalisation against PyTorch: random configurations, forward, all gradients and running statistics."""

import numpy as np
import pytest

import pydl
from pydl import nn

torch = pytest.importorskip("torch")
F = torch.nn.functional


def compare(ours, theirs, inputs, dtype):
    mine = [pydl.tensor(a.astype(dtype), requires_grad=True) for a in inputs]
    peer = [torch.tensor(a.astype(dtype), requires_grad=True) for a in inputs]
    y, t = ours(*mine), theirs(*peer)
    tol = {"rtol": 1e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), **tol)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        scale = max(float(b.grad.abs().max()), 1.0)
        np.testing.assert_allclose(a.grad.numpy() / scale, b.grad.numpy() / scale, **tol)


def configurations(count):
    rng = np.random.default_rng(0)
    for i in range(count):
        shape = (int(rng.integers(2, 5)), int(rng.integers(1, 40)), *(int(n) for n in rng.integers(2, 9, rng.integers(0, 4))))
        yield pytest.param(shape, bool(rng.random() < 0.7), np.float32 if i % 2 else np.float64, id=f"{i}-{shape}")


def make(shape, affine, vector_shape, seed=2):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) * 2 + 1] + [rng.standard_normal(vector_shape) for _ in range(2 * affine)]


@pytest.mark.parametrize(("shape", "affine", "dtype"), list(configurations(24)))
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(shape, affine, dtype, training):
    rng = np.random.default_rng(3)
    running = [rng.standard_normal(shape[1]).astype(dtype), rng.uniform(0.5, 2, shape[1]).astype(dtype)]
    ours, theirs = [pydl.tensor(a) for a in running], [torch.tensor(a) for a in running]
    compare(lambda x, *wb: pydl.batch_norm(x, *ours, *(wb or (None, None)), training, 0.2, 1e-3),
            lambda x, *wb: F.batch_norm(x, *theirs, *(wb or (None, None)), training, 0.2, 1e-3),
            make(shape, affine, shape[1]), dtype)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "affine", "dtype"), list(configurations(24)))
def test_instance_norm(shape, affine, dtype):
    shape = (*shape, 5) if len(shape) == 2 else shape
    options = {"momentum": 0.3, "eps": 1e-4}
    ours, theirs = [pydl.zeros(shape[1], dtype=dtype), pydl.ones(shape[1], dtype=dtype)], []
    theirs = [torch.tensor(a.numpy().copy()) for a in ours]
    compare(lambda x, *wb: pydl.instance_norm(x, *ours, *(wb or (None, None)), **options),
            lambda x, *wb: F.instance_norm(x, *theirs, *(wb or (None, None)), **options), make(shape, affine, shape[1]), dtype)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "affine", "dtype"), list(configurations(24)))
def test_group_norm(shape, affine, dtype):
    groups = int(np.random.default_rng(shape[1]).choice([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
    compare(lambda x, *wb: pydl.group_norm(x, groups, *wb), lambda x, *wb: F.group_norm(x, groups, *wb),
            make(shape, affine, shape[1]), dtype)


@pytest.mark.parametrize(("shape", "affine", "dtype"), list(configurations(24)))
def test_layer_norm(shape, affine, dtype):
    end = shape[int(np.random.default_rng(shape[1]).integers(1, len(shape))):]
    compare(lambda x, *wb: pydl.layer_norm(x, end, *wb), lambda x, *wb: F.layer_norm(x, end, *wb), make(shape, affine, end),
            dtype)
    compare(lambda x, *w: pydl.rms_norm(x, end, *w), lambda x, *w: F.rms_norm(x, end, *w), make(shape, affine, end)[:2], dtype)


@pytest.mark.parametrize(("shape", "affine", "dtype"), list(configurations(16)))
def test_local_response_norm(shape, affine, dtype):
    shape = (*shape, 3) if len(shape) == 2 else shape
    size = 2 + shape[1] % 5
    options = (size, 0.4, 0.75, 2.0) if affine else (size,)
    compare(lambda x: pydl.local_response_norm(x, *options), lambda x: F.local_response_norm(x, *options),
            make(shape, False, 1), dtype)


def test_batch_norm_layer_over_steps():
    """Train and eval mode in turn, from one state dict."""
    ours, theirs = nn.BatchNorm1d(6), torch.nn.BatchNorm1d(6)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    for step in range(6):
        ours.train(step % 3 != 2)
        theirs.train(step % 3 != 2)
        x = rng.standard_normal((8, 6)).astype(np.float32)
        np.testing.assert_allclose(ours(pydl.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), atol=1e-5)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-5)
