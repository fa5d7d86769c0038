"""Element-wise functions: every check of tests/ops/records.py."""

import math

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl.errors import DTypeError, ShapeError

SHAPE = (3, 5, 7)
LARGE = (draw(5, 41, 331),)
POSITIVE = draw(*SHAPE, low=0.1, high=3.0)


def unary(name, reference, inputs=None, large=LARGE, **options):
    options.setdefault("zero_size", (draw(0, 4),))
    return OpRecord(name, getattr(pydl, name), reference, (inputs or draw(*SHAPE, away_from=0.0),), large=large, **options)


def binary(name, reference, *inputs, **options):
    return OpRecord(
        name, getattr(pydl, name), reference, inputs or (draw(*SHAPE), draw(5, 1)),
        large=(draw(40, 33, 31, low=0.5), draw(33, 1, low=0.5)), zero_size=(draw(0, 4), draw(4)),
        errors=[(lambda: getattr(pydl, name)(pydl.zeros(2, 3), pydl.zeros(4)), ShapeError,
                 rf"\[{name}\].*input \(2, 3\).*other \(4,\)")], **options)


smooth = {"double_backward": True}
RECORDS = [
    unary("neg", np.negative, **smooth),
    unary("abs", np.abs),
    unary("sign", np.sign),
    unary("exp", np.exp, **smooth),
    unary("expm1", np.expm1, **smooth),
    unary("log", np.log, POSITIVE, (draw(5, 41, 331, low=0.1),), **smooth),
    unary("log1p", np.log1p, POSITIVE, (draw(5, 41, 331, low=0.1),), **smooth),
    unary("sqrt", np.sqrt, POSITIVE, (draw(5, 41, 331, low=0.1),), **smooth),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), POSITIVE, (draw(5, 41, 331, low=0.1),), **smooth),
    unary("square", np.square, **smooth),
    unary("reciprocal", np.reciprocal, POSITIVE, (draw(5, 41, 331, low=0.1),), **smooth),
    unary("sin", np.sin, **smooth),
    unary("cos", np.cos, **smooth),
    unary("tanh", np.tanh, **smooth),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x)), **smooth),
    unary("erf", np.vectorize(math.erf, otypes=[float]), zero_size=None, **smooth),
    OpRecord("clamp", lambda x: pydl.clamp(x, -0.7, 0.9), lambda x: np.clip(x, -0.7, 0.9), (draw(*SHAPE),)),
    binary("add", np.add, **smooth),
    binary("sub", np.subtract, **smooth),
    binary("mul", np.multiply, **smooth),
    binary("div", np.divide, draw(*SHAPE), draw(5, 1, low=0.5), **smooth),
    binary("pow", np.power, draw(*SHAPE, low=0.2), draw(5, 1), rtol=1e-5, **smooth),
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    OpRecord("where", lambda a, b: pydl.where(a > b, a, b * 3), lambda a, b: np.where(a > b, a, b * 3),
             (draw(4, 6), draw(6)), large=(draw(90, 600), draw(600)), **smooth),
    OpRecord("compare", lambda a, b: (a > b, a >= b, a < b, a <= b, a == b, a != b),
             lambda a, b: (a > b, a >= b, a < b, a <= b, a == b, a != b), (draw(4, 6), draw(6)), gradient=False),
]
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 511, 512, 513])
def test_every_tail_length(n):
    x = np.linspace(-3, 3, n + 1).astype(np.float32)[1:]  # a start that is not aligned
    np.testing.assert_allclose(pydl.exp(pydl.from_numpy(x)).numpy(), np.exp(x.astype(np.float64)), rtol=3e-7)


def test_special_values():
    nan, inf = float("nan"), float("inf")
    x = pydl.tensor([nan, inf, -inf, 0.0, -0.0, -200.0, 89.0])
    np.testing.assert_array_equal(pydl.exp(x).numpy(), np.float32([nan, inf, 0, 1, 1, 0, inf]))
    np.testing.assert_array_equal(pydl.log(x).numpy(), np.float32([nan, inf, nan, -inf, -inf, nan, np.log(np.float32(89))]))
    np.testing.assert_array_equal(pydl.tanh(x).numpy(), np.float32([nan, 1, -1, 0, 0, -1, 1]))
    np.testing.assert_array_equal(pydl.maximum(x, pydl.tensor(1.0)).numpy(), np.float32([nan, inf, 1, 1, 1, 1, 89]))


def test_ties_share_the_gradient():
    a, b = (pydl.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    pydl.maximum(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [0.5, 0.5]


def test_promotion():
    i, f = pydl.tensor([1, 2]), pydl.tensor([0.5, 0.5])
    assert (i + f).dtype == pydl.float32
    assert (i + 1).dtype == pydl.int64
    assert (i / 2).dtype == pydl.float32
    assert (i * 0.5).dtype == pydl.float32
    assert (f + 1).dtype == (2 - f).dtype == pydl.float32
    assert (f.double() * f).dtype == pydl.float64
    with pytest.raises(DTypeError, match=r"\[exp\].*int64"):
        pydl.exp(i)


def test_layout_is_kept():
    x = pydl.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32).transpose(0, 3, 1, 2))
    assert (x * 2 + x).data.strides == x.data.strides
    assert pydl.tanh(x).data.strides == x.data.strides
