"""Reading and writing by position against PyTorch: random indices, forward and backward."""

import numpy as np
import pytest

import pydl

torch = pytest.importorskip("torch")


def compare(ours, theirs, *arrays):
    """Floating arrays get gradients; integer and boolean ones are indices."""
    mine = [pydl.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    peer = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y, t = ours(*mine), theirs(*peer)
    assert y.shape == tuple(t.shape)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=1e-12)
    g = np.asarray(np.random.default_rng(1).standard_normal(y.shape))
    y.backward(pydl.tensor(g))
    t.backward(torch.tensor(g))
    for a, b in zip(mine, peer, strict=True):
        if a.requires_grad:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-11, atol=1e-13)


def case(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 7, rng.integers(1, 4)))
    order = rng.permutation(len(shape))
    x = np.ascontiguousarray(rng.standard_normal(shape).transpose(order)).transpose(np.argsort(order))
    return rng, x, int(rng.integers(0, len(shape)))


@pytest.mark.parametrize("seed", range(25))
def test_along_an_axis(seed):
    rng, x, dim = case(seed)
    n, m = x.shape[dim], int(rng.integers(0, 9))
    part = tuple(m if k == dim else int(rng.integers(1, v + 1)) for k, v in enumerate(x.shape))
    whole = tuple(m if k == dim else v for k, v in enumerate(x.shape))
    for shape in (part, whole):
        index = rng.integers(0, n, shape)
        compare(lambda t, i: pydl.gather(t, dim, i), lambda t, i: torch.gather(t, dim, i), x, index)
        compare(
            lambda t, i, s: pydl.scatter_add(t, dim, i, s),
            lambda t, i, s: torch.scatter_add(t, dim, i, s),
            x,
            index,
            rng.standard_normal(shape),
        )
        unique = np.argsort(rng.random(tuple(n if k == dim else v for k, v in enumerate(shape))), axis=dim)
        values = rng.standard_normal(unique.shape)
        compare(lambda t, i, s: pydl.scatter(t, dim, i, s), lambda t, i, s: torch.scatter(t, dim, i, s), x, unique, values)
    rows = rng.integers(0, n, m)
    compare(lambda t, i: pydl.index_select(t, dim, i), lambda t, i: torch.index_select(t, dim, i), x, rows)
    compare(
        lambda t, i, s: pydl.index_add(t, dim, i, s, alpha=0.5),
        lambda t, i, s: torch.index_add(t, dim, i, s, alpha=0.5),
        x,
        rows,
        rng.standard_normal(whole),
    )
    compare(
        lambda t, i: pydl.take_along_dim(t, i, dim),
        lambda t, i: torch.take_along_dim(t, i, dim),
        x,
        rng.integers(0, n, tuple(m if k == dim else 1 for k in range(x.ndim))),
    )
    compare(lambda t, i: pydl.scatter(t, dim, i, 3.0), lambda t, i: torch.scatter(t, dim, i, 3.0), x, rng.integers(0, n, part))


def random_index(rng, shape):
    """(parts with ndarrays, number of arrays): what PyTorch and NumPy index alike."""
    parts, together = [], tuple(int(v) for v in rng.integers(1, 4, rng.integers(1, 3)))
    arrays = 0
    for n in shape[: int(rng.integers(1, len(shape) + 1))]:
        kind = rng.integers(6)
        if kind == 0:
            start, stop = sorted(int(v) for v in rng.integers(0, n + 1, 2))
            parts.append(slice(start, stop, int(rng.integers(1, 3))))
        elif kind == 1:
            parts.append(slice(None))
        elif kind == 2:
            parts += [None, slice(-n, None)]
        else:
            arrays += 1
            parts.append(rng.integers(-n, n, together))
    return parts, arrays


@pytest.mark.parametrize("seed", range(60))
def test_any_index(seed):
    rng, x, _ = case(seed)
    parts, _ = random_index(rng, x.shape)
    where = [k for k, p in enumerate(parts) if isinstance(p, np.ndarray)]

    def apply(t, *arrays):
        full = list(parts)
        for k, a in zip(where, arrays, strict=True):
            full[k] = a
        return t[tuple(full)]

    compare(apply, apply, x, *[parts[k] for k in where])


@pytest.mark.parametrize("seed", range(10))
def test_masks(seed):
    rng, x, _ = case(seed)
    mask = rng.random(x.shape) < 0.4
    compare(lambda t, m: t[m], lambda t, m: t[m], x, mask)
    compare(lambda t, m: pydl.masked_select(t, m), lambda t, m: torch.masked_select(t, m), x, mask[:1])
    compare(lambda t, m: t[m], lambda t, m: t[m], x, mask.any(tuple(range(1, x.ndim))))
    compare(lambda t, m: pydl.masked_fill(t, m, 2.0), lambda t, m: torch.masked_fill(t, m, 2.0), x, mask)
    np.testing.assert_array_equal(pydl.nonzero(pydl.tensor(mask)).numpy(), torch.nonzero(torch.tensor(mask)).numpy())


@pytest.mark.parametrize("seed", range(10))
def test_writing(seed):
    rng, x, _ = case(seed)
    parts, _ = random_index(rng, x.shape)
    mine, peer = pydl.tensor(x), torch.tensor(np.ascontiguousarray(x))
    shape = tuple(mine[tuple(pydl.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)].shape)
    value = np.full(shape, 2.5)  # equal values: PyTorch leaves the order of repeated writes open
    mine[tuple(pydl.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)] = pydl.tensor(value)
    peer[tuple(torch.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)] = torch.tensor(value)
    np.testing.assert_array_equal(mine.numpy(), peer.numpy())


def test_one_hot_and_scalars():
    classes = np.random.default_rng(0).integers(0, 5, (3, 4))
    for n in (-1, 7):
        ours, theirs = pydl.one_hot(pydl.tensor(classes), n), torch.nn.functional.one_hot(torch.tensor(classes), n)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    scalar, at = np.array(2.0), np.array(0)
    compare(lambda t, i: pydl.gather(t, 0, i), lambda t, i: torch.gather(t, 0, i), scalar, at)
    compare(lambda t, i, s: pydl.scatter_add(t, 0, i, s), lambda t, i, s: torch.scatter_add(t, 0, i, s), scalar, at, scalar)
    for index in (Ellipsis, None, (), (None, Ellipsis)):
        compare(lambda t: t[index], lambda t: t[index], scalar)  # noqa: B023
