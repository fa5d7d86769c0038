"""Remainders, parts of numbers, bits: values against NumPy, gradients by differences, and what is refused."""

import numpy as np
import pytest

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, DTypeError, ShapeError

rng = np.random.default_rng(0)


def tensor(*shape, low=-2.0, high=2.0):
    return pydl.tensor(rng.uniform(low, high, shape), requires_grad=True)


CASES = {
    "exp2": (np.exp2, [tensor(3, 4)]),
    "trunc": (np.trunc, [tensor(3, 4)]),
    "frac": (lambda x: x - np.trunc(x), [tensor(3, 4)]),
    "fmod": (np.fmod, [tensor(3, 4), tensor(4, low=0.3)]),
    "hypot": (np.hypot, [tensor(3, 4), tensor(4)]),
    "copysign": (np.copysign, [tensor(3, 4), tensor(4)]),
    "sinc": (np.sinc, [tensor(3, 4, low=0.1)]),
    "fmax": (np.fmax, [tensor(3, 4), tensor(4)]),
    "fmin": (np.fmin, [tensor(3, 4), tensor(4)]),
    "logaddexp2": (np.logaddexp2, [tensor(3, 4), tensor(4)]),
    "xlogy": (lambda x, y: x * np.log(y), [tensor(3, 4), tensor(4, low=0.2)]),
    "deg2rad": (np.deg2rad, [tensor(3, 4)]),
    "nan_to_num": (np.nan_to_num, [tensor(3, 4)]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    reference, inputs = CASES[name]
    function = getattr(pydl, name)
    np.testing.assert_allclose(function(*inputs).detach().numpy(), reference(*(t.detach().numpy() for t in inputs)), rtol=1e-12)
    assert gradcheck(function, tuple(inputs))


def test_no_overflow():
    np.testing.assert_allclose(pydl.hypot(pydl.tensor(3e30), pydl.tensor(4e30)).item(), 5e30, rtol=1e-6)
    assert pydl.hypot(pydl.zeros(2), pydl.zeros(2)).tolist() == [0, 0]


def test_no_gradient_where_a_number_was_put():
    x = pydl.tensor([np.nan, 1.0, np.inf], requires_grad=True)
    pydl.nan_to_num(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_operators_of_integers_work_on_bits():
    a = pydl.tensor([12, 10])
    assert (a & 10).tolist() == [8, 10]
    assert (a | 1).tolist() == [13, 11]
    assert (a ^ a).tolist() == [0, 0]
    assert (~a).tolist() == [-13, -11]
    assert (a << 2).tolist() == [48, 40]
    assert (a % 7).tolist() == [5, 3]
    assert (a // 7).tolist() == [1, 1]
    assert (30 // a).tolist() == [2, 3]
    assert (~(a > 11)).tolist() == [False, True]


def test_refused():
    with pytest.raises(DTypeError, match=r"\[bitwise_and\] other is float32; expected integers or bool"):
        pydl.tensor([1]) & pydl.ones(1)
    with pytest.raises(ShapeError, match="bitwise_or"):
        pydl.bitwise_or(pydl.tensor([1, 2]), pydl.tensor([1, 2, 3]))
    with pytest.raises(DTypeError, match="bitwise_not"):
        ~pydl.ones(2)
    with pytest.raises(ArgumentError, match=r"add_: result of shape \(2, 3\) does not fit into \(3,\) in place"):
        pydl.zeros(3).add_(pydl.zeros(2, 3))


def test_random_numbers_in_place():
    pydl.manual_seed(0)
    x = pydl.zeros(4000)
    assert abs(x.normal_(3, 2).mean().item() - 3) < 0.2
    assert abs(x.std().item() - 2) < 0.1
    assert 2 <= x.uniform_(2, 5).min().item() < 2.1
    assert set(x.bernoulli_(0.25).numpy()) == {0.0, 1.0}
    assert abs(x.mean().item() - 0.25) < 0.03
    assert set(x.random_(2, 5).numpy()) == {2, 3, 4}
    assert pydl.zeros(3, 3).fill_diagonal_(2.0).trace().item() == 6
