"""Initial values: bounds, moments, the seed alone decides; zeros shown to fail."""

import math

import numpy as np
import pytest
from records import threads

import pydl
from pydl import nn, optim
from pydl.errors import ArgumentError
from pydl.nn import init

SHAPE = (300, 200)          # fan_in 200, fan_out 300
KERNEL = (40, 30, 5, 4)     # fan_in 600, fan_out 800


def drawn(function, *args, shape=SHAPE, **kwargs):
    pydl.manual_seed(0)
    tensor = pydl.full(shape, math.nan)
    assert function(tensor, *args, **kwargs) is tensor
    values = tensor.numpy().astype(np.float64)
    assert np.isfinite(values).all()
    return values


def assert_uniform(values, low, high):
    n, width = values.size, high - low
    assert low <= values.min()
    assert values.max() < high * (1 + 1e-6) if high > 0 else values.max() <= high
    assert values.min() < low + 20 * width / n  # the ends are reached
    assert values.max() > high - 20 * width / n
    assert abs(values.mean() - (low + high) / 2) < 5 * width / math.sqrt(12 * n)
    assert abs(values.var() / (width**2 / 12) - 1) < 5 / math.sqrt(n)
    counts = np.histogram(values, 20, (low, high))[0]
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 60  # chi-squared with 19 degrees of freedom


def assert_normal(values, mean, std):
    n = values.size
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
    assert abs(values.std() / std - 1) < 5 / math.sqrt(2 * n)
    inside = (np.abs(values - mean) < std).mean()
    assert abs(inside - 0.6827) < 5 * math.sqrt(0.22 / n)
    assert np.abs(values - mean).max() > 3.5 * std


def test_uniform_and_normal():
    assert_uniform(drawn(init.uniform_), 0, 1)
    assert_uniform(drawn(init.uniform_, -3.0, 0.5), -3, 0.5)
    assert_normal(drawn(init.normal_), 0, 1)
    assert_normal(drawn(init.normal_, 2.0, 0.1), 2, 0.1)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [(SHAPE, 200, 300), (KERNEL, 600, 800)])
def test_fan_rules(shape, fan_in, fan_out):
    assert init.calculate_fan(pydl.zeros(shape)) == (fan_in, fan_out)
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert_uniform(drawn(init.xavier_uniform_, shape=shape), -bound, bound)
    assert_uniform(drawn(init.xavier_uniform_, 2.0, shape=shape), -2 * bound, 2 * bound)
    assert_normal(drawn(init.xavier_normal_, shape=shape), 0, math.sqrt(2 / (fan_in + fan_out)))
    bound = math.sqrt(6 / fan_in)
    assert_uniform(drawn(init.kaiming_uniform_, nonlinearity="relu", shape=shape), -bound, bound)
    assert_normal(drawn(init.kaiming_normal_, mode="fan_out", nonlinearity="relu", shape=shape), 0, math.sqrt(2 / fan_out))
    assert_normal(drawn(init.kaiming_normal_, 0.5, shape=shape), 0, math.sqrt(2 / 1.25 / fan_in))
    bound = 1 / math.sqrt(fan_in)
    assert_uniform(drawn(init.inv_sqrt_, shape=shape), -bound, bound)


def test_truncated_normal():
    values = drawn(init.trunc_normal_, 0.5, 1.0, -1.0, 1.0)
    assert -1 <= values.min() < -0.999
    assert 0.999 < values.max() <= 1
    # mean and variance of a normal cut at alpha = -1.5, beta = 0.5
    density = [math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (-1.5, 0.5)]
    share = 0.5 * (math.erf(0.5 / math.sqrt(2)) - math.erf(-1.5 / math.sqrt(2)))
    mean = (density[0] - density[1]) / share
    variance = 1 + (-1.5 * density[0] - 0.5 * density[1]) / share - mean**2
    assert abs(values.mean() - 0.5 - mean) < 0.01
    assert abs(values.var() - variance) < 0.01
    with pytest.raises(ArgumentError, match="holds almost nothing"):
        init.trunc_normal_(pydl.zeros(2), 0.0, 1.0, 50.0, 51.0)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (10, 3, 4, 2), (7, 7)])
def test_orthogonal(shape):
    q = drawn(init.orthogonal_, 3.0, shape=shape).reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=2e-5)


