"""Sampling of images and CTC: gradients by differences, brute force over all alignments, and what is refused."""

import itertools

import numpy as np
import pytest

import pydl
from pydl.autograd import gradcheck
from pydl.errors import ArgumentError, ShapeError
from pydl.nn import functional as F

rng = np.random.default_rng(4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_gradients_of_sampling(padding):
    x = pydl.tensor(rng.standard_normal((1, 2, 3, 4)), requires_grad=True)
    grid = pydl.tensor(rng.uniform(-1.3, 1.3, (1, 2, 3, 2)), requires_grad=True)
    assert gradcheck(lambda a, b: F.grid_sample(a, b, padding_mode=padding), (x, grid))


def test_half_a_pixel_is_the_mean_of_two():
    x = pydl.arange(12, dtype=pydl.float32).reshape(1, 1, 3, 4)
    grid = pydl.tensor([[[[-0.5, -1 + 1 / 3], [5.0, 0.0]]]])
    assert F.grid_sample(x, grid).flatten().tolist() == [0.5, 0.0]
    assert F.grid_sample(x, grid, padding_mode="border").flatten().tolist() == [0.5, 7.0]


def spelled(path, blank):
    return [k for k, _ in itertools.groupby(path) if k != blank]


@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 1, 2], []])
def test_ctc_is_the_sum_over_all_alignments(target):
    scores = rng.standard_normal((4, 3))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    total = sum(np.prod(p[range(4), path]) for path in itertools.product(range(3), repeat=4) if spelled(path, 0) == target)

    def loss(x):
        return F.ctc_loss(F.log_softmax(x, 1), pydl.tensor(np.array(target, np.int64)), 4, len(target), reduction="sum")

    x = pydl.tensor(scores, requires_grad=True)
    assert loss(x).item() == pytest.approx(-np.log(total), rel=1e-10)
    assert gradcheck(loss, (x,))


def test_refused():
    x, lengths = pydl.zeros(5, 2, 4), ([5, 5], [1, 2])
    labels = pydl.tensor([[1, 2], [3, 1]])
    for call, kind, match in (
        (lambda: F.ctc_loss(x, labels, [5], [1, 2]), ShapeError, r"input_lengths \(1,\) .* expected \(2,\) each"),
        (lambda: F.ctc_loss(x, labels, [6, 5], [1, 2]), ArgumentError, "input_lengths from 5 to 6; expected 0 to 5"),
        (lambda: F.ctc_loss(x, labels, [5, 5], [1, 3]), ShapeError, r"targets of shape \(2, 2\) for target_lengths \[1, 3\]"),
        (lambda: F.ctc_loss(x, labels + 2, *lengths), ArgumentError, "targets from 3 to 5; expected 0 to 3"),
        (lambda: F.ctc_loss(x, labels, *lengths, blank=4), ArgumentError, "blank=4"),
        (lambda: F.grid_sample(pydl.zeros(1, 1, 2, 2), pydl.zeros(1, 2, 2, 3)), ShapeError, r"grid \(1, 2, 2, 3\); expected"),
        (lambda: F.grid_sample(pydl.zeros(1, 1, 2, 2), pydl.zeros(1, 2, 2, 2), "cubic"), ArgumentError, "mode='cubic'"),
        (lambda: F.affine_grid(pydl.zeros(2, 3), (1, 1, 2, 2)), ShapeError, r"theta of shape \(2, 3\)"),
    ):
        with pytest.raises(kind, match=match):
            call()
