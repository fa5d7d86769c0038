"""Dropout: the exact mask from an independent Philox, expectation, gradients, channels, SELU's moments, layers."""

import numpy as np
import pytest
from records import ISAS, instruction_set, threads

import pydl
from pydl import _core, nn
from pydl.errors import ArgumentError, DTypeError, ShapeError
from pydl.random import Generator


def philox(key, counter):
    """Philox4x32-10 with Python integers: four words."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c


def test_reference_philox():
    """The vectors published with Random123 (kat_vectors)."""
    assert philox((0, 0), (0, 0, 0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox((2**32 - 1,) * 2, (2**32 - 1,) * 4) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("n", [1, 15, 16, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mask_is_philox(n, dtype):
    seed, start, p = 0x123456789ABCDEF, 2**32 - 5, 0.3
    words = [philox((seed & 0xFFFFFFFF, seed >> 32), (b & 0xFFFFFFFF, b >> 32, 0, 0))[e // 16 % 4]
             for e in range(n) for b in [start + e // 64 * 16 + e % 16]]
    x = np.linspace(1, 2, n).astype(dtype)
    expected = np.where(np.array(words) >= p * 2**32, x / (1 - p), 0)
    for isa in ISAS:
        with instruction_set(isa):
            g = Generator(seed)
            g.set_state({"seed": seed, "offset": start})
            y = pydl.dropout(pydl.tensor(x), p, generator=g)
            np.testing.assert_allclose(y.numpy(), expected, rtol=3e-7)
            assert g.get_state()["offset"] == start + 16 * -(-n // 64)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_expectation(p):
    """Within five standard deviations of the binomial distribution; neighbours are independent."""
    n = 400_000
    y = pydl.dropout(pydl.ones(n), p, generator=Generator(1)).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    assert abs(y.mean(dtype=float) - 1) < 5 * deviation / (1 - p)
    for lag in (1, 4, 16, 64):
        together = (kept[lag:] & kept[:-lag]).mean()
        assert abs(together - (1 - p) ** 2) < 10 * deviation


def test_gradient_uses_the_same_mask_in_any_layout():
    x = pydl.from_numpy(np.random.default_rng(0).uniform(1, 2, (3, 6, 5, 4)).transpose(0, 3, 1, 2))
    x.requires_grad = True
    y = pydl.dropout(x, 0.4, generator=Generator(3))
    g = np.random.default_rng(1).uniform(1, 2, y.shape)  # C order, unlike x
    (dx,) = pydl.autograd.grad(y, [x], pydl.tensor(g), create_graph=True)
    kept = y.detach().numpy() != 0
    assert 0.4 < kept.mean() < 0.8
    np.testing.assert_allclose(dx.detach().numpy(), np.where(kept, g / 0.6, 0), rtol=1e-12)
    assert y.data.strides == x.data.strides


def test_second_derivative():
    x = pydl.tensor(np.linspace(1, 2, 50), requires_grad=True)
    (dx,) = pydl.autograd.grad((pydl.dropout(x, 0.5, generator=Generator(3)) ** 3).sum(), [x], create_graph=True)
    (ddx,) = pydl.autograd.grad(dx.sum(), [x])
    kept = dx.detach().numpy() != 0
    assert 5 < kept.sum() < 45
    np.testing.assert_allclose(ddx.numpy(), np.where(kept, 6 * 2**3 * np.linspace(1, 2, 50), 0))


@pytest.mark.parametrize("function", [pydl.dropout, pydl.alpha_dropout])
def test_threads_and_isas_give_the_same_bits(function):
    x = np.random.default_rng(0).normal(size=(7, 90_001)).astype(np.float32)
    found = set()
    for n in (1, 2, 3):
        for isa in ISAS:
            with threads(n), instruction_set(isa):
                t = pydl.tensor(x, requires_grad=True)
                y = function(t, 0.3, True, generator=Generator(5))
                y.sum().backward()
                kept = t.grad.numpy() != 0
                found.add(kept.tobytes())
                if isa == ISAS[-1]:
                    found.add(y.detach().numpy().tobytes())
    assert len(found) == 2  # one mask; one result at the last level (levels may round x * scale + shift differently)


def test_recomputation_in_a_checkpoint_drops_the_same():
    x = pydl.ones(500, requires_grad=True)
    y = pydl.checkpoint(lambda t: pydl.dropout(t, 0.5) * t, x)
    pydl.rand(3)  # moves the generator on before backward runs the function again
    y.sum().backward()
    assert 100 < np.count_nonzero(y.detach().numpy()) < 400
    np.testing.assert_array_equal(x.grad.numpy(), 2 * y.detach().numpy())


def test_default_generator_and_modes():
    x = pydl.ones(1000)
    pydl.manual_seed(4)
    a, b = pydl.dropout(x), pydl.dropout(x)
    pydl.manual_seed(4)
    c = pydl.dropout(x)
    assert (a.numpy() == c.numpy()).all()
    assert not (a.numpy() == b.numpy()).all()
    state = pydl.get_rng_state()
    assert pydl.dropout(x, training=False) is x
    assert pydl.dropout(x, 0.0) is x
    assert pydl.get_rng_state() == state
    assert not pydl.dropout(pydl.full((5,), float("nan")), 1.0).numpy().any()
    assert pydl.dropout(pydl.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(("name", "shape"), [
    ("dropout1d", (64, 40, 3)), ("dropout1d", (2000, 3)), ("dropout2d", (64, 40, 3, 2)), ("dropout2d", (64, 40, 3)),
    ("dropout3d", (64, 40, 2, 1, 2)), ("dropout3d", (2000, 2, 1, 2)),
])
def test_channels_go_together(name, shape):
    x = pydl.tensor(np.random.default_rng(0).uniform(1, 2, shape), requires_grad=True)
    y = getattr(pydl, name)(x, 0.25, generator=Generator(2))
    y.sum().backward()
    single = shape[0] == 2000
    ratio = (y.detach().numpy() / x.detach().numpy()).reshape(-1, np.prod(shape[1 if single else 2 :]))
    kept = ratio[:, :1] != 0
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / len(ratio))
    np.testing.assert_allclose(ratio, np.broadcast_to(kept / 0.75, ratio.shape))
    np.testing.assert_allclose(x.grad.numpy().reshape(ratio.shape), ratio)


@pytest.mark.parametrize(("function", "shape"), [(pydl.alpha_dropout, (300_000,)), (pydl.feature_alpha_dropout, (500, 600, 1))])
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_alpha_keeps_mean_and_variance(function, shape, p):
    x = np.random.default_rng(0).standard_normal(shape)
    y = function(pydl.tensor(x), p, training=True, generator=Generator(2)).numpy()
    assert abs(y.mean()) < 0.01
    assert abs(y.var() - 1) < 0.02
    floor = np.unique(y, return_counts=True)[1].max()  # dropped elements share one value
    assert abs(floor / y.size - p) < 5 * np.sqrt(p * (1 - p) / y.size)
    np.testing.assert_array_equal(function(pydl.tensor(x), p).numpy(), x)


def test_alpha_against_its_formula():
    x = pydl.tensor(np.linspace(-1, 1, 4000), requires_grad=True)
    p, floor = 0.2, -1.7580993408473766
    y = pydl.alpha_dropout(x, p, True, generator=Generator(9))
    y.sum().backward()
    kept = x.grad.numpy() != 0
    a = ((1 - p) + floor**2 * p * (1 - p)) ** -0.5
    expected = a * np.where(kept, x.detach().numpy(), floor) - a * floor * p
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), a * kept, rtol=1e-12)


def test_layers():
    x = pydl.ones(8, 64, 2, 2)
    for layer in (nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()):
        pydl.manual_seed(0)
        assert np.unique(layer(x).numpy()).size == 2
        assert layer.eval()(x) is x
    assert nn.Dropout1d(0.5)(pydl.ones(4, 3, 2)).shape == (4, 3, 2)
    assert nn.Dropout3d(0.5)(pydl.ones(4, 3, 2, 2, 2)).shape == (4, 3, 2, 2, 2)
    assert repr(nn.Dropout(0.3)) == "Dropout(p=0.3, inplace=False)"


def test_errors():
    with pytest.raises(ArgumentError, match=r"\[dropout\] p=1.5; .*between 0 and 1"):
        pydl.dropout(pydl.ones(2), 1.5)
    with pytest.raises(ArgumentError, match=r"AlphaDropout: p=-0.1"):
        nn.AlphaDropout(-0.1)
    with pytest.raises(DTypeError, match=r"\[dropout\].*int64"):
        pydl.dropout(pydl.tensor([1, 2]))
    with pytest.raises(ShapeError, match=r"\[dropout2d\] input of shape \(2, 3\)"):
        pydl.dropout2d(pydl.ones(2, 3))
    with pytest.raises(ShapeError, match=r"\[feature_alpha_dropout\]"):
        pydl.feature_alpha_dropout(pydl.ones(3), training=True)


def test_native_code_checks_what_it_reads():
    x = np.zeros((4, 4), np.float32)
    for args in ((x.T[:, ::2], x[:, :2].copy(), 0.5), (x, x[:2], 0.5), (x, x.astype(np.float64), 0.5), (x, x, 1.5), (x, x, -0.5)):
        with pytest.raises(_core.NativeError):
            _core.dropout(*args, 1.0, 0.0, 0.0, 0, 0)
