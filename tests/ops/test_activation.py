"""Activations: every check of tests/ops/records.py, their kinks, extremes and NaN."""

import math

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl.errors import ArgumentError, DTypeError, ShapeError

inf, nan = float("inf"), float("nan")
SHAPE, LARGE = (3, 5, 7), (5, 41, 331)
erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def away_from(*kinks):
    def make(rng):
        x = rng.uniform(-4, 4, SHAPE)
        for kink in kinks:
            x[np.abs(x - kink) < 0.05] += 0.12
        return x

    return make


def record(name, reference, *kinks, label=None, double=True, rtol=3e-6, **options):
    """`composed` ones take integers as the operators that they are made of do."""
    function = getattr(pydl, name)
    composed = name in ("celu", "hardsigmoid", "hardswish", "hardshrink", "threshold")
    return OpRecord(
        label or name,
        lambda x: function(x, **options),
        reference,
        (away_from(*kinks),),
        double_backward=double,
        rtol=rtol,
        large=(draw(*LARGE),),
        zero_size=(draw(0, 4),),
        errors=[]
        if composed
        else [(lambda: function(pydl.zeros(2).long(), **options), DTypeError, r"\[\w+\] expected .*float32.*int64")],
    )


def np_glu(x, dim):
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


def np_prelu(x, w):
    return np.where(x > 0, x, x * (w.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else w))


def prelu(label, shape, weights, **options):
    return OpRecord(label, pydl.prelu, np_prelu, (draw(*shape, away_from=0.0), draw(weights)), **options)


