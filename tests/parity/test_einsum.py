"""einsum, tensordot and bilinear against PyTorch: random equations, forward and backward."""

import string

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")


def compare(ours, theirs, arrays):
    mine = [pydl.tensor(a, requires_grad=True) for a in arrays]
    peer = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*mine), theirs(*peer)
    assert y.shape == tuple(t.shape)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=1e-9, atol=1e-11)
    g = np.asarray(np.random.default_rng(1).standard_normal(y.shape))
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", range(60))
def test_random_equations(seed):
    rng = np.random.default_rng(seed)
    letters = list(string.ascii_letters[:6])
    sizes = dict(zip(letters, (int(n) for n in rng.integers(0 if seed % 5 == 0 else 1, 5, 6)), strict=True))
    words = [
        "".join(rng.choice(letters, rng.integers(1, 4), replace=bool(rng.integers(2)))) for _ in range(int(rng.integers(1, 4)))
    ]
    dots = seed % 3 == 0
    extra = [int(n) for n in rng.integers(1, 4, 2)]
    shapes = []
    for k, word in enumerate(words):
        lead = [n if rng.random() < 0.6 else 1 for n in extra[int(rng.integers(0, 3)) :]] if dots else []
        shapes.append([*lead, *(sizes[c] for c in word)])
        words[k] = ("..." if dots else "") + word
    used = sorted({c for w in words for c in w if c != "."})
    equation = ",".join(words)
    if seed % 4:
        equation += "->" + ("..." if dots else "") + "".join(rng.permutation([c for c in used if rng.random() < 0.6]))
    arrays = [rng.standard_normal(s) for s in shapes]
    compare(lambda *t: pydl.einsum(equation, *t), lambda *t: torch.einsum(equation, *t), arrays)


@pytest.mark.parametrize("seed", range(12))
def test_tensordot_and_bilinear(seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(tuple(int(n) for n in rng.integers(1, 5, 4)))
    k = int(rng.integers(0, 4))
    axes = [int(i) for i in rng.permutation(4)[:k]]
    others = [int(i) for i in rng.permutation(k + 1)[:k]]
    shape = [int(rng.integers(1, 5))] * (k + 1)
    for i, j in zip(axes, others, strict=True):
        shape[j] = a.shape[i]
    b = rng.standard_normal(shape)
    compare(lambda x, y: pydl.tensordot(x, y, (axes, others)), lambda x, y: torch.tensordot(x, y, (axes, others)), [a, b])
    m, n, o = (int(v) for v in rng.integers(1, 6, 3))
    lead = tuple(int(v) for v in rng.integers(1, 4, seed % 3 + 1))
    shapes = ((*lead, m), (*lead, n), (o, m, n), (o,))
    compare(pydl.bilinear, torch.nn.functional.bilinear, [rng.standard_normal(s) for s in shapes])