def test_constants():
    assert (drawn(init.zeros_) == 0).all()
    assert (drawn(init.ones_) == 1).all()
    assert (drawn(init.constant_, 0.25) == 0.25).all()
    np.testing.assert_array_equal(drawn(init.eye_, shape=(3, 4)), np.eye(3, 4))
    x = pydl.tensor(np.random.default_rng(0).integers(-4, 5, (1, 3, 6)).astype(np.float32))
    weight = init.dirac_(pydl.zeros(3, 3, 5))
    np.testing.assert_array_equal(pydl.conv1d(x, weight, padding=2).numpy(), x.numpy())


def test_the_seed_alone_decides():
    """Not the number of threads, and not what was drawn from another generator meanwhile."""
    found = []
    for n in (1, 2, 3):
        with threads(n):
            pydl.manual_seed(7)
            found.append([f(pydl.zeros(1000, 37)).numpy().tobytes() for f in (init.uniform_, init.normal_)])
    assert found[0] == found[1] == found[2]
    assert found[0][0][:400] != found[0][1][:400]
    own = [pydl.Generator().manual_seed(3) for _ in range(2)]
    first = init.normal_(pydl.zeros(50), generator=own[0]).numpy()
    pydl.manual_seed(1)
    init.normal_(pydl.zeros(50))
    np.testing.assert_array_equal(first, init.normal_(pydl.zeros(50), generator=own[1]).numpy())


@pytest.mark.parametrize("name", ["uniform_", "normal_", "xavier_uniform_", "orthogonal_", "kaiming_normal_"])
def test_gradients_are_not_recorded(name):
    p = nn.Parameter(np.zeros((3, 4), np.float32))
    getattr(init, name)(p)
    assert p.is_leaf
    assert p.requires_grad
    assert p.detach().numpy().any()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: init.xavier_uniform_(pydl.zeros(3)), "at least two axes"),
    (lambda: init.orthogonal_(pydl.zeros(3)), "at least two axes"),
    (lambda: init.kaiming_normal_(pydl.zeros(3, 3), mode="in"), "mode='in'"),
    (lambda: init.calculate_gain("rely"), "unknown nonlinearity 'rely'"),
    (lambda: init.eye_(pydl.zeros(3)), "expected a matrix"),
    (lambda: init.dirac_(pydl.zeros(3, 3)), "convolution weight"),
    (lambda: init.dirac_(pydl.zeros(3, 3, 3), 2), "divides by 2"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


# --------------------------------------------------------------------------- what initial values do


def train_xor(initialise, steps=400):
    """Two hidden units on XOR; returns the network and its loss before and after."""
    x = pydl.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = pydl.tensor([[0.0], [1.0], [1.0], [0.0]])
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid())
    for layer in (net[0], net[2]):
        initialise(layer.weight)
        init.zeros_(layer.bias)
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = pydl.binary_cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def test_zeros_fail_by_symmetry():
    """Equal units get equal gradients, stay equal for ever, and act as one: XOR, which needs two, is not learnt."""
    for start in (init.zeros_, lambda t: init.constant_(t, 0.5)):
        net, losses = train_xor(start)
        weight, bias = net[0].weight.detach().numpy(), net[0].bias.detach().numpy()
        out = net[2].weight.detach().numpy()
        for unit in range(1, 4):
            np.testing.assert_array_equal(weight[unit], weight[0])
            assert bias[unit] == bias[0]
            assert out[0, unit] == out[0, 0]
        assert losses[-1] > 0.3
    pydl.manual_seed(0)
    net, losses = train_xor(init.xavier_uniform_)
    weight = net[0].weight.detach().numpy()
    assert not np.array_equal(weight[0], weight[1])
    assert losses[-1] < 0.05


def test_he_keeps_the_variance_through_relu():
    """Twenty layers: with He the signal keeps its size, with 1/sqrt(n) it dies out, with N(0, 1) it explodes."""
    pydl.manual_seed(0)
    x = pydl.randn(64, 256)

    def size_after(start):
        h = x
        for _ in range(20):
            h = pydl.relu(pydl.linear(h, start(pydl.zeros(256, 256))))
        return float(h.numpy().astype(np.float64).std())

    assert 0.2 < size_after(lambda w: init.kaiming_normal_(w, nonlinearity="relu")) < 5
    assert size_after(init.inv_sqrt_) < 1e-4
    assert size_after(init.normal_) > 1e10


def test_xavier_keeps_the_variance_both_ways():
    pydl.manual_seed(0)
    x = pydl.randn(200, 300)
    x.requires_grad = True
    y = pydl.linear(x, init.xavier_normal_(pydl.zeros(300, 300)))
    y.backward(pydl.randn(200, 300))
    assert abs(y.detach().numpy().std() - 1) < 0.05
    assert abs(x.grad.numpy().std() - 1) < 0.05
