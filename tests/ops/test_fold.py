"""Unfold and fold: every check of tests/ops/records.py; the references cut the windows out one by one."""

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl.errors import ArgumentError, ShapeError


def pair(v):
    return (v, v) if isinstance(v, int) else v


def unfold(x, kernel, dilation=1, padding=0, stride=1):
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = map(pair, (kernel, dilation, padding, stride))
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    columns = []
    for top in range(0, x.shape[2] - dh * (kh - 1), sh):
        for left in range(0, x.shape[3] - dw * (kw - 1), sw):
            window = x[:, :, top : top + dh * (kh - 1) + 1 : dh, left : left + dw * (kw - 1) + 1 : dw]
            columns.append(window.reshape(x.shape[0], x.shape[1] * kh * kw))
    return np.stack(columns, -1)


def fold(columns, size, kernel, dilation=1, padding=0, stride=1):
    (kh, kw), (dh, dw), (ph, pw), (sh, sw), (h, w) = map(pair, (kernel, dilation, padding, stride, size))
    n, rows, _ = columns.shape
    out = np.zeros((n, rows // (kh * kw), h + 2 * ph, w + 2 * pw))
    i = 0
    for top in range(0, h + 2 * ph - dh * (kh - 1), sh):
        for left in range(0, w + 2 * pw - dw * (kw - 1), sw):
            part = columns[:, :, i].reshape(n, -1, kh, kw)
            out[:, :, top : top + dh * (kh - 1) + 1 : dh, left : left + dw * (kw - 1) + 1 : dw] += part
            i += 1
    return out[:, :, ph : ph + h, pw : pw + w]


UNFOLDS = [((3, 2), 1, 0, 1), (2, (2, 1), (1, 2), (2, 3)), (1, 1, 0, 1), ((3, 3), 1, 1, 2)]
FOLDS = [((5, 6), (3, 2), 1, 0, 1, 15), ((5, 4), 2, 1, 1, 2, 9), ((7, 7), 3, 2, 0, 1, 9)]

RECORDS = [
    *[OpRecord(f"unfold{i}", lambda x, a=a: pydl.unfold(x, *a), lambda x, a=a: unfold(x, *a), (draw(1, 2, 4, 3),),
               double_backward=i == 1, large=(draw(4, 8, 40, 41),)) for i, a in enumerate(UNFOLDS)],
    *[OpRecord(f"fold{i}", lambda x, a=a: pydl.fold(x, *a[:-1]), lambda x, a=a: fold(x, *a[:-1]),
               (draw(2, 2 * int(np.prod(pair(a[1]))), a[-1]),), double_backward=i == 1) for i, a in enumerate(FOLDS)],
    OpRecord("unfold_empty", lambda x: pydl.unfold(x, 2), lambda x: unfold(x, 2), (draw(1, 1, 3, 4),),
             zero_size=(draw(0, 3, 4, 4),),
             errors=[
                 (lambda: pydl.unfold(pydl.zeros(1, 1, 3, 3), 4), ShapeError, r"\[unfold\].*\(1, 1, 3, 3\).*\(4, 4\)"),
                 (lambda: pydl.unfold(pydl.zeros(3, 3), 2), ShapeError, r"\[unfold\] input must be \(N, C, H, W\)"),
                 (lambda: pydl.unfold(pydl.zeros(1, 1, 3, 3), 2, stride=0), ArgumentError, r"\[unfold\] stride=0"),
                 (lambda: pydl.fold(pydl.zeros(1, 5, 4), 3, 2), ShapeError, r"\[fold\].*no multiple of the window's 2 x 2"),
                 (lambda: pydl.fold(pydl.zeros(1, 4, 5), 3, 2), ShapeError, r"\[fold\].*\(1, 4, 5\), expected \(1, 4, 4\)"),
             ]),
]  # fmt: skip
test_ops = run_records(RECORDS)


def test_without_the_batch_axis():
    x = pydl.tensor(np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32))
    columns = pydl.unfold(x, 3, padding=1)
    np.testing.assert_array_equal(columns.numpy(), pydl.unfold(x.unsqueeze(0), 3, padding=1).numpy()[0])
    assert pydl.fold(columns, (5, 6), 3, padding=1).shape == (3, 5, 6)


def test_unfold_and_a_product_are_a_convolution():
    rng = np.random.default_rng(0)
    x = pydl.tensor(rng.integers(-4, 5, (2, 3, 8, 9)).astype(np.float32))
    w = pydl.tensor(rng.integers(-4, 5, (5, 3, 3, 2)).astype(np.float32))
    y = pydl.matmul(w.reshape(5, -1), pydl.unfold(x, (3, 2), stride=2)).reshape(2, 5, 3, 4)
    np.testing.assert_array_equal(y.numpy(), pydl.conv2d(x, w, stride=2).numpy())


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_fold_counts_the_overlaps(layout):
    x = pydl.ones(1, 2, 6, 6).contiguous(layout)
    counts = pydl.fold(pydl.unfold(x, 3), 6, 3).numpy()
    along = np.minimum.reduce([np.arange(1, 7), np.arange(6, 0, -1), np.full(6, 3)])
    np.testing.assert_array_equal(counts[0, 1], np.outer(along, along))