RECORDS = [
    record("relu", lambda x: np.maximum(x, 0), 0),
    record("relu6", lambda x: np.clip(x, 0, 6), 0),
    record("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), 0, negative_slope=0.2),
    record("elu", lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)), 0, alpha=1.5),
    record("celu", lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7)), 0, alpha=0.7),
    record("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), 0),
    record("gelu", lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2)))),
    record(
        "gelu",
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        label="gelu_tanh",
        approximate="tanh",
    ),
    record("silu", lambda x: x * sigmoid(x)),
    record("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    record("softplus", lambda x: np.log1p(np.exp(2 * x)) / 2, beta=2.0),
    record(
        "softplus", lambda x: np.where(x > 1, x, np.log1p(np.exp(x))), 1, label="softplus_threshold", threshold=1.0, double=False
    ),
    record("softsign", lambda x: x / (1 + np.abs(x)), 0),
    record("logsigmoid", lambda x: np.log(sigmoid(x))),
    record("hardtanh", lambda x: np.clip(x, -0.5, 2), -0.5, 2, min_val=-0.5, max_val=2.0),
    record("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), -3, 3),
    record("hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), -3, 3),
    record("hardshrink", lambda x: np.where(np.abs(x) > 0.8, x, 0), -0.8, 0.8, lambd=0.8),
    record("softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.8, 0), -0.8, 0.8, lambd=0.8),
    record("tanhshrink", lambda x: x - np.tanh(x)),
    record("threshold", lambda x: np.where(x > 0.3, x, -7), 0.3, threshold=0.3, value=-7.0),
    record("step", lambda x: (x > 0).astype(float), 0),
    record("tanh", np.tanh),
    record("sigmoid", sigmoid),
    OpRecord(
        "glu",
        lambda x: pydl.glu(x, 1),
        lambda x: np_glu(x, 1),
        (draw(3, 4, 2),),
        large=(draw(40, 60, 33),),
        rtol=3e-6,
        zero_size=(draw(0, 4),),
        double_backward=True,
        errors=[
            (lambda: pydl.glu(pydl.zeros(2, 3)), ShapeError, r"\[glu\] axis 1 of input \(2, 3\) must be even"),
            (lambda: pydl.glu(pydl.tensor(1.0)), ShapeError, r"\[glu\] axis 0 of input \(\)"),
            (lambda: pydl.glu(pydl.zeros(2, 4), 2), ArgumentError, r"\[glu\] dim=2"),
        ],
    ),
    prelu(
        "prelu",
        (3, 4, 5),
        4,
        large=(draw(30, 40, 50), draw(40)),
        zero_size=(draw(0, 4), draw(4)),
        errors=[
            (
                lambda: pydl.prelu(pydl.zeros(2, 3), pydl.zeros(2)),
                ShapeError,
                r"\[prelu\] weight of shape \(2,\); expected \(1,\) or",
            ),
            (
                lambda: pydl.prelu(pydl.zeros(2, 3), pydl.zeros(3).double()),
                DTypeError,
                r"\[prelu\].*input float32, weight float64",
            ),
        ],
    ),
    prelu("prelu_shared", (3, 4), 1),
    prelu("prelu_vector", (9,), 1),
]
test_ops = run_records(RECORDS)

AT_THE_KINK = [
    ("relu", 0.0, 0.0),
    ("relu6", 6.0, 0.0),
    ("leaky_relu", 0.0, 0.01),
    ("elu", 0.0, 1.0),
    ("hardtanh", 1.0, 0.0),
    ("step", 0.0, 0.0),
    ("hardshrink", 0.5, 0.0),
    ("softshrink", 0.5, 0.0),
]


@pytest.mark.parametrize(("name", "x", "slope"), AT_THE_KINK)
def test_slope_at_the_kink(name, x, slope):
    t = pydl.tensor(x, requires_grad=True)
    getattr(pydl, name)(t).backward()
    assert t.grad.item() == pytest.approx(slope)


UNARY = [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "logsigmoid",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "step",
    "tanh",
    "sigmoid",
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", UNARY)
def test_nan_stays(name, isa):
    with instruction_set(isa):
        for at in (0, 4, 17):
            x = np.linspace(-2, 2, 18).astype(np.float32)
            x[at] = nan
            np.testing.assert_array_equal(np.isnan(getattr(pydl, name)(pydl.tensor(x)).numpy()), np.isnan(x))
        assert np.isnan(pydl.threshold(pydl.tensor([nan]), 0.0, 1.0).item())


LIMITS = {
    "relu": (0, inf),
    "leaky_relu": (-inf, inf),
    "elu": (-1, inf),
    "selu": (-1.7580993, inf),
    "gelu": (0, inf),
    "softplus": (0, inf),
    "logsigmoid": (-inf, 0),
    "hardtanh": (-1, 1),
    "tanh": (-1, 1),
    "sigmoid": (0, 1),
    "hardsigmoid": (0, 1),
    "softshrink": (-inf, inf),
    "hardshrink": (-inf, inf),
    "tanhshrink": (-inf, inf),
    "step": (0, 1),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    x = pydl.tensor([-inf, inf, -1e30, 1e30], requires_grad=True)
    y = getattr(pydl, name)(x)
    np.testing.assert_allclose(y.detach().numpy()[:2], np.float32(LIMITS[name]), rtol=1e-6)
    assert not np.isnan(y.detach().numpy()).any()
    y[2:].sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_small_values_keep_their_digits():
    x = np.array([-30.0, -60.0, 1e-12, -1e-12])
    t = pydl.tensor(x)
    np.testing.assert_allclose(pydl.softplus(t).numpy()[:2], np.exp(x[:2]), rtol=1e-12)
    np.testing.assert_allclose(pydl.logsigmoid(-t).numpy()[:2], -np.exp(x[:2]), rtol=1e-12)
    np.testing.assert_allclose(pydl.elu(t).numpy()[3], -1e-12, rtol=1e-11)
    np.testing.assert_allclose(pydl.silu(t).numpy()[:2], x[:2] * np.exp(x[:2]), rtol=1e-12)
    single = pydl.tensor(np.float32([-30, 1e-6, -1e-6]))
    np.testing.assert_allclose(pydl.softplus(single).numpy()[0], np.exp(-30.0), rtol=1e-6)
    np.testing.assert_allclose(pydl.elu(single).numpy()[2], np.expm1(-1e-6), rtol=1e-6)


def test_second_derivatives_where_the_exponential_overflows():
    for name in ("elu", "selu", "silu", "gelu", "softplus"):
        x = pydl.tensor([1000.0, -1000.0], requires_grad=True)
        (first,) = pydl.autograd.grad(getattr(pydl, name)(x).sum(), [x], create_graph=True)
        (second,) = pydl.autograd.grad(first.sum(), [x])
        np.testing.assert_allclose(second.numpy(), 0, atol=1e-6)


def test_arguments():
    with pytest.raises(ArgumentError, match=r"\[gelu\] approximate='fast'; expected 'none' or 'tanh'"):
        pydl.gelu(pydl.zeros(2), approximate="fast")
    assert pydl.relu(pydl.tensor(-2.0)).shape == ()
