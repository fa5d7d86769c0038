"""Tensors put together and taken apart: against NumPy, gradients by differences, and what is refused."""

import numpy as np
import pytest

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, ShapeError

rng = np.random.default_rng(2)


def real(*shape):
    return rng.standard_normal(shape)


CASES = {
    "rot90": (lambda x: pydl.rot90(x, 3), lambda x: np.rot90(x, 3), [real(3, 4)]),
    "column_stack": (lambda *x: pydl.column_stack(x), lambda *x: np.column_stack(x), [real(3), real(3, 2)]),
    "dstack": (lambda *x: pydl.dstack(x), lambda *x: np.dstack(x), [real(3, 2), real(3, 2)]),
    "vander": (pydl.vander, np.vander, [real(4)]),
    "tensor_split": (lambda x: pydl.tensor_split(x, 3), lambda x: np.array_split(x, 3), [real(7, 2)]),
    "take": (lambda x: pydl.take(x, pydl.tensor([5, -1, 5])), lambda x: np.take(x, [5, -1, 5]), [real(3, 4)]),
    "inner": (pydl.inner, np.inner, [real(2, 3), real(4, 3)]),
    "cross": (lambda a, b: pydl.cross(a, b, 1), np.cross, [real(2, 3), real(2, 3)]),
    "matrix_power": (lambda x: pydl.matrix_power(x, 5), lambda x: np.linalg.matrix_power(x, 5), [real(3, 3)]),
    "windows": (lambda x: x.unfold(1, 3, 2), lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2], [real(2, 8)]),
    "diag_embed": (pydl.diag_embed, lambda x: x[..., None] * np.eye(4), [real(3, 4)]),
    "addr": (pydl.addr, lambda m, a, b: m + np.outer(a, b), [real(3, 4), real(3), real(4)]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    function, reference, arrays = CASES[name]
    inputs = [pydl.tensor(a, requires_grad=True) for a in arrays]
    found, expected = function(*inputs), reference(*arrays)
    if not isinstance(found, tuple):
        found, expected = [found], [expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-12)
    assert gradcheck(function, tuple(inputs))


@pytest.mark.parametrize("how", ["sum", "mean", "amax", "amin"])
@pytest.mark.parametrize("own", [True, False])
def test_scatter_reduce(how, own):
    x, src, index = real(3, 4), real(5, 4), rng.integers(0, 3, (5, 4))
    expected = x.copy()
    for j in range(4):
        for i in range(3):
            arrived = list(src[index[:, j] == i, j])
            if arrived:
                everything = np.array(arrived + [x[i, j]] * own)
                expected[i, j] = {"sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min}[how](everything)
    inputs = pydl.tensor(x, requires_grad=True), pydl.tensor(src, requires_grad=True)

    def function(a, b):
        return pydl.scatter_reduce(a, 0, pydl.tensor(index), b, how, include_self=own)

    np.testing.assert_allclose(function(*inputs).detach().numpy(), expected, rtol=1e-12)
    assert gradcheck(function, inputs)


def test_refused():
    x = pydl.zeros(3, 4)
    for call, kind, match in (
        (lambda: pydl.scatter_reduce(x, 0, pydl.tensor([[0]]), x, "prod"), ArgumentError, "reduce='prod'; expected 'sum'"),
        (lambda: pydl.take(x, pydl.tensor([12])), ArgumentError, "expected -12 to 11"),
        (lambda: pydl.select(x, 1, 4), ArgumentError, r"index=4 for axis 1 of shape \(3, 4\); expected -4 to 3"),
        (lambda: pydl.hsplit(x, 3), ArgumentError, "cannot be cut into 3 equal parts; use tensor_split"),
        (lambda: pydl.vsplit(pydl.zeros(3), 3), ShapeError, "at least 2 axes"),
        (lambda: pydl.cross(x, x, 1), ShapeError, "axis of size 3"),
        (lambda: pydl.inner(x, pydl.zeros(3)), ShapeError, "last axes of one size"),
        (lambda: pydl.matrix_power(x, 2), ShapeError, "square matrices"),
        (lambda: x.unfold(1, 5, 1), ArgumentError, "size=5, step=1 along an axis of size 4"),
        (lambda: pydl.index_copy(x, 0, pydl.tensor([1, 1]), pydl.zeros(2, 4)), ArgumentError, "names a slice twice"),
        (lambda: pydl.index_fill(x, 0, pydl.tensor([3]), 1.0), ArgumentError, "numbers from -3 to 2"),
        (lambda: pydl.rot90(x, 1, (0, 0)), ArgumentError, "names an axis twice"),
        (lambda: pydl.fliplr(pydl.zeros(3)), ShapeError, "at least 2 axes"),
    ):
        with pytest.raises(kind, match=match):
            call()
