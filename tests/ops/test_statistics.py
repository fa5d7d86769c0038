"""Quantiles, covariance, counts, sorted rows: against NumPy, gradients by differences, and what is refused."""

import numpy as np
import pytest

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, DTypeError, ShapeError

rng = np.random.default_rng(1)
X = rng.standard_normal((4, 7))


@pytest.mark.parametrize("how", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_quantile(how, dim):
    q = np.array([0.0, 0.21, 0.5, 1.0])
    found = pydl.quantile(pydl.tensor(X), pydl.tensor(q), dim, interpolation=how)
    np.testing.assert_allclose(found.numpy(), np.quantile(X, q, axis=dim, method=how), rtol=1e-12)
    assert gradcheck(lambda t: pydl.quantile(t, 0.37, dim, interpolation=how), (pydl.tensor(X, requires_grad=True),))


def test_without_nan():
    holes = X.copy()
    holes[0, 2] = holes[3, :3] = np.nan
    t = pydl.tensor(holes)
    assert np.isnan(pydl.quantile(t, 0.5).item())
    np.testing.assert_allclose(pydl.nanquantile(t, 0.3, 1).numpy(), np.nanquantile(holes, 0.3, axis=1))
    np.testing.assert_allclose(pydl.nanmean(t, 0).numpy(), np.nanmean(holes, 0))
    np.testing.assert_allclose(pydl.nansum(t, 1).numpy(), np.nansum(holes, 1))


def test_covariance():
    np.testing.assert_allclose(pydl.cov(pydl.tensor(X)).numpy(), np.cov(X), rtol=1e-12)
    np.testing.assert_allclose(pydl.corrcoef(pydl.tensor(X)).numpy(), np.corrcoef(X), rtol=1e-12)
    weights = {"fweights": np.array([1, 2, 3, 1, 1, 2, 1]), "aweights": rng.uniform(0.1, 1, 7)}
    found = pydl.cov(pydl.tensor(X), **{k: pydl.tensor(v) for k, v in weights.items()})
    np.testing.assert_allclose(found.numpy(), np.cov(X, **weights), rtol=1e-12)
    assert gradcheck(pydl.cov, (pydl.tensor(X, requires_grad=True),))


def test_counts():
    n = rng.integers(0, 6, 50)
    assert pydl.bincount(pydl.tensor(n), minlength=9).tolist() == np.bincount(n, minlength=9).tolist()
    w = pydl.tensor(rng.random(50), requires_grad=True)
    (pydl.bincount(pydl.tensor(n), w) * pydl.arange(6)).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), n)
    np.testing.assert_array_equal(pydl.histc(pydl.tensor(X), 5, -1, 1).numpy(), np.histogram(X, 5, (-1, 1))[0])
    values, indices = pydl.mode(pydl.tensor([[3, 1, 3, 1], [2, 2, 0, 5]]))
    assert values.tolist() == [1, 2]
    assert indices.tolist() == [3, 1]


def test_places_in_a_sorted_row():
    row = np.array([1.0, 2.0, 2.0, 5.0])
    wanted = np.array([[0.0, 2.0], [5.0, 9.0]])
    for right in (False, True):
        found = pydl.searchsorted(pydl.tensor(row), pydl.tensor(wanted), right=right)
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(row, wanted, "right" if right else "left"))
        np.testing.assert_array_equal(pydl.bucketize(pydl.tensor(wanted), pydl.tensor(row), right=right).numpy(), found.numpy())


def test_refused():
    x = pydl.tensor(X)
    for call, kind, match in (
        (lambda: pydl.quantile(x, 1.5), ArgumentError, r"\[quantile\] q=1.5; expected a number from 0 to 1"),
        (lambda: pydl.quantile(x, 0.5, interpolation="cubic"), ArgumentError, "interpolation='cubic'"),
        (lambda: pydl.quantile(pydl.zeros(0), 0.5), ShapeError, "is empty"),
        (lambda: pydl.cov(pydl.zeros(2, 3, 4)), ShapeError, r"\[cov\] input of shape \(2, 3, 4\)"),
        (lambda: pydl.cov(x, fweights=pydl.ones(3)), ArgumentError, r"fweights of shape \(3,\); expected 7"),
        (lambda: pydl.bincount(x), DTypeError, r"\[bincount\] input of shape \(4, 7\)"),
        (lambda: pydl.bincount(pydl.tensor([-1])), ArgumentError, "holds -1"),
        (lambda: pydl.histc(x, 0), ArgumentError, "bins=0"),
        (lambda: pydl.searchsorted(x, pydl.zeros(3, 2)), ShapeError, "expected all axes but the last equal"),
    ):
        with pytest.raises(kind, match=match):
            call()
