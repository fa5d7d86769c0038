"""Everyday functions made of other operations: values against NumPy, gradients by differences, odd arguments."""

import numpy as np
import pytest

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)


def tensor(*shape, low=-2.0, high=2.0):
    return pydl.tensor(rng.uniform(low, high, shape), requires_grad=True)


CASES = {
    "log2": (lambda x: pydl.log2(x), np.log2, [tensor(3, 4, low=0.1)]),
    "log10": (lambda x: pydl.log10(x), np.log10, [tensor(3, 4, low=0.1)]),
    "logit": (lambda x: pydl.logit(x), lambda x: np.log(x) - np.log1p(-x), [tensor(5, low=0.1, high=0.9)]),
    "logaddexp": (pydl.logaddexp, np.logaddexp, [tensor(3, 4), tensor(4)]),
    "lerp": (pydl.lerp, lambda a, b, w: (1 - w) * a + w * b, [tensor(3, 4), tensor(4), tensor(3, 1)]),
    "addcmul": (lambda x, a, b: pydl.addcmul(x, a, b, value=0.5), lambda x, a, b: x + 0.5 * a * b,
                [tensor(3), tensor(3), tensor(3)]),
    "addcdiv": (lambda x, a, b: pydl.addcdiv(x, a, b, value=-2), lambda x, a, b: x - 2 * a / b,
                [tensor(3), tensor(3), tensor(3, low=0.5)]),
    "remainder": (lambda x: pydl.remainder(x, 0.7), lambda x: np.mod(x, 0.7), [tensor(9)]),
    "trace": (pydl.trace, np.trace, [tensor(3, 5)]),
    "diag": (pydl.diag, np.diag, [tensor(4)]),
    "diag above": (lambda x: pydl.diag(x, 2), lambda x: np.diag(x, 2), [tensor(4)]),
    "diag below": (lambda x: pydl.diag(x, -1), lambda x: np.diag(x, -1), [tensor(4)]),
    "diag of a matrix": (lambda x: pydl.diag(x, 1), lambda x: np.diag(x, 1), [tensor(4, 3)]),
    "hstack": (lambda a, b: pydl.hstack([a, b]), lambda a, b: np.hstack([a, b]), [tensor(2, 3), tensor(2, 1)]),
    "hstack of vectors": (lambda a, b: pydl.hstack([a, b]), lambda a, b: np.hstack([a, b]), [tensor(2), tensor(3)]),
    "vstack": (lambda a, b: pydl.vstack([a, b]), lambda a, b: np.vstack([a, b]), [tensor(3), tensor(2, 3)]),
    "dist": (pydl.dist, lambda a, b: np.sqrt(((a - b) ** 2).sum()), [tensor(2, 3), tensor(3)]),
    "cdist": (pydl.cdist, lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)), [tensor(4, 3), tensor(5, 3)]),
    "cdist, p = 1": (lambda a, b: pydl.cdist(a, b, 1), lambda a, b: np.abs(a[:, None] - b[None]).sum(-1),
                     [tensor(4, 3), tensor(5, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    function, reference, inputs = CASES[name]
    np.testing.assert_allclose(function(*inputs).detach().numpy(), reference(*(x.data for x in inputs)), rtol=1e-12, atol=1e-12)
    assert gradcheck(function, inputs)


def test_infinities_of_logaddexp():
    a, b = pydl.tensor([np.inf, -np.inf, np.inf, -np.inf, 1e4]), pydl.tensor([np.inf, -np.inf, -np.inf, 2.0, 1.0])
    np.testing.assert_array_equal(pydl.logaddexp(a, b).numpy(), [np.inf, -np.inf, np.inf, 2.0, 1e4])


def test_comparisons():
    a = pydl.tensor([1.0, np.nan, 3.0])
    assert not pydl.equal(a, a)
    assert pydl.equal(a[:1], pydl.tensor([1.0]))
    assert not pydl.equal(a[:1], pydl.tensor([[1.0]]))
    assert pydl.isclose(a, a + 1e-7).tolist() == [True, False, True]
    assert pydl.allclose(a, a, equal_nan=True)
    assert not a.allclose(a)


def test_integers_are_divided_as_python_does():
    a = pydl.tensor([7, -7])
    assert pydl.floor_divide(a, pydl.tensor([2, 2])).tolist() == [3, -4]
    assert pydl.remainder(a, pydl.tensor([2, 2])).tolist() == [1, 1]


def test_new_tensors_like_others():
    x = pydl.zeros(2, 3, dtype=np.float64)
    assert pydl.full_like(x, 5).tolist() == [[5.0] * 3] * 2
    assert pydl.full_like(x, 5, dtype=np.int64).dtype == np.int64
    assert pydl.empty_like(x, requires_grad=True).requires_grad
    assert pydl.empty(2, 3).shape == pydl.empty((2, 3)).shape == (2, 3)
    assert pydl.numel(x) == 6
    assert pydl.is_tensor(x)
    assert not pydl.is_tensor(x.numpy())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: pydl.trace(pydl.ones(3)), ShapeError, "matrix"),
        (lambda: pydl.diag(pydl.ones(2, 2, 2)), ShapeError, "vector or a matrix"),
        (lambda: pydl.cdist(pydl.ones(2, 3), pydl.ones(2, 4)), ShapeError, "same d"),
        (lambda: pydl.cdist(pydl.ones(2, 3), pydl.ones(2, 3), p=0), ArgumentError, "positive"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
