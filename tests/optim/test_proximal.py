"""ISTA and FISTA: the solution known in closed form, the rates that are proven, scikit-learn's Lasso."""

import numpy as np
import pytest

import pydl
from pydl import optim
from pydl.errors import ArgumentError


def problem(n=60, p=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) @ (np.eye(p) + 0.4)
    y = x[:, :3] @ np.array([3.0, -2.0, 1.0]) + 0.5 * rng.standard_normal(n)
    return x, y


def least_squares(x, y):
    a, b, n = pydl.from_numpy(x), pydl.from_numpy(y), len(y)
    return lambda w: ((a @ w - b) ** 2).sum() / (2 * n)


def test_soft_threshold_by_hand():
    w = pydl.tensor([3.0, -3.0, 0.5, -1.0, 0.0])
    np.testing.assert_array_equal(optim.soft_threshold(w, 1.0).numpy(), [2, -2, 0, 0, 0])


@pytest.mark.parametrize("method", [optim.ista, optim.fista])
def test_an_orthogonal_problem_is_solved_in_closed_form(method):
    """f = |w - c|^2 / 2: the minimum is soft_threshold(c, l1), reached in one step of length 1."""
    c = pydl.from_numpy(np.array([2.0, -0.3, 0.7, -4.0]))
    w, values = method(lambda v: ((v - c) ** 2).sum() / 2, pydl.from_numpy(np.zeros(4)), 1.0, 0.5, 3)
    np.testing.assert_allclose(w.numpy(), [1.5, 0, 0.2, -3.5], atol=1e-12)
    assert values[0] == pytest.approx((4 + 0.09 + 0.49 + 16) / 2)
    assert len(values) == 4


def test_the_proven_rates_and_the_lasso_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem()
    expected = linear_model.Lasso(alpha=0.3, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x, y).coef_
    f, n = least_squares(x, y), len(y)
    lipschitz = float(np.linalg.eigvalsh(x.T @ x / n)[-1])
    start = pydl.from_numpy(np.zeros(x.shape[1]))
    best = ((x @ expected - y) ** 2).sum() / (2 * n) + 0.3 * np.abs(expected).sum()
    steps = np.arange(1, 1001)
    distance = lipschitz * (expected**2).sum()
    for method, bound in ((optim.ista, distance / (2 * steps)), (optim.fista, 2 * distance / (steps + 1) ** 2)):
        w, values = method(f, start, 1 / lipschitz, 0.3, len(steps))
        assert np.all(np.array(values[1:]) - best <= bound + 1e-12)
        if method is optim.fista:
            np.testing.assert_allclose(w.numpy(), expected, atol=1e-4)
            np.testing.assert_array_equal(w.numpy() == 0, expected == 0)
    assert not start.numpy().any()


def test_what_is_not_penalised_stays_large():
    c = pydl.from_numpy(np.array([2.0, 2.0]))
    w, _ = optim.ista(lambda v: ((v - c) ** 2).sum() / 2, pydl.from_numpy(np.zeros(2)), 1.0, 0.5, 2,
                      penalise=pydl.from_numpy(np.array([1.0, 0.0])))  # fmt: skip
    np.testing.assert_allclose(w.numpy(), [1.5, 2.0])


def test_refused():
    start = pydl.from_numpy(np.zeros(2))
    with pytest.raises(ArgumentError, match="lr=0"):
        optim.ista(lambda w: w.sum(), start, 0, 0.1, 3)
    with pytest.raises(ArgumentError, match="must not be negative"):
        optim.soft_threshold(start, -1.0)
