"""Backward writes into memory that nobody else holds, and only there."""

import gc

import numpy as np
import pytest

import pydl
from pydl import nn

N, C = 64, 300  # 75 KB: above the size from which sums are made in place


@pytest.fixture(autouse=True)
def one_thread():
    """A second thread takes scratch memory of its own, or does not, as it comes: peaks would not be the same twice."""
    before = pydl.get_num_threads()
    pydl.set_num_threads(1)
    yield
    pydl.set_num_threads(before)


def scores(view):
    rng = np.random.default_rng(0)
    x = pydl.from_numpy(rng.normal(size=(N, 40)).astype(np.float32)).requires_grad_()
    w = pydl.from_numpy(rng.normal(size=(C, 40)).astype(np.float32))
    target = pydl.from_numpy(rng.integers(0, C, N))
    y = pydl.linear(x, w)
    return x, (y.reshape(8, 8, C).reshape(N, C) if view else y), target


def cross_entropy_peak(hold, view, **options):
    """The gradient, and how far memory grew in backward."""
    x, y, target = scores(view)
    held = hold(y)
    loss = nn.functional.cross_entropy(y, target)
    before = None if held is None else held.detach().numpy().copy()
    del y
    gc.collect()  # what other tests left must not be given back meanwhile
    pydl.memory.reset_peak()
    start = pydl.memory.current()
    loss.backward(**options)
    if held is not None:
        np.testing.assert_array_equal(held.detach().numpy(), before)
    return x.grad.numpy(), pydl.memory.peak() - start


@pytest.mark.parametrize("view", [False, True])
def test_gradient_of_scores_takes_their_place(view):
    exact, grown = cross_entropy_peak(lambda y: None, view)
    for hold in (lambda y: y, lambda y: y.detach(), lambda y: y[1:], lambda y: y.reshape(C, N)):
        found, more = cross_entropy_peak(hold, view)
        np.testing.assert_array_equal(found, exact)
        assert more >= grown + 4 * N * C
    found, more = cross_entropy_peak(lambda y: None, view, retain_graph=True)
    np.testing.assert_array_equal(found, exact)
    assert more >= grown + 4 * N * C


def test_a_leaf_is_never_written_to():
    x = pydl.randn(N, C, requires_grad=True)
    before = x.detach().numpy().copy()
    nn.functional.cross_entropy(x, pydl.zeros(N, dtype=pydl.int64)).backward()
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert np.abs(x.grad.numpy()).max() > 0


def test_what_another_operation_kept_is_not_written_to():
    results = []
    for alone in (True, False):
        x, y, target = scores(False)
        y = pydl.tanh(y)  # keeps its result
        loss = nn.functional.cross_entropy(y if alone else y + 0.0, target)
        del y
        loss.backward()
        results.append(x.grad.numpy())
    np.testing.assert_array_equal(*results)


def test_two_losses_of_one_result():
    x, y, target = scores(False)
    loss = nn.functional.cross_entropy(y, target) + 2.0 * nn.functional.cross_entropy(y, target)
    del y
    loss.backward()
    once, y, target = scores(False)
    (3.0 * nn.functional.cross_entropy(y, target)).backward()
    np.testing.assert_allclose(x.grad.numpy(), once.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_gradients_of_several_consumers_are_added_in_place():
    exact = None
    for keep in (False, True):
        x = pydl.from_numpy(np.random.default_rng(1).normal(size=(N, C)).astype(np.float32)).requires_grad_()
        y = x * 1.0
        z = y * 2.0 + y * 3.0 + y * 5.0
        if keep:
            y.register_hook(lambda g: g.detach())
        z.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.full((N, C), 10.0, np.float32))
        exact = x.grad.numpy() if exact is None else exact
        np.testing.assert_array_equal(x.grad.numpy(), exact)


def test_a_shared_gradient_is_not_added_into():
    x = pydl.from_numpy(np.ones((N, C), np.float32)).requires_grad_()
    a, b = x * 1.0, x * 1.0
    total = a + b  # hands one array to both
    (total + a * 4.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((N, C), 6.0, np.float32))
    given = pydl.from_numpy(np.ones((N, C), np.float32))
    x.grad = None
    y = x * 1.0
    pydl.autograd.backward([y, y], [given, given])
    np.testing.assert_array_equal(given.numpy(), np.ones((N, C), np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((N, C), 2.0, np.float32))
