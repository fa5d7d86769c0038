"""Running products, sums of exponentials and extrema: against NumPy, gradients by differences, lengths around powers of 2."""

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError

RECORDS = [
    OpRecord("cumprod", lambda x: pydl.cumprod(x, 1), lambda x: np.cumprod(x, 1), (draw(3, 9, 2),), double_backward=True,
             zero_size=(draw(2, 0, 3),), large=(draw(20, 500, 11),)),
    OpRecord("logcumsumexp", lambda x: pydl.logcumsumexp(x, 0), lambda x: np.logaddexp.accumulate(x, 0), (draw(9, 3),)),
    OpRecord("diff", lambda x: pydl.diff(x, 2, 0), lambda x: np.diff(x, 2, 0), (draw(7, 3),), double_backward=True),
    OpRecord("trapezoid", pydl.trapezoid, np.trapezoid, (draw(3, 6), draw(6)), double_backward=True),
    OpRecord("cummax", lambda x: pydl.cummax(x, 1).values, lambda x: np.maximum.accumulate(x, 1), (draw(3, 8),)),
    OpRecord("cummin", lambda x: pydl.cummin(x, 1).values, lambda x: np.minimum.accumulate(x, 1), (draw(3, 8),)),
]  # fmt: skip
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17])
def test_lengths(n):
    x = np.random.default_rng(n).uniform(0.5, 1.5, (2, n))
    np.testing.assert_allclose(pydl.cumprod(pydl.tensor(x), -1).numpy(), np.cumprod(x, -1), rtol=1e-13)


def test_zeros_in_a_running_product():
    x = pydl.tensor([2.0, 0.0, 3.0, 0.0, 5.0], dtype=pydl.float64, requires_grad=True)
    assert gradcheck(lambda t: pydl.cumprod(t, 0), (x,))


def test_extrema_of_large_exponentials_and_nan():
    np.testing.assert_allclose(pydl.logcumsumexp(pydl.tensor([1000.0, 1000.0, -np.inf]), 0).numpy(), 1000 + np.log([1, 2, 2]),
                               rtol=1e-6)
    values, indices = pydl.cummax(pydl.tensor([1.0, 4.0, 4.0, np.nan, 9.0]), 0)
    np.testing.assert_array_equal(values.numpy(), [1, 4, 4, np.nan, np.nan])
    assert indices.tolist() == [0, 1, 2, 3, 3]


def test_refused():
    with pytest.raises(ArgumentError, match=r"\[diff\] n=-1"):
        pydl.diff(pydl.zeros(3), -1)
    with pytest.raises(ArgumentError, match=r"\[cumprod\] dim=2 for a tensor of 1 axes"):
        pydl.cumprod(pydl.zeros(3), 2)
