"""Softmax and log-softmax: every check of tests/ops/records.py, all axes and layouts, extreme scores."""

import itertools

import numpy as np
import pytest
from records import ISAS, OpRecord, draw, instruction_set, run_records

import pydl
from pydl.errors import ArgumentError, DTypeError, GraphError

inf, nan = float("inf"), float("nan")


def np_log_softmax(x, dim=-1):
    shifted = x - x.max(dim, keepdims=True, initial=-1e300)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


def np_softmax(x, dim=-1):
    return np.exp(np_log_softmax(x, dim))


def np_softmin(x, dim=-1):
    return np_softmax(-x, dim)


def record(name, reference, dim, shape, large):
    function = getattr(pydl, name)
    empty = draw(*(n if i == dim % len(shape) else 0 for i, n in enumerate(shape)))
    return OpRecord(
        f"{name}_{len(shape)}d_{dim}",
        lambda x: function(x, dim),
        lambda x: reference(x, dim),
        (draw(*shape),),
        rtol=5e-6,
        large=(draw(*large),),
        zero_size=(empty,) if len(shape) > 1 else None,
        errors=[
            (
                lambda: function(pydl.zeros(2, 3), 2),
                ArgumentError,
                rf"\[{'softmax' if name == 'softmin' else name}\] "
                r"dim=2 for a tensor of 2 axes; expected -2 to 1",
            ),
            (lambda: function(pydl.zeros(2, 3).long(), 1), DTypeError, r"int64.*\.to\(pydl\.float32\)"),
        ],
    )


RECORDS = [
    record(name, reference, dim, shape, large)
    for name, reference in (("softmax", np_softmax), ("log_softmax", np_log_softmax))
    for dim, shape, large in (
        (-1, (4, 7), (257, 333)),
        (0, (5, 3), (40, 3000)),
        (1, (2, 4, 5), (9, 35, 77)),
        (-1, (23,), (40_001,)),
    )
] + [record("softmin", np_softmin, 1, (3, 5), (300, 200))]
test_ops = run_records(RECORDS)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65])
def test_every_tail_length(n, isa):
    x = np.random.default_rng(n).uniform(-5, 5, (3, n, n)).astype(np.float32)
    g = np.random.default_rng(n + 1).uniform(-1, 1, x.shape).astype(np.float32)
    with instruction_set(isa):
        for dim in range(3):
            p = np_softmax(x.astype(np.float64), dim)
            for function, expected, gradient in [
                (pydl.softmax, p, p * (g - (g * p).sum(dim, keepdims=True))),
                (pydl.log_softmax, np.log(p), g - p * g.sum(dim, keepdims=True)),
            ]:
                t = pydl.tensor(x, requires_grad=True)
                y = function(t, dim)
                np.testing.assert_allclose(y.detach().numpy(), expected, rtol=2e-6, atol=2e-6)
                y.backward(pydl.tensor(g))
                np.testing.assert_allclose(t.grad.numpy(), gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_every_layout(isa):
    x = np.random.default_rng(0).uniform(-3, 3, (2, 3, 5, 4))
    with instruction_set(isa):
        for order, dim in itertools.product(itertools.permutations(range(4)), range(4)):
            view = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
            t = pydl.from_numpy(view)
            t.requires_grad = True
            y = pydl.softmax(t, dim)
            assert y.data.strides == view.strides  # the memory order is kept
            np.testing.assert_allclose(y.detach().numpy(), np_softmax(x, dim), rtol=1e-12)
            g = np.cos(np.arange(x.size)).reshape(x.shape)
            y.backward(pydl.tensor(g))
            p = np_softmax(x, dim)
            np.testing.assert_allclose(t.grad.numpy(), p * (g - (g * p).sum(dim, keepdims=True)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [0, 1])
def test_extreme_scores(dim, isa):
    rows = np.array([[1e4, 1e4 - 1, -1e4], [-1e30, 0.0, 1e30], [-inf, 0.0, 0.0], [-inf, -inf, 3.0]], np.float32)
    expected = np.array([[1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], [0, 0, 1], [0, 0.5, 0.5], [0, 0, 1]])
    x = pydl.tensor(rows if dim else rows.T.copy(), requires_grad=True)
    with instruction_set(isa):
        y = pydl.softmax(x, dim)
        np.testing.assert_allclose(y.detach().numpy(), expected if dim else expected.T, rtol=1e-6)
        logs = pydl.log_softmax(x, dim)
        with np.errstate(divide="ignore"):
            exact = np.log(expected)
        exact[0, 2], exact[1, :2] = -2e4 - np.log1p(np.exp(-1)), (-2e30, -1e30)
        np.testing.assert_allclose(logs.detach().numpy(), exact if dim else exact.T, rtol=1e-6)
        y.sum().backward()  # the sum of a softmax is constant
        np.testing.assert_allclose(x.grad.numpy(), 0, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_without_an_answer_are_nan(isa):
    rows = np.array([[nan, 1, 2], [0, nan, -inf], [inf, 1, 2], [-inf] * 3, [0, 1, 2]], np.float32)
    with instruction_set(isa):
        for function in (pydl.softmax, pydl.log_softmax):
            for dim, x in ((1, rows), (0, rows.T.copy()), (1, np.tile(rows, 20)[:, :51].copy())):
                bad = np.isnan(function(pydl.tensor(x), dim).numpy())
                bad = bad if dim else bad.T
                assert bad[:4].sum() >= bad[:4].size - (3 * 51 if function is pydl.log_softmax else 0)
                assert not bad[4].any()


def test_scalars_and_single_elements():
    for function, value in ((pydl.softmax, 1.0), (pydl.log_softmax, 0.0)):
        for dim in (0, -1):
            x = pydl.tensor(3.0, requires_grad=True)
            y = function(x, dim)
            assert y.shape == ()
            assert y.item() == value
            y.backward()
            assert x.grad.item() == 0
        assert function(pydl.zeros(2, 1), 1).tolist() == [[value], [value]]
        assert function(pydl.zeros(2, 0), 1).shape == (2, 0)


def test_dtype_converts_first():
    x = pydl.tensor([1, 2, 3])
    assert pydl.softmax(x, 0, dtype=pydl.float64).dtype == pydl.float64
    np.testing.assert_allclose(pydl.softmax(x, 0, dtype=pydl.float32).numpy(), np_softmax(np.array([1.0, 2, 3])), rtol=1e-6)


def test_a_second_derivative_is_refused_clearly():
    x = pydl.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match=r"\[softmax\].*create_graph"):
        pydl.autograd.grad(pydl.softmax(x, 0)[0], [x], create_graph=True)
