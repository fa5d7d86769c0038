"""Rearrangements against PyTorch: random shapes and arguments, forward and backward; empty axes and scalars."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")
F = torch.nn.functional


def outputs(value):
    return list(value) if isinstance(value, tuple | list) else [value]


def compare(ours, theirs, *arrays):
    rng = np.random.default_rng(1)
    mine = [pydl.tensor(a, requires_grad=True) for a in arrays]
    peer = [torch.tensor(a, requires_grad=True) for a in arrays]
    ys, ts = outputs(ours(*mine)), outputs(theirs(*peer))
    assert len(ys) == len(ts)
    seeds = [rng.standard_normal(tuple(t.shape)) for t in ts]
    for y, t in zip(ys, ts, strict=True):
        assert y.shape == tuple(t.shape)
        np.testing.assert_array_equal(y.detach().numpy(), t.detach().numpy())
    pydl.autograd.backward(ys, [pydl.tensor(np.asarray(g)) for g in seeds])
    torch.autograd.backward(ts, [torch.tensor(g) for g in seeds])
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-14)


def case(seed, least=1, axes=(1, 5)):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(least, 6, rng.integers(*axes)))
    return rng, rng.standard_normal(shape), int(rng.integers(-len(shape), len(shape)))


@pytest.mark.parametrize("least", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_one_axis(seed, least):
    rng, x, dim = case(seed, least)
    n = x.shape[dim]
    start, k = int(rng.integers(0, n + 1)), int(rng.integers(1, 5))
    length = int(rng.integers(0, n - start + 1))
    for name, args in [
        ("narrow", (dim, start, length)),
        ("chunk", (k, dim)),
        ("split", (k, dim)),
        ("split", ([start, n - start], dim)),
        ("flip", ((dim,),)),
        ("roll", (k - 3, dim)),
        ("roll", (k,)),
        ("unsqueeze", (dim,)),
        ("repeat_interleave", (k - 1, dim)),
        ("repeat_interleave", (k,)),
        ("movedim", (dim, 0)),
        ("transpose", (dim, 0)),
        ("squeeze", (dim,)),
        ("squeeze", ()),
    ]:
        compare(lambda t: getattr(pydl, name)(t, *args), lambda t: getattr(torch, name)(t, *args), x)  # noqa: B023
    if n:
        compare(lambda t: pydl.unbind(t, dim), lambda t: torch.unbind(t, dim), x)
    counts = rng.integers(0, 4, n)
    compare(
        lambda t: pydl.repeat_interleave(t, pydl.tensor(counts), dim),
        lambda t: torch.repeat_interleave(t, torch.tensor(counts), dim),
        x,
    )


@pytest.mark.parametrize("seed", range(12))
def test_many_axes(seed):
    rng, x, _ = case(seed)
    n = x.ndim
    order = [int(i) for i in rng.permutation(n)]
    some = tuple(order[: int(rng.integers(1, n + 1))])
    lead = [int(v) for v in rng.integers(1, 4, 2)]
    first, last = sorted(int(v) for v in rng.integers(0, n, 2))
    ones = np.expand_dims(x, 0)
    compare(lambda t: t.permute(*order), lambda t: t.permute(*order), x)
    compare(lambda t: t.flip(some), lambda t: t.flip(some), x)
    compare(lambda t: t.roll(tuple(range(len(some))), some), lambda t: t.roll(tuple(range(len(some))), some), x)
    compare(lambda t: t.flatten(first, last), lambda t: t.flatten(first, last), x)
    compare(lambda t: t.permute(*order).reshape(-1, 1), lambda t: t.permute(*order).reshape(-1, 1), x)
    compare(lambda t: t.repeat(*lead, *[2] * n), lambda t: t.repeat(*lead, *[2] * n), x)
    compare(lambda t: t.tile((3, 2)), lambda t: t.tile((3, 2)), x)
    compare(lambda t: t.expand(*lead, *[-1] * n), lambda t: t.expand(*lead, *[-1] * n), x)
    compare(lambda t: t.expand(4, *x.shape), lambda t: t.expand(4, *x.shape), ones)
    compare(lambda t: pydl.movedim(t, some, some[::-1]), lambda t: torch.movedim(t, some, some[::-1]), x)
    compare(
        lambda *t: pydl.meshgrid(*t, indexing="xy"), lambda *t: torch.meshgrid(*t, indexing="xy"), x.ravel()[:3], x.ravel()[:4]
    )


@pytest.mark.parametrize("seed", range(12))
def test_joining(seed):
    rng, x, dim = case(seed)
    others = [
        rng.standard_normal(tuple(int(rng.integers(0, 4)) if i == dim % x.ndim else n for i, n in enumerate(x.shape)))
        for _ in range(int(rng.integers(0, 3)))
    ]
    compare(lambda *t: pydl.cat(t, dim), lambda *t: torch.cat(t, dim), x, *others)
    compare(lambda *t: pydl.stack(t, dim), lambda *t: torch.stack(t, dim), x, x + 1)


@pytest.mark.parametrize("seed", range(12))
def test_triangles_and_diagonals(seed):
    rng, x, _ = case(seed, axes=(2, 5))
    k = int(rng.integers(-4, 5))
    a, b = (int(v) for v in rng.permutation(x.ndim)[:2])
    compare(lambda t: pydl.tril(t, k), lambda t: torch.tril(t, k), x)
    compare(lambda t: pydl.triu(t, k), lambda t: torch.triu(t, k), x)
    compare(lambda t: pydl.diagonal(t, k, a, b), lambda t: torch.diagonal(t, k, a, b), x)


@pytest.mark.parametrize("seed", range(20))
def test_padding(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    x = rng.standard_normal((2, 3, *(int(v) for v in rng.integers(4, 7, n))))
    if n > 1 and seed % 2:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    pads = tuple(int(v) for v in rng.integers(-1, 4, 2 * n))
    compare(lambda t: pydl.pad(t, pads, value=0.5), lambda t: F.pad(t, pads, value=0.5), x)
    pads = tuple(max(p, 0) for p in pads)
    for mode in ("reflect", "replicate", "circular"):
        compare(lambda t: pydl.pad(t, pads, mode), lambda t: F.pad(t, pads, mode), x)  # noqa: B023


def test_scalars_and_empty():
    for name, args in [
        ("reshape", ((1, 1),)),
        ("flatten", ()),
        ("squeeze", ()),
        ("unsqueeze", (0,)),
        ("t", ()),
        ("transpose", (0, -1)),
        ("roll", (2,)),
        ("flip", ((),)),
        ("repeat_interleave", (3,)),
    ]:
        compare(lambda t: getattr(pydl, name)(t, *args), lambda t: getattr(torch, name)(t, *args), np.array(2.0))  # noqa: B023
    for name, args in [
        ("chunk", (3,)),
        ("split", (0,)),
        ("split", (2,)),
        ("flatten", ()),
        ("roll", (1, 0)),
        ("reshape", ((0, 5),)),
    ]:
        compare(lambda t: getattr(pydl, name)(t, *args), lambda t: getattr(torch, name)(t, *args), np.zeros((0, 3)))  # noqa: B023
